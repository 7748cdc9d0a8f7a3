//! Values for the cases, made so that a mistake in a case is loud.

use bytes::Bytes;

use anabranch_model::{EventId, EventType, Filter, NewEvent, Query, QueryItem, StreamId};

use crate::Placed;

/// An event that was acknowledged, and where.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub new: NewEvent,
    pub placed: Placed,
}

pub(super) fn stream(name: &str) -> StreamId {
    StreamId::system(name).unwrap_or_else(|error| panic!("a case uses a bad name: {error}"))
}

pub(super) fn kind(name: &str) -> EventType {
    EventType::new(name).unwrap_or_else(|error| panic!("a case uses a bad name: {error}"))
}

pub(super) fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

pub(super) fn kinds(names: &[&str]) -> Vec<EventType> {
    names.iter().map(|name| kind(name)).collect()
}

pub(super) fn item(types: &[&str], tags: &[&str]) -> QueryItem {
    QueryItem {
        types: kinds(types),
        tags: texts(tags),
    }
}

pub(super) fn query(items: Vec<QueryItem>) -> Query {
    Query { items }
}

pub(super) fn tagged(tags: &[&str]) -> Filter {
    Filter {
        tags: texts(tags),
        ..Filter::all()
    }
}

pub(super) fn typed(types: &[&str]) -> Filter {
    Filter {
        types: kinds(types),
        ..Filter::all()
    }
}

/// Gives `event` data that are any bytes, and says so.
pub(super) fn set_bytes(event: &mut NewEvent, data: impl Into<Bytes>) {
    event.data = data.into();
    event.meta_mut().content_type = Some("application/octet-stream".to_owned());
}

/// The `n`th id of a seed: version 7, growing with `n`.
pub(super) fn id(seed: u64, n: u64) -> EventId {
    let spread = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    EventId::v7(1_700_000_000_000 + n, u128::from(seed) << 32 ^ spread)
}
