//! Entities, their events and how old events are read.

use anabranch_domain::testkit::{entity, given};
use anabranch_domain::{
    Asked, Command, CommandId, CommandReader, Decide, Decided, DecodeError, Entity, EntityInstance,
    Event, EventKind, Json, Reader, Rejection, Remembered, Role, SchemaError, StreamId, Timestamp,
    Upcasts,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(upcasts = upcasts)]
enum OrderEvent {
    /// Version 1 had pounds as a decimal number, version 2 had `amount`.
    #[event(version = 3)]
    OrderPlaced {
        total: u64,
        #[serde(default)]
        gift: bool,
    },
    #[event(rename = "OrderConfirmed")]
    Confirmed,
    Noted(String),
    Weighed(u32, u32),
}

fn upcasts() -> Upcasts {
    Upcasts::none()
        .change("OrderPlaced", 1, |data| {
            let pounds = data["pounds"].as_f64().ok_or("`pounds` is no number")?;
            Ok(json!({ "amount": (pounds * 1000.0).round() as u64 }))
        })
        .change("OrderPlaced", 2, |mut data| {
            data["total"] = data["amount"].take();
            Ok(data)
        })
        .rename(("OrderAccepted", 1), ("OrderConfirmed", 1))
        .retire("OrderViewed")
}

fn read(name: &str, version: u32, data: &str) -> Result<Option<OrderEvent>, DecodeError> {
    Reader::new().unwrap().read(name, version, data.as_bytes())
}

fn encoded(event: &impl Event) -> String {
    let mut out = Vec::new();
    event.encode(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn an_event_is_stored_as_its_name_and_what_the_variant_holds() {
    let cases = [
        (
            OrderEvent::OrderPlaced {
                total: 5,
                gift: true,
            },
            "OrderPlaced v3",
            r#"{"total":5,"gift":true}"#,
        ),
        (OrderEvent::Confirmed, "OrderConfirmed v1", "{}"),
        (OrderEvent::Noted("x".into()), "Noted v1", r#""x""#),
        (OrderEvent::Weighed(1, 2), "Weighed v1", "[1,2]"),
    ];
    for (event, kind, data) in cases {
        assert_eq!(event.kind().to_string(), kind);
        assert_eq!(encoded(&event), data);
        let EventKind { name, version } = event.kind();
        assert_eq!(read(name, version, data), Ok(Some(event)));
    }
}

#[test]
fn a_reader_passes_over_fields_that_it_does_not_know_and_fills_in_defaults() {
    let event = read("OrderPlaced", 3, r#"{"total":5,"colour":"red"}"#);
    let placed = OrderEvent::OrderPlaced {
        total: 5,
        gift: false,
    };
    assert_eq!(event, Ok(Some(placed)));
    // A variant without fields may grow some, and an older program still reads it.
    let confirmed = read("OrderConfirmed", 1, r#"{"by":"kim"}"#);
    assert_eq!(confirmed, Ok(Some(OrderEvent::Confirmed)));
}

#[test]
fn older_versions_are_read_through_every_step_to_the_present_one() {
    let placed = OrderEvent::OrderPlaced {
        total: 2550,
        gift: false,
    };
    for (version, data) in [
        (1, r#"{"pounds":2.55}"#),
        (2, r#"{"amount":2550}"#),
        (3, r#"{"total":2550}"#),
    ] {
        assert_eq!(
            read("OrderPlaced", version, data),
            Ok(Some(placed.clone())),
            "version {version}"
        );
    }
}

/// CloudEvents have events without data.
#[test]
fn an_event_without_data_is_one_without_fields() {
    assert_eq!(
        read("OrderConfirmed", 1, ""),
        Ok(Some(OrderEvent::Confirmed))
    );
    let missing = read("OrderPlaced", 3, "").unwrap_err().to_string();
    assert!(missing.contains("missing field"), "{missing}");
}

#[test]
fn a_renamed_event_is_read_under_its_new_name_and_a_retired_one_is_passed_over() {
    assert_eq!(
        read("OrderAccepted", 1, "{}"),
        Ok(Some(OrderEvent::Confirmed))
    );
    assert_eq!(read("OrderViewed", 7, "what ever"), Ok(None));
}

#[test]
fn what_cannot_be_read_says_why() {
    let text = |result: Result<Option<OrderEvent>, DecodeError>| result.unwrap_err().to_string();
    assert_eq!(
        text(read("OrderPlaced", 4, "{}")),
        "OrderPlaced has schema version 4, but this program reads up to 3: it was written by a newer program; upgrade this one"
    );
    assert_eq!(
        text(read("OrderLost", 1, "{}")),
        "unknown event type \"OrderLost\"; known here: OrderPlaced, OrderConfirmed, Noted, Weighed. Add a variant for it, an upcast that renames it, or retire it"
    );
    assert_eq!(
        text(read("OrderPlaced", 1, "{}")),
        "the upcast of OrderPlaced from schema version 1 failed: `pounds` is no number"
    );
    assert_eq!(
        text(read("OrderPlaced", 3, r#"{"total":"many"}"#)),
        "OrderPlaced v3: invalid type: string \"many\", expected u64 at line 1 column 15"
    );
    assert_eq!(
        text(read("OrderPlaced", 3, r#"{"total":1} x"#)),
        "OrderPlaced v3: trailing characters at line 1 column 13"
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
enum ShopEvent {
    #[event(nested)]
    Order(OrderEvent),
    #[event(nested)]
    Stock(StockEvent),
    ShopOpened,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
enum StockEvent {
    StockCounted { units: u32 },
}

#[test]
fn event_types_can_be_put_together() {
    let event = ShopEvent::Stock(StockEvent::StockCounted { units: 3 });
    assert_eq!(event.kind().name, "StockCounted");
    assert_eq!(encoded(&event), r#"{"units":3}"#);
    let back = ShopEvent::decode("StockCounted", 1, br#"{"units":3}"#);
    assert_eq!(back, Ok(event));
    assert_eq!(ShopEvent::version_of("OrderPlaced"), Some(3));
    assert_eq!(ShopEvent::kinds().len(), 6);
}

macro_rules! refused {
    ($($upcasts:expr => $error:expr;)*) => {$({
        #[derive(Debug, Serialize, Deserialize, Event)]
        #[event(upcasts = upcasts)]
        enum Changed {
            #[event(version = 2)]
            Placed,
        }
        fn upcasts() -> Upcasts {
            $upcasts
        }
        assert_eq!(Reader::<Changed>::new().unwrap_err().to_string(), $error);
    })*};
}

#[test]
fn upcasts_that_do_not_fit_are_refused_before_anything_is_read() {
    refused! {
        Upcasts::none() =>
            "Placed is at schema version 2, but no upcast leads from version 1; add `.change(\"Placed\", 1, …)`";
        Upcasts::none().change("Placed", 1, Ok).change("Placed", 1, Ok) =>
            "two upcasts lead from Placed v1; keep one";
        Upcasts::none().change("Placed", 1, Ok).change("Placed", 2, Ok) =>
            "an upcast leads from Placed v2, which needs none; raise `#[event(version = …)]` of Placed or remove the upcast";
        Upcasts::none().change("Placed", 1, Ok).rename(("Old", 1), ("Gone", 4)) =>
            "the upcasts from Old v1 end at Gone v4, which this event type does not have";
        Upcasts::none().change("Placed", 1, Ok).rename(("A", 1), ("B", 1)).rename(("B", 1), ("A", 1)) =>
            "the upcasts from A v1 go round in a circle";
        Upcasts::none().change("Placed", 1, Ok).retire("Placed") =>
            "Placed is retired, but the event type has a variant of this name; remove one of them";
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "Pay@2")]
struct Pay {
    pence: u64,
}

#[test]
fn upcasts_of_a_command_that_is_a_struct_are_checked_too() {
    let refused = |upcasts| {
        let reader = CommandReader::<Pay>::new(upcasts);
        reader.err().expect("it is refused").to_string()
    };
    let circle = Upcasts::none()
        .rename(("A", 1), ("B", 1))
        .rename(("B", 1), ("A", 1));
    assert_eq!(
        refused(circle),
        "the upcasts from A v1 go round in a circle"
    );
    let twice = Upcasts::none().change("Pay", 1, Ok).change("Pay", 1, Ok);
    assert_eq!(refused(twice), "two upcasts lead from Pay v1; keep one");
    let pounds = Upcasts::none().change("Pay", 1, |data| {
        let pounds = data["pounds"].as_u64().ok_or("`pounds` is no number")?;
        Ok(json!({ "pence": pounds * 100 }))
    });
    let reader = CommandReader::<Pay>::new(pounds).unwrap();
    let read = reader.read("Pay", br#"{"pounds":2}"#);
    assert_eq!(read, Ok(Pay { pence: 200 }));
}

#[derive(Debug, Serialize, Deserialize, Event)]
enum Twice {
    #[event(nested)]
    One(StockEvent),
    StockCounted,
}

#[test]
fn one_name_for_two_events_is_refused() {
    assert_eq!(
        Reader::<Twice>::new().unwrap_err(),
        SchemaError::NameTwice {
            name: "StockCounted".into()
        }
    );
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    placed: Option<u64>,
    confirmed: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum OrderCommand {
    PlaceOrder { total: u64 },
    Confirm,
    Note(String),
    Look,
}

#[derive(Debug, thiserror::Error, Serialize, Rejection)]
enum OrderRejection {
    #[error("the order has been placed, for {total}")]
    AlreadyPlaced { total: u64 },
    #[error("the order has not been placed")]
    NotPlaced,
}

impl Entity for Order {
    const CATEGORY: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;

    fn decide(
        &self,
        command: &OrderCommand,
        cx: &Decide,
    ) -> Result<Vec<OrderEvent>, OrderRejection> {
        match (command, self.placed) {
            (OrderCommand::PlaceOrder { .. }, Some(total)) => {
                Err(OrderRejection::AlreadyPlaced { total })
            }
            (OrderCommand::PlaceOrder { total }, None) => Ok(vec![OrderEvent::OrderPlaced {
                total: *total,
                gift: false,
            }]),
            (OrderCommand::Confirm, None) => Err(OrderRejection::NotPlaced),
            (OrderCommand::Confirm, Some(_)) => Ok(vec![OrderEvent::Confirmed]),
            (OrderCommand::Note(text), _) => Ok(vec![OrderEvent::Noted(format!(
                "{text} ({}, {})",
                cx.key(),
                cx.now()
            ))]),
            (OrderCommand::Look, _) => Ok(Vec::new()),
        }
    }

    fn evolve(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::OrderPlaced { total, .. } => self.placed = Some(*total),
            OrderEvent::Confirmed => self.confirmed = true,
            OrderEvent::Noted(_) | OrderEvent::Weighed(..) => {}
        }
    }
}

fn placed(total: u64) -> OrderEvent {
    OrderEvent::OrderPlaced { total, gift: false }
}

#[test]
fn an_order_is_placed_once() {
    given::<Order>([])
        .when(OrderCommand::PlaceOrder { total: 5 })
        .then([placed(5)])
        .when(OrderCommand::PlaceOrder { total: 7 })
        .then_rejected("already-placed")
        .then_state(|order| assert_eq!(order.placed, Some(5)));
}

#[test]
fn an_order_is_confirmed_after_it_was_placed() {
    given::<Order>([])
        .when(OrderCommand::Confirm)
        .then_rejected("not-placed");
    given::<Order>([placed(5)])
        .when(OrderCommand::Confirm)
        .then([OrderEvent::Confirmed]);
}

#[test]
fn a_decision_knows_key_and_time_from_its_context() {
    entity::<Order>("536365")
        .at(Timestamp::from_seconds(0))
        .when(OrderCommand::Note("hello".into()))
        .then([OrderEvent::Noted(
            "hello (536365, 1970-01-01T00:00:00.000000Z)".into(),
        )])
        .when(OrderCommand::Look)
        .then_nothing();
}

#[test]
#[should_panic(expected = "events of PlaceOrder: - expected, + actual
    OrderPlaced v3 {
      \"gift\": false,
  -   \"total\": 6
  +   \"total\": 5
    }
")]
fn a_wrong_expectation_shows_the_difference() {
    given::<Order>([])
        .when(OrderCommand::PlaceOrder { total: 5 })
        .then([placed(6)]);
}

#[test]
#[should_panic(expected = "events of Confirm: - expected, + actual
  - OrderConfirmed {}
  + rejected: the order has not been placed (not-placed)
")]
fn an_unexpected_rejection_is_shown() {
    given::<Order>([])
        .when(OrderCommand::Confirm)
        .then([OrderEvent::Confirmed]);
}

#[test]
#[should_panic(expected = "is not the same after it was read from its snapshot")]
fn a_state_that_a_snapshot_would_change_is_noticed() {
    #[derive(Default, Serialize, Deserialize)]
    struct Forgetful {
        #[serde(skip_serializing_if = "is_even")]
        #[serde(default = "one")]
        count: u32,
    }
    fn is_even(count: &u32) -> bool {
        count.is_multiple_of(2)
    }
    fn one() -> u32 {
        1
    }
    impl Entity for Forgetful {
        const CATEGORY: &'static str = "forgetful";
        type Command = OrderCommand;
        type Event = OrderEvent;
        type Rejection = Rejection;
        fn decide(&self, _: &OrderCommand, _: &Decide) -> Result<Vec<OrderEvent>, Rejection> {
            Ok(vec![OrderEvent::Confirmed])
        }
        fn evolve(&mut self, _: &OrderEvent) {
            self.count += 2;
        }
    }
    given::<Forgetful>([OrderEvent::Confirmed])
        .when(OrderCommand::Look)
        .then([OrderEvent::Confirmed]);
}

#[test]
fn commands_are_named_by_their_variant() {
    assert_eq!(
        OrderCommand::names(),
        ["PlaceOrder", "Confirm", "Note", "Look"]
    );
    for (command, name, data) in [
        (
            OrderCommand::PlaceOrder { total: 5 },
            "PlaceOrder",
            r#"{"total":5}"#,
        ),
        (OrderCommand::Confirm, "Confirm", "{}"),
        (OrderCommand::Note("x".into()), "Note", r#""x""#),
    ] {
        let (wire_name, wire_data) = command.to_wire().unwrap();
        assert_eq!((wire_name, wire_data.as_str()), (name, data));
        assert_eq!(OrderCommand::from_wire(name, data.as_bytes()), Ok(command));
    }
    // What people type for a command that holds nothing.
    assert_eq!(
        OrderCommand::from_wire("Confirm", b""),
        Ok(OrderCommand::Confirm)
    );
}

#[test]
fn a_struct_is_a_command_of_its_own_name() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Refund {
        mills: u64,
    }
    let (name, data) = Refund { mills: 3 }.to_wire().unwrap();
    assert_eq!((name, data.as_str()), ("Refund", r#"{"mills":3}"#));
    assert_eq!(
        Refund::from_wire("Refund", br#"{"mills":3}"#),
        Ok(Refund { mills: 3 })
    );
    assert!(Refund::from_wire("Return", br#"{"mills":3}"#).is_err());
}

#[test]
fn a_malformed_command_says_what_is_wrong() {
    let text = |name, data: &str| {
        let result = OrderCommand::from_wire(name, data.as_bytes());
        result.unwrap_err().to_string()
    };
    assert_eq!(
        text("Cancel", "{}"),
        "command Cancel: unknown variant `Cancel`, expected one of `PlaceOrder`, `Confirm`, `Note`, `Look`"
    );
    assert_eq!(
        text("PlaceOrder", "{}"),
        "command PlaceOrder: missing field `total` at line 1 column 2"
    );
    assert_eq!(
        text("PlaceOrder", "{\"total\":"),
        "command PlaceOrder: EOF while parsing a value at line 1 column 9"
    );
}

#[test]
fn an_enum_in_another_form_of_serde_cannot_be_a_command() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Loose {
        Number(u32),
    }
    let error = Loose::Number(1).to_wire().unwrap_err().to_string();
    assert!(
        error.contains("remove `#[serde(tag, untagged, into)]`"),
        "{error}"
    );
}

#[test]
fn ids_of_one_decision_differ_and_are_the_same_when_it_is_repeated() {
    let stream = StreamId::new("order/1").unwrap();
    let ids = |command| {
        let command = CommandId::from_u128(command);
        let cx = Decide::new(stream.clone(), None, command, Timestamp::default());
        [cx.new_id(), cx.new_id()]
    };
    assert_eq!(ids(1), ids(1));
    assert_ne!(ids(1)[0], ids(1)[1]);
    assert_ne!(ids(1)[0], ids(2)[0]);
}

// What an instance remembers of commands.

struct Receiver {
    stream: StreamId,
    instance: EntityInstance<Order>,
}

impl Receiver {
    fn new() -> Self {
        Self {
            stream: StreamId::new("order/1").unwrap(),
            instance: EntityInstance::new(),
        }
    }

    fn ask(&mut self, id: u128, role: &Role, command: &OrderCommand) -> Decided<OrderEvent> {
        let saga = StreamId::new("checkout/1").unwrap();
        let asked = Asked {
            id: CommandId::from_u128(id),
            role,
            reply_to: Some(&saga),
        };
        let now = Timestamp::default();
        let decided = self.instance.decide(&self.stream, asked, command, now);
        match &decided {
            Decided::Events(events) => self.instance.apply(asked, events),
            Decided::Note(note, _) => self.instance.apply_note(note),
            Decided::Nothing(_) | Decided::Repeat(_) => {}
        }
        decided
    }
}

fn step() -> Role {
    Role::Step("order".parse().unwrap())
}

#[test]
fn a_repeated_command_is_answered_from_memory() {
    let mut receiver = Receiver::new();
    let place = OrderCommand::PlaceOrder { total: 5 };
    let first = receiver.ask(1, &Role::Plain, &place);
    assert_eq!(first, Decided::Events(vec![placed(5)]));
    let second = receiver.ask(1, &Role::Plain, &place);
    assert_eq!(second, Decided::Repeat(Remembered::Recorded(0..1)));
}

#[test]
fn a_refused_step_stays_refused() {
    let mut receiver = Receiver::new();
    let first = receiver.ask(1, &step(), &OrderCommand::Confirm);
    assert!(matches!(first, Decided::Note(_, Err(_))), "{first:?}");
    receiver.ask(2, &Role::Plain, &OrderCommand::PlaceOrder { total: 5 });
    let again = receiver.ask(1, &step(), &OrderCommand::Confirm);
    let Decided::Repeat(Remembered::Refused(rejection)) = again else {
        panic!("{again:?}");
    };
    assert_eq!(rejection.code, "not-placed");
}

#[test]
fn a_step_that_is_tried_until_it_succeeds_may_succeed_later() {
    let mut receiver = Receiver::new();
    let forward = Role::Forward("order".parse().unwrap());
    let first = receiver.ask(1, &forward, &OrderCommand::Confirm);
    assert!(matches!(first, Decided::Nothing(Err(_))), "{first:?}");
    receiver.ask(2, &Role::Plain, &OrderCommand::PlaceOrder { total: 5 });
    let again = receiver.ask(1, &forward, &OrderCommand::Confirm);
    assert_eq!(again, Decided::Events(vec![OrderEvent::Confirmed]));
}

#[test]
fn what_is_remembered_goes_through_a_snapshot() {
    let mut receiver = Receiver::new();
    receiver.ask(1, &step(), &OrderCommand::PlaceOrder { total: 5 });
    let snapshot = Json::of(&receiver.instance).unwrap();
    receiver.instance = snapshot.parse().unwrap();
    let again = receiver.ask(1, &step(), &OrderCommand::PlaceOrder { total: 5 });
    assert_eq!(again, Decided::Repeat(Remembered::Recorded(0..1)));
}

#[test]
fn the_memory_of_a_saga_is_dropped_when_it_has_ended() {
    let mut receiver = Receiver::new();
    receiver.ask(1, &step(), &OrderCommand::PlaceOrder { total: 5 });
    assert_eq!(receiver.instance.memory().len(), 1);
    receiver
        .instance
        .forget(&StreamId::new("checkout/2").unwrap());
    assert_eq!(receiver.instance.memory().len(), 1);
    receiver
        .instance
        .forget(&StreamId::new("checkout/1").unwrap());
    assert!(receiver.instance.memory().is_empty());
}

#[test]
fn the_memory_of_ordinary_commands_is_bounded() {
    let mut receiver = Receiver::new();
    for id in 0..1000 {
        receiver.ask(id, &Role::Plain, &OrderCommand::Note("x".into()));
    }
    assert_eq!(
        receiver.instance.memory().len(),
        anabranch_domain::PLAIN_COMMANDS_MAX
    );
}
