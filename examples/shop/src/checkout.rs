//! Checkout: carries an order through the other services. Reserve every product, at the same
//! time; say what is owed; have it paid; ship; confirm. What cannot be paid or is not there is undone in reverse.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::domain::saga::{Definition, Promise, Request, Start};
use anabranch::domain::{Event, EventRef, RecordedEvent, Rejection, Retry, Saga};
use anabranch::model::StreamId;
use anabranch::runtime::{ProcessOptions, ServiceBuilder};
use serde::{Deserialize, Serialize};

use crate::orders::{Line, Order, OrderCommand};
use crate::payments::{Charging, Payment, PaymentCommand, PaymentEvent, ToCharge};
use crate::shipping::{Shipment, ShipmentCommand};
use crate::stock::{Stock, StockCommand};

/// The saga.
pub struct Checkout;

/// What the checkout needs to know of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basket {
    /// Where to.
    pub country: String,
    /// Each product once, and how many of it.
    pub products: Vec<(String, u64)>,
    /// What all of it costs, in thousandths of a pound.
    pub total_mills: u64,
}

impl Basket {
    fn new(country: &str, lines: &[Line], total_mills: u64) -> Self {
        let mut products: BTreeMap<&str, u64> = BTreeMap::new();
        for line in lines {
            let quantity = products.entry(&line.product).or_default();
            *quantity = quantity.saturating_add(line.quantity);
        }
        let owned = |(product, quantity): (&str, u64)| (product.to_owned(), quantity);
        Self {
            country: country.to_owned(),
            products: products.into_iter().map(owned).collect(),
            total_mills,
        }
    }
}

/// What starts a checkout.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Starter {
    /// An order was placed.
    OrderPlaced {
        /// Where to.
        country: String,
        /// What.
        lines: Vec<Line>,
        /// What all of it costs, in thousandths of a pound.
        total_mills: u64,
    },
}

/// When a request that is not answered is sent again. Answers come in milliseconds unless a
/// service is away.
const PATIENCE: Retry = Retry {
    first: Duration::from_secs(2),
    max: Duration::from_secs(8),
    ..Retry::DEFAULT
};

impl Saga for Checkout {
    const NAME: &'static str = "checkout";
    const CATEGORIES: &'static [&'static str] = &[<Order as anabranch::domain::Entity>::CATEGORY];
    type Event = Starter;
    type Input = Basket;

    fn start(event: &Starter, about: &EventRef<'_>) -> Option<Start<Basket>> {
        let Starter::OrderPlaced {
            country,
            lines,
            total_mills,
        } = event;
        Some(Start {
            key: about.key().to_owned(),
            input: Basket::new(country, lines, *total_mills),
        })
    }

    /// Its key is an order's number, which anybody can guess; an order alone says what it costs.
    fn admit(start: &Start<Basket>, _: Option<&StreamId>) -> Result<(), Rejection> {
        let message = format!("a checkout begins when order {} is placed", start.key);
        Err(Rejection::new("order-only", message))
    }

    fn define() -> Definition<Basket> {
        Definition::<Basket>::new(2)
            .compensatable("accept", |accept| {
                accept
                    .changes("order")
                    .request(|_, cx| Request::to::<Order>(cx.key(), &OrderCommand::BeginCheckout))
                    .undo(Promise::ALL, |_, cx| {
                        let reason = cx.abort_reason().unwrap_or("the checkout was given up");
                        let reason = reason.to_owned();
                        Request::to::<Order>(cx.key(), &OrderCommand::RejectOrder { reason })
                    })
                    .retry(PATIENCE)
            })
            .compensatable("reserve", |reserve| {
                reserve
                    .after(["accept"])
                    .changes("stock")
                    .for_each(|basket: &Basket| basket.products.len())
                    .disjoint()
                    .request(|basket, cx| {
                        let (product, quantity) = &basket.products[cx.branch()];
                        let reserve = StockCommand::ReserveStock {
                            order: cx.key().to_owned(),
                            quantity: *quantity,
                        };
                        Request::to::<Stock>(product, &reserve)
                    })
                    .undo(Promise::ALL, |basket, cx| {
                        let (product, _) = &basket.products[cx.branch()];
                        let release = StockCommand::ReleaseStock {
                            order: cx.key().to_owned(),
                        };
                        Request::to::<Stock>(product, &release)
                    })
                    .retry(PATIENCE)
            })
            .compensatable("bill", |bill| {
                bill.after(["reserve"])
                    .changes("payment")
                    .request(|basket, cx| {
                        let mills = basket.total_mills;
                        Request::to::<Payment>(cx.key(), &PaymentCommand::RequestPayment { mills })
                    })
                    .undo(Promise::ALL, |_, cx| {
                        let reason = cx.abort_reason().unwrap_or("the checkout was given up");
                        let reason = reason.to_owned();
                        Request::to::<Payment>(cx.key(), &PaymentCommand::DeclinePayment { reason })
                    })
                    .retry(PATIENCE)
            })
            .pivot("pay", |pay| {
                pay.after(["bill"])
                    .changes("payment")
                    .request(|basket, cx| {
                        let charge = ToCharge {
                            mills: basket.total_mills,
                        };
                        let recorded: Option<Vec<RecordedEvent>> = cx.result("bill", 0)?;
                        let billed = recorded.and_then(|recorded| recorded.into_iter().next());
                        match billed.ok_or("nothing was billed")?.decode()? {
                            PaymentEvent::PaymentRequested { charging, .. } => {
                                Request::saga::<Charging>(charging, &charge)
                            }
                            other => Err(format!("instead of a bill came {other:?}").into()),
                        }
                    })
                    .retry(PATIENCE)
            })
            .retriable("ship", |ship| {
                ship.after(["pay"])
                    .changes("shipment")
                    .request(|basket, cx| {
                        let products = basket.products.iter().map(|(product, _)| product.clone());
                        let ship = ShipmentCommand::ShipOrder {
                            country: basket.country.clone(),
                            products: products.collect(),
                        };
                        Request::to::<Shipment>(cx.key(), &ship)
                    })
                    .retry(PATIENCE)
            })
            .retriable("confirm", |confirm| {
                confirm
                    .after(["ship"])
                    .changes("order")
                    .request(|_, cx| Request::to::<Order>(cx.key(), &OrderCommand::ConfirmOrder))
                    .retry(PATIENCE)
            })
    }
}

/// The service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    builder.saga_with::<Checkout>(ProcessOptions::default().from_start())
}

#[cfg(test)]
mod tests {
    use anabranch::domain::{Json, testkit};

    use super::*;

    fn line(product: &str, quantity: u64) -> Line {
        Line {
            product: product.to_owned(),
            quantity,
            mills: 1000,
        }
    }

    fn basket() -> Basket {
        let lines = [line("71053", 6), line("85123A", 2), line("71053", 1)];
        Basket::new("France", &lines, 9000)
    }

    fn reserve(product: &str, quantity: u64) -> Request {
        let order = "536365".to_owned();
        Request::to::<Stock>(product, &StockCommand::ReserveStock { order, quantity }).unwrap()
    }

    fn release(product: &str) -> Request {
        let order = "536365".to_owned();
        Request::to::<Stock>(product, &StockCommand::ReleaseStock { order }).unwrap()
    }

    fn billed() -> Json {
        let requested = PaymentEvent::PaymentRequested {
            mills: 9000,
            charging: "536365-0a1b2c3d".to_owned(),
        };
        Json::of(&[RecordedEvent::of(&requested).unwrap()]).unwrap()
    }

    fn order(command: &OrderCommand) -> Request {
        Request::to::<Order>("536365", command).unwrap()
    }

    #[test]
    fn a_product_is_reserved_once_however_many_lines_it_has() {
        testkit::saga::<Checkout>("536365", &basket())
            .then_asks([("accept", order(&OrderCommand::BeginCheckout))])
            .when_ok("accept")
            .then_asks([
                ("reserve", reserve("71053", 7)),
                ("reserve/1", reserve("85123A", 2)),
            ])
            .when_refused("reserve", "out-of-stock")
            .when_undone("reserve/1")
            .when_undone("accept")
            .then_compensated();
    }

    #[test]
    fn an_order_that_cannot_be_paid_is_undone_in_reverse() {
        let reason = "step pay was refused: declined (declined)".to_owned();
        let said = PaymentCommand::DeclinePayment {
            reason: reason.clone(),
        };
        let decline = Request::to::<Payment>("536365", &said).unwrap();
        testkit::saga::<Checkout>("536365", &basket())
            .when_ok("accept")
            .when_ok("reserve")
            .when_ok("reserve/1")
            .when_done("bill", billed())
            .when_refused("pay", "declined")
            .then_undoes([("bill", decline)])
            .when_undone("bill")
            .then_undoes([
                ("reserve", release("71053")),
                ("reserve/1", release("85123A")),
            ])
            .when_undone("reserve")
            .when_undone("reserve/1")
            .then_undoes([("accept", order(&OrderCommand::RejectOrder { reason }))])
            .when_undone("accept")
            .then_compensated();
    }

    #[test]
    fn what_is_charged_is_what_was_billed_by_the_charging_that_the_bill_names() {
        let request = PaymentCommand::RequestPayment { mills: 9000 };
        let bill = Request::to::<Payment>("536365", &request).unwrap();
        let charge = Request::saga::<Charging>("536365-0a1b2c3d", &ToCharge { mills: 9000 });
        testkit::saga::<Checkout>("536365", &basket())
            .when_ok("accept")
            .when_ok("reserve")
            .when_ok("reserve/1")
            .when_done("bill", billed())
            .then_asks([
                ("accept", order(&OrderCommand::BeginCheckout)),
                ("reserve", reserve("71053", 7)),
                ("reserve/1", reserve("85123A", 2)),
                ("bill", bill),
                ("pay", charge.unwrap()),
            ])
            .when_refused("pay", "declined")
            .when_undone("bill")
            .when_undone("reserve")
            .when_undone("reserve/1")
            .when_undone("accept")
            .then_compensated();
    }

    #[test]
    fn what_is_paid_is_shipped_and_confirmed() {
        testkit::saga::<Checkout>("536365", &basket())
            .when_ok("accept")
            .when_ok("reserve")
            .when_ok("reserve/1")
            .when_done("bill", billed())
            .when_ok("pay")
            .when_ok("ship")
            .when_ok("confirm")
            .then_completed();
    }
}
