//! Orders: takes orders and returns, and says how each order ended.

use anabranch::domain::{Decide, Entity, Event, Rejection};
use anabranch::runtime::ServiceBuilder;
use serde::{Deserialize, Serialize};

/// Goods on an order or a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The product's code.
    pub product: String,
    /// How many.
    pub quantity: u64,
    /// Price of one, in thousandths of a pound. On an order that is placed, 0 or nothing stands for
    /// the price that pricing sets; an invoice that was written already names what was agreed.
    #[serde(default)]
    pub mills: u64,
}

/// The saga that carries orders out.
const CHECKOUT: &str = "checkout";

/// The process that finds out what is to be paid.
const QUOTING: &str = "quoting";

/// What is asked of an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum OrderCommand {
    /// A customer wants these goods.
    PlaceOrder {
        /// Who; `guest` if unknown.
        customer: String,
        /// Where to.
        country: String,
        /// When, in the shop's local time: `2010-12-01T08:26:00`.
        placed_at: String,
        /// What.
        lines: Vec<Line>,
    },
    /// Pricing has said what the goods cost. Only the process that has asked it says so.
    PriceOrder {
        /// Who; `guest` if unknown.
        customer: String,
        /// Where to.
        country: String,
        /// When, in the shop's local time.
        placed_at: String,
        /// What, each with its price.
        lines: Vec<Line>,
    },
    /// The checkout takes the order in hand.
    BeginCheckout,
    /// The goods are paid and on their way.
    ConfirmOrder,
    /// The order cannot be carried out.
    RejectOrder {
        /// Why, for people.
        reason: String,
    },
}

/// What happens to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum OrderEvent {
    /// A customer wants these goods, some of them for what they cost.
    OrderRequested {
        /// Who; `guest` if unknown.
        customer: String,
        /// Where to.
        country: String,
        /// When, in the shop's local time.
        placed_at: String,
        /// What. A price of 0 is not known yet.
        lines: Vec<Line>,
    },
    /// A customer wants these goods, and knows what they cost.
    OrderPlaced {
        /// Who; `guest` if unknown.
        customer: String,
        /// Where to.
        country: String,
        /// When, in the shop's local time.
        placed_at: String,
        /// What.
        lines: Vec<Line>,
        /// What all of it costs, in thousandths of a pound.
        total_mills: u64,
    },
    /// The checkout has the order in hand.
    CheckoutBegan,
    /// The goods are paid and on their way. Final.
    OrderConfirmed,
    /// The order was not carried out, and nothing of it is left. Final.
    OrderRejected {
        /// Why, for people.
        reason: String,
    },
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Order {
    /// Nobody has placed it.
    #[default]
    New,
    /// It waits for the checkout.
    Placed,
    /// The checkout has it in hand.
    InCheckout,
    /// It was carried out.
    Confirmed,
    /// It was not carried out.
    Rejected,
    /// It waits for pricing.
    Requested,
}

impl Entity for Order {
    const CATEGORY: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &OrderCommand, cx: &Decide) -> Result<Vec<OrderEvent>, Rejection> {
        self.check_sender(command, cx)?;
        match (command, self) {
            (
                OrderCommand::PlaceOrder {
                    customer,
                    country,
                    placed_at,
                    lines,
                },
                Self::New,
            ) if lines.iter().any(|line| line.mills == 0) => {
                total_of(&at_least(lines))?;
                Ok(vec![OrderEvent::OrderRequested {
                    customer: customer.clone(),
                    country: country.clone(),
                    placed_at: placed_at.clone(),
                    lines: lines.clone(),
                }])
            }
            (
                OrderCommand::PlaceOrder {
                    customer,
                    country,
                    placed_at,
                    lines,
                },
                Self::New,
            )
            | (
                OrderCommand::PriceOrder {
                    customer,
                    country,
                    placed_at,
                    lines,
                },
                Self::Requested,
            ) => Ok(vec![OrderEvent::OrderPlaced {
                customer: customer.clone(),
                country: country.clone(),
                placed_at: placed_at.clone(),
                total_mills: total_of(lines)?,
                lines: lines.clone(),
            }]),
            (OrderCommand::PlaceOrder { .. }, _) => Err(Rejection::new(
                "already-placed",
                "an order with this number was placed before; take another number",
            )),
            (OrderCommand::BeginCheckout, Self::Placed) => Ok(vec![OrderEvent::CheckoutBegan]),
            (OrderCommand::ConfirmOrder, Self::InCheckout) => Ok(vec![OrderEvent::OrderConfirmed]),
            (OrderCommand::RejectOrder { reason }, Self::InCheckout | Self::Requested) => {
                Ok(vec![OrderEvent::OrderRejected {
                    reason: reason.clone(),
                }])
            }
            (_, Self::New) => Err(Rejection::new("not-placed", "nobody has placed this order")),
            (_, state) => Err(Rejection::new(
                "not-now",
                format!("the order is {state:?}, so this cannot be done"),
            )),
        }
    }

    fn evolve(&mut self, event: &OrderEvent) {
        *self = match event {
            OrderEvent::OrderRequested { .. } => Self::Requested,
            OrderEvent::OrderPlaced { .. } => Self::Placed,
            OrderEvent::CheckoutBegan => Self::InCheckout,
            OrderEvent::OrderConfirmed => Self::Confirmed,
            OrderEvent::OrderRejected { .. } => Self::Rejected,
        };
    }
}

impl Order {
    /// Whether who sends the command may do so now: everybody may place an order.
    fn check_sender(&self, command: &OrderCommand, cx: &Decide) -> Result<(), Rejection> {
        let sent_by = |name| cx.sender().is_some_and(|s| s.category() == name);
        let may = match command {
            OrderCommand::PlaceOrder { .. } => true,
            OrderCommand::PriceOrder { .. } => sent_by(QUOTING),
            OrderCommand::RejectOrder { .. } if *self == Self::Requested => sent_by(QUOTING),
            _ => sent_by(CHECKOUT),
        };
        if may {
            return Ok(());
        }
        let message = "only the checkout may do this; it does so by itself";
        Err(Rejection::new("checkout-only", message))
    }
}

/// The lines, with the least that a price can be where none is known.
fn at_least(lines: &[Line]) -> Vec<Line> {
    let priced = |line: &Line| Line {
        mills: line.mills.max(1),
        ..line.clone()
    };
    lines.iter().map(priced).collect()
}

/// What is asked of a return.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ReturnCommand {
    /// A customer has sent these goods back.
    AcceptReturn {
        /// Who; `guest` if unknown.
        customer: String,
        /// Where from.
        country: String,
        /// When, in the shop's local time.
        returned_at: String,
        /// What.
        lines: Vec<Line>,
    },
}

/// What happens to a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum ReturnEvent {
    /// The goods are back, and their price is owed to the customer.
    ReturnAccepted {
        /// Who; `guest` if unknown.
        customer: String,
        /// Where from.
        country: String,
        /// When, in the shop's local time.
        returned_at: String,
        /// What.
        lines: Vec<Line>,
        /// What is owed, in thousandths of a pound.
        total_mills: u64,
    },
}

/// Whether a return was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Return {
    accepted: bool,
}

impl Entity for Return {
    const CATEGORY: &'static str = "return";
    type Command = ReturnCommand;
    type Event = ReturnEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &ReturnCommand, _: &Decide) -> Result<Vec<ReturnEvent>, Rejection> {
        let ReturnCommand::AcceptReturn {
            customer,
            country,
            returned_at,
            lines,
        } = command;
        if self.accepted {
            let message = "a return with this number was accepted before; take another number";
            return Err(Rejection::new("already-accepted", message));
        }
        Ok(vec![ReturnEvent::ReturnAccepted {
            customer: customer.clone(),
            country: country.clone(),
            returned_at: returned_at.clone(),
            total_mills: total_of(lines)?,
            lines: lines.clone(),
        }])
    }

    fn evolve(&mut self, _: &ReturnEvent) {
        self.accepted = true;
    }
}

/// The most that one order or return may cost, in thousandths of a pound: a billion pounds. Nine
/// million of those together are still a number of 63 bits, in which views keep their sums.
const TOTAL_MAX: u64 = 1_000_000_000_000;

/// The most units of a product on one line.
const QUANTITY_MAX: u64 = 1_000_000_000;

/// What all lines cost together.
fn total_of(lines: &[Line]) -> Result<u64, Rejection> {
    if lines.is_empty() {
        return Err(Rejection::new("no-goods", "there are no goods on it"));
    }
    let mut total: u64 = 0;
    for line in lines {
        if line.quantity == 0 || line.mills == 0 {
            let message = format!("product {}: nothing is asked or paid", line.product);
            return Err(Rejection::new("no-goods", message));
        }
        total = line
            .quantity
            .checked_mul(line.mills)
            .and_then(|price| total.checked_add(price))
            .filter(|total| *total <= TOTAL_MAX && line.quantity <= QUANTITY_MAX)
            .ok_or_else(|| {
                let most = format!("more than {QUANTITY_MAX} of one, or £1,000,000,000 altogether");
                Rejection::new("too-much", format!("nobody can want or pay {most}"))
            })?;
    }
    Ok(total)
}

/// The service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    builder.entity::<Order>().entity::<Return>()
}

#[cfg(test)]
mod tests {
    use anabranch::domain::testkit::given;

    use super::*;

    fn line(quantity: u64, mills: u64) -> Line {
        Line {
            product: "85123A".to_owned(),
            quantity,
            mills,
        }
    }

    fn place(lines: Vec<Line>) -> OrderCommand {
        OrderCommand::PlaceOrder {
            customer: "17850".to_owned(),
            country: "United Kingdom".to_owned(),
            placed_at: "2010-12-01T08:26:00".to_owned(),
            lines,
        }
    }

    fn placed(lines: Vec<Line>, total_mills: u64) -> OrderEvent {
        OrderEvent::OrderPlaced {
            customer: "17850".to_owned(),
            country: "United Kingdom".to_owned(),
            placed_at: "2010-12-01T08:26:00".to_owned(),
            lines,
            total_mills,
        }
    }

    #[test]
    fn an_order_knows_what_it_costs() {
        let lines = vec![line(6, 2550), line(2, 850)];
        given::<Order>([])
            .when(place(lines.clone()))
            .then([placed(lines, 17_000)]);
    }

    #[test]
    fn an_order_without_goods_or_beyond_all_money_is_refused() {
        for (lines, code) in [
            (vec![], "no-goods"),
            (vec![line(0, 1)], "no-goods"),
            (vec![line(0, 0)], "no-goods"),
            (vec![line(u64::MAX, 2)], "too-much"),
            (vec![line(i64::MAX as u64, 1), line(1, 1)], "too-much"),
            (vec![line(1, TOTAL_MAX), line(1, 1)], "too-much"),
            (vec![line(QUANTITY_MAX + 1, 1)], "too-much"),
        ] {
            given::<Order>([]).when(place(lines)).then_rejected(code);
        }
    }

    #[test]
    fn an_order_that_names_no_price_waits_for_pricing_which_nobody_else_can_be() {
        let asked = vec![line(6, 0), line(2, 850)];
        let requested = OrderEvent::OrderRequested {
            customer: "17850".to_owned(),
            country: "United Kingdom".to_owned(),
            placed_at: "2010-12-01T08:26:00".to_owned(),
            lines: asked.clone(),
        };
        let lines = vec![line(6, 2550), line(2, 850)];
        let price = OrderCommand::PriceOrder {
            customer: "17850".to_owned(),
            country: "United Kingdom".to_owned(),
            placed_at: "2010-12-01T08:26:00".to_owned(),
            lines: lines.clone(),
        };
        given::<Order>([])
            .when(place(asked))
            .then([requested])
            .when(price.clone())
            .then_rejected("checkout-only")
            .sent_by("quoting/536365")
            .when(price)
            .then([placed(lines, 17_000)]);
    }

    #[test]
    fn an_order_ends_once_and_by_the_checkout() {
        let history = [placed(vec![line(1, 1)], 1), OrderEvent::CheckoutBegan];
        given::<Order>(history)
            .when(OrderCommand::ConfirmOrder)
            .then_rejected("checkout-only")
            .sent_by("checkout/536365")
            .when(OrderCommand::ConfirmOrder)
            .then([OrderEvent::OrderConfirmed])
            .when(OrderCommand::RejectOrder {
                reason: "late".to_owned(),
            })
            .then_rejected("not-now");
    }
}
