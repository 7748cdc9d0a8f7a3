//! Goes through the log from its start and checks what must always hold. Shares no code with
//! the services: it reads the events as they are stored.

use std::collections::{BTreeMap, HashMap, HashSet};

use anabranch::log::{Log, ReadError, ReadMode};
use anabranch::model::{Cut, EventRef, Filter};
use serde::Deserialize;

/// Why the log could not be gone through.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event is not as its service writes it.
    #[error("{event_type} of {stream}: {reason}")]
    Event {
        /// Its type.
        event_type: String,
        /// Its stream.
        stream: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the log says.
#[derive(Debug, Default)]
pub struct Audit {
    /// Every order, by its number.
    pub orders: HashMap<String, Order>,
    /// How many returns were accepted, and for how much.
    pub returns: u64,
    /// What is owed for returns, in thousandths of a pound.
    pub returned_mills: u64,
    /// Money that was taken, in thousandths of a pound.
    pub approved_mills: u64,
    /// Money that was given back, in thousandths of a pound.
    pub refunded_mills: u64,
    /// Orders whose price is being found out.
    requested: HashSet<String>,
    stock: HashMap<String, Shelf>,
    /// Goods of returns that are not back on the shelf, by return and product.
    awaited: HashMap<(String, String), i128>,
    /// What never should have happened.
    pub faults: Vec<String>,
}

/// One order.
#[derive(Debug)]
pub struct Order {
    /// Where to.
    pub country: String,
    /// `2010-12-01`.
    pub day: String,
    /// What it costs, in thousandths of a pound.
    pub mills: u64,
    /// How many lines it has.
    pub lines: u64,
    /// How often it was said to be carried out.
    pub confirmed: u32,
    /// How often it was said not to be carried out.
    pub rejected: u32,
}

#[derive(Debug, Default)]
struct Shelf {
    left: i128,
    reserved: HashMap<String, i128>,
}

/// Everything that an event of interest may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    country: String,
    placed_at: String,
    lines: Vec<Line>,
    total_mills: u64,
    mills: u64,
    order: String,
    quantity: u64,
    units: u64,
    of: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    product: String,
    quantity: u64,
}

const CATEGORIES: [&str; 5] = ["order", "return", "payment", "refund", "stock"];

impl Audit {
    /// Goes through the log to its end.
    pub async fn of(log: &dyn Log) -> Result<Self, AuditError> {
        let filter = Filter {
            categories: CATEGORIES.map(str::to_owned).to_vec(),
            ..Filter::all()
        };
        let mut audit = Self::default();
        let mut read = log.read(&Cut::start(), filter, ReadMode::ToHead);
        while let Some(batch) = read.next_batch().await {
            for event in &batch? {
                let event = event.map_err(|error| AuditError::Event {
                    event_type: String::new(),
                    stream: String::new(),
                    reason: error.to_string(),
                })?;
                audit.take(&event)?;
            }
        }
        Ok(audit)
    }

    fn take(&mut self, event: &EventRef<'_>) -> Result<(), AuditError> {
        // Diagnostics of the platform.
        if event.event_type.starts_with('$') {
            return Ok(());
        }
        let data: Data = serde_json::from_slice(event.data).map_err(|e| AuditError::Event {
            event_type: event.event_type.to_owned(),
            stream: event.stream.to_owned(),
            reason: e.to_string(),
        })?;
        let key = event.key();
        match event.event_type {
            "OrderRequested" => {
                self.requested.insert(key.to_owned());
            }
            "OrderPlaced" => {
                self.requested.remove(key);
                let order = Order {
                    country: data.country,
                    day: data.placed_at.chars().take(10).collect(),
                    mills: data.total_mills,
                    lines: data.lines.len() as u64,
                    confirmed: 0,
                    rejected: 0,
                };
                if self.orders.insert(key.to_owned(), order).is_some() {
                    self.faults.push(format!("order {key} was placed twice"));
                }
            }
            // Nobody could say what it costs.
            "OrderRejected" if self.requested.remove(key) => {}
            "OrderConfirmed" | "OrderRejected" => match self.orders.get_mut(key) {
                Some(order) if event.event_type == "OrderConfirmed" => order.confirmed += 1,
                Some(order) => order.rejected += 1,
                None => self.faults.push(format!("order {key} ended unplaced")),
            },
            "ReturnAccepted" => {
                self.returns += 1;
                self.returned_mills += data.total_mills;
                for line in data.lines {
                    self.await_back(key, &line.product, i128::from(line.quantity));
                }
            }
            "PaymentApproved" => self.approved_mills += data.mills,
            "PaymentRefunded" => self.refunded_mills += data.mills,
            _ => self.take_stock(event.event_type, key, data),
        }
        Ok(())
    }

    /// Counts goods that should come back, or with a negative quantity have.
    fn await_back(&mut self, of: &str, product: &str, quantity: i128) {
        let place = (of.to_owned(), product.to_owned());
        let awaited = self.awaited.entry(place.clone()).or_default();
        *awaited += quantity;
        if *awaited == 0 {
            self.awaited.remove(&place);
        }
    }

    fn take_stock(&mut self, event_type: &str, key: &str, data: Data) {
        let shelf = self.stock.entry(key.to_owned()).or_default();
        let quantity = i128::from(data.quantity);
        match event_type {
            "StockOpened" | "StockReplenished" => shelf.left += i128::from(data.units),
            "StockReserved" => {
                shelf.left -= quantity;
                if shelf.left < 0 {
                    let fault = format!("stock {key} was negative: {}", shelf.left);
                    self.faults.push(fault);
                }
                if shelf
                    .reserved
                    .insert(data.order.clone(), quantity)
                    .is_some()
                {
                    let fault = format!("stock {key} was reserved twice for {}", data.order);
                    self.faults.push(fault);
                }
            }
            "StockReleased" | "StockShipped" => {
                if shelf.reserved.remove(&data.order) != Some(quantity) {
                    let fault = format!("{event_type} of {key} was not reserved: {}", data.order);
                    self.faults.push(fault);
                }
                if event_type == "StockReleased" {
                    shelf.left += quantity;
                }
            }
            "StockReturned" => {
                shelf.left += quantity;
                self.await_back(&data.of, key, -quantity);
            }
            _ => {}
        }
    }

    /// Whether no product was ever sold that was not there.
    pub fn stock_never_negative(&self) -> bool {
        self.faults.is_empty() && self.stock.values().all(|shelf| shelf.left >= 0)
    }

    /// Whether each order ended, and once.
    pub fn every_order_ended_once(&self) -> bool {
        let once = |order: &Order| order.confirmed + order.rejected == 1;
        self.faults.is_empty() && self.requested.is_empty() && self.orders.values().all(once)
    }

    /// Whether nothing is set aside any more: what was confirmed has left the house, what was
    /// rejected is back on the shelf.
    pub fn nothing_left_reserved(&self) -> bool {
        self.stock.values().all(|shelf| shelf.reserved.is_empty())
    }

    /// Whether what customers have sent back can be sold again, and once.
    pub fn returns_are_back_in_stock(&self) -> bool {
        self.awaited.is_empty()
    }

    /// What the confirmed orders cost, in thousandths of a pound.
    pub fn confirmed_mills(&self) -> u64 {
        self.confirmed().map(|(_, order)| order.mills).sum()
    }

    /// Whether the money that came in and went out is that of the orders and returns.
    pub fn money_adds_up(&self) -> bool {
        self.approved_mills == self.confirmed_mills() && self.refunded_mills == self.returned_mills
    }

    /// The orders that were carried out.
    pub fn confirmed(&self) -> impl Iterator<Item = (&String, &Order)> {
        self.orders.iter().filter(|(_, order)| order.confirmed > 0)
    }

    /// What the confirmed orders cost, by country and by day.
    pub fn revenue(&self) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let (mut by_country, mut by_day) = (BTreeMap::new(), BTreeMap::new());
        for (_, order) in self.confirmed() {
            *by_country.entry(order.country.clone()).or_default() += order.mills;
            *by_day.entry(order.day.clone()).or_default() += order.mills;
        }
        (by_country, by_day)
    }
}
