//! A build of pricing that nobody should roll out: what it tells the others has another form, and it
//! does not say how those read it that know the first one. `anabranch deploy check` names them.

use anabranch::domain::{Decide, Entity, Event, Publishes, Rejection, Upcasts};
use anabranch::runtime::ServiceBuilder;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{PRICE_LIST, Price, PriceCommand, PriceEvent, PriceListEvent, rest};

/// What pricing tells the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(upcasts = upcasts)]
pub enum CarelessListEvent {
    /// One costs this much from now on.
    #[event(version = 2)]
    PriceChanged {
        /// In pence.
        pence: u64,
    },
}

fn upcasts() -> Upcasts {
    Upcasts::none().change("PriceChanged", 1, |data| {
        let mills = data["mills"].as_u64().ok_or("`mills` is no number")?;
        Ok(json!({ "pence": mills.div_ceil(10) }))
    })
}

/// What a product costs, by the rules of [`Price`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CarelessPrice(Price);

impl Entity for CarelessPrice {
    const CATEGORY: &'static str = Price::CATEGORY;
    const STATE_VERSION: u32 = Price::STATE_VERSION;
    type Command = PriceCommand;
    type Event = PriceEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &PriceCommand, cx: &Decide) -> Result<Vec<PriceEvent>, Rejection> {
        self.0.decide(command, cx)
    }

    fn evolve(&mut self, event: &PriceEvent) {
        self.0.evolve(event);
    }
}

impl Publishes for CarelessPrice {
    const PUBLISHED: &'static str = PRICE_LIST;
    type Published = CarelessListEvent;

    fn publish(&self, event: &PriceEvent) -> Option<CarelessListEvent> {
        let PriceListEvent::PriceChanged { mills } = self.0.publish(event)?;
        Some(CarelessListEvent::PriceChanged {
            pence: mills.div_ceil(10),
        })
    }
}

/// The service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    rest(builder.publishing_entity::<CarelessPrice>())
}
