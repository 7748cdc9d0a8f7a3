use std::sync::Arc;
use std::sync::atomic::Ordering;

use anabranch_log::Log;
use anabranch_model::{Cut, Session};
use anabranch_server::client::path;

use crate::support::{Bank, good, problem, seal};

const OF_A: &str = "/views/balances/of?account=account%2Fa";

#[tokio::test]
async fn a_client_with_its_token_reads_what_it_has_written() {
    let bank = Bank::open().await;
    for round in 1..=20 {
        let written = bank.deposit("a", 5).await;
        let token = written.header("anabranch-token").unwrap();
        let reply = bank.get_with(OF_A, &[("anabranch-token", token)]).await;
        let answer = good(&reply);
        assert_eq!(answer["value"], 5 * round);
        assert_eq!(answer["stale"], false);
    }
}

#[tokio::test]
async fn the_log_is_not_asked_how_far_it_goes_for_a_token_of_what_was_seen_here() {
    let bank = Bank::open().await;
    let written = bank.deposit("a", 5).await;
    let token = [(
        "anabranch-token",
        written.header("anabranch-token").unwrap(),
    )];
    let log: Arc<dyn Log> = bank.log.clone();
    while !bank.fleet.has_seen(&log, &Cut::at(1)) {
        tokio::task::yield_now().await;
    }
    good(&bank.get_with(OF_A, &token).await);
    bank.log.is_silent.store(true, Ordering::Relaxed);
    good(&bank.get_with(OF_A, &token).await);
    let beyond = seal(7).seal(&{
        let mut session = Session::new();
        session.wrote(&Cut::at(9));
        session
    });
    let reply = bank.get_with(OF_A, &[("anabranch-token", &beyond)]).await;
    problem(&reply, 503, "unavailable");
}

#[tokio::test]
async fn what_was_read_moves_the_token_also_when_there_was_nothing() {
    let bank = Bank::open().await;
    let written = bank.deposit("b", 5).await;
    let token = written.header("anabranch-token").unwrap();
    let reply = bank.get_with(OF_A, &[("anabranch-token", token)]).await;
    assert!(good(&reply)["value"].is_null());
    let session = seal(7).open(reply.header("anabranch-token").unwrap());
    assert_eq!(*session.unwrap().seen(), Cut::at(1));
}

#[tokio::test]
async fn fields_come_from_the_address_or_as_json() {
    let bank = Bank::open().await;
    let written = bank.deposit("17", 5).await;
    let token = [(
        "anabranch-token",
        written.header("anabranch-token").unwrap(),
    )];
    let get = async |fields: &[(&str, &str)], query| {
        let path = path(&["views", "balances", query], fields);
        good(&bank.get_with(&path, &token).await)["value"].clone()
    };
    // A number where a number is wanted, and a text where that is.
    assert_eq!(get(&[("least", "5")], "above").await, 1);
    assert_eq!(get(&[("account", "account/17")], "of").await, 5);
    assert_eq!(get(&[("q", r#"{"least":6}"#)], "above").await, 0);
}

#[tokio::test]
async fn a_question_that_does_not_fit_is_refused() {
    let bank = Bank::open().await;
    let at = |rest: &str| format!("/views/{rest}");
    let reply = bank.get(&at("balances/above?least=many")).await;
    problem(&reply, 400, "malformed");
    problem(&bank.get(&at("balances/above")).await, 400, "malformed");
    problem(
        &bank.get(&at("balances/above?q=%7B")).await,
        400,
        "bad-json",
    );
    let told = problem(&bank.get(&at("balances/below")).await, 404, "unknown-query");
    assert!(told["detail"].as_str().unwrap().contains("above"), "{told}");
    let told = problem(&bank.get(&at("balance/of")).await, 404, "unknown-view");
    assert!(
        told["detail"].as_str().unwrap().contains("balances"),
        "{told}"
    );
    let reply = bank.get(&at("balances/above?least=5&policy=maybe")).await;
    problem(&reply, 400, "bad-parameters");
}

#[tokio::test]
async fn a_view_that_is_behind_waits_fails_or_is_stale_as_the_client_says() {
    let bank = Bank::open().await;
    good(&bank.deposit("a", 5).await);
    bank.until(OF_A, |answer| answer["value"] == 5).await;
    // The view stops before what it cannot take in.
    let written = bank.deposit("a", 666).await;
    let token = written.header("anabranch-token").unwrap();
    for policy in ["fail", "wait=20ms"] {
        let headers = [("anabranch-token", token), ("anabranch-policy", policy)];
        let reply = bank.get_with(OF_A, &headers).await;
        problem(&reply, 503, "not-reached");
        assert!(reply.header("retry-after").is_some());
    }
    let headers = [("anabranch-token", token), ("anabranch-policy", "stale")];
    let reply = bank.get_with(OF_A, &headers).await;
    let answer = good(&reply);
    assert_eq!(answer["value"], 5);
    assert_eq!(answer["stale"], true);
    assert_eq!(reply.header("anabranch-stale"), Some("true"));
}

#[tokio::test]
async fn a_view_whose_service_is_away_is_unavailable() {
    let bank = Bank::open().await;
    assert!(bank.fleet.kill("bank"));
    problem(&bank.get(OF_A).await, 503, "unavailable");
}

#[tokio::test]
async fn a_query_may_have_fields_that_are_called_as_the_servers_own() {
    let bank = Bank::open().await;
    let ask = async |fields: &[(&str, &str)]| {
        let path = path(&["views", "balances", "find"], fields);
        good(&bank.get(&path).await)["value"].clone()
    };
    let fields = [("q", "red"), ("policy", "strict"), ("limit", "3")];
    assert_eq!(ask(&fields).await, "red strict Some(3)");
    assert_eq!(ask(&[("q", "5")]).await, "5 none None");
    assert_eq!(
        ask(&[("q", r#"{"q":"{}","limit":1}"#)]).await,
        "{} none Some(1)"
    );
    // How to do while the view is behind is said by the header then.
    let path = path(&["views", "balances", "find"], &fields);
    let reply = bank.get_with(&path, &[("anabranch-policy", "stale")]).await;
    assert_eq!(good(&reply)["value"], "red strict Some(3)");
}

#[tokio::test]
async fn a_field_that_a_query_does_not_have_is_refused_in_the_address_and_as_json() {
    let bank = Bank::open().await;
    for fields in [
        &[("account", "account/a"), ("acount", "x")][..],
        &[("q", r#"{"account":"account/a","acount":"x"}"#)],
    ] {
        let path = path(&["views", "balances", "of"], fields);
        let said = problem(&bank.get(&path).await, 400, "malformed");
        let detail = said["detail"].as_str().unwrap();
        assert!(
            detail.contains("unknown field `acount`; the query has: account"),
            "{detail}"
        );
    }
}
