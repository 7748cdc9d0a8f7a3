//! What is to be done about an append that has come back from the log. Pure.

use anabranch_log::{AppendError, Appended, Rejection};
use anabranch_model::{EventId, Position, Version};

/// One stream's part of an append that has come back.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// At which index of the append its events begin.
    pub first: usize,
    /// The version that the first was to get; `None` if none is of the machine's own stream.
    pub next: Option<Version>,
    /// How many inputs have led to them.
    pub inputs: usize,
    /// Of how many streams the append holds events.
    pub streams: usize,
    /// How often it was sent.
    pub times: u32,
    /// How often it may be sent while its outcome is unknown.
    pub times_max: u32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Answer, and send what follows.
    Confirm,
    /// Give what was written before its first outcome, and decide the rest again.
    Recall,
    /// Read the stream, and decide everything again.
    DecideAgain,
    /// Send the events of each stream by themselves.
    PartStreams,
    /// Decide again, so that no input shares an append with another.
    PartInputs,
    /// The one input that it holds cannot be recorded.
    Refuse,
    /// Send the same append after a while.
    SendAgain,
    /// Tell who waits to be told; keep the other inputs, and decide them again after a while.
    GiveUp {
        /// Whether it may have been written.
        may_have_happened: bool,
    },
}

/// What is to be done about a part of an append that has come back. `is_ours` says whether an
/// event is among it.
pub fn step(
    result: &Result<Appended, AppendError>,
    part: Part,
    is_ours: impl Fn(EventId) -> bool,
) -> Step {
    match result {
        Ok(appended) => match (appended.places.get(part.first), part.next) {
            (Some(place), Some(next)) if place.version == next => Step::Confirm,
            (Some(_), None) if !appended.repeated => Step::Confirm,
            _ => Step::Recall,
        },
        Err(error @ (AppendError::Unavailable { .. } | AppendError::Unknown { .. })) => {
            // After an attempt of unknown outcome, that the next one did nothing says nothing.
            let is_unknown = matches!(error, AppendError::Unknown { .. }) || part.times > 1;
            match is_unknown && part.times < part.times_max {
                true => Step::SendAgain,
                false => Step::GiveUp {
                    may_have_happened: is_unknown,
                },
            }
        }
        // Another process owns the category now. Who waits may find it there.
        Err(AppendError::Rejected(Rejection::NotOwner { .. })) => Step::GiveUp {
            may_have_happened: false,
        },
        Err(_) if part.streams > 1 => Step::PartStreams,
        Err(AppendError::Rejected(why)) => match taken(why) {
            Some((id, _)) if is_ours(id) => Step::Recall,
            _ if part.inputs > 1 => Step::PartInputs,
            _ => Step::Refuse,
        },
        Err(_conflict) => Step::DecideAgain,
    }
}

/// The id that is taken, and the position of the event that has it.
pub fn taken(why: &Rejection) -> Option<(EventId, Position)> {
    match why {
        Rejection::IdTaken { id, position } | Rejection::PartlyWritten { id, position } => {
            Some((*id, *position))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anabranch_log::{Expect, Placed};
    use anabranch_model::StreamId;

    use super::*;

    /// Each row: what the log said; then what is done for one input, two inputs, and two streams,
    /// each sent for the first time, for the second, and for the last time.
    #[test]
    fn every_outcome_of_an_append_leads_to_one_step() {
        use Step::*;
        let give_up = |may_have_happened| GiveUp { may_have_happened };
        let refused = [[Refuse; 3], [PartInputs; 3], [PartStreams; 3]];
        let recalled = [[Recall; 3], [Recall; 3], [PartStreams; 3]];
        let lost = [[DecideAgain; 3], [DecideAgain; 3], [PartStreams; 3]];
        let (ours, position) = (EventId::from_u128(1), Position::at(9));
        let rejected = |why| Err(AppendError::Rejected(why));
        let reason = String::new();
        let conflict = AppendError::Conflict {
            stream: StreamId::of("counter", "a").unwrap(),
            expected: Expect::Empty,
            actual: Some(0),
        };
        let unavailable = AppendError::Unavailable {
            reason: reason.clone(),
            retry_after: None,
        };
        let not_owner = Rejection::NotOwner {
            category: "counter".to_owned(),
            owner: "counters".to_owned(),
            why: reason.clone(),
        };
        let others = EventId::from_u128(2);
        let rows = [
            (written(3, false), [[Confirm; 3]; 3]),
            // A repeat of the same attempt gives the places that were expected.
            (written(3, true), [[Confirm; 3]; 3]),
            (written(2, true), [[Recall; 3]; 3]),
            (Err(conflict), lost),
            (Err(AppendError::Matched { position }), lost),
            (
                rejected(Rejection::IdTaken { id: ours, position }),
                recalled,
            ),
            (
                rejected(Rejection::PartlyWritten { id: ours, position }),
                recalled,
            ),
            (
                rejected(Rejection::IdTaken {
                    id: others,
                    position,
                }),
                refused,
            ),
            (rejected(Rejection::ReadOnly), refused),
            (rejected(not_owner), [[give_up(false); 3]; 3]),
            (
                Err(unavailable),
                [[give_up(false), SendAgain, give_up(true)]; 3],
            ),
            (
                Err(AppendError::Unknown { reason }),
                [[SendAgain, SendAgain, give_up(true)]; 3],
            ),
        ];
        for (result, expected) in rows {
            for ((streams, inputs), expected) in [(1, 1), (1, 2), (2, 1)].into_iter().zip(expected)
            {
                for (times, expected) in [1, 2, 8].into_iter().zip(expected) {
                    let part = part(Some(3), streams, inputs, times);
                    let step = step(&result, part, |id| id == ours);
                    assert_eq!(step, expected, "{result:?} {part:?}");
                }
            }
        }
    }

    #[test]
    fn of_what_stands_in_a_stream_that_all_share_no_version_is_expected() {
        let shared = |repeated| step(&written(7, repeated), part(None, 1, 1, 1), |_| true);
        assert_eq!(shared(false), Step::Confirm);
        assert_eq!(shared(true), Step::Recall);
    }

    /// Two events are written, the second with this version.
    fn written(version: Version, repeated: bool) -> Result<Appended, AppendError> {
        let place = |version| Placed {
            position: Position::at(9),
            version,
        };
        let places = vec![place(0), place(version)];
        Ok(Appended::new(places, repeated))
    }

    /// The second event.
    fn part(next: Option<Version>, streams: usize, inputs: usize, times: u32) -> Part {
        Part {
            first: 1,
            next,
            inputs,
            streams,
            times,
            times_max: 8,
        }
    }
}
