use serde_json::json;

use crate::support::{Bank, good, problem};

#[tokio::test]
async fn an_entity_is_shown_now_and_as_it_was() {
    let bank = Bank::open().await;
    for amount in [5, 6, 7] {
        good(&bank.deposit("a", amount).await);
    }
    let now = good(&bank.get("/operate/entity/account/a").await);
    assert_eq!(now["version"], 2);
    assert_eq!(now["state"], json!({"balance": 18}));
    let then = good(&bank.get("/operate/entity/account/a?at=1").await);
    assert_eq!(then["state"], json!({"balance": 11}));
    let reply = bank.get("/operate/entity/account/a?at=9").await;
    problem(&reply, 404, "not-found");
    problem(
        &bank.get("/operate/entity/account/b").await,
        404,
        "not-found",
    );
}

#[tokio::test]
async fn the_history_comes_page_by_page() {
    let bank = Bank::open().await;
    for amount in [5, 6, 7] {
        good(&bank.deposit("a", amount).await);
    }
    let first = good(&bank.get("/operate/history/account/a?limit=2").await);
    assert_eq!(first["events"][1]["data"], json!({"amount": 6}));
    assert_eq!(first["events"][1]["type"], "Deposited");
    assert_eq!(first["next"], 2);
    let rest = good(&bank.get("/operate/history/account/a?from=2").await);
    assert_eq!(rest["events"].as_array().unwrap().len(), 1);
    assert!(rest["next"].is_null());
    let none = good(&bank.get("/operate/history/account/z").await);
    assert_eq!(none["events"], json!([]));
}

#[tokio::test]
async fn a_parked_entity_is_listed_and_unparked() {
    let bank = Bank::open().await;
    for _ in 0..2 {
        bank.deposit("a", 13).await;
    }
    let parked = good(&bank.get("/operate/parked").await);
    assert_eq!(parked[0]["stream"], "account/a");
    assert!(parked[0]["reason"].as_str().unwrap().contains("thirteen"));
    good(&bank.post("/operate/unpark/account/a", "").await);
    assert_eq!(good(&bank.get("/operate/parked").await), json!([]));
    let again = bank.post("/operate/unpark/account/a", "").await;
    problem(&again, 409, "not-now");
}

#[tokio::test]
async fn a_view_that_has_stopped_says_where_and_goes_on_when_told() {
    let bank = Bank::open().await;
    good(&bank.deposit("a", 666).await);
    good(&bank.deposit("a", 5).await);
    let stopped = |status: &serde_json::Value| status["view"]["serving"]["state"] == "stopped";
    let status = bank.until("/operate/views/balances", stopped).await;
    let event = &status["view"]["serving"]["event"];
    assert_eq!(event["stream"], "account/a");
    assert_eq!(event["position"], "0:0");
    assert!(event["reason"].as_str().unwrap().contains("the beast"));
    good(&bank.post("/operate/views/balances/skip", "").await);
    let of_a = "/views/balances/of?account=account%2Fa&policy=stale";
    bank.until(of_a, |answer| answer["value"] == 5).await;
    let nothing = bank.post("/operate/views/balances/skip", "").await;
    problem(&nothing, 409, "not-now");
}

#[tokio::test]
async fn a_view_is_rebuilt_beside_and_the_swap_is_taken_back() {
    let bank = Bank::open().await;
    good(&bank.deposit("a", 5).await);
    let of_a = "/views/balances/of?account=account%2Fa&policy=stale";
    bank.until(of_a, |answer| answer["value"] == 5).await;
    let begun = good(&bank.post("/operate/views/balances/rebuild", "").await);
    assert_eq!(begun["copy"]["generation"], 2);
    let serves = |generation: u64| {
        move |all: &serde_json::Value| all[0]["view"]["serving"]["id"]["generation"] == generation
    };
    bank.until("/operate/views", serves(2)).await;
    good(&bank.post("/operate/views/balances/back-out", "").await);
    bank.until("/operate/views", serves(1)).await;
    let reply = bank.post("/operate/views/balances/paint", "").await;
    problem(&reply, 404, "no-such-path");
}

#[tokio::test]
async fn a_dead_letter_is_shown_edited_and_retried_or_given_up() {
    let bank = Bank::open().await;
    for key in ["a", "b"] {
        good(
            &bank
                .post(&format!("/commands/account/{key}?type=Close"), "")
                .await,
        );
    }
    let two = |all: &serde_json::Value| all.as_array().is_some_and(|all| all.len() == 2);
    let letters = bank.until("/operate/dead-letters", two).await;
    let of = |at: usize| {
        let id = letters[at]["letter"]["id"].as_str().unwrap();
        format!("/operate/dead-letters/{id}")
    };
    let shown = good(&bank.get(&of(0)).await);
    assert_eq!(shown["letter"]["what"]["command"]["to"], "account/archive");
    assert_eq!(shown["service"], "bank");
    let instance = good(&bank.get("/operate/instance/archiver/a").await);
    assert_eq!(instance["letters"].as_array().unwrap().len(), 1);
    let edited = r#"{"data":{"amounts":[1,2]}}"#;
    good(&bank.post(&format!("{}/retry", of(0)), edited).await);
    let discard = format!("{}/discard", of(1));
    problem(&bank.post(&discard, "").await, 400, "bad-body");
    good(&bank.post(&discard, r#"{"why":"not wanted"}"#).await);
    bank.until("/operate/dead-letters", |all| *all == json!([]))
        .await;
    let archive = |entity: &serde_json::Value| entity["state"] == json!({"balance": 3});
    bank.until("/operate/entity/account/archive", archive).await;
    problem(&bank.get(&of(0)).await, 404, "not-found");
}

#[tokio::test]
async fn processes_and_their_instances_are_shown() {
    let bank = Bank::open().await;
    good(&bank.post("/commands/account/a?type=Close", "").await);
    let one = |process: &serde_json::Value| process["open"] == 1;
    let process = bank.until("/operate/processes/archiver", one).await;
    assert_eq!(process["service"], "bank");
    assert_eq!(process["instances"][0]["stream"], "archiver/a");
    assert_eq!(process["instances"][0]["phase"], "running");
    let shown = good(&bank.get("/operate/instance/archiver/a").await);
    assert_eq!(shown["length"], 1);
    let all = good(&bank.get("/operate/processes").await);
    assert_eq!(all[0]["name"], "archiver");
    assert_eq!(all[1]["name"], "lending");
    problem(
        &bank.get("/operate/instance/archiver/z").await,
        404,
        "not-found",
    );
    let reply = bank.post("/operate/retry/archiver/a", "").await;
    problem(&reply, 409, "not-now");
    let reply = bank.post("/operate/processes/archiver/skip", "").await;
    problem(&reply, 409, "not-now");
    // An entity is no process.
    problem(
        &bank.get("/operate/processes/account").await,
        404,
        "not-found",
    );
}

#[tokio::test]
async fn a_saga_is_aborted_with_a_reason() {
    let bank = Bank::open().await;
    bank.post("/commands/transfer/1?type=StartSaga", r#"{"input":5}"#)
        .await;
    let abort = "/operate/abort/transfer/1";
    problem(&bank.post(abort, "").await, 400, "bad-body");
    good(&bank.post(abort, r#"{"why":"by mistake"}"#).await);
    let back = |saga: &serde_json::Value| saga["state"]["aborted"] == "by mistake";
    bank.until("/operate/instance/transfer/1", back).await;
    // A process has no way back.
    let reply = bank
        .post("/operate/abort/archiver/a", r#"{"why":"x"}"#)
        .await;
    problem(&reply, 400, "malformed");
}

#[tokio::test]
async fn a_step_that_waits_for_a_person_is_settled_and_its_saga_goes_on() {
    let bank = Bank::open().await;
    bank.post("/commands/upkeep/1?type=StartSaga", r#"{"input":5}"#)
        .await;
    let parked = |saga: &serde_json::Value| saga["needs_person"] == true;
    let saga = bank.until("/operate/instance/upkeep/1", parked).await;
    let fee = &saga["state"]["steps"][0];
    assert_eq!(fee["asked"], "Withdraw to account/till");
    assert_eq!(fee["going_on"], false);
    assert_eq!(fee["again_at"], serde_json::Value::Null);
    let one = good(&bank.get("/operate/processes/upkeep").await);
    assert_eq!(
        (&one["need_a_person"], &one["retrying"]),
        (&json!(1), &json!(0))
    );
    let settle = "/operate/settle/upkeep/1";
    problem(&bank.post(settle, "").await, 400, "bad-body");
    let by = r#""by":{"who":"ada","why":"in cash"}"#;
    // A retriable step may not be refused, by a person neither.
    let refused =
        format!(r#"{{"step":"fee","as":{{"Refused":{{"code":"no","message":"no"}}}},{by}}}"#);
    problem(&bank.post(settle, &refused).await, 422, "rejected");
    let done = format!(r#"{{"step":"fee","as":{{"Done":null}},{by}}}"#);
    good(&bank.post(settle, &done).await);
    let completed = |saga: &serde_json::Value| saga["phase"] == "completed";
    bank.until("/operate/instance/upkeep/1", completed).await;
}

#[tokio::test]
async fn a_step_without_an_answer_is_retried_by_itself_and_needs_no_person() {
    let bank = Bank::open().await;
    bank.post("/commands/transfer/1?type=StartSaga", r#"{"input":5}"#)
        .await;
    let retrying = |saga: &serde_json::Value| saga["retrying"] == true;
    let saga = bank.until("/operate/instance/transfer/1", retrying).await;
    assert_eq!(saga["needs_person"], false);
    let take = &saga["state"]["steps"][0];
    assert_eq!(take["asked"], "Withdraw to nowhere/x");
    assert_eq!(take["going_on"], true);
    assert!(take["attempts"].as_u64().unwrap() >= 2, "{take}");
    assert!(take["again_at"].as_str().unwrap().ends_with('Z'), "{take}");
    let one = good(&bank.get("/operate/processes/transfer").await);
    assert_eq!(
        (&one["need_a_person"], &one["retrying"]),
        (&json!(0), &json!(1))
    );
}

#[tokio::test]
async fn what_is_no_process_is_named_with_those_there_are() {
    let bank = Bank::open().await;
    for name in ["account", "nothing"] {
        let reply = bank.get(&format!("/operate/processes/{name}")).await;
        problem(&reply, 404, "not-found");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.ends_with("known: archiver, lending, transfer, upkeep"),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn the_services_say_what_they_own() {
    let bank = Bank::open().await;
    let all = good(&bank.get("/operate/services").await);
    assert_eq!(all[0]["name"], "bank");
    assert_eq!(all[0]["entities"][0]["category"], "account");
    assert_eq!(all[0]["views"], json!(["balances"]));
    assert_eq!(
        all[0]["processes"],
        json!(["archiver", "lending", "transfer", "upkeep"])
    );
    assert_eq!(good(&bank.get("/operate/circuits").await), json!([]));
    let types = good(&bank.get("/operate/types").await);
    assert_eq!(types[0]["entities"][0]["category"], "account");
    assert_eq!(types[0]["readers"][0]["name"], "balances");
    for _ in 0..2 {
        bank.deposit("a", 13).await;
    }
    let of_nobody = bank.get("/operate/diagnostics?service=nobody").await;
    problem(&of_nobody, 404, "not-found");
    let diagnostics = good(&bank.get("/operate/diagnostics?service=bank").await);
    let texts = diagnostics.as_array().unwrap().iter();
    assert!(
        texts
            .into_iter()
            .any(|note| note["text"].as_str().unwrap().contains("thirteen")),
        "{diagnostics}"
    );
}
