//! Whoever may not read a stream learns by an append no more of it than by a read.

use std::sync::Arc;

use anabranch_access::Key;
use anabranch_log::{Append, AppendError, Condition, Expect, Log, Rejection};
use anabranch_log_remote::RemoteLog;
use anabranch_model::{Cut, EventId, Query, QueryItem, StreamId};
use anabranch_server::client::{Method, Reply};
use futures_executor::block_on;
use serde_json::{Value, json};

use crate::private::{Backbone, event, gauges, measured, other, register};

fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

/// An append of one event on these conditions.
fn on(number: u128, to: &str, conditions: &[(&str, Expect)]) -> Append {
    let append = Append::event(event(number, to, "T"));
    let all = conditions.iter();
    all.fold(append, |append, (of, expect)| {
        append.expect(stream(of), *expect)
    })
}

fn refused(log: &RemoteLog, append: Append) -> AppendError {
    block_on(log.append(append)).unwrap_err()
}

/// Sends an append by JSON.
fn by_json(backbone: &Backbone, key: &Key, body: &Value) -> Reply {
    let path = "/anabranch.log.v1.LogService/Append";
    backbone.send(Method::Post, path, &[], &body.to_string(), Some(key))
}

/// Three notes, which one key may append to and not read, and another one may both.
fn notes() -> (Backbone, Key, Key) {
    let backbone = Backbone::asking();
    let writer = backbone.key(&["append:note", "append:free", "read:free"]);
    let reader = backbone.key(&["append:note", "read:note"]);
    let notes: Vec<_> = (1..4).map(|number| event(number, "note/1", "T")).collect();
    block_on(backbone.log.append(Append::events(notes))).unwrap();
    (backbone, writer, reader)
}

#[test]
fn a_conflict_tells_how_a_stream_is_to_who_may_read_it_alone() {
    let (backbone, writer, reader) = notes();
    let wrong = [("note/1", Expect::At(7))];
    let error = refused(&backbone.program(Some(reader)), on(10, "note/1", &wrong));
    assert!(
        matches!(
            &error,
            AppendError::Conflict {
                actual: Some(2),
                ..
            }
        ),
        "{error}"
    );
    let error = refused(
        &backbone.program(Some(writer.clone())),
        on(10, "note/1", &wrong),
    );
    let untold = AppendError::Untold {
        stream: stream("note/1"),
        expected: Expect::At(7),
    };
    assert_eq!((error.code(), &error), ("conflict", &untold));
    // The same to who sends one by itself.
    let body = json!({
        "events": [{"id": EventId::from_u128(10).to_string(), "stream": "note/1", "type": "T", "text": "{}"}],
        "conditions": [{"stream": {"stream": "note/1", "expect": {"at": "7"}}}],
    });
    let reply = by_json(&backbone, &writer, &body).json();
    assert_eq!(reply["code"], "failed_precondition", "{reply}");
    let told = &reply["details"][0]["debug"];
    assert_eq!(told["code"], "conflict", "{reply}");
    assert_eq!(told["conflict"]["untold"], true, "{reply}");
    assert_eq!(told["conflict"].get("actual"), None, "{reply}");
    assert!(!told["message"].as_str().unwrap().contains("version 2"));
}

#[test]
fn which_condition_does_not_hold_is_not_told_where_one_is_of_what_may_not_be_read() {
    let (backbone, writer, _) = notes();
    let writer = backbone.program(Some(writer));
    let with = |version, free| {
        let conditions = [("free/1", free), ("note/1", Expect::At(version))];
        let error = refused(&writer, on(10, "note/1", &conditions));
        let AppendError::Untold { stream, .. } = error else {
            panic!("{error}");
        };
        stream
    };
    // That it is at 2 must not come out of it.
    assert_eq!(with(2, Expect::Exists), with(5, Expect::Empty));
}

#[test]
fn a_condition_on_what_may_not_be_read_is_refused_whether_or_not_it_holds() {
    let backbone = Backbone::open();
    let (owner, reader) = (backbone.program(None), backbone.program(None));
    let _gauges = register(&owner, gauges()).unwrap();
    let _reader = register(&reader, other("reader", &["news"])).unwrap();
    block_on(owner.append(measured(1))).unwrap();
    let mut told = Vec::new();
    for (number, expect) in [Expect::At(1), Expect::At(7), Expect::Exists, Expect::Empty]
        .into_iter()
        .enumerate()
    {
        let append = on(20 + number as u128, "free/1", &[("gauge/1", expect)]);
        told.push(refused(&reader, append).to_string());
    }
    let words = "service reader reads gauge, which is private to service gauges";
    assert!(told[0].contains(words), "{}", told[0]);
    assert!(told.iter().all(|words| *words == told[0]), "{told:?}");
    for event_type in ["Shown", "NeverSaid"] {
        let item = QueryItem {
            types: vec![event_type.parse().unwrap()],
            ..QueryItem::default()
        };
        let mut append = on(30, "free/1", &[]);
        append.conditions.push(Condition::NoMatch {
            query: Query { items: vec![item] },
            after: Cut::start(),
        });
        let error = refused(&reader, append);
        assert!(error.to_string().contains(words), "{error}");
    }
    // Its owner asks for it, and so does who is no service.
    for (number, log) in [(40, &owner), (41, &backbone.program(None))] {
        block_on(log.append(on(number, "free/1", &[("gauge/1", Expect::At(1))]))).unwrap();
    }
    block_on(reader.append(on(42, "free/1", &[("news/1", Expect::At(0))]))).unwrap();
}

#[test]
fn where_an_event_stands_that_has_the_id_is_told_to_who_may_read_it_alone() {
    let (backbone, writer, reader) = notes();
    let taken = |key: &Key, to: &str| {
        let program = backbone.program(Some(key.clone()));
        let error = refused(&program, on(2, to, &[]));
        assert_eq!(error.code(), "id-taken");
        error
    };
    let error = taken(&reader, "note/2");
    assert!(
        matches!(error, AppendError::Rejected(Rejection::IdTaken { .. })),
        "{error}"
    );
    let id = EventId::from_u128(2);
    let untold = AppendError::Rejected(Rejection::IdUntold { id });
    assert_eq!(taken(&writer, "free/1"), untold);
    // As a CloudEvent, whose id is made of these two.
    let noted = |to: &str| json!({"specversion": "1.0", "id": "7", "source": "/t", "type": "T", "subject": to});
    let kind = [("content-type", "application/cloudevents+json")];
    let first = noted("note/3").to_string();
    let reply = backbone.send(Method::Post, "/events", &kind, &first, Some(&writer));
    assert_eq!(reply.status, 200);
    let event = noted("free/1");
    let reply = backbone.send(
        Method::Post,
        "/events",
        &kind,
        &event.to_string(),
        Some(&writer),
    );
    let problem = reply.json();
    assert_eq!(
        (reply.status.as_u16(), &problem["code"]),
        (409, &json!("id-taken"))
    );
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.ends_with("by a different event; an id names one event for ever"),
        "{detail}"
    );
}

#[test]
fn where_an_event_stands_is_found_by_who_may_read_it_alone() {
    let (backbone, writer, reader) = notes();
    for (key, is_found) in [(writer, false), (reader, true)] {
        let found = block_on(backbone.program(Some(key)).find(EventId::from_u128(2)));
        assert_eq!(found.unwrap().is_some(), is_found);
    }
}

#[test]
fn where_a_private_append_stands_is_told_to_who_was_its_owner_and_not_to_who_repeats_it() {
    let backbone = Backbone::asking();
    let key = backbone.key(&["read:*", "append:*", "operate:$*"]);
    let owner = backbone.program(Some(key.clone()));
    let lease = register(&owner, gauges()).unwrap();
    let first = block_on(owner.append(measured(1))).unwrap();
    // All of it is known to somebody who may append to the same category.
    let stranger = backbone.key(&["read:*", "append:*"]);
    let stranger = backbone.program(Some(stranger));
    let not_owner = |log: &RemoteLog, append| {
        let error = refused(log, append);
        assert_eq!(error.code(), "not-owner", "{error}");
        error.to_string()
    };
    let known = not_owner(&stranger, measured(1));
    assert_eq!(known, not_owner(&stranger, measured(101)));
    // Its own next process has followed, and it has heard no answer.
    let mut again = gauges();
    again.secret = Some(lease.secret().to_owned());
    let next = backbone.program(Some(key));
    let _next = register(&next, again).unwrap();
    let repeated = block_on(owner.append(measured(1))).unwrap();
    assert!(repeated.repeated);
    assert_eq!(repeated.places, first.places);
    not_owner(&owner, measured(101));
}

#[test]
fn who_is_refused_a_condition_is_written_down() {
    let backbone = Backbone::asking();
    let blind = backbone.key(&["append:free"]);
    let blind = backbone.program(Some(blind));
    refused(&blind, on(1, "free/1", &[("note/1", Expect::Exists)]));
    let log: Arc<dyn Log> = backbone.log.clone();
    // The server writes what it has gathered before it ends.
    drop(backbone);
    let said = crate::private::audited(&*log);
    assert!(said.contains("\"note\""), "{said}");
}
