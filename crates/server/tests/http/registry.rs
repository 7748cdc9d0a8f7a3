//! The registry at a program that runs services itself.

use anabranch_runtime::EntityOptions;
use anabranch_server::Server;
use serde_json::{Value, json};

use crate::support::{Bank, good, problem};

async fn call(bank: &Bank, method: &str, body: Value) -> (u16, Value) {
    let path = format!("/anabranch.registry.v1.RegistryService/{method}");
    let reply = bank.post(&path, &body.to_string()).await;
    (reply.status.as_u16(), reply.json())
}

#[tokio::test]
async fn what_the_servers_own_services_have_is_found_there_and_cannot_be_claimed() {
    let bank = Bank::open().await;
    for wanted in [
        json!({"name": "bank"}),
        json!({"name": "thief", "owns": ["account"]}),
        json!({"name": "thief", "owns": ["transfer"]}),
        json!({"name": "thief", "views": ["balances"]}),
    ] {
        let (status, answer) = call(&bank, "RegisterService", json!({"service": wanted})).await;
        assert_eq!(status, 409, "{wanted}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("service bank"), "{answer}");
    }
    for sought in [
        json!({"category": "account"}),
        json!({"category": "transfer"}),
        json!({"view": "balances"}),
        json!({"service": "bank"}),
    ] {
        let (status, answer) = call(&bank, "Find", sought).await;
        assert_eq!(status, 200, "{answer}");
        let service = &answer["registered"]["service"];
        assert_eq!(service["name"], "bank");
        assert_eq!(service["address"], bank.client.address(), "{answer}");
    }
    let (_, answer) = call(&bank, "List", json!({})).await;
    assert_eq!(answer["services"][0]["service"]["name"], "bank", "{answer}");
}

#[tokio::test]
async fn operators_see_who_has_registered_and_how_its_lease_is() {
    let bank = Bank::open().await;
    assert_eq!(good(&bank.get("/operate/registry").await), json!([]));
    let wanted = json!({"name": "loans", "owns": ["loan"], "sends": ["account"]});
    let (status, answer) = call(&bank, "RegisterService", json!({"service": wanted})).await;
    assert_eq!(status, 200, "{answer}");
    let all = good(&bank.get("/operate/registry").await);
    assert_eq!(all[0]["name"], "loans");
    assert_eq!(all[0]["owns"], json!(["loan"]));
    assert_eq!(all[0]["sends"], json!(["account"]));
    assert_eq!(all[0]["state"], "held");
    assert!(all[0]["expires_in_ms"].as_u64().unwrap() <= 10_000, "{all}");
    let release = json!({"lease": answer["lease"]["token"]});
    assert_eq!(call(&bank, "Release", release).await.0, 200);
    let all = good(&bank.get("/operate/registry").await);
    assert_eq!(all[0]["state"], "released");
}

#[tokio::test]
async fn a_program_whose_log_another_one_serves_lends_its_lease_to_nobody() {
    let bank = Bank::open_with(EntityOptions::default(), Server::without_log).await;
    let forged = r#"{"events":[{"id":"00000000-0000-0000-0000-000000000001","stream":"account/a","type":"T"}]}"#;
    for path in [
        "/anabranch.log.v1.LogService/Append",
        "/anabranch.log.v1.LogService/AppendMany",
        "/anabranch.registry.v1.RegistryService/RegisterService",
        "/operate/registry/bank/forget",
    ] {
        problem(&bank.post(path, forged).await, 404, "no-such-path");
    }
    good(&bank.get("/operate/services").await);
}
