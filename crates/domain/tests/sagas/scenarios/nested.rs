//! A step that is itself a saga.

use std::time::Duration;

use anabranch_domain::saga::{Definition, Phase, Promise, Request, Rule, Rules};
use anabranch_domain::testkit::{self, CrashPoint, Service, World};
use anabranch_domain::{NoEvent, Saga, StreamId};

use crate::ensure;
use crate::fixture::*;

/// Books two things.
struct Booking;
/// Takes back what a booking has done.
struct Cancelling;
/// Books, then pays.
struct Holiday;

impl Saga for Booking {
    const NAME: &'static str = "booking";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1)
            .compensatable("room", |room| {
                room.changes("part")
                    .request(|_, cx| do_it("room", cx))
                    .undo(Promise::ALL, |_, cx| undo_it("room", cx))
                    .retry(RETRY)
            })
            .pivot("flight", |flight| {
                flight
                    .after(["room"])
                    .changes("part")
                    .request(|_, cx| do_it("flight", cx))
                    .retry(RETRY)
            })
    }
}

impl Saga for Cancelling {
    const NAME: &'static str = "cancelling";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1)
            .retriable("flight", |flight| {
                flight
                    .changes("part")
                    .request(|_, cx| undo_it("flight", cx))
                    .retry(RETRY)
            })
            .retriable("room", |room| {
                room.after(["flight"])
                    .changes("part")
                    .request(|_, cx| undo_it("room", cx))
                    .retry(RETRY)
            })
    }
}

impl Saga for Holiday {
    const NAME: &'static str = "holiday";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1)
            .compensatable("book", |book| {
                book.changes("booking")
                    .request(|_, cx| Request::saga::<Booking>(cx.key(), &Nothing {}))
                    .undo(Promise::ALL, |_, cx| {
                        Request::saga::<Cancelling>(cx.key(), &Nothing {})
                    })
                    .retry(RETRY)
            })
            .pivot("pay", |pay| {
                pay.after(["book"])
                    .changes("part")
                    .request(|_, cx| do_it("pay", cx))
                    .retry(RETRY)
            })
    }
}

fn world(rules: Rules) -> World {
    let sagas = Service::new("sagas")
        .saga::<Booking>()
        .saga::<Cancelling>()
        .saga::<Holiday>();
    World::new(1).under(rules).with(parts()).with(sagas)
}

fn booking() -> StreamId {
    StreamId::new("booking/1").unwrap()
}

fn child_completes(rules: Rules) -> Verdict {
    let mut world = world(rules);
    let saga = world.start_saga::<Holiday>("1", &Nothing {});
    world.run_to_end();
    completed(&world, &booking(), &["room", "flight"])?;
    completed(&world, &saga, &["pay"])
}

#[test]
fn scenario_26_a_step_that_is_a_saga_completes_with_it() {
    holds(child_completes);
}

fn child_is_compensated(rules: Rules) -> Verdict {
    let mut world = world(rules);
    set_mood(&mut world, "flight", Mood::Refusing);
    let saga = world.start_saga::<Holiday>("1", &Nothing {});
    world.run_to_end();
    compensated(&world, &booking(), &["room", "flight"])?;
    compensated(&world, &saga, &["pay"])
}

#[test]
fn scenario_26_a_step_that_is_a_saga_is_refused_when_it_was_compensated() {
    holds(child_is_compensated);
}

/// The child has completed, and the parent knows it or does not know it.
fn parent_goes_back_after_the_child_has_completed(rules: Rules) -> Verdict {
    for parent_knows in [true, false] {
        let mut world = world(rules);
        set_mood(&mut world, "pay", Mood::Refusing);
        let late = world.hold(move |m| !parent_knows && m.answers("StartSaga"));
        let saga = world.start_saga::<Holiday>("1", &Nothing {});
        world.run();
        if !parent_knows {
            let why = "it takes too long".to_owned();
            world.tell_saga(
                &saga,
                &anabranch_domain::saga::SagaCommand::AbortSaga { why },
            );
            // The first answer to what the parent asks of the child is about its abort.
            world.run();
            world.release(late);
        }
        world.run_to_end();
        compensated(&world, &saga, &["pay"])?;
        let phase = world.saga(&booking()).phase();
        ensure!(
            phase == Phase::Completed,
            "what has completed became {phase:?}"
        );
        for part in ["room", "flight"] {
            let counts = done_and_undone(&world, part, &booking());
            ensure!(
                counts == (1, 1),
                "{part} was done and undone {counts:?} times (the parent knew: {parent_knows})"
            );
        }
    }
    Ok(())
}

#[test]
fn scenario_26_a_completed_child_is_undone_by_another_saga() {
    holds(parent_goes_back_after_the_child_has_completed);
}

#[test]
fn scenario_26_needs_a_saga_that_undoes_the_child() {
    needs(
        Rule::UndoCompletedChild,
        parent_goes_back_after_the_child_has_completed,
    );
}

/// The parent goes back while the child runs, before the child's point of no return.
fn parent_goes_back_while_the_child_runs(rules: Rules) -> Verdict {
    let mut world = world(rules);
    let late = world.hold(|m| m.answers("Do"));
    let saga = world.start_saga::<Holiday>("1", &Nothing {});
    world.run();
    let why = "it takes too long".to_owned();
    world.tell_saga(
        &saga,
        &anabranch_domain::saga::SagaCommand::AbortSaga { why },
    );
    world.run();
    world.release(late);
    world.run_to_end();
    compensated(&world, &booking(), &["room", "flight"])?;
    compensated(&world, &saga, &["pay"])
}

#[test]
fn scenario_26_a_running_child_is_aborted() {
    holds(parent_goes_back_while_the_child_runs);
}

/// The request that starts the child is lost, or comes after its abort.
fn child_starts_after_its_abort(rules: Rules) -> Verdict {
    let mut world = world(rules);
    let late = world.hold(|m| m.asks("StartSaga"));
    let saga = world.start_saga::<Holiday>("1", &Nothing {});
    world.run();
    let why = "it takes too long".to_owned();
    world.tell_saga(
        &saga,
        &anabranch_domain::saga::SagaCommand::AbortSaga { why },
    );
    world.run();
    world.release(late);
    world.run_to_end();
    compensated(&world, &saga, &["pay"])?;
    compensated(&world, &booking(), &["room", "flight"])
}

#[test]
fn scenario_26_a_child_that_starts_after_its_abort_finds_itself_ended() {
    holds(child_starts_after_its_abort);
}

fn crash_with_a_child(rules: Rules) -> Verdict {
    for event in ["SagaCompleted", "StepOk", "StepStarted", "SagaStarted"] {
        for point in [
            CrashPoint::BeforeAppend,
            CrashPoint::AfterAppend,
            CrashPoint::AfterSend,
        ] {
            let mut world = world(rules);
            let saga = world.start_saga::<Holiday>("1", &Nothing {});
            world.crash_at("sagas", point, event);
            world.run();
            world.restart("sagas");
            if world.journal(&saga).is_empty() {
                // Nothing is recorded: who has asked for it asks again.
                world.start_saga::<Holiday>("1", &Nothing {});
            }
            world.run_to_end();
            completed(&world, &booking(), &["room", "flight"])?;
            completed(&world, &saga, &["pay"])?;
        }
    }
    Ok(())
}

#[test]
fn scenario_26_parent_and_child_survive_a_crash_at_every_step() {
    holds(crash_with_a_child);
}

/// As a holiday, but impatient: its step times out while the booking goes on.
struct Impatient;

impl Saga for Impatient {
    const NAME: &'static str = "impatient";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1).compensatable("book", |book| {
            book.changes("booking")
                .request(|_, cx| Request::saga::<Booking>(cx.key(), &Nothing {}))
                .undo(Promise::ALL, |_, cx| {
                    Request::saga::<Cancelling>(cx.key(), &Nothing {})
                })
                .timeout(Duration::from_secs(1))
                .retry(RETRY)
        })
    }
}

/// The child goes on, and its parent does not take it for undone.
#[test]
fn a_child_past_its_pivot_is_undone_only_when_it_has_completed() {
    let cancel = Request::saga::<Cancelling>("1", &Nothing {}).unwrap();
    testkit::saga::<Holiday>("1", &Nothing {})
        .when_aborted(None)
        .then_aborts("book", &booking())
        .then_phase(Phase::Aborting)
        .when_ok("book")
        .then_undoes([("book", cancel)])
        .when_undone("book")
        .then_compensated();
}

#[test]
fn a_child_that_goes_back_by_itself_needs_no_other_compensation() {
    testkit::saga::<Holiday>("1", &Nothing {})
        .when_aborted(None)
        .then_aborts("book", &booking())
        .when_refused("book", "saga-compensated")
        .then_undoes([])
        .then_compensated();
}

#[test]
fn a_child_that_cannot_be_reached_is_not_taken_for_completed() {
    let parked = testkit::saga::<Holiday>("1", &Nothing {})
        .when_aborted(None)
        .then_aborts("book", &booking())
        .when_undo_refused("book", "undeliverable")
        .then_undoes([])
        .then_parked(Some("book"));
    drop(parked);
}

#[test]
fn a_child_whose_step_timed_out_is_aborted_before_it_is_undone() {
    let mut test = testkit::saga::<Impatient>("1", &Nothing {});
    while test.journal_names().last() != Some(&"CompStarted") {
        test = test.when_wakes("book");
    }
    drop(test.then_aborts("book", &booking()));
}
