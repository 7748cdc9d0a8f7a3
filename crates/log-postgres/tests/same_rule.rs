//! The rule of an append is said in SQL and in Rust: random runs compare the two.

mod support;

use std::sync::Arc;

use anabranch_env::{Env, SplitMix64};
use anabranch_log::{Append, AppendError, Appended, Expect, Layout, Log, PartitionedLog, ReadMode};
use anabranch_log_postgres::{Options, PostgresLog};
use anabranch_model::{Cut, Event, EventId, Filter, Meta, NewEvent, PartitionId, Query, StreamId};
use futures_executor::block_on;

use support::Server;

struct Run {
    rng: SplitMix64,
    logs: [Box<dyn Log>; 2],
    tokens: Vec<Cut>,
    appends: Vec<Append>,
    next_id: u128,
}

impl Run {
    fn pick(&mut self, of: usize) -> usize {
        self.rng.below(of as u64) as usize
    }

    fn stream(&mut self) -> StreamId {
        format!("order/{}", self.pick(6)).parse().unwrap()
    }

    fn event(&mut self, stream: StreamId) -> NewEvent {
        // Now and then an id that was used.
        let id = match self.pick(12) {
            0 => 1 + self.rng.below(self.next_id as u64) as u128,
            _ => self.next_id + 1,
        };
        self.next_id = self.next_id.max(id);
        let kind = ["A", "B"][self.pick(2)].parse().unwrap();
        let mut event = NewEvent::new(
            EventId::from_u128(id),
            stream,
            kind,
            format!("{{\"id\":{id}}}"),
        );
        let mut meta = Meta::default();
        if self.pick(2) == 0 {
            meta.tags = vec![format!("tag:{}", self.pick(3))];
        }
        if self.pick(2) == 0 {
            meta.causes = self.causes();
        }
        event.meta = Some(Arc::new(meta));
        event
    }

    fn causes(&mut self) -> Cut {
        let token = self.pick(self.tokens.len());
        let mut causes = self.tokens[token].clone();
        if self.pick(20) == 0 {
            // Perhaps beyond the log.
            let partition = PartitionId(self.pick(5) as u32);
            causes.set(partition, causes.get(partition) + self.rng.below(4));
        }
        if self.pick(3) == 0 {
            // One event only, not all that it depends on.
            let partition = PartitionId(1 + self.pick(3) as u32);
            let mut one = Cut::start();
            one.set(partition, causes.get(partition));
            causes = one;
        }
        causes
    }

    fn append(&mut self) -> Append {
        if !self.appends.is_empty() && self.pick(8) == 0 {
            let again = self.pick(self.appends.len());
            return self.appends[again].clone();
        }
        let stream = self.stream();
        let count = 1 + self.pick(3);
        let mut append = Append::events(
            (0..count)
                .map(|_| self.event(stream.clone()))
                .collect::<Vec<_>>(),
        );
        for _ in 0..self.pick(3) {
            let about = self.stream();
            append = match self.pick(5) {
                0 => append.expect(about, Expect::Empty),
                1 => append.expect(about, Expect::Exists),
                2 => append.expect(about, Expect::At(self.rng.below(4))),
                3 => append.expect(about, Expect::Any),
                _ => {
                    let query = Query::tags([format!("tag:{}", self.pick(3))]);
                    let after = self.causes();
                    append.unless(query, after)
                }
            };
        }
        append
    }

    fn step(&mut self, seed: u64, number: usize) {
        let append = self.append();
        let answers = [0, 1].map(|log: usize| block_on(self.logs[log].append(append.clone())));
        let what = format!("seed {seed}, append {number}: {append:?}");
        match &answers {
            [Ok(ours), Ok(theirs)] => {
                assert_eq!(ours.places, theirs.places, "{what}");
                assert_eq!(ours.repeated, theirs.repeated, "{what}");
                // What in memory was refused may count there.
                assert!(
                    theirs.closure.covers(&ours.closure),
                    "{what}: {} and {}",
                    ours.closure,
                    theirs.closure
                );
                self.tokens.push(ours.closure.clone());
                self.appends.push(append);
            }
            [Err(ours), Err(theirs)] => assert!(
                is_same(ours, theirs),
                "{what}: {ours}, and in memory {theirs}"
            ),
            [ours, theirs] => panic!("{what}: {}, and in memory {}", said(ours), said(theirs)),
        }
    }
}

fn said(answer: &Result<Appended, AppendError>) -> String {
    match answer {
        Ok(appended) => format!("{appended:?}"),
        Err(error) => error.to_string(),
    }
}

/// Of several reasons either may be told.
fn is_same(one: &AppendError, other: &AppendError) -> bool {
    const CAUSE: &str = "future-cause";
    let of_condition = |error: &AppendError| error.is_conflict() || error.code() == "beyond-head";
    one.code() == other.code()
        || [one, other].iter().any(|error| error.code() == CAUSE)
        || (of_condition(one) && of_condition(other))
}

fn read(log: &dyn Log) -> Vec<Event> {
    let mut events = log.read(&Cut::start(), Filter::all(), ReadMode::ToHead);
    let events = std::iter::from_fn(|| block_on(events.next())).map(Result::unwrap);
    let mut events: Vec<_> = events.collect();
    for event in &mut events {
        event.recorded_at = 0;
    }
    events.sort_by_key(|event| event.position);
    events
}

#[test]
fn random_appends_are_answered_and_stored_as_by_partitions_in_memory() {
    let Some(server) = Server::start("comparing a log in PostgreSQL with one in memory") else {
        return;
    };
    for seed in 0..8 {
        let layout = Layout::new(Vec::new(), 3).unwrap();
        let mut options = Options::default();
        options.layout = Some(layout.clone());
        let log = PostgresLog::open(&server.log(), options).unwrap();
        let memory = PartitionedLog::in_memory(&Env::os(), layout);
        let mut run = Run {
            rng: SplitMix64::new(seed),
            logs: [Box::new(log), Box::new(memory)],
            tokens: vec![Cut::start()],
            appends: Vec::new(),
            next_id: 1,
        };
        for number in 0..120 {
            run.step(seed, number);
        }
        let [ours, theirs] = [0, 1].map(|log: usize| read(&*run.logs[log]));
        assert_eq!(ours, theirs, "seed {seed}");
    }
}
