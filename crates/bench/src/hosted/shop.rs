//! What is hosted for the measurement: an entity that diagnostics things down, and a small shop.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_domain::process::Replies;
use anabranch_domain::saga::{Definition, Promise, Request, Start};
use anabranch_domain::{
    Correlate, Decide, Entity, Event, EventRef, Input, Process, Reaction, Rejection, Saga,
};
use serde::{Deserialize, Serialize};

/// Records a text with each command, and counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    diagnostics: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum LedgerCommand {
    Note {
        text: String,
    },
    /// Records nothing.
    Look,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum LedgerEvent {
    Noted { text: String },
}

/// The bytes of a [`LedgerEvent`] around its text.
pub const NOTED_BYTES: usize = r#"{"text":""}"#.len();

impl Entity for Ledger {
    const CATEGORY: &'static str = "ledger";
    type Command = LedgerCommand;
    type Event = LedgerEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &LedgerCommand, _: &Decide) -> Result<Vec<LedgerEvent>, Rejection> {
        Ok(match command {
            LedgerCommand::Note { text } => vec![LedgerEvent::Noted { text: text.clone() }],
            LedgerCommand::Look => Vec::new(),
        })
    }

    fn evolve(&mut self, LedgerEvent::Noted { .. }: &LedgerEvent) {
        self.diagnostics += 1;
    }
}

/// The events that one order of so many lines leads to: that it was placed; for each of the
/// saga's branches that it was started, that it took effect, and the effect itself; and that
/// the saga began and ended.
pub const fn events_of_saga(lines: usize) -> usize {
    1 + 3 * (lines + 3) + 2
}

/// The events that [`Dispatching`] adds: two that it has consumed, for each line that it was taken
/// from the shelf and that this was answered, and that it has ended.
pub const fn events_of_dispatching(lines: usize) -> usize {
    3 + 2 * lines
}

/// An order of the small shop.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Order {
    state: OrderState,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
enum OrderState {
    #[default]
    New,
    Placed,
    Confirmed,
}

/// One line of an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    pub product: u32,
    pub units: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum OrderCommand {
    Place { lines: Vec<Line> },
    Confirm,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum OrderEvent {
    OrderPlaced { lines: Vec<Line> },
    OrderConfirmed,
}

impl Entity for Order {
    const CATEGORY: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &OrderCommand, _: &Decide) -> Result<Vec<OrderEvent>, Rejection> {
        match (command, &self.state) {
            (OrderCommand::Place { lines }, OrderState::New) => Ok(vec![OrderEvent::OrderPlaced {
                lines: lines.clone(),
            }]),
            (OrderCommand::Confirm, OrderState::Placed) => Ok(vec![OrderEvent::OrderConfirmed]),
            _ => Err(Rejection::new("out-of-turn", "the order is not there yet")),
        }
    }

    fn evolve(&mut self, event: &OrderEvent) {
        self.state = match event {
            OrderEvent::OrderPlaced { .. } => OrderState::Placed,
            OrderEvent::OrderConfirmed => OrderState::Confirmed,
        };
    }
}

/// The stock of one product.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Stock {
    /// Units reserved, by order.
    reserved: BTreeMap<String, u32>,
    units_reserved: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum StockCommand {
    Reserve { order: String, units: u32 },
    Release { order: String },
    Take { order: String },
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum StockEvent {
    Reserved { order: String, units: u32 },
    Released { order: String },
    Taken { order: String },
}

impl Entity for Stock {
    const CATEGORY: &'static str = "stock";
    type Command = StockCommand;
    type Event = StockEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &StockCommand, _: &Decide) -> Result<Vec<StockEvent>, Rejection> {
        Ok(match command.clone() {
            StockCommand::Reserve { order, units } => vec![StockEvent::Reserved { order, units }],
            StockCommand::Release { order } => vec![StockEvent::Released { order }],
            StockCommand::Take { order } => vec![StockEvent::Taken { order }],
        })
    }

    fn evolve(&mut self, event: &StockEvent) {
        match event {
            StockEvent::Reserved { order, units } => {
                *self.reserved.entry(order.clone()).or_default() += units;
                self.units_reserved += u64::from(*units);
                // What was reserved long ago was shipped meanwhile.
                if self.reserved.len() > RESERVATIONS_MAX {
                    self.reserved.pop_first();
                }
            }
            StockEvent::Released { order } | StockEvent::Taken { order } => {
                self.reserved.remove(order);
            }
        }
    }
}

const RESERVATIONS_MAX: usize = 16;

/// A payment, or a shipment: done once.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Payment {
    done: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PaymentCommand {
    Pay { mills: u64 },
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum PaymentEvent {
    Paid { mills: u64 },
}

impl Entity for Payment {
    const CATEGORY: &'static str = "payment";
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &PaymentCommand, _: &Decide) -> Result<Vec<PaymentEvent>, Rejection> {
        let PaymentCommand::Pay { mills } = *command;
        if self.done {
            return Err(Rejection::new("paid", "it is paid already"));
        }
        Ok(vec![PaymentEvent::Paid { mills }])
    }

    fn evolve(&mut self, PaymentEvent::Paid { .. }: &PaymentEvent) {
        self.done = true;
    }
}

/// What is sent to a customer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Shipment {
    shipped: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ShipmentCommand {
    Ship,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum ShipmentEvent {
    Shipped,
}

impl Entity for Shipment {
    const CATEGORY: &'static str = "shipment";
    type Command = ShipmentCommand;
    type Event = ShipmentEvent;
    type Rejection = Rejection;

    fn decide(&self, _: &ShipmentCommand, _: &Decide) -> Result<Vec<ShipmentEvent>, Rejection> {
        if self.shipped {
            return Err(Rejection::new("shipped", "it is on its way already"));
        }
        Ok(vec![ShipmentEvent::Shipped])
    }

    fn evolve(&mut self, ShipmentEvent::Shipped: &ShipmentEvent) {
        self.shipped = true;
    }
}

/// Reserve every line, pay, ship, confirm.
pub struct Checkout;

#[derive(Debug, Serialize, Deserialize)]
pub struct CheckoutInput {
    lines: Vec<Line>,
}

impl Saga for Checkout {
    const NAME: &'static str = "checkout";
    const CATEGORIES: &'static [&'static str] = &[Order::CATEGORY];
    type Event = OrderEvent;
    type Input = CheckoutInput;

    fn start(event: &OrderEvent, about: &EventRef<'_>) -> Option<Start<CheckoutInput>> {
        match event {
            OrderEvent::OrderPlaced { lines } => Some(Start {
                key: about.key().to_owned(),
                input: CheckoutInput {
                    lines: lines.clone(),
                },
            }),
            OrderEvent::OrderConfirmed => None,
        }
    }

    fn define() -> Definition<CheckoutInput> {
        let timeout = Duration::from_secs(60);
        Definition::<CheckoutInput>::new(1)
            .compensatable("reserve", |reserve| {
                reserve
                    .changes(Stock::CATEGORY)
                    .for_each(|input: &CheckoutInput| input.lines.len())
                    .commutes()
                    .request(|input, cx| {
                        let Line { product, units } = input.lines[cx.branch()];
                        let order = cx.key().to_owned();
                        let reserve = StockCommand::Reserve { order, units };
                        Request::to::<Stock>(product.to_string(), &reserve)
                    })
                    .undo(Promise::ALL, |input, cx| {
                        let Line { product, .. } = input.lines[cx.branch()];
                        let order = cx.key().to_owned();
                        let release = StockCommand::Release { order };
                        Request::to::<Stock>(product.to_string(), &release)
                    })
                    .timeout(timeout)
            })
            .pivot("pay", |pay| {
                pay.after(["reserve"])
                    .changes(Payment::CATEGORY)
                    .request(|input, cx| {
                        let units = input.lines.iter().map(|line| u64::from(line.units));
                        let mills = units.sum::<u64>() * 1_250;
                        Request::to::<Payment>(cx.key(), &PaymentCommand::Pay { mills })
                    })
            })
            .retriable("ship", |ship| {
                ship.after(["pay"])
                    .changes(Shipment::CATEGORY)
                    .request(|_, cx| Request::to::<Shipment>(cx.key(), &ShipmentCommand::Ship))
            })
            .retriable("confirm", |confirm| {
                confirm
                    .after(["ship"])
                    .changes(Order::CATEGORY)
                    .request(|_, cx| Request::to::<Order>(cx.key(), &OrderCommand::Confirm))
            })
    }
}

/// Takes every line of a confirmed order from the shelf, and ends when all are taken.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Dispatching {
    products: Vec<u32>,
    taken: usize,
}

impl Process for Dispatching {
    const NAME: &'static str = "dispatching";
    const CATEGORIES: &'static [&'static str] = &[Order::CATEGORY];
    const REPLIES: Replies = Replies::All;
    type Event = OrderEvent;

    fn correlate(event: &OrderEvent, about: &EventRef<'_>) -> Correlate {
        let key = about.key().to_owned();
        match event {
            OrderEvent::OrderPlaced { .. } => Correlate::Start(key),
            OrderEvent::OrderConfirmed => Correlate::Continue(key),
        }
    }

    fn decide(&self, input: &Input<OrderEvent>, cx: &Decide) -> Reaction {
        match input {
            Input::Event(OrderEvent::OrderConfirmed, _) => {
                let order = cx.key();
                self.products.iter().fold(Reaction::none(), |all, product| {
                    let order = order.to_owned();
                    all.send::<Stock>(product.to_string(), &StockCommand::Take { order })
                })
            }
            Input::Reply(_) if self.taken + 1 == self.products.len() => Reaction::none().complete(),
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<OrderEvent>) {
        match input {
            Input::Event(OrderEvent::OrderPlaced { lines }, _) => {
                self.products = lines.iter().map(|line| line.product).collect();
            }
            Input::Reply(_) => self.taken += 1,
            _ => {}
        }
    }
}
