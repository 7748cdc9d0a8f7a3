//! Copies of a log: to the same places, from wherever they were interrupted.

use std::sync::Arc;

use anabranch_env::{Clock, Env, SplitMix64, sim};
use anabranch_log::copy::{Clocked, Copy, CopyError, GivenClock, digests};
use anabranch_log::{Append, Layout, Log, MemoryLog, PartitionedLog, ReadMode};
use anabranch_model::{Cut, Event, EventId, Filter, NewEvent, PartitionId, Position, StreamId};
use futures_executor::block_on;

fn several() -> Layout {
    let groups = vec!["trade=order,payment:3".parse().unwrap()];
    Layout::new(groups, 2).unwrap()
}

/// An empty log of this layout with the clock that a copy gives its times to.
fn target(layout: &Layout) -> (Arc<dyn Log>, Arc<GivenClock>) {
    let (env, _, _) = sim::env(2);
    let clock = Arc::new(GivenClock::new(env.clock.clone()));
    let env = Env {
        clock: clock.clone(),
        ..env
    };
    let part = |_| Arc::new(MemoryLog::new(env.clone())) as Arc<dyn Log>;
    let log: Arc<dyn Log> = match layout.is_one() {
        true => Arc::new(MemoryLog::new(env.clone())),
        false => {
            let parts = layout.ids().map(part).collect();
            let opened = PartitionedLog::open_for_copy(layout.clone(), parts, Vec::new());
            Arc::new(opened.unwrap())
        }
    };
    (log, clock)
}

/// A log with so many appends of one to three events, most of which depend on earlier ones, recorded
/// at times of their own.
fn source(layout: &Layout, appends: u64) -> Arc<dyn Log> {
    let (env, _, clock) = sim::env(1);
    let log: Arc<dyn Log> = match layout.is_one() {
        true => Arc::new(MemoryLog::new(env.clone())),
        false => Arc::new(PartitionedLog::in_memory(&env, layout.clone())),
    };
    fill(&*log, &clock, 0, appends);
    log
}

fn fill(log: &dyn Log, clock: &sim::SimClock, from: u64, appends: u64) {
    let mut random = SplitMix64::new(from + 7);
    let mut closure = Cut::start();
    for number in from..from + appends {
        clock.advance(std::time::Duration::from_micros(1 + random.below(1_000)));
        let category = ["order", "payment", "stock", "$fact"][random.below(4) as usize];
        let stream = StreamId::system(format!("{category}/{}", random.below(9))).unwrap();
        let count = 1 + random.below(3);
        let mut events: Vec<NewEvent> = (0..count)
            .map(|n| {
                let id = EventId::from_u128(u128::from(number * 10 + n) + 1);
                let kind = "Happened".parse().unwrap();
                let data = format!("{{\"n\":{number}}}");
                NewEvent::new(id, stream.clone(), kind, data).with_tag(format!("n:{n}"))
            })
            .collect();
        if random.below(4) == 0 {
            // Of several streams, which may stand in several partitions.
            for (n, event) in events.iter_mut().enumerate() {
                let category = ["order", "stock", "payment"][n];
                event.stream = StreamId::of(category, &random.below(9).to_string()).unwrap();
            }
        }
        if random.below(4) > 0 {
            events[0].meta_mut().causes = closure.clone();
        }
        events[0].schema_version = 3;
        closure.join(
            &block_on(log.append(Append::events(events)))
                .unwrap()
                .closure,
        );
    }
}

fn all(log: &dyn Log) -> Vec<(Position, Event, Position)> {
    block_on(async {
        let mut batches = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        let mut all = Vec::new();
        while let Some(batch) = batches.next_batch().await {
            let batch = batch.unwrap();
            for event in &batch {
                let event = event.unwrap().to_event();
                all.push((
                    event.position,
                    event.clone(),
                    batch.append_start(event.position),
                ));
            }
        }
        all.sort_by_key(|(position, ..)| *position);
        all
    })
}

/// Copies so many batches, or to the end.
fn copy(
    source: &dyn Log,
    to: &(Arc<dyn Log>, Arc<GivenClock>),
    batches: usize,
) -> Result<u64, CopyError> {
    block_on(async {
        let timed = Clocked {
            log: &*to.0,
            clock: &to.1,
        };
        let mut copy = Copy::start(source, &*to.0, Some(&timed), ReadMode::ToHead).await?;
        let mut copied = 0;
        for _ in 0..batches {
            match copy.next().await? {
                Some(count) => copied += count,
                None => break,
            }
        }
        Ok(copied)
    })
}

fn assert_same(source: &dyn Log, target: &dyn Log) {
    let (theirs, ours) = (all(source), all(target));
    assert_eq!(theirs.len(), ours.len());
    for ((_, event, append), (_, copied, copied_append)) in theirs.iter().zip(&ours) {
        assert_eq!(copied.as_ref(), event.as_ref());
        assert_eq!(copied_append, append, "the append of {}", event.position);
    }
}

#[test]
fn a_copy_has_the_places_times_causes_and_appends_of_its_log() {
    for layout in [Layout::one(), several()] {
        let source = source(&layout, 200);
        let to = target(&layout);
        let copied = copy(&*source, &to, usize::MAX).unwrap();
        assert_eq!(copied, all(&*source).len() as u64);
        assert_same(&*source, &*to.0);
        let head = block_on(source.head()).unwrap();
        assert_eq!(block_on(to.0.head()).unwrap(), head);
        let digest = |log: &dyn Log| block_on(digests(log, &head, true)).unwrap();
        assert_eq!(digest(&*source), digest(&*to.0));
    }
}

#[test]
fn a_copy_that_is_interrupted_goes_on_where_it_stopped() {
    for layout in [Layout::one(), several()] {
        let source = source(&layout, 100);
        for batches in 0..6 {
            let to = target(&layout);
            let first = copy(&*source, &to, batches).unwrap();
            let rest = copy(&*source, &to, usize::MAX).unwrap();
            assert_eq!(first + rest, all(&*source).len() as u64);
            assert_eq!(copy(&*source, &to, usize::MAX).unwrap(), 0);
            assert_same(&*source, &*to.0);
        }
    }
}

#[test]
fn what_appends_say_that_were_under_way_together_is_copied_as_it_is() {
    // A log that takes causes as they are is one like that.
    let (source, _) = target(&several());
    let mut said = Cut::start();
    let [stock, order] = ["stock/1", "order/1"].map(|name| StreamId::new(name).unwrap());
    for (id, stream) in (1..).zip([&stock, &order, &order]) {
        let kind = "Happened".parse().unwrap();
        let mut event = NewEvent::new(EventId::from_u128(id), stream.clone(), kind, "{}");
        event.meta_mut().causes = said.clone();
        let appended = block_on(source.append(Append::event(event))).unwrap();
        if *stream == stock {
            said = appended.cut();
        }
    }
    let to = target(&several());
    copy(&*source, &to, usize::MAX).unwrap();
    assert_same(&*source, &*to.0);
    let causes: Vec<Cut> = all(&*to.0)
        .iter()
        .map(|(_, event, _)| event.as_ref().meta.decode().unwrap().causes)
        .collect();
    assert_eq!(causes.iter().filter(|causes| **causes == said).count(), 2);
}

#[test]
fn a_copy_takes_what_has_come_since() {
    let (env, _, clock) = sim::env(1);
    let source = PartitionedLog::in_memory(&env, several());
    let to = target(&several());
    for round in 0..5 {
        fill(&source, &clock, round * 20, 20);
        copy(&source, &to, usize::MAX).unwrap();
        assert_same(&source, &*to.0);
    }
}

#[test]
fn a_log_that_is_no_copy_gets_nothing() {
    for layout in [Layout::one(), several()] {
        let source = source(&layout, 50);
        let to = target(&layout);
        copy(&*source, &to, usize::MAX).unwrap();
        // Somebody writes to the copy.
        let stray = NewEvent::new(
            EventId::from_u128(u128::MAX),
            StreamId::new("order/1").unwrap(),
            "Stray".parse().unwrap(),
            "{}",
        );
        block_on(to.0.append(Append::event(stray))).unwrap();
        let before = all(&*to.0).len();
        let refused = copy(&*source, &to, usize::MAX).unwrap_err();
        assert!(matches!(refused, CopyError::Differs { .. }), "{refused}");
        assert_eq!(all(&*to.0).len(), before);
    }
    // And one that ends in another event.
    let (one, other) = (source(&Layout::one(), 50), target(&Layout::one()));
    let (env, _, clock) = sim::env(9);
    let apart = MemoryLog::new(env);
    fill(&apart, &clock, 5, 3);
    copy(&apart, &other, usize::MAX).unwrap();
    let refused = copy(&*one, &other, usize::MAX).unwrap_err();
    assert!(matches!(refused, CopyError::Differs { .. }), "{refused}");
}

#[test]
fn a_log_of_another_layout_gets_nothing() {
    let refused = copy(&*source(&several(), 5), &target(&Layout::one()), usize::MAX).unwrap_err();
    assert!(matches!(refused, CopyError::Layout { .. }), "{refused}");
    assert!(
        refused.to_string().contains("trade=order,payment:3"),
        "{refused}"
    );
}

#[test]
fn a_log_that_hides_an_event_is_not_copied_beyond_it() {
    let source = source(&Layout::one(), 20);
    let hiding = Hiding(source.clone());
    let to = target(&Layout::one());
    let refused = copy(&hiding, &to, usize::MAX).unwrap_err();
    let CopyError::Hidden { position } = refused else {
        panic!("{refused}")
    };
    let all = all(&*source);
    let first = all
        .iter()
        .find(|(_, event, _)| event.category() == "payment")
        .unwrap();
    assert_eq!(position, first.0);
}

#[test]
fn one_changed_bit_changes_what_is_compared() {
    let (source, to) = (source(&several(), 40), target(&several()));
    copy(&*source, &to, usize::MAX).unwrap();
    let head = block_on(source.head()).unwrap();
    let digest = |log: &dyn Log, times| block_on(digests(log, &head, times)).unwrap();
    // The same events at other times.
    let late = target(&several());
    let clockless = block_on(async {
        let mut copy = Copy::start(&*source, &*late.0, None, ReadMode::ToHead).await?;
        while copy.next().await?.is_some() {}
        Ok::<_, CopyError>(())
    });
    clockless.unwrap();
    assert_ne!(digest(&*source, true), digest(&*late.0, true));
    assert_eq!(digest(&*source, false), digest(&*late.0, false));
    // A part of the log.
    let mut part = head.clone();
    let (partition, count) = head.iter().last().unwrap();
    part.set(partition, count - 1);
    let shorter = block_on(digests(&*source, &part, true)).unwrap();
    assert_ne!(shorter, digest(&*source, true));
    assert_eq!(shorter.len(), head.iter().count());
    assert!(
        shorter
            .iter()
            .any(|(id, n, _)| *id == PartitionId(partition.0) && *n == count - 1)
    );
}

#[test]
fn a_clock_that_is_given_no_time_tells_its_own() {
    let (env, _, sim) = sim::env(3);
    let clock = GivenClock::new(env.clock.clone());
    assert_eq!(clock.wall_micros(), sim.wall_micros());
    assert_eq!(clock.monotonic(), sim.monotonic());
}

/// A log that keeps payments to itself.
struct Hiding(Arc<dyn Log>);

impl Log for Hiding {
    fn capabilities(&self) -> anabranch_log::Capabilities {
        self.0.capabilities()
    }

    fn append(
        &self,
        append: Append,
    ) -> anabranch_log::BoxFuture<'_, Result<anabranch_log::Appended, anabranch_log::AppendError>>
    {
        self.0.append(append)
    }

    fn read_stream(
        &self,
        stream: &StreamId,
        range: anabranch_log::VersionRange,
        order: anabranch_log::Order,
    ) -> anabranch_log::EventStream {
        self.0.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, _: Filter, mode: ReadMode) -> anabranch_log::EventStream {
        let shown = ["order", "stock", "$fact"].map(Filter::category);
        let shown = shown.into_iter().reduce(|mut all, one| {
            all.categories.extend(one.categories);
            all
        });
        self.0.read(from, shown.unwrap_or_default(), mode)
    }

    fn find(
        &self,
        id: EventId,
    ) -> anabranch_log::BoxFuture<'_, Result<Option<anabranch_log::Placed>, anabranch_log::ReadError>>
    {
        self.0.find(id)
    }

    fn head(&self) -> anabranch_log::BoxFuture<'_, Result<Cut, anabranch_log::ReadError>> {
        self.0.head()
    }
}
