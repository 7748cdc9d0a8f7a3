//! Process managers: events come twice, and in any order.

use std::time::Duration;

use anabranch_domain::saga::{Rule, Rules};
use anabranch_domain::testkit::{CrashPoint, Faults, Service, World};
use anabranch_domain::{
    Correlate, Decide, Entity, Event, EventRef, Input, Process, Reaction, Rejection, StreamId,
};
use serde::{Deserialize, Serialize};

use crate::ensure;
use crate::fixture::{Verdict, holds, needs};

/// Anything that can happen to an order; the process needs two of them.
#[derive(Default, Serialize, Deserialize)]
struct Order {}

#[derive(Serialize, Deserialize)]
enum OrderCommand {
    Place,
    Pay,
    Pack,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
enum OrderEvent {
    OrderPlaced,
    OrderPaid,
    OrderPacked,
}

impl Entity for Order {
    const CATEGORY: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &OrderCommand, _: &Decide) -> Result<Vec<OrderEvent>, Rejection> {
        Ok(vec![match command {
            OrderCommand::Place => OrderEvent::OrderPlaced,
            OrderCommand::Pay => OrderEvent::OrderPaid,
            OrderCommand::Pack => OrderEvent::OrderPacked,
        }])
    }

    fn evolve(&mut self, _: &OrderEvent) {}
}

/// Ships as often as it is asked.
#[derive(Default, Serialize, Deserialize)]
struct Shipment {
    shipped: u32,
}

#[derive(Serialize, Deserialize)]
enum ShipmentCommand {
    Ship,
    Remind,
}

#[derive(Serialize, Deserialize, Event)]
enum ShipmentEvent {
    Shipped,
    Reminded,
}

impl Entity for Shipment {
    const CATEGORY: &'static str = "shipment";
    type Command = ShipmentCommand;
    type Event = ShipmentEvent;
    type Rejection = Rejection;

    fn decide(
        &self,
        command: &ShipmentCommand,
        _: &Decide,
    ) -> Result<Vec<ShipmentEvent>, Rejection> {
        Ok(vec![match command {
            ShipmentCommand::Ship => ShipmentEvent::Shipped,
            ShipmentCommand::Remind => ShipmentEvent::Reminded,
        }])
    }

    fn evolve(&mut self, event: &ShipmentEvent) {
        if matches!(event, ShipmentEvent::Shipped) {
            self.shipped += 1;
        }
    }
}

/// Ships what is paid and packed, in whichever order that happens; reminds after an hour.
#[derive(Default, Serialize, Deserialize)]
struct Shipping {
    paid: u32,
    packed: u32,
}

impl Process for Shipping {
    const NAME: &'static str = "shipping";
    const CATEGORIES: &'static [&'static str] = &["order"];
    type Event = OrderEvent;

    fn correlate(event: &OrderEvent, about: &EventRef<'_>) -> Correlate {
        let key = about.key().to_owned();
        match event {
            OrderEvent::OrderPlaced => Correlate::Start(key),
            _ => Correlate::Continue(key),
        }
    }

    fn decide(&self, input: &Input<OrderEvent>, cx: &Decide) -> Reaction {
        let ship = || Reaction::none().send::<Shipment>(cx.key(), &ShipmentCommand::Ship);
        match input {
            Input::Event(OrderEvent::OrderPlaced, _) => {
                Reaction::none().schedule("remind", cx.now() + Duration::from_secs(3600))
            }
            Input::Event(OrderEvent::OrderPaid, _) if self.packed > self.paid => ship(),
            Input::Event(OrderEvent::OrderPacked, _) if self.paid > self.packed => ship(),
            Input::Timer(timer) if timer.name == "remind" => {
                Reaction::none().send::<Shipment>(cx.key(), &ShipmentCommand::Remind)
            }
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<OrderEvent>) {
        match input {
            Input::Event(OrderEvent::OrderPaid, _) => self.paid += 1,
            Input::Event(OrderEvent::OrderPacked, _) => self.packed += 1,
            _ => {}
        }
    }
}

fn world(seed: u64, rules: Rules, partitions: u32) -> World {
    World::with_partitions(seed, partitions)
        .under(rules)
        .with(Service::new("orders").entity::<Order>())
        .with(Service::new("shipments").entity::<Shipment>())
        .with(Service::new("shipping").process::<Shipping>())
}

fn shipping() -> StreamId {
    StreamId::new("shipping/1").unwrap()
}

fn redelivered(rules: Rules) -> Verdict {
    for triggers in [
        [OrderCommand::Pay, OrderCommand::Pack],
        [OrderCommand::Pack, OrderCommand::Pay],
    ] {
        let mut world = world(1, rules, 1);
        world.send::<Order>("1", &OrderCommand::Place);
        world.run();
        for trigger in &triggers {
            world.send::<Order>("1", trigger);
            world.run();
            // After a restart it is given every event from the start.
            world.crash("shipping");
            world.restart("shipping");
            world.run();
        }
        let shipped = world.state::<Shipment>("1").shipped;
        ensure!(shipped == 1, "it was shipped {shipped} times");
        let inputs = world.event_names("shipping/1").len();
        ensure!(inputs == 3, "{inputs} inputs were recorded");
    }
    Ok(())
}

#[test]
fn scenario_23_an_event_that_comes_twice_counts_once_and_triggers_come_in_any_order() {
    holds(redelivered);
}

#[test]
fn scenario_23_needs_inputs_to_be_told_apart() {
    needs(Rule::ProcessDedup, redelivered);
}

fn crash_everywhere(rules: Rules) -> Verdict {
    for seed in 0..100 {
        let mut world = world(seed, rules, 1 + (seed % 3) as u32);
        world.set_faults(Faults {
            drop_percent: 20,
            duplicate_percent: 20,
            delay_max: Duration::from_millis(500),
            crash_percent: 20,
            down_max: Duration::from_secs(1),
        });
        for command in [OrderCommand::Place, OrderCommand::Pack, OrderCommand::Pay] {
            // A client asks until it is answered.
            let mut length = world.event_names("order/1").len();
            let want = length + 1;
            while length < want {
                world.send::<Order>("1", &command);
                world.run();
                length = world.event_names("order/1").len();
                world.restart("orders");
            }
        }
        world.set_faults(Faults::NONE);
        world.run_to_end();
        let events: Vec<OrderEvent> = world.events("order/1");
        let pairs = |event: &OrderEvent| events.iter().filter(|e| *e == event).count();
        let expected = pairs(&OrderEvent::OrderPaid).min(pairs(&OrderEvent::OrderPacked));
        let shipped = world.state::<Shipment>("1").shipped as usize;
        ensure!(
            shipped == expected,
            "seed {seed}: {expected} were paid and packed, {shipped} shipped"
        );
    }
    Ok(())
}

#[test]
fn scenario_23_a_process_sends_once_whatever_crashes() {
    holds(crash_everywhere);
}

/// Events that come before the one that starts the process wait for it.
#[test]
fn scenario_23_an_event_before_the_start_waits_for_it() {
    let mut world = world(1, Rules::ALL, 1);
    for command in [OrderCommand::Pay, OrderCommand::Pack] {
        world.send::<Order>("1", &command);
    }
    world.run();
    assert_eq!(world.event_names("shipping/1"), ["Held", "Held"]);
    assert_eq!(world.state::<Shipment>("1").shipped, 0);
    world.send::<Order>("1", &OrderCommand::Place);
    world.run();
    assert_eq!(world.state::<Shipment>("1").shipped, 1);
}

/// The process's own timer comes due while its node is down.
#[test]
fn scenario_24_a_process_timer_fires_once_after_a_restart() {
    let mut world = world(1, Rules::ALL, 1);
    world.send::<Order>("1", &OrderCommand::Place);
    world.run();
    world.crash("shipping");
    world.pass(Duration::from_secs(7200));
    world.restart("shipping");
    world.run_to_end();
    world.crash("shipping");
    world.restart("shipping");
    world.run_to_end();
    assert_eq!(world.event_names("shipment/1"), ["Reminded"]);
}

/// What the process sends becomes visible after what made it send.
#[test]
fn scenario_23_consequences_depend_on_their_causes() {
    let mut world = world(1, Rules::ALL, 7);
    for command in [OrderCommand::Place, OrderCommand::Pay, OrderCommand::Pack] {
        world.send::<Order>("1", &command);
        world.run();
    }
    let order = world.stored(&StreamId::new("order/1").unwrap());
    let shipped = &world.stored(&StreamId::new("shipment/1").unwrap())[0];
    let causes = shipped.meta().decode().unwrap().causes;
    for cause in order {
        assert!(
            causes.includes(cause.position)
                || cause.position.partition == shipped.position.partition,
            "{} is not among the causes {causes}",
            cause.position
        );
    }
}

/// A command whose sender crashed before it left is sent after the restart, with its id.
#[test]
fn scenario_23_what_was_recorded_but_not_sent_is_sent_after_a_restart() {
    for point in [CrashPoint::AfterAppend, CrashPoint::AfterSend] {
        let mut world = world(1, Rules::ALL, 1);
        for command in [OrderCommand::Place, OrderCommand::Pay] {
            world.send::<Order>("1", &command);
            world.run();
        }
        world.crash_at("shipping", point, "Received");
        world.send::<Order>("1", &OrderCommand::Pack);
        world.run();
        world.restart("shipping");
        world.run();
        assert_eq!(world.state::<Shipment>("1").shipped, 1, "{point:?}");
        assert_eq!(world.stored(&shipping()).len(), 3);
    }
}
