//! Waiting, and timers.

use std::time::Duration;

use anabranch_domain::saga::{Phase, Rule, Rules, SagaEvent};
use anabranch_domain::testkit::World;

use crate::ensure;
use crate::fixture::*;

const HOUR: Duration = Duration::from_secs(3600);

fn retriable_unavailable_for_an_hour(rules: Rules) -> Verdict {
    let mut world = world(rules);
    set_mood(&mut world, "ship", Mood::Busy);
    let saga = trip(&mut world);
    world.pass(HOUR);
    let phase = world.saga(&saga).phase();
    ensure!(phase == Phase::Running, "after an hour it is {phase:?}");
    set_mood(&mut world, "ship", Mood::Willing);
    world.run_to_end();
    completed(&world, &saga, &TRIP)?;
    let back = |e: &SagaEvent| {
        matches!(
            e,
            SagaEvent::CompStarted { .. } | SagaEvent::AbortRequested { .. }
        )
    };
    ensure!(
        !world.journal(&saga).iter().any(back),
        "it went back after the pivot"
    );
    Ok(())
}

#[test]
fn scenario_16_a_retriable_step_is_tried_until_it_succeeds() {
    holds(retriable_unavailable_for_an_hour);
}

/// A step's time runs out while the node is down; it fires once, late.
fn due_while_down(rules: Rules) -> Verdict {
    let mut world = world(rules);
    world.drop_next(u32::MAX, |m| m.asks("Do"));
    let saga = trip(&mut world);
    world.run();
    world.crash("sagas");
    world.pass(HOUR);
    world.restart("sagas");
    world.run_to_end();
    let names = world.event_names(saga.as_str());
    let fired = names.iter().filter(|n| *n == "StepTimedOut").count();
    ensure!(fired == 1, "the time-out fired {fired} times: {names:?}");
    compensated(&world, &saga, &TRIP)
}

#[test]
fn scenario_24_a_timer_that_was_due_while_the_node_was_down_fires_once() {
    holds(due_while_down);
}

#[test]
fn scenario_24_needs_durable_timers() {
    needs(Rule::DurableTimers, due_while_down);
}

/// The partition of the receivers is split while the saga runs.
fn resharded(rules: Rules) -> Verdict {
    for partitions in [1, 4] {
        let mut world = World::with_partitions(1, partitions)
            .under(rules)
            .with(parts())
            .with(sagas());
        world.drop_next(4, |m| m.answers("Do"));
        let saga = trip(&mut world);
        world.run();
        world.reshard(partitions * 2);
        // Another node takes the entities over.
        world.crash("parts");
        world.restart("parts");
        world.run_to_end();
        completed(&world, &saga, &TRIP)?;
    }
    Ok(())
}

#[test]
fn scenario_25_what_a_receiver_remembers_moves_with_it() {
    holds(resharded);
}

#[test]
fn scenario_25_needs_a_durable_memory() {
    needs(Rule::RememberUntilEnd, resharded);
}
