use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::{Command, Outgoing};
use crate::effect::{Call, Effect};
use crate::entity::Entity;
use crate::json::Json;
use crate::process::SagaStart;
use crate::retry::Retry;
use crate::view::HandleError;

/// The steps of a saga, as declared. Checked when it is registered.
pub struct Definition<I> {
    pub(crate) version: u32,
    pub(crate) steps: Vec<StepBuilder<I>>,
}

/// Makes a request from the saga's input and the results so far.
pub(crate) type MakeRequest<I> =
    Box<dyn Fn(&I, &StepContext<'_>) -> Result<Request, HandleError> + Send + Sync>;

/// What kind of step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StepKind {
    /// Before the pivot: can be undone.
    Compensatable,
    /// The point of no return: at most one. It waits for every compensatable step; once it has
    /// answered ok the saga only goes forward.
    Pivot,
    /// After the pivot: tried until it succeeds; may not refuse.
    Retriable,
}

/// What the author of a compensation promises. All of it is needed: without one of them a
/// saga can end neither completed nor compensated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Asking twice undoes once.
    Idempotent,
    /// It is always possible in the end; at most it has to wait.
    CannotFail,
    /// It gives the same result when the request arrives only after it.
    CommutesWithLateRequest,
}

impl Promise {
    /// Every promise.
    pub const ALL: [Self; 3] = [
        Self::Idempotent,
        Self::CannotFail,
        Self::CommutesWithLateRequest,
    ];
}

/// One step, being declared.
pub struct StepBuilder<I> {
    pub(crate) name: String,
    pub(crate) kind: StepKind,
    pub(crate) after: Vec<String>,
    pub(crate) touches: Vec<String>,
    pub(crate) commutes: bool,
    pub(crate) for_each: Option<Box<dyn Fn(&I) -> usize + Send + Sync>>,
    pub(crate) request: Option<MakeRequest<I>>,
    pub(crate) undo: Option<(Vec<Promise>, MakeRequest<I>)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Retry,
    pub(crate) at_most_once: bool,
}

/// What a step asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A command to an entity.
    Command(Outgoing),
    /// A call to the world outside.
    Call(Call),
    /// Another saga: the step is done when it has completed.
    Saga(SagaStart),
}

impl Request {
    /// `command` for the entity of this key.
    pub fn to<E: Entity>(key: impl AsRef<str>, command: &E::Command) -> Result<Self, HandleError> {
        Self::to_category(E::CATEGORY, key, command)
    }

    /// `command` for an entity whose type is not known here: another service's.
    pub fn to_category(
        category: &str,
        key: impl AsRef<str>,
        command: &impl Command,
    ) -> Result<Self, HandleError> {
        Ok(Self::Command(Outgoing::new(
            category,
            key.as_ref(),
            command,
        )?))
    }

    /// A call to the world outside.
    pub fn call<F: Effect>(effect: &F) -> Result<Self, HandleError> {
        Ok(Self::Call(Call::new(effect)?))
    }

    /// The saga `S` under this key.
    pub fn saga<S: super::Saga>(
        key: impl AsRef<str>,
        input: &S::Input,
    ) -> Result<Self, HandleError> {
        Ok(Self::Saga(SagaStart::new::<S>(key.as_ref(), input)?))
    }
}

/// What a request may know beside the saga's input.
pub struct StepContext<'a> {
    pub(crate) key: &'a str,
    pub(crate) index: usize,
    pub(crate) results: &'a dyn Fn(&str, usize) -> Option<&'a Json>,
}

impl<'a> StepContext<'a> {
    /// The saga instance's key.
    pub const fn key(&self) -> &'a str {
        self.key
    }

    /// Which branch of a `for_each` step this is, from 0; 0 for other steps.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The result of branch `index` of step `step`; `None` when it has none (yet).
    pub fn result<T: DeserializeOwned>(
        &self,
        step: &str,
        index: usize,
    ) -> Result<Option<T>, HandleError> {
        Ok((self.results)(step, index).map(Json::parse).transpose()?)
    }
}

impl<I> Definition<I> {
    /// No steps yet. Raise `version` when steps are added, removed or made to ask for something
    /// else: running instances finish on the definition that they started with.
    pub const fn new(version: u32) -> Self {
        Self {
            version,
            steps: Vec::new(),
        }
    }

    /// Adds a step that can be undone.
    #[must_use]
    pub fn compensatable(
        self,
        name: &str,
        declare: impl FnOnce(StepBuilder<I>) -> StepBuilder<I>,
    ) -> Self {
        self.step(name, StepKind::Compensatable, declare)
    }

    /// Adds the point of no return.
    #[must_use]
    pub fn pivot(self, name: &str, declare: impl FnOnce(StepBuilder<I>) -> StepBuilder<I>) -> Self {
        self.step(name, StepKind::Pivot, declare)
    }

    /// Adds a step that is tried until it succeeds.
    #[must_use]
    pub fn retriable(
        self,
        name: &str,
        declare: impl FnOnce(StepBuilder<I>) -> StepBuilder<I>,
    ) -> Self {
        self.step(name, StepKind::Retriable, declare)
    }

    fn step(
        mut self,
        name: &str,
        kind: StepKind,
        declare: impl FnOnce(StepBuilder<I>) -> StepBuilder<I>,
    ) -> Self {
        self.steps.push(declare(StepBuilder {
            name: name.to_owned(),
            kind,
            after: Vec::new(),
            touches: Vec::new(),
            commutes: false,
            for_each: None,
            request: None,
            undo: None,
            timeout: None,
            retry: Retry::DEFAULT,
            at_most_once: false,
        }));
        self
    }
}

impl<I> StepBuilder<I> {
    /// Waits for these steps, all of their branches.
    #[must_use]
    pub fn after<S: Into<String>>(mut self, steps: impl IntoIterator<Item = S>) -> Self {
        self.after.extend(steps.into_iter().map(Into::into));
        self
    }

    /// The category of entities that it changes.
    #[must_use]
    pub fn on(mut self, category: &str) -> Self {
        self.touches.push(category.to_owned());
        self
    }

    /// Steps that change the same category at the same time give the same result in any order.
    #[must_use]
    pub const fn commutes(mut self) -> Self {
        self.commutes = true;
        self
    }

    /// Runs once for each index below `count`, in parallel.
    #[must_use]
    pub fn for_each(mut self, count: impl Fn(&I) -> usize + Send + Sync + 'static) -> Self {
        self.for_each = Some(Box::new(count));
        self
    }

    /// What it asks for. Pure: the same input and results give the same request.
    #[must_use]
    pub fn request(
        mut self,
        request: impl Fn(&I, &StepContext<'_>) -> Result<Request, HandleError> + Send + Sync + 'static,
    ) -> Self {
        self.request = Some(Box::new(request));
        self
    }

    /// How it is undone, and what that promises: [`Promise::ALL`].
    #[must_use]
    pub fn undo(
        mut self,
        promises: impl IntoIterator<Item = Promise>,
        request: impl Fn(&I, &StepContext<'_>) -> Result<Request, HandleError> + Send + Sync + 'static,
    ) -> Self {
        self.undo = Some((promises.into_iter().collect(), Box::new(request)));
        self
    }

    /// How long it may take before the saga is aborted. Only for compensatable steps.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// When to send the request again while no answer comes.
    #[must_use]
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The receiver has no memory of keys: never send the request twice. After a crash in
    /// between nobody knows what became of it, and the saga is aborted.
    #[must_use]
    pub const fn at_most_once(mut self) -> Self {
        self.at_most_once = true;
        self
    }
}
