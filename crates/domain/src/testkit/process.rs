use anabranch_model::{Cut, Position};

use super::diff::assert_same;
use super::{START, pretty, stored};
use crate::command::{Outcome, ReplyEnvelope, Role};
use crate::event::Event;
use crate::process::{
    Action, Delivery, Planned, Process, ProcessEvent, ProcessInstance, ProcessType, Reaction, Timer,
};
use crate::time::Timestamp;

/// Tests a process to which nothing has happened.
///
/// ```
/// # use anabranch_domain::{Correlate, Decide, Event, EventRef, Input, Process, Reaction, testkit};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Serialize, Deserialize, Event)]
/// # enum PaymentEvent { PaymentApproved { order: String } }
/// # #[derive(Serialize, Deserialize)]
/// # enum ShipmentCommand { Ship }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Shipping;
/// # impl Process for Shipping {
/// #     const NAME: &'static str = "shipping";
/// #     const CATEGORIES: &'static [&'static str] = &["payment"];
/// #     type Event = PaymentEvent;
/// #     fn correlate(event: &PaymentEvent, _: &EventRef) -> Correlate {
/// #         let PaymentEvent::PaymentApproved { order } = event;
/// #         Correlate::Start(order.clone())
/// #     }
/// #     fn decide(&self, input: &Input<PaymentEvent>, cx: &Decide) -> Reaction {
/// #         match input {
/// #             Input::Event(PaymentEvent::PaymentApproved { order }, _) => {
/// #                 Reaction::none().send_to("shipment", order, &ShipmentCommand::Ship).complete()
/// #             }
/// #             _ => Reaction::none(),
/// #         }
/// #     }
/// #     fn evolve(&mut self, _: &Input<PaymentEvent>) {}
/// # }
/// testkit::process::<Shipping>()
///     .when("payment/1", PaymentEvent::PaymentApproved { order: "7".into() })
///     .then(Reaction::none().send_to("shipment", "7", &ShipmentCommand::Ship).complete());
/// ```
#[track_caller]
pub fn process<P: Process>() -> ProcessTest<P> {
    ProcessTest {
        process: ProcessType::new().unwrap_or_else(|error| panic!("process {}: {error}", P::NAME)),
        instance: None,
        journal: Vec::new(),
        offset: 0,
        now: START,
    }
}

/// An instance of a process under test.
pub struct ProcessTest<P: Process> {
    process: ProcessType<P>,
    instance: Option<ProcessInstance<P>>,
    journal: Vec<ProcessEvent>,
    offset: u64,
    now: Timestamp,
}

/// What a process did about an input.
pub struct ProcessThen<P: Process> {
    test: ProcessTest<P>,
    input: String,
    actions: Vec<Planned>,
}

impl<P: Process> ProcessTest<P> {
    /// It is this time now.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    /// This event has happened in this stream; what came of it is not looked at.
    #[must_use]
    #[track_caller]
    pub fn given<E: Event>(self, stream: &str, event: E) -> Self {
        self.when(stream, event).test
    }

    /// This event happens in this stream. It may be of any type: what counts is its stored form.
    #[must_use]
    #[track_caller]
    pub fn when<E: Event>(mut self, stream: &str, event: E) -> ProcessThen<P> {
        let stored = stored(stream, &event, self.offset, self.now);
        let closure = Cut::including(Position::at(self.offset));
        self.offset += 1;
        let consumed = self
            .process
            .consume(&stored.as_ref(), closure)
            .unwrap_or_else(|error| panic!("process {}: {error}", P::NAME));
        let what = event.kind().name.to_owned();
        match consumed {
            Some(consumed) => {
                let instance = self
                    .instance
                    .get_or_insert_with(|| ProcessInstance::new(consumed.instance.clone()));
                assert_eq!(
                    instance.stream(),
                    &consumed.instance,
                    "{what} belongs to another instance; test one at a time"
                );
                self.deliver(what, Delivery::Event(consumed))
            }
            None => ProcessThen {
                test: self,
                input: what,
                actions: Vec::new(),
            },
        }
    }

    /// The timer of this name, which must be set, is due: it becomes that time.
    #[must_use]
    #[track_caller]
    pub fn when_timer(mut self, name: &str) -> ProcessThen<P> {
        let set = self
            .outstanding()
            .into_iter()
            .find_map(|planned| match planned {
                Planned::Timer(timer) if timer.name == name => Some(timer),
                _ => None,
            });
        let Some(timer) = set else {
            panic!("process {} has set no timer {name}", P::NAME);
        };
        self.now = self.now.max(timer.at);
        self.deliver(format!("timer {name}"), Delivery::Timer(timer))
    }

    /// What it has asked for last under this name, a command's type name or an effect's, has
    /// this outcome.
    #[must_use]
    #[track_caller]
    pub fn when_reply(self, name: &str, outcome: Outcome) -> ProcessThen<P> {
        let asked = self
            .outstanding()
            .into_iter()
            .rev()
            .find_map(|planned| match planned {
                Planned::Command(command) if command.name == name => Some((command.id, command.to)),
                Planned::Call(call) if call.call.effect == name => Some((call.key, call.reply_to)),
                _ => None,
            });
        let Some((id, from)) = asked else {
            panic!("process {} waits for no answer to {name}", P::NAME);
        };
        let reply = ReplyEnvelope {
            to: from.clone(),
            from,
            id,
            name: name.to_owned(),
            role: Role::Plain,
            outcome,
            causes: Cut::start(),
        };
        self.deliver(format!("answer to {name}"), Delivery::Reply(reply))
    }

    /// Looks at the state.
    #[track_caller]
    pub fn then_state(self, look: impl FnOnce(&P)) -> Self {
        match &self.instance {
            Some(instance) => look(instance.state()),
            None => look(&P::default()),
        }
        self
    }

    fn outstanding(&self) -> Vec<Planned> {
        let instance = self.instance.as_ref();
        instance
            .map(ProcessInstance::outstanding)
            .unwrap_or_default()
    }

    #[track_caller]
    fn deliver(mut self, input: String, delivery: Delivery<P::Event>) -> ProcessThen<P> {
        let Some(instance) = &mut self.instance else {
            panic!("process {} has not begun", P::NAME);
        };
        let decision = instance
            .decide(&self.process, delivery, self.now)
            .unwrap_or_else(|error| panic!("process {} at {input}: {error}", P::NAME));
        self.journal.extend(decision.events);
        self.replay();
        ProcessThen {
            test: self,
            input,
            actions: decision.dispatch,
        }
    }

    /// The instance that the journal makes has to be the one that made the journal.
    #[track_caller]
    fn replay(&mut self) {
        let Some(live) = &mut self.instance else {
            return;
        };
        let mut replayed = ProcessInstance::new(live.stream().clone());
        for event in &self.journal {
            if let Err(error) = replayed.evolve(&self.process, event) {
                panic!("the journal cannot be replayed: {error}");
            }
        }
        let state = |instance: &ProcessInstance<P>| {
            serde_json::to_string(instance.state())
                .unwrap_or_else(|error| panic!("the state cannot be kept in a snapshot: {error}"))
        };
        assert_eq!(
            state(live),
            state(&replayed),
            "process {}: replaying its journal gives another state",
            P::NAME
        );
    }
}

impl<P: Process> ProcessThen<P> {
    /// It does just this.
    #[track_caller]
    pub fn then(self, reaction: Reaction) -> ProcessTest<P> {
        let expected = reaction
            .into_actions()
            .unwrap_or_else(|error| panic!("the expected reaction: {error}"));
        let expected: Vec<String> = expected.iter().map(shown_action).collect();
        let actual: Vec<String> = self.actions.iter().map(shown_planned).collect();
        let what = format!("what process {} does about {}", P::NAME, self.input);
        assert_same(&what, &expected, &actual);
        self.test
    }

    /// It does nothing.
    #[track_caller]
    pub fn then_nothing(self) -> ProcessTest<P> {
        self.then(Reaction::none())
    }
}

fn shown_action(action: &Action) -> String {
    match action {
        Action::Send(command) => format!(
            "send {} {} {}",
            command.to,
            command.name,
            pretty(command.data.as_str())
        ),
        Action::Schedule(timer) => shown_timer(timer),
        Action::Cancel { timer } => format!("cancel {timer}"),
        Action::Call(call) => format!("call {} {}", call.effect, pretty(call.request.as_str())),
        Action::StartSaga(start) => {
            format!("start {} {}", start.saga, pretty(start.input.as_str()))
        }
        Action::Complete => "complete".to_owned(),
    }
}

fn shown_planned(planned: &Planned) -> String {
    match planned {
        Planned::Command(command) if command.name == "StartSaga" => {
            let input: Result<serde_json::Value, _> = command.data.parse();
            let input = input.map(|value| format!("{:#}", value["input"]));
            format!("start {} {}", command.to, input.unwrap_or_default())
        }
        Planned::Command(command) => format!(
            "send {} {} {}",
            command.to,
            command.name,
            pretty(command.data.as_str())
        ),
        Planned::Call(call) => format!(
            "call {} {}",
            call.call.effect,
            pretty(call.call.request.as_str())
        ),
        Planned::Timer(timer) => shown_timer(timer),
        Planned::Cancel { timer } => format!("cancel {timer}"),
        Planned::Complete => "complete".to_owned(),
    }
}

fn shown_timer(timer: &Timer) -> String {
    format!("timer {} at {} {}", timer.name, timer.at, timer.data)
}
