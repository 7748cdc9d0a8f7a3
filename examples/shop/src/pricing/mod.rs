//! Pricing: says what products cost. Raises the price of what runs low and lowers it when more has
//! come, by listening to stock. Orders are told the price that holds when they are placed.

pub mod careless;
pub mod next;

use std::collections::BTreeMap;

use anabranch::domain::{
    Correlate, Decide, Entity, Event, EventRef, HandleError, Input, Process, Publishes, Query,
    Reaction, Rejection, View,
};
use anabranch::runtime::view::ViewSpec;
use anabranch::runtime::{ProcessOptions, ServiceBuilder};
use serde::{Deserialize, Serialize};

/// The most that a price is raised above the list price, in percent.
const RAISE_MAX: i64 = 30;

/// What is asked of a product's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PriceCommand {
    /// This is what one costs, as long as nothing makes it dearer.
    SetListPrice {
        /// In thousandths of a pound.
        mills: u64,
    },
    /// Say what one costs now, for an order.
    QuotePrice {
        /// The order's number.
        order: String,
    },
    /// Make it dearer.
    RaisePrice {
        /// By how much of the list price.
        percent: i64,
    },
    /// Make it cheaper, down to the list price.
    LowerPrice {
        /// By how much of the list price.
        percent: i64,
    },
}

/// What happens to a product's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum PriceEvent {
    /// One costs this much, as long as nothing makes it dearer.
    ListPriceSet {
        /// In thousandths of a pound.
        mills: u64,
    },
    /// An order was told what one costs, and that holds for it.
    PriceQuoted {
        /// The order's number.
        order: String,
        /// In thousandths of a pound.
        mills: u64,
    },
    /// It became dearer.
    PriceRaised {
        /// How far it is above the list price now, in percent.
        above_list: i64,
    },
    /// It became cheaper.
    PriceLowered {
        /// How far it is above the list price now, in percent.
        above_list: i64,
    },
}

/// What a product costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Price {
    /// In thousandths of a pound; 0: nobody has said.
    list_mills: u64,
    /// How far the price is above the list price, in percent.
    above_list: i64,
}

/// The most that one of a product may cost by the list, in thousandths of a pound.
const LIST_MAX: u64 = 1_000_000_000;

impl Price {
    /// What one costs, to the nearest thousandth of a pound; `None` if nobody has said.
    fn mills(self) -> Option<u64> {
        let percent = u64::try_from(100 + self.above_list).unwrap_or(100);
        (self.list_mills > 0).then(|| (self.list_mills * percent + 50) / 100)
    }
}

/// The category in which the others read what products cost.
pub const PRICE_LIST: &str = "price-list";

/// What pricing tells the others. How a price comes about, and which order was told what, is its own
/// business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum PriceListEvent {
    /// One costs this much from now on.
    PriceChanged {
        /// In thousandths of a pound.
        mills: u64,
    },
}

impl Price {
    /// What the others are told when the price is another one.
    fn told(self) -> Option<PriceListEvent> {
        self.mills()
            .map(|mills| PriceListEvent::PriceChanged { mills })
    }
}

impl Publishes for Price {
    const PUBLISHED: &'static str = PRICE_LIST;
    type Published = PriceListEvent;

    fn publish(&self, event: &PriceEvent) -> Option<PriceListEvent> {
        match event {
            PriceEvent::PriceQuoted { .. } => None,
            PriceEvent::ListPriceSet { .. }
            | PriceEvent::PriceRaised { .. }
            | PriceEvent::PriceLowered { .. } => self.told(),
        }
    }
}

impl Entity for Price {
    const CATEGORY: &'static str = "price";
    const STATE_VERSION: u32 = 2;
    type Command = PriceCommand;
    type Event = PriceEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &PriceCommand, _: &Decide) -> Result<Vec<PriceEvent>, Rejection> {
        let above_list = match command {
            PriceCommand::SetListPrice { mills } if !(1..=LIST_MAX).contains(mills) => {
                let message = format!("{mills} is no price; say 1 to {LIST_MAX} thousandths");
                return Err(Rejection::new("no-price", message));
            }
            PriceCommand::SetListPrice { mills } if *mills == self.list_mills => {
                return Ok(Vec::new());
            }
            PriceCommand::SetListPrice { mills } => {
                return Ok(vec![PriceEvent::ListPriceSet { mills: *mills }]);
            }
            PriceCommand::QuotePrice { order } => {
                let order = order.clone();
                return match self.mills() {
                    Some(mills) => Ok(vec![PriceEvent::PriceQuoted { order, mills }]),
                    None => Err(Rejection::new("no-price", "nobody has said what it costs")),
                };
            }
            PriceCommand::RaisePrice { percent } | PriceCommand::LowerPrice { percent }
                if !(1..=100).contains(percent) =>
            {
                let message = format!("{percent} percent is no change of a price; say 1 to 100");
                return Err(Rejection::new("percent", message));
            }
            PriceCommand::RaisePrice { percent } => (self.above_list + percent).min(RAISE_MAX),
            PriceCommand::LowerPrice { percent } => (self.above_list - percent).max(0),
        };
        Ok(match above_list - self.above_list {
            0 => Vec::new(),
            1.. => vec![PriceEvent::PriceRaised { above_list }],
            _ => vec![PriceEvent::PriceLowered { above_list }],
        })
    }

    fn evolve(&mut self, event: &PriceEvent) {
        match event {
            PriceEvent::ListPriceSet { mills } => self.list_mills = *mills,
            PriceEvent::PriceQuoted { .. } => {}
            PriceEvent::PriceRaised { above_list } | PriceEvent::PriceLowered { above_list } => {
                self.above_list = *above_list;
            }
        }
    }
}

/// Moves prices with what stock says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct DemandPricing;

/// What [`DemandPricing`] listens to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Demand {
    /// The product is in demand.
    StockRanLow {},
    /// There is enough of it again.
    StockReplenished {},
}

impl Process for DemandPricing {
    const NAME: &'static str = "demand-pricing";
    const CATEGORIES: &'static [&'static str] = &["stock"];
    type Event = Demand;

    fn correlate(_: &Demand, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, input: &Input<Demand>, cx: &Decide) -> Reaction {
        match input {
            Input::Event(Demand::StockRanLow {}, _) => {
                Reaction::none().send::<Price>(cx.key(), &PriceCommand::RaisePrice { percent: 10 })
            }
            Input::Event(Demand::StockReplenished {}, _) => {
                Reaction::none().send::<Price>(cx.key(), &PriceCommand::LowerPrice { percent: 10 })
            }
            Input::Timer(_) | Input::Reply(_) => Reaction::none(),
        }
    }

    fn evolve(&mut self, _: &Input<Demand>) {}
}

/// What [`Prices`] listens to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum PriceNews {
    /// The list price.
    ListPriceSet {
        /// In thousandths of a pound.
        mills: u64,
    },
    /// It became dearer.
    PriceRaised {
        /// How far it is above the list price now, in percent.
        above_list: i64,
    },
    /// It became cheaper.
    PriceLowered {
        /// How far it is above the list price now, in percent.
        above_list: i64,
    },
}

/// What each product costs now.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Prices(BTreeMap<String, Price>);

impl View for Prices {
    const NAME: &'static str = "prices";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["price"];
    type Event = PriceNews;
    type Store = Self;

    fn handle(view: &mut Self, event: &PriceNews, about: &EventRef<'_>) -> Result<(), HandleError> {
        let price = view.0.entry(about.key().to_owned()).or_default();
        match event {
            PriceNews::ListPriceSet { mills } => price.list_mills = *mills,
            PriceNews::PriceRaised { above_list } | PriceNews::PriceLowered { above_list } => {
                price.above_list = *above_list;
            }
        }
        Ok(())
    }
}

/// What one of a product costs now, in thousandths of a pound; nothing if nobody has said.
#[derive(Debug, Serialize, Deserialize)]
pub struct PriceOf {
    /// The product's code.
    pub product: String,
}

impl Query for PriceOf {
    type View = Prices;
    type Answer = Option<u64>;
    const NAME: &'static str = "of";

    fn answer(&self, view: &Prices) -> Result<Option<u64>, HandleError> {
        Ok(view.0.get(&self.product).and_then(|price| price.mills()))
    }
}

/// The service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    rest(builder.publishing_entity::<Price>())
}

/// What both builds have.
fn rest(builder: ServiceBuilder) -> ServiceBuilder {
    builder
        .process_with::<DemandPricing>(ProcessOptions::default().from_start())
        .view(ViewSpec::<Prices>::new().query::<PriceOf>())
}

#[cfg(test)]
mod tests {
    use anabranch::domain::testkit::given;

    use super::*;

    #[test]
    fn a_price_stays_between_the_list_price_and_a_third_more() {
        given::<Price>([PriceEvent::PriceRaised { above_list: 25 }])
            .when(PriceCommand::RaisePrice { percent: 10 })
            .then([PriceEvent::PriceRaised { above_list: 30 }])
            .when(PriceCommand::RaisePrice { percent: 10 })
            .then([])
            .when(PriceCommand::LowerPrice { percent: 50 })
            .then([PriceEvent::PriceLowered { above_list: 0 }])
            .when(PriceCommand::LowerPrice { percent: 0 })
            .then_rejected("percent");
    }

    #[test]
    fn the_others_are_told_what_a_product_costs_and_nothing_of_orders() {
        let (list, raised) = (
            PriceEvent::ListPriceSet { mills: 2955 },
            PriceEvent::PriceRaised { above_list: 10 },
        );
        let quoted = PriceEvent::PriceQuoted {
            order: "1".to_owned(),
            mills: 2955,
        };
        let changed = |mills| Some(PriceListEvent::PriceChanged { mills });
        given::<Price>([list.clone()])
            .then_publishes(&list, changed(2955))
            .then_publishes(&quoted, None)
            .given([raised.clone()])
            .then_publishes(&raised, changed(3251));
    }

    #[test]
    fn an_order_is_told_the_list_price_and_what_demand_adds_to_it() {
        let quote = || PriceCommand::QuotePrice {
            order: "1".to_owned(),
        };
        let quoted = |mills| PriceEvent::PriceQuoted {
            order: "1".to_owned(),
            mills,
        };
        given::<Price>([])
            .when(quote())
            .then_rejected("no-price")
            .when(PriceCommand::SetListPrice { mills: 2955 })
            .then([PriceEvent::ListPriceSet { mills: 2955 }])
            .when(quote())
            .then([quoted(2955)])
            .when(PriceCommand::RaisePrice { percent: 10 })
            .then([PriceEvent::PriceRaised { above_list: 10 }])
            .when(quote())
            .then([quoted(3251)]);
    }
}
