//! Optimistic concurrency: of several writers at one version, one wins.

use anabranch_model::Version;

use crate::conformance::drive::together;
use crate::conformance::make::stream;
use crate::conformance::stage::Stage;
use crate::{Append, AppendError, Expect};

fn at(last: Option<Version>) -> Expect {
    last.map_or(Expect::Empty, Expect::At)
}

pub fn one_writer_wins_each_version_and_the_others_learn_the_actual_one(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let mut last = None;
    for round in 0..25 {
        let answers = together(8, |_| {
            let append = Append::event(stage.event("order/1"));
            stage.append(append.expect(stream("order/1"), at(last)))
        });
        let wins = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(wins, 1, "round {round}: {answers:?}");
        for answer in answers {
            match answer {
                Ok(appended) => assert_eq!(appended.places[0].version, round),
                Err(error) => assert_eq!(
                    error,
                    AppendError::Conflict {
                        stream: stream("order/1"),
                        expected: at(last),
                        actual: Some(round),
                    }
                ),
            }
        }
        last = Some(round);
    }
}

pub fn a_stream_is_created_once(stage: &mut Stage<'_>) {
    let stage = &*stage;
    for round in 0..20 {
        let name = format!("order/{round}");
        let answers = together(8, |_| {
            let append = Append::events(stage.events(&name, 2));
            stage.append(append.expect(stream(&name), Expect::Empty))
        });
        let wins = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(wins, 1, "{answers:?}");
        assert_eq!(stage.last_version(&name), Some(1));
    }
}

pub fn writers_that_retry_with_the_actual_version_all_get_through(stage: &mut Stage<'_>) {
    let stage = &*stage;
    together(6, |_| {
        let mut last = None;
        for _ in 0..20 {
            loop {
                let append = Append::event(stage.event("order/1"));
                match stage.append(append.expect(stream("order/1"), at(last))) {
                    Ok(appended) => {
                        last = Some(appended.places[0].version);
                        break;
                    }
                    Err(AppendError::Conflict { actual, .. }) => {
                        assert!(actual > last, "the actual version went back");
                        last = actual;
                    }
                    Err(other) => panic!("only a conflict may refuse it; it is: {other}"),
                }
            }
        }
    });
    assert_eq!(stage.last_version("order/1"), Some(119));
}

pub fn writers_of_different_streams_never_conflict(stage: &mut Stage<'_>) {
    let stage = &*stage;
    together(8, |thread| {
        let name = format!("order/{thread}");
        for n in 0..30 {
            let append = Append::event(stage.event(&name));
            stage.accept(append.expect(stream(&name), at((n as Version).checked_sub(1))));
        }
    });
}

pub fn writers_of_overlapping_streams_never_deadlock(stage: &mut Stage<'_>) {
    let stage = &*stage;
    together(6, |thread| {
        for n in 0..20 {
            let mut names: Vec<_> = (0..3)
                .map(|k| format!("order/{}", (thread + n + k) % 4))
                .collect();
            if thread % 2 == 0 {
                names.reverse();
            }
            let events = names.iter().map(|name| stage.event(name));
            let append = Append::events(events.collect::<Vec<_>>());
            let append = names.iter().fold(append, |append, name| {
                append.expect(stream(name), Expect::Any)
            });
            stage.accept(append);
        }
    });
}

pub fn conditions_on_each_others_streams_exclude_write_skew(stage: &mut Stage<'_>) {
    let stage = &*stage;
    for round in 0..25 {
        let names = [format!("doctor/a{round}"), format!("doctor/b{round}")];
        // Each leaves only if the other has not.
        let answers = together(2, |n| {
            let append = Append::event(stage.event(&names[n]));
            stage.append(append.expect(stream(&names[1 - n]), Expect::Empty))
        });
        let left = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(left, 1, "{answers:?}");
    }
}

pub fn a_transfer_over_two_streams_is_all_or_nothing_under_contention(stage: &mut Stage<'_>) {
    let stage = &*stage;
    let names = ["account/a", "account/b", "account/c"];
    let done = together(4, |thread| {
        let mut done = 0;
        for n in 0..30 {
            let (from, to) = (names[(thread + n) % 3], names[(thread + n + 1) % 3]);
            let append = Append::events(vec![stage.event(from), stage.event(to)])
                .expect(stream(from), at(stage.last_version(from)))
                .expect(stream(to), at(stage.last_version(to)));
            match stage.append(append) {
                Ok(_) => done += 1,
                Err(AppendError::Conflict { .. }) => {}
                Err(other) => panic!("only a conflict may refuse it; it is: {other}"),
            }
        }
        done
    });
    let done: usize = done.iter().sum();
    assert!(done > 0, "no transfer succeeded");
    assert_eq!(stage.read_all().len(), 2 * done);
}
