//! Who appends: what its conditions may look at, and what it is told when they do not hold.
//!
//! A condition asks the log something. So whoever may not read a stream learns by an append no more of it than by a
//! read.
//!
//! * A condition on a stream that the append does not write needs that this may be read, and one that no event
//!   matches, that everything may be.
//! * A condition on a stream that it does write is taken. If one of the append does not hold, the conflict names the
//!   first that looks at what may not be read, whichever it was, and not how the stream is.
//! * Where an event stands that has an id already is told to who may read that event. Where an append stands that was
//!   written before, is told to who may append it now, may read it, or was its owner.

use std::collections::BTreeSet;

use anabranch_access::Caller;
use anabranch_log::{Append, AppendError, Appended, Condition, Expect, Rejection};
use anabranch_model::StreamId;

use crate::reading::{Reader, Sight, Unreadable};
use crate::registry::Shown;
use crate::shared::Shared;

/// Who appends.
pub struct Appender {
    reader: Reader,
    shown: Shown,
}

/// The condition that is told instead of the one that does not hold.
type Named = Option<(StreamId, Expect)>;

/// An append of which the conditions may be asked.
pub struct Checked {
    append: Append,
    named: Named,
}

impl Checked {
    /// The bytes of its data.
    pub fn data_bytes(&self) -> usize {
        let data = self.append.events.iter().map(|event| event.data.len());
        data.sum()
    }
}

impl Appender {
    /// Whoever has shown these leases.
    pub fn new(caller: Caller, shown: Shown) -> Self {
        Self {
            reader: Reader::by(caller, shown.leases.clone()),
            shown,
        }
    }

    /// Refuses an append that asks for what may not be read. That is written down.
    pub fn check(&self, shared: &Shared, append: Append) -> Result<Checked, Unreadable> {
        let named = self.check_conditions(shared, &append);
        let named = named.map_err(|(category, unreadable)| {
            self.reader.write_down(shared, category);
            unreadable
        })?;
        Ok(Checked { append, named })
    }

    fn check_conditions<'a>(
        &self,
        shared: &Shared,
        append: &'a Append,
    ) -> Result<Named, (&'a str, Unreadable)> {
        if append.conditions.is_empty() {
            return Ok(None);
        }
        let sight = Sight::now(shared);
        if self.reader.sees_all(&sight) {
            return Ok(None);
        }
        let mut written = None;
        let mut named = None;
        for condition in &append.conditions {
            match condition {
                Condition::Stream(_, Expect::Any) => {}
                Condition::Stream(stream, expected) => {
                    let Some(why) = self.reader.unread(&sight, stream.category()) else {
                        continue;
                    };
                    let events = append.events.iter();
                    let written: &BTreeSet<_> =
                        written.get_or_insert_with(|| events.map(|event| &event.stream).collect());
                    if !written.contains(stream) {
                        return Err((stream.category(), why));
                    }
                    named.get_or_insert_with(|| (stream.clone(), *expected));
                }
                Condition::NoMatch { .. } => {
                    if let Some(why) = self.reader.unread_of_all(&sight) {
                        return Err(("*", why));
                    }
                }
            }
        }
        Ok(named)
    }

    /// Appends, if it may.
    pub async fn append(&self, shared: &Shared, append: Checked) -> Result<Appended, AppendError> {
        let mut answers = self.append_all(shared, vec![append]).await;
        answers.pop().unwrap_or_else(|| {
            Err(AppendError::Unknown {
                reason: "the log says nothing of it".to_owned(),
            })
        })
    }

    /// Appends many, each if it may; what became of them, in their order.
    pub async fn append_all(
        &self,
        shared: &Shared,
        appends: Vec<Checked>,
    ) -> Vec<Result<Appended, AppendError>> {
        let split = appends.into_iter().map(|one| (one.append, one.named));
        let (appends, named): (Vec<_>, Vec<_>) = split.unzip();
        let may_know = |append: &Append| self.may_know(shared, append);
        let registry = &shared.registry;
        let mut answers = registry.append_all(&self.shown, appends, &may_know).await;
        for (answer, named) in answers.iter_mut().zip(named) {
            if let Err(error) = answer {
                self.keep_back(shared, named, error).await;
            }
        }
        answers
    }

    fn may_know(&self, shared: &Shared, append: &Append) -> bool {
        let sight = Sight::now(shared);
        let caller = self.reader.caller();
        let may = |stream: &StreamId| {
            self.reader.unread(&sight, stream.category()).is_none()
                || shared
                    .registry
                    .was_owner(&self.shown.former, caller, stream)
        };
        append.events.iter().all(|event| may(&event.stream))
    }

    /// Takes out of an error what may not be known.
    async fn keep_back(&self, shared: &Shared, named: Named, error: &mut AppendError) {
        match error {
            AppendError::Conflict { .. } => {
                if let Some((stream, expected)) = named {
                    *error = AppendError::Untold { stream, expected };
                }
            }
            AppendError::Rejected(Rejection::IdTaken { id, position }) => {
                let (id, position) = (*id, *position);
                let seen = self.reader.sees_at(shared, position).await;
                // What cannot be read is not known to be one that may be.
                if !seen.unwrap_or(false) {
                    *error = Rejection::IdUntold { id }.into();
                }
            }
            _ => {}
        }
    }
}
