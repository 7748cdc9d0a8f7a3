//! What can become of a saga when nothing is lost.

use anabranch_domain::saga::{
    Operator, Phase, Rule, Rules, SagaCommand, SagaEvent, SagaInput, SagaInstance, SagaType,
    Settlement, StepId,
};
use anabranch_domain::testkit::World;
use anabranch_domain::{
    Command, CommandEnvelope, CommandId, Cut, Json, Role, Saga, StreamId, Timestamp,
};

use crate::ensure;
use crate::fixture::*;

fn all_ok(rules: Rules) -> Verdict {
    let mut world = world(rules);
    let saga = trip(&mut world);
    world.run();
    completed(&world, &saga, &TRIP)?;
    let order = order_of(&world, &TRIP, false);
    ensure!(order == TRIP, "the steps ran in the order {order:?}");
    Ok(())
}

#[test]
fn scenario_01_all_steps_ok() {
    holds(all_ok);
}

fn step_refuses(rules: Rules) -> Verdict {
    for (k, refusing) in TRIP[..3].iter().enumerate() {
        let mut world = world(rules);
        set_mood(&mut world, refusing, Mood::Refusing);
        // The first compensation has to be sent twice, so that the next one could overtake it.
        world.drop_next(1, |m| m.asks("Undo"));
        let saga = trip(&mut world);
        world.run_to_end();
        compensated(&world, &saga, &TRIP)?;
        let mut expected = TRIP[..k].to_vec();
        expected.reverse();
        let order = order_of(&world, &TRIP, true);
        ensure!(
            order == expected,
            "when {refusing} refused, {order:?} were undone in this order"
        );
    }
    Ok(())
}

#[test]
fn scenario_02_a_step_before_the_pivot_refuses() {
    holds(step_refuses);
}

#[test]
fn scenario_02_needs_compensations_in_reverse_order() {
    needs(Rule::UndoInOrder, step_refuses);
}

/// One of two branches cannot be undone; a person settles it.
fn undo_refused(rules: Rules) -> Verdict {
    let mut world = world(rules);
    for (part, mood) in [("r0", Mood::RefusingUndo), ("pay", Mood::Refusing)] {
        set_mood(&mut world, part, mood);
    }
    let saga = world.start_saga::<Fan>("1", &Branches { count: 3 });
    world.run_to_end();
    let state = world.saga(&saga);
    ensure!(
        state.phase() == Phase::Aborting && state.is_parked(),
        "a compensation was refused, but the saga is {:?}",
        state.phase()
    );
    for part in ["r1", "r2"] {
        let counts = done_and_undone(&world, part, &saga);
        ensure!(counts == (1, 1), "{part} waits for the one that is parked");
    }
    world.send::<Part>("r0", &PartCommand::Undo { saga: "1".into() });
    set_mood(&mut world, "r0", Mood::Willing);
    world.send::<Part>("r0", &PartCommand::Undo { saga: "1".into() });
    settle(&mut world, &saga, "reserve");
    compensated(&world, &saga, &["r0", "r1", "r2"])?;
    let audited = world.journal(&saga).into_iter().any(
        |event| matches!(event, SagaEvent::CompOk { by: Some(by), .. } if by.who == "kim" && by.why == "by hand"),
    );
    ensure!(audited, "nobody can see who has settled it");
    Ok(())
}

fn settle(world: &mut World, saga: &anabranch_domain::StreamId, step: &str) {
    world.tell_saga(
        saga,
        &SagaCommand::SettleStep {
            step: StepId::new(step, 0),
            settlement: Settlement::Undone,
            by: Operator {
                who: "kim".into(),
                why: "by hand".into(),
            },
        },
    );
    world.run();
}

#[test]
fn scenario_11_a_refused_compensation_parks_the_saga_until_a_person_settles_it() {
    holds(undo_refused);
}

#[test]
fn scenario_11_needs_parking() {
    needs(Rule::ParkRefusedUndo, undo_refused);
}

/// As 11, but the obstacle goes away and a person says: go on.
fn undo_resumed(rules: Rules) -> Verdict {
    let mut world = world(rules);
    set_mood(&mut world, "a", Mood::RefusingUndo);
    set_mood(&mut world, "b", Mood::Refusing);
    let saga = trip(&mut world);
    world.run_to_end();
    ensure!(world.saga(&saga).is_parked(), "it is not parked");
    set_mood(&mut world, "a", Mood::Willing);
    world.tell_saga(
        &saga,
        &SagaCommand::ResumeStep {
            step: StepId::new("a", 0),
            by: Operator {
                who: "kim".into(),
                why: "try again".into(),
            },
        },
    );
    world.run();
    compensated(&world, &saga, &TRIP)
}

#[test]
fn scenario_11_a_parked_saga_goes_on_when_a_person_resumes_it() {
    holds(undo_resumed);
}

fn abort(world: &mut World, saga: &anabranch_domain::StreamId) -> Option<bool> {
    let why = "the customer changed their mind".to_owned();
    let id = world.tell_saga(saga, &SagaCommand::AbortSaga { why });
    world.run();
    use anabranch_domain::Outcome;
    match world.outcome(id)? {
        Outcome::Done(_) => Some(true),
        _ => Some(false),
    }
}

fn abort_requested(rules: Rules) -> Verdict {
    // Before the pivot starts.
    let mut before = world(rules);
    let held = before.hold(|m| m.answers("Do"));
    let saga = trip(&mut before);
    before.run();
    ensure!(
        abort(&mut before, &saga) == Some(true),
        "no abort before the pivot"
    );
    before.release(held);
    before.run_to_end();
    compensated(&before, &saga, &TRIP)?;

    // While the pivot is under way.
    let mut at = world(rules);
    let held = at.hold(|m| {
        matches!(m, anabranch_domain::testkit::Message::Reply(r) if r.from.as_str() == "part/pay")
    });
    let saga = trip(&mut at);
    at.run();
    let accepted = abort(&mut at, &saga);
    at.release(held);
    at.run_to_end();
    ensure!(
        accepted == Some(false),
        "an abort at the pivot was accepted"
    );
    completed(&at, &saga, &TRIP)?;

    // After it.
    let mut after = world(rules);
    set_mood(&mut after, "ship", Mood::Busy);
    let saga = trip(&mut after);
    after.run();
    let accepted = abort(&mut after, &saga);
    set_mood(&mut after, "ship", Mood::Willing);
    after.run_to_end();
    ensure!(
        accepted == Some(false),
        "an abort after the pivot was accepted"
    );
    completed(&after, &saga, &TRIP)
}

#[test]
fn scenario_15_an_abort_is_possible_until_the_pivot_starts() {
    holds(abort_requested);
}

#[test]
fn scenario_15_needs_the_pivot_to_be_final() {
    needs(Rule::NoAbortAfterPivot, abort_requested);
}

/// A saga that has ended is asked to abort, and to begin again.
fn abort_after_the_end(rules: Rules) -> Verdict {
    for mood in [Mood::Willing, Mood::Refusing] {
        abort_after(rules, mood)?;
    }
    Ok(())
}

fn abort_after(rules: Rules, mood: Mood) -> Verdict {
    let mut world = world(rules);
    set_mood(&mut world, "b", mood);
    let saga = trip(&mut world);
    world.run_to_end();
    let length = world.journal(&saga).len();
    abort(&mut world, &saga);
    world.start_saga::<Trip>("1", &Nothing {});
    world.run_to_end();
    let events = world.journal(&saga);
    ensure!(
        events.len() == length,
        "after its end it did {:?}",
        &events[length..]
    );
    match mood {
        Mood::Willing => completed(&world, &saga, &TRIP),
        _ => compensated(&world, &saga, &TRIP),
    }
}

#[test]
fn scenario_15_what_has_ended_stays_as_it_is() {
    holds(abort_after_the_end);
}

#[test]
fn scenario_15_needs_ends_to_be_final() {
    needs(Rule::TerminalIsFinal, abort_after_the_end);
}

/// What comes under an id that names another command, or under a key that has another input.
#[test]
fn an_id_and_a_key_are_not_compared_alone() {
    let saga = StreamId::of(Fan::NAME, "1").unwrap();
    let envelope = |id: u128, command: &SagaCommand| {
        let (name, data) = command.to_wire().unwrap();
        CommandEnvelope {
            id: CommandId::from_u128(id),
            to: saga.clone(),
            name: name.to_owned(),
            data,
            role: Role::Plain,
            reply_to: None,
            correlation_id: None,
            traceparent: None,
            causes: Cut::start(),
        }
    };
    let type_ = std::sync::Arc::new(SagaType::of::<Fan>().unwrap());
    let mut instance = SagaInstance::new(type_, saga.clone());
    let mut tell = |id: u128, command: &SagaCommand| {
        let input = SagaInput::of_command(&envelope(id, command)).unwrap();
        let decided = instance.decide(input, Timestamp::from_seconds(9)).unwrap();
        decided.answer.map_err(|no| no.code.into_owned())
    };
    let start = |count: usize| SagaCommand::StartSaga {
        input: Json::of(&Branches { count }).unwrap(),
    };
    let abort = |why: &str| SagaCommand::AbortSaga {
        why: why.to_owned(),
    };
    let refused = |code: &str| Err(code.to_owned());
    assert_eq!(tell(1, &start(1)), Ok(()));
    let spaced = SagaCommand::StartSaga {
        input: Json::new("{ \"count\" : 1 }").unwrap(),
    };
    assert_eq!(tell(1, &spaced), Ok(()));
    assert_eq!(tell(2, &start(1)), Ok(()));
    assert_eq!(tell(1, &start(2)), refused("id-taken"));
    assert_eq!(tell(2, &start(2)), refused("saga-started"));
    assert_eq!(tell(1, &abort("x")), refused("id-taken"));
    assert_eq!(tell(3, &abort("x")), Ok(()));
    assert_eq!(tell(3, &abort("x")), Ok(()));
    assert_eq!(tell(3, &abort("y")), refused("id-taken"));
    assert_eq!(tell(3, &start(1)), refused("id-taken"));
    assert_eq!(tell(4, &abort("y")), Ok(()));
}
