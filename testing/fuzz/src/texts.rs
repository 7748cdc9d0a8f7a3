//! What comes over a socket, and the records that stand in frames.

use anabranch_event_json::Parsed;
use anabranch_model::record::Records;
use anabranch_model::{
    CommandId, Cut, Event, EventId, EventType, Limits, Position, StreamId, TokenKey, TokenSeal,
    check_json, to_cloud_event,
};
use anabranch_wire as wire_types;
use serde::Serialize;
use serde::de::DeserializeOwned;


/// The records of a frame's body; what reads is printed as well.
pub fn record(data: &[u8]) {
    for record in Records::new(data, Position::at(u64::MAX - 3), 7) {
        let Ok(event) = record else { return };
        let (_, _, _) = (event.category(), event.key(), event.meta.content_type());
        let _ = event.meta.tags().count();
        let owned = event.to_event();
        assert_eq!(owned.as_ref(), event);
        if let Ok(line) = to_cloud_event(&event) {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(value.is_object(), "{line}");
        }
    }
}

/// A token that a client hands back.
pub fn token(data: &[u8]) {
    let seal = TokenSeal::new(
        7,
        3,
        TokenKey {
            id: 1,
            secret: [1; 32],
        },
    );
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(session) = seal.open(text) {
        assert_eq!(seal.seal(&session), text, "two texts are one token");
    }
}

/// Data that is called JSON.
pub fn json_text(data: &[u8]) {
    let ours = check_json(data);
    let theirs = serde_json::from_slice::<serde_json::Value>(data);
    if ours.is_ok() != theirs.is_ok() {
        // serde_json reads no deeper than 127 levels; ours is 128.
        // Nor numbers and halves of surrogate pairs that Rust has no type for.
        let theirs = theirs.map_or_else(|e| e.to_string(), |_| String::new());
        let why = ["recursion limit", "out of range", "surrogate", "hex escape"];
        assert!(
            why.iter().any(|why| theirs.contains(why)),
            "{}: {ours:?}",
            data.escape_ascii()
        );
    }
}

/// Names, ids and places as texts.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(stream) = StreamId::new(text) {
        assert_eq!(format!("{}/{}", stream.category(), stream.key()), text);
    }
    if let Ok(kind) = EventType::new(text) {
        assert_eq!(kind.as_str(), text);
    }
    if let Ok(id) = text.parse::<EventId>() {
        assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
    }
    if let Ok(id) = text.parse::<CommandId>() {
        assert_eq!(id.to_string().parse::<CommandId>(), Ok(id));
    }
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string().parse::<Position>(), Ok(position));
    }
    same_again::<Cut>(data);
    if let Some(cut) = anabranch_event_json::parse_cut(text) {
        assert_eq!(anabranch_event_json::parse_cut(&cut.to_string()), Some(cut));
    }
}

/// Requests and answers.
pub fn wire(data: &[u8]) {
    same_again::<wire_types::CommandBody>(data);
    same_again::<wire_types::CommandOutcome>(data);
    same_again::<wire_types::Problem>(data);
    same_again::<wire_types::QueryAnswer>(data);
    same_again::<wire_types::Entity>(data);
    same_again::<wire_types::History>(data);
    same_again::<wire_types::Process>(data);
    same_again::<wire_types::Instance>(data);
    same_again::<wire_types::SettleStep>(data);
    same_again::<wire_types::ServiceLetter>(data);
    same_again::<wire_types::RetryLetters>(data);
    same_again::<wire_types::Service>(data);
    same_again::<wire_types::ServiceCircuit>(data);
    same_again::<wire_types::LiveRequest>(data);
    same_again::<wire_types::LiveMessage>(data);
    same_again::<wire_types::PeerCommand>(data);
    same_again::<wire_types::PeerDelivered>(data);
    same_again::<wire_types::PeerAnswer>(data);
    same_again::<wire_types::PeerForget>(data);
    same_again::<wire_types::PeerQuery>(data);
    same_again::<wire_types::EventsAppended>(data);
    same_again::<wire_types::Version>(data);
}

/// A line of a file to import. What a log takes of it is printed so that it reads as the same
/// event.
pub fn import_line(data: &[u8]) {
    let derived = EventId::from_u128(7);
    // By HTTP the same comes, and has to say which event it is.
    drop(anabranch_event_json::parse_cloud_event(data));
    let Ok(Parsed::Event(line)) = anabranch_event_json::parse(data, derived) else {
        return;
    };
    let event = line.event;
    if Limits::default()
        .check(std::slice::from_ref(&event))
        .is_err()
    {
        return;
    }
    let stored = Event::stored(&event, Position::at(7), 3, 5);
    let printed = to_cloud_event(&stored.as_ref()).unwrap();
    let again = match anabranch_event_json::parse(printed.as_bytes(), derived) {
        Ok(Parsed::Event(again)) => again.event,
        other => panic!("{printed}: {other:?}"),
    };
    assert_eq!(again.id, event.id, "{printed}");
    assert_eq!(again.stream, event.stream, "{printed}");
    assert_eq!(again.event_type, event.event_type, "{printed}");
    assert_eq!(again.schema_version, event.schema_version, "{printed}");
    assert_eq!(again.data, event.data, "{printed}");
    let (again, meta) = (
        again.meta.unwrap_or_default(),
        event.meta.unwrap_or_default(),
    );
    assert_eq!(again.source, meta.source, "{printed}");
    assert_eq!(again.tags, meta.tags, "{printed}");
    assert_eq!(again.causes, meta.causes, "{printed}");
    assert_eq!(again.correlation_id, meta.correlation_id, "{printed}");
}

/// What reads is written so that it reads as the same.
pub(crate) fn same_again<T>(data: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    if let Ok(value) = serde_json::from_slice::<T>(data) {
        let text = serde_json::to_vec(&value).unwrap();
        let again: T = serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", text.escape_ascii()));
        assert_eq!(again, value);
    }
}
