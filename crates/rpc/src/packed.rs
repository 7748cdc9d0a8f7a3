//! Events on their way as a log stores them.

use std::sync::Arc;

use anabranch_model::record::{RecordError, Records, encode_stored};
use anabranch_model::{
    Block, BlockEntry, Event, EventBatch, EventRef, PartitionId, Position, Reach,
};

use crate::event::{stream_of, type_of};
use crate::made::protocol as p;
use crate::malformed::Malformed;

/// The events of a batch, packed; `None` if they stand in more than one partition.
pub(crate) fn packed_to(batch: &EventBatch) -> Result<Option<p::Packed>, RecordError> {
    let mut packed = Packing::default();
    for event in batch {
        if !packed.take(batch, event?) {
            return Ok(None);
        }
    }
    packed.end_run();
    Ok(Some(packed.message))
}

#[derive(Default)]
struct Packing<'a> {
    message: p::Packed,
    /// The event before, and where the append begins that has written it.
    before: Option<(EventRef<'a>, Position)>,
    /// Where the records of the run that is open begin.
    start: usize,
    count: u32,
}

impl<'a> Packing<'a> {
    /// False if the event stands in another partition than those before.
    fn take(&mut self, batch: &EventBatch, event: EventRef<'a>) -> bool {
        let position = event.position;
        let append = batch.append_start(position);
        let goes_on = match &self.before {
            Some((before, _)) if before.position.partition != position.partition => return false,
            Some((before, of_before)) => {
                before.position.offset.checked_add(1) == Some(position.offset)
                    && before.recorded_at == event.recorded_at
                    // Where nothing is known of appends, each event stands for its own.
                    && (*of_before == append || batch.reach().is_none())
            }
            None => {
                self.message.partition = position.partition.0;
                false
            }
        };
        if !goes_on {
            self.end_run();
            self.message.firsts.push(position.offset);
            self.message.recorded_at_us.push(event.recorded_at);
        }
        let before = self.before.as_ref().filter(|_| goes_on);
        encode_stored(
            &mut self.message.records,
            before.map(|(event, _)| event),
            &event,
        );
        self.count += 1;
        self.before = Some((event, append));
        true
    }

    fn end_run(&mut self) {
        if self.count > 0 {
            let end = self.message.records.len();
            // A message is smaller than 4 GiB.
            self.message.lengths.push((end - self.start) as u32);
            self.message.counts.push(self.count);
            self.start = end;
            self.count = 0;
        }
    }
}

/// The events that a message holds. `appends` has the first offset of each append, if `reach` is
/// there.
pub(crate) fn packed_of(
    packed: p::Packed,
    reach: Option<Reach>,
    appends: &[u64],
) -> Result<EventBatch, Malformed> {
    let runs = packed.firsts.len();
    let partition = match &reach {
        // Without an event nothing is packed, and the partition is that of the reach.
        Some(reach) if runs == 0 => reach.partition,
        _ => PartitionId(packed.partition),
    };
    let columns = [
        packed.counts.len(),
        packed.lengths.len(),
        packed.recorded_at_us.len(),
    ];
    if columns.iter().any(|&len| len != runs) {
        return Err(malformed("its lists are of different lengths"));
    }
    let mut entries = Vec::with_capacity(runs);
    let mut start: u32 = 0;
    for (run, &first) in packed.firsts.iter().enumerate() {
        let behind = appends.partition_point(|&append| append <= first);
        let len = packed.lengths[run];
        entries.push(BlockEntry {
            first,
            append: behind.checked_sub(1).map_or(first, |index| appends[index]),
            count: packed.counts[run],
            recorded_at: packed.recorded_at_us[run],
            start,
            len,
        });
        start = start
            .checked_add(len)
            .filter(|&end| end as usize <= packed.records.len())
            .ok_or_else(|| malformed("a run is longer than its records"))?;
    }
    if start as usize != packed.records.len() {
        return Err(malformed("it has records of no run"));
    }
    let block = Block {
        bytes: packed.records.into(),
        entries,
        partition,
    };
    check(&block, reach.as_ref())?;
    let range = reach
        .as_ref()
        .map_or(0..u64::MAX, |reach| reach.offsets.clone());
    let batch = EventBatch::of_block(Arc::new(block), range.start, range.end, None);
    if reach.is_some() {
        return Ok(batch);
    }
    let events: Result<Vec<Event>, _> = batch.into_iter().collect();
    events
        .map(Into::into)
        .map_err(|error| malformed(&error.to_string()))
}

/// Reads every record once, so that who takes the batch meets none that is none.
fn check(block: &Block, reach: Option<&Reach>) -> Result<(), Malformed> {
    let partition = block.partition;
    let mut reached = reach.map_or(0, |reach| reach.offsets.start);
    for entry in &block.entries {
        let behind = entry.first.checked_add(entry.count.into());
        let behind = behind.ok_or_else(|| malformed("an offset is too large"))?;
        if let Some(reach) = reach {
            let is_within = reach.partition == partition && behind <= reach.offsets.end;
            if entry.first < reached || !is_within {
                return Err(malformed(
                    "an event is out of order, or outside of the reach",
                ));
            }
            reached = behind;
        }
        let body = &block.bytes[entry.start as usize..(entry.start + entry.len) as usize];
        let first = Position {
            partition,
            offset: entry.first,
        };
        let mut count = 0;
        let (mut stream, mut event_type) = ("", "");
        for event in Records::new(body, first, entry.recorded_at) {
            let event = event.map_err(|error| malformed(&error.to_string()))?;
            if event.stream != stream {
                stream = event.stream;
                stream_of(stream)?;
            }
            if event.event_type != event_type {
                event_type = event.event_type;
                type_of(event_type)?;
            }
            count += 1;
        }
        if count != entry.count {
            return Err(malformed("a run has another number of events"));
        }
    }
    Ok(())
}

fn malformed(what: &str) -> Malformed {
    Malformed(format!("what came packed cannot be read: {what}"))
}
