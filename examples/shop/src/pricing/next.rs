//! The second build of pricing: it says why a price has changed, and by another name how far it is
//! above the list price. Builds that know the first form only read the second one by the downcasts that
//! stand here; this one reads the first form by the upcasts.

use anabranch::domain::{
    Decide, Downcasts, Entity, Event, FieldChange, Publishes, Rejection, Upcasts,
};
use anabranch::runtime::ServiceBuilder;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{PRICE_LIST, Price, PriceCommand, PriceEvent, PriceListEvent, rest};

/// What happens to a product's price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(upcasts = upcasts, downcasts = downcasts)]
pub enum NextPriceEvent {
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
    #[event(version = 2)]
    PriceRaised {
        /// How far it is above the list price now, in percent.
        percent_above_list: i64,
        /// Why.
        because: String,
    },
    /// It became cheaper.
    #[event(version = 2)]
    PriceLowered {
        /// How far it is above the list price now, in percent.
        percent_above_list: i64,
        /// Why.
        because: String,
    },
}

const CHANGED: [&str; 2] = ["PriceRaised", "PriceLowered"];

fn upcasts() -> Upcasts {
    CHANGED.into_iter().fold(Upcasts::none(), |all, name| {
        all.change(name, 1, |data| {
            let percent = data["above_list"].as_i64();
            let percent = percent.ok_or("`above_list` is no number")?;
            Ok(json!({ "percent_above_list": percent, "because": "not said" }))
        })
    })
}

fn downcasts() -> Downcasts {
    CHANGED.into_iter().fold(Downcasts::none(), |all, name| {
        all.change(
            name,
            2,
            [
                FieldChange::rename("percent_above_list", "above_list"),
                FieldChange::drop("because"),
            ],
        )
    })
}

impl From<PriceEvent> for NextPriceEvent {
    fn from(event: PriceEvent) -> Self {
        match event {
            PriceEvent::ListPriceSet { mills } => Self::ListPriceSet { mills },
            PriceEvent::PriceQuoted { order, mills } => Self::PriceQuoted { order, mills },
            PriceEvent::PriceRaised { above_list } => Self::PriceRaised {
                percent_above_list: above_list,
                because: "it is in demand".to_owned(),
            },
            PriceEvent::PriceLowered { above_list } => Self::PriceLowered {
                percent_above_list: above_list,
                because: "there is enough of it".to_owned(),
            },
        }
    }
}

/// What a product costs, by the rules of [`Price`].
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NextPrice(Price);

impl Entity for NextPrice {
    const CATEGORY: &'static str = Price::CATEGORY;
    const STATE_VERSION: u32 = 3;
    type Command = PriceCommand;
    type Event = NextPriceEvent;
    type Rejection = Rejection;

    fn decide(
        &self,
        command: &PriceCommand,
        cx: &Decide,
    ) -> Result<Vec<NextPriceEvent>, Rejection> {
        let decided = self.0.decide(command, cx)?;
        Ok(decided.into_iter().map(NextPriceEvent::from).collect())
    }

    fn evolve(&mut self, event: &NextPriceEvent) {
        match event {
            NextPriceEvent::ListPriceSet { mills } => self.0.list_mills = *mills,
            NextPriceEvent::PriceQuoted { .. } => {}
            NextPriceEvent::PriceRaised {
                percent_above_list, ..
            }
            | NextPriceEvent::PriceLowered {
                percent_above_list, ..
            } => self.0.above_list = *percent_above_list,
        }
    }
}

impl Publishes for NextPrice {
    const PUBLISHED: &'static str = PRICE_LIST;
    type Published = PriceListEvent;

    fn publish(&self, event: &NextPriceEvent) -> Option<PriceListEvent> {
        match event {
            NextPriceEvent::PriceQuoted { .. } => None,
            NextPriceEvent::ListPriceSet { .. }
            | NextPriceEvent::PriceRaised { .. }
            | NextPriceEvent::PriceLowered { .. } => self.0.told(),
        }
    }
}

/// The service. What listens to it is as it was, and reads the new form by the downcasts.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    rest(builder.publishing_entity::<NextPrice>())
}

#[cfg(test)]
mod tests {
    use anabranch::domain::testkit::given;

    use super::*;

    #[test]
    fn both_builds_decide_the_same() {
        let raise = || PriceCommand::RaisePrice { percent: 10 };
        given::<Price>([])
            .when(raise())
            .then([PriceEvent::PriceRaised { above_list: 10 }]);
        given::<NextPrice>([])
            .when(raise())
            .then([PriceEvent::PriceRaised { above_list: 10 }.into()]);
    }
}
