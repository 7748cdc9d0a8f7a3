//! Appends to several partitions: all of their parts are written, or none is.
//!
//! Such an append has its partitions for itself (`held.rs`), so it knows where its events will
//! stand. What is to be written is *decided* by an event in a log beside the partitions; then the
//! parts are written, side by side. Each part depends on the others. So a closed cut has all of
//! them or none, and a reader is given all of them or none.
//!
//! What was decided is written, whatever happens: by whoever comes next, also after a crash. The
//! ids of the events say what is there already.

use std::sync::Arc;

use anabranch_model::record::{decode_new, encode_new};
use anabranch_model::{Cut, EventId, EventType, NewEvent, PartitionId, StreamId, content_hash};
use bytes::Bytes;

use super::at_once::{at_once, not_here};
use crate::contract::{Append, Log, Order, VersionRange};
use crate::error::ReadError;

/// The category of decisions; the key is the first partition.
const CATEGORY: &str = "$together";
const DECIDED: &str = "Decided";
const CONTENT_TYPE: &str = "application/octet-stream";
/// Before its bytes an event has its number and how many there are, little-endian.
const HEADER_BYTES: usize = 8;
/// The version of the form of decisions.
const FORMAT: u32 = 1;

/// What is written to several partitions.
#[derive(Debug, Clone)]
pub(super) struct Together {
    /// By ascending partition.
    pub parts: Vec<Part>,
    /// All that it depends on, and itself: closed.
    pub closure: Cut,
}

/// What of it is written to one partition.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub partition: usize,
    /// Where its first event will stand.
    pub start: u64,
    /// What is stored of its causes.
    pub delta: Cut,
    pub events: Vec<NewEvent>,
}

impl Part {
    /// Behind its last event.
    pub fn end(&self) -> u64 {
        self.start + self.events.len() as u64
    }

    pub fn last(&self) -> EventId {
        let last = self.events.last().map(|event| event.id);
        last.unwrap_or(EventId::from_u128(0))
    }
}

impl Together {
    pub fn partitions(&self) -> Vec<usize> {
        self.parts.iter().map(|part| part.partition).collect()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        for part in &self.parts {
            let mut body = Vec::new();
            encode_new(&mut body, &part.events);
            bytes.extend_from_slice(&(part.partition as u32).to_le_bytes());
            bytes.extend_from_slice(&part.start.to_le_bytes());
            bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    fn decode(mut bytes: Bytes) -> Option<Self> {
        fn number<const N: usize>(bytes: &mut Bytes) -> Option<[u8; N]> {
            let taken = (bytes.len() >= N).then(|| bytes.split_to(N))?;
            taken.as_ref().try_into().ok()
        }
        if u32::from_le_bytes(number(&mut bytes)?) != FORMAT {
            return None;
        }
        let (mut parts, mut closure) = (Vec::new(), Cut::start());
        while !bytes.is_empty() {
            let partition = u32::from_le_bytes(number(&mut bytes)?) as usize;
            let start = u64::from_le_bytes(number(&mut bytes)?);
            let len = usize::try_from(u64::from_le_bytes(number(&mut bytes)?)).ok()?;
            let body = (bytes.len() >= len).then(|| bytes.split_to(len))?;
            let events = decode_new(&body, &mut usize::MAX.clone(), |_| 0).ok()?;
            let meta = events.first().and_then(|event| event.meta.as_deref());
            let delta = meta.map(|meta| meta.causes.clone()).unwrap_or_default();
            let part = Part {
                partition,
                start,
                delta,
                events,
            };
            closure.join(&part.delta);
            closure.set(PartitionId(partition as u32), part.end());
            parts.push(part);
        }
        (!parts.is_empty()).then_some(Self { parts, closure })
    }

    /// What decides on it: so many events as its bytes need.
    pub fn decision(&self, data_bytes_max: usize) -> Option<Append> {
        let bytes = Bytes::from(self.encode());
        let first = self.parts.first()?.partition;
        let stream = StreamId::system(format!("{CATEGORY}/{first}")).ok()?;
        let event_type = EventType::new(DECIDED).ok()?;
        // The same decision has the same ids.
        let id = content_hash([&bytes[..]]);
        let room = data_bytes_max.saturating_sub(HEADER_BYTES).max(1);
        let count = bytes.len().div_ceil(room);
        let event = |number: usize| {
            let mut data = Vec::new();
            data.extend_from_slice(&(number as u32).to_le_bytes());
            data.extend_from_slice(&(count as u32).to_le_bytes());
            let end = bytes.len().min((number + 1) * room);
            data.extend_from_slice(&bytes[number * room..end]);
            let id = EventId::from_u128(id.wrapping_add(number as u128));
            let mut event = NewEvent::new(id, stream.clone(), event_type.clone(), data);
            event.meta_mut().content_type = Some(CONTENT_TYPE.to_owned());
            event
        };
        Some(Append::events((0..count).map(event).collect::<Vec<_>>()))
    }

    /// The last decision whose first partition is this, if there was one.
    fn last_of(decisions: &dyn Log, first: usize) -> Result<Option<Self>, ReadError> {
        let invalid = |what: &str| {
            ReadError::Invalid(format!(
                "the decision on an append to partition {first} and others {what}"
            ))
        };
        let stream = StreamId::system(format!("{CATEGORY}/{first}"));
        let stream = stream.map_err(|error| ReadError::Invalid(error.to_string()))?;
        let mut events = decisions.read_stream(&stream, VersionRange::ALL, Order::Backward);
        let mut pieces = Vec::new();
        loop {
            let next = at_once(events.next()).unwrap_or_else(|| Some(Err(not_here())));
            let Some(event) = next else {
                return match pieces.is_empty() {
                    true => Ok(None),
                    false => Err(invalid("lacks its beginning")),
                };
            };
            let event = event?;
            let data = event.as_ref().data;
            let number = data.get(..4).and_then(|number| number.try_into().ok());
            let number = number.map(u32::from_le_bytes);
            let piece = data.get(HEADER_BYTES..);
            let (Some(number), Some(piece)) = (number, piece) else {
                return Err(invalid("is too short"));
            };
            pieces.push(piece.to_vec());
            if number == 0 {
                break;
            }
        }
        pieces.reverse();
        let decoded = Self::decode(Bytes::from(pieces.concat()));
        decoded
            .map(Some)
            .ok_or_else(|| invalid("cannot be read; a newer version may have made it"))
    }

    /// What was decided on and is not whole in the partitions.
    pub fn undone(
        decisions: &dyn Log,
        parts: &[Arc<dyn Log>],
    ) -> Result<Vec<Arc<Self>>, ReadError> {
        let mut undone = Vec::new();
        for first in 0..parts.len() {
            let Some(together) = Self::last_of(decisions, first)? else {
                continue;
            };
            let (mut there, mut missing, mut fits) = (false, false, true);
            for part in &together.parts {
                let log = parts.get(part.partition).ok_or_else(|| {
                    ReadError::Invalid(format!(
                        "an append was decided on to partition {}, which is not there",
                        part.partition
                    ))
                })?;
                let found = at_once(log.find(part.last())).transpose()?.flatten();
                if found.is_some() {
                    there = true;
                    continue;
                }
                let head = at_once(log.head()).unwrap_or_else(|| Err(not_here()))?;
                missing = true;
                fits &= head.get(PartitionId(0)) == part.start;
            }
            // The partitions may be an older copy than the decision: then it is of no use to them.
            if missing && (there || fits) {
                undone.push(Arc::new(together));
            }
        }
        Ok(undone)
    }
}
