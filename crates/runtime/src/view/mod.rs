//! Views: events in, rows out.
//!
//! A *copy* of a view is one set of rows with the cut that it stands at, kept together. A view
//! has one copy that serves queries. A rebuild makes another copy beside it, from the start of
//! the log, and swaps when that has caught up; the old copy stays, so that the swap can be
//! taken back.
//!
//! A copy stops, or sets a stream aside, *before* an event that it cannot take in: what it
//! shows is always a cut of the log, or says which streams it lacks.

mod code;
#[cfg(feature = "conformance")]
pub mod conformance;
mod host;
mod memory;
mod question;
mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use anabranch_domain::{Json, SchemaError};
use anabranch_model::{Cut, StreamId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::follow::{
    Edit, FollowState as CopyState, Intake, LastEvent, ParkedStream, PoisonEvent, Progress,
    StoreError,
};
pub use code::ViewCode;
pub use host::{AnyView, ViewSpec};
pub(crate) use host::{ViewHost, ViewParts};
pub use memory::MemoryViews;
pub use question::Question;
pub use store::{Look, ViewContext, ViewCopy, ViewStore, ViewStoreFactory};

/// How fresh an answer has to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consistency {
    /// What the answer has to include: what the client has seen.
    pub seen: Cut,
    /// What to do when the view is not there yet.
    pub policy: Policy,
}

/// What a query does when the view is behind what the client has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Waits at most this long, then fails.
    Wait(Duration),
    /// Fails at once.
    Fail,
    /// Answers, and says that the answer is stale.
    AllowStale,
}

impl Default for Policy {
    /// Waits for five seconds.
    fn default() -> Self {
        Self::Wait(Duration::from_secs(5))
    }
}

impl Consistency {
    /// Whatever the view shows now.
    pub fn any() -> Self {
        Self {
            seen: Cut::start(),
            policy: Policy::AllowStale,
        }
    }

    /// At least `seen`; waits at most `wait` for it.
    pub fn after(seen: Cut, wait: Duration) -> Self {
        Self {
            seen,
            policy: Policy::Wait(wait),
        }
    }
}

/// An answer, from one unchanging state of the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The cut that the answer stands at. Also an empty answer obliges the client to it.
    pub cut: Cut,
    /// Whether the answer lacks something that the client has seen.
    pub stale: bool,
}

/// Why a query has no answer.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// The view has not come as far as the client.
    #[error("view {view} stands at {have} and the answer needs {need}{}, or accept a stale answer", because(.stopped))]
    NotReached {
        /// The view.
        view: String,
        /// How far it is.
        have: Cut,
        /// How far it has to be.
        need: Cut,
        /// Why it does not go on, if it has stopped.
        stopped: Option<String>,
    },
    /// The client has seen what the log does not have.
    #[error("the token says {seen}, but the log ends at {head}: it is a token of another log")]
    BeyondHead {
        /// What the client says.
        seen: Cut,
        /// Where the log ends.
        head: Cut,
    },
    /// There is nothing to ask yet.
    #[error("view {view} is being built for the first time, {percent} % done; try again later")]
    Building {
        /// The view.
        view: String,
        /// How much of the log it has taken in, in percent.
        percent: u8,
    },
    /// Nobody here has such a view, or such a query.
    #[error("{0}")]
    Unknown(String),
    /// What was asked does not fit the query.
    #[error("query {query}: {reason}")]
    Malformed {
        /// The query.
        query: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The query's own code failed.
    #[error("query {query}: {reason}")]
    Failed {
        /// The query.
        query: String,
        /// What it said.
        reason: String,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

anabranch_model::debug_is_words!(QueryError);

/// Rows that are kept in memory, and in a snapshot now and then.
#[diagnostic::on_unimplemented(
    message = "the rows of `{Self}` are not kept in memory",
    label = "a view with such rows is hosted by the function of their store",
    note = "`.view_in_sqlite(…)` and `.view_in_postgres(…)` host views in databases, `.view_on(…)` those of your own store",
    note = "rows in memory are `Default + Serialize + Deserialize + Send + Sync`"
)]
pub trait InMemory: Default + serde::Serialize + serde::de::DeserializeOwned + Send + Sync {}

#[diagnostic::do_not_recommend]
impl<S: Default + serde::Serialize + serde::de::DeserializeOwned + Send + Sync> InMemory for S {}

fn because(stopped: &Option<String>) -> String {
    match stopped {
        None => "; try again later".to_owned(),
        Some(why) => format!(", but it has stopped: {why}; let it go on first"),
    }
}

/// Why a view cannot be hosted.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The event type and its upcasts do not fit together.
    #[error("view {view}: {source}")]
    Schema {
        /// The view.
        view: &'static str,
        /// What does not fit.
        source: SchemaError,
    },
    /// Two of its queries have one name.
    #[error("query {query:?} of view {view} is registered twice; each name means one query")]
    QueryTwice {
        /// The view.
        view: &'static str,
        /// The query.
        query: &'static str,
    },
    /// A name that cannot be used.
    #[error("view {view}: {source}")]
    Name {
        /// The view.
        view: &'static str,
        /// What is wrong with it.
        source: anabranch_model::NameError,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

anabranch_model::debug_is_words!(ViewError);

/// How views are hosted.
#[derive(Debug, Clone)]
pub struct ViewOptions {
    /// How often an event that cannot be taken in is tried before the view stops or sets it
    /// aside, and how long it waits in between.
    pub retry: anabranch_domain::Retry,
    /// A view in memory is kept in a snapshot each so many events; 0: never.
    pub snapshot_every: u64,
    /// The most streams that are set aside before a view stops all the same.
    pub parked_max: usize,
}

impl Default for ViewOptions {
    /// Three attempts, a snapshot each 100,000 events, 1,000 streams set aside.
    fn default() -> Self {
        Self {
            retry: anabranch_domain::Retry {
                attempts_max: Some(3),
                ..anabranch_domain::Retry::DEFAULT
            },
            snapshot_every: 100_000,
            parked_max: 1000,
        }
    }
}

/// One of the sets of rows that a view has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CopyId {
    /// The version of the code that made it.
    pub version: u32,
    /// Which copy of that version, from 1.
    pub generation: u32,
}

/// Which copies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Copies {
    /// The one that answers queries.
    pub serving: Option<CopyId>,
    /// The one that did before.
    pub previous: Option<CopyId>,
    /// The one that is being built.
    pub building: Option<CopyId>,
}

/// One copy, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CopyStatus {
    /// Which one.
    pub id: CopyId,
    /// What it is doing.
    #[serde(flatten)]
    pub state: CopyState,
    /// The events that it has taken in.
    pub cut: Cut,
    /// How many events of the log it has not looked at.
    pub lag_events: u64,
    /// How long ago the last event that it took in was recorded; zero when it has caught up.
    pub lag: Duration,
    /// How long it will take to catch up, about; only while it catches up.
    pub time_left: Option<Duration>,
    /// Streams that it has set aside.
    pub parked: BTreeMap<String, ParkedStream>,
}

/// A view, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ViewStatus {
    /// Its name.
    pub name: &'static str,
    /// The version of its code.
    pub version: u32,
    /// The copy that answers queries.
    pub serving: Option<CopyStatus>,
    /// The copy that is being built.
    pub building: Option<CopyStatus>,
    /// The copy that served before, if it is kept.
    pub previous: Option<CopyId>,
    /// The queries that can be asked by name.
    pub queries: Vec<&'static str>,
}

/// Why an operator's request was not done. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum OperateError {
    /// It does not fit what the view is doing.
    #[error("{0}")]
    NotNow(String),
    /// Nobody here has such a view.
    #[error("{0}")]
    Unknown(String),
    /// The event still cannot be taken in.
    #[error("still cannot be taken in: {0}")]
    Poison(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

anabranch_model::debug_is_words!(OperateError);

/// A stream by which a view in memory is kept among the snapshots.
fn snapshot_stream(view: &str, copy: Option<CopyId>) -> Result<StreamId, StoreError> {
    let name = match copy {
        Some(copy) => format!("$view/{view}.v{}.g{}", copy.version, copy.generation),
        None => format!("$view/{view}"),
    };
    StreamId::system(name).map_err(|error| StoreError::new(view, error))
}

/// An answer in wire form.
pub type JsonAnswer = Answer<Json>;
