//! What anybody can do who can send JSON.

use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::MemoryLog;
use anabranch_runtime::Time;
use anabranch_server::client::{Client, Method};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::support::Served;

/// Sends JSON; the status, and the answer.
fn call(server: &Served, method: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(&server.url(), Time::of(&Env::os())).unwrap();
    let path = format!("/anabranch.log.v1.LogService/{method}");
    let sent = client.send(Method::Post, &path, headers, body.to_string().into());
    let reply = runtime.block_on(sent).unwrap();
    let status = [200, 400, 403]
        .into_iter()
        .find(|code| reply.status == *code);
    (status.expect("a status that is expected"), reply.json())
}

fn serve() -> Served {
    Served::start(Arc::new(MemoryLog::new(Env::os())))
}

fn placed(number: u32) -> Value {
    json!({
        "events": [{
            "id": format!("00000000-0000-0000-0000-{number:012}"),
            "stream": "order/1",
            "type": "OrderPlaced",
            "text": r#"{"total":15.30}"#,
        }],
        "conditions": [{"stream": {"stream": "order/1", "expect": {"empty": true}}}],
    })
}

#[test]
fn an_event_is_appended_and_found_by_json_alone() {
    let server = serve();
    let (status, answer) = call(&server, "Append", &[], &placed(1));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["places"].as_array().unwrap().len(), 1);
    let id = &placed(1)["events"][0]["id"];
    let (status, answer) = call(&server, "Find", &[], &json!({ "id": id }));
    assert_eq!(status, 200, "{answer}");
    assert!(answer["placed"]["position"].is_object(), "{answer}");
    let (_, answer) = call(&server, "Head", &[], &json!({}));
    assert_eq!(answer["head"]["counts"]["0"], "1", "{answer}");
}

#[test]
fn a_misspelt_condition_is_refused_and_nothing_is_written() {
    let server = serve();
    let mut misspelt = placed(1);
    let conditions = misspelt["conditions"].take();
    misspelt["condition"] = conditions;
    let (status, answer) = call(&server, "Append", &[], &misspelt);
    assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")));
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains("has no field \"condition\""), "{said}");
    let (_, answer) = call(&server, "Head", &[], &json!({}));
    assert_eq!(
        answer["head"]["counts"]
            .as_object()
            .map_or(0, |all| all.len()),
        0
    );
}

#[test]
fn a_message_of_more_parts_than_an_append_can_have_is_not_even_made() {
    let server = serve();
    let many = json!({ "events": vec![json!({}); 1_000_000] });
    let (status, answer) = call(&server, "Append", &[], &many);
    assert_eq!(status, 400);
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains("too many parts"), "{said}");
}

#[test]
fn a_read_from_a_partition_that_is_not_there_is_refused() {
    let server = serve();
    let nowhere = json!({"from": {"counts": {"7": "0"}}, "mode": "READ_MODE_BACKWARD"}).to_string();
    let mut framed = vec![0];
    framed.extend_from_slice(&(nowhere.len() as u32).to_be_bytes());
    framed.extend_from_slice(nowhere.as_bytes());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(&server.url(), Time::of(&Env::os())).unwrap();
    let kind = [("content-type", "application/connect+json")];
    let path = "/anabranch.log.v1.LogService/Read";
    let reply = runtime.block_on(client.send(Method::Post, path, &kind, framed.into()));
    let told = String::from_utf8_lossy(&reply.unwrap().body).into_owned();
    assert!(told.contains("no partition 7"), "{told}");
}

#[test]
fn a_refused_append_says_by_code_and_detail_why() {
    let server = serve();
    call(&server, "Append", &[], &placed(1));
    let (status, answer) = call(&server, "Append", &[], &placed(2));
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["code"], "failed_precondition", "{answer}");
    assert_eq!(
        answer["details"][0]["type"], "anabranch.log.v1.AppendProblem",
        "{answer}"
    );
}

#[test]
fn what_is_malformed_is_refused_in_words() {
    let server = serve();
    for (wrong, word) in [
        (
            json!({"events": [{"id": "x", "stream": "order/1", "type": "T"}]}),
            "UUID",
        ),
        (
            json!({"events": [{"id": placed(1)["events"][0]["id"], "stream": "order", "type": "T"}]}),
            "category/key",
        ),
        (json!({"events": []}), "no events"),
        (json!({"conditions": [{}]}), "says nothing"),
    ] {
        let (status, answer) = call(&server, "Append", &[], &wrong);
        assert_eq!(status, 400, "{answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{answer}");
    }
}

#[test]
fn a_call_that_is_meant_for_another_log_is_refused() {
    let server = serve();
    let (status, answer) = call(&server, "Head", &[("anabranch-log", "1")], &json!({}));
    assert_eq!(status, 400, "{answer}");
    assert_eq!(answer["code"], "failed_precondition", "{answer}");
}

#[test]
fn a_page_of_a_stranger_reads_nothing() {
    let server = serve();
    let (status, _) = call(
        &server,
        "Head",
        &[("origin", "http://evil.example")],
        &json!({}),
    );
    assert_eq!(status, 403);
}

#[test]
fn numbers_from_far_beyond_are_answered_and_end_nothing() {
    let server = serve();
    call(&server, "Append", &[], &placed(1));
    let far = u64::MAX.to_string();
    for (method, body) in [
        ("Describe", json!({"protocol": u32::MAX})),
        (
            "Append",
            json!({
                "events": placed(2)["events"],
                "conditions": [{"noMatch": {"items": [{}], "after": {"counts": {"4294967295": far}}}}],
            }),
        ),
        (
            "Append",
            json!({
                "events": placed(3)["events"],
                "conditions": [{"stream": {"stream": "order/1", "expect": {"at": far}}}],
            }),
        ),
        (
            "Append",
            json!({"events": [{
                "id": placed(4)["events"][0]["id"], "stream": "order/1", "type": "T", "text": "{}",
                "schemaVersion": u32::MAX, "meta": {"causes": {"counts": {"0": far}}},
            }]}),
        ),
    ] {
        call(&server, method, &[], &body);
    }
    let (status, answer) = call(&server, "Head", &[], &json!({}));
    assert_eq!(status, 200, "{answer}");
}
