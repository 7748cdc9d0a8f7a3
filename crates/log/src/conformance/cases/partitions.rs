//! Several partitions, and what their events depend on in one another. On a log with one
//! partition the same holds by its one order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anabranch_env::SplitMix64;
use anabranch_model::{Cut, Event, EventBatch, EventId, Filter, NewEvent, PartitionId};

use crate::conformance::drive::{together, while_writing};
use crate::conformance::make::stream;
use crate::conformance::stage::{Reader, Stage};
use crate::{Append, AppendError, Appended, Expect, ReadMode, Rejection};

/// A stream in each of `count` partitions, if there are so many; otherwise some share one. Their
/// category is `category`, but for one of the platform where it takes that.
fn apart(stage: &Stage<'_>, category: &str, count: usize) -> Vec<String> {
    let partitions = stage.capabilities().partitions as usize;
    let mut streams: BTreeMap<PartitionId, String> = BTreeMap::new();
    for key in 0..1_000 {
        let name = match key {
            0 => "$apart/1".to_owned(),
            key => format!("{category}/{key}"),
        };
        let place = stage.put(stage.event(&name)).placed.position;
        streams.entry(place.partition).or_insert(name);
        if streams.len() == count.min(partitions) {
            break;
        }
    }
    let streams: Vec<String> = streams.into_values().collect();
    (0..count)
        .map(|n| streams[n % streams.len()].clone())
        .collect()
}

/// An event of this stream that depends on `causes`.
fn caused(stage: &Stage<'_>, name: &str, causes: &Cut) -> NewEvent {
    let mut event = stage.event(name);
    if stage.capabilities().partitions > 1 {
        event.meta_mut().causes = causes.clone();
    }
    event
}

/// Writes one event that depends on `causes`.
fn write(stage: &Stage<'_>, name: &str, causes: &Cut) -> Appended {
    write_event(stage, caused(stage, name, causes))
}

fn write_event(stage: &Stage<'_>, event: NewEvent) -> Appended {
    accepted(stage.append(Append::event(event)))
}

fn accepted(answer: Result<Appended, AppendError>) -> Appended {
    match answer {
        Ok(appended) => appended,
        Err(error) => panic!("an append that must succeed failed: {error}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was said that each event depends on, beside what stands before it in its partition.
#[derive(Default)]
struct Said(Mutex<BTreeMap<EventId, Cut>>);

impl Said {
    fn write(&self, stage: &Stage<'_>, name: &str, causes: &Cut) -> Appended {
        let event = caused(stage, name, causes);
        self.known().insert(event.id, causes.clone());
        write_event(stage, event)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<EventId, Cut>> {
        lock(&self.0)
    }

    /// Asserts of each cut that it includes what its events depend on.
    fn all_closed<'a>(&self, stage: &Stage<'_>, cuts: impl IntoIterator<Item = &'a Cut>) {
        let known = self.known();
        let mut partitions: BTreeMap<PartitionId, Vec<Cut>> = BTreeMap::new();
        for event in stage.read_all() {
            let depends = partitions.entry(event.position.partition).or_default();
            let mut causes = depends.last().cloned().unwrap_or_default();
            causes.join(known.get(&event.id).unwrap_or(&Cut::start()));
            depends.push(causes);
        }
        for cut in cuts {
            for (partition, count) in cut.iter() {
                let depends = partitions
                    .get(&partition)
                    .and_then(|depends| depends.get(count as usize - 1));
                let Some(depends) = depends else {
                    panic!("the cut {cut} includes events that cannot be read");
                };
                assert!(
                    cut.covers(depends),
                    "the cut {cut} includes what depends on {depends}"
                );
            }
        }
    }
}

/// Where a reader is after a batch.
fn reached(at: &mut Cut, batch: &EventBatch) {
    for event in batch.iter().flatten() {
        assert!(
            !at.includes(event.position),
            "{} comes twice or too late",
            event.position
        );
        at.join(&Cut::including(event.position));
    }
    if let Some(reach) = batch.reach() {
        reach.pass(at);
    }
}

/// Every place that a read to the head comes by.
fn places(stage: &Stage<'_>, from: &Cut, filter: &Filter) -> Vec<Cut> {
    let mut at = from.clone();
    let read = stage.reader(from, filter.clone(), ReadMode::ToHead);
    let place = |batch: EventBatch| {
        reached(&mut at, &batch);
        at.clone()
    };
    read.batches().into_iter().map(place).collect()
}

pub fn a_closure_includes_the_events_and_what_they_depend_on(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 3);
    let x = write(stage, &streams[0], &Cut::start());
    // Says only where the event stands that it depends on.
    let y = write(stage, &streams[1], &x.cut());
    assert!(y.closure.covers(&x.cut()), "{} has no cause", y.closure);
    assert!(y.closure.covers(&y.cut()), "{} is not closed", y.closure);
    let z = write(stage, &streams[2], &y.cut());
    for past in [&x, &y, &z] {
        assert!(
            z.closure.covers(&past.closure),
            "{} is not closed",
            z.closure
        );
    }
    assert!(stage.head().covers(&z.closure));
}

pub fn a_closure_includes_what_the_partition_depended_on_before(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 2);
    let x = write(stage, &streams[0], &Cut::start());
    write(stage, &streams[1], &x.closure);
    let later = write(stage, &streams[1], &Cut::start());
    assert!(later.closure.covers(&x.closure), "{}", later.closure);
}

pub fn a_repeat_answers_a_closure_too(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 2);
    let x = write(stage, &streams[0], &Cut::start());
    let event = caused(stage, &streams[1], &x.closure);
    let first = write_event(stage, event.clone());
    let again = write_event(stage, event);
    assert!(again.repeated);
    assert!(again.closure.covers(&first.closure), "{}", again.closure);
}

pub fn of_appends_handed_over_together_each_has_its_closure(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 3);
    let x = write(stage, &streams[0], &Cut::start());
    let appends = streams
        .iter()
        .map(|name| Append::event(caused(stage, name, &x.closure)));
    for answer in stage.append_all(appends.collect()) {
        match answer {
            Ok(appended) => {
                let closure = &appended.closure;
                assert!(closure.covers(&appended.cut()) && closure.covers(&x.closure));
            }
            Err(error) => panic!("an append that must succeed failed: {error}"),
        }
    }
}

pub fn what_a_partition_depended_on_is_known_after_a_restart(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 3);
    let x = write(stage, &streams[0], &Cut::start());
    let y = write(stage, &streams[1], &x.closure);
    stage.reopen();
    let later = write(stage, &streams[1], &Cut::start());
    assert!(later.closure.covers(&y.closure), "{}", later.closure);
    let z = write(stage, &streams[2], &y.cut());
    assert!(z.closure.covers(&x.closure), "{}", z.closure);
}

pub fn a_cause_that_is_not_in_the_log_is_refused(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 2);
    let partitions = stage.capabilities().partitions;
    if partitions == 1 {
        return;
    }
    let head = stage.head();
    for partition in [0, 1, partitions - 1, partitions, u32::MAX] {
        let mut causes = head.clone();
        causes.set(PartitionId(partition), head.get(PartitionId(partition)) + 1);
        let refused = stage.refuse(Append::event(caused(stage, &streams[1], &causes)));
        let mut beyond = Cut::start();
        beyond.set(PartitionId(partition), causes.get(PartitionId(partition)));
        let wanted = Rejection::FutureCause {
            causes: beyond,
            head: head.clone(),
        };
        assert_eq!(refused, AppendError::Rejected(wanted));
    }
    write(stage, &streams[1], &head);
}

pub fn the_events_of_an_append_share_their_causes(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 3);
    let x = write(stage, &streams[0], &Cut::start());
    let y = write(stage, &streams[1], &Cut::start());
    let events = [&x.closure, &y.closure, &Cut::start()];
    let events = events.map(|causes| caused(stage, &streams[2], causes));
    let z = match stage.append(Append::events(events)) {
        Ok(appended) => appended,
        Err(error) => panic!("an append that must succeed failed: {error}"),
    };
    assert!(z.closure.covers(&x.closure) && z.closure.covers(&y.closure));
}

pub fn the_stored_causes_before_an_event_are_all_that_it_depends_on(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 3);
    let mut token = Cut::start();
    let mut due = BTreeMap::new();
    for n in 0..30 {
        let appended = write(stage, &streams[n * 7 % 3], &token);
        token.join(&appended.closure);
        let at = appended.places[0].position;
        let mut others = token.clone();
        others.set(at.partition, 0);
        due.insert(at, others);
    }
    let mut stored: BTreeMap<PartitionId, Cut> = BTreeMap::new();
    for event in stage.read_all() {
        let Ok(meta) = event.meta().decode() else {
            panic!("the metadata of {} cannot be decoded", event.id);
        };
        let stored = stored.entry(event.position.partition).or_default();
        stored.join(&meta.causes);
        if let Some(due) = due.get(&event.position) {
            assert!(stored.covers(due), "{stored} is less than {due}");
        }
    }
}

pub fn a_batch_over_partitions_is_refused_or_written_whole(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 2);
    let events = || -> Vec<NewEvent> { streams.iter().map(|name| stage.event(name)).collect() };
    let before = stage.head();
    match stage.append(Append::events(events())) {
        Ok(appended) => assert_eq!(appended.places.len(), 2),
        Err(AppendError::Rejected(error @ Rejection::Apart { .. })) => {
            let words = error.to_string();
            assert!(
                streams.iter().all(|name| words.contains(name.as_str())),
                "{words}"
            );
            assert_eq!(stage.head(), before, "a refused append moved the head");
        }
        Err(error) => panic!("it is neither written nor refused in words: {error}"),
    }
}

pub fn what_a_condition_looks_at_is_a_cause(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 2);
    let x = write(stage, &streams[0], &Cut::start());
    let looks = || Append::event(stage.event(&streams[1]));
    let x_exists = looks().expect(stream(&streams[0]), Expect::Exists);
    let y = accepted(stage.append(x_exists));
    assert!(y.closure.covers(&x.closure), "{}", y.closure);
    let before = stage.head();
    let refused = stage.refuse(looks().expect(stream(&streams[0]), Expect::Empty));
    assert!(refused.is_conflict(), "{refused}");
    assert_eq!(stage.head(), before, "a refused append moved the head");
}

pub fn nobody_writes_behind_a_fence_that_has_moved(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let streams = apart(stage, "order", 3);
    let fence = &streams[0];
    let stands_at = AtomicU64::new(stage.put(stage.event(fence)).placed.version);
    let moved = Mutex::new(BTreeMap::new());
    let written = Mutex::new(Vec::new());
    together(3, |thread| {
        for _ in 0..60 {
            if thread == 0 {
                let version = stage.put(stage.event(fence)).placed.version;
                // Whoever still relies on the version before has written, or never does.
                let head = stage.head();
                lock(&moved).insert(version - 1, head);
                stands_at.store(version, Ordering::Release);
                continue;
            }
            let version = stands_at.load(Ordering::Acquire);
            let append = Append::event(stage.event(&streams[thread]));
            match stage.append(append.expect(stream(fence), Expect::At(version))) {
                Ok(appended) => lock(&written).push((version, appended)),
                Err(error) => assert!(error.is_conflict(), "{error}"),
            }
        }
    });
    let moved = lock(&moved);
    for (version, appended) in lock(&written).iter() {
        if let Some(head) = moved.get(version) {
            let places = appended.cut();
            assert!(
                head.covers(&places),
                "{places} was written under version {version}, which was over at {head}"
            );
        }
    }
}

pub fn a_repeat_does_not_look_again(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 2);
    let other = stage.put(stage.event(&streams[0])).placed.version;
    let append = Append::event(stage.event(&streams[1]));
    let append = append.expect(stream(&streams[0]), Expect::At(other));
    let first = accepted(stage.append(append.clone()));
    stage.put(stage.event(&streams[0]));
    let again = accepted(stage.append(append));
    assert!(again.repeated);
    assert_eq!(again.places, first.places);
}

pub fn of_appends_handed_over_together_some_may_look_at_what_others_write(stage: &mut Stage<'_>) {
    if stage.capabilities().partitions == 1 {
        return;
    }
    let streams = apart(stage, "order", 2);
    let [mut one, mut other] =
        [&streams[0], &streams[1]].map(|name| stage.put(stage.event(name)).placed.version);
    let mut appends = Vec::new();
    for _ in 0..20 {
        // Each looks at what the one before has written.
        let append = Append::event(stage.event(&streams[0]));
        appends.push(append.expect(stream(&streams[1]), Expect::At(other)));
        one += 1;
        let append = Append::event(stage.event(&streams[1]));
        appends.push(append.expect(stream(&streams[0]), Expect::At(one)));
        other += 1;
    }
    let count = appends.len();
    let answers = stage.append_all(appends);
    assert_eq!(answers.into_iter().map(accepted).count(), count);
}

/// A story that goes from partition to partition, each event because of the one before.
fn story(stage: &Stage<'_>, said: &Said, streams: &[String], length: usize) {
    let mut token = Cut::start();
    for n in 0..length {
        let name = &streams[n % streams.len()];
        token.join(&said.write(stage, name, &token).closure);
    }
}

pub fn nothing_is_read_before_its_cause(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 3);
    let said = Said::default();
    story(stage, &said, &streams, 900);
    let places = places(stage, &Cut::start(), &Filter::all());
    said.all_closed(stage, &places);
}

pub fn nothing_is_read_before_its_cause_though_the_filter_hides_what_is_between(
    stage: &mut Stage<'_>,
) {
    let streams = apart(stage, "order", 3);
    let said = Said::default();
    story(stage, &said, &streams, 300);
    for hidden in &streams {
        let seen = streams.iter().filter(|name| *name != hidden);
        let filter = Filter {
            streams: seen.map(|name| stream(name)).collect(),
            ..Filter::all()
        };
        let places = places(stage, &Cut::start(), &filter);
        said.all_closed(stage, &places);
    }
}

pub fn a_read_from_a_closed_cut_goes_on_from_it(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 3);
    let said = Said::default();
    story(stage, &said, &streams, 90);
    let begins = places(stage, &Cut::start(), &Filter::all());
    for from in begins {
        said.all_closed(stage, &places(stage, &from, &Filter::all()));
    }
}

pub fn the_head_includes_what_its_events_depend_on(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let streams = apart(stage, "order", 3);
    let said = Said::default();
    let mut heads = Vec::new();
    let write = |_| story(stage, &said, &streams, 120);
    while_writing(3, write, || heads.push(stage.head()));
    said.all_closed(stage, &heads);
}

pub fn random_causes_come_before_their_effects_for_every_follower(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 5);
    let mut rng = SplitMix64::new(stage.seed());
    let said = Said::default();
    let (mut tokens, mut closed) = (vec![Cut::start()], vec![Cut::start()]);
    let mut followers: Vec<Follower<'_>> = Vec::new();
    for n in 0..400 {
        let mut pick = |of: usize| rng.below(of as u64) as usize;
        if n % 40 == 0 {
            // Some see everything, some two streams, and some begin at what a token says.
            let mut seen = vec![pick(streams.len()), pick(streams.len())];
            if pick(3) == 0 {
                seen.clear();
            }
            let from = match pick(2) {
                0 => Cut::start(),
                _ => closed[pick(closed.len())].clone(),
            };
            let seen = seen.iter().map(|&at| stream(&streams[at]));
            let filter = Filter {
                streams: seen.collect(),
                ..Filter::all()
            };
            followers.push(Follower {
                reader: stage.reader(&from, filter, ReadMode::Follow),
                at: from,
                places: Vec::new(),
            });
        }
        let mut causes = Cut::start();
        for _ in 0..pick(3) {
            causes.join(&tokens[pick(tokens.len())]);
        }
        let name = &streams[pick(streams.len())];
        let appended = said.write(stage, name, &causes);
        // Whoever has seen it and its causes, or only where it stands.
        tokens.push(match pick(3) {
            0 => appended.cut(),
            _ => appended.closure.clone(),
        });
        closed.push(appended.closure);
        let count = followers.len();
        followers[pick(count)].poll(stage);
    }
    said.all_closed(stage, &closed);
    for mut follower in followers {
        follower.poll(stage);
        said.all_closed(stage, &follower.places);
    }
}

pub fn writers_with_tokens_of_their_own_never_hide_a_cause(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let streams = apart(stage, "order", 4);
    let said = Said::default();
    let closures = together(4, |thread| {
        let mut rng = SplitMix64::new(stage.seed() ^ thread as u64);
        let mut token = Cut::start();
        let mut closures = Vec::new();
        for _ in 0..60 {
            let name = &streams[rng.below(4) as usize];
            let closure = said.write(stage, name, &token).closure;
            match rng.below(4) {
                // Somebody else, who has read everything.
                0 => token = stage.head(),
                1 => token = Cut::start(),
                _ => token.join(&closure),
            }
            closures.push(closure);
        }
        closures
    });
    said.all_closed(stage, closures.iter().flatten());
    said.all_closed(stage, &places(stage, &Cut::start(), &Filter::all()));
}

/// A follower, and every place that it came by.
struct Follower<'a> {
    reader: Reader<'a>,
    at: Cut,
    places: Vec<Cut>,
}

impl Follower<'_> {
    /// Takes what there is.
    fn poll(&mut self, stage: &Stage<'_>) {
        stage.subject_settles();
        while let Some(batch) = self.reader.batch_at_once() {
            reached(&mut self.at, &batch);
            self.places.push(self.at.clone());
        }
    }
}

pub fn backward_the_partitions_come_newest_first(stage: &mut Stage<'_>) {
    let streams = apart(stage, "order", 3);
    story(stage, &Said::default(), &streams, 60);
    let read = stage.read(&stage.head(), Filter::all(), ReadMode::Backward);
    let times: Vec<u64> = read.iter().map(|event: &Event| event.recorded_at).collect();
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "{times:?}"
    );
}
