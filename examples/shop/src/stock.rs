//! Stock: one entity for each product. Reserves, releases, ships what shipping has sent off,
//! re-orders what runs low, and takes in what customers send back; nobody calls it to do the last
//! three, it listens.

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch::domain::{
    Correlate, Decide, Entity, Event, EventRef, HandleError, Input, Process, Query, Reaction,
    Rejection, StreamId, View,
};
use anabranch::runtime::view::ViewSpec;
use anabranch::runtime::{ProcessOptions, ServiceBuilder};
use serde::{Deserialize, Serialize};

use crate::orders::Line;

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
    /// A customer has sent goods back.
    TakeBack {
        /// How many.
        quantity: u64,
    },
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
    /// Goods that a customer has sent back can be sold again.
    StockReturned {
        /// The return's number.
        of: String,
        /// How many.
        quantity: u64,
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

/// The most units of one product that there can be: so no count of them is ever beyond a number.
const UNITS_MAX: u64 = 1 << 50;

/// Who may ask for what; anybody may open the stock of a product.
fn check_sender(command: &StockCommand, cx: &Decide) -> Result<(), Rejection> {
    let (who, key) = match command {
        StockCommand::OpenStock { .. } => return Ok(()),
        StockCommand::ReserveStock { order, .. } | StockCommand::ReleaseStock { order } => {
            ("checkout", Some(order))
        }
        StockCommand::ShipStock { order } => (GoodsOut::NAME, Some(order)),
        StockCommand::ReplenishStock => (Reorder::NAME, None),
        StockCommand::TakeBack { .. } => (GoodsIn::NAME, None),
    };
    let may = |by: &StreamId| by.category() == who && key.is_none_or(|key| by.key() == key);
    if cx.sender().is_some_and(may) {
        return Ok(());
    }
    let message = format!("only {who} may do this; it does so by itself");
    Err(Rejection::new("not-for-you", message))
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
        check_sender(command, cx)?;
        let needs_product = !matches!(
            command,
            StockCommand::OpenStock { .. } | StockCommand::TakeBack { .. }
        );
        if needs_product && !self.open {
            let message = format!("there is no product {}", cx.key());
            return Err(Rejection::new("unknown-product", message));
        }
        match command {
            StockCommand::OpenStock { .. } if self.open => Ok(Vec::new()),
            StockCommand::OpenStock { units, .. } if *units > UNITS_MAX => {
                let message = format!("{units} units are more than there can be: {UNITS_MAX}");
                Err(Rejection::new("too-much", message))
            }
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
                // What has no room any more is not delivered.
                let units = self.delivery.min(UNITS_MAX.saturating_sub(self.left));
                let left = self.left + units;
                let mut events = vec![StockEvent::StockReplenished { units }];
                if left < self.reorder_below {
                    events.push(StockEvent::StockRanLow { left });
                }
                Ok(events)
            }
            StockCommand::TakeBack { quantity } => {
                let of = cx.sender().map_or("", StreamId::key).to_owned();
                let quantity = *quantity;
                Ok(vec![StockEvent::StockReturned { of, quantity }])
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
                // Goods may have come back before.
                self.left = self.left.saturating_add(*units);
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
            StockEvent::StockReturned { quantity, .. } => {
                self.left = self.left.saturating_add(*quantity);
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

/// Puts what customers send back on the shelves again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct GoodsIn;

/// What [`GoodsIn`] listens to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Arrival {
    /// Goods came back.
    ReturnAccepted {
        /// What.
        lines: Vec<Line>,
    },
}

impl Process for GoodsIn {
    const NAME: &'static str = "goods-in";
    const CATEGORIES: &'static [&'static str] = &["return"];
    type Event = Arrival;

    fn correlate(_: &Arrival, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, input: &Input<Arrival>, _: &Decide) -> Reaction {
        let Input::Event(Arrival::ReturnAccepted { lines }, _) = input else {
            return Reaction::none();
        };
        let mut products: BTreeMap<&str, u64> = BTreeMap::new();
        for line in lines {
            let quantity = products.entry(&line.product).or_default();
            *quantity = quantity.saturating_add(line.quantity);
        }
        let mut sent = Reaction::none();
        for (product, quantity) in products {
            sent = sent.send::<Stock>(product, &StockCommand::TakeBack { quantity });
        }
        sent.complete()
    }

    fn evolve(&mut self, _: &Input<Arrival>) {}
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
    /// How many customers have sent back.
    #[serde(default)]
    pub returned: u64,
}

impl View for Products {
    const NAME: &'static str = "products";
    const VERSION: u32 = 2;
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
            StockEvent::StockOpened { units, .. } => shelf.left += units,
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
            StockEvent::StockReturned { quantity, .. } => {
                shelf.left += quantity;
                shelf.returned += quantity;
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
        .process_with::<Reorder>(ProcessOptions::default().from_start())
        .process_with::<GoodsOut>(ProcessOptions::default().from_start())
        .process_with::<GoodsIn>(ProcessOptions::default().from_start())
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
        .sent_by("checkout/1")
        .when(reserve("1", 6))
        .then_rejected("out-of-stock")
        .sent_by("checkout/2")
        .when(reserve("2", 5))
        .then([StockEvent::StockReserved {
            order: "2".to_owned(),
            quantity: 5,
            left: 0,
        }])
        .sent_by("checkout/3")
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
        .sent_by("checkout/1")
        .when(release.clone())
        .then([StockEvent::StockReleased {
            order: "1".to_owned(),
            quantity: 5,
        }])
        .sent_by("checkout/1")
        .when(release)
        .then([])
        .sent_by("checkout/2")
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
        .sent_by("checkout/1")
        .when(reserve("1", 2))
        .then([
            StockEvent::StockReserved {
                order: "1".to_owned(),
                quantity: 2,
                left: 3,
            },
            StockEvent::StockRanLow { left: 3 },
        ])
        .sent_by("checkout/2")
        .when(reserve("2", 1))
        .then([StockEvent::StockReserved {
            order: "2".to_owned(),
            quantity: 1,
            left: 2,
        }])
        .sent_by("reorder/71053")
        .when(StockCommand::ReplenishStock)
        .then([StockEvent::StockReplenished { units: 5 }]);
    }

    #[test]
    fn what_was_sent_back_can_be_reserved_again() {
        given::<Stock>([
            StockEvent::StockOpened {
                units: 1,
                reorder_below: 0,
            },
            StockEvent::StockReserved {
                order: "1".to_owned(),
                quantity: 1,
                left: 0,
            },
        ])
        .sent_by("goods-in/C1")
        .when(StockCommand::TakeBack { quantity: 1 })
        .then([StockEvent::StockReturned {
            of: "C1".to_owned(),
            quantity: 1,
        }])
        .sent_by("checkout/2")
        .when(reserve("2", 1))
        .then([StockEvent::StockReserved {
            order: "2".to_owned(),
            quantity: 1,
            left: 0,
        }]);
    }

    #[test]
    fn only_the_services_themselves_move_what_is_on_the_shelves() {
        let order = || "1".to_owned();
        for command in [
            reserve("1", 1),
            StockCommand::ReleaseStock { order: order() },
            StockCommand::ShipStock { order: order() },
            StockCommand::ReplenishStock,
            StockCommand::TakeBack { quantity: 1 },
        ] {
            given::<Stock>([StockEvent::StockOpened {
                units: 5,
                reorder_below: 0,
            }])
            .when(command.clone())
            .then_rejected("not-for-you")
            .sent_by("checkout/2")
            .when(command)
            .then_rejected("not-for-you");
        }
    }

    #[test]
    fn no_more_units_are_opened_than_can_be_counted() {
        given::<Stock>([])
            .when(StockCommand::OpenStock {
                units: u64::MAX,
                reorder_below: 0,
            })
            .then_rejected("too-much");
    }
}
