use anabranch_log::{Log, Order, VersionRange};
use anabranch_runtime::EntityOptions;
use anabranch_server::TOKEN_HEADER;
use anabranch_server::client::Method;
use serde_json::json;

use crate::support::{Bank, Timeless, good, id, problem, seal};

const DEPOSIT: &str = "/commands/account/a?type=Deposit";

#[tokio::test]
async fn a_command_answers_with_its_events_version_and_token() {
    let bank = Bank::open().await;
    let reply = bank.post(DEPOSIT, r#"{"amount":5}"#).await;
    let done = good(&reply);
    assert_eq!(done["stream"], "account/a");
    assert_eq!(done["version"], 0);
    assert_eq!(done["repeated"], false);
    assert_eq!(done["events"][0]["type"], "Deposited");
    assert_eq!(done["events"][0]["data"], json!({"amount": 5}));
    assert_eq!(done["events"][0]["position"], "0:0");
    assert_eq!(reply.header("etag"), Some("\"0\""));
    assert!(reply.header("anabranch-token").is_some());
}

#[tokio::test]
async fn type_and_data_may_both_stand_in_the_body() {
    let bank = Bank::open().await;
    let body = r#"{"type":"Deposit","data":{"amount":5}}"#;
    good(&bank.post("/commands/account/a", body).await);
    // A command without fields needs no data.
    good(
        &bank
            .post("/commands/account/a", r#"{"type":"Close"}"#)
            .await,
    );
    good(&bank.post("/commands/account/a?type=Close", "").await);
}

#[tokio::test]
async fn a_key_may_hold_any_character() {
    let bank = Bank::open().await;
    let done = good(&bank.deposit("a/b c?é", 5).await);
    assert_eq!(done["stream"], "account/a/b c?é");
}

#[tokio::test]
async fn the_same_idempotency_key_does_it_once() {
    let bank = Bank::open().await;
    for key in ["till 4, receipt 17", &id(77)] {
        let headers = [("idempotency-key", key)];
        let first = good(&bank.send(DEPOSIT, &headers, r#"{"amount":5}"#).await);
        let again = good(&bank.send(DEPOSIT, &headers, r#"{"amount":5}"#).await);
        assert_eq!(again["repeated"], true);
        assert_eq!(again["events"], first["events"]);
        assert_eq!(again["command"], first["command"]);
    }
    // A UUID is taken as it is.
    let headers = [("idempotency-key", &*id(78))];
    let done = good(&bank.send(DEPOSIT, &headers, r#"{"amount":5}"#).await);
    assert_eq!(done["command"], id(78));
}

#[tokio::test]
async fn an_idempotency_key_names_one_command_for_ever() {
    let bank = Bank::open().await;
    let headers = [("idempotency-key", "k")];
    good(&bank.send(DEPOSIT, &headers, r#"{"amount":5}"#).await);
    let other = "/commands/account/b?type=Deposit";
    let refused = bank.send(other, &headers, r#"{"amount":5}"#).await;
    let told = problem(&refused, 409, "id-taken");
    assert_eq!(told["happened"], "no");
}

#[tokio::test]
async fn if_match_is_the_version_that_the_entity_is_at() {
    let bank = Bank::open().await;
    let amount = r#"{"amount":5}"#;
    good(&bank.send(DEPOSIT, &[("if-none-match", "*")], amount).await);
    let reply = bank.send(DEPOSIT, &[("if-none-match", "*")], amount).await;
    assert_eq!(problem(&reply, 412, "version-mismatch")["actual"], 0);
    good(&bank.send(DEPOSIT, &[("if-match", "\"0\"")], amount).await);
    let reply = bank.send(DEPOSIT, &[("if-match", "\"0\"")], amount).await;
    assert_eq!(problem(&reply, 412, "version-mismatch")["actual"], 1);
    good(&bank.send(DEPOSIT, &[("if-match", "*")], amount).await);
    let reply = bank.send(DEPOSIT, &[("if-match", "soon")], amount).await;
    problem(&reply, 400, "bad-condition");
}

#[tokio::test]
async fn a_rejection_has_the_entitys_own_code() {
    let bank = Bank::open().await;
    let reply = bank
        .post("/commands/account/a?type=Withdraw", r#"{"amount":5}"#)
        .await;
    let told = problem(&reply, 422, "rejected");
    assert_eq!(told["detail"], "only 0 left");
    assert_eq!(told["rejection"]["code"], "out-of-funds");
    assert_eq!(told["happened"], "no");
}

#[tokio::test]
async fn bad_json_is_refused_with_its_place() {
    let bank = Bank::open().await;
    let told = problem(&bank.post(DEPOSIT, r#"{"amount":}"#).await, 400, "bad-json");
    assert!(
        told["detail"].as_str().unwrap().contains("column 11"),
        "{told}"
    );
    let reply = bank.post(DEPOSIT, r#"{"amount":"many"}"#).await;
    problem(&reply, 400, "malformed");
    let deep = "[".repeat(100_000);
    problem(&bank.post(DEPOSIT, &deep).await, 400, "bad-json");
    let reply = bank.post("/commands/account/a", r#"{"kind":"x"}"#).await;
    problem(&reply, 400, "bad-command");
    problem(
        &bank.post("/commands/account/a", "").await,
        400,
        "bad-command",
    );
}

#[tokio::test]
async fn an_unknown_type_or_category_names_those_that_are_known() {
    let bank = Bank::open().await;
    let reply = bank.post("/commands/account/a?type=Rob", "{}").await;
    let told = problem(&reply, 400, "unknown-command");
    assert!(
        told["detail"].as_str().unwrap().contains("Withdraw"),
        "{told}"
    );
    let reply = bank.post("/commands/acount/a?type=Deposit", "{}").await;
    let told = problem(&reply, 404, "unknown-category");
    assert!(
        told["detail"].as_str().unwrap().contains("account"),
        "{told}"
    );
    problem(
        &bank.post("/commands/$x/a?type=T", "{}").await,
        400,
        "bad-name",
    );
}

#[tokio::test]
async fn a_parameter_that_does_nothing_is_refused() {
    let bank = Bank::open().await;
    let path = format!("{DEPOSIT}&idempotency_key=5");
    let reply = bank.post(&path, r#"{"amount":5}"#).await;
    problem(&reply, 400, "bad-parameters");
}

#[tokio::test]
async fn an_oversized_command_is_refused_before_it_is_read() {
    let bank = Bank::open().await;
    let large = format!(r#"{{"amount":5,"note":"{}"}}"#, "x".repeat(2 << 20));
    let told = problem(&bank.post(DEPOSIT, &large).await, 413, "too-large");
    assert_eq!(told["happened"], "no");
}

#[tokio::test]
async fn a_service_that_is_away_is_unavailable_and_not_unknown() {
    let bank = Bank::open().await;
    good(&bank.deposit("a", 5).await);
    assert!(bank.fleet.kill("bank"));
    let reply = bank.deposit("a", 5).await;
    let told = problem(&reply, 503, "unavailable");
    assert_eq!(told["happened"], "no");
    assert!(reply.header("retry-after").is_some());
    bank.start_service(EntityOptions::default()).await;
    assert_eq!(good(&bank.deposit("a", 5).await)["version"], 1);
}

#[tokio::test]
async fn a_full_mailbox_says_when_to_come_back() {
    let options = EntityOptions {
        shards: 1,
        mailbox_max: 1,
        waiting_max: 1,
        ..EntityOptions::default()
    };
    let bank = Bank::open_with(options, |server| server).await;
    let many = (0..64).map(|_| bank.deposit("a", 1));
    let replies = futures_util::future::join_all(many).await;
    let busy = replies.iter().find(|reply| reply.status.as_u16() == 429);
    let busy = busy.expect("64 commands at once do not fit");
    let told = problem(busy, 429, "overloaded");
    assert_eq!(busy.header("retry-after"), Some("1"));
    assert!(told["retry_after_ms"].is_u64());
    assert_eq!(told["happened"], "no");
}

#[tokio::test]
async fn a_command_to_a_parked_entity_says_why_it_is_parked() {
    let bank = Bank::open().await;
    let reply = bank.deposit("a", 13).await;
    problem(&reply, 500, "panicked");
    let reply = bank.deposit("a", 13).await;
    let told = problem(&reply, 503, "parked");
    assert!(
        told["detail"].as_str().unwrap().contains("thirteen"),
        "{told}"
    );
    assert_eq!(told["happened"], "no");
}

#[tokio::test]
async fn a_saga_takes_commands_and_does_them_later() {
    let bank = Bank::open().await;
    let reply = bank
        .post("/commands/transfer/1?type=StartSaga", r#"{"input":5}"#)
        .await;
    assert_eq!(reply.status.as_u16(), 202, "{}", reply.json());
    assert_eq!(reply.json()["taken"], true);
}

#[tokio::test]
async fn what_a_saga_has_begun_with_is_not_replaced_by_what_comes_with_its_key_or_id() {
    let bank = Bank::open().await;
    let start = async |saga: &str, key: &str, input: u32| {
        let path = format!("/commands/{saga}?type=StartSaga");
        let body = format!(r#"{{ "input": {input} }}"#);
        bank.send(&path, &[("idempotency-key", key)], &body).await
    };
    assert_eq!(start("transfer/1", "a", 5).await.status.as_u16(), 202);
    // The same once more, under this id or another one, changes nothing.
    assert_eq!(start("transfer/1", "a", 5).await.status.as_u16(), 202);
    assert_eq!(start("transfer/1", "b", 5).await.status.as_u16(), 202);
    let reply = start("transfer/1", "a", 6).await;
    assert_eq!(problem(&reply, 409, "id-taken")["happened"], "no");
    let reply = start("transfer/1", "c", 6).await;
    let told = problem(&reply, 422, "rejected");
    assert_eq!(told["rejection"]["code"], "saga-started", "{told}");
    // An id names one command, to whatever it goes.
    problem(&start("transfer/2", "a", 5).await, 409, "id-taken");
    let body = r#"{"amount":5}"#;
    let headers = [("idempotency-key", "a")];
    let reply = bank.send(DEPOSIT, &headers, body).await;
    problem(&reply, 409, "id-taken");
    let headers = [("idempotency-key", "d")];
    good(&bank.send(DEPOSIT, &headers, body).await);
    problem(&start("transfer/3", "d", 5).await, 409, "id-taken");
    // Nothing has begun that was refused.
    let all = good(&bank.get("/operate/processes/transfer").await);
    assert_eq!(all["instances"].as_array().unwrap().len(), 1, "{all}");
}

#[tokio::test]
async fn a_token_that_is_not_ours_is_refused() {
    let bank = Bank::open().await;
    for token in ["rubbish", &*seal(8).seal(&anabranch_model::Session::new())] {
        let headers = [("anabranch-token", token)];
        let reply = bank.send(DEPOSIT, &headers, r#"{"amount":5}"#).await;
        assert_eq!(problem(&reply, 400, "bad-token")["happened"], "no");
    }
    let mut session = anabranch_model::Session::new();
    session.wrote(&anabranch_model::Cut::at(1000));
    let token = seal(7).seal(&session);
    let headers = [("anabranch-token", &*token)];
    let reply = bank.send(DEPOSIT, &headers, r#"{"amount":5}"#).await;
    problem(&reply, 400, "token-beyond-head");
}

#[tokio::test]
async fn the_events_of_a_command_have_its_id_as_their_story_and_the_trace_of_the_request() {
    let bank = Bank::open().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let path = "/commands/account/a?type=Deposit";
    let body = r#"{"amount":5}"#;
    let sent = good(&bank.send(path, &[("traceparent", trace)], body).await);
    // What is no trace is passed over.
    for wrong in [
        "00-0-0-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    ] {
        good(&bank.send(path, &[("traceparent", wrong)], body).await);
    }
    let stream = "account/a".parse().unwrap();
    let mut events = bank
        .log
        .read_stream(&stream, VersionRange::ALL, Order::Forward);
    let first = events.next().await.unwrap().unwrap();
    let meta = first.meta().decode().unwrap();
    assert_eq!(meta.traceparent.as_deref(), Some(trace));
    assert_eq!(meta.correlation_id.as_deref(), sent["command"].as_str());
    while let Some(event) = events.next().await {
        let meta = event.unwrap().meta().decode().unwrap();
        assert_eq!(meta.traceparent, None);
    }
}

const WAITS: [(&str, &str); 1] = [("prefer", "wait=30")];

#[tokio::test]
async fn a_client_that_waits_for_a_saga_is_answered_when_it_has_completed() {
    let bank = Bank::open().await;
    good(&bank.deposit("till", 5).await);
    let start = "/commands/lending/1?type=StartSaga";
    let reply = bank.send(start, &WAITS, r#"{"input":5}"#).await;
    let told = good(&reply);
    assert_eq!(told["taken"], true);
    assert_eq!(told["ended"], json!({"outcome": "completed"}));
    assert_eq!(reply.header("preference-applied"), Some("wait=30"));
    // Its token shows what the saga has done.
    let seen = [(TOKEN_HEADER, reply.header(TOKEN_HEADER).unwrap())];
    let path = "/views/balances/of?account=account/till";
    assert_eq!(good(&bank.get_with(path, &seen).await)["value"], 0);
}

#[tokio::test]
async fn a_client_that_waits_is_told_why_a_saga_was_compensated() {
    let bank = Bank::open().await;
    // Nobody has what it asks for, so it would go on for long.
    let start = bank.send(
        "/commands/transfer/1?type=StartSaga",
        &WAITS,
        r#"{"input":5}"#,
    );
    let aborted = async {
        let runs = |saga: &serde_json::Value| saga["phase"] == "running";
        bank.until("/operate/instance/transfer/1", runs).await;
        let why = r#"{"why":"by mistake"}"#;
        good(&bank.post("/operate/abort/transfer/1", why).await);
        let parked = |saga: &serde_json::Value| saga["retrying"] == true;
        bank.until("/operate/instance/transfer/1", parked).await;
        let settle = "/operate/settle/transfer/1";
        let undone = r#"{"step":"take","as":"Undone","by":{"who":"ada","why":"nothing is there"}}"#;
        good(&bank.post(settle, undone).await);
    };
    let (reply, ()) = futures_util::future::join(start, aborted).await;
    let told = good(&reply);
    assert_eq!(
        told["ended"],
        json!({"outcome": "compensated", "reason": "by mistake"})
    );
}

#[tokio::test]
async fn a_client_that_has_waited_long_enough_is_told_that_a_saga_goes_on() {
    let bank = Bank::open().await;
    let start = "/commands/transfer/1?type=StartSaga";
    let waits = [("prefer", "wait=1")];
    let reply = bank.send(start, &waits, r#"{"input":5}"#).await;
    assert_eq!(reply.status.as_u16(), 202, "{}", reply.json());
    assert_eq!(reply.json()["ended"], serde_json::Value::Null);
    assert_eq!(reply.header("preference-applied"), Some("wait=1"));
}

#[tokio::test]
async fn a_server_that_stops_does_not_keep_a_client_waiting() {
    let bank = Bank::open().await;
    let server = Timeless::open(&bank).await;
    let client = server.client.clone();
    let waiting = tokio::spawn(async move {
        let path = "/commands/transfer/1?type=StartSaga";
        let body = r#"{"input":5}"#.into();
        client.send(Method::Post, path, &WAITS, body).await.unwrap()
    });
    let runs = |saga: &serde_json::Value| saga["phase"] == "running";
    bank.until("/operate/instance/transfer/1", runs).await;
    server.stop().await;
    assert_eq!(waiting.await.unwrap().status.as_u16(), 202);
}

#[tokio::test]
async fn what_an_entity_does_is_done_when_it_answers_whoever_waits() {
    let bank = Bank::open().await;
    let reply = bank.send(DEPOSIT, &WAITS, r#"{"amount":5}"#).await;
    assert_eq!(good(&reply)["version"], 0);
    assert_eq!(reply.header("preference-applied"), None);
}
