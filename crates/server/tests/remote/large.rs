use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{Append, AppendError, Log as _, MemoryLog, Rejection};
use anabranch_log_remote::{Options, RemoteLog};
use anabranch_model::{EventId, Meta, NewEvent, StreamId};
use futures_executor::block_on;

use crate::support::Served;

/// So many events, each with as many headers as it may have.
fn headers(events: u128) -> Append {
    let letters = || 'a'..='z';
    let names = letters().flat_map(move |a| {
        letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}")))
    });
    let headers = names.take((16 << 10) / 3).map(|name| (name, String::new()));
    let meta = Arc::new(Meta {
        headers: headers.collect(),
        ..Meta::default()
    });
    let event = |number| NewEvent {
        meta: Some(meta.clone()),
        ..small(number)
    };
    Append::events((1..=events).map(event).collect::<Vec<_>>())
}

fn small(number: u128) -> NewEvent {
    NewEvent::new(
        EventId::from_u128(number),
        StreamId::new("order/1").unwrap(),
        "OrderPlaced".parse().unwrap(),
        "{}",
    )
}

fn open() -> (Served, RemoteLog) {
    let server = Served::start(Arc::new(MemoryLog::new(Env::os())));
    let remote = RemoteLog::open(&server.url(), Options::default()).unwrap();
    (server, remote)
}

#[test]
fn an_append_with_more_headers_than_the_server_has_room_for_is_refused_by_name() {
    let (_server, remote) = open();
    let refused = block_on(remote.append(headers(200))).unwrap_err();
    let AppendError::Rejected(Rejection::Other(reason)) = refused else {
        panic!("{refused}");
    };
    assert!(reason.contains("headers, tags and causes"), "{reason}");
    block_on(remote.append(Append::event(small(1)))).unwrap();
}

#[test]
fn an_append_with_as_many_headers_as_the_server_has_room_for_is_appended() {
    let (_server, remote) = open();
    let appended = block_on(remote.append(headers(140))).unwrap();
    assert_eq!(appended.places.len(), 140);
}
