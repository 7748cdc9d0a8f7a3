//! Logs in memory: what is copied, and what it is copied to.

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{Clock, Env, SplitMix64, sim};
use anabranch_log::copy::{Clocked, GivenClock};
use anabranch_log::{Append, Layout, Log, MemoryLog, PartitionedLog, ReadMode};
use anabranch_model::{Cut, Event, EventId, Filter, NewEvent, Position, StreamId};
use futures_executor::block_on;

/// From which layout to which.
pub fn layouts() -> Vec<(Layout, Layout)> {
    let several = |group: &str, rest| Layout::new(vec![group.parse().unwrap()], rest).unwrap();
    let few = several("trade=order,payment:3", 2);
    let many = several("goods=stock,order:4", 3);
    vec![
        (Layout::one(), few.clone()),
        (few.clone(), many),
        (few, Layout::one()),
    ]
}

/// An empty log, and the clock that a copy gives its times to.
pub struct Target {
    pub log: Arc<dyn Log>,
    clock: Arc<GivenClock>,
}

impl Target {
    pub fn new(layout: &Layout) -> Self {
        let (env, _, _) = sim::env(2);
        let clock = Arc::new(GivenClock::new(env.clock.clone()));
        let env = Env {
            clock: clock.clone(),
            ..env
        };
        let part = |_: u32| Arc::new(MemoryLog::new(env.clone())) as Arc<dyn Log>;
        let log: Arc<dyn Log> = match layout.is_one() {
            true => part(0),
            false => {
                let parts = layout.ids().map(|id| part(id.0)).collect();
                Arc::new(PartitionedLog::open(layout.clone(), parts).unwrap())
            }
        };
        Self { log, clock }
    }

    pub fn timed(&self) -> Clocked<'_> {
        Clocked {
            log: &*self.log,
            clock: &self.clock,
        }
    }
}

/// A log with so many appends of one to three events, most of which depend on earlier ones, recorded
/// at times of their own.
pub fn filled(layout: &Layout, appends: u64) -> Arc<dyn Log> {
    let (env, _, clock) = sim::env(1);
    let passing = Passing(clock);
    let env = Env {
        clock: Arc::new(passing),
        ..env
    };
    let log: Arc<dyn Log> = match layout.is_one() {
        true => Arc::new(MemoryLog::new(env)),
        false => Arc::new(PartitionedLog::in_memory(&env, layout.clone())),
    };
    more(&*log, 0, appends);
    log
}

/// Some time passes between any two looks at it.
struct Passing(Arc<sim::SimClock>);

impl Clock for Passing {
    fn wall_micros(&self) -> u64 {
        self.0.advance(Duration::from_micros(7));
        self.0.wall_micros()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

/// So many appends more, of which this is the number of the first.
pub fn more(log: &dyn Log, from: u64, appends: u64) {
    let mut random = SplitMix64::new(from + 7);
    let mut closure = Cut::start();
    for number in from..from + appends {
        let category = ["order", "payment", "stock", "$fact"][random.below(4) as usize];
        let stream = StreamId::system(format!("{category}/{}", random.below(9))).unwrap();
        let mut events: Vec<NewEvent> = (0..1 + random.below(3))
            .map(|n| {
                let id = EventId::from_u128(u128::from(number * 10 + n) + 1);
                let data = format!("{{\"n\":{number}}}");
                NewEvent::new(id, stream.clone(), "Happened".parse().unwrap(), data)
                    .with_tag(format!("n:{n}"))
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
        let appended = block_on(log.append(Append::events(events))).unwrap();
        if random.below(2) == 0 {
            closure.join(&appended.closure);
        }
    }
}

/// An event as a reader sees it.
pub struct Seen {
    pub event: Event,
    /// Where its append begins.
    pub append: Position,
    /// When the first of what came together with it was recorded.
    pub recorded_at: u64,
}

/// The events of a log by position.
pub fn all(log: &dyn Log) -> Vec<Seen> {
    block_on(async {
        let mut batches = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
        let mut all = Vec::new();
        while let Some(batch) = batches.next_batch().await {
            let batch = batch.unwrap();
            let times = batch.iter().map(|event| event.unwrap().recorded_at);
            let first = times.min().filter(|_| batch.parts().len() > 1);
            for event in &batch {
                let event = event.unwrap().to_event();
                all.push(Seen {
                    append: batch.append_start(event.position),
                    recorded_at: first.unwrap_or(event.recorded_at),
                    event,
                });
            }
        }
        all.sort_by_key(|seen| seen.event.position);
        all
    })
}
