//! Pricing: raises the price of what runs low and lowers it when more has come. It was plugged
//! in by listening to stock; no other service knows of it.

use anabranch::domain::{
    Correlate, Decide, Entity, Event, EventRef, Input, Process, Reaction, Rejection,
};
use anabranch::runtime::ServiceBuilder;
use serde::{Deserialize, Serialize};

/// The most that a price is raised above the list price, in percent.
const RAISE_MAX: i64 = 30;

/// What is asked of a product's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PriceCommand {
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

/// How far the price of a product is above the list price, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Price {
    above_list: i64,
}

impl Entity for Price {
    const CATEGORY: &'static str = "price";
    type Command = PriceCommand;
    type Event = PriceEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &PriceCommand, _: &Decide) -> Result<Vec<PriceEvent>, Rejection> {
        let (PriceCommand::RaisePrice { percent } | PriceCommand::LowerPrice { percent }) = command;
        if !(1..=100).contains(percent) {
            let message = format!("{percent} percent is no change of a price; say 1 to 100");
            return Err(Rejection::new("percent", message));
        }
        let above_list = match command {
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
        let (PriceEvent::PriceRaised { above_list } | PriceEvent::PriceLowered { above_list }) =
            event;
        self.above_list = *above_list;
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

/// The service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    builder.entity::<Price>().process::<DemandPricing>()
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
}
