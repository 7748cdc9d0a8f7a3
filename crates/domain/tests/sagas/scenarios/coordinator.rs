//! The node that runs the saga crashes, or there are two of them.

use std::time::Duration;

use anabranch_domain::saga::{
    Definition, Phase, Promise, Request, Rule, Rules, SagaCommand, SagaEvent, Settlement,
};
use anabranch_domain::testkit::{CrashPoint, Faults, Message, Provider, World};
use anabranch_domain::{Json, NoEvent, Rejection, Saga, StreamId, testkit};

use crate::ensure;
use crate::fixture::*;

/// Runs a trip to where `b` is about to start, lets the sagas' service crash there, and starts
/// it again.
fn crash_at_b(rules: Rules, point: CrashPoint) -> (World, StreamId) {
    let mut world = world(rules);
    let a = world.hold(|m| m.answers("Do"));
    let saga = trip(&mut world);
    world.run();
    world.crash_at("sagas", point, "StepStarted");
    world.release(a);
    world.run();
    world.restart("sagas");
    (world, saga)
}

fn crash_before_send(rules: Rules) -> Verdict {
    let (mut world, saga) = crash_at_b(rules, CrashPoint::AfterAppend);
    world.run_to_end();
    completed(&world, &saga, &TRIP)
}

#[test]
fn scenario_03_a_step_that_was_recorded_but_not_sent_is_sent() {
    holds(crash_before_send);
}

/// The request has left, the node crashes, and the saga is aborted: what has left is undone,
/// because its intent was recorded first.
fn crash_then_abort(rules: Rules) -> Verdict {
    let (mut world, saga) = crash_at_b(rules, CrashPoint::AfterSend);
    let why = "nobody wants it any more".to_owned();
    world.tell_saga(&saga, &SagaCommand::AbortSaga { why });
    world.run_to_end();
    compensated(&world, &saga, &TRIP)
}

#[test]
fn scenario_03_nothing_leaves_before_it_is_recorded() {
    holds(crash_then_abort);
}

#[test]
fn scenario_03_needs_the_intent_first() {
    needs(Rule::IntentFirst, crash_then_abort);
}

/// A request that may be sent only once: the node crashes with the intent recorded.
fn crash_with_at_most_once(rules: Rules) -> Verdict {
    for point in [CrashPoint::AfterAppend, CrashPoint::AfterSend] {
        let third_party = Provider::<Charge>::new(|_| Ok(())).without_keys();
        let mut world = World::new(1)
            .under(rules)
            .with(parts())
            .with(sagas_with(&third_party));
        world.crash_at("sagas", point, "StepStarted");
        let saga = world.start_saga::<Once>("1", &Nothing {});
        world.run();
        world.restart("sagas");
        world.run_to_end();
        ensure!(
            third_party.carried_out() <= 1,
            "at most once became {} times",
            third_party.carried_out()
        );
        let phase = world.saga(&saga).phase();
        ensure!(phase == Phase::Compensated, "it is {phase:?}");
        let undone = world
            .journal(&saga)
            .iter()
            .any(|event| matches!(event, SagaEvent::CompOk { .. }));
        ensure!(undone, "what may have happened was not undone");
    }
    Ok(())
}

#[test]
fn scenario_03_a_step_sent_at_most_once_is_undone_after_a_crash() {
    holds(crash_with_at_most_once);
}

#[test]
fn scenario_03_needs_unknown_steps_not_to_be_repeated() {
    needs(Rule::AtMostOnce, crash_with_at_most_once);
}

/// The pivot itself may be sent only once, and the node crashes: it can be neither repeated nor
/// undone, so a person has to find out.
#[test]
fn scenario_03_a_pivot_that_nobody_knows_about_waits_for_a_person() {
    for (settlement, phase) in [
        (Settlement::Done(Json::null()), Phase::Completed),
        (
            Settlement::Refused(Rejection::new("declined", "the bank says no")),
            Phase::Compensated,
        ),
    ] {
        testkit::saga::<PayOnce>("1", &Nothing {})
            .when_ok("a")
            .when_recovered()
            .then_phase(Phase::Running)
            .then_parked(Some("pay"))
            .when_settled("pay", settlement)
            .then_parked(None)
            .finish(phase);
    }
}

#[test]
fn scenario_03_an_answer_that_comes_after_all_settles_the_pivot() {
    testkit::saga::<PayOnce>("1", &Nothing {})
        .when_ok("a")
        .when_wakes("pay")
        .then_parked(Some("pay"))
        .when_ok("pay")
        .then_completed();
}

struct PayOnce;

impl Saga for PayOnce {
    const NAME: &'static str = "pay-once";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1)
            .compensatable("a", |a| {
                a.changes("part")
                    .request(|_, cx| do_it("a", cx))
                    .undo(Promise::ALL, |_, cx| undo_it("a", cx))
            })
            .pivot("pay", |pay| {
                pay.after(["a"])
                    .changes("money")
                    .at_most_once()
                    .timeout(TIMEOUT)
                    .request(|_, _| Request::call(&Charge { by: 1 }))
            })
    }
}

trait Finish {
    fn finish(self, phase: Phase);
}

impl Finish for testkit::SagaTest {
    fn finish(self, phase: Phase) {
        match phase {
            Phase::Compensated => self.when_undone("a").then_compensated(),
            _ => self.then_completed(),
        };
    }
}

fn crash_after_send(rules: Rules) -> Verdict {
    let (mut world, saga) = crash_at_b(rules, CrashPoint::AfterSend);
    world.run_to_end();
    completed(&world, &saga, &TRIP)
}

#[test]
fn scenario_04_a_step_that_was_sent_is_sent_again_and_takes_effect_once() {
    holds(crash_after_send);
}

/// The answers are lost, so that the requests are sent again.
fn answers_lost(rules: Rules) -> Verdict {
    let mut world = world(rules);
    world.drop_next(3, |m| m.answers("Do"));
    let saga = trip(&mut world);
    world.run_to_end();
    completed(&world, &saga, &TRIP)
}

#[test]
fn scenario_04_needs_the_same_key() {
    needs(Rule::SameKey, answers_lost);
}

#[test]
fn scenario_04_a_lost_answer_costs_another_attempt_only() {
    holds(answers_lost);
}

fn crash_before_reply_is_recorded(rules: Rules) -> Verdict {
    let mut world = world(rules);
    world.crash_at("sagas", CrashPoint::BeforeAppend, "StepOk");
    let saga = trip(&mut world);
    world.run();
    ensure!(
        world.journal(&saga).len() == 2,
        "it did not crash where it should"
    );
    world.restart("sagas");
    world.run_to_end();
    completed(&world, &saga, &TRIP)
}

#[test]
fn scenario_05_an_answer_that_was_not_recorded_is_asked_for_again() {
    holds(crash_before_reply_is_recorded);
}

fn crash_while_compensating(rules: Rules) -> Verdict {
    for point in [CrashPoint::AfterAppend, CrashPoint::AfterSend] {
        let mut world = world(rules);
        set_mood(&mut world, "pay", Mood::Refusing);
        world.crash_at("sagas", point, "CompStarted");
        let saga = trip(&mut world);
        world.run();
        // The answer to the first compensation finds nobody.
        world.restart("sagas");
        world.drop_next(1, |m| m.answers("Undo"));
        world.run_to_end();
        compensated(&world, &saga, &TRIP)?;
        let counts = done_and_undone(&world, "b", &saga);
        ensure!(counts == (1, 1), "b was done and undone {counts:?} times");
    }
    Ok(())
}

#[test]
fn scenario_06_a_compensation_is_sent_again_and_undoes_once() {
    holds(crash_while_compensating);
}

#[test]
fn scenario_06_needs_the_same_key() {
    needs(Rule::SameKey, crash_while_compensating);
}

/// Two nodes run the saga, and each believes that it alone does.
fn two_coordinators(rules: Rules) -> Verdict {
    for seed in 0..60 {
        let mut world = World::new(seed).under(rules).with(parts()).with(sagas());
        if seed % 2 == 0 {
            set_mood(&mut world, "pay", Mood::Refusing);
        }
        world.add_replica("sagas");
        world.set_faults(Faults {
            duplicate_percent: 50,
            delay_max: Duration::from_millis(300),
            ..Faults::NONE
        });
        let saga = trip(&mut world);
        world.run_to_end();
        let end = |event: &SagaEvent| {
            matches!(event, SagaEvent::SagaCompleted | SagaEvent::SagaCompensated)
        };
        let ends = world.journal(&saga).iter().filter(|e| end(e)).count();
        ensure!(ends == 1, "seed {seed}: the saga ended {ends} times");
        let starts = world.event_names(saga.as_str());
        let starts = starts.iter().filter(|name| *name == "SagaStarted").count();
        ensure!(starts == 1, "seed {seed}: the saga began {starts} times");
        match world.saga(&saga).phase() {
            Phase::Completed => completed(&world, &saga, &TRIP)?,
            _ => compensated(&world, &saga, &TRIP)?,
        }
    }
    Ok(())
}

#[test]
fn scenario_14_of_two_coordinators_one_wins() {
    holds(two_coordinators);
}

#[test]
fn scenario_14_needs_fencing() {
    needs(Rule::Fencing, two_coordinators);
}

/// What a node sends that takes the saga over, beside what the first one has sent.
fn replay_sends_the_same(rules: Rules) -> Verdict {
    use std::cell::RefCell;
    use std::rc::Rc;
    let mut world = world(rules);
    let sent: Rc<RefCell<Vec<Message>>> = Rc::default();
    let seen = sent.clone();
    world.hold(move |message| {
        let to_part = matches!(message, Message::Command(c) if c.to.category() == "part");
        if to_part {
            seen.borrow_mut().push(message.clone());
        }
        to_part
    });
    let saga = world.start_saga::<Fan>("1", &Branches { count: 5 });
    world.run();
    let first = sent.take();
    world.crash("sagas");
    world.restart("sagas");
    world.run();
    let second = sent.take();
    ensure!(
        first.len() == 5,
        "{} requests were sent for {saga}",
        first.len()
    );
    ensure!(first == second, "first {first:?}\nthen {second:?}");
    Ok(())
}

#[test]
fn scenario_19_a_new_node_sends_the_same_commands_bit_by_bit() {
    holds(replay_sends_the_same);
}

/// Ids stand in stored journals and in the memory of receivers: they may never change.
#[test]
fn scenario_19_the_ids_of_commands_are_fixed_for_ever() {
    use anabranch_domain::saga::{Dispatch, SagaInput, SagaInstance, SagaType};
    use anabranch_domain::{CommandId, Json};
    let saga = std::sync::Arc::new(SagaType::of::<Trip>().unwrap());
    let stream = StreamId::new("trip/1").unwrap();
    let mut instance = SagaInstance::new(saga, stream);
    let start = SagaInput::Start {
        id: CommandId::v7(0x0123_4567_89ab, 7),
        input: Json::new("{}").unwrap(),
        parent: None,
        origin: Default::default(),
    };
    let now = anabranch_domain::testkit::START;
    let decision = instance.decide(start, now).unwrap();
    let Dispatch::Request { id, .. } = &decision.dispatch[0] else {
        panic!("{:?}", decision.dispatch);
    };
    assert_eq!(id.to_string(), "01234567-89ab-8543-ae59-5b7432779e9d");
}
