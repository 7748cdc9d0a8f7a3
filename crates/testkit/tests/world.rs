//! What a world does, and that it does it on the runtime that ships.

use std::time::Duration;

use anabranch_domain::{
    Correlate, Decide, Effect, Entity, Event, EventRef, Input, Process, Reaction, Rejection,
};
use anabranch_testkit::{CrashPoint, Faults, Provider, Service, World};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum OrderCommand {
    PayOrder,
}

#[derive(Clone, Serialize, Deserialize, Event)]
enum OrderEvent {
    OrderPaid,
}

#[derive(Default, Serialize, Deserialize)]
struct Order {
    is_paid: bool,
}

impl Entity for Order {
    const CATEGORY: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = Rejection;

    fn decide(&self, _: &OrderCommand, _: &Decide) -> Result<Vec<OrderEvent>, Rejection> {
        match self.is_paid {
            false => Ok(vec![OrderEvent::OrderPaid]),
            true => Err(Rejection::new("already-paid", "it is paid already")),
        }
    }

    fn evolve(&mut self, _: &OrderEvent) {
        self.is_paid = true;
    }
}

#[derive(Serialize, Deserialize)]
enum ParcelCommand {
    ShipOrder,
}

#[derive(Serialize, Deserialize, Event)]
enum ParcelEvent {
    OrderShipped,
}

#[derive(Default, Serialize, Deserialize)]
struct Parcel {
    shipped: u32,
}

impl Entity for Parcel {
    const CATEGORY: &'static str = "parcel";
    type Command = ParcelCommand;
    type Event = ParcelEvent;
    type Rejection = Rejection;

    fn decide(&self, _: &ParcelCommand, _: &Decide) -> Result<Vec<ParcelEvent>, Rejection> {
        Ok(vec![ParcelEvent::OrderShipped])
    }

    fn evolve(&mut self, _: &ParcelEvent) {
        self.shipped += 1;
    }
}

/// Asks a carrier for a label, then ships; after an hour, it ends.
#[derive(Default, Serialize, Deserialize)]
struct Shipping;

#[derive(Clone, Serialize, Deserialize)]
struct Label;

impl Effect for Label {
    const NAME: &'static str = "label";
    type Outcome = u32;
}

impl Process for Shipping {
    const NAME: &'static str = "shipping";
    const CATEGORIES: &'static [&'static str] = &["order"];
    type Event = OrderEvent;

    fn correlate(_: &OrderEvent, about: &EventRef) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, input: &Input<OrderEvent>, cx: &Decide) -> Reaction {
        match input {
            Input::Event(..) => Reaction::none()
                .call(&Label)
                .schedule("end", cx.now() + Duration::from_secs(3600)),
            Input::Reply(reply) if reply.name == Label::NAME => {
                Reaction::none().send::<Parcel>(cx.key(), &ParcelCommand::ShipOrder)
            }
            Input::Reply(_) => Reaction::none(),
            Input::Timer(_) => Reaction::none().complete(),
        }
    }

    fn evolve(&mut self, _: &Input<OrderEvent>) {}
}

/// Parcels in a service of their own, so that commands to them travel.
fn world(seed: u64, carrier: &Provider<Label>) -> World {
    World::new(seed)
        .with(Service::new("orders").entity::<Order>())
        .with(Service::new("parcels").entity::<Parcel>())
        .with(
            Service::new("shipping")
                .process::<Shipping>()
                .effect(carrier),
        )
}

fn carrier() -> Provider<Label> {
    Provider::new(|_| Ok(7))
}

#[test]
fn what_can_be_done_now_is_done_without_time_going_by() {
    let mut world = world(1, &carrier());
    let before = world.now();
    world.ask::<Order>("7", &OrderCommand::PayOrder).unwrap();
    assert_eq!(world.state::<Parcel>("7").shipped, 1);
    assert_eq!(world.now(), before);
    let again = world.ask::<Order>("7", &OrderCommand::PayOrder);
    assert!(again.unwrap_err().to_string().contains("already-paid"));
}

#[test]
fn a_timer_fires_when_its_time_has_come_and_not_before() {
    let mut world = world(2, &carrier());
    world.ask::<Order>("7", &OrderCommand::PayOrder).unwrap();
    let journal = |world: &World| world.event_names("shipping/7").len();
    // What was answered stands in the journal soon, at the latest.
    world.pass(Duration::from_secs(60));
    let running = journal(&world);
    world.pass(Duration::from_secs(3440));
    assert_eq!(journal(&world), running);
    world.pass(Duration::from_secs(200));
    assert!(journal(&world) > running);
}

#[test]
fn a_command_that_is_lost_is_sent_again() {
    let mut world = world(3, &carrier());
    world.drop_next(1, |message| message.asks("ShipOrder"));
    world.ask::<Order>("7", &OrderCommand::PayOrder).unwrap();
    assert_eq!(world.state::<Parcel>("7").shipped, 0);
    world.run_to_end();
    assert_eq!(world.state::<Parcel>("7").shipped, 1);
}

#[test]
fn a_command_whose_answer_is_lost_takes_effect_once() {
    let mut world = world(4, &carrier());
    world.drop_next(1, |message| message.answers("ShipOrder"));
    world.ask::<Order>("7", &OrderCommand::PayOrder).unwrap();
    world.run_to_end();
    assert_eq!(world.state::<Parcel>("7").shipped, 1);
}

#[test]
fn a_message_that_is_kept_back_arrives_when_it_is_released() {
    let mut world = world(5, &carrier());
    let hold = world.hold(|message| message.asks("ShipOrder"));
    world.ask::<Order>("7", &OrderCommand::PayOrder).unwrap();
    assert_eq!(world.state::<Parcel>("7").shipped, 0);
    assert_eq!(world.release(hold), 1);
    world.run();
    assert_eq!(world.state::<Parcel>("7").shipped, 1);
}

#[test]
fn a_crash_before_the_append_loses_the_decision_and_one_after_it_keeps_it() {
    for (point, kept) in [(CrashPoint::BeforeAppend, 0), (CrashPoint::AfterAppend, 1)] {
        let mut world = world(6, &carrier());
        world.crash_at("parcels", point, "OrderShipped");
        world.ask::<Order>("7", &OrderCommand::PayOrder).unwrap();
        assert_eq!(world.state::<Parcel>("7").shipped, kept, "{point:?}");
        assert!(world.service("parcels").is_none());
        world.restart("parcels");
        world.run_to_end();
        assert_eq!(world.state::<Parcel>("7").shipped, 1, "{point:?}");
    }
}

#[test]
fn a_provider_that_is_down_is_called_again_when_it_is_up() {
    let carrier = carrier();
    let mut world = world(7, &carrier);
    carrier.go_down();
    world.ask::<Order>("7", &OrderCommand::PayOrder).unwrap();
    world.pass(Duration::from_secs(60));
    assert_eq!(
        (carrier.calls(), world.state::<Parcel>("7").shipped),
        (0, 0)
    );
    carrier.come_up();
    world.run_to_end();
    assert_eq!(carrier.carried_out(), 1);
    assert_eq!(world.state::<Parcel>("7").shipped, 1);
}

#[test]
fn in_a_wild_world_each_paid_order_is_shipped_once() {
    for seed in 0..20 {
        let carrier = carrier();
        let mut wild = world(seed, &carrier);
        wild.set_faults(Faults {
            drop_percent: 10,
            duplicate_percent: 20,
            delay_max: Duration::from_secs(1),
            crash_percent_per_minute: 50,
            down_max: Duration::from_secs(10),
        });
        let orders: Vec<String> = (0..5).map(|order| order.to_string()).collect();
        for order in &orders {
            wild.send::<Order>(order, &OrderCommand::PayOrder);
        }
        wild.run_to_end();
        for order in &orders {
            let paid = wild.event_names(&format!("order/{order}"));
            let shipped = wild.event_names(&format!("parcel/{order}"));
            assert_eq!(paid.len(), shipped.len(), "seed {seed}, order {order}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = world(seed, &carrier());
        world.set_faults(Faults {
            drop_percent: 10,
            duplicate_percent: 10,
            delay_max: Duration::from_secs(2),
            crash_percent_per_minute: 30,
            down_max: Duration::from_secs(5),
        });
        for order in 0..8 {
            world.send::<Order>(&order.to_string(), &OrderCommand::PayOrder);
        }
        world.run_to_end();
        let mut all = Vec::new();
        for category in ["order", "parcel", "shipping"] {
            all.extend(world.category(category));
        }
        let line = |e: &anabranch_model::Event| (e.id, e.position, e.recorded_at);
        all.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
#[should_panic(expected = "service parcels is down")]
fn a_world_that_cannot_come_to_rest_says_soon_who_waits() {
    let mut world = world(8, &carrier());
    world.crash("parcels");
    world.drop_next(u32::MAX, |message| message.answers("label"));
    world.ask::<Order>("7", &OrderCommand::PayOrder).unwrap();
    world.run_to_end();
}
