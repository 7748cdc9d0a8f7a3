//! Whether the log behind a place is the one that was read: an older copy of it may have been put back.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_log::{Log, ReadError, ReadMode};
use anabranch_model::{Cut, EventRef, Filter, PartitionId, content_hash};
use serde::{Deserialize, Serialize};

/// What is remembered of the last event of a partition that was taken in. No other event is like it: ids
/// are given once, and a repeated append of the same event is recorded at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEvent {
    /// Where it stands in its partition.
    pub offset: u64,
    /// A hash of its id, its version and when it was recorded.
    pub hash: u64,
}

impl LastEvent {
    /// What there is to remember of `event`.
    pub fn of(event: &EventRef<'_>) -> Self {
        let id = event.id.as_u128().to_le_bytes();
        let (version, at) = (event.version.to_le_bytes(), event.recorded_at.to_le_bytes());
        Self {
            offset: event.position.offset,
            hash: content_hash([&id[..], &version, &at]) as u64,
        }
    }
}

/// Compares the log with what was read of it: a cut, and the last event of each partition. `filter` is that of the reader: it may be all that it may
/// read.
///
/// # Errors
///
/// [`ReadError::HistoryChanged`], or the log cannot be read.
pub(super) async fn compare(
    log: &Arc<dyn Log>,
    (cut, last): (&Cut, &BTreeMap<u32, LastEvent>),
    filter: &Filter,
) -> Result<(), ReadError> {
    let head = log.head().await?;
    for (partition, count) in cut.iter() {
        let from = head.get(partition);
        if from < count {
            return Err(ReadError::HistoryChanged { partition, from });
        }
    }
    if !log.capabilities().backward_reads {
        return Ok(());
    }
    for (&partition, known) in last {
        let partition = PartitionId(partition);
        for filter in [filter.clone(), Filter::all()] {
            match event_at(log, partition, known.offset, filter).await? {
                Some(found) if found != *known => {
                    let from = known.offset;
                    return Err(ReadError::HistoryChanged { partition, from });
                }
                Some(_) => break,
                // It may be hidden from the reader.
                None => {}
            }
        }
    }
    Ok(())
}

/// What stands at a place, if the filter and the log's server let it pass.
async fn event_at(
    log: &Arc<dyn Log>,
    partition: PartitionId,
    offset: u64,
    filter: Filter,
) -> Result<Option<LastEvent>, ReadError> {
    let mut cut = Cut::start();
    cut.set(partition, offset + 1);
    let mut events = log.read(&cut, filter, ReadMode::Backward);
    match events.next().await {
        Some(Ok(event)) => {
            let found = LastEvent::of(&event.as_ref());
            Ok((found.offset == offset).then_some(found))
        }
        // Who may not read everything is told so.
        None | Some(Err(ReadError::Invalid(_) | ReadError::Unsupported(_))) => Ok(None),
        Some(Err(error)) => Err(error),
    }
}
