//! The OpenAPI document says what the server does.

use anabranch_wire::openapi::{ENDPOINTS, document};

use serde_json::json;

use crate::support::{Bank, good};

#[tokio::test]
async fn every_request_of_the_document_is_answered() {
    let bank = Bank::open().await;
    for endpoint in ENDPOINTS {
        let mut path = endpoint.path.to_owned();
        for name in endpoint.variables() {
            path = path.replace(&format!("{{{name}}}"), "x");
        }
        if path == "/events" {
            // It would not end by itself.
            path += "?until=head";
        }
        let reply = match endpoint.method {
            "get" => bank.get(&path).await,
            _ => bank.post(&path, "").await,
        };
        let told = reply.json();
        let not_routed = told["detail"]
            .as_str()
            .is_some_and(|detail| detail.starts_with("there is nothing at"));
        assert!(
            !not_routed && reply.status.as_u16() != 405,
            "{} {path}: {told}",
            endpoint.method
        );
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let bank = Bank::open().await;
    let served = good(&bank.get("/openapi.json").await);
    assert_eq!(served, document());
}

#[tokio::test]
async fn the_events_that_can_be_followed_are_described_with_their_data() {
    let bank = Bank::open().await;
    let document = good(&bank.get("/asyncapi.json").await);
    assert_eq!(document["asyncapi"], "3.0.0");
    let channel = &document["channels"]["account"];
    let message = channel["messages"]["Deposited"]["$ref"].as_str().unwrap();
    let message = document.pointer(message.trim_start_matches('#')).unwrap();
    let payload = &message["payload"]["properties"];
    assert_eq!(payload["type"], json!({"const": "Deposited"}));
    assert_eq!(
        payload["data"],
        json!({
            "type": "object",
            "properties": {"amount": {"type": "integer", "minimum": 0}},
            "required": ["amount"],
        })
    );
    // The address leads to just those events.
    good(&bank.deposit("a", 5).await);
    let address = channel["address"].as_str().unwrap();
    let accept = [("accept", "application/cloudevents-batch+json")];
    let events = good(&bank.get_with(address, &accept).await);
    assert_eq!(events[0]["type"], "Deposited");
    let operation = &document["operations"]["follow.account"];
    assert_eq!(operation["channel"]["$ref"], "#/channels/account");
}
