//! Random operations, compared with the plain model.

use anabranch_env::SplitMix64;
use anabranch_model::{Cut, Filter, NewEvent, Query, QueryItem, StreamId};

use crate::conformance::check::{just_these, just_these_backward, same_written};
use crate::conformance::drive::together;
use crate::conformance::make::{kind, set_bytes, stream};
use crate::conformance::model::Model;
use crate::conformance::need::Need;
use crate::conformance::stage::{Reader, Stage};
use crate::{Append, Expect, Order, ReadMode, VersionRange};

const STREAMS: [&str; 6] = [
    "order/1",
    "order/2",
    "order/10",
    "payment/1",
    "stock/1",
    "$p/1",
];
const TYPES: [&str; 3] = ["Placed", "Paid", "Shipped"];
const TAGS: [&str; 4] = ["a:1", "a:2", "b:1", "b:2"];

pub fn random_operations_agree_with_the_model(stage: &mut Stage<'_>) {
    let mut dice = Dice::new(stage, stage.seed());
    let mut model = Model::default();
    operate(stage, &mut model, &mut dice, 500);
}

pub fn random_operations_with_restarts_agree_with_the_model(stage: &mut Stage<'_>) {
    let mut dice = Dice::new(stage, stage.seed() ^ 1);
    let mut model = Model::default();
    for _ in 0..8 {
        operate(stage, &mut model, &mut dice, 40);
        stage.reopen();
    }
    operate(stage, &mut model, &mut dice, 40);
}

pub fn random_appends_of_many_threads_fit_one_order(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let answers = together(6, |thread| {
        let mut dice = Dice::new(stage, stage.seed() ^ (thread as u64 + 2));
        // What this thread believes: how the log stood when it last looked.
        let mut seen = Model::default();
        let mut answers = Vec::new();
        for n in 0..60 {
            if n % 6 == 0 {
                seen = look(stage);
            }
            let mut append = dice.new_batch(stage);
            dice.add_conditions(&mut append, &seen, Beyond::Never);
            let answer = stage.append(append.clone());
            answers.push((append, answer));
        }
        answers
    });
    Model::explain(answers.into_iter().flatten().collect());
}

fn look(stage: &Stage<'_>) -> Model {
    let all = stage.read_all();
    let events = all.iter().map(crate::conformance::stage::as_written);
    Model {
        events: events.collect(),
    }
}

/// Does `count` operations and compares each with the model.
fn operate(stage: &Stage<'_>, model: &mut Model, dice: &mut Dice, count: usize) {
    let mut followed = Followed::new(stage, model, dice);
    for _ in 0..count {
        match dice.below(10) {
            0..6 => append(stage, model, dice),
            6..8 => read(stage, model, dice),
            8 => read_stream(stage, model, dice),
            _ => followed = Followed::new(stage, model, dice),
        }
        followed.catch_up(model);
        assert_eq!(stage.head(), model.head());
    }
}

fn append(stage: &Stage<'_>, model: &mut Model, dice: &mut Dice) {
    let mut append = match dice.below(10) {
        0 | 1 => dice.known_batch(model),
        2 => {
            let mut append = dice.known_batch(model);
            append.events.extend(dice.new_batch(stage).events);
            if !dice.atomic {
                append.events.truncate(1);
            }
            append
        }
        3 => {
            let mut append = dice.known_batch(model);
            if let Some(event) = append.events.last_mut() {
                dice.change(event);
            }
            append
        }
        _ => dice.new_batch(stage),
    };
    if append.events.is_empty() {
        append = dice.new_batch(stage);
    }
    dice.add_conditions(&mut append, model, Beyond::Sometimes);
    let answer = stage.append(append.clone());
    model.judge(&append, &answer);
}

fn read(stage: &Stage<'_>, model: &Model, dice: &mut Dice) {
    let from = dice.cut(model, Beyond::Sometimes);
    let filter = dice.filter();
    let backward = stage.capabilities().backward_reads && dice.one_in(2);
    let mode = if backward {
        ReadMode::Backward
    } else {
        ReadMode::ToHead
    };
    let read = stage.try_read(&from, filter.clone(), mode);
    match (read, model.read(&from, &filter, mode)) {
        (Ok(read), Ok(wanted)) if backward => just_these_backward(&read, wanted),
        (Ok(read), Ok(wanted)) => just_these(&read, wanted),
        (read, wanted) => assert_eq!(read.err(), wanted.err(), "{from} {filter:?} {mode:?}"),
    }
}

fn read_stream(stage: &Stage<'_>, model: &Model, dice: &mut Dice) {
    let name = dice.pick(&STREAMS);
    let end = model.last_version(name).map_or(0, |last| last + 1);
    let range = VersionRange(dice.below(end + 3)..dice.below(end + 3));
    let mut wanted = model.read_stream(name, &range);
    let order = if dice.one_in(2) {
        wanted.reverse();
        Order::Backward
    } else {
        Order::Forward
    };
    let read = stage.read_stream(name, range.clone(), order);
    assert_eq!(read.len(), wanted.len(), "{name} {range:?} {order:?}");
    for (event, written) in read.iter().zip(wanted) {
        same_written(event, written);
    }
}

/// A follower, and how far the model says it is.
struct Followed<'a> {
    reader: Reader<'a>,
    filter: Filter,
    at: Cut,
}

impl<'a> Followed<'a> {
    fn new(stage: &Stage<'a>, model: &Model, dice: &mut Dice) -> Self {
        let at = dice.cut(model, Beyond::Never);
        let filter = dice.filter();
        Self {
            reader: stage.reader(&at, filter.clone(), ReadMode::Follow),
            filter,
            at,
        }
    }

    fn catch_up(&mut self, model: &Model) {
        match model.read(&self.at, &self.filter, ReadMode::Follow) {
            Ok(wanted) => {
                let read = self.reader.take(wanted.len());
                just_these(&read, wanted);
            }
            Err(error) => panic!("the model cannot follow: {error}"),
        }
        self.at = model.head();
    }
}

/// Whether a cut may lie beyond the head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beyond {
    Never,
    Sometimes,
}

/// Draws operations.
struct Dice {
    rng: SplitMix64,
    atomic: bool,
    multi_stream: bool,
    no_match: bool,
}

impl Dice {
    fn new(stage: &Stage<'_>, seed: u64) -> Self {
        Self {
            rng: SplitMix64::new(seed),
            atomic: Need::AtomicBatches.is_met(stage),
            multi_stream: Need::MultiStreamConditions.is_met(stage),
            no_match: Need::NoMatchConditions.is_met(stage),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.rng.one_in(n)
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        let index = self.index(of.len());
        of[index]
    }

    /// Each of them with a chance of one in three.
    fn some(&mut self, of: &[&str]) -> Vec<String> {
        let drawn = of.iter().filter(|_| self.one_in(3));
        drawn.map(|&text| text.to_owned()).collect()
    }

    fn new_batch(&mut self, stage: &Stage<'_>) -> Append {
        let count = 1 + self.below(5);
        let name = self.pick(&STREAMS);
        let event = |_| {
            let name = if self.atomic {
                self.pick(&STREAMS)
            } else {
                name
            };
            self.event(stage, name)
        };
        Append::events((0..count).map(event).collect::<Vec<_>>())
    }

    fn event(&mut self, stage: &Stage<'_>, name: &str) -> NewEvent {
        let mut event = stage.typed(name, self.pick(&TYPES));
        if self.one_in(3) {
            let len = if self.one_in(10) { 9_000 } else { 40 };
            let len = self.index(len);
            let data: Vec<u8> = (0..len).map(|_| self.below(256) as u8).collect();
            set_bytes(&mut event, data);
        }
        for tag in self.some(&TAGS) {
            event = event.with_tag(tag);
        }
        if self.one_in(2) {
            event = event.with_header("h", self.pick(&["0", "1"]));
        }
        event
    }

    /// Events that were written, of one or several appends, in some order.
    fn known_batch(&mut self, model: &Model) -> Append {
        let mut events: Vec<NewEvent> = Vec::new();
        for _ in 0..self.below(4) {
            if model.events.is_empty() {
                break;
            }
            let event = &model.events[self.index(model.events.len())].new;
            let fits = self.atomic || events.iter().all(|other| other.stream == event.stream);
            if fits && events.iter().all(|other| other.id != event.id) {
                events.push(event.clone());
            }
        }
        Append::events(events)
    }

    fn change(&mut self, event: &mut NewEvent) {
        match self.below(3) {
            // Of the same key: an id is unique in its partition.
            0 => {
                let name = event.stream.as_str();
                let platform = if name.starts_with('$') { "$" } else { "" };
                event.stream = stream(&format!("{platform}other/{}", event.stream.key()));
            }
            1 => event.event_type = kind("Other"),
            _ => set_bytes(event, [&event.data[..], b"x"].concat()),
        }
    }

    fn add_conditions(&mut self, append: &mut Append, model: &Model, beyond: Beyond) {
        for _ in 0..self.below(3) {
            if self.no_match && self.one_in(3) {
                let query = self.query();
                let after = self.cut(model, beyond);
                *append = std::mem::take(append).unless(query, after);
            } else {
                let name = self.condition_stream(append);
                let expect = self.expect(model.last_version(name.as_str()));
                *append = std::mem::take(append).expect(name, expect);
            }
        }
    }

    fn condition_stream(&mut self, append: &Append) -> StreamId {
        if self.multi_stream && self.one_in(2) {
            stream(self.pick(&STREAMS))
        } else {
            let index = self.index(append.events.len());
            append.events[index].stream.clone()
        }
    }

    /// Mostly what holds.
    fn expect(&mut self, last: Option<u64>) -> Expect {
        match (self.below(8), last) {
            (0, _) => Expect::Any,
            (1, _) => Expect::Empty,
            (2, _) => Expect::Exists,
            (3, _) => Expect::At(self.below(5)),
            (_, None) => Expect::Empty,
            (_, Some(last)) => Expect::At(last),
        }
    }

    fn query(&mut self) -> Query {
        let count = self.below(3);
        let items = (0..count).map(|_| QueryItem {
            types: self.some(&TYPES).iter().map(|name| kind(name)).collect(),
            tags: self.some(&TAGS),
        });
        Query {
            items: items.collect(),
        }
    }

    fn filter(&mut self) -> Filter {
        let mut filter = Filter::all();
        if self.one_in(4) {
            filter.categories = self.some(&["order", "payment", "$p", "none"]);
        }
        if self.one_in(4) {
            filter.types = self.some(&TYPES).iter().map(|name| kind(name)).collect();
        }
        if self.one_in(4) {
            filter.streams = self
                .some(&STREAMS)
                .iter()
                .map(|name| stream(name))
                .collect();
        }
        if self.one_in(4) {
            filter.tags = self.some(&TAGS);
        }
        if self.one_in(4) {
            filter.headers = vec![("h".to_owned(), self.pick(&["0", "1"]).to_owned())];
        }
        filter
    }

    /// A cut of the log, often a late one.
    fn cut(&mut self, model: &Model, beyond: Beyond) -> Cut {
        let mut cut = model.head();
        let counts: Vec<_> = cut.iter().collect();
        for (partition, count) in counts {
            let back = match self.below(3) {
                0 => 0,
                1 => self.below(count.min(5) + 1),
                _ => self.below(count + 1),
            };
            cut.set(partition, count - back);
            if beyond == Beyond::Sometimes && self.one_in(15) {
                cut.set(partition, count + 1 + self.below(3));
            }
        }
        cut
    }
}
