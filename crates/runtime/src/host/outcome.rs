//! What is to be done about an append that has come back from the log. Pure.

use anabranch_log::{AppendError, Appended, Rejection};
use anabranch_model::{EventId, Position, Version};

/// What the log has said of one stream's part of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It is written, where it was expected to be.
    Written,
    /// It had been written before.
    WrittenBefore,
    /// Somebody else has written to a stream.
    Contended,
    /// The id of one of its events is taken.
    IdTaken,
    /// It can never be written.
    Refused,
    /// It was not written, for now.
    NotWritten,
    /// It may have been written.
    Unknown,
}

impl Said {
    /// What the result of an append says of those of its events that begin at index `first`,
    /// and of which the first was to get the version `next`; `None` if none of them is of the
    /// machine's own stream. `is_ours` says whether an event is among them.
    pub fn of(
        result: &Result<Appended, AppendError>,
        first: usize,
        next: Option<Version>,
        is_ours: impl Fn(EventId) -> bool,
    ) -> Self {
        match result {
            Ok(appended) => match (appended.places.get(first), next) {
                (Some(place), Some(next)) if place.version == next => Self::Written,
                (Some(_), None) if !appended.repeated => Self::Written,
                _ => Self::WrittenBefore,
            },
            Err(AppendError::Conflict { .. } | AppendError::Matched { .. }) => Self::Contended,
            Err(AppendError::Rejected(why)) => match taken(why) {
                Some((id, _)) if is_ours(id) => Self::IdTaken,
                _ => Self::Refused,
            },
            Err(AppendError::Unavailable { .. }) => Self::NotWritten,
            Err(AppendError::Unknown { .. }) => Self::Unknown,
        }
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

/// An append that has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// How often it was sent.
    pub times: u32,
    /// How often it may be sent while its outcome is unknown.
    pub times_max: u32,
    /// Of how many streams it holds events.
    pub streams: usize,
    /// How many inputs have led to the events of this stream.
    pub inputs: usize,
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

/// What is to be done about an append that has come back.
pub fn step(said: Said, sent: Sent) -> Step {
    // After an attempt of unknown outcome, that the next one did nothing says nothing.
    let is_unknown = said == Said::Unknown || said == Said::NotWritten && sent.times > 1;
    match said {
        Said::Written => Step::Confirm,
        Said::WrittenBefore => Step::Recall,
        Said::Contended | Said::IdTaken | Said::Refused if sent.streams > 1 => Step::PartStreams,
        Said::Contended => Step::DecideAgain,
        Said::IdTaken => Step::Recall,
        Said::Refused if sent.inputs > 1 => Step::PartInputs,
        Said::Refused => Step::Refuse,
        Said::Unknown | Said::NotWritten if is_unknown && sent.times < sent.times_max => {
            Step::SendAgain
        }
        Said::Unknown | Said::NotWritten => Step::GiveUp {
            may_have_happened: is_unknown,
        },
    }
}

/// Whether an input whose decision was lost to another writer for the `attempts`-th time is
/// decided again. One that nobody is told about is never dropped.
pub const fn goes_on_contended(is_told: bool, attempts: u32, attempts_max: u32) -> bool {
    !is_told || attempts < attempts_max
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: what the log said; then what is done for each of streams 1 and 2, inputs 1
    /// and 2, sent for the first time, for the second, and for the last time.
    #[test]
    fn every_outcome_of_an_append_leads_to_one_step() {
        use Step::*;
        const UNKNOWN: Step = GiveUp {
            may_have_happened: true,
        };
        const NOT: Step = GiveUp {
            may_have_happened: false,
        };
        // One stream with one input, one stream with two, two streams.
        let rows = [
            (Said::Written, [[Confirm; 3]; 3]),
            (Said::WrittenBefore, [[Recall; 3]; 3]),
            (
                Said::Contended,
                [[DecideAgain; 3], [DecideAgain; 3], [PartStreams; 3]],
            ),
            (Said::IdTaken, [[Recall; 3], [Recall; 3], [PartStreams; 3]]),
            (
                Said::Refused,
                [[Refuse; 3], [PartInputs; 3], [PartStreams; 3]],
            ),
            (Said::NotWritten, [[NOT, SendAgain, UNKNOWN]; 3]),
            (Said::Unknown, [[SendAgain, SendAgain, UNKNOWN]; 3]),
        ];
        for (said, expected) in rows {
            for (shape, expected) in [(1, 1), (1, 2), (2, 1)].into_iter().zip(expected) {
                for (times, expected) in [1, 2, 8].into_iter().zip(expected) {
                    let (streams, inputs) = shape;
                    let sent = Sent {
                        times,
                        times_max: 8,
                        streams,
                        inputs,
                    };
                    assert_eq!(step(said, sent), expected, "{said:?} {sent:?}");
                }
            }
        }
    }

    #[test]
    fn only_one_that_is_told_gives_up_to_other_writers() {
        assert!(goes_on_contended(true, 7, 8));
        assert!(!goes_on_contended(true, 8, 8));
        assert!(goes_on_contended(false, 1000, 8));
    }

    #[test]
    fn every_answer_of_the_log_is_understood() {
        use anabranch_log::{Expect, Placed};
        use anabranch_model::StreamId;
        let ours = EventId::from_u128(1);
        let place = |version| Placed {
            position: Position::at(9),
            version,
        };
        let written = |version, repeated| {
            Ok(Appended {
                places: vec![place(0), place(version)],
                repeated,
            })
        };
        let taken = |id| {
            let position = Position::at(9);
            Err(AppendError::Rejected(Rejection::IdTaken { id, position }))
        };
        let partly = Rejection::PartlyWritten {
            id: ours,
            position: Position::at(9),
        };
        let conflict = AppendError::Conflict {
            stream: StreamId::of("counter", "a").unwrap(),
            expected: Expect::Empty,
            actual: Some(0),
        };
        let reason = String::new();
        let rows = [
            (written(3, false), Said::Written),
            // A repeat of the same attempt gives the places that were expected.
            (written(3, true), Said::Written),
            (written(2, true), Said::WrittenBefore),
            (Err(conflict), Said::Contended),
            (
                Err(AppendError::Matched {
                    position: Position::at(9),
                }),
                Said::Contended,
            ),
            (taken(ours), Said::IdTaken),
            (taken(EventId::from_u128(2)), Said::Refused),
            (Err(AppendError::Rejected(partly)), Said::IdTaken),
            (
                Err(AppendError::Rejected(Rejection::ReadOnly)),
                Said::Refused,
            ),
            (
                Err(AppendError::Unavailable {
                    reason: reason.clone(),
                    retry_after: None,
                }),
                Said::NotWritten,
            ),
            (Err(AppendError::Unknown { reason }), Said::Unknown),
        ];
        for (result, expected) in rows {
            let said = Said::of(&result, 1, Some(3), |id| id == ours);
            assert_eq!(said, expected, "{result:?}");
        }
        // Of what stands in a stream that all share, no version is expected.
        let shared = |repeated| Said::of(&written(7, repeated), 1, None, |id| id == ours);
        assert_eq!(shared(false), Said::Written);
        assert_eq!(shared(true), Said::WrittenBefore);
    }
}
