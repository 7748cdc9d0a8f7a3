//! What a log with a bug makes of what it has read.

use anabranch_model::{Event, EventId};

use super::bug::Bug;
use super::frames::as_new;

/// The bugs that show when the log is opened.
pub(super) fn recover_wrongly(events: &mut Vec<Event>, bug: Option<Bug>) {
    let Some(last) = events.last().cloned() else {
        return;
    };
    let batch = |event: &Event| event.recorded_at == last.recorded_at;
    let start = events.iter().position(batch).unwrap_or(0);
    let replace = |event: &Event, change: &dyn Fn(&mut anabranch_model::NewEvent)| {
        let mut new = as_new(event).ok()?;
        change(&mut new);
        Some(Event::stored(
            &new,
            event.position,
            event.version,
            event.recorded_at,
        ))
    };
    match bug {
        Some(Bug::LoseTheLast) => events.truncate(start),
        Some(Bug::Reorder) if start > 0 => {
            let (one, two) = (events[start - 1].clone(), events[start].clone());
            let moved = |from: &Event, to: &Event| {
                let new = as_new(from).ok()?;
                Some(Event::stored(
                    &new,
                    to.position,
                    from.version,
                    to.recorded_at,
                ))
            };
            if let (Some(a), Some(b)) = (moved(&two, &one), moved(&one, &two)) {
                events[start - 1] = a;
                events[start] = b;
            }
        }
        Some(Bug::Invent) => {
            let mut invented = replace(&last, &|new| {
                new.id = EventId::from_u128(new.id.as_u128() ^ 1 << 100);
            });
            if let Some(event) = &mut invented {
                event.position.offset += 1;
                event.version += 1;
                event.recorded_at += 1;
            }
            events.extend(invented);
        }
        Some(Bug::ChangeData) => {
            let changed = replace(&last, &|new| {
                let mut data = new.data.to_vec();
                if let Some(byte) = data.last_mut() {
                    *byte ^= 4;
                }
                new.data = data.into();
            });
            if let (Some(changed), Some(last)) = (changed, events.last_mut()) {
                *last = changed;
            }
        }
        Some(Bug::DropMeta) => {
            for event in events {
                if let Some(bare) = replace(event, &|new| new.meta = None) {
                    *event = bare;
                }
            }
        }
        _ => {}
    }
}
