//! Stock: one entity for each product. Reserves, releases, ships what shipping has sent off,
//! and re-orders what runs low; nobody calls it to do the last two, it listens.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::domain::{
    Correlate, Decide, Entity, Event, EventRef, HandleError, Input, Process, Query, Reaction,
    Rejection, View,
};
use anabranch::runtime::ServiceBuilder;
use anabranch::runtime::view::ViewSpec;
use serde::{Deserialize, Serialize};

/// How long a delivery from the wholesaler takes.
const DELIVERY: Duration = Duration::from_millis(500);

/// What is asked of a product's stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockCommand {
    /// The product is sold from now on.
    OpenStock {
        /// How many there are; the wholesaler delivers as many.
        units: u64,
        /// Below this many, more is ordered; 0: never.
        reorder_below: u64,
    },
    /// Sets goods aside for an order.
    ReserveStock {
        /// The order's number.
        order: String,
        /// How many.
        quantity: u64,
    },
    /// Puts back what was set aside for an order.
    ReleaseStock {
        /// The order's number.
        order: String,
    },
    /// What was set aside for an order has left the house.
    ShipStock {
        /// The order's number.
        order: String,
    },
    /// The wholesaler has delivered.
    ReplenishStock,
}

/// What happens to a product's stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum StockEvent {
    /// The product is sold from now on.
    StockOpened {
        /// How many there are.
        units: u64,
        /// Below this many, more is ordered; 0: never.
        reorder_below: u64,
    },
    /// Goods were set aside for an order.
    StockReserved {
        /// The order's number.
        order: String,
        /// How many.
        quantity: u64,
        /// How many are left for others.
        left: u64,
    },
    /// What was set aside was put back.
    StockReleased {
        /// The order's number.
        order: String,
        /// How many.
        quantity: u64,
    },
    /// What was set aside has left the house.
    StockShipped {
        /// The order's number.
        order: String,
        /// How many.
        quantity: u64,
    },
    /// Less is left than there should be.
    StockRanLow {
        /// How many are left.
        left: u64,
    },
    /// More has come.
    StockReplenished {
        /// How many.
        units: u64,
    },
}

/// The stock of one product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Whether it is sold.
    open: bool,
    /// How many are left for new orders.
    left: u64,
    /// What is set aside, by order.
    reserved: BTreeMap<String, u64>,
    reorder_below: u64,
    /// How many the wholesaler delivers.
    delivery: u64,
    /// Whether more is on its way.
    ordered: bool,
}

impl Stock {
    fn is_low_at(&self, left: u64) -> bool {
        !self.ordered && left < self.reorder_below
    }
}

impl Entity for Stock {
    const CATEGORY: &'static str = "stock";
    type Command = StockCommand;
    type Event = StockEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &StockCommand, cx: &Decide) -> Result<Vec<StockEvent>, Rejection> {
        if !self.open && !matches!(command, StockCommand::OpenStock { .. }) {
            let message = format!("there is no product {}", cx.key());
            return Err(Rejection::new("unknown-product", message));
        }
        match command {
            StockCommand::OpenStock { .. } if self.open => Ok(Vec::new()),
            StockCommand::OpenStock {
                units,
                reorder_below,
            } => Ok(vec![StockEvent::StockOpened {
                units: *units,
                reorder_below: *reorder_below,
            }]),
            StockCommand::ReserveStock { order, quantity } => {
                let left = self.left.checked_sub(*quantity).ok_or_else(|| {
                    let (left, key) = (self.left, cx.key());
                    let message = format!("{quantity} of {key} are wanted and {left} are left");
                    Rejection::new("out-of-stock", message)
                })?;
                let mut events = vec![StockEvent::StockReserved {
                    order: order.clone(),
                    quantity: *quantity,
                    left,
                }];
                if self.is_low_at(left) {
                    events.push(StockEvent::StockRanLow { left });
                }
                Ok(events)
            }
            StockCommand::ReleaseStock { order } => {
                let reserved = self.reserved.get(order);
                let released = reserved.map(|quantity| StockEvent::StockReleased {
                    order: order.clone(),
                    quantity: *quantity,
                });
                Ok(released.into_iter().collect())
            }
            StockCommand::ShipStock { order } => match self.reserved.get(order) {
                Some(quantity) => Ok(vec![StockEvent::StockShipped {
                    order: order.clone(),
                    quantity: *quantity,
                }]),
                None => Err(Rejection::new(
                    "not-reserved",
                    format!("nothing of {} is set aside for order {order}", cx.key()),
                )),
            },
            StockCommand::ReplenishStock if !self.ordered => Ok(Vec::new()),
            StockCommand::ReplenishStock => {
                let left = self.left.saturating_add(self.delivery);
                let mut events = vec![StockEvent::StockReplenished {
                    units: self.delivery,
                }];
                if left < self.reorder_below {
                    events.push(StockEvent::StockRanLow { left });
                }
                Ok(events)
            }
        }
    }

    fn evolve(&mut self, event: &StockEvent) {
        match event {
            StockEvent::StockOpened {
                units,
                reorder_below,
            } => {
                self.open = true;
                self.left = *units;
                self.delivery = *units;
                self.reorder_below = *reorder_below;
            }
            StockEvent::StockReserved {
                order,
                quantity,
                left,
            } => {
                self.left = *left;
                *self.reserved.entry(order.clone()).or_default() += quantity;
            }
            StockEvent::StockReleased { order, quantity } => {
                self.reserved.remove(order);
                self.left = self.left.saturating_add(*quantity);
            }
            StockEvent::StockShipped { order, .. } => {
                self.reserved.remove(order);
            }
            StockEvent::StockRanLow { .. } => self.ordered = true,
            StockEvent::StockReplenished { units } => {
                self.ordered = false;
                self.left = self.left.saturating_add(*units);
            }
        }
    }
}

/// Orders more of what runs low, and takes the delivery in.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reorder {
    deliveries: u64,
}

/// What [`Reorder`] listens to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Shortage {
    /// Less is left than there should be.
    StockRanLow {},
}

impl Process for Reorder {
    const NAME: &'static str = "reorder";
    const CATEGORIES: &'static [&'static str] = &[Stock::CATEGORY];
    type Event = Shortage;

    fn correlate(_: &Shortage, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, input: &Input<Shortage>, cx: &Decide) -> Reaction {
        match input {
            Input::Event(..) => Reaction::none().schedule("delivery", cx.now() + DELIVERY),
            Input::Timer(_) => {
                Reaction::none().send::<Stock>(cx.key(), &StockCommand::ReplenishStock)
            }
            Input::Reply(_) => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<Shortage>) {
        if let Input::Timer(_) = input {
            self.deliveries += 1;
        }
    }
}

/// Takes off the shelves what shipping has sent off.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct GoodsOut;

/// What [`GoodsOut`] listens to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Departure {
    /// An order's goods have left the house.
    OrderShipped {
        /// What was in the parcel.
        products: Vec<String>,
    },
}

impl Process for GoodsOut {
    const NAME: &'static str = "goods-out";
    const CATEGORIES: &'static [&'static str] = &["shipment"];
    type Event = Departure;

    fn correlate(_: &Departure, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, input: &Input<Departure>, cx: &Decide) -> Reaction {
        let Input::Event(Departure::OrderShipped { products }, _) = input else {
            return Reaction::none();
        };
        let ship = StockCommand::ShipStock {
            order: cx.key().to_owned(),
        };
        let sent = products.iter().fold(Reaction::none(), |sent, product| {
            sent.send::<Stock>(product, &ship)
        });
        sent.complete()
    }

    fn evolve(&mut self, _: &Input<Departure>) {}
}

/// How many there are of each product, for whoever wants to buy.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Products(BTreeMap<String, Shelf>);

/// One product in the view [`Products`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// How many can be ordered.
    pub left: u64,
    /// How many are set aside.
    pub reserved: u64,
    /// How many have left the house.
    pub shipped: u64,
    /// How often more had to be ordered.
    pub deliveries: u64,
}

impl View for Products {
    const NAME: &'static str = "products";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &[Stock::CATEGORY];
    type Event = StockEvent;
    type Store = Self;

    fn handle(
        products: &mut Self,
        event: &StockEvent,
        about: &EventRef<'_>,
    ) -> Result<(), HandleError> {
        let shelf = match products.0.get_mut(about.key()) {
            Some(shelf) => shelf,
            None => products.0.entry(about.key().to_owned()).or_default(),
        };
        match event {
            StockEvent::StockOpened { units, .. } => shelf.left = *units,
            StockEvent::StockReserved { quantity, left, .. } => {
                shelf.left = *left;
                shelf.reserved += quantity;
            }
            StockEvent::StockReleased { quantity, .. } => {
                shelf.left += quantity;
                shelf.reserved -= quantity;
            }
            StockEvent::StockShipped { quantity, .. } => {
                shelf.reserved -= quantity;
                shelf.shipped += quantity;
            }
            StockEvent::StockRanLow { .. } => {}
            StockEvent::StockReplenished { units } => {
                shelf.left += units;
                shelf.deliveries += 1;
            }
        }
        Ok(())
    }
}

/// One product of [`Products`].
#[derive(Debug, Serialize, Deserialize)]
pub struct ProductOf {
    /// The product's code.
    pub product: String,
}

impl Query for ProductOf {
    type View = Products;
    type Answer = Option<Shelf>;
    const NAME: &'static str = "of";

    fn answer(&self, products: &Products) -> Result<Option<Shelf>, HandleError> {
        Ok(products.0.get(&self.product).cloned())
    }
}

/// The products of which the fewest are left.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scarce {
    /// How many products to name; ten, if nothing is said.
    #[serde(default = "ten")]
    pub limit: usize,
}

fn ten() -> usize {
    10
}

impl Query for Scarce {
    type View = Products;
    type Answer = Vec<(String, Shelf)>;
    const NAME: &'static str = "scarce";

    fn answer(&self, products: &Products) -> Result<Self::Answer, HandleError> {
        let mut all: Vec<_> = products.0.iter().collect();
        all.sort_by_key(|(_, shelf)| shelf.left);
        let scarce = all.into_iter().take(self.limit);
        Ok(scarce
            .map(|(k, shelf)| (k.clone(), shelf.clone()))
            .collect())
    }
}

/// The service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    builder
        .entity::<Stock>()
        .process::<Reorder>()
        .process::<GoodsOut>()
        .view(
            ViewSpec::<Products>::new()
                .query::<ProductOf>()
                .query::<Scarce>(),
        )
}

#[cfg(test)]
mod tests {
    use anabranch::domain::testkit::given;

    use super::*;

    fn reserve(order: &str, quantity: u64) -> StockCommand {
        StockCommand::ReserveStock {
            order: order.to_owned(),
            quantity,
        }
    }

    #[test]
    fn no_more_is_reserved_than_there_is() {
        given::<Stock>([StockEvent::StockOpened {
            units: 5,
            reorder_below: 0,
        }])
        .when(reserve("1", 6))
        .then_rejected("out-of-stock")
        .when(reserve("2", 5))
        .then([StockEvent::StockReserved {
            order: "2".to_owned(),
            quantity: 5,
            left: 0,
        }])
        .when(reserve("3", 1))
        .then_rejected("out-of-stock");
    }

    #[test]
    fn what_is_released_can_be_reserved_again_and_only_once() {
        let release = StockCommand::ReleaseStock {
            order: "1".to_owned(),
        };
        given::<Stock>([
            StockEvent::StockOpened {
                units: 5,
                reorder_below: 0,
            },
            StockEvent::StockReserved {
                order: "1".to_owned(),
                quantity: 5,
                left: 0,
            },
        ])
        .when(release.clone())
        .then([StockEvent::StockReleased {
            order: "1".to_owned(),
            quantity: 5,
        }])
        .when(release)
        .then([])
        .when(reserve("2", 5))
        .then([StockEvent::StockReserved {
            order: "2".to_owned(),
            quantity: 5,
            left: 0,
        }]);
    }

    #[test]
    fn what_runs_low_is_said_once_until_more_comes() {
        given::<Stock>([StockEvent::StockOpened {
            units: 5,
            reorder_below: 4,
        }])
        .when(reserve("1", 2))
        .then([
            StockEvent::StockReserved {
                order: "1".to_owned(),
                quantity: 2,
                left: 3,
            },
            StockEvent::StockRanLow { left: 3 },
        ])
        .when(reserve("2", 1))
        .then([StockEvent::StockReserved {
            order: "2".to_owned(),
            quantity: 1,
            left: 2,
        }])
        .when(StockCommand::ReplenishStock)
        .then([StockEvent::StockReplenished { units: 5 }]);
    }
}
