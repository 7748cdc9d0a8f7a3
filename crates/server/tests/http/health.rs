use serde_json::json;

use crate::support::{Bank, good};

#[tokio::test]
async fn a_server_that_answers_lives_and_is_ready() {
    let bank = Bank::open().await;
    assert_eq!(bank.get("/livez").await.body, "ok\n");
    assert_eq!(bank.get("/readyz").await.body, "ok\n");
}

#[tokio::test]
async fn readiness_in_detail_names_each_check_and_what_has_stopped() {
    let bank = Bank::open().await;
    let well = bank.get("/readyz?verbose").await;
    assert_eq!(well.body, "[+]log ok\nreadyz check passed\n");
    good(&bank.deposit("a", 666).await);
    bank.until("/operate/views/balances", |view| {
        view["view"]["serving"]["state"] == "stopped"
    })
    .await;
    let stopped = bank.get("/readyz?verbose").await;
    assert_eq!(stopped.status.as_u16(), 200);
    assert_eq!(
        stopped.body,
        "[+]log ok\n[!]bank: view balances is stopped\nreadyz check passed\n"
    );
}

#[tokio::test]
async fn a_server_says_what_it_is_and_which_log_it_serves() {
    let bank = Bank::open().await;
    let reply = bank.get("/version").await;
    let version = good(&reply);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["protocol"], 1);
    assert_eq!(
        version["log"],
        json!(reply.header("anabranch-log").unwrap())
    );
}

#[tokio::test]
async fn figures_are_given_in_the_format_of_prometheus() {
    let bank = Bank::open().await;
    good(&bank.deposit("a", 5).await);
    let reply = bank.get("/metrics").await;
    let kind = reply.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    for line in [
        "# TYPE anabranch_log_head gauge",
        "anabranch_log_head{partition=\"0\"} 1",
        "anabranch_entities_in_memory{service=\"bank\",category=\"account\"} 1",
        "anabranch_dead_letters{service=\"bank\"} 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
}
