//! From a saga's type to a plan for one instance.

use std::sync::Arc;

use anabranch_model::{EventRef, StreamId};
use thiserror::Error;

use super::definition::{Called, Definition, Request, StepContext};
use super::journal::BRANCHES_MAX;
use super::shape::{DefinitionError, DefinitionHash, Shape};
use super::{Saga, Start};
use crate::command::CommandError;
use crate::downcasts::{Lowered, Newer};
use crate::event::DecodeError;
use crate::json::Json;
use crate::rejection::Rejection;
use crate::saga_start::SagaStart;
use crate::schema::Reader;
use crate::upcasts::SchemaError;
use crate::view::HandleError;

/// A registered saga: its present definition and the older ones that instances may still run
/// on. Every definition was checked.
pub struct SagaType {
    name: &'static str,
    categories: &'static [&'static str],
    starter: Box<dyn Starter>,
    definitions: Vec<Arc<dyn Bind>>,
}

/// Why a saga cannot be registered.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// One of its definitions cannot be run.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// Its event type and the upcasts do not fit together.
    #[error("the events that start saga {saga}: {source}")]
    Schema {
        /// The saga's name.
        saga: String,
        /// What is wrong.
        source: SchemaError,
    },
    /// Two definitions cannot be told apart.
    #[error(
        "two definitions of saga {saga} are the same to the eye; give each a version of its own"
    )]
    SameDefinition {
        /// The saga's name.
        saga: String,
    },
}

anabranch_model::debug_is_words!(RegisterError);

/// Why an instance of a saga cannot go on. Its journal is unchanged.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The definition that it runs on is gone.
    #[error(
        "saga {saga} runs on definition {hash}, which this program does not have; add that definition to `Saga::older`"
    )]
    UnknownDefinition {
        /// The saga's name.
        saga: String,
        /// The definition.
        hash: DefinitionHash,
    },
    /// Its input cannot be read.
    #[error("the input of saga {saga}: {reason}")]
    Input {
        /// The saga's name.
        saga: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// Its steps have more branches than can be.
    #[error("with step {step}, saga {saga} has {branches} branches; at most {max} can be")]
    Branches {
        /// The saga's name.
        saga: String,
        /// The step with which they are too many.
        step: String,
        /// How many there are up to it.
        branches: usize,
        /// How many it may have.
        max: usize,
    },
}

anabranch_model::debug_is_words!(PlanError);

/// Why an event could not be looked at as the start of a saga.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum StartError {
    /// The event cannot be read.
    #[error(transparent)]
    Event(#[from] DecodeError),
    /// The instance cannot be named or its input not be written.
    #[error(transparent)]
    Start(#[from] CommandError),
}

anabranch_model::debug_is_words!(StartError);

/// Why a command does not start a saga.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum AdmitError {
    /// What it shall start from cannot be read.
    #[error(transparent)]
    Malformed(#[from] CommandError),
    /// The saga says no: [`Saga::admit`].
    #[error("{0}")]
    Refused(Rejection),
}

anabranch_model::debug_is_words!(AdmitError);

impl SagaType {
    /// Registers `S`: checks its definitions and its events.
    pub fn of<S: Saga>() -> Result<Self, RegisterError> {
        Self::taught::<S>(Arc::default())
    }

    /// The same, which also reads newer events as far as `newer` says how.
    pub fn taught<S: Saga>(newer: Arc<Newer>) -> Result<Self, RegisterError> {
        let saga = || S::NAME.to_owned();
        let mut definitions: Vec<Arc<dyn Bind>> = Vec::new();
        for definition in std::iter::once(S::define()).chain(S::older()) {
            let shape = Arc::new(Shape::check(S::NAME, &definition)?);
            if definitions.iter().any(|d| d.shape().hash == shape.hash) {
                return Err(RegisterError::SameDefinition { saga: saga() });
            }
            definitions.push(Arc::new(Checked {
                saga: S::NAME,
                shape,
                definition: Arc::new(definition),
            }));
        }
        let reader = Reader::<S::Event>::taught(newer).map_err(|source| RegisterError::Schema {
            saga: saga(),
            source,
        })?;
        Ok(Self {
            name: S::NAME,
            categories: S::CATEGORIES,
            starter: Box::new(Starting::<S> { reader }),
            definitions,
        })
    }

    /// The saga's name, and the category of its journals.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The categories whose events may start it.
    pub fn categories(&self) -> &'static [&'static str] {
        self.categories
    }

    /// The type names of the events that may start it.
    pub fn event_names(&self) -> Vec<String> {
        self.starter.names()
    }

    /// The definitions on which its instances may run: the present one first.
    pub fn definitions(&self) -> Vec<DefinitionHash> {
        let all = self.definitions.iter();
        all.map(|definition| definition.shape().hash()).collect()
    }

    /// The effects that its steps say they call.
    pub fn calls(&self) -> Vec<Called> {
        let calls = self.definitions.iter().map(|definition| definition.calls());
        calls.collect::<Vec<_>>().concat()
    }

    /// The instance that this event starts, if any.
    pub fn start(&self, event: &EventRef<'_>) -> Result<Option<SagaStart>, StartError> {
        if !self.categories.contains(&event.category()) {
            return Ok(None);
        }
        self.starter.start(event)
    }

    /// Whether a command of `sender` may start the instance of this key. Nothing is started.
    pub fn admit(
        &self,
        key: &str,
        input: &Json,
        sender: Option<&StreamId>,
    ) -> Result<(), AdmitError> {
        self.starter.admit(key, input, sender)
    }

    /// The plan of a new instance, on the present definition.
    pub fn plan(&self, input: &Json) -> Result<Plan, PlanError> {
        self.definitions[0].bind(input)
    }

    /// The plan of an instance that runs on the definition `hash`.
    pub fn plan_on(&self, hash: DefinitionHash, input: &Json) -> Result<Plan, PlanError> {
        let definition = self.definitions.iter().find(|d| d.shape().hash == hash);
        match definition {
            Some(definition) => definition.bind(input),
            None => Err(PlanError::UnknownDefinition {
                saga: self.name.to_owned(),
                hash,
            }),
        }
    }
}

/// What one instance of a saga will do: a definition, applied to an input.
pub struct Plan {
    pub(super) shape: Arc<Shape>,
    /// For each step, how many branches it has.
    pub(super) branches: Vec<u32>,
    requests: Box<dyn Requests>,
}

impl Plan {
    pub(super) fn request(
        &self,
        step: usize,
        cx: &StepContext<'_>,
    ) -> Result<Request, HandleError> {
        self.requests.request(step, cx)
    }

    pub(super) fn fallback(
        &self,
        step: usize,
        cx: &StepContext<'_>,
    ) -> Result<Request, HandleError> {
        self.requests.fallback(step, cx)
    }

    /// The compensation of the request, or of the fallback.
    pub(super) fn undo(
        &self,
        step: usize,
        fell_back: bool,
        cx: &StepContext<'_>,
    ) -> Result<Request, HandleError> {
        self.requests.undo(step, fell_back, cx)
    }
}

/// A checked definition, without its input's type.
trait Bind: Send + Sync {
    fn shape(&self) -> &Shape;
    fn calls(&self) -> Vec<Called>;
    fn bind(&self, input: &Json) -> Result<Plan, PlanError>;
}

struct Checked<I> {
    saga: &'static str,
    shape: Arc<Shape>,
    definition: Arc<Definition<I>>,
}

impl<I: serde::de::DeserializeOwned + Send + Sync + 'static> Bind for Checked<I> {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn calls(&self) -> Vec<Called> {
        let steps = self.definition.steps.iter();
        steps.flat_map(|step| step.calls.clone()).collect()
    }

    fn bind(&self, input: &Json) -> Result<Plan, PlanError> {
        let input: I = input.parse().map_err(|error| PlanError::Input {
            saga: self.saga.to_owned(),
            reason: error.to_string(),
        })?;
        let mut branches = Vec::with_capacity(self.definition.steps.len());
        let mut total = 0usize;
        for step in &self.definition.steps {
            let count = step.for_each.as_ref().map_or(1, |count| count(&input));
            total = total.saturating_add(count);
            if total > BRANCHES_MAX {
                return Err(PlanError::Branches {
                    saga: self.saga.to_owned(),
                    step: step.name.clone(),
                    branches: total,
                    max: BRANCHES_MAX,
                });
            }
            branches.push(count as u32);
        }
        Ok(Plan {
            shape: self.shape.clone(),
            branches,
            requests: Box::new(Bound {
                definition: self.definition.clone(),
                input,
            }),
        })
    }
}

/// Makes the requests of one instance.
trait Requests: Send + Sync {
    fn request(&self, step: usize, cx: &StepContext<'_>) -> Result<Request, HandleError>;
    fn fallback(&self, step: usize, cx: &StepContext<'_>) -> Result<Request, HandleError>;
    fn undo(
        &self,
        step: usize,
        fell_back: bool,
        cx: &StepContext<'_>,
    ) -> Result<Request, HandleError>;
}

struct Bound<I> {
    definition: Arc<Definition<I>>,
    input: I,
}

impl<I: Send + Sync> Requests for Bound<I> {
    fn request(&self, step: usize, cx: &StepContext<'_>) -> Result<Request, HandleError> {
        match &self.definition.steps[step].request {
            Some(request) => request(&self.input, cx),
            None => Err("the step asks for nothing".into()),
        }
    }

    fn fallback(&self, step: usize, cx: &StepContext<'_>) -> Result<Request, HandleError> {
        match &self.definition.steps[step].fallback {
            Some(request) => request(&self.input, cx),
            None => Err("the step has no fallback".into()),
        }
    }

    fn undo(
        &self,
        step: usize,
        fell_back: bool,
        cx: &StepContext<'_>,
    ) -> Result<Request, HandleError> {
        let step = &self.definition.steps[step];
        match if fell_back {
            &step.undo_fallback
        } else {
            &step.undo
        } {
            Some((_, undo)) => undo(&self.input, cx),
            None => Err("the step has no compensation".into()),
        }
    }
}

/// Looks at events as starts of a saga, without its event's type.
trait Starter: Send + Sync {
    fn names(&self) -> Vec<String>;
    fn start(&self, event: &EventRef<'_>) -> Result<Option<SagaStart>, StartError>;
    fn admit(&self, key: &str, input: &Json, sender: Option<&StreamId>) -> Result<(), AdmitError>;
}

struct Starting<S: Saga> {
    reader: Reader<S::Event>,
}

impl<S: Saga> Starter for Starting<S> {
    fn names(&self) -> Vec<String> {
        self.reader.names()
    }

    fn start(&self, about: &EventRef<'_>) -> Result<Option<SagaStart>, StartError> {
        if !self.reader.knows(about.event_type) {
            return Ok(None);
        }
        let mut room = Lowered::default();
        let Some(about) = &self.reader.known(about, &mut room) else {
            return Ok(None);
        };
        let event = self
            .reader
            .read(about.event_type, about.schema_version, about.data)?;
        let start = event.and_then(|event| S::start(&event, about));
        Ok(start
            .map(|Start { key, input }| SagaStart::new::<S>(&key, &input))
            .transpose()?)
    }

    fn admit(&self, key: &str, input: &Json, sender: Option<&StreamId>) -> Result<(), AdmitError> {
        let input = input.parse().map_err(|error| CommandError::Malformed {
            name: "StartSaga".to_owned(),
            reason: format!("the input of saga {}: {error}", S::NAME),
        })?;
        let key = key.to_owned();
        S::admit(&Start { key, input }, sender).map_err(AdmitError::Refused)
    }
}
