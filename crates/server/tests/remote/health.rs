use std::sync::Arc;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::MemoryLog;
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_runtime::Time;
use anabranch_server::client::Client;

use crate::support::Served;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_cannot_be_reached_lives_but_is_not_ready() {
    let behind = Served::start(Arc::new(MemoryLog::new(Env::os())));
    let mut options = Options::default();
    options.patience = Duration::from_millis(50);
    let log = RemoteLog::open(&behind.url(), options).unwrap();
    let server = Served::start(Arc::new(log));
    let client = Client::new(&server.url(), Time::of(&Env::os())).unwrap();
    assert_eq!(client.get("/readyz").await.unwrap().status.as_u16(), 200);
    drop(behind);
    let reply = client.get("/readyz").await.unwrap();
    assert_eq!(reply.status.as_u16(), 503);
    let told = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(told.starts_with("[-]log failed: "), "{told}");
    assert!(told.ends_with("readyz check failed\n"), "{told}");
    assert_eq!(client.get("/livez").await.unwrap().status.as_u16(), 200);
}
