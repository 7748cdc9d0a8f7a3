//! The program changes while sagas run.

use anabranch_domain::saga::{Definition, Promise, Rule, Rules};
use anabranch_domain::testkit::{Service, World};
use anabranch_domain::{NoEvent, Saga};

use crate::fixture::*;

/// Two steps. Its next version has a third, in between.
struct Old;
struct New;
/// The next version, whose author has forgotten what still runs.
struct Forgetful;

fn two_steps() -> Definition<Nothing> {
    Definition::<Nothing>::new(1)
        .compensatable("a", |a| {
            a.changes("part")
                .request(|_, cx| do_it("a", cx))
                .undo(Promise::ALL, |_, cx| undo_it("a", cx))
                .retry(RETRY)
        })
        .pivot("pay", |pay| {
            pay.after(["a"])
                .changes("part")
                .request(|_, cx| do_it("pay", cx))
                .retry(RETRY)
        })
}

/// As many steps, one of which asks somebody else.
fn changed_steps() -> Definition<Nothing> {
    Definition::<Nothing>::new(2)
        .compensatable("a", |a| {
            a.changes("part")
                .request(|_, cx| do_it("a", cx))
                .undo(Promise::ALL, |_, cx| undo_it("a", cx))
                .retry(RETRY)
        })
        .pivot("pay", |pay| {
            pay.after(["a"])
                .changes("part")
                .request(|_, cx| do_it("pay-by-card", cx))
                .retry(RETRY)
        })
}

impl Saga for Old {
    const NAME: &'static str = "order";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        two_steps()
    }
}

impl Saga for New {
    const NAME: &'static str = "order";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        changed_steps()
    }

    fn older() -> Vec<Definition<Nothing>> {
        vec![two_steps()]
    }
}

impl Saga for Forgetful {
    const NAME: &'static str = "order";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        changed_steps()
    }
}

fn upgraded_while_running(rules: Rules) -> Verdict {
    let old = Service::new("orders").saga::<Old>();
    let mut world = World::new(1).under(rules).with(parts()).with(old);
    let late = world.hold(|m| m.answers("Do"));
    let running = world.start_saga::<Old>("1", &Nothing {});
    world.run();
    world.deploy(Service::new("orders").saga::<New>());
    world.release(late);
    let new = world.start_saga::<New>("2", &Nothing {});
    world.run_to_end();
    completed(&world, &running, &["a", "pay"])?;
    completed(&world, &new, &["a", "pay-by-card"])
}

#[test]
fn scenario_20_a_running_saga_finishes_on_the_definition_it_began_with() {
    holds(upgraded_while_running);
}

#[test]
fn scenario_20_needs_instances_to_stay_on_their_definition() {
    needs(Rule::StayOnDefinition, upgraded_while_running);
}

#[test]
fn scenario_20_a_missing_definition_is_a_clear_error() {
    use anabranch_domain::saga::{SagaInput, SagaInstance, SagaType};
    use anabranch_domain::{CommandId, Json, StreamId};
    use std::sync::Arc;
    let stream = StreamId::new("order/1").unwrap();
    let old = Arc::new(SagaType::of::<Old>().unwrap());
    let mut instance = SagaInstance::new(old, stream);
    let start = SagaInput::Start {
        id: CommandId::from_u128(1),
        input: Json::new("{}").unwrap(),
        parent: None,
        origin: Default::default(),
    };
    let now = anabranch_domain::testkit::START;
    instance.decide(start, now).unwrap();
    let forgetful = Arc::new(SagaType::of::<Forgetful>().unwrap());
    let mut restored = SagaInstance::restore(forgetful, instance.state().clone());
    let error = restored.decide(SagaInput::Recovered, now).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("saga order runs on definition ")
            && text.ends_with(
                "which this program does not have; add that definition to `Saga::older`"
            ),
        "{text}"
    );
}
