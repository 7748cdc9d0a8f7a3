//! A log as a plain list, to compare engines with. It shares no code with them: filters and
//! queries are evaluated here on the events as they were appended.

use std::collections::BTreeMap;

use anabranch_model::{Cut, Filter, Meta, NewEvent, Position, Query, Version};

use super::make::Written;
use crate::{
    Append, AppendError, Appended, Condition, Placed, ReadError, ReadMode, Rejection, VersionRange,
};

#[derive(Default)]
pub(super) struct Model {
    /// In the order they were acknowledged.
    pub events: Vec<Written>,
}

impl Model {
    pub fn head(&self) -> Cut {
        let mut head = Cut::start();
        for written in &self.events {
            head.join(&Cut::including(written.placed.position));
        }
        head
    }

    pub fn last_version(&self, stream: &str) -> Option<Version> {
        let versions = self.events.iter().filter_map(|written| {
            (written.new.stream.as_str() == stream).then_some(written.placed.version)
        });
        versions.max()
    }

    /// Asserts that an engine may answer this append so, and remembers what it wrote.
    pub fn judge(&mut self, append: &Append, answer: &Result<Appended, AppendError>) {
        let known: Vec<Option<&Written>> = append.events.iter().map(|new| self.find(new)).collect();
        let taken: Vec<&Written> = append
            .events
            .iter()
            .zip(&known)
            .filter_map(|(new, known)| known.filter(|known| !is_same(new, &known.new)))
            .collect();
        if !taken.is_empty() {
            let taken = taken.iter().map(|by| Rejection::IdTaken {
                id: by.new.id,
                position: by.placed.position,
            });
            one_of(answer, taken.map(AppendError::Rejected).collect());
        } else if known.iter().all(Option::is_some) {
            let places = known
                .iter()
                .flatten()
                .map(|known| known.placed)
                .collect::<Vec<_>>();
            let answered = answer.as_ref().map(|it| (&it.places, it.repeated));
            assert_eq!(answered, Ok((&places, true)));
        } else if let Some(first) = known.iter().flatten().next() {
            let partly = Rejection::PartlyWritten {
                id: first.new.id,
                position: first.placed.position,
            };
            one_of(answer, vec![AppendError::Rejected(partly)]);
        } else {
            self.judge_new(append, answer);
        }
    }

    fn judge_new(&mut self, append: &Append, answer: &Result<Appended, AppendError>) {
        let reasons: Vec<_> = append
            .conditions
            .iter()
            .flat_map(|condition| self.reasons(condition))
            .collect();
        if !reasons.is_empty() {
            one_of(answer, reasons);
            return;
        }
        match answer {
            Ok(appended) => {
                assert!(!appended.repeated, "a new append is no repeat");
                assert_eq!(appended.places.len(), append.events.len());
                for (new, &placed) in append.events.iter().zip(&appended.places) {
                    self.push(new, placed);
                }
            }
            Err(error) => panic!("nothing stands against this append, but: {error}"),
        }
    }

    fn push(&mut self, new: &NewEvent, placed: Placed) {
        let next = self
            .last_version(new.stream.as_str())
            .map_or(0, |last| last + 1);
        assert_eq!(placed.version, next, "version in {}", new.stream);
        let partition = placed.position.partition;
        assert_eq!(placed.position.offset, self.head().get(partition));
        let new = new.clone();
        self.events.push(Written { new, placed });
    }

    /// Each error that this condition allows; none if it holds.
    fn reasons(&self, condition: &Condition) -> Vec<AppendError> {
        match condition {
            Condition::Stream(stream, expected) => {
                let actual = self.last_version(stream.as_str());
                let conflict = AppendError::Conflict {
                    stream: stream.clone(),
                    expected: *expected,
                    actual,
                };
                (!expected.holds(actual))
                    .then_some(conflict)
                    .into_iter()
                    .collect()
            }
            Condition::NoMatch { query, after } => {
                let head = self.head();
                if !head.covers(after) {
                    let after = after.clone();
                    let beyond = Rejection::CutBeyondHead { after, head };
                    return vec![AppendError::Rejected(beyond)];
                }
                let matches = self.events.iter().filter(|written| {
                    !after.includes(written.placed.position) && matches(query, &written.new)
                });
                let position = |written: &Written| written.placed.position;
                matches
                    .map(|written| AppendError::Matched {
                        position: position(written),
                    })
                    .collect()
            }
        }
    }

    fn find(&self, new: &NewEvent) -> Option<&Written> {
        self.events.iter().find(|written| written.new.id == new.id)
    }

    /// What a read must give, in any order of partitions.
    pub fn read(
        &self,
        from: &Cut,
        filter: &Filter,
        mode: ReadMode,
    ) -> Result<Vec<&Written>, ReadError> {
        let head = self.head();
        if !head.covers(from) {
            let from = from.clone();
            return Err(ReadError::CutBeyondHead { from, head });
        }
        let wanted = |written: &&Written| {
            let included = from.includes(written.placed.position);
            included == (mode == ReadMode::Backward) && fits(filter, &written.new)
        };
        Ok(self.events.iter().filter(wanted).collect())
    }

    /// What a read of one stream must give, oldest first.
    pub fn read_stream(&self, stream: &str, range: &VersionRange) -> Vec<&Written> {
        let wanted = |written: &&Written| {
            written.new.stream.as_str() == stream && range.0.contains(&written.placed.version)
        };
        let mut events: Vec<_> = self.events.iter().filter(wanted).collect();
        events.sort_by_key(|written| written.placed.version);
        events
    }

    /// Asserts that appends made at the same time could have been made one after another, in
    /// the order of their positions, with just these answers.
    pub fn explain(mut answers: Vec<(Append, Result<Appended, AppendError>)>) {
        let mut last: BTreeMap<String, Version> = BTreeMap::new();
        let position = |answer: &Result<Appended, AppendError>| -> Option<Position> {
            let appended = answer.as_ref().ok().filter(|appended| !appended.repeated)?;
            appended.places.first().map(|placed| placed.position)
        };
        answers.sort_by_key(|(_, answer)| position(answer).map_or((1, None), |at| (0, Some(at))));
        let mut model = Self::default();
        for (append, answer) in &answers {
            match answer {
                Ok(appended) if !appended.repeated => {
                    model.judge(append, answer);
                    for (new, placed) in append.events.iter().zip(&appended.places) {
                        last.insert(new.stream.to_string(), placed.version);
                    }
                }
                // Repeats and refusals come last in the order, so all is written by now.
                Ok(_) => model.judge(append, answer),
                Err(AppendError::Conflict {
                    stream,
                    expected,
                    actual,
                }) => {
                    assert!(!expected.holds(*actual), "no conflict: {answer:?}");
                    let last = last.get(stream.as_str()).copied();
                    assert!(*actual <= last, "never was so: {answer:?}, last {last:?}");
                }
                Err(AppendError::Matched { position }) => {
                    let at = model.events.iter().find(|w| w.placed.position == *position);
                    let counts = append.conditions.iter().any(|condition| match condition {
                        Condition::NoMatch { query, after } => {
                            !after.includes(*position) && at.is_some_and(|w| matches(query, &w.new))
                        }
                        Condition::Stream(..) => false,
                    });
                    assert!(counts, "no match: {answer:?}");
                }
                Err(error) => panic!("nothing else may refuse it: {error}"),
            }
        }
    }
}

fn one_of(answer: &Result<Appended, AppendError>, allowed: Vec<AppendError>) {
    match answer {
        Err(error) if allowed.contains(error) => {}
        other => panic!("one of these errors was due: {allowed:?}; the answer is {other:?}"),
    }
}

fn is_same(a: &NewEvent, b: &NewEvent) -> bool {
    a.stream == b.stream && a.event_type == b.event_type && a.data == b.data
}

fn meta(new: &NewEvent) -> Meta {
    new.meta.as_deref().cloned().unwrap_or_default()
}

fn matches(query: &Query, new: &NewEvent) -> bool {
    let meta = meta(new);
    query.items.iter().any(|item| {
        (item.types.is_empty() || item.types.contains(&new.event_type))
            && item.tags.iter().all(|tag| meta.tags.contains(tag))
    })
}

fn fits(filter: &Filter, new: &NewEvent) -> bool {
    let meta = meta(new);
    let category = new.stream.as_str().split('/').next().unwrap_or_default();
    (filter.categories.is_empty() || filter.categories.iter().any(|wanted| wanted == category))
        && (filter.types.is_empty() || filter.types.contains(&new.event_type))
        && (filter.streams.is_empty() || filter.streams.contains(&new.stream))
        && filter.tags.iter().all(|tag| meta.tags.contains(tag))
        && filter
            .headers
            .iter()
            .all(|(name, value)| meta.headers.get(name) == Some(value))
}
