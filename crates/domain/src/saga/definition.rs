use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::{Command, Outgoing};
use crate::effect::{Call, Effect};
use crate::entity::Entity;
use crate::json::Json;
use crate::retry::Retry;
use crate::saga_start::SagaStart;
use crate::view::HandleError;

/// The steps of a saga, as declared. Checked when it is registered; see
/// [`SagaType`](super::SagaType).
pub struct Definition<I> {
    pub(super) version: u32,
    pub(super) steps: Vec<StepBuilder<I>>,
}

/// Makes a request from the saga's input and the results so far.
pub(super) type MakeRequest<I> =
    Box<dyn Fn(&I, &StepContext<'_>) -> Result<Request, HandleError> + Send + Sync>;

/// Says how many branches a step has.
pub(super) type CountBranches<I> = Box<dyn Fn(&I) -> usize + Send + Sync>;

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

/// Why two requests may be under way at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Overlap {
    /// Nothing is said.
    Unstated,
    /// They give the same result in any order.
    Commutes,
    /// They change different entities.
    Disjoint,
}

/// One step, being declared.
pub struct StepBuilder<I> {
    pub(super) name: String,
    pub(super) kind: StepKind,
    pub(super) after: Vec<String>,
    pub(super) changes: Vec<String>,
    pub(super) overlap: Overlap,
    pub(super) for_each: Option<CountBranches<I>>,
    pub(super) request: Option<MakeRequest<I>>,
    pub(super) undo: Option<(Vec<Promise>, MakeRequest<I>)>,
    pub(super) fallback: Option<MakeRequest<I>>,
    pub(super) undo_fallback: Option<(Vec<Promise>, MakeRequest<I>)>,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Retry,
    pub(super) alert_after: u32,
    pub(super) at_once_max: u32,
    pub(super) at_most_once: bool,
    pub(super) calls: Vec<Called>,
}

/// An effect that a step calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The step.
    pub step: String,
    /// The effect's name.
    pub effect: &'static str,
    /// The effect's type.
    pub type_name: &'static str,
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

    /// What is asked of whom, for an operator; not what it holds, which may be long or private.
    pub fn describe(&self) -> String {
        match self {
            Self::Command(command) => format!("{} to {}", command.name, command.to),
            Self::Call(call) => format!("call {}", call.effect),
            Self::Saga(start) => format!("saga {}", start.saga),
        }
    }
}

/// What a request may know beside the saga's input.
pub struct StepContext<'a> {
    pub(super) key: &'a str,
    pub(super) branch: u32,
    pub(super) so_far: &'a dyn SoFar,
    pub(super) abort_reason: Option<&'a str>,
}

/// What became of the steps of an instance so far.
pub(super) trait SoFar {
    fn result(&self, step: &str, branch: u32) -> Option<&Json>;
    fn has_fallen_back(&self, step: &str, branch: u32) -> bool;
}

impl<'a> StepContext<'a> {
    /// The saga instance's key.
    pub const fn key(&self) -> &'a str {
        self.key
    }

    /// Which branch of a `for_each` step this is, from 0; 0 for other steps.
    pub const fn branch(&self) -> usize {
        self.branch as usize
    }

    /// Why the saga goes back: what a compensation may tell. `None` while it goes forward.
    pub const fn abort_reason(&self) -> Option<&'a str> {
        self.abort_reason
    }

    /// The result of branch `branch` of step `step`; `None` when it has none. The result of a
    /// command is the list of [`RecordedEvent`](crate::RecordedEvent)s, that of a call what
    /// came back, that of a saga `null`.
    pub fn result<T: DeserializeOwned>(
        &self,
        step: &str,
        branch: u32,
    ) -> Result<Option<T>, HandleError> {
        let result = self.so_far.result(step, branch);
        Ok(result.map(Json::parse).transpose()?)
    }

    /// Whether branch `branch` of step `step` has asked for its
    /// [`fallback`](StepBuilder::fallback).
    pub fn fell_back(&self, step: &str, branch: u32) -> bool {
        self.so_far.has_fallen_back(step, branch)
    }
}

impl<I> Definition<I> {
    /// No steps yet. Raise `version` when steps are made to ask for something else; a change of
    /// the steps themselves is noticed anyhow. Running instances finish on the definition that
    /// they started with: keep it in [`Saga::older`](super::Saga::older) until they have.
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
            changes: Vec::new(),
            overlap: Overlap::Unstated,
            for_each: None,
            request: None,
            undo: None,
            fallback: None,
            undo_fallback: None,
            timeout: None,
            retry: Retry::DEFAULT,
            alert_after: 10,
            at_once_max: 1000,
            at_most_once: false,
            calls: Vec::new(),
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

    /// What it changes: the category of the entities, or a name for what a call changes
    /// outside.
    #[must_use]
    pub fn changes(mut self, category: &str) -> Self {
        self.changes.push(category.to_owned());
        self
    }

    /// Requests that change the same category at the same time give the same result in any
    /// order.
    #[must_use]
    pub const fn commutes(mut self) -> Self {
        self.overlap = Overlap::Commutes;
        self
    }

    /// Requests that change the same category at the same time go to different entities. This
    /// is checked before they are sent.
    #[must_use]
    pub const fn disjoint(mut self) -> Self {
        self.overlap = Overlap::Disjoint;
        self
    }

    /// Has as many branches as `count` says, at the same time; see [`StepBuilder::at_once`].
    #[must_use]
    pub fn for_each(mut self, count: impl Fn(&I) -> usize + Send + Sync + 'static) -> Self {
        self.for_each = Some(Box::new(count));
        self
    }

    /// At most this many branches are under way at the same time; 1,000 if nothing is said.
    #[must_use]
    pub const fn at_once(mut self, branches_max: u32) -> Self {
        self.at_once_max = branches_max;
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

    /// What it calls: [`StepBuilder::request`] and [`StepBuilder::calls`] in one.
    #[must_use]
    pub fn call<F: Effect>(
        self,
        effect: impl Fn(&I, &StepContext<'_>) -> Result<F, HandleError> + Send + Sync + 'static,
    ) -> Self {
        self.calls::<F>()
            .request(move |input, context| Request::call(&effect(input, context)?))
    }

    /// Its request or its compensation calls the effect `F`. A service that does not register it
    /// does not start; what is not declared is told when it is called.
    #[must_use]
    pub fn calls<F: Effect>(mut self) -> Self {
        self.calls.push(Called {
            step: self.name.clone(),
            effect: F::NAME,
            type_name: std::any::type_name::<F>(),
        });
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

    /// What it asks for instead when its request has failed for good, once: another command or
    /// call, or another saga.
    ///
    /// It is asked for when the request was refused, or was not sent because the circuit of its
    /// effect is open ([`WhenOpen::Refuse`](crate::WhenOpen::Refuse)). Where nobody knows whether
    /// the request took effect, as after a [`timeout`](Self::timeout), it is undone first: so never
    /// do both. A pivot of which nobody knows that cannot be undone, and waits for a person as
    /// without a fallback.
    ///
    /// The step is then done when the fallback is, and what comes back of that is the step's result.
    /// A fallback that fails leads where the step would have led without it. Whether it was taken,
    /// and why, stands in the journal; [`StepContext::fell_back`] tells later steps. A step that can
    /// be undone also needs [`undo_fallback`](Self::undo_fallback).
    #[must_use]
    pub fn fallback(
        mut self,
        request: impl Fn(&I, &StepContext<'_>) -> Result<Request, HandleError> + Send + Sync + 'static,
    ) -> Self {
        self.fallback = Some(Box::new(request));
        self
    }

    /// How the [`fallback`](Self::fallback) is undone, where that is what was done, and what that
    /// promises: [`Promise::ALL`].
    #[must_use]
    pub fn undo_fallback(
        mut self,
        promises: impl IntoIterator<Item = Promise>,
        request: impl Fn(&I, &StepContext<'_>) -> Result<Request, HandleError> + Send + Sync + 'static,
    ) -> Self {
        self.undo_fallback = Some((promises.into_iter().collect(), Box::new(request)));
        self
    }

    /// How long it may take before the saga is aborted. Only for steps that can be undone, and
    /// for a pivot that is sent at most once: the saga is parked then.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// When to look after request and compensation, and send them again, while no answer comes. What
    /// is still on its way is not sent twice: a call is tried by its effect's
    /// [`CallPolicy::retry`](crate::CallPolicy::retry) meanwhile, which is how often the third party
    /// is asked; this is how long the saga waits before it asks for the call anew. The greatest number
    /// of attempts counts for the request of a step that can be undone; everything else is
    /// tried until it is acknowledged.
    #[must_use]
    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// After how many attempts without an answer the saga is marked as parked, so that a person
    /// looks; it is tried further all the same. Ten, if nothing is said.
    #[must_use]
    pub const fn alert_after(mut self, attempts: u32) -> Self {
        self.alert_after = attempts;
        self
    }

    /// The receiver has no memory of keys: the request is never sent twice. After a crash in
    /// between, or when the time is up, nobody knows what became of it, and the saga is aborted;
    /// if it is the pivot, the saga is parked. Needs a [`StepBuilder::timeout`].
    #[must_use]
    pub const fn at_most_once(mut self) -> Self {
        self.at_most_once = true;
        self
    }
}
