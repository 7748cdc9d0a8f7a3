//! CloudEvents that come by plain HTTP.

use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{AppendError, Log, Order, VersionRange};
use anabranch_model::to_cloud_event;
use anabranch_runtime::{EntityOptions, Fleet, Time};
use anabranch_server::client::{Client, Method, Reply};
use anabranch_server::{Server, TOKEN_HEADER};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::failing::Failing;
use crate::support::{Bank, good, problem};

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

/// Sends a body of any kind.
async fn send(bank: &Bank, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    send_by(&bank.client, headers, body).await
}

async fn send_by(client: &Client, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let sent = client.send(Method::Post, "/events", headers, body.into());
    sent.await.unwrap()
}

fn event(id: &str, subject: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/tills", "type": "Opened", "subject": subject})
}

const HEADERS: [(&str, &str); 5] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "A-1"),
    ("ce-source", "/tills"),
    ("ce-type", "Opened"),
    ("ce-subject", "till/1"),
];

/// The events of a stream as they are printed, without what the log gives.
async fn printed(bank: &Bank, stream: &str) -> Vec<Value> {
    let stream = stream.parse().unwrap();
    let mut events = bank
        .log
        .read_stream(&stream, VersionRange::ALL, Order::Forward);
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        let text = to_cloud_event(&event.unwrap().as_ref()).unwrap();
        let mut printed: Value = serde_json::from_str(&text).unwrap();
        for given in ["time", "sequence", "position", "id"] {
            printed.as_object_mut().unwrap().remove(given);
        }
        all.push(printed);
    }
    all
}

#[tokio::test]
async fn a_cloud_event_is_the_same_in_each_of_the_three_ways() {
    let structured = Bank::open().await;
    let mut whole = event("A-1", "till/1");
    whole["data"] = json!({"float": 50});
    whole["shop"] = json!("söder");
    let reply = send(&structured, &[STRUCTURED], whole.to_string()).await;
    let told = good(&reply);
    assert_eq!(told["events"][0]["stream"], "till/1");
    assert_eq!(told["events"][0]["position"], "0:0");
    assert_eq!(told["events"][0]["repeated"], false);

    let binary = Bank::open().await;
    let mut headers = HEADERS.to_vec();
    // Characters that headers do not have are escaped.
    headers.extend([
        ("content-type", "application/json"),
        ("ce-shop", "s%C3%B6der"),
    ]);
    let same = good(&send(&binary, &headers, r#"{"float":50}"#).await);
    assert_eq!(same, told);

    let batched = Bank::open().await;
    let batch = json!([whole, event("A-2", "till/1")]).to_string();
    let both = good(&send(&batched, &[BATCH], batch).await);
    assert_eq!(both["events"][0], told["events"][0]);
    assert_eq!(both["events"][1]["version"], 1);

    let stored = printed(&structured, "till/1").await;
    assert_eq!(stored[0]["shop"], "söder");
    assert_eq!(stored[0]["originalid"], "A-1");
    assert_eq!(stored[0]["data"], json!({"float": 50}));
    assert_eq!(printed(&binary, "till/1").await, stored);
    assert_eq!(printed(&batched, "till/1").await[0], stored[0]);
}

#[tokio::test]
async fn data_in_a_body_of_its_own_is_kept_byte_for_byte() {
    let bank = Bank::open().await;
    let cases: [(&str, &[u8]); 4] = [
        ("application/json", b"{\n  \"a\": 1.50 }\n"),
        ("image/png", b"\x89PNG\r\n\x1a\n"),
        ("text/plain; charset=ISO-8859-1", b"gr\xfc\xdfe"),
        ("text/plain", b"\xef\xbb\xbfmark"),
    ];
    for (number, (kind, data)) in cases.into_iter().enumerate() {
        let id = number.to_string();
        let mut headers = HEADERS.to_vec();
        headers.retain(|(name, _)| *name != "ce-id");
        headers.extend([("ce-id", &*id), ("content-type", kind)]);
        good(&send(&bank, &headers, data).await);
    }
    let stream = "till/1".parse().unwrap();
    let mut stored = bank
        .log
        .read_stream(&stream, VersionRange::ALL, Order::Forward);
    for (_, data) in cases {
        assert_eq!(stored.next().await.unwrap().unwrap().data(), data);
    }
}

#[tokio::test]
async fn an_event_with_the_same_id_and_source_is_appended_once() {
    let bank = Bank::open().await;
    let first = event("A-1", "till/1").to_string();
    let told = good(&send(&bank, &[STRUCTURED], first.clone()).await);
    let again = good(&send(&bank, &[STRUCTURED], first.clone()).await);
    assert_eq!(again["events"][0]["repeated"], true);
    assert_eq!(
        again["events"][0]["position"],
        told["events"][0]["position"]
    );
    // Also in binary mode, and in a batch of which the rest is new.
    let again = good(&send(&bank, &HEADERS, "").await);
    assert_eq!(again["events"][0]["repeated"], true);
    let batch = format!("[{first},{}]", event("A-2", "till/2"));
    let both = good(&send(&bank, &[BATCH], batch).await);
    assert_eq!(both["events"][0]["repeated"], true);
    assert_eq!(both["events"][1]["repeated"], false);
    // Another source may use the same id; the same may not use it for something else.
    let other = first.replace("/tills", "/others");
    let told = good(&send(&bank, &[STRUCTURED], other).await);
    assert_eq!(told["events"][0]["repeated"], false);
    let other = first.replace("Opened", "Closed");
    let told = problem(&send(&bank, &[STRUCTURED], other).await, 409, "id-taken");
    assert_eq!(told["happened"], "no");
}

#[tokio::test]
async fn what_one_log_gives_another_one_takes() {
    let from = Bank::open().await;
    good(&from.deposit("a", 5).await);
    good(&from.deposit("a", 6).await);
    let path = "/events?until=head";
    let mut reader = crate::reader::Reader::open(&from.client.address(), path, &[]).await;
    let to = Bank::closed().await;
    let mut token = String::new();
    while let Some(sent) = reader.event().await {
        if sent.name == "message" {
            let reply = send(&to, &[STRUCTURED], sent.data.unwrap()).await;
            good(&reply);
            token = reply.header(TOKEN_HEADER).unwrap().to_owned();
        }
    }
    let mut expected = printed(&from, "account/a").await;
    let copied = printed(&to, "account/a").await;
    for (expected, copied) in expected.iter_mut().zip(&copied) {
        // The log records its own time, and keeps the former one.
        expected["originaltime"] = copied["originaltime"].clone();
        assert_eq!(copied, expected);
    }
    assert_eq!(copied.len(), 2);
    // Whoever has appended sees it in the views of a service that takes it over.
    to.start_service(EntityOptions::default()).await;
    let path = "/views/balances/of?account=account/a";
    let seen = [(TOKEN_HEADER, &*token)];
    assert_eq!(good(&to.get_with(path, &seen).await)["value"], 11);
}

/// Sends what `GET /events/{event}` gave in binary mode.
async fn send_on(reply: &Reply, to: &Bank) -> Value {
    let names = reply.headers.iter().map(|(name, _)| name.as_str());
    let names = names.filter(|name| name.starts_with("ce-") || *name == "content-type");
    let headers: Vec<_> = names
        .map(|name| (name, reply.header(name).unwrap()))
        .collect();
    good(&send(to, &headers, reply.body.clone()).await)
}

#[tokio::test]
async fn one_event_is_asked_for_by_its_id_or_position_and_another_log_takes_it_in_both_ways() {
    let from = Bank::open().await;
    let kinds: [(&str, &[u8]); 4] = [
        ("application/json", b"{\n  \"a\": 1.50 }\n"),
        ("image/png", b"\x89PNG\r\n\x1a\n"),
        ("text/plain; charset=ISO-8859-1", b"gr\xfc\xdfe"),
        ("application/json", b""),
    ];
    for (number, (kind, data)) in kinds.into_iter().enumerate() {
        let id = number.to_string();
        let mut headers = HEADERS.to_vec();
        headers.retain(|(name, _)| *name != "ce-id");
        headers.extend([("ce-id", &*id), ("content-type", kind)]);
        headers.extend([("ce-shop", "s%C3%B6der 5%25"), ("ce-dataset", "x")]);
        good(&send(&from, &headers, data).await);
    }
    let (structured, binary) = (Bank::open().await, Bank::open().await);
    for (number, (kind, data)) in kinds.into_iter().enumerate() {
        let reply = from.get(&format!("/events/0:{number}")).await;
        let event = good(&reply);
        assert_eq!(
            reply.header("content-type"),
            Some("application/cloudevents+json")
        );
        let id = event["id"].as_str().unwrap();
        assert_eq!(good(&from.get(&format!("/events/{id}")).await), event);
        good(&send(&structured, &[STRUCTURED], reply.body.clone()).await);

        let reply = from.get(&format!("/events/{id}?mode=binary")).await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, data));
        // Of JSON that is not there, no type is kept.
        let kind = (!data.is_empty()).then_some(kind);
        assert_eq!(reply.header("content-type"), kind);
        assert_eq!(reply.header("ce-shop"), Some("s%C3%B6der%205%25"));
        // Nobody's data is a page of this server.
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("content-disposition"), Some("attachment"));
        let told = send_on(&reply, &binary).await;
        assert_eq!(told["events"][0]["id"], id);
    }
    let without_former_times = |mut events: Vec<Value>| {
        events
            .iter_mut()
            .for_each(|event| event["originaltime"] = json!(null));
        events
    };
    let expected = without_former_times(printed(&from, "till/1").await);
    assert_eq!(expected.len(), 4);
    for copy in [structured, binary] {
        assert_eq!(
            without_former_times(printed(&copy, "till/1").await),
            expected
        );
    }
}

#[tokio::test]
async fn an_event_that_is_not_there_is_not_found() {
    let bank = Bank::open().await;
    good(&bank.deposit("a", 5).await);
    for absent in [
        "0:1",
        "0:18446744073709551615",
        "00000000-0000-0000-0000-000000000001",
    ] {
        problem(
            &bank.get(&format!("/events/{absent}")).await,
            404,
            "not-found",
        );
    }
    problem(&bank.get("/events/first").await, 400, "bad-parameters");
    problem(&bank.get("/events/7:0").await, 400, "bad-place");
    problem(
        &bank.get("/events/0:0?mode=both").await,
        400,
        "bad-parameters",
    );
}

#[tokio::test]
async fn what_is_no_cloud_event_is_refused_in_words_and_nothing_is_written() {
    let bank = Bank::open().await;
    let without = |name: &str| {
        let mut event = event("A-1", "till/1");
        event.as_object_mut().unwrap().remove(name);
        event.to_string()
    };
    let cases = [
        (STRUCTURED, without("id"), "`id` is missing"),
        (STRUCTURED, without("source"), "`source` is missing"),
        (STRUCTURED, without("subject"), "names the stream"),
        (
            STRUCTURED,
            without("specversion"),
            "`specversion` is missing",
        ),
        (STRUCTURED, event("A-1", "$owner/x").to_string(), "reserved"),
        (
            STRUCTURED,
            "[]".to_owned(),
            "send it as application/cloudevents-batch+json",
        ),
        (STRUCTURED, "{".to_owned(), "column"),
        (BATCH, "{}".to_owned(), "no array"),
        (BATCH, "[".repeat(100_000), "no array"),
        (
            BATCH,
            format!("[{},{{}}]", event("A-1", "a/b")),
            "event 1, column",
        ),
        (BATCH, format!("[{0},{0}]", event("A-1", "a/b")), ""),
    ];
    for (kind, body, words) in cases {
        let told = problem(&send(&bank, &[kind], body.clone()).await, 400, "bad-event");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{body}: {detail}");
        assert_eq!(told["happened"], "no");
    }
    for (name, value, words) in [
        ("ce-specversion", "0.3", "specversion"),
        ("ce-shop", "50%", "hexadecimal"),
        ("ce-data", "x", "the data is the body"),
        ("content-type", "application/json", "no JSON"),
    ] {
        let mut headers = HEADERS.to_vec();
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
        let told = problem(&send(&bank, &headers, "{").await, 400, "bad-event");
        assert!(told["detail"].as_str().unwrap().contains(words), "{told}");
    }
    for kind in ["application/json", "application/cloudevents+avro"] {
        let reply = send(&bank, &[("content-type", kind)], "{}").await;
        problem(&reply, 415, "not-a-cloud-event");
    }
    let large = vec![b' '; 5 << 20];
    problem(&send(&bank, &[STRUCTURED], large).await, 413, "too-large");
    let head = bank.log.head().await.unwrap();
    assert_eq!(head.iter().next(), None, "{head}");
}

#[tokio::test]
async fn a_batch_without_events_is_taken_and_appends_nothing() {
    let bank = Bank::open().await;
    let told = good(&send(&bank, &[BATCH], "[]").await);
    assert_eq!(told["events"], json!([]));
}

/// A client of a server whose log fails so.
async fn failing(outcomes: impl IntoIterator<Item = Option<AppendError>>) -> Client {
    let log = Arc::new(Failing::new(outcomes));
    let time = Time::of(&Env::os());
    let listener = Server::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::new(Arc::new(Fleet::new()), log, time.clone());
    tokio::spawn(server.serve(listener, std::future::pending()));
    Client::new(&url, time).unwrap()
}

fn away() -> AppendError {
    AppendError::Unavailable {
        reason: "the disk is away".to_owned(),
        retry_after: None,
    }
}

#[tokio::test]
async fn an_append_that_fails_says_whether_it_may_have_happened_and_when_to_come_again() {
    let reason = "no answer".to_owned();
    let client = failing([Some(away()), Some(AppendError::Unknown { reason })]).await;
    let event = event("A-1", "till/1").to_string();
    for (status, code, happened) in [(503, "unavailable", "no"), (504, "unknown", "maybe")] {
        let reply = send_by(&client, &[STRUCTURED], event.clone()).await;
        assert_eq!(problem(&reply, status, code)["happened"], happened);
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    good(&send_by(&client, &[STRUCTURED], event).await);
}

#[tokio::test]
async fn what_is_new_in_a_batch_is_written_whole_or_not_at_all() {
    // The first event; the batch, which is refused because of it; the first once more; the rest.
    let client = failing([None, None, None, Some(away())]).await;
    let first = event("A-1", "till/1").to_string();
    good(&send_by(&client, &[STRUCTURED], first.clone()).await);
    let rest = [event("A-2", "till/1"), event("A-3", "till/1")];
    let batch = format!("[{first},{},{}]", rest[0], rest[1]);
    let reply = send_by(&client, &[BATCH], batch.clone()).await;
    let told = problem(&reply, 503, "unavailable");
    assert_eq!(told["happened"], "no");
    let all = good(&send_by(&client, &[BATCH], batch).await);
    let all = all["events"].as_array().unwrap();
    let versions: Vec<_> = all.iter().map(|event| event["version"].as_u64()).collect();
    assert_eq!(versions, [Some(0), Some(1), Some(2)]);
    let repeated: Vec<_> = all.iter().map(|event| event["repeated"] == true).collect();
    assert_eq!(repeated, [true, false, false]);
}

#[tokio::test]
async fn what_a_service_owns_takes_events_with_its_lease_only() {
    let bank = Bank::open().await;
    let wanted = json!({"service": {"name": "tills", "owns": ["till"]}}).to_string();
    let path = "/anabranch.registry.v1.RegistryService/RegisterService";
    let lease = good(&bank.post(path, &wanted).await);
    let lease = lease["lease"]["token"].as_str().unwrap();
    let event = event("A-1", "till/1").to_string();
    let refused = send(&bank, &[STRUCTURED], event.clone()).await;
    let told = problem(&refused, 403, "not-owner");
    assert!(told["detail"].as_str().unwrap().contains("tills"), "{told}");
    let with = [STRUCTURED, ("anabranch-lease", lease)];
    good(&send(&bank, &with, event).await);
}

#[tokio::test]
async fn a_program_whose_log_another_one_serves_appends_nothing_for_others() {
    let bank = Bank::open_with(EntityOptions::default(), Server::without_log).await;
    let event = event("A-1", "till/1").to_string();
    problem(
        &send(&bank, &[STRUCTURED], event).await,
        405,
        "wrong-method",
    );
    assert_eq!(bank.get("/events?until=head").await.status.as_u16(), 200);
}
