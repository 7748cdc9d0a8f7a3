//! Appends batches in order, one at a time, so that whatever fails, nothing that stands
//! later in the file is in the log before what stands earlier. The next batch is read and
//! parsed while one is written.

use std::time::Duration;

use anabranch::env::Env;
use anabranch::log::{Append, AppendError, Appended, Expect, Layout, Log, Rejection};
use anabranch::model::{Cut, EventId, LimitError, Meta, NewEvent, Version};

use super::batches::{LineCondition, conditions};
use super::feed::Line;
use crate::ack::Ack;
use crate::failure::{Failure, InputPlace, Outcome};
use crate::output::{Form, Output};
use crate::pause::pause;

/// How often an append is tried whose outcome is unknown, or that is refused for now.
const TRIES: u32 = 6;
const FIRST_DELAY: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Writes batches of lines to a log.
pub struct Writer<'a> {
    file: String,
    log: &'a dyn Log,
    env: &'a Env,
    acks: Option<Output>,
    counts: Counts,
    /// The last line that is in the log, and all before it.
    line_done: u64,
    /// Which partition each stream stands in.
    layout: Layout,
    /// Everything that was written, and what that depends on.
    written: Cut,
}

/// What an import has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Events written.
    pub new: u64,
    /// Events that an earlier run had written.
    pub repeated: u64,
}

impl<'a> Writer<'a> {
    /// A writer to `log` of lines of `file`, which prints acknowledgements to `acks`.
    pub fn new(file: &str, log: &'a dyn Log, env: &'a Env, acks: Option<Output>) -> Self {
        Self {
            file: file.to_owned(),
            log,
            env,
            acks,
            counts: Counts::default(),
            line_done: 0,
            layout: log.layout(),
            written: Cut::start(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Says which lines are in the log.
    pub fn kept(&self) -> String {
        match self.line_done {
            0 => "no line of the file was written".to_owned(),
            1 => "line 1 is in the log".to_owned(),
            line => format!("lines 1 to {line} are in the log"),
        }
    }

    /// Appends one batch and prints its acknowledgements.
    ///
    /// A batch of which an earlier run wrote a part, because the file has grown or changed
    /// since, is parted until each part is wholly new or wholly written. Lines of several partitions
    /// are no batch: they would have to be written together, which takes longer.
    pub async fn write(&mut self, batch: Vec<Line>) -> Outcome {
        let place = |line: &Line| self.layout.partition_of(&line.event.stream);
        let runs = batch.chunk_by(|one, next| place(one) == place(next));
        let mut parts: Vec<_> = runs.rev().collect();
        while let Some(lines) = parts.pop() {
            let conditions = conditions(lines);
            match self.append(lines, &conditions).await {
                Ok(done) => self.acknowledge(lines, &done)?,
                // A log need not say which streams stand apart.
                Err(AppendError::Rejected(
                    Rejection::PartlyWritten { .. } | Rejection::Apart { .. },
                )) if lines.len() > 1 => {
                    let (first, second) = lines.split_at(lines.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => return Err(self.refused(lines, &conditions, error).into()),
            }
        }
        Ok(())
    }

    /// Appends these lines; tries again, with the same ids, while that may help.
    async fn append(
        &self,
        lines: &[Line],
        conditions: &[LineCondition],
    ) -> Result<Appended, AppendError> {
        let append = Append {
            conditions: conditions.iter().map(LineCondition::to_condition).collect(),
            events: lines.iter().map(|line| self.placed(line)).collect(),
        };
        let mut delay = FIRST_DELAY;
        let mut may_be_ours = false;
        for _ in 1..TRIES {
            match self.log.append(append.clone()).await {
                Err(AppendError::Unknown { .. }) => may_be_ours = true,
                Err(AppendError::Unavailable { retry_after, .. }) => {
                    delay = delay.max(retry_after.unwrap_or_default()).min(DELAY_MAX);
                }
                other => return other.map(|done| mark_ours(done, may_be_ours)),
            }
            pause(delay, &*self.env.rng).await;
            delay = (delay * 2).min(DELAY_MAX);
        }
        let done = self.log.append(append).await?;
        Ok(mark_ours(done, may_be_ours))
    }

    /// The event of a line. Where it says what it depends on, those are places in the log that it
    /// comes from; here that is among what stands before it in the file.
    fn placed(&self, line: &Line) -> NewEvent {
        let mut event = line.event.clone();
        let has_causes = |meta: &Meta| meta.causes.iter().next().is_some();
        if self.log.capabilities().partitions > 1 && event.meta.as_deref().is_some_and(has_causes) {
            event.meta_mut().causes = self.written.clone();
        }
        event
    }

    fn acknowledge(&mut self, lines: &[Line], done: &Appended) -> Outcome {
        self.written.join(&done.closure);
        if done.repeated {
            self.counts.repeated += lines.len() as u64;
        } else {
            self.counts.new += lines.len() as u64;
        }
        if let Some(last) = lines.last() {
            self.line_done = last.number;
        }
        let Some(out) = &mut self.acks else {
            return Ok(());
        };
        let acks = lines.iter().zip(&done.places).map(|(line, place)| Ack {
            position: place.position,
            stream: line.event.stream.as_str(),
            version: place.version,
            id: line.event.id,
        });
        out.values(Form::Jsonl, &acks.collect::<Vec<_>>())?;
        out.flush()
    }

    /// The failure of a batch, at the line that is the cause.
    fn refused(&self, lines: &[Line], conditions: &[LineCondition], error: AppendError) -> Failure {
        let (index, what) = match &error {
            AppendError::Conflict {
                stream,
                expected,
                actual,
            } => {
                let asked = conditions
                    .iter()
                    .find(|c| c.stream == *stream && c.expect == *expected);
                (
                    asked.map_or(0, |c| c.line),
                    asked.map(|c| conflict_text(c, &lines[c.line], *actual)),
                )
            }
            AppendError::Untold { stream, expected } => {
                let mut asked = conditions.iter();
                let asked = asked.find(|c| c.stream == *stream && c.expect == *expected);
                (asked.map_or(0, |c| c.line), None)
            }
            AppendError::Rejected(rejection) => (index_of(lines, rejection), None),
            _ => (0, None),
        };
        let happened = error.did_not_happen();
        let mut failure = Failure::from(error);
        if let Some(what) = what {
            failure.what = what;
        }
        let (first, last) = (lines[0].number, lines[lines.len() - 1].number);
        let safe = if happened {
            format!(
                "{}; nothing of lines {first} to {last} was written",
                self.kept()
            )
        } else {
            format!(
                "{}; lines {first} to {last} are there all or not at all",
                self.kept()
            )
        };
        failure
            .at(InputPlace {
                file: self.file.clone(),
                line: lines[index].number,
                column: None,
            })
            .safe(safe)
            .remedy(
                "run the same command again once the cause is gone: it goes on where it stopped",
            )
    }
}

/// An append whose first outcome was unknown and that is found written was written by us.
fn mark_ours(done: Appended, may_be_ours: bool) -> Appended {
    Appended {
        repeated: done.repeated && !may_be_ours,
        ..done
    }
}

fn conflict_text(condition: &LineCondition, line: &Line, actual: Option<Version>) -> String {
    let expected = match line.expect {
        Expect::Any => "to be in any state".to_owned(),
        Expect::Empty => "to be empty".to_owned(),
        Expect::Exists => "to exist".to_owned(),
        Expect::At(version) => format!("to be at version {version}"),
    };
    let events = actual.map_or(0, |version| version + 1) + condition.before;
    let found = match events.checked_sub(1) {
        None => "it is empty".to_owned(),
        Some(version) => format!("it is at version {version}"),
    };
    format!(
        "the line expects stream {} {expected}, but {found}",
        condition.stream
    )
}

/// Which of the lines a rejection is about; the first if it is about all.
fn index_of(lines: &[Line], rejection: &Rejection) -> usize {
    let of_id = |id: &EventId| lines.iter().position(|line| line.event.id == *id);
    let index = match rejection {
        Rejection::IdTaken { id, .. }
        | Rejection::IdUntold { id }
        | Rejection::PartlyWritten { id, .. } => of_id(id),
        Rejection::Limit(
            LimitError::DataBytes { index, .. }
            | LimitError::HeadersBytes { index, .. }
            | LimitError::Tags { index, .. }
            | LimitError::Name { index, .. },
        ) => Some(*index),
        _ => None,
    };
    index.filter(|index| *index < lines.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use anabranch::log::{
        BoxFuture, Capabilities, EventStream, MemoryLog, Order, ReadError, ReadMode, VersionRange,
    };
    use anabranch::model::{Cut, EventType, Filter, NewEvent, StreamId};

    use crate::failure::{Ending, Exit};

    /// What goes wrong with one append.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        WrittenButUnknown,
        LostAndUnknown,
        Unavailable,
    }

    /// A log whose first appends go wrong.
    struct Faulty {
        log: MemoryLog,
        faults: Mutex<VecDeque<Fault>>,
    }

    impl Log for Faulty {
        fn capabilities(&self) -> Capabilities {
            self.log.capabilities()
        }

        fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
            let fault = self.faults.lock().unwrap().pop_front();
            Box::pin(async move {
                let reason = "a fault of the test".to_owned();
                match fault {
                    None => self.log.append(append).await,
                    Some(Fault::Unavailable) => Err(AppendError::Unavailable {
                        reason,
                        retry_after: None,
                    }),
                    Some(Fault::LostAndUnknown) => Err(AppendError::Unknown { reason }),
                    Some(Fault::WrittenButUnknown) => {
                        self.log.append(append).await?;
                        Err(AppendError::Unknown { reason })
                    }
                }
            })
        }

        fn read_stream(&self, id: &StreamId, range: VersionRange, order: Order) -> EventStream {
            self.log.read_stream(id, range, order)
        }

        fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
            self.log.read(from, filter, mode)
        }

        fn find(
            &self,
            id: anabranch::model::EventId,
        ) -> BoxFuture<'_, Result<Option<anabranch::log::Placed>, ReadError>> {
            self.log.find(id)
        }

        fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
            self.log.head()
        }
    }

    fn lines(numbers: std::ops::Range<u64>) -> Vec<Line> {
        let line = |number: u64| Line {
            number,
            event_bytes: 100,
            event: NewEvent::new(
                EventId::from_u128(number.into()),
                StreamId::new("a/b").unwrap(),
                EventType::new("T").unwrap(),
                "{}",
            ),
            expect: Expect::Any,
        };
        numbers.map(line).collect()
    }

    /// Writes two batches to a log with these faults; gives what became of it.
    fn write(faults: &[Fault]) -> (Counts, u64, Result<(), Failure>) {
        let env = Env::os();
        let log = Faulty {
            log: MemoryLog::new(env.clone()),
            faults: Mutex::new(faults.iter().copied().collect()),
        };
        let mut writer = Writer::new("f.jsonl", &log, &env, None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (result, head) = runtime.block_on(async {
            let result = async {
                writer.write(lines(1..4)).await?;
                writer.write(lines(4..6)).await
            };
            (result.await, log.head().await.unwrap())
        });
        let result = result.map_err(|ending| match ending {
            Ending::Failed(failure) => *failure,
            Ending::ReaderGone => panic!("there is no reader"),
        });
        (
            writer.counts(),
            head.iter().map(|(_, count)| count).sum(),
            result,
        )
    }

    #[test]
    fn what_fails_for_a_while_is_written_once() {
        for faults in [
            &[Fault::Unavailable][..],
            &[Fault::LostAndUnknown],
            &[Fault::WrittenButUnknown],
            &[
                Fault::LostAndUnknown,
                Fault::Unavailable,
                Fault::WrittenButUnknown,
                Fault::LostAndUnknown,
            ],
        ] {
            let (counts, events, result) = write(faults);
            assert!(result.is_ok(), "{faults:?}: {result:?}");
            assert_eq!(
                (counts.new, counts.repeated, events),
                (5, 0, 5),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn what_stays_unavailable_was_not_written() {
        let (_, events, result) = write(&[Fault::Unavailable; 100]);
        let failure = result.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert_eq!(failure.code, "unavailable");
        assert_eq!(
            failure.safe.unwrap(),
            "no line of the file was written; nothing of lines 1 to 3 was written"
        );
        assert_eq!(events, 0);
    }

    #[test]
    fn what_stays_unknown_may_have_been_written() {
        let (_, _, result) = write(&[Fault::LostAndUnknown; 100]);
        let failure = result.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert_eq!(failure.code, "unknown");
        assert!(
            failure
                .safe
                .unwrap()
                .ends_with("are there all or not at all")
        );
    }

    #[test]
    fn what_was_written_in_part_before_is_completed_in_order() {
        let env = Env::os();
        let log = MemoryLog::new(env.clone());
        let mut writer = Writer::new("f.jsonl", &log, &env, None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            writer.write(lines(1..8)).await.unwrap();
            writer.write(lines(1..21)).await.unwrap();
            assert_eq!((writer.counts().new, writer.counts().repeated), (20, 7));
            let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
            for number in 1..21 {
                let event = events.next().await.unwrap().unwrap();
                assert_eq!(event.id, EventId::from_u128(number));
            }
        });
    }
}
