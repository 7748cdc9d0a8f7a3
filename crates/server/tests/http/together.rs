//! Commands to several entities in one request.

use anabranch_server::client::Reply;
use serde_json::{Value, json};

use crate::support::{Bank, good, id, problem};

fn command(to: &str, name: &str, amount: u64) -> Value {
    json!({"to": format!("account/{to}"), "type": name, "data": {"amount": amount}})
}

/// From one account to another.
fn transfer(from: &str, to: &str, amount: u64) -> String {
    let list = [
        command(from, "Withdraw", amount),
        command(to, "Deposit", amount),
    ];
    json!(list).to_string()
}

async fn balance(bank: &Bank, key: &str) -> Value {
    let entity = good(&bank.get(&format!("/operate/entity/account/{key}")).await);
    entity["state"]["balance"].clone()
}

#[tokio::test]
async fn all_commands_of_a_list_take_effect_together() {
    let bank = Bank::open().await;
    good(&bank.deposit("a", 5).await);
    let reply = bank.post("/commands", &transfer("a", "b", 3)).await;
    let done = good(&reply);
    let outcomes = done["outcomes"].as_array().unwrap();
    assert_eq!(outcomes[0]["stream"], "account/a");
    assert_eq!(outcomes[0]["events"][0]["type"], "Withdrawn");
    assert_eq!(outcomes[1]["stream"], "account/b");
    assert_eq!(outcomes[1]["version"], 0);
    assert_eq!(outcomes[1]["events"][0]["position"], "0:2");
    let token = reply.header("anabranch-token").unwrap().to_owned();
    let headers = [("anabranch-token", &*token)];
    good(
        &bank
            .send("/commands", &headers, &transfer("b", "a", 1))
            .await,
    );
    assert_eq!(
        (balance(&bank, "a").await, balance(&bank, "b").await),
        (json!(3), json!(2))
    );
    // What caused an event is its command, which follows from the list.
    let event = good(&bank.get("/events/0:2").await);
    assert_eq!(event["causationid"], outcomes[1]["command"], "{event}");
    assert_eq!(event["correlationid"], done["list"]);
}

#[tokio::test]
async fn if_one_is_refused_the_answer_says_which_and_none_takes_effect() {
    let bank = Bank::open().await;
    good(&bank.deposit("b", 5).await);
    let list = json!([command("b", "Deposit", 1), command("a", "Withdraw", 1)]);
    let refused = bank.post("/commands", &list.to_string()).await;
    let told = problem(&refused, 422, "rejected");
    let words = told["detail"].as_str().unwrap();
    assert_eq!(
        words,
        "command 2 (Withdraw to account/a): only 0 left; none took effect"
    );
    assert_eq!(told["happened"], "no");
    assert!(refused.header("anabranch-token").is_some());
    assert_eq!(balance(&bank, "b").await, json!(5));
    let expected =
        json!({"to": "account/a", "type": "Deposit", "data": {"amount": 1}, "expect": {"at": 3}});
    let list = json!([command("b", "Deposit", 1), expected]);
    let refused = bank.post("/commands", &list.to_string()).await;
    problem(&refused, 412, "version-mismatch");
}

#[tokio::test]
async fn the_same_idempotency_key_does_a_list_once() {
    let bank = Bank::open().await;
    good(&bank.deposit("a", 5).await);
    let id = id(77);
    let headers = [("idempotency-key", &*id)];
    let first = good(
        &bank
            .send("/commands", &headers, &transfer("a", "b", 3))
            .await,
    );
    assert_eq!(first["list"], id);
    let again = good(
        &bank
            .send("/commands", &headers, &transfer("a", "b", 3))
            .await,
    );
    for (first, again) in [0, 1].map(|n| (&first["outcomes"][n], &again["outcomes"][n])) {
        assert_eq!(
            (&first["repeated"], &again["repeated"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(first["events"], again["events"]);
    }
    let other = bank
        .send("/commands", &headers, &transfer("a", "b", 1))
        .await;
    problem(&other, 409, "id-taken");
    assert_eq!(balance(&bank, "b").await, json!(3));
}

#[tokio::test]
async fn a_list_that_is_none_is_told_what_is_wrong_with_it() {
    let bank = Bank::open().await;
    let one = command("a", "Deposit", 1).to_string();
    let many = vec![one.clone(); 65].join(",");
    let lists: [(String, u16, &str, &str); 9] = [
        (
            String::new(),
            400,
            "bad-commands",
            "the body is a list of commands",
        ),
        (
            "{}".to_owned(),
            400,
            "bad-commands",
            "the body is a list of commands",
        ),
        (
            "[]".to_owned(),
            400,
            "bad-commands",
            "the list has 0 commands",
        ),
        (
            format!("[{many}]"),
            400,
            "bad-commands",
            "the list has 65 commands",
        ),
        (format!("[{one},7]"), 400, "bad-commands", "command 2: "),
        (
            format!(r#"[{one},{{"to":"account","type":"Deposit"}}]"#),
            400,
            "bad-commands",
            "command 2: ",
        ),
        (
            format!(r#"[{one},{{"to":"account/a","type":"Burn"}}]"#),
            400,
            "unknown-command",
            "command 2 (Burn to account/a)",
        ),
        (
            format!(r#"[{one},{{"to":"till/a","type":"Deposit"}}]"#),
            404,
            "unknown-category",
            "till",
        ),
        (
            format!(r#"[{one},{{"to":"account/a","type":"Deposit","data":{{"amount":"x"}}}}]"#),
            400,
            "malformed",
            "command 2 ",
        ),
    ];
    for (list, status, code, words) in lists {
        let reply: Reply = bank.post("/commands", &list).await;
        let told = problem(&reply, status, code);
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{list}: {detail}");
    }
    problem(
        &bank.get("/operate/entity/account/a").await,
        404,
        "not-found",
    );
}

#[tokio::test]
async fn a_saga_is_not_commanded_in_a_list() {
    let bank = Bank::open().await;
    let list = json!([command("a", "Deposit", 1), {"to": "transfer/1", "type": "Start"}]);
    let reply = bank.post("/commands", &list.to_string()).await;
    let told = problem(&reply, 400, "not-an-entity");
    assert!(
        told["detail"]
            .as_str()
            .unwrap()
            .contains("transfer is a saga"),
        "{told}"
    );
}
