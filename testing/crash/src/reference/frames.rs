//! The file of the reference log: a header, then frames.

use std::io;
use std::sync::Arc;

use anabranch_model::record::{self, Records};
use anabranch_model::{Event, Position, Version};

use super::bug::Bug;

const MAGIC: u32 = 0x7265_6631;
const HEADER_BYTES: usize = 16;
const FRAME_HEAD_BYTES: usize = 28;

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, &byte| {
            let mixed = (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ (mixed >> 29)
        })
}

pub(super) fn header(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let check = hash(0, &bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    bytes
}

/// One frame: magic, length, first position, count, time, records, hash.
pub(super) fn put_frame(out: &mut Vec<u8>, number: u64, events: &[Event]) -> io::Result<()> {
    let Some(first) = events.first() else {
        return Ok(());
    };
    let mut news = Vec::new();
    for event in events {
        news.push(as_new(event)?);
    }
    let versions: Vec<Version> = events.iter().map(|event| event.version).collect();
    let mut body = Vec::new();
    record::encode(&mut body, &news, &versions);
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&first.position.offset.to_le_bytes());
    out.extend_from_slice(&(events.len() as u32).to_le_bytes());
    out.extend_from_slice(&first.recorded_at.to_le_bytes());
    out.extend_from_slice(&body);
    let check = hash(number, &out[start..]);
    out.extend_from_slice(&check.to_le_bytes());
    Ok(())
}

pub(super) fn as_new(event: &Event) -> io::Result<anabranch_model::NewEvent> {
    let invalid = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let event_type = anabranch_model::EventType::new(event.event_type());
    let meta = event.meta();
    let meta = if meta.is_empty() {
        None
    } else {
        Some(Arc::new(meta.decode().map_err(|e| invalid(&e))?))
    };
    Ok(anabranch_model::NewEvent {
        id: event.id,
        stream: event.stream_id(),
        event_type: event_type.map_err(|e| invalid(&e))?,
        schema_version: event.schema_version,
        data: event.data_bytes(),
        meta,
    })
}

/// The events of all frames up to the first that is not as it should be.
pub(super) fn read_frames(bytes: &[u8], bug: Option<Bug>) -> Vec<Event> {
    let mut events = Vec::new();
    let word = |at: usize| -> Option<u64> {
        let part = bytes.get(at..at + 8)?;
        Some(u64::from_le_bytes(part.try_into().ok()?))
    };
    let half = |at: usize| -> Option<u32> {
        let part = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(part.try_into().ok()?))
    };
    let number = word(0).filter(|_| word(8).is_some_and(|h| h == hash(0, &bytes[..8])));
    let Some(number) = number else {
        return events;
    };
    let mut at = HEADER_BYTES;
    let frame = |at: usize, next: u64| -> Option<(usize, Vec<Event>)> {
        let len = half(at + 4)? as usize;
        let body_end = (at + FRAME_HEAD_BYTES).checked_add(len)?;
        let check = word(body_end)?;
        let hash_fits =
            bug == Some(Bug::SkipHash) || check == hash(number, bytes.get(at..body_end)?);
        if half(at)? != MAGIC || !hash_fits || word(at + 8)? != next {
            return None;
        }
        let body = bytes.get(at + FRAME_HEAD_BYTES..body_end)?;
        let records = Records::new(body, Position::at(next), word(at + 20)?);
        let events = records.map(|r| r.ok().map(|event| event.to_event()));
        let events = events.collect::<Option<Vec<Event>>>()?;
        (events.len() == half(at + 16)? as usize).then_some((body_end + 8, events))
    };
    while let Some((next, batch)) = frame(at, events.len() as u64) {
        events.extend(batch);
        at = next;
    }
    events
}
