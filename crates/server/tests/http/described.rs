//! The OpenAPI document says what the server does.

use anabranch_wire::openapi::{ENDPOINTS, document};

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
