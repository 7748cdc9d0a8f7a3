//! Messages are lost, repeated and overtake each other.

use std::time::Duration;

use anabranch_domain::saga::{
    Phase, Rule, Rules, SagaCommand, SagaEvent, SagaInput, SagaInstance, SagaType, StepId,
};
use anabranch_domain::testkit::{Faults, START, World};
use anabranch_domain::{CommandId, Json, Outcome, StreamId};

use crate::ensure;
use crate::fixture::*;

fn duplicated_and_reordered(rules: Rules) -> Verdict {
    for seed in 0..20 {
        let mut world = World::new(seed).under(rules).with(parts()).with(sagas());
        world.set_faults(Faults {
            duplicate_percent: 100,
            delay_max: Duration::from_secs(2),
            ..Faults::NONE
        });
        let saga = trip(&mut world);
        world.run_to_end();
        completed(&world, &saga, &TRIP)?;
    }
    Ok(())
}

#[test]
fn scenario_07_repeated_and_reordered_requests_take_effect_once() {
    holds(duplicated_and_reordered);
}

#[test]
fn scenario_07_needs_the_same_key() {
    needs(Rule::SameKey, duplicated_and_reordered);
}

fn abort(world: &mut World, saga: &StreamId) {
    let why = "it takes too long".to_owned();
    world.tell_saga(saga, &SagaCommand::AbortSaga { why });
}

/// The request of `b` is kept back until its compensation is through.
fn compensation_overtakes_request(rules: Rules) -> Verdict {
    let mut world = world(rules);
    let late = world.hold(|m| m.asks("Do") && to_part(m, "b"));
    let saga = trip(&mut world);
    world.run();
    abort(&mut world, &saga);
    world.run();
    let phase = world.saga(&saga).phase();
    ensure!(phase == Phase::Compensated, "it is {phase:?}");
    let released = world.release(late);
    ensure!(released > 0, "nothing was late");
    world.run_to_end();
    compensated(&world, &saga, &TRIP)
}

fn to_part(message: &anabranch_domain::testkit::Message, part: &str) -> bool {
    use anabranch_domain::testkit::Message;
    matches!(message, Message::Command(c) if c.to.category() == "part" && c.to.key() == part)
}

#[test]
fn scenario_08_a_request_that_its_compensation_overtakes_is_refused() {
    holds(compensation_overtakes_request);
}

#[test]
fn scenario_08_needs_tombstones() {
    needs(Rule::Tombstone, compensation_overtakes_request);
}

fn compensation_of_a_lost_request(rules: Rules) -> Verdict {
    let mut world = world(rules);
    world.drop_next(u32::MAX, |m| m.asks("Do") && to_part(m, "b"));
    let saga = trip(&mut world);
    world.run();
    abort(&mut world, &saga);
    world.run_to_end();
    compensated(&world, &saga, &TRIP)?;
    let counts = done_and_undone(&world, "b", &saga);
    ensure!(counts == (0, 0), "b was done and undone {counts:?} times");
    Ok(())
}

#[test]
fn scenario_09_the_compensation_of_a_request_that_never_came_does_nothing() {
    holds(compensation_of_a_lost_request);
}

#[test]
fn scenario_09_needs_tombstones() {
    needs(Rule::Tombstone, compensation_of_a_lost_request);
}

fn compensation_fails_fifty_times(rules: Rules) -> Verdict {
    let mut world = world(rules);
    set_mood(&mut world, "b", Mood::Refusing);
    world.drop_next(50, |m| m.asks("Undo"));
    let saga = trip(&mut world);
    world.run_to_end();
    compensated(&world, &saga, &TRIP)?;
    let journal = world.journal(&saga);
    let retries = journal
        .iter()
        .filter(|e| matches!(e, SagaEvent::CompRetried { .. }))
        .count();
    ensure!(retries == 50, "it was tried again {retries} times");
    let alerts = journal
        .iter()
        .filter(|e| matches!(e, SagaEvent::Parked { going_on: true, .. }))
        .count();
    ensure!(alerts == 1, "a person was called {alerts} times");
    ensure!(
        !world.saga(&saga).is_parked(),
        "it is still marked as parked"
    );
    Ok(())
}

#[test]
fn scenario_10_a_compensation_is_tried_until_it_is_acknowledged() {
    holds(compensation_fails_fifty_times);
}

#[test]
fn scenario_10_needs_compensations_not_to_be_given_up() {
    needs(Rule::UndoUntilAcknowledged, compensation_fails_fifty_times);
}

fn late_reply(rules: Rules) -> Verdict {
    let mut world = world(rules);
    let late = world.hold(|m| m.answers("Do"));
    let saga = trip(&mut world);
    world.pass(TIMEOUT + Duration::from_secs(1));
    world.run();
    ensure!(world.release(late) > 0, "nothing was late");
    world.run_to_end();
    compensated(&world, &saga, &TRIP)?;
    let names = world.event_names(saga.as_str());
    for (name, count) in [("StepTimedOut", 1), ("LateReply", 1), ("StepOk", 0)] {
        let found = names.iter().filter(|n| *n == name).count();
        ensure!(found == count, "{found} times {name}: {names:?}");
    }
    Ok(())
}

#[test]
fn scenario_12_a_reply_after_the_time_out_changes_nothing() {
    holds(late_reply);
}

#[test]
fn scenario_12_needs_the_journal_to_decide() {
    needs(Rule::FirstInJournalWins, late_reply);
}

/// The answer and the time-out come in the same instant, in either order.
fn reply_and_timer_at_once(rules: Rules) -> Verdict {
    for reply_first in [true, false] {
        let saga = SagaType::of::<Trip>().map_err(|error| error.to_string())?;
        let stream = StreamId::new("trip/1").map_err(|error| error.to_string())?;
        let mut instance = SagaInstance::new(std::sync::Arc::new(saga), stream).under(rules);
        let mut names = Vec::new();
        let mut give = |instance: &mut SagaInstance, input, now| -> Verdict {
            use anabranch_domain::Event;
            let decision = instance.decide(input, now).map_err(|e| e.to_string())?;
            names.extend(decision.events.iter().map(|event| event.kind().name));
            Ok(())
        };
        let start = SagaInput::Start {
            id: CommandId::from_u128(1),
            input: Json::new("{}").map_err(|e| e.to_string())?,
            parent: None,
            origin: Default::default(),
        };
        give(&mut instance, start, START)?;
        let now = START + TIMEOUT;
        let reply = || SagaInput::Reply {
            step: StepId::new("a", 0),
            undo: false,
            id: CommandId::from_u128(0),
            outcome: Outcome::Done(Json::null()),
        };
        let timer = instance.outstanding().into_iter().find_map(|d| match d {
            anabranch_domain::saga::Dispatch::Timer(timer) => Some(timer),
            _ => None,
        });
        let timer = timer.ok_or("no timer is set")?;
        let wake = || SagaInput::Wake(timer.clone());
        if reply_first {
            give(&mut instance, reply(), now)?;
            give(&mut instance, wake(), now)?;
        } else {
            give(&mut instance, wake(), now)?;
            give(&mut instance, reply(), now)?;
        }
        let expected = if reply_first {
            vec!["SagaStarted", "StepStarted", "StepOk", "StepStarted"]
        } else {
            vec![
                "SagaStarted",
                "StepStarted",
                "StepTimedOut",
                "AbortRequested",
                "CompStarted",
                "LateReply",
            ]
        };
        ensure!(names == expected, "reply first {reply_first}: {names:?}");
    }
    Ok(())
}

#[test]
fn scenario_13_of_a_reply_and_a_timer_in_one_instant_the_first_counts() {
    holds(reply_and_timer_at_once);
}

#[test]
fn scenario_13_needs_the_journal_to_decide() {
    needs(Rule::FirstInJournalWins, reply_and_timer_at_once);
}

/// One branch is refused while another is under way: not received, or received and unanswered.
fn refused_while_in_flight(rules: Rules) -> Verdict {
    for received in [true, false] {
        let mut world = world(rules);
        set_mood(&mut world, "r0", Mood::Refusing);
        let late = world.hold(move |m| {
            use anabranch_domain::testkit::Message;
            match m {
                Message::Reply(reply) => {
                    received && reply.from.as_str() == "part/r1" && m.answers("Do")
                }
                message => !received && message.asks("Do") && to_part(message, "r1"),
            }
        });
        let saga = world.start_saga::<Fan>("1", &Branches { count: 3 });
        world.run();
        ensure!(world.release(late) > 0, "nothing was in flight");
        world.run_to_end();
        compensated(&world, &saga, &["r0", "r1", "r2"])?;
        let undone = world.journal(&saga).iter().any(
            |e| matches!(e, SagaEvent::CompStarted { step, .. } if *step == StepId::new("reserve", 1)),
        );
        ensure!(undone, "the branch in flight was not undone");
    }
    Ok(())
}

#[test]
fn scenario_17_a_branch_in_flight_is_undone_too() {
    holds(refused_while_in_flight);
}

#[test]
fn scenario_17_needs_unknown_steps_to_be_undone() {
    needs(Rule::UndoUnknown, refused_while_in_flight);
}

fn receiver_restarts(rules: Rules) -> Verdict {
    let mut world = world(rules);
    world.drop_next(4, |m| m.answers("Do"));
    let saga = trip(&mut world);
    world.run();
    world.crash("parts");
    world.restart("parts");
    world.run_to_end();
    completed(&world, &saga, &TRIP)
}

#[test]
fn scenario_18_a_receiver_remembers_across_a_restart() {
    holds(receiver_restarts);
}

#[test]
fn scenario_18_needs_a_durable_memory() {
    needs(Rule::RememberUntilEnd, receiver_restarts);
}

/// The memory is dropped when the saga has ended, not before, and not by a clock.
fn memory_lives_until_the_end(rules: Rules) -> Verdict {
    let mut world = world(rules);
    set_mood(&mut world, "ship", Mood::Busy);
    let saga = trip(&mut world);
    let late = world.hold(|m| m.answers("Do"));
    world.pass(Duration::from_secs(10));
    world.crash("parts");
    world.restart("parts");
    world.release(late);
    // Hours go by, and then the requests of the steps are sent again.
    world.pass(Duration::from_secs(3 * 3600));
    set_mood(&mut world, "ship", Mood::Willing);
    world.run_to_end();
    completed(&world, &saga, &TRIP)
}

#[test]
fn scenario_18_a_receiver_remembers_as_long_as_the_saga_runs() {
    holds(memory_lives_until_the_end);
}
