//! What clients of gRPC ask about any server.

use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::MemoryLog;
use anabranch_rpc::health as h;
use anabranch_rpc::health::health_check_response::ServingStatus;
use anabranch_runtime::Time;
use anabranch_server::client::Client;
use connectrpc::client::{ClientConfig, Http2Connection, SharedHttp2Connection};
use connectrpc::{ErrorCode, Protocol};
use serde_json::json;

use crate::support::Served;

fn serve() -> Served {
    Served::start(Arc::new(MemoryLog::new(Env::os())))
}

/// A client that speaks gRPC itself.
fn client(server: &Served) -> h::HealthClient<SharedHttp2Connection> {
    let uri: hyper::Uri = server.url().parse().unwrap();
    let http = Http2Connection::builder()
        .lazy_plaintext(uri.clone())
        .shared(8);
    h::HealthClient::new(http, ClientConfig::new(uri).with_protocol(Protocol::Grpc))
}

fn of(service: &str) -> h::HealthCheckRequest {
    h::HealthCheckRequest {
        service: service.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_grpc_asks_whether_the_server_and_its_services_are_well() {
    let server = serve();
    let client = client(&server);
    for service in [
        "",
        "anabranch.log.v1.LogService",
        "anabranch.registry.v1.RegistryService",
        "grpc.health.v1.Health",
    ] {
        let told = client.check(of(service)).await.unwrap();
        let status = told.into_owned().status;
        assert_eq!(status, ServingStatus::SERVING, "{service}");
    }
    let unknown = client.check(of("nobody")).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::NotFound, "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_grpc_that_watches_is_told_that_the_server_is_about_to_stop() {
    let server = serve();
    let client = client(&server);
    let mut watched = client.watch(of("")).await.unwrap();
    let first = watched.message().await.unwrap().unwrap();
    assert_eq!(first.to_owned_message().status, ServingStatus::SERVING);
    let stopped = tokio::task::spawn_blocking(move || drop(server));
    let last = watched.message().await.unwrap().unwrap();
    assert_eq!(last.to_owned_message().status, ServingStatus::NOT_SERVING);
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_asked_by_json() {
    let server = serve();
    let client = Client::new(&server.url(), Time::of(&Env::os())).unwrap();
    let path = "/grpc.health.v1.Health/Check";
    let reply = client.post(path, "{}").await.unwrap();
    assert_eq!(reply.json(), json!({"status": "SERVING"}));
}
