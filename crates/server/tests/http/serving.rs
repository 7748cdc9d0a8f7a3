use anabranch_env::Env;
use anabranch_runtime::{EntityOptions, Time};
use anabranch_server::client::{Client, ClientError};
use anabranch_server::{Presence, Present, ServeError, Server, lease_secret, token_key};

use crate::support::{Bank, good, problem};

#[tokio::test]
async fn only_this_machine_is_served() {
    let error = Server::bind("0.0.0.0:0").await.unwrap_err();
    assert!(matches!(error, ServeError::Exposed(_)), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    // Also when somebody else has bound it.
    let bank = Bank::open().await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let server = Server::new(bank.fleet.clone(), bank.log.clone(), Time::of(&bank.env));
    let served = server.serve(listener, std::future::pending()).await;
    assert!(matches!(served, Err(ServeError::Exposed(_))));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let bank = Bank::open().await;
    problem(&bank.get("/").await, 404, "no-such-path");
    problem(&bank.get("/operate/nothing").await, 404, "no-such-path");
    let reply = bank.get("/commands/account/a").await;
    problem(&reply, 405, "wrong-method");
}

#[tokio::test]
async fn a_page_of_another_origin_may_not_send_commands() {
    let bank = Bank::open().await;
    let path = "/commands/account/a?type=Close";
    let reply = bank
        .send(path, &[("origin", "http://evil.example")], "")
        .await;
    problem(&reply, 403, "other-origin");
    let own = bank.client.address();
    good(&bank.send(path, &[("origin", &own)], "").await);
}

#[tokio::test]
async fn a_page_may_stand_beside() {
    let options = EntityOptions::default();
    let bank = Bank::open_with(options, |server| server.page("/", "hello")).await;
    assert_eq!(bank.get("/").await.body, "hello");
    good(&bank.deposit("a", 5).await);
}

#[tokio::test]
async fn a_server_that_was_stopped_answers_no_more() {
    let bank = Bank::open().await;
    let client = bank.client.clone();
    good(&bank.deposit("a", 5).await);
    bank.stop().await;
    let error = client.get("/operate/services").await.unwrap_err();
    assert!(matches!(error, ClientError::Nobody { .. }), "{error}");
}

#[test]
fn only_plain_addresses_are_taken() {
    let time = Time::of(&Env::os());
    for wrong in [
        "",
        "localhost",
        "ftp://localhost",
        "http://h/x",
        "http://h?x",
    ] {
        let error = Client::new(wrong, time.clone()).unwrap_err();
        assert!(matches!(error, ClientError::Address(_)), "{wrong}: {error}");
    }
    let client = Client::new("http://localhost:4077/", time).unwrap();
    assert_eq!(client.address(), "http://localhost:4077");
}

fn scratch(name: &str) -> (Env, std::path::PathBuf) {
    let env = Env::os();
    let dir = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    env.disk.create_dir(&dir).unwrap();
    for file in env.disk.list(&dir).unwrap() {
        env.disk.remove(&dir.join(file)).unwrap();
    }
    (env, dir)
}

#[test]
fn a_program_that_serves_is_found_by_its_file() {
    let (env, dir) = scratch("presence");
    assert_eq!(Present::find(&env, &dir).unwrap(), None);
    let presence = Presence::announce(&env, &dir, "http://127.0.0.1:1").unwrap();
    let found = Present::find(&env, &dir).unwrap().unwrap();
    assert_eq!(found.url, "http://127.0.0.1:1");
    assert_eq!(found.pid, std::process::id());
    presence.withdraw().unwrap();
    assert_eq!(Present::find(&env, &dir).unwrap(), None);
}

#[test]
fn the_file_of_another_program_is_left_alone() {
    let (env, dir) = scratch("presence-of-another");
    let first = Presence::announce(&env, &dir, "http://127.0.0.1:1").unwrap();
    let second = Presence::announce(&env, &dir, "http://127.0.0.1:2").unwrap();
    drop(first);
    let found = Present::find(&env, &dir).unwrap().unwrap();
    assert_eq!(found.url, "http://127.0.0.1:2");
    drop(second);
    assert_eq!(Present::find(&env, &dir).unwrap(), None);
}

#[test]
fn a_kept_secret_opens_the_tokens_of_the_process_before() {
    let (env, dir) = scratch("token-key");
    let session = anabranch_model::Session::new();
    let token = token_key(&env, &dir).unwrap().seal(&session);
    assert_eq!(token_key(&env, &dir).unwrap().open(&token), Ok(session));
    let (env, other) = scratch("token-key-of-another-log");
    assert!(token_key(&env, &other).unwrap().open(&token).is_err());
}

#[test]
fn a_service_that_was_killed_has_the_secret_of_its_lease_again() {
    let (env, dir) = scratch("lease-key");
    let secret = lease_secret(&env, &dir).unwrap();
    assert_eq!(secret.len(), 64);
    assert_eq!(lease_secret(&env, &dir).unwrap(), secret);
    let (env, other) = scratch("lease-key-of-another-service");
    assert_ne!(lease_secret(&env, &other).unwrap(), secret);
}
