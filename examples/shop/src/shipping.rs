//! Shipping: sends off what was paid.

use anabranch::domain::{Decide, Entity, Event, Rejection, StreamId};
use anabranch::runtime::ServiceBuilder;
use serde::{Deserialize, Serialize};

/// What is asked of a shipment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ShipmentCommand {
    /// Send these goods off.
    ShipOrder {
        /// Where to.
        country: String,
        /// What is in the parcel.
        products: Vec<String>,
    },
}

/// What happens to a shipment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum ShipmentEvent {
    /// The goods have left the house.
    OrderShipped {
        /// Where to.
        country: String,
        /// What is in the parcel.
        products: Vec<String>,
    },
}

/// Whether an order was sent off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shipment {
    shipped: bool,
}

impl Entity for Shipment {
    const CATEGORY: &'static str = "shipment";
    type Command = ShipmentCommand;
    type Event = ShipmentEvent;
    type Rejection = Rejection;

    fn decide(
        &self,
        command: &ShipmentCommand,
        cx: &Decide,
    ) -> Result<Vec<ShipmentEvent>, Rejection> {
        let is_checkout = |by: &StreamId| by.category() == "checkout" && by.key() == cx.key();
        if !cx.sender().is_some_and(is_checkout) {
            let message = "only the order's checkout may do this, when it is paid";
            return Err(Rejection::new("checkout-only", message));
        }
        let ShipmentCommand::ShipOrder { country, products } = command;
        if self.shipped {
            return Err(Rejection::new("already-shipped", "it was shipped before"));
        }
        Ok(vec![ShipmentEvent::OrderShipped {
            country: country.clone(),
            products: products.clone(),
        }])
    }

    fn evolve(&mut self, _: &ShipmentEvent) {
        self.shipped = true;
    }
}

/// The service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    builder.entity::<Shipment>()
}
