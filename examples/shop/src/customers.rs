//! Customers: what each has ordered, spent and got back, joined from the events of orders,
//! returns and refunds. Rows in SQLite.

use anabranch::domain::{Event, EventRef, HandleError, Query, View};
use anabranch::env::Disk;
use anabranch::runtime::ServiceBuilder;
use anabranch::runtime::view::ViewSpec;
use anabranch::sqlite::{InSqlite as _, Sqlite};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// What [`Customers`] listens to.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Seen {
    /// A customer wants goods.
    OrderPlaced {
        /// Who.
        customer: String,
        /// When.
        placed_at: String,
        /// What it costs, in thousandths of a pound.
        total_mills: u64,
    },
    /// An order was carried out.
    OrderConfirmed {},
    /// An order was not carried out.
    OrderRejected {
        /// Why.
        reason: String,
    },
    /// Goods came back.
    ReturnAccepted {
        /// Who.
        customer: String,
        /// When.
        returned_at: String,
        /// What is owed, in thousandths of a pound.
        total_mills: u64,
    },
    /// The money is back.
    PaymentRefunded {},
}

/// History and spend of each customer.
pub struct Customers;

impl View for Customers {
    const NAME: &'static str = "customers";
    const VERSION: u32 = 2;
    const CATEGORIES: &'static [&'static str] = &["order", "return", "refund"];
    type Event = Seen;
    type Store = Sqlite;

    fn set_up(store: &mut Sqlite) -> Result<(), HandleError> {
        store.run(
            "CREATE TABLE entry (
                 number TEXT NOT NULL, is_return INTEGER NOT NULL, customer TEXT NOT NULL,
                 at TEXT NOT NULL, mills INTEGER NOT NULL, state TEXT NOT NULL,
                 -- A return may have the number of an order.
                 PRIMARY KEY (number, is_return)
             ) WITHOUT ROWID;
             CREATE INDEX entry_of_customer ON entry (customer);",
        )
    }

    fn handle(store: &mut Sqlite, event: &Seen, about: &EventRef<'_>) -> Result<(), HandleError> {
        const ADD: &str = "INSERT INTO entry VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        const MOVE: &str = "UPDATE entry SET state = ?3 WHERE number = ?1 AND is_return = ?2";
        let number = about.key();
        match event {
            Seen::OrderPlaced {
                customer,
                placed_at,
                total_mills,
            } => {
                let mills = i64::try_from(*total_mills)?;
                store.execute(ADD, (number, false, customer, placed_at, mills, "placed"))?;
            }
            Seen::ReturnAccepted {
                customer,
                returned_at,
                total_mills,
            } => {
                let mills = i64::try_from(*total_mills)?;
                store.execute(
                    ADD,
                    (number, true, customer, returned_at, mills, "accepted"),
                )?;
            }
            Seen::OrderConfirmed {} => {
                store.execute(MOVE, (number, false, "confirmed"))?;
            }
            Seen::OrderRejected { .. } => {
                store.execute(MOVE, (number, false, "rejected"))?;
            }
            Seen::PaymentRefunded {} => {
                store.execute(MOVE, (number, true, "refunded"))?;
            }
        }
        Ok(())
    }
}

/// What a customer has spent, and the last orders and returns.
#[derive(Debug, Serialize, Deserialize)]
pub struct HistoryOf {
    /// The customer's number, or `guest`.
    pub customer: String,
}

/// The answer to [`HistoryOf`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// How many orders were confirmed.
    pub orders: u64,
    /// What they cost, in thousandths of a pound.
    pub spent_mills: i64,
    /// What was given back, in thousandths of a pound.
    pub refunded_mills: i64,
    /// The last twenty orders and returns, newest first.
    pub latest: Vec<Entry>,
}

/// An order or a return in a customer's [`History`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub number: String,
    /// When.
    pub at: String,
    /// What it costs, in thousandths of a pound; of a return, what is owed.
    pub mills: i64,
    /// Where it stands.
    pub state: String,
}

const SUMS: &str = "
    SELECT count(*) FILTER (WHERE state = 'confirmed'),
           coalesce(sum(mills) FILTER (WHERE state = 'confirmed'), 0),
           coalesce(sum(mills) FILTER (WHERE state = 'refunded'), 0)
    FROM entry";

impl Query for HistoryOf {
    type View = Customers;
    type Answer = History;
    const NAME: &'static str = "history";

    fn answer(&self, store: &Sqlite) -> Result<History, HandleError> {
        let sums = store.one(
            &format!("{SUMS} WHERE customer = ?1"),
            [&self.customer],
            |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let (orders, spent_mills, refunded_mills) = sums.unwrap_or_default();
        let latest = store.all(
            "SELECT number, at, mills, state FROM entry WHERE customer = ?1
             ORDER BY at DESC, number DESC LIMIT 20",
            [&self.customer],
            |row| {
                Ok(Entry {
                    number: row.get(0)?,
                    at: row.get(1)?,
                    mills: row.get(2)?,
                    state: row.get(3)?,
                })
            },
        )?;
        Ok(History {
            orders: u64::try_from(orders)?,
            spent_mills,
            refunded_mills,
            latest,
        })
    }
}

/// What all customers have spent and got back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spend {}

/// The answer to [`Spend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalSpend {
    /// How many orders were confirmed.
    pub orders: i64,
    /// What they cost, in thousandths of a pound.
    pub spent_mills: i64,
    /// What was given back, in thousandths of a pound.
    pub refunded_mills: i64,
}

impl Query for Spend {
    type View = Customers;
    type Answer = TotalSpend;
    const NAME: &'static str = "spend";

    fn answer(&self, store: &Sqlite) -> Result<TotalSpend, HandleError> {
        let sums = store.one(SUMS, [], |row| {
            Ok(TotalSpend {
                orders: row.get(0)?,
                spent_mills: row.get(1)?,
                refunded_mills: row.get(2)?,
            })
        })?;
        sums.ok_or_else(|| "a sum without a row".into())
    }
}

/// The service; its rows are in files of `dir`.
pub fn service(builder: ServiceBuilder, disk: Arc<dyn Disk>, dir: &Path) -> ServiceBuilder {
    let view = ViewSpec::<Customers>::new()
        .query::<HistoryOf>()
        .query::<Spend>();
    builder.view_in_sqlite(view, disk, dir)
}
