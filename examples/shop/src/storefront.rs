//! Storefront: what customers and the shop's people look at. Views of the orders, and a page
//! that places an order and waits for its outcome with a token.

use std::collections::{BTreeMap, VecDeque};

use anabranch::domain::{Event, EventRef, HandleError, Query, View};
use anabranch::runtime::ServiceBuilder;
use anabranch::runtime::view::ViewSpec;
use serde::{Deserialize, Serialize};

/// What the views here listen to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum OrderNews {
    /// A customer wants goods for what they cost.
    OrderRequested {},
    /// A customer wants goods.
    OrderPlaced {
        /// Where to.
        country: String,
        /// When.
        placed_at: String,
        /// What it costs, in thousandths of a pound.
        total_mills: u64,
    },
    /// The checkout has the order in hand.
    CheckoutBegan {},
    /// It was carried out.
    OrderConfirmed {},
    /// It was not carried out.
    OrderRejected {
        /// Why.
        reason: String,
    },
}

/// How each order stands: all that are open, and those that have ended last. Older ones are in
/// the log; a view that is in memory must not grow with it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Orders {
    orders: BTreeMap<String, OrderState>,
    /// The ended ones, oldest first.
    ended: VecDeque<String>,
}

/// How many orders that have ended are kept.
const ENDED_MAX: usize = 25_000;

/// How an order stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderState {
    /// `requested`, `placed`, `in checkout`, `confirmed` or `rejected`.
    pub state: String,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it costs, in thousandths of a pound; 0 while it is only requested.
    pub total_mills: u64,
}

impl OrderState {
    /// Whether nothing will change any more.
    pub fn has_ended(&self) -> bool {
        self.state == "confirmed" || self.state == "rejected"
    }
}

impl View for Orders {
    const NAME: &'static str = "orders";
    const VERSION: u32 = 3;
    const CATEGORIES: &'static [&'static str] = &["order"];
    type Event = OrderNews;
    type Store = Self;

    fn handle(view: &mut Self, event: &OrderNews, about: &EventRef<'_>) -> Result<(), HandleError> {
        let begins = match event {
            OrderNews::OrderRequested {} => Some(("requested", 0)),
            OrderNews::OrderPlaced { total_mills, .. } => Some(("placed", *total_mills)),
            _ => None,
        };
        if let Some((state, total_mills)) = begins {
            let order = OrderState {
                state: state.to_owned(),
                reason: None,
                total_mills,
            };
            view.orders.insert(about.key().to_owned(), order);
            return Ok(());
        }
        // An event from outside may tell of an order that nobody placed: there is none to show.
        let Some(order) = view.orders.get_mut(about.key()) else {
            return Ok(());
        };
        let (state, reason) = match event {
            OrderNews::CheckoutBegan {} => ("in checkout", None),
            OrderNews::OrderRejected { reason } => ("rejected", Some(reason.clone())),
            OrderNews::OrderRequested {}
            | OrderNews::OrderPlaced { .. }
            | OrderNews::OrderConfirmed {} => ("confirmed", None),
        };
        order.state = state.to_owned();
        order.reason = reason;
        if order.has_ended() {
            view.ended.push_back(about.key().to_owned());
            if view.ended.len() > ENDED_MAX
                && let Some(oldest) = view.ended.pop_front()
            {
                view.orders.remove(&oldest);
            }
        }
        Ok(())
    }
}

/// What one of each product costs, as pricing tells the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Catalogue(BTreeMap<String, u64>);

/// What pricing tells, in the storefront's own words.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum CatalogueNews {
    /// One costs this much from now on.
    #[event(rename = "PriceChanged")]
    NowCosts {
        /// In thousandths of a pound.
        #[serde(rename = "mills")]
        price_mills: u64,
    },
}

impl View for Catalogue {
    const NAME: &'static str = "catalogue";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["price-list"];
    type Event = CatalogueNews;
    type Store = Self;

    fn handle(
        view: &mut Self,
        event: &CatalogueNews,
        about: &EventRef<'_>,
    ) -> Result<(), HandleError> {
        let CatalogueNews::NowCosts { price_mills } = event;
        view.0.insert(about.key().to_owned(), *price_mills);
        Ok(())
    }
}

/// What one of a product costs, in thousandths of a pound; nothing if pricing has told nothing of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct CostOf {
    /// The product's code.
    pub product: String,
}

impl Query for CostOf {
    type View = Catalogue;
    type Answer = Option<u64>;
    const NAME: &'static str = "cost";

    fn answer(&self, view: &Catalogue) -> Result<Option<u64>, HandleError> {
        Ok(view.0.get(&self.product).copied())
    }
}

/// How one order stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct StateOf {
    /// The order's number.
    pub order: String,
}

impl Query for StateOf {
    type View = Orders;
    type Answer = Option<OrderState>;
    const NAME: &'static str = "of";

    fn answer(&self, view: &Orders) -> Result<Option<OrderState>, HandleError> {
        Ok(view.orders.get(&self.order).cloned())
    }
}

/// What was sold, by country and by day. Counts confirmed orders.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Sales {
    open: BTreeMap<String, Open>,
    totals: Totals,
}

#[derive(Debug, Serialize, Deserialize)]
struct Open {
    country: String,
    day: String,
    mills: u64,
}

/// What was sold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// How many orders were placed.
    pub placed: u64,
    /// How many were confirmed.
    pub confirmed: u64,
    /// How many were rejected.
    pub rejected: u64,
    /// What the confirmed orders cost, in thousandths of a pound.
    pub mills: u64,
    /// The same by country.
    pub by_country: BTreeMap<String, u64>,
    /// The same by day, `2010-12-01`.
    pub by_day: BTreeMap<String, u64>,
}

impl View for Sales {
    const NAME: &'static str = "sales";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["order"];
    type Event = OrderNews;
    type Store = Self;

    fn handle(
        sales: &mut Self,
        event: &OrderNews,
        about: &EventRef<'_>,
    ) -> Result<(), HandleError> {
        let totals = &mut sales.totals;
        match event {
            OrderNews::OrderPlaced {
                country,
                placed_at,
                total_mills,
            } => {
                totals.placed += 1;
                let open = Open {
                    country: country.clone(),
                    day: placed_at.chars().take(10).collect(),
                    mills: *total_mills,
                };
                sales.open.insert(about.key().to_owned(), open);
            }
            OrderNews::OrderRequested {} | OrderNews::CheckoutBegan {} => {}
            OrderNews::OrderConfirmed {} => {
                // What nobody placed, as an event from outside may tell of, was not sold.
                let Some(order) = sales.open.remove(about.key()) else {
                    return Ok(());
                };
                totals.confirmed += 1;
                totals.mills += order.mills;
                *totals.by_country.entry(order.country).or_default() += order.mills;
                *totals.by_day.entry(order.day).or_default() += order.mills;
            }
            OrderNews::OrderRejected { .. } => {
                if sales.open.remove(about.key()).is_some() {
                    totals.rejected += 1;
                }
            }
        }
        Ok(())
    }
}

/// Everything that was sold.
#[derive(Debug, Serialize, Deserialize)]
pub struct AllSales {}

impl Query for AllSales {
    type View = Sales;
    type Answer = Totals;
    const NAME: &'static str = "totals";

    fn answer(&self, sales: &Sales) -> Result<Totals, HandleError> {
        Ok(sales.totals.clone())
    }
}

/// The page of the shop, for a browser. It asks the server that it comes from, and sends along
/// what it has seen, so that it always sees its own orders.
pub const PAGE: &str = include_str!("../page/index.html");

/// The service.
pub fn service(builder: ServiceBuilder) -> ServiceBuilder {
    builder
        .view(ViewSpec::<Orders>::new().query::<StateOf>())
        .view(ViewSpec::<Sales>::new().query::<AllSales>())
        .view(ViewSpec::<Catalogue>::new().query::<CostOf>())
}
