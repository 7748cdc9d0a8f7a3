//! From an input to the events that a batch will hold.

use std::sync::Arc;

use anabranch_domain::StreamId;
use anabranch_model::{Meta, NewEvent};

use super::desk::{Desk, Made, Undecided, Verdict, meta_of, size_of_event};
use super::item::Item;
use super::out::Out;
use super::recall;
use super::shared::Shared;
use super::slot::{Decided, Live};
use crate::panics::contain;
use crate::send_error::SendError;
use crate::telemetry;

/// Decides one input into the open batch; gives it back if that cannot be now.
pub fn decide(
    shared: &Shared,
    live: &mut Live,
    stream: &StreamId,
    item: Box<Item>,
) -> Result<(), Box<Item>> {
    if let Some(expect) = item.ask.as_ref().and_then(|ask| ask.expect) {
        let actual = live.machine.length().checked_sub(1);
        if !expect.holds(actual) {
            let error = SendError::VersionMismatch {
                stream: stream.clone(),
                expected: expect,
                actual,
            };
            join(shared, live, stream, item, Made::failed(error));
            return Ok(());
        }
    }
    if shared.writer.many_partitions && !live.causes.covers(&item.causes) {
        live.causes.join(&item.causes);
        live.meta = None;
    }
    if item.ask.is_none() && live.meta.is_none() {
        live.meta = Some(Arc::new(Meta {
            source: Some(shared.writer.source.clone()),
            correlation_id: Some(stream.to_string()),
            causes: live.causes.clone(),
            ..Meta::default()
        }));
    }
    let (events, bytes) = live.decided();
    let desk = Desk {
        stream,
        now: shared.time.now(),
        writer: &shared.writer,
        meta: live.meta.as_ref(),
        events,
        bytes,
    };
    let machine = &mut live.machine;
    let span = telemetry::decide(item.ask.as_ref().map(|ask| &ask.span), stream);
    let decided = contain(|| {
        let _inside = span.enter();
        let made = machine.decide(&item, &desk)?;
        let again = match item.resume {
            true => machine.outstanding().map_err(Undecided::Broken)?,
            false => Vec::new(),
        };
        Ok((made, again))
    });
    let reason = match decided {
        Ok(Ok((mut made, again))) => {
            if item.resume {
                // What is sent again covers what the last decision sends.
                live.open()
                    .outs
                    .extend(again.into_iter().map(|out| (out, true)));
                let ends = |out: &Out| matches!(out, Out::Reply(_) | Out::Ended);
                made.outs.retain(ends);
            }
            join(shared, live, stream, item, made);
            return Ok(());
        }
        Ok(Err(Undecided::NoRoom)) => return Err(item),
        Ok(Err(Undecided::Told(error))) => {
            join(shared, live, stream, item, Made::failed(error));
            return Ok(());
        }
        Ok(Err(Undecided::Broken(reason))) => reason,
        Err(panic) if item.is_told() => panic,
        Err(panic) => format!("its code panicked: {panic}"),
    };
    live.broken = Some(reason.clone());
    if !item.is_told() {
        return Err(item);
    }
    let error = SendError::Panicked {
        stream: stream.clone(),
        reason,
    };
    join(shared, live, stream, item, Made::failed(error));
    Ok(())
}

fn join(shared: &Shared, live: &mut Live, stream: &StreamId, item: Box<Item>, mut made: Made) {
    let settled = match made.events.is_empty() {
        true => settle(shared, live, stream, &item, &mut made.verdict),
        false => None,
    };
    let open = live.open();
    let added = made.events.iter().chain(&settled);
    open.bytes += added.map(size_of_event).sum::<usize>();
    let first = open.events.len();
    open.events.extend(made.events);
    let index = open.settled.len();
    open.decided.push(Decided {
        item,
        events: first..open.events.len(),
        settled: settled.is_some().then_some(index),
        verdict: made.verdict,
    });
    open.settled.extend(settled);
    open.outs
        .extend(made.outs.into_iter().map(|out| (out, false)));
}

/// The event that settles a command that records nothing and may be sent again: whatever
/// happens meanwhile, it gets this outcome again.
fn settle(
    shared: &Shared,
    live: &Live,
    stream: &StreamId,
    item: &Item,
    verdict: &mut Verdict,
) -> Option<NewEvent> {
    let ask = item.ask.as_ref().filter(|ask| ask.is_settled())?;
    let outcome = match verdict {
        Verdict::Done => Ok(recall::nothing_new(live.machine.length().checked_sub(1))),
        Verdict::Rejected(why) => Err(SendError::Rejected(why.clone())),
        Verdict::Failed(error) => Err(error.clone()),
        Verdict::Repeat(_) => return None,
    };
    let event = match recall::settled(&ask.key(stream), meta_of(&shared.writer, ask), &outcome) {
        Ok(event) => event?,
        Err(error) => {
            *verdict = Verdict::Failed(error);
            return None;
        }
    };
    match shared.writer.limits.check(std::slice::from_ref(&event)) {
        Ok(()) => Some(event),
        Err(error) => {
            *verdict = Verdict::Failed(SendError::Invalid(error.to_string()));
            None
        }
    }
}
