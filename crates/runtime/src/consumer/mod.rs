//! Consumers: a function of yours for each event of the log, or for each batch, with a stored
//! place.
//!
//! ```
//! # use std::sync::Arc;
//! # use anabranch_domain::HandleError;
//! # use anabranch_model::Event;
//! # use anabranch_runtime::consumer::Consumer;
//! async fn send_mail(event: Event) -> Result<(), HandleError> {
//!     println!("{} of {}", event.event_type(), event.stream());
//!     Ok(())
//! }
//!
//! let mailer = Consumer::named("mailer")
//!     .categories(["order"])
//!     .from_start()
//!     .each(send_mail);
//! ```
//!
//! `ServiceBuilder::consumer` hosts it. A function that is not in a transaction with its place
//! may see an event again after a crash; one that writes to SQLite and the place with it
//! (`anabranch-view-sqlite`) sees each event once.

mod context;
mod each;
mod host;

use std::future::Future;
use std::sync::Arc;

use anabranch_domain::{HandleError, Retry};
use anabranch_log::BoxFuture;
use anabranch_model::{Cut, Event, EventType, Filter};

pub use crate::follow::{Begin, FollowState, Intake, LastEvent, PoisonEvent, Progress, StoreError};

pub use context::ConsumerContext;
use each::{EachEvent, Function};
pub(crate) use host::ConsumerParts;
pub use host::{ConsumerHost, ConsumerStatus};

/// Begins to declare a consumer: what it wants. Where it begins comes next; there is no default,
/// because what is right for a statistic (from the start) is wrong for a mailer (from now).
#[derive(Debug, Clone)]
pub struct Consumer {
    name: &'static str,
    filter: Filter,
}

impl Consumer {
    /// A consumer of this name, unique in its service, which keeps its place under it.
    pub fn named(name: &'static str) -> Self {
        Self {
            name,
            filter: Filter::all(),
        }
    }

    /// Wants the events of these categories only.
    #[must_use]
    pub fn categories(mut self, categories: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.filter.categories = categories.into_iter().map(Into::into).collect();
        self
    }

    /// Wants the events of these types only.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = EventType>) -> Self {
        self.filter.types = types.into_iter().collect();
        self
    }

    /// Begins at the start of the log, when it is started for the first time.
    pub fn from_start(self) -> ConsumerFrom {
        self.begins(Begin::Start)
    }

    /// Begins at what is written after it is started for the first time.
    pub fn from_now(self) -> ConsumerFrom {
        self.begins(Begin::Now)
    }

    /// Begins behind what `cut` includes, when it is started for the first time.
    pub fn from(self, cut: Cut) -> ConsumerFrom {
        self.begins(Begin::At(cut))
    }

    fn begins(self, begin: Begin) -> ConsumerFrom {
        ConsumerFrom {
            consumer: self,
            begin,
        }
    }
}

/// A consumer that knows where to begin: what it does comes next.
#[derive(Debug, Clone)]
pub struct ConsumerFrom {
    consumer: Consumer,
    begin: Begin,
}

impl ConsumerFrom {
    /// Runs `function` for each event, in order, and keeps the place among the service's
    /// checkpoints after each batch. After a crash it sees some events again: make what it does
    /// safe to repeat, for example with the event's id as a key.
    pub fn each<F>(self, function: impl Fn(Event) -> F + Send + Sync + 'static) -> ConsumerSpec
    where
        F: Future<Output = Result<(), HandleError>> + Send + 'static,
    {
        self.runs(Function::Each(Box::new(move |event| {
            Box::pin(function(event))
        })))
    }

    /// The same for batches of events, of at least one. A batch that fails is tried again as a
    /// whole.
    pub fn batches<F>(
        self,
        function: impl Fn(Vec<Event>) -> F + Send + Sync + 'static,
    ) -> ConsumerSpec
    where
        F: Future<Output = Result<(), HandleError>> + Send + 'static,
    {
        self.runs(Function::Batches(Box::new(move |events| {
            Box::pin(function(events))
        })))
    }

    fn runs(self, function: Function) -> ConsumerSpec {
        self.on(|context| {
            Box::pin(async move {
                let intake = EachEvent::open(context, function).await?;
                Ok(Arc::new(intake) as Arc<dyn Intake>)
            })
        })
    }

    /// Brings the events to what `open` gives: for stores that keep the place with what they
    /// write.
    pub fn on<F>(self, open: F) -> ConsumerSpec
    where
        F: FnOnce(ConsumerContext) -> BoxFuture<'static, Result<Arc<dyn Intake>, StoreError>>
            + Send
            + 'static,
    {
        ConsumerSpec {
            consumer: self.consumer,
            begin: self.begin,
            retry: Retry {
                attempts_max: Some(3),
                ..Retry::DEFAULT
            },
            open: Box::new(open),
        }
    }
}

type Open = Box<
    dyn FnOnce(ConsumerContext) -> BoxFuture<'static, Result<Arc<dyn Intake>, StoreError>> + Send,
>;

/// A consumer that a service can host.
pub struct ConsumerSpec {
    consumer: Consumer,
    begin: Begin,
    retry: Retry,
    open: Open,
}

impl ConsumerSpec {
    /// How often an event that fails is tried before the consumer stops at it. Three times, if
    /// nothing is said.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.consumer.name
    }
}
