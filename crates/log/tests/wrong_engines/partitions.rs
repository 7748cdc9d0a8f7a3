//! Logs of several partitions that lose causes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, Appended, BatchSource, BoxFuture, Capabilities, Condition, EventStream,
    Layout, Log, Order, PartitionedLog, Placed, ReadError, ReadMode, Rejection, VersionRange,
};
use anabranch_model::{Cut, Event, EventBatch, EventId, Filter, PartitionId, StreamId};
use futures_executor::block_on;

use crate::wrong::{Place, must_fail};

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Nothing of what an event depends on is stored.
    Forgets,
    /// A closure is where the events stand.
    NoClosure,
    /// A closure leaves out what the partition depended on before.
    NothingBefore,
    /// What is not in the log is no cause.
    TakesAnyCause,
    /// What a condition looks at in another partition may change before the append is written.
    LetsGo,
    /// Partitions are read one after another.
    Apart,
    /// The same, if there is a filter.
    ApartIfFiltered,
}

struct Loose {
    log: PartitionedLog,
    wrong: Wrong,
}

fn without_causes(mut append: Append) -> Append {
    for event in &mut append.events {
        event.meta_mut().causes = Cut::start();
    }
    append
}

impl Loose {
    /// Looks at other partitions; takes out the conditions that hold.
    async fn look(&self, append: &mut Append) -> Result<(), AppendError> {
        let layout = self.log.layout();
        let home = layout.partition_of(&append.events[0].stream);
        for condition in std::mem::take(&mut append.conditions) {
            match condition {
                Condition::Stream(stream, expected) if layout.partition_of(&stream) != home => {
                    let mut events =
                        self.log
                            .read_stream(&stream, VersionRange::ALL, Order::Backward);
                    let last = events.next().await.transpose();
                    let actual = last.expect("the log reads").map(|event| event.version);
                    if !expected.holds(actual) {
                        return Err(AppendError::Conflict {
                            stream,
                            expected,
                            actual,
                        });
                    }
                }
                condition => append.conditions.push(condition),
            }
        }
        // Time for others.
        (0..20).for_each(|_| std::thread::yield_now());
        Ok(())
    }

    async fn write(&self, mut append: Append) -> Result<Appended, AppendError> {
        let mut given = Cut::start();
        for meta in append.events.iter().filter_map(|event| event.meta.as_ref()) {
            given.join(&meta.causes);
        }
        if self.wrong == Wrong::LetsGo {
            self.look(&mut append).await?;
        }
        let bare = without_causes(append.clone());
        if self.wrong == Wrong::Forgets {
            return self.log.append(bare).await;
        }
        let mut answer = self.log.append(append).await;
        if let (Wrong::TakesAnyCause, Err(AppendError::Rejected(Rejection::FutureCause { .. }))) =
            (self.wrong, &answer)
        {
            answer = self.log.append(bare).await;
        }
        answer.map(|mut appended| {
            match self.wrong {
                Wrong::NoClosure => appended.closure = appended.cut(),
                Wrong::NothingBefore => {
                    appended.closure = appended.cut();
                    appended.closure.join(&given);
                }
                _ => {}
            }
            appended
        })
    }
}

/// Everything that a read gives, partition by partition, the last one first.
struct OneByOne(VecDeque<EventBatch>);

impl OneByOne {
    fn of(mut read: EventStream) -> Self {
        let mut parts: BTreeMap<PartitionId, Vec<Event>> = BTreeMap::new();
        while let Some(event) = block_on(read.next()) {
            let event = event.expect("the log reads");
            parts
                .entry(event.position.partition)
                .or_default()
                .push(event);
        }
        Self(parts.into_values().rev().map(EventBatch::from).collect())
    }
}

impl BatchSource for OneByOne {
    fn poll_next_batch(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

impl Log for Loose {
    fn capabilities(&self) -> Capabilities {
        self.log.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.write(append))
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.log.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        let is_apart = match self.wrong {
            Wrong::Apart => true,
            Wrong::ApartIfFiltered => !filter.is_all(),
            _ => false,
        };
        let read = self.log.read(from, filter, mode);
        match is_apart && mode == ReadMode::ToHead {
            true => EventStream::new(OneByOne::of(read)),
            false => read,
        }
    }

    fn find(&self, id: EventId) -> BoxFuture<'_, Result<Option<Placed>, ReadError>> {
        self.log.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.log.head()
    }
}

fn caught(wrong: Wrong, by: &[&str]) {
    let open = || -> Arc<dyn Log> {
        let layout = Layout::new(Vec::new(), 8).expect("a layout");
        let log = PartitionedLog::in_memory(&Env::os(), layout);
        Arc::new(Loose { log, wrong })
    };
    for case in by {
        must_fail(case, &Place(open));
    }
}

#[test]
fn forgetting_causes_is_caught() {
    let by = [
        "partitions::a_closure_includes_the_events_and_what_they_depend_on",
        "partitions::the_stored_causes_before_an_event_are_all_that_it_depends_on",
        "partitions::writers_with_tokens_of_their_own_never_hide_a_cause",
    ];
    caught(Wrong::Forgets, &by);
}

#[test]
fn closures_that_are_not_closed_are_caught() {
    let by = ["partitions::a_closure_includes_the_events_and_what_they_depend_on"];
    caught(Wrong::NoClosure, &by);
    let by = [
        "partitions::a_closure_includes_the_events_and_what_they_depend_on",
        "partitions::a_closure_includes_what_the_partition_depended_on_before",
    ];
    caught(Wrong::NothingBefore, &by);
}

#[test]
fn looking_at_another_partition_only_before_the_write_is_caught() {
    let by = [
        "partitions::nobody_writes_behind_a_fence_that_has_moved",
        "partitions::what_a_condition_looks_at_is_a_cause",
    ];
    caught(Wrong::LetsGo, &by);
    caught(Wrong::NoClosure, &by[1..]);
}

#[test]
fn taking_causes_that_are_not_there_is_caught() {
    let by = ["partitions::a_cause_that_is_not_in_the_log_is_refused"];
    caught(Wrong::TakesAnyCause, &by);
}

#[test]
fn reading_partitions_one_after_another_is_caught() {
    let by = [
        "partitions::nothing_is_read_before_its_cause",
        "partitions::nothing_is_read_before_its_cause_though_the_filter_hides_what_is_between",
        "partitions::a_read_from_a_closed_cut_goes_on_from_it",
    ];
    caught(Wrong::Apart, &by);
    let by =
        ["partitions::nothing_is_read_before_its_cause_though_the_filter_hides_what_is_between"];
    caught(Wrong::ApartIfFiltered, &by);
}
