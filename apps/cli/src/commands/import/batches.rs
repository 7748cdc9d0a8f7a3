//! Cuts lines into batches, and says what must hold for a batch to be written.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::log::{Condition, Expect};
use anabranch::model::{EventId, Limits, StreamId};

use super::feed::Line;

const BATCH_EVENTS: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;

/// Gathers lines until they make a batch.
///
/// Where a batch ends depends on the lines alone, so that reading a file again makes the
/// same batches and each is found to be wholly written or not at all.
pub struct Batcher {
    lines: Vec<Line>,
    bytes: usize,
    ids: BTreeSet<EventId>,
    streams: BTreeMap<StreamId, u64>,
    events_max: usize,
    bytes_max: usize,
}

impl Batcher {
    /// A batcher of batches that a log with these limits takes.
    pub fn new(limits: &Limits) -> Self {
        Self {
            lines: Vec::new(),
            bytes: 0,
            ids: BTreeSet::new(),
            streams: BTreeMap::new(),
            events_max: BATCH_EVENTS.min(limits.batch_events_max),
            bytes_max: BATCH_BYTES.min(limits.batch_bytes_max),
        }
    }

    /// Whether no lines wait.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The first line that waits.
    pub fn first(&self) -> Option<&Line> {
        self.lines.first()
    }

    /// Takes a line; gives the batch before it if the line begins the next one.
    pub fn push(&mut self, line: Line) -> Option<Vec<Line>> {
        let full = self.must_end_before(&line).then(|| self.take());
        self.bytes += line.event_bytes;
        self.ids.insert(line.event.id);
        *self.streams.entry(line.event.stream.clone()).or_default() += 1;
        self.lines.push(line);
        full
    }

    /// The lines that wait.
    pub fn take(&mut self) -> Vec<Line> {
        self.bytes = 0;
        self.ids.clear();
        self.streams.clear();
        std::mem::take(&mut self.lines)
    }

    fn must_end_before(&self, line: &Line) -> bool {
        let before = self.streams.get(&line.event.stream).copied().unwrap_or(0);
        !self.lines.is_empty()
            && (self.lines.len() >= self.events_max
                || self.bytes + line.event_bytes > self.bytes_max
                || self.ids.contains(&line.event.id)
                || base(line.expect, before) == Base::CannotHold)
    }
}

/// A condition of a batch, with the line that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineCondition {
    /// Index of the line in the batch.
    pub line: usize,
    /// How many events of the same stream stand before it in the batch.
    pub before: u64,
    /// The stream.
    pub stream: StreamId,
    /// The state that the stream must be in before the batch.
    pub expect: Expect,
}

impl LineCondition {
    /// As the log takes it.
    pub fn to_condition(&self) -> Condition {
        Condition::Stream(self.stream.clone(), self.expect)
    }
}

/// What must hold before these lines are written as one batch.
pub fn conditions(lines: &[Line]) -> Vec<LineCondition> {
    let mut written: BTreeMap<&StreamId, u64> = BTreeMap::new();
    let mut conditions = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let before = written.entry(&line.event.stream).or_default();
        if let Base::Needs(expect) = base(line.expect, *before) {
            conditions.push(LineCondition {
                line: index,
                before: *before,
                stream: line.event.stream.clone(),
                expect,
            });
        }
        *before += 1;
    }
    conditions
}

/// What an expectation asks of the stream before the batch.
#[derive(Debug, PartialEq, Eq)]
enum Base {
    Nothing,
    Needs(Expect),
    CannotHold,
}

/// What must hold before a batch so that `expect` holds after `before` of its events.
fn base(expect: Expect, before: u64) -> Base {
    match (expect, before) {
        (Expect::Any, _) => Base::Nothing,
        (expect, 0) => Base::Needs(expect),
        (Expect::Exists, _) => Base::Nothing,
        (Expect::Empty, _) => Base::CannotHold,
        (Expect::At(version), before) => match (version.checked_add(1), before) {
            (Some(events), before) if events == before => Base::Needs(Expect::Empty),
            (_, before) => match version.checked_sub(before) {
                Some(version) => Base::Needs(Expect::At(version)),
                None => Base::CannotHold,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch::model::{EventType, NewEvent};

    fn line(number: u64, stream: &str, expect: Expect) -> Line {
        Line {
            number,
            event_bytes: 100,
            event: NewEvent::new(
                EventId::from_u128(number.into()),
                StreamId::new(stream).unwrap(),
                EventType::new("T").unwrap(),
                "{}",
            ),
            expect,
        }
    }

    fn cut(lines: impl IntoIterator<Item = Line>) -> Vec<Vec<u64>> {
        let mut batcher = Batcher::new(&Limits::default());
        let mut batches = Vec::new();
        for line in lines {
            batches.extend(batcher.push(line));
        }
        batches.push(batcher.take());
        let numbers = |batch: Vec<Line>| batch.iter().map(|line| line.number).collect();
        batches.into_iter().map(numbers).collect()
    }

    #[test]
    fn a_batch_ends_at_its_count_and_at_its_bytes() {
        let batches = cut((0..2_500).map(|n| line(n, "a/b", Expect::Any)));
        let counts: Vec<_> = batches.iter().map(Vec::len).collect();
        assert_eq!(counts, [1_000, 1_000, 500]);
        let batches = cut((0..5).map(|n| Line {
            event_bytes: BATCH_BYTES / 2,
            ..line(n, "a/b", Expect::Any)
        }));
        assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn an_id_that_comes_again_begins_a_batch() {
        let mut again = line(3, "a/b", Expect::Any);
        again.event.id = EventId::from_u128(1);
        let first = [line(1, "a/b", Expect::Any), line(2, "a/b", Expect::Any)];
        assert_eq!(cut(first.into_iter().chain([again])), [vec![1, 2], vec![3]]);
    }

    #[test]
    fn expectations_count_the_events_before_them_in_the_batch() {
        let lines = [
            line(1, "a/b", Expect::Any),
            line(2, "a/b", Expect::At(5)),
            line(3, "a/c", Expect::Empty),
            line(4, "a/c", Expect::At(0)),
            line(5, "a/c", Expect::Exists),
            line(6, "a/c", Expect::At(9)),
        ];
        let found: Vec<_> = conditions(&lines)
            .into_iter()
            .map(|c| (c.line, c.before, c.expect))
            .collect();
        assert_eq!(
            found,
            [
                (1, 1, Expect::At(4)),
                (2, 0, Expect::Empty),
                (3, 1, Expect::Empty),
                (5, 3, Expect::At(6)),
            ]
        );
        assert_eq!(cut(lines), [vec![1, 2, 3, 4, 5, 6]]);
    }

    #[test]
    fn an_expectation_that_cannot_hold_within_the_batch_begins_the_next() {
        let lines = [
            line(1, "a/b", Expect::Any),
            line(2, "a/b", Expect::Empty),
            line(3, "a/b", Expect::Any),
            line(4, "a/b", Expect::At(0)),
        ];
        assert_eq!(cut(lines), [vec![1], vec![2, 3], vec![4]]);
    }
}
