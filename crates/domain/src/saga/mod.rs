//! Sagas: durable workflows over several entities, where a compensation takes the place of a
//! distributed transaction.
//!
//! ```
//! use anabranch_domain::saga::{Definition, Promise, Request};
//! use anabranch_domain::{NoEvent, Saga};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order {
//!     skus: Vec<String>,
//!     mills: u64,
//! }
//!
//! /// Commands of other services, as this one knows them.
//! #[derive(Serialize, Deserialize)]
//! enum Ask {
//!     Reserve,
//!     Release,
//!     Pay { mills: u64 },
//!     Ship,
//! }
//!
//! struct Checkout;
//!
//! impl Saga for Checkout {
//!     const NAME: &'static str = "checkout";
//!     type Event = NoEvent;
//!     type Input = Order;
//!
//!     fn define() -> Definition<Order> {
//!         Definition::<Order>::new(1)
//!             .compensatable("reserve", |reserve| {
//!                 reserve
//!                     .changes("stock")
//!                     .for_each(|order: &Order| order.skus.len())
//!                     .commutes()
//!                     .request(|order, cx| {
//!                         Request::to_category("stock", &order.skus[cx.branch()], &Ask::Reserve)
//!                     })
//!                     .undo(Promise::ALL, |order, cx| {
//!                         Request::to_category("stock", &order.skus[cx.branch()], &Ask::Release)
//!                     })
//!                     .timeout(Duration::from_secs(30))
//!             })
//!             .pivot("pay", |pay| {
//!                 pay.after(["reserve"]).changes("payment").request(|order, cx| {
//!                     Request::to_category("payment", cx.key(), &Ask::Pay { mills: order.mills })
//!                 })
//!             })
//!             .retriable("ship", |ship| {
//!                 ship.after(["pay"]).changes("shipment").request(|_, cx| {
//!                     Request::to_category("shipment", cx.key(), &Ask::Ship)
//!                 })
//!             })
//!     }
//! }
//!
//! # use anabranch_domain::testkit;
//! # fn stock(sku: &str, ask: Ask) -> Request { Request::to_category("stock", sku, &ask).unwrap() }
//! // In a test:
//! let order = Order { skus: vec!["85123A".into(), "71053".into()], mills: 5 };
//! testkit::saga::<Checkout>("536365", &order)
//!     .then_asks([
//!         ("reserve", stock("85123A", Ask::Reserve)),
//!         ("reserve/1", stock("71053", Ask::Reserve)),
//!     ])
//!     .when_ok("reserve")
//!     .when_refused("reserve/1", "out-of-stock")
//!     .then_undoes([("reserve", stock("85123A", Ask::Release))])
//!     .when_undone("reserve")
//!     .then_compensated();
//! ```
//!
//! # What is promised
//!
//! A saga ends completed, when the request of every step took effect once, or compensated, when
//! for everything that may have been received a compensation was acknowledged. In between
//! others see what has been done so far: [`SemanticLock`](crate::SemanticLock) says so to them.
//! A saga that can do neither is parked, with a reason that a person can read, and goes on when
//! that person says so.
//!
//! # How it is kept
//!
//! The journal is the saga's own stream. [`SagaInstance::decide`] turns an input into events;
//! what is sent follows from the events alone ([`outputs`]), with ids that follow from saga and
//! step. So a node that takes over sends the same again, and receivers know what they have seen.
//! Receivers remember by [`CommandMemory`](crate::CommandMemory).

mod definition;
mod instance;
mod journal;
mod machine;
mod plan;
mod shape;
mod state;

use anabranch_model::{EventRef, StreamId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::CommandError;
use crate::event::Event;
use crate::json::Json;
use crate::rejection::Rejection;
use crate::saga_start::SagaStart;
use crate::view::HandleError;

pub use crate::rules::{Rule, Rules};
pub use crate::step_id::{ParseStepIdError, StepId};

pub use definition::{Called, Definition, Promise, Request, StepBuilder, StepContext, StepKind};
pub use instance::{SagaCommand, SagaInstance, Sent, start_id};
pub use journal::{BRANCHES_MAX, Operator, Parent, SAGA_ENDS, SagaEvent, StepDeclared, Undo};
pub use machine::{
    CIRCUIT_OPEN, Decision, Dispatch, ID_TAKEN, OperatorCommand, SagaInput, SagaTimer, Settlement,
    outputs,
};
pub use plan::{AdmitError, Plan, PlanError, RegisterError, SagaType, StartError};
pub use shape::{DefinitionError, DefinitionHash, Fault, Shape};
pub use state::{Phase, SagaState, StepStatus};

/// A saga: a declared DAG of steps; see [the module](self) for an example.
///
/// The journal of an instance is the stream `NAME/key`.
pub trait Saga: Sized + Send + Sync + 'static {
    /// The saga's name, and the category of its journals.
    const NAME: &'static str;

    /// The categories whose events may start it; none when it is started by name only.
    const CATEGORIES: &'static [&'static str] = &[];

    /// The events that may start it; [`NoEvent`](crate::NoEvent) when it is started by name only.
    type Event: Event;

    /// What an instance starts from; recorded in its journal.
    type Input: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The instance that this event starts, if any.
    fn start(_event: &Self::Event, _about: &EventRef<'_>) -> Option<Start<Self::Input>> {
        None
    }

    /// Whether a command may start this instance: the sender is the saga or process that asks, `None`
    /// somebody outside. By default everybody may. An event starts one without asking.
    ///
    /// A key stands for one instance, whoever starts it. Where the key can be guessed and events
    /// start the saga, say no to everybody else: who comes first decides what it starts from.
    fn admit(_start: &Start<Self::Input>, _sender: Option<&StreamId>) -> Result<(), Rejection> {
        Ok(())
    }

    /// The steps. Checked at registration.
    fn define() -> Definition<Self::Input>;

    /// Definitions that were current before, as long as instances may still run on them.
    fn older() -> Vec<Definition<Self::Input>> {
        Vec::new()
    }
}

/// An instance of a saga to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start<I> {
    /// The instance's key. Starting a key twice starts one instance.
    pub key: String,
    /// What it starts from.
    pub input: I,
}

impl SagaStart {
    /// The saga `S` under this key, started from `input`.
    pub fn new<S: Saga>(key: &str, input: &S::Input) -> Result<Self, CommandError> {
        Ok(Self {
            saga: StreamId::of(S::NAME, key)?,
            input: Json::of(input)?,
        })
    }
}

impl Request {
    /// The saga `S` under this key.
    pub fn saga<S: Saga>(key: impl AsRef<str>, input: &S::Input) -> Result<Self, HandleError> {
        Ok(Self::Saga(SagaStart::new::<S>(key.as_ref(), input)?))
    }
}
