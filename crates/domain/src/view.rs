use std::error::Error;

use anabranch_model::EventRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Event;

/// Why a view, a query or a start could not go on; `?` makes it from any error.
pub type HandleError = Box<dyn Error + Send + Sync>;

/// State derived from events, for queries. Disposable: it can be thrown away and rebuilt.
///
/// A view writes to its [`Store`](View::Store) and to nothing else. The store's writes and the
/// position of the events commit together, so each event counts once, and the view always
/// shows a cut of the log.
///
/// * In memory: the store is a value of yours (often `Self`) that is `Default` and serde, and
///   is kept in snapshots.
/// * SQLite and PostgreSQL: the store is the runtime's transaction type; [`View::set_up`] makes
///   the tables.
///
/// Over several partitions, events that depend on each other arrive in that order; others
/// arrive in any order, so what they write to one row has to commute.
///
/// ```
/// use anabranch_domain::{Event, EventRef, HandleError, Query, View};
/// use serde::{Deserialize, Serialize};
/// use std::collections::BTreeMap;
///
/// /// Only what this view wants of the orders' events.
/// #[derive(Serialize, Deserialize, Event)]
/// enum Seen {
///     OrderPlaced { customer: String, total: u64 },
/// }
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Spend(BTreeMap<String, u64>);
///
/// impl View for Spend {
///     const NAME: &'static str = "spend";
///     const VERSION: u32 = 1;
///     const CATEGORIES: &'static [&'static str] = &["order"];
///     type Event = Seen;
///     type Store = Self;
///
///     fn handle(spend: &mut Self, event: &Seen, _: &EventRef) -> Result<(), HandleError> {
///         let Seen::OrderPlaced { customer, total } = event;
///         *spend.0.entry(customer.clone()).or_default() += total;
///         Ok(())
///     }
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct SpendOf {
///     customer: String,
/// }
///
/// impl Query for SpendOf {
///     type View = Spend;
///     type Answer = Option<u64>;
///     const NAME: &'static str = "of";
///
///     fn answer(&self, spend: &Spend) -> Result<Option<u64>, HandleError> {
///         Ok(spend.0.get(&self.customer).copied())
///     }
/// }
/// ```
pub trait View: Send + 'static {
    /// The view's name, unique in its service.
    const NAME: &'static str;

    /// Raise it when the rows change shape or meaning: the new version is built beside the old
    /// one and takes its place when it has caught up.
    const VERSION: u32;

    /// The categories it listens to. Of their events it gets the types that
    /// [`View::Event`] knows; others are passed over.
    const CATEGORIES: &'static [&'static str];

    /// What to do with an event that [`View::handle`] refuses, panics at or cannot read.
    const POISON: Poison = Poison::Stop;

    /// The events it wants: the event type of an entity, or an enum of its own that names just
    /// the types and fields it needs.
    type Event: Event;

    /// What it writes to.
    type Store;

    /// Makes what the first event needs, for example tables. Called once for each version, on
    /// an empty store.
    fn set_up(store: &mut Self::Store) -> Result<(), HandleError> {
        let _ = store;
        Ok(())
    }

    /// Takes in one event. It calculates and writes to the store, and waits for nothing: a view in
    /// memory runs among the service's other tasks. On an error nothing of it is kept, and [`View::POISON`] says what
    /// comes next. `about` tells stream, key, position and time.
    fn handle(
        store: &mut Self::Store,
        event: &Self::Event,
        about: &EventRef<'_>,
    ) -> Result<(), HandleError>;
}

/// What a view does at an event that it cannot take in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Poison {
    /// The view stops before the event and says so; nothing is lost and nothing is skipped.
    #[default]
    Stop,
    /// The event is set aside, and with it all later events of its stream, so that order per
    /// stream is kept; other streams go on.
    Park,
}

/// A question to a view. Changes nothing.
pub trait Query: DeserializeOwned + Send + 'static {
    /// The view it asks.
    type View: View;

    /// What comes back.
    type Answer: Serialize + Send + 'static;

    /// Its name, unique in its view.
    const NAME: &'static str;

    /// The answer, from one unchanging state of the view.
    fn answer(&self, store: &<Self::View as View>::Store) -> Result<Self::Answer, HandleError>;
}
