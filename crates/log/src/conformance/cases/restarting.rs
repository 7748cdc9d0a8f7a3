//! What holds after the log was closed and opened again.

use anabranch_model::{Cut, Filter, Query};

use crate::conformance::check::just_these;
use crate::conformance::make::{Written, kind, set_bytes, stream, tagged};
use crate::conformance::stage::Stage;
use crate::{Append, AppendError, Expect, ReadMode, Rejection};

fn write(stage: &Stage<'_>) -> Vec<Written> {
    let batch = |n: usize| {
        let events = stage.events(&format!("order/{}", n % 3), 1 + n % 4);
        stage.put_all(events.into_iter().map(|e| e.with_tag("t:1")).collect())
    };
    (0..10).flat_map(batch).collect()
}

pub fn events_outlive_a_restart(stage: &mut Stage<'_>) {
    let written = write(stage);
    stage.reopen();
    just_these(&stage.read_all(), &written);
}

pub fn an_empty_log_outlives_a_restart(stage: &mut Stage<'_>) {
    stage.reopen();
    assert_eq!(stage.head(), Cut::start());
    stage.put(stage.event("order/1"));
}

pub fn the_head_is_the_same_after_a_restart(stage: &mut Stage<'_>) {
    write(stage);
    let head = stage.head();
    stage.reopen();
    assert_eq!(stage.head(), head);
}

pub fn places_go_on_after_a_restart(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    let head = stage.head();
    stage.reopen();
    let written = stage.put(stage.event("order/1"));
    assert_eq!(written.placed.version, 3);
    let position = written.placed.position;
    assert_eq!(position.offset, head.get(position.partition));
}

pub fn many_restarts_lose_nothing(stage: &mut Stage<'_>) {
    let mut written = Vec::new();
    for _ in 0..6 {
        written.extend(stage.put_each("order/1", 3));
        stage.reopen();
        just_these(&stage.read_all(), &written);
    }
}

pub fn a_restart_without_a_write_changes_nothing(stage: &mut Stage<'_>) {
    let written = write(stage);
    for _ in 0..3 {
        stage.reopen();
    }
    just_these(&stage.read_all(), &written);
}

pub fn the_recorded_time_outlives_a_restart(stage: &mut Stage<'_>) {
    write(stage);
    let times = |stage: &Stage<'_>| -> Vec<u64> {
        let all = stage.read_all();
        all.iter().map(|event| event.recorded_at).collect()
    };
    let before = times(stage);
    stage.reopen();
    assert_eq!(times(stage), before);
}

pub fn a_repeat_after_a_restart_answers_the_original_places(stage: &mut Stage<'_>) {
    let written = write(stage);
    stage.put_each("order/1", 20);
    stage.reopen();
    for written in &written {
        match stage.append(Append::event(written.new.clone())) {
            Ok(appended) => {
                assert!(appended.repeated);
                assert_eq!(appended.places, [written.placed]);
            }
            Err(error) => panic!("a repeat must succeed; it failed: {error}"),
        }
    }
}

pub fn a_conditional_append_can_be_repeated_after_a_restart(stage: &mut Stage<'_>) {
    let append =
        Append::events(stage.events("order/1", 2)).expect(stream("order/1"), Expect::Empty);
    let written = stage.accept(append.clone());
    stage.put_each("order/1", 3);
    stage.reopen();
    match stage.append(append) {
        Ok(appended) => {
            assert!(appended.repeated);
            let places: Vec<_> = written.iter().map(|written| written.placed).collect();
            assert_eq!(appended.places, places);
        }
        Err(error) => panic!("a repeat must succeed; it failed: {error}"),
    }
}

pub fn ids_are_still_taken_after_a_restart(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    stage.reopen();
    let mut other = written.new.clone();
    other.event_type = kind("SomethingElse");
    assert_eq!(
        stage.refuse(Append::event(other)),
        AppendError::Rejected(Rejection::IdTaken {
            id: written.new.id,
            position: written.placed.position,
        })
    );
}

pub fn a_partly_written_batch_is_refused_after_a_restart(stage: &mut Stage<'_>) {
    let written = stage.put(stage.event("order/1"));
    stage.reopen();
    let batch = vec![stage.event("order/1"), written.new.clone()];
    assert_eq!(
        stage.refuse(Append::events(batch)),
        AppendError::Rejected(Rejection::PartlyWritten {
            id: written.new.id,
            position: written.placed.position,
        })
    );
}

pub fn stream_conditions_hold_after_a_restart(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    stage.reopen();
    let append = |expect| Append::event(stage.event("order/1")).expect(stream("order/1"), expect);
    for expect in [Expect::Empty, Expect::At(1), Expect::At(3)] {
        assert_eq!(
            stage.refuse(append(expect)),
            AppendError::Conflict {
                stream: stream("order/1"),
                expected: expect,
                actual: Some(2),
            }
        );
    }
    stage.accept(append(Expect::At(2)));
}

pub fn queries_match_after_a_restart(stage: &mut Stage<'_>) {
    let event = stage.event("order/1").with_tag("user:ann");
    let written = stage.put(event);
    stage.reopen();
    let append =
        |after| Append::event(stage.event("order/2")).unless(Query::tags(["user:ann"]), after);
    assert_eq!(
        stage.refuse(append(Cut::start())),
        AppendError::Matched {
            position: written.placed.position,
        }
    );
    stage.accept(append(stage.head()));
}

pub fn filters_work_after_a_restart(stage: &mut Stage<'_>) {
    let written = write(stage);
    stage.put(stage.event("payment/1"));
    stage.reopen();
    just_these(&stage.matching(Filter::category("order")), &written);
    just_these(&stage.matching(tagged(&["t:1"])), &written);
}

pub fn a_cut_of_before_a_restart_can_be_followed_after_it(stage: &mut Stage<'_>) {
    stage.put_each("order/1", 3);
    let cut = stage.head();
    let mut written = stage.put_each("order/1", 2);
    stage.reopen();
    let mut follower = stage.follow(&cut);
    let mut read = follower.take(2);
    written.push(stage.put(stage.event("order/1")));
    read.extend(follower.take(1));
    just_these(&read, &written);
}

pub fn large_batches_outlive_a_restart(stage: &mut Stage<'_>) {
    let count = stage.limits().batch_events_max.min(10_000);
    let mut written = stage.put_all(stage.events("order/1", count));
    let mut large = stage.event("order/2");
    set_bytes(&mut large, vec![b'x'; stage.limits().data_bytes_max]);
    written.push(stage.put(large));
    stage.reopen();
    just_these(&stage.read_all(), &written);
}

pub fn an_append_cut_short_by_a_restart_is_whole_or_absent(stage: &mut Stage<'_>) {
    for round in 0..5 {
        let append = Append::events(stage.events(&format!("order/{round}"), 3));
        stage.uncertain(&append.events);
        {
            let log = stage.log().clone();
            let mut future = log.append(append.clone());
            let waker = std::task::Waker::noop();
            let _ = future
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
        }
        stage.reopen();
        let read = stage.read(
            &Cut::start(),
            Filter::stream(append.events[0].stream.clone()),
            ReadMode::ToHead,
        );
        assert!(
            read.is_empty() || read.len() == 3,
            "{} of 3 events were written",
            read.len()
        );
        if let Err(error) = stage.append(append) {
            panic!("repeating what was cut short failed: {error}");
        }
    }
}
