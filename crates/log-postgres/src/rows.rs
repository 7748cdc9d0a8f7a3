//! Rows as events.

use std::ops::Range;
use std::sync::Arc;

use anabranch_model::record::{encode_meta, encode_stored};
use anabranch_model::{
    Block, BlockEntry, Cut, Event, EventBatch, EventId, EventRef, Filter, Meta, MetaRef,
    PartitionId, Position,
};
use bytes::Bytes;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

/// The columns that [`Stored`] reads.
pub const COLUMNS: &str = r#"partition, "offset", append, appended, version, recorded_at,
    schema_version, id, stream, event_type, causes, meta, data"#;

/// A row of the table of events.
pub struct Stored<'a> {
    /// Where it stands.
    pub position: Position,
    /// The offset of the first event of its append.
    pub append: u64,
    /// Behind the last event of its append.
    pub append_end: u64,
    version: u64,
    recorded_at: u64,
    schema_version: u32,
    id: EventId,
    stream: &'a str,
    event_type: &'a str,
    meta: AllMeta<'a>,
    data: &'a [u8],
}

/// Metadata with the causes that are kept beside it.
enum AllMeta<'a> {
    Kept(&'a [u8]),
    Joined(Vec<u8>),
}

impl<'a> Stored<'a> {
    /// Reads a row.
    pub fn of(row: &'a Row) -> Result<Self, Error> {
        let number = |at: usize| row.try_get::<_, i64>(at).map(|number| number as u64);
        let append = number(2)?;
        let meta: &[u8] = row.try_get::<_, Option<_>>(11)?.unwrap_or_default();
        let meta = match row.try_get::<_, Option<Vec<i64>>>(10)? {
            None => AllMeta::Kept(meta),
            Some(causes) => {
                let mut cut = Cut::start();
                for pair in causes.chunks_exact(2) {
                    cut.set(PartitionId(pair[0] as u32), pair[1] as u64);
                }
                let mut joined = meta.to_vec();
                let only = Meta {
                    causes: cut,
                    ..Meta::default()
                };
                // Causes are the last of all fields.
                encode_meta(&only, &mut joined);
                AllMeta::Joined(joined)
            }
        };
        Ok(Self {
            position: Position {
                partition: PartitionId(row.try_get::<_, i32>(0)? as u32),
                offset: number(1)?,
            },
            append,
            append_end: append + row.try_get::<_, i32>(3)? as u64,
            version: number(4)?,
            recorded_at: number(5)?,
            schema_version: number(6)? as u32,
            id: EventId::from_u128(row.try_get::<_, Uuid>(7)?.as_u128()),
            stream: row.try_get(8)?,
            event_type: row.try_get(9)?,
            meta,
            data: row.try_get(12)?,
        })
    }

    fn event(&self) -> EventRef<'_> {
        EventRef {
            position: self.position,
            version: self.version,
            id: self.id,
            recorded_at: self.recorded_at,
            stream: self.stream,
            event_type: self.event_type,
            schema_version: self.schema_version,
            data: self.data,
            meta: MetaRef::of_encoded(match &self.meta {
                AllMeta::Kept(bytes) => bytes,
                AllMeta::Joined(bytes) => bytes,
            }),
        }
    }
}

/// Rows of a partition, ascending, as a batch that reaches over `offsets`.
pub fn block(
    stored: &[Stored<'_>],
    partition: PartitionId,
    offsets: Range<u64>,
    filter: Option<Arc<Filter>>,
) -> EventBatch {
    let mut bytes = Vec::new();
    let mut entries: Vec<BlockEntry> = Vec::new();
    let mut before: Option<&Stored<'_>> = None;
    for row in stored {
        let goes_on = before.is_some_and(|before| {
            before.append == row.append && before.position.offset + 1 == row.position.offset
        });
        let start = bytes.len();
        let prior = before.filter(|_| goes_on).map(Stored::event);
        encode_stored(&mut bytes, prior.as_ref(), &row.event());
        let len = (bytes.len() - start) as u32;
        match entries.last_mut() {
            Some(entry) if goes_on => {
                entry.count += 1;
                entry.len += len;
            }
            _ => entries.push(BlockEntry {
                first: row.position.offset,
                append: row.append,
                count: 1,
                recorded_at: row.recorded_at,
                start: start as u32,
                len,
            }),
        }
        before = Some(row);
    }
    let block = Block {
        bytes: Bytes::from(bytes),
        entries,
        partition,
    };
    EventBatch::of_block(Arc::new(block), offsets.start, offsets.end, filter)
}

/// Rows as events by themselves.
pub fn events<'a>(
    stored: &'a [Stored<'_>],
    filter: Option<&'a Filter>,
) -> impl Iterator<Item = Event> + 'a {
    let events = stored.iter().map(Stored::event);
    events
        .filter(move |event| filter.is_none_or(|filter| filter.matches(event)))
        .map(|event| event.to_event())
}
