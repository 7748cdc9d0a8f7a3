//! What a read asks for, and what it gives.

use anabranch_log::{ReadError, ReadMode};
use anabranch_model::record::RecordError;
use anabranch_model::{Cut, EventBatch, Filter, PartitionId, Reach};
use buffa::{EnumValue, MessageField};

use crate::event::{event_of, event_to, stream_of, type_of};
use crate::made::protocol as p;
use crate::malformed::Malformed;
use crate::packed::{packed_of, packed_to};
use crate::places::cut_of;
use crate::problem::read_error_of;

/// What one message of a read says.
#[derive(Debug)]
pub struct Step {
    /// Where the read ends.
    pub until: Option<Cut>,
    /// The next events.
    pub batch: Option<EventBatch>,
    /// Why there are no more.
    pub problem: Option<ReadError>,
}

/// A batch of events as a message, `packed` if who reads it has asked for that.
pub fn step_to(batch: &EventBatch, packed: bool) -> Result<p::ReadResponse, RecordError> {
    if batch.parts().len() > 1 {
        let parts = batch.parts().iter().map(|part| step_to(part, packed));
        return Ok(p::ReadResponse {
            together: parts.collect::<Result<_, _>>()?,
            ..Default::default()
        });
    }
    let reach = batch.reach();
    let mut message = p::ReadResponse::default();
    if reach.is_some() {
        for event in batch {
            let start = batch.append_start(event?.position).offset;
            if message.appends.last() != Some(&start) {
                message.appends.push(start);
            }
        }
    }
    let packed = if packed { packed_to(batch)? } else { None };
    match packed {
        Some(packed) => message.packed = MessageField::some(packed),
        None => {
            for event in batch {
                message.events.push(event_to(&event?)?);
            }
        }
    }
    if let Some(reach) = reach {
        message.reach = MessageField::some(message_of_reach(&reach));
    }
    Ok(message)
}

/// The same without its events; `None` if the log does not say what they stand for.
pub fn reach_to(batch: &EventBatch) -> Option<p::ReadResponse> {
    if batch.parts().len() > 1 {
        return Some(p::ReadResponse {
            together: batch.parts().iter().map(reach_to).collect::<Option<_>>()?,
            ..Default::default()
        });
    }
    let reach = batch.reach()?;
    Some(p::ReadResponse {
        reach: MessageField::some(message_of_reach(&reach)),
        ..Default::default()
    })
}

/// About how many bytes of events a message has.
pub fn step_bytes(message: &p::ReadResponse) -> usize {
    let own = message.packed.as_option();
    let own = own.map_or(0, |packed| packed.records.len());
    own + message.together.iter().map(step_bytes).sum::<usize>()
}

/// Puts the next message of a read behind this one; gives it back if it cannot: both have to say their reach
/// and no events but packed ones.
pub fn join_steps(
    before: &mut p::ReadResponse,
    mut next: p::ReadResponse,
) -> Option<p::ReadResponse> {
    let (Some(reach), Some(to)) = (before.reach.as_option_mut(), next.reach.as_option()) else {
        return Some(next);
    };
    let goes_on = reach.partition == to.partition
        && reach.to == to.from
        && before.events.is_empty()
        && next.events.is_empty()
        && before.packed.is_set() == next.packed.is_set();
    if !goes_on {
        return Some(next);
    }
    reach.to = to.to;
    before.appends.append(&mut next.appends);
    if let (Some(packed), Some(mut more)) =
        (before.packed.as_option_mut(), next.packed.into_option())
        && !more.firsts.is_empty()
    {
        packed.partition = more.partition;
        packed.records.append(&mut more.records);
        packed.lengths.append(&mut more.lengths);
        packed.firsts.append(&mut more.firsts);
        packed.counts.append(&mut more.counts);
        packed.recorded_at_us.append(&mut more.recorded_at_us);
    }
    None
}

fn message_of_reach(reach: &Reach) -> p::Reach {
    p::Reach {
        partition: reach.partition.0,
        from: reach.offsets.start,
        to: reach.offsets.end,
        ..Default::default()
    }
}

/// What a message says.
pub fn step_of(mut message: p::ReadResponse) -> Result<Step, Malformed> {
    let together = std::mem::take(&mut message.together);
    if together.is_empty() {
        return one_step_of(message);
    }
    let mut batches = Vec::new();
    for part in together {
        let part = one_step_of(part)?
            .batch
            .filter(|batch| batch.reach().is_some());
        batches.push(part.ok_or_else(|| {
            Malformed("a part of what came into the log together says no reach".to_owned())
        })?);
    }
    let mut step = one_step_of(message)?;
    if step.batch.is_some() {
        return Err(Malformed(
            "it has events beside those that came into the log together".to_owned(),
        ));
    }
    step.batch = Some(EventBatch::together(batches));
    Ok(step)
}

/// What a message says that has events of one partition.
fn one_step_of(message: p::ReadResponse) -> Result<Step, Malformed> {
    let events: Vec<_> = message
        .events
        .into_iter()
        .map(event_of)
        .collect::<Result<_, _>>()?;
    let reach = message.reach.into_option();
    let reach = reach.map(|reach| Reach::of(PartitionId(reach.partition), reach.from..reach.to));
    let batch = match (message.packed.into_option(), reach) {
        (Some(packed), reach) => Some(packed_of(packed, reach, &message.appends)?),
        (None, Some(reach)) => Some(EventBatch::of_run(events, reach, message.appends)),
        (None, None) if events.is_empty() => None,
        (None, None) => Some(events.into()),
    };
    Ok(Step {
        until: message.until.as_option().map(cut_of),
        batch,
        problem: message.problem.into_option().map(read_error_of),
    })
}

/// A filter as a message.
pub fn filter_to(filter: &Filter) -> p::Filter {
    let header = |(name, value): &(String, String)| p::Header {
        name: name.clone(),
        value: value.clone(),
        ..Default::default()
    };
    p::Filter {
        categories: filter.categories.clone(),
        types: filter.types.iter().map(|t| t.as_str().to_owned()).collect(),
        streams: filter
            .streams
            .iter()
            .map(|s| s.as_str().to_owned())
            .collect(),
        headers: filter.headers.iter().map(header).collect(),
        tags: filter.tags.clone(),
        ..Default::default()
    }
}

/// The filter that a message means.
pub fn filter_of(message: p::Filter) -> Result<Filter, Malformed> {
    let types = message.types.iter().map(|text| type_of(text));
    let streams = message.streams.iter().map(|text| stream_of(text));
    let headers = message.headers.into_iter();
    Ok(Filter {
        categories: message.categories,
        types: types.collect::<Result<_, _>>()?,
        streams: streams.collect::<Result<_, _>>()?,
        headers: headers.map(|header| (header.name, header.value)).collect(),
        tags: message.tags,
    })
}

/// A way to read, as a message says it.
pub fn mode_to(mode: ReadMode) -> EnumValue<p::ReadMode> {
    match mode {
        ReadMode::ToHead => p::ReadMode::READ_MODE_TO_HEAD,
        ReadMode::Follow => p::ReadMode::READ_MODE_FOLLOW,
        ReadMode::Backward => p::ReadMode::READ_MODE_BACKWARD,
    }
    .into()
}

/// The way to read that a message means.
pub fn mode_of(message: EnumValue<p::ReadMode>) -> Result<ReadMode, Malformed> {
    match message.as_known() {
        Some(p::ReadMode::READ_MODE_UNSPECIFIED | p::ReadMode::READ_MODE_TO_HEAD) => {
            Ok(ReadMode::ToHead)
        }
        Some(p::ReadMode::READ_MODE_FOLLOW) => Ok(ReadMode::Follow),
        Some(p::ReadMode::READ_MODE_BACKWARD) => Ok(ReadMode::Backward),
        None => Err(Malformed(format!(
            "there is no way to read with the number {}",
            message.to_i32()
        ))),
    }
}
