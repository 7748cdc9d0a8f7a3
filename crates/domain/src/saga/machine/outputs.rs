//! What is sent: a function of the journal alone.

use super::values::{Dispatch, SagaTimer};
use crate::CommandId;
use crate::command::{Outcome, Role};
use crate::json::Json;
use crate::rejection::Rejection;
use crate::rules::{Rule, Rules};
use crate::saga::definition::StepKind;
use crate::saga::journal::{Parent, SagaEvent, Undo};
use crate::saga::plan::Plan;
use crate::saga::state::{At, InFlight, Phase, SagaState};
use crate::step_id::StepId;
use crate::time::Timestamp;

/// What `event` makes be sent, when `state` is the state after it. A function of the journal
/// alone: replaying it gives the same commands with the same ids, bit by bit.
pub fn outputs(state: &SagaState, event: &SagaEvent) -> Vec<Dispatch> {
    outputs_under(state, event, Rules::ALL)
}

pub(super) fn outputs_under(state: &SagaState, event: &SagaEvent, rules: Rules) -> Vec<Dispatch> {
    match event {
        SagaEvent::StepStarted { step, .. }
        | SagaEvent::StepRetried { step, .. }
        | SagaEvent::CompStarted { step, .. }
        | SagaEvent::CompRetried { step, .. } => in_flight(state, step, rules),
        SagaEvent::SagaCompleted | SagaEvent::SagaCompensated => {
            let parent = state.started.as_ref().and_then(|s| s.parent.as_ref());
            let asked = state.abort.as_ref().and_then(|(_, by)| by.as_ref());
            let mut out: Vec<Dispatch> = end_reply(state, parent).into_iter().collect();
            out.extend(abort_reply(state, asked));
            out.push(Dispatch::Ended);
            out
        }
        _ => Vec::new(),
    }
}

/// Everything that was sent and is not answered, and every timer that is set: what a node that
/// takes over sends again. Receivers know what they have seen before by its id.
pub(in crate::saga) fn outstanding(state: &SagaState, rules: Rules) -> Vec<Dispatch> {
    if state.phase.is_terminal() {
        return Vec::new();
    }
    let waiting = state.steps.iter().flat_map(|step| {
        let open = |at: &At| matches!(at, At::Started(_) | At::Undoing(_));
        let branches = step.branches.iter().enumerate();
        branches
            .filter(move |(_, branch)| open(&branch.at))
            .map(|(i, _)| StepId::new(step.name.clone(), i as u32))
    });
    waiting
        .flat_map(|step| in_flight(state, &step, rules))
        .filter(|d| rules.keep(Rule::DurableTimers) || !matches!(d, Dispatch::Timer(_)))
        .collect()
}

/// When to look after a step again for which `timer` has come, if its command is still on its way:
/// another attempt would be the same command beside itself, and would be written down for nothing.
/// `None`: something has to be decided. What ends after some attempts is always decided, and so is
/// what is due.
pub(in crate::saga) fn put_off(
    plan: &Plan,
    state: &SagaState,
    timer: &SagaTimer,
    now: Timestamp,
    rules: Rules,
    is_on_its_way: impl Fn(CommandId) -> bool,
) -> Option<Timestamp> {
    let (index, branch) = state.locate(&timer.step)?;
    let retry = &plan.shape.steps[index].retry;
    let (sending, deadline) = match &state.steps[index].branches[branch].at {
        At::Started(waiting) if !timer.undo && retry.attempts_max.is_none() => {
            (Sending::from(waiting), waiting.deadline)
        }
        At::Undoing(waiting) if timer.undo => (waiting.into(), None),
        _ => return None,
    };
    let attempt = sending.attempt;
    let is_due = deadline.is_some_and(|deadline| now >= deadline);
    let id = command_id(state, &timer.step, timer.undo, &sending, rules);
    if attempt != timer.attempt || is_due || !is_on_its_way(id) {
        return None;
    }
    // The longer it takes, the more rarely it is looked at.
    let so_far = now.since(timer.at);
    let wait = retry
        .delay_after(attempt, id.as_u128())
        .max(so_far)
        .min(retry.max);
    let again = now + wait;
    Some(deadline.map_or(again, |deadline| deadline.min(again)))
}

/// The request, or compensation, that a step waits for, and its timer.
fn in_flight(state: &SagaState, step: &StepId, rules: Rules) -> Vec<Dispatch> {
    let Some((index, branch)) = state.locate(step) else {
        return Vec::new();
    };
    let kind = state.steps[index].kind;
    match &state.steps[index].branches[branch].at {
        At::Started(waiting) => {
            let id = command_id(state, step, false, &waiting.into(), rules);
            let role = match kind {
                StepKind::Retriable => Role::Forward(step.clone()),
                _ => Role::Step(step.clone()),
            };
            let request = Undo::Ask(waiting.request.clone());
            with_timer(id, request, role, step, waiting)
        }
        At::Undoing(waiting) => {
            let id = command_id(state, step, true, &waiting.into(), rules);
            let role = Role::Undo {
                step: step.clone(),
                of: command_id(state, step, false, &Sending::FIRST, rules),
            };
            with_timer(id, waiting.request.clone(), role, step, waiting)
        }
        _ => Vec::new(),
    }
}

fn with_timer<R>(
    id: CommandId,
    request: Undo,
    role: Role,
    step: &StepId,
    waiting: &InFlight<R>,
) -> Vec<Dispatch> {
    let timer = waiting.wake.map(|at| {
        Dispatch::Timer(SagaTimer {
            step: step.clone(),
            undo: matches!(role, Role::Undo { .. }),
            attempt: waiting.attempt,
            at,
        })
    });
    let request = Dispatch::Request { id, request, role };
    std::iter::once(request).chain(timer).collect()
}

/// Which sending of a step it is.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    second: bool,
    attempt: u32,
    anew: u32,
}

impl Sending {
    pub(super) const NONE: Self = Self {
        attempt: 0,
        ..Self::FIRST
    };
    const FIRST: Self = Self {
        second: false,
        attempt: 1,
        anew: 0,
    };
}

impl<R> From<&Box<InFlight<R>>> for Sending {
    fn from(waiting: &Box<InFlight<R>>) -> Self {
        Self {
            second: waiting.second,
            attempt: waiting.attempt,
            anew: waiting.anew,
        }
    }
}

/// The id of what is sent for a step: a hash of the saga and the step. R2: the same for every
/// attempt. Only a fallback, and a saga that was refused and is asked anew, has another id.
pub(super) fn command_id(
    state: &SagaState,
    step: &StepId,
    undo: bool,
    sending: &Sending,
    rules: Rules,
) -> CommandId {
    let Sending {
        second,
        attempt,
        anew,
    } = *sending;
    let source = state.started.as_ref().map_or(0, |s| s.id.as_u128());
    let what: &[u8] = match (undo, second, state.fell_back(step).is_some()) {
        (false, _, false) => b"do",
        (true, false, false) => b"undo",
        (true, true, false) => b"undo completed",
        (false, _, true) => b"do fallback",
        (true, false, true) => b"undo fallback",
        (true, true, true) => b"undo completed fallback",
    };
    let stream = state.stream.as_str().as_bytes();
    let (name, branch) = (step.name.as_bytes(), step.branch.to_be_bytes());
    if rules.keep(Rule::SameKey) && anew > 0 {
        let anew = anew.to_be_bytes();
        CommandId::derived(source, &[stream, name, &branch, what, b"anew", &anew])
    } else if rules.keep(Rule::SameKey) {
        CommandId::derived(source, &[stream, name, &branch, what])
    } else {
        CommandId::derived(
            source,
            &[stream, name, &branch, what, &attempt.to_be_bytes()],
        )
    }
}

/// The code of the refusal of a call that was not made because the circuit of its third party is
/// open.
pub const CIRCUIT_OPEN: &str = "circuit-open";
/// The code of the refusal of a command whose id was used for another one.
pub const ID_TAKEN: &str = "id-taken";
/// The code of the refusal of a start with another input than the first.
pub(super) const STARTED: &str = "saga-started";
/// The code of the "no" to an abort of what has completed.
pub(super) const COMPLETED: &str = "saga-completed";
/// The code by which one who has started a saga hears that it has gone back.
pub(super) const COMPENSATED: &str = "saga-compensated";

pub(super) fn id_taken(id: CommandId) -> Rejection {
    Rejection::new(
        ID_TAKEN,
        format!("command id {id} was used for another command; an id names one command for ever"),
    )
}

pub(super) fn completed() -> Rejection {
    Rejection::new(
        COMPLETED,
        "the saga has completed; it is undone by another saga",
    )
}

/// What one is told who has started the saga.
pub(super) fn end_reply(state: &SagaState, to: Option<&Parent>) -> Option<Dispatch> {
    let outcome = match state.phase {
        Phase::Completed => Outcome::Done(Json::null()),
        Phase::Compensated => Outcome::Refused(Rejection::new(
            COMPENSATED,
            state.abort_reason().unwrap_or("the saga was aborted"),
        )),
        _ => return None,
    };
    to.cloned().map(|to| Dispatch::Reply { to, outcome })
}

/// What one is told who has asked for the abort.
pub(super) fn abort_reply(state: &SagaState, to: Option<&Parent>) -> Option<Dispatch> {
    let outcome = match state.phase {
        Phase::Completed => Outcome::Refused(completed()),
        Phase::Compensated => Outcome::Done(Json::null()),
        _ => return None,
    };
    to.cloned().map(|to| Dispatch::Reply { to, outcome })
}
