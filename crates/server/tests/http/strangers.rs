//! Clients that do nothing, say things twice, or mean another log.

use std::time::Duration;

use anabranch_env::Env;
use anabranch_runtime::{EntityOptions, Time};
use anabranch_server::Server;
use anabranch_server::client::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Bank, good, problem};

const DEPOSIT: &str = "/commands/account/a?type=Deposit";
const AMOUNT: &str = r#"{"amount":5}"#;

/// A bank that gives silent clients up soon.
async fn impatient() -> Bank {
    let soon = Duration::from_millis(200);
    Bank::open_with(EntityOptions::default(), |server| server.patience(soon)).await
}

async fn say(bank: &Bank, text: &str) -> TcpStream {
    let address = bank.client.address();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://"))
        .await
        .unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// So many clients send half a request, and each is given up.
async fn are_given_up(bank: &Bank, half: &str, count: usize) {
    let mut silent = Vec::new();
    for _ in 0..count {
        silent.push(say(bank, half).await);
    }
    for stream in &mut silent {
        let mut told = Vec::new();
        // Ends only because the server ends it.
        stream.read_to_end(&mut told).await.unwrap();
        let told = String::from_utf8(told).unwrap();
        assert!(
            told.starts_with("HTTP/1.1 408") || told.starts_with("HTTP/1.1 429"),
            "{told}"
        );
    }
}

const HALF: &str = "POST /commands/account/x?type=Deposit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\n{";

#[tokio::test]
async fn clients_that_send_half_a_body_are_given_up_and_others_are_served() {
    let bank = impatient().await;
    are_given_up(&bank, HALF, 600).await;
    good(&bank.deposit("a", 5).await);
}

#[tokio::test]
async fn calls_of_the_log_that_come_by_half_are_given_up_and_others_are_answered() {
    const HALF: &str = "POST /anabranch.log.v1.LogService/Append HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{";
    let bank = impatient().await;
    are_given_up(&bank, HALF, 1100).await;
    let head = bank.post("/anabranch.log.v1.LogService/Head", "{}").await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn a_client_that_sends_half_a_head_is_given_up() {
    let bank = impatient().await;
    let mut silent = say(&bank, "POST /commands/account/x HTTP/1.1\r\nHo").await;
    let mut told = Vec::new();
    silent.read_to_end(&mut told).await.unwrap();
    good(&bank.deposit("a", 5).await);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_given_up_whatever_it_may_become() {
    let bank = impatient().await;
    for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut silent = say(&bank, said).await;
        let mut told = Vec::new();
        // Ends only because the server ends it.
        drop(silent.read_to_end(&mut told).await);
    }
    good(&bank.deposit("a", 5).await);
}

#[tokio::test]
async fn a_connection_that_has_asked_is_kept_while_its_answer_goes_on() {
    let bank = impatient().await;
    let mut reader = say(&bank, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    // For longer than a silent one that came later has.
    let mut silent = say(&bank, "").await;
    drop(silent.read_to_end(&mut Vec::new()).await);
    bank.deposit("a", 5).await;
    let mut told = String::new();
    while !told.contains("Deposited") {
        let mut part = [0; 4096];
        let count = reader.read(&mut part).await.unwrap();
        assert_ne!(count, 0, "the server has ended it: {told}");
        told += &String::from_utf8_lossy(&part[..count]);
    }
}

#[tokio::test]
async fn readers_by_rpc_are_bounded_whatever_they_do_not_read() {
    let bank = Bank::open_with(EntityOptions::default(), |server| server.readers_max(2)).await;
    // A message of a call that streams has its length before it.
    let follow = r#"{"mode":"READ_MODE_FOLLOW"}"#;
    let follow = format!("\0\0\0\0{}{follow}", follow.len() as u8 as char);
    let head = format!(
        "POST /anabranch.log.v1.LogService/Read HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/connect+json\r\nContent-Length: {}\r\n\r\n{follow}",
        follow.len()
    );
    bank.deposit("a", 5).await;
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = say(&bank, &head).await;
        let mut part = [0; 4096];
        let count = reader.read(&mut part).await.unwrap();
        assert!(part[..count].starts_with(b"HTTP/1.1 200"));
        readers.push(reader);
    }
    let kind = [("content-type", "application/connect+json")];
    let path = "/anabranch.log.v1.LogService/Read";
    let told = bank.send(path, &kind, &follow).await;
    let told = String::from_utf8_lossy(&told.body).into_owned();
    assert!(told.contains("resource_exhausted"), "{told}");
    good(&bank.deposit("a", 5).await);
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_says_that_the_connection_ends() {
    let bank = Bank::open().await;
    let post = |path: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    for (path, ends) in [("/nowhere", true), (DEPOSIT, false)] {
        let mut stream = say(&bank, &post(path, AMOUNT)).await;
        let mut told = [0; 4096];
        let count = stream.read(&mut told).await.unwrap();
        let told = String::from_utf8_lossy(&told[..count]).to_lowercase();
        assert_eq!(told.contains("connection: close"), ends, "{told}");
    }
}

#[tokio::test]
async fn nobody_answers_for_a_service_where_no_service_is_of_another_process() {
    let bank = Bank::open_with(EntityOptions::default(), Server::without_peers).await;
    for path in ["/peer/answers", "/peer/commands", "/peer/queries"] {
        problem(&bank.post(path, "{}").await, 404, "no-such-path");
    }
}

#[tokio::test]
async fn an_operator_is_answered_while_silent_clients_fill_the_server() {
    let bank = Bank::open().await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(say(&bank, HALF).await);
    }
    // Until they are so many that commands are not taken.
    let mut status = 200;
    while status != 429 {
        status = bank.deposit("a", 5).await.status.as_u16();
    }
    good(&bank.get("/operate/parked").await);
    drop(silent);
}

#[tokio::test]
async fn queries_that_wait_keep_neither_commands_nor_operators_out() {
    let bank = Bank::open().await;
    let written = bank.deposit("a", 666).await;
    let token = written.header("anabranch-token").unwrap().to_owned();
    let mut waiting = Vec::new();
    for _ in 0..600 {
        let head = format!(
            "GET /views/balances/of?account=x HTTP/1.1\r\nHost: localhost\r\nAnabranch-Token: {token}\r\nAnabranch-Policy: wait=60s\r\n\r\n"
        );
        waiting.push(say(&bank, &head).await);
    }
    let mut status = 200;
    while status != 429 {
        let path = "/views/balances/of?account=x&policy=stale";
        status = bank.get(path).await.status.as_u16();
    }
    good(&bank.deposit("b", 5).await);
    good(&bank.post("/operate/views/balances/skip", "").await);
}

#[tokio::test]
async fn clients_that_wait_for_a_saga_keep_no_other_commands_out() {
    let bank = Bank::open().await;
    let path = "/commands/transfer/t?type=StartSaga";
    let body = r#"{"input":5}"#;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut waiting = Vec::new();
    for _ in 0..600 {
        waiting.push(say(&bank, &head).await);
    }
    let mut status = 202;
    while status != 429 {
        let reply = bank.send(path, &[("prefer", "wait=1")], body).await;
        status = reply.status.as_u16();
    }
    good(&bank.deposit("b", 5).await);
    assert_eq!(bank.post(path, body).await.status.as_u16(), 202);
}

#[tokio::test]
async fn what_only_an_operator_may_do_is_not_among_the_commands() {
    let bank = Bank::open().await;
    let start = bank
        .post("/commands/transfer/t?type=StartSaga", r#"{"input":5}"#)
        .await;
    assert_eq!(start.status.as_u16(), 202);
    let by = r#""by":{"who":"the chief","why":"I say so"}"#;
    for (name, body) in [
        ("AbortSaga", r#"{"why":"no"}"#.to_owned()),
        ("ResumeStep", format!(r#"{{"step":"take",{by}}}"#)),
        (
            "SettleStep",
            format!(r#"{{"step":"take","as":{{"Done":null}},{by}}}"#),
        ),
    ] {
        let path = format!("/commands/transfer/t?type={name}");
        problem(&bank.post(&path, &body).await, 403, "operators-only");
    }
}

#[tokio::test]
async fn a_refusal_is_an_observation_and_moves_the_token() {
    let bank = Bank::open().await;
    // The view stops before it, so it is behind from now on.
    good(&bank.deposit("a", 666).await);
    let withdraw = "/commands/account/a?type=Withdraw";
    let refused = bank.post(withdraw, r#"{"amount":1000}"#).await;
    problem(&refused, 422, "rejected");
    let of_another_version = bank.send(withdraw, &[("if-match", "\"9\"")], AMOUNT).await;
    problem(&of_another_version, 412, "version-mismatch");
    for told in [refused, of_another_version] {
        let token = told.header("anabranch-token").unwrap();
        let headers = [("anabranch-token", token), ("anabranch-policy", "fail")];
        let path = "/views/balances/of?account=account%2Fa";
        problem(&bank.get_with(path, &headers).await, 503, "not-reached");
    }
}

#[tokio::test]
async fn the_start_of_a_saga_gives_a_token_that_includes_its_journal() {
    let bank = Bank::open().await;
    let start = bank
        .post("/commands/transfer/t?type=StartSaga", r#"{"input":5}"#)
        .await;
    let session = crate::support::seal(7)
        .open(start.header("anabranch-token").unwrap())
        .unwrap();
    assert!(session.seen().covers(&anabranch_model::Cut::at(1)));
}

#[tokio::test]
async fn a_header_or_parameter_that_may_stand_once_and_stands_twice_is_refused() {
    let bank = Bank::open().await;
    for name in [
        "idempotency-key",
        "if-match",
        "if-none-match",
        "anabranch-token",
    ] {
        let twice = [(name, "\"1\""), (name, "\"2\"")];
        problem(
            &bank.send(DEPOSIT, &twice, AMOUNT).await,
            400,
            "repeated-header",
        );
    }
    let twice = [("anabranch-policy", "fail"), ("anabranch-policy", "stale")];
    let reply = bank.get_with("/views/balances/of?account=x", &twice).await;
    problem(&reply, 400, "repeated-header");
    let reply = bank.post(&format!("{DEPOSIT}&type=Close"), AMOUNT).await;
    problem(&reply, 400, "bad-parameters");
    let nothing = bank.get("/operate/history/account/a").await;
    assert_eq!(good(&nothing)["events"], serde_json::json!([]));
}

#[tokio::test]
async fn a_body_in_another_encoding_is_refused_by_its_name() {
    let bank = Bank::open().await;
    let gzip = bank
        .send(DEPOSIT, &[("content-encoding", "gzip")], "\u{1f}")
        .await;
    let told = problem(&gzip, 415, "unsupported-encoding");
    assert!(told["detail"].as_str().unwrap().contains("gzip"), "{told}");
    good(
        &bank
            .send(DEPOSIT, &[("content-encoding", "Identity")], AMOUNT)
            .await,
    );
}

#[tokio::test]
async fn a_mark_before_utf_8_is_no_part_of_the_json() {
    let bank = Bank::open().await;
    good(&bank.post(DEPOSIT, &format!("\u{feff}{AMOUNT}")).await);
}

#[tokio::test]
async fn a_request_that_is_meant_for_another_log_is_refused() {
    let bank = Bank::open().await;
    let here = bank.get("/operate/parked").await;
    let here = here.header("anabranch-log").unwrap().to_owned();
    let client = Client::new(&bank.client.address(), Time::of(&Env::os())).unwrap();
    let meant = client.clone().of_log(Some(here.clone()));
    good(&meant.post(DEPOSIT, AMOUNT).await.unwrap());
    let other = client.clone().of_log(Some("0123456789abcdef".to_owned()));
    let told = problem(
        &other.post(DEPOSIT, AMOUNT).await.unwrap(),
        421,
        "other-log",
    );
    assert_eq!(told["log"], here);
    let told = client.post("/anabranch.log.v1.LogService/Head", "{}").await;
    assert_eq!(told.unwrap().header("anabranch-log"), Some(&*here));
    let entity = good(&bank.get("/operate/entity/account/a").await);
    assert_eq!(entity["version"], 0);
}

/// What is answered to a request with a header of so many bytes.
async fn with_head(bank: &Bank, bytes: usize) -> String {
    let padding = "a".repeat(bytes);
    let mut stream = say(
        bank,
        &format!("GET /livez HTTP/1.1\r\nhost: localhost\r\npadding: {padding}\r\n\r\n"),
    )
    .await;
    let mut answer = vec![0; 64];
    let read = stream.read(&mut answer).await.unwrap_or_default();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_before_anything_else() {
    let bank = impatient().await;
    let fits = with_head(&bank, 40 << 10).await;
    assert!(fits.starts_with("HTTP/1.1 200"), "{fits}");
    for bytes in [65 << 10, 100 << 10] {
        let refused = with_head(&bank, bytes).await;
        assert!(
            refused.is_empty() || refused.starts_with("HTTP/1.1 431"),
            "{refused}"
        );
    }
    let many = "a: b\r\n".repeat(200);
    let mut stream = say(
        &bank,
        &format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
    )
    .await;
    let mut answer = vec![0; 64];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 431"));
}
