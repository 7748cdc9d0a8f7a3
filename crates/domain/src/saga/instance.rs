use std::sync::Arc;

use anabranch_model::content_hash;
use serde::{Deserialize, Serialize};

use super::definition::Request;
use super::journal::{Operator, Parent, SagaEvent, Undo};
use super::machine::{self, Decision, Dispatch, OperatorCommand, SagaInput, SagaTimer, Settlement};
use super::plan::{Plan, PlanError, SagaType};
use super::state::{Phase, SagaState};
use crate::command::{Command, CommandEnvelope, CommandError, ReplyEnvelope, Role};
use crate::effect::CallEnvelope;
use crate::json::Json;
use crate::origin::Origin;
use crate::rules::{Rule, Rules};
use crate::step_id::StepId;
use crate::time::Timestamp;
use crate::{CommandId, Cut, StreamId};

/// One instance of a saga: its state, and the plan that it follows.
///
/// The host appends what [`SagaInstance::decide`] returns at the length that the journal had,
/// and sends only what is durable. When an append fails, the instance is thrown away and made
/// again from its journal.
pub struct SagaInstance {
    saga: Arc<SagaType>,
    state: SagaState,
    plan: Option<Plan>,
    rules: Rules,
}

impl SagaInstance {
    /// The instance with an empty journal.
    pub fn new(saga: Arc<SagaType>, stream: StreamId) -> Self {
        Self {
            saga,
            state: SagaState::new(stream),
            plan: None,
            rules: Rules::ALL,
        }
    }

    /// The instance that a snapshot holds.
    pub fn restore(saga: Arc<SagaType>, state: SagaState) -> Self {
        Self {
            saga,
            state,
            plan: None,
            rules: Rules::ALL,
        }
    }

    /// The same instance, under these rules: all of them, outside of tests.
    #[must_use]
    pub fn under(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The state.
    pub fn state(&self) -> &SagaState {
        &self.state
    }

    /// Takes in an event of the journal, on replay.
    pub fn evolve(&mut self, event: &SagaEvent) {
        self.state.evolve(event);
    }

    /// What is to be done about `input`. The state moves along with the events returned.
    pub fn decide(&mut self, input: SagaInput, now: Timestamp) -> Result<Decision, PlanError> {
        self.make_plan(&input)?;
        Ok(machine::decide(
            self.plan.as_ref(),
            &mut self.state,
            input,
            now,
            self.rules,
        ))
    }

    /// What a node that takes the instance over sends again, after it has decided about
    /// [`SagaInput::Recovered`].
    pub fn outstanding(&self) -> Vec<Dispatch> {
        machine::outstanding(&self.state, self.rules)
    }

    /// When to bring `timer` again, if it is not worth a decision now: the command of its step is
    /// still on its way, and would be sent again without end. It is then brought unchanged.
    /// `None`: decide about it.
    pub fn put_off(
        &self,
        timer: &SagaTimer,
        now: Timestamp,
        is_on_its_way: impl Fn(CommandId) -> bool,
    ) -> Option<Timestamp> {
        let plan = self.plan.as_ref()?;
        machine::put_off(plan, &self.state, timer, now, self.rules, is_on_its_way)
    }

    fn make_plan(&mut self, input: &SagaInput) -> Result<(), PlanError> {
        if let SagaInput::Start {
            id, input, parent, ..
        } = input
            && self.state.begins_anew(*id, parent.as_ref())
        {
            self.plan = Some(self.saga.plan(input)?);
        }
        if self.plan.is_some() {
            return Ok(());
        }
        self.plan = match (&self.state.started, input) {
            // R11: on the definition that it was started with.
            (Some(started), _) if self.rules.keep(Rule::StayOnDefinition) => {
                Some(self.saga.plan_on(started.definition, &started.input)?)
            }
            (Some(started), _) => Some(self.saga.plan(&started.input)?),
            (None, SagaInput::Start { input, .. }) if self.state.phase == Phase::New => {
                Some(self.saga.plan(input)?)
            }
            (None, _) => None,
        };
        Ok(())
    }
}

/// What can be asked of a saga, in the form of a command to its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SagaCommand {
    /// Begin. Asking again changes nothing; asking with another input is refused.
    StartSaga {
        /// What it starts from.
        input: Json,
    },
    /// Go back.
    AbortSaga {
        /// Why.
        why: String,
    },
    /// Go on with a step that is parked.
    ResumeStep {
        /// The step.
        step: StepId,
        /// Who says so, and why.
        by: Operator,
    },
    /// Take note of what a person has found out, or done by hand.
    SettleStep {
        /// The step.
        step: StepId,
        /// What is so.
        #[serde(rename = "as")]
        settlement: Settlement,
        /// Who says so, and why.
        by: Operator,
    },
}

impl SagaInput {
    /// The id of the event or command that the input is, or answers; `None` for what comes by itself.
    pub fn cause(&self) -> Option<String> {
        let command = match self {
            Self::Start { id, origin, .. } => match origin.event {
                Some(event) => return Some(event.to_string()),
                None => id,
            },
            Self::Reply { id, .. } => id,
            Self::Abort {
                command: Some(command),
                ..
            } => &command.id,
            Self::Abort { by, .. } => &by.as_ref()?.command,
            Self::Resume { command, .. } | Self::Settle { command, .. } => &command.id,
            Self::Wake(_) | Self::Recovered => return None,
        };
        Some(command.to_string())
    }

    /// The input that a command to a saga's stream is.
    pub fn of_command(envelope: &CommandEnvelope) -> Result<Self, CommandError> {
        let data = envelope.data.as_str().as_bytes();
        let parent = envelope.reply_to.clone().map(|stream| Parent {
            stream,
            command: envelope.id,
            role: envelope.role.clone(),
        });
        let command = SagaCommand::from_wire(&envelope.name, data)?;
        let (name, text) = command.to_wire()?;
        let asked = OperatorCommand {
            id: envelope.id,
            content: content_hash([name.as_bytes(), text.as_str().as_bytes()]) as u64,
        };
        Ok(match command {
            SagaCommand::StartSaga { input } => Self::Start {
                id: envelope.id,
                input,
                parent,
                origin: Origin {
                    event: None,
                    correlation_id: Some(match &envelope.correlation_id {
                        Some(story) => story.clone(),
                        None => envelope.id.to_string(),
                    }),
                    traceparent: envelope.traceparent.clone(),
                },
            },
            SagaCommand::AbortSaga { why } => Self::Abort {
                why,
                command: parent.is_none().then_some(asked),
                by: parent,
            },
            SagaCommand::ResumeStep { step, by } => Self::Resume {
                command: asked,
                step,
                by,
            },
            SagaCommand::SettleStep {
                step,
                settlement,
                by,
            } => Self::Settle {
                command: asked,
                step,
                settlement,
                by,
            },
        })
    }

    /// The input that a reply to a saga's stream is; `None` when it answers nothing that a saga
    /// asks.
    pub fn of_reply(reply: ReplyEnvelope) -> Option<Self> {
        let (step, undo) = match reply.role {
            Role::Plain => return None,
            Role::Step(step) | Role::Forward(step) => (step, false),
            Role::Undo { step, .. } => (step, true),
        };
        Some(Self::Reply {
            step,
            undo,
            id: reply.id,
            outcome: reply.outcome,
        })
    }
}

/// What a saga sends, in the form that the host delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A command to an entity or to a saga.
    Command(CommandEnvelope),
    /// A call to the world outside.
    Call(CallEnvelope, Role),
    /// A timer to set; it comes back as [`SagaInput::Wake`].
    Timer(super::SagaTimer),
    /// An answer to who waits for the saga.
    Reply(ReplyEnvelope),
    /// The saga has ended; receivers may forget what they remember for it.
    Ended,
}

impl Dispatch {
    /// The form that the host delivers. `saga` is the stream of the instance, `origin` what began
    /// it, `causes` what it had seen.
    pub fn address(
        self,
        saga: &StreamId,
        origin: Option<&Origin>,
        causes: &Cut,
    ) -> Result<Sent, CommandError> {
        let story = origin.and_then(|origin| origin.correlation_id.clone());
        let story = story.unwrap_or_else(|| saga.to_string());
        let traceparent = origin.and_then(|origin| origin.traceparent.clone());
        let command = |id, to, name: &str, data, role| CommandEnvelope {
            id,
            to,
            name: name.to_owned(),
            data,
            role,
            reply_to: Some(saga.clone()),
            correlation_id: Some(story.clone()),
            traceparent: traceparent.clone(),
            causes: causes.clone(),
        };
        Ok(match self {
            Self::Request { id, request, role } => match request {
                Undo::Ask(Request::Command(to)) => {
                    Sent::Command(command(id, to.to, &to.name, to.data, role))
                }
                Undo::Ask(Request::Call(call)) => Sent::Call(
                    CallEnvelope {
                        key: id,
                        call,
                        reply_to: saga.clone(),
                        correlation_id: Some(story.clone()),
                        traceparent: traceparent.clone(),
                    },
                    role,
                ),
                Undo::Ask(Request::Saga(start)) => {
                    let start_saga = SagaCommand::StartSaga { input: start.input };
                    let (name, data) = start_saga.to_wire()?;
                    Sent::Command(command(id, start.saga, name, data, role))
                }
                Undo::AbortSaga(child) => {
                    let abort = SagaCommand::AbortSaga {
                        why: format!("{saga} goes back"),
                    };
                    let (name, data) = abort.to_wire()?;
                    Sent::Command(command(id, child, name, data, role))
                }
            },
            Self::Timer(timer) => Sent::Timer(timer),
            Self::Reply { to, outcome } => Sent::Reply(ReplyEnvelope {
                to: to.stream,
                from: saga.clone(),
                id: to.command,
                name: "StartSaga".to_owned(),
                role: to.role,
                outcome,
                causes: causes.clone(),
            }),
            Self::Ended => Sent::Ended,
        })
    }
}

/// The id of the start of a saga that `event` starts: the same each time the event is seen.
pub fn start_id(event: anabranch_model::EventId, saga: &StreamId) -> CommandId {
    CommandId::derived(event.as_u128(), &[b"start", saga.as_str().as_bytes()])
}
