//! The words of Anabranch as types: ids, events, positions, cuts.
//!
//! An [`Event`] is an immutable fact of one stream. It stands at a [`Version`] in its
//! stream and at a [`Position`] in the log. A [`Cut`] is a set of events: for each
//! partition, how many of its first events are included.
//!
//! This crate does no I/O, reads no clock and draws no random number.

mod batch;
mod command_id;
mod cut_map;
mod event;
mod filter;
mod json;
mod json_text;
mod limits;
mod meta;
mod name;
mod place;
pub mod record;
mod token;
mod token_error;
mod varint;
mod words;

pub use batch::{Block, BlockEntry, EventBatch, EventBatchIntoIter, EventBatchIter, Reach};
pub use command_id::{CommandId, content_hash};
pub use cut_map::CutMap;
pub use event::{Event, EventRef, NewEvent};
pub use filter::{Filter, Query, QueryItem};
pub use json::{
    ATTRIBUTES, HEADERS, is_json_media_type, is_json_too_deep, rfc3339, to_cloud_event, uri_part,
    write_cloud_event,
};
pub use json_text::{JSON_DEPTH_MAX, JsonTextError, check_json};
pub use limits::{LimitError, Limits};
pub use meta::{Meta, MetaRef};
pub use name::{EventId, EventType, NameError, StreamId};
pub use place::{Cut, ParsePositionError, PartitionId, Position, Version};
pub use token::{Session, TOKEN_CHARS_MAX, TokenKey, TokenSeal};
pub use token_error::TokenError;
