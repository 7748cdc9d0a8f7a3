//! Quoting: has pricing say what the goods of an order cost whose customer was told no price, and
//! then has the order placed. Part of the orders service.

use std::collections::{BTreeMap, BTreeSet};

use anabranch::domain::process::{Replies, Reply};
use anabranch::domain::{Correlate, Decide, Event, EventRef, Input, Outcome, Process, Reaction};
use anabranch::runtime::{ProcessOptions, ServiceBuilder};
use serde::{Deserialize, Serialize};

use crate::orders::{Line, Order, OrderCommand};
use crate::pricing::{Price, PriceCommand, PriceEvent};

/// Asks for the price of each product once, and places the order when it knows all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Quoting {
    asked: Option<Asked>,
    /// Price of one, in thousandths of a pound, by product.
    prices: BTreeMap<String, u64>,
}

/// What [`Quoting`] listens to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Asked {
    /// A customer wants goods for what they cost.
    OrderRequested {
        /// Who.
        customer: String,
        /// Where to.
        country: String,
        /// When.
        placed_at: String,
        /// What; a price of 0 is to be found out.
        lines: Vec<Line>,
    },
}

impl Quoting {
    /// The order with every price that is known with what `reply` says; `None` if one is missing.
    fn priced(&self, reply: &Reply) -> Option<OrderCommand> {
        let Asked::OrderRequested {
            customer,
            country,
            placed_at,
            lines,
        } = self.asked.clone()?;
        let mut lines = lines;
        for line in lines.iter_mut().filter(|line| line.mills == 0) {
            line.mills = match self.prices.get(&line.product) {
                Some(mills) => *mills,
                None if reply.from.key() == line.product => quoted(reply)?,
                None => return None,
            };
        }
        Some(OrderCommand::PriceOrder {
            customer,
            country,
            placed_at,
            lines,
        })
    }
}

/// The price that an answer of pricing holds.
fn quoted(reply: &Reply) -> Option<u64> {
    match reply.outcome.events().first()?.decode() {
        Ok(PriceEvent::PriceQuoted { mills, .. }) => Some(mills),
        _ => None,
    }
}

impl Process for Quoting {
    const NAME: &'static str = "quoting";
    const CATEGORIES: &'static [&'static str] = &["order"];
    const REPLIES: Replies = Replies::All;
    type Event = Asked;

    fn correlate(_: &Asked, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, input: &Input<Asked>, cx: &Decide) -> Reaction {
        let order = cx.key();
        match input {
            Input::Event(Asked::OrderRequested { lines, .. }, _) => {
                let unpriced = lines.iter().filter(|line| line.mills == 0);
                let products: BTreeSet<_> = unpriced.map(|line| &line.product).collect();
                let quote = PriceCommand::QuotePrice {
                    order: order.to_owned(),
                };
                let ask = |asked: Reaction, product| asked.send::<Price>(product, &quote);
                products.into_iter().fold(Reaction::none(), ask)
            }
            Input::Reply(reply) => match &reply.outcome {
                Outcome::Refused(why) => {
                    let reason = format!("{}: {}", reply.from, why.message);
                    Reaction::none()
                        .send::<Order>(order, &OrderCommand::RejectOrder { reason })
                        .complete()
                }
                _ if reply.from.category() == "order" => Reaction::none().complete(),
                _ => match self.priced(reply) {
                    Some(place) => Reaction::none().send::<Order>(order, &place),
                    None => Reaction::none(),
                },
            },
            Input::Timer(_) => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<Asked>) {
        match input {
            Input::Event(asked, _) => self.asked = Some(asked.clone()),
            Input::Reply(reply) => {
                if let Some(mills) = quoted(reply) {
                    self.prices.insert(reply.from.key().to_owned(), mills);
                }
            }
            Input::Timer(_) => {}
        }
    }
}

/// Adds it to the orders service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    builder.process_with::<Quoting>(ProcessOptions::default().from_start())
}
