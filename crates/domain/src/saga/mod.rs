//! Sagas: durable workflows over several entities, where a compensation takes the place of a
//! distributed transaction.

mod definition;
mod instance;
mod journal;
mod machine;
mod plan;
mod rules;
mod shape;
mod state;
mod step_id;

use anabranch_model::EventRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::Event;

pub use definition::{Definition, Promise, Request, StepBuilder, StepContext, StepKind};
pub use instance::{SagaCommand, SagaInstance, Sent, start_id};
pub use journal::{Operator, Parent, SagaEvent, StepDeclared, Undo};
pub use machine::{Decision, Dispatch, SagaInput, SagaTimer, Settlement, outputs};
pub use plan::{BRANCHES_MAX, Plan, PlanError, RegisterError, SagaType, StartError};
pub use rules::{Rule, Rules};
pub use shape::{DefinitionError, DefinitionHash, Fault, Shape};
pub use state::{Phase, SagaState};
pub use step_id::{ParseStepIdError, StepId};

/// A saga: a declared DAG of steps. It ends completed, when every step took effect once, or
/// compensated, when everything that may have taken effect was undone.
///
/// Its journal is the stream `NAME/key`.
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
    fn start(event: &Self::Event, about: &EventRef<'_>) -> Option<Start<Self::Input>> {
        let _ = (event, about);
        None
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
