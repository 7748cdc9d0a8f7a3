use std::sync::Arc;

use anabranch_model::{CommandId, StreamId};

use super::diff::assert_same;
use super::{START, pretty};
use crate::command::{Outcome, Role};
use crate::json::Json;
use crate::rejection::Rejection;
use crate::saga::{
    Dispatch, Operator, OperatorCommand, Phase, Request, Saga, SagaEvent, SagaInput, SagaInstance,
    SagaState, SagaTimer, SagaType, Settlement, StepId, Undo, outputs,
};
use crate::time::Timestamp;

/// Tests an instance of a saga, started from `input`.
///
/// Each call names a step as `pay`, or `reserve/3` for a branch. What the saga asks for because
/// of it is kept for the next `then_…`.
#[track_caller]
pub fn saga<S: Saga>(key: &str, input: &S::Input) -> SagaTest {
    let saga = SagaType::of::<S>().unwrap_or_else(|error| panic!("{error}"));
    let stream = StreamId::of(S::NAME, key).unwrap_or_else(|error| panic!("{error}"));
    let input = Json::of(input).unwrap_or_else(|error| panic!("{error}"));
    let saga = Arc::new(saga);
    let mut test = SagaTest {
        instance: SagaInstance::new(saga.clone(), stream),
        saga,
        journal: Vec::new(),
        sent: Vec::new(),
        asked: Vec::new(),
        now: START,
    };
    test.tell(SagaInput::Start {
        id: CommandId::v7(START.micros() / 1000, 1),
        input,
        parent: None,
        origin: Default::default(),
    });
    test
}

/// An instance of a saga under test.
pub struct SagaTest {
    saga: Arc<SagaType>,
    instance: SagaInstance,
    journal: Vec<SagaEvent>,
    sent: Vec<Dispatch>,
    asked: Vec<(Role, Undo)>,
    now: Timestamp,
}

impl SagaTest {
    /// These steps ask for just this, in this order.
    #[must_use]
    #[track_caller]
    pub fn then_asks<'a>(mut self, steps: impl IntoIterator<Item = (&'a str, Request)>) -> Self {
        let asked = self.take(false);
        self.compare("what it asks for", steps, &asked);
        self
    }

    /// These steps are undone by asking for just this, in this order.
    #[must_use]
    #[track_caller]
    pub fn then_undoes<'a>(mut self, steps: impl IntoIterator<Item = (&'a str, Request)>) -> Self {
        let asked = self.take(true);
        self.compare("what it undoes", steps, &asked);
        self
    }

    /// The step is undone by aborting the saga that it has started, and nothing else is undone.
    #[must_use]
    #[track_caller]
    pub fn then_aborts(mut self, step: &str, saga: &StreamId) -> Self {
        let asked = self.take(true);
        let asked = asked.iter().map(|(role, undo)| (names(role).0, undo));
        let expected = Undo::AbortSaga(saga.clone());
        let asked: Vec<_> = asked.collect();
        assert_eq!(asked, [(&parse(step), &expected)], "what it undoes");
        self
    }

    /// The step took effect.
    #[must_use]
    #[track_caller]
    pub fn when_ok(self, step: &str) -> Self {
        self.when_done(step, Json::null())
    }

    /// The step took effect, and this came back.
    #[must_use]
    #[track_caller]
    pub fn when_done(self, step: &str, result: Json) -> Self {
        self.answer(step, false, Outcome::Done(result))
    }

    /// The step was refused.
    #[must_use]
    #[track_caller]
    pub fn when_refused(self, step: &str, code: &'static str) -> Self {
        self.answer(step, false, Outcome::Refused(Rejection::new(code, code)))
    }

    /// The step was refused, in these words.
    #[must_use]
    #[track_caller]
    pub fn when_refused_with(self, step: &str, why: Rejection) -> Self {
        self.answer(step, false, Outcome::Refused(why))
    }

    /// The step's compensation was done.
    #[must_use]
    #[track_caller]
    pub fn when_undone(self, step: &str) -> Self {
        self.answer(step, true, Outcome::Done(Json::null()))
    }

    /// The step's compensation was refused.
    #[must_use]
    #[track_caller]
    pub fn when_undo_refused(self, step: &str, code: &'static str) -> Self {
        self.answer(step, true, Outcome::Refused(Rejection::new(code, code)))
    }

    /// The step's timer is due: it becomes that time.
    #[must_use]
    #[track_caller]
    pub fn when_wakes(self, step: &str) -> Self {
        let id = parse(step);
        let timer = self.timers().into_iter().find(|timer| timer.step == id);
        let Some(timer) = timer else {
            panic!("step {step} has set no timer");
        };
        self.when_timer(timer)
    }

    /// A timer is due that was set at some time: it becomes that time.
    #[must_use]
    #[track_caller]
    pub fn when_timer(mut self, timer: SagaTimer) -> Self {
        self.now = self.now.max(timer.at);
        self.tell(SagaInput::Wake(timer));
        self
    }

    /// Somebody wants it to go back. Says whether that is done or refused.
    #[must_use]
    #[track_caller]
    pub fn when_aborted(mut self, refused: Option<&str>) -> Self {
        let answer = self.give(SagaInput::Abort {
            why: "a test wants it".to_owned(),
            by: None,
            command: None,
        });
        let code = answer.err().map(|rejection| rejection.code.into_owned());
        assert_eq!(code.as_deref(), refused, "the answer to the abort");
        self
    }

    /// The node that ran it has gone, and another one takes over.
    #[must_use]
    #[track_caller]
    pub fn when_recovered(mut self) -> Self {
        self.tell(SagaInput::Recovered);
        for dispatch in self.instance.outstanding() {
            if let Dispatch::Request { request, role, .. } = dispatch {
                self.asked.push((role, request));
            }
        }
        self
    }

    /// A new command of a person.
    fn command(&self) -> OperatorCommand {
        OperatorCommand {
            id: CommandId::v7(self.now.micros() / 1000, self.journal.len() as u128 + 2),
            content: 0,
        }
    }

    /// A person resumes a step that is parked.
    #[must_use]
    #[track_caller]
    pub fn when_resumed(mut self, step: &str) -> Self {
        let answer = self.give(SagaInput::Resume {
            command: self.command(),
            step: parse(step),
            by: operator(),
        });
        if let Err(rejection) = answer {
            panic!("step {step} cannot be resumed: {rejection}");
        }
        self
    }

    /// A person settles a step.
    #[must_use]
    #[track_caller]
    pub fn when_settled(mut self, step: &str, settlement: Settlement) -> Self {
        let answer = self.give(SagaInput::Settle {
            command: self.command(),
            step: parse(step),
            settlement,
            by: operator(),
        });
        if let Err(rejection) = answer {
            panic!("step {step} cannot be settled: {rejection}");
        }
        self
    }

    /// It is this far.
    #[must_use]
    #[track_caller]
    pub fn then_phase(self, phase: Phase) -> Self {
        assert_eq!(
            self.instance.state().phase(),
            phase,
            "the journal:\n{}",
            self.shown_journal()
        );
        self
    }

    /// It has ended, and every step took effect once.
    #[track_caller]
    pub fn then_completed(self) -> Self {
        self.then_phase(Phase::Completed)
    }

    /// It has ended, and everything that may have taken effect is undone.
    #[track_caller]
    pub fn then_compensated(self) -> Self {
        self.then_phase(Phase::Compensated)
    }

    /// Whether a person has to look at this step, or at none.
    #[must_use]
    #[track_caller]
    pub fn then_parked(self, step: Option<&str>) -> Self {
        let parked: Vec<String> = self
            .instance
            .state()
            .describe()
            .filter(|step| step.parked.is_some())
            .map(|step| step.step.to_string())
            .collect();
        let expected: Vec<String> = step.map(str::to_owned).into_iter().collect();
        assert_eq!(parked, expected, "the parked steps");
        self
    }

    /// Looks at the journal.
    #[must_use]
    #[track_caller]
    pub fn then_journal(self, look: impl FnOnce(&[SagaEvent])) -> Self {
        look(&self.journal);
        self
    }

    /// The events of its journal, as their type names.
    pub fn journal_names(&self) -> Vec<&'static str> {
        use crate::event::Event as _;
        self.journal.iter().map(|event| event.kind().name).collect()
    }

    /// Where it stands.
    pub fn state(&self) -> &SagaState {
        self.instance.state()
    }

    /// The timers that are set.
    pub fn timers(&self) -> Vec<SagaTimer> {
        let outstanding = self.instance.outstanding().into_iter();
        outstanding
            .filter_map(|dispatch| match dispatch {
                Dispatch::Timer(timer) => Some(timer),
                _ => None,
            })
            .collect()
    }

    #[track_caller]
    fn answer(mut self, step: &str, undo: bool, outcome: Outcome) -> Self {
        let step = parse(step);
        let id = self.instance.outstanding().iter().find_map(|d| match d {
            Dispatch::Request { id, role, .. } if names(role) == (&step, undo) => Some(*id),
            _ => None,
        });
        // An answer that nobody waits for is late; its id does not count.
        let id = id.unwrap_or(CommandId::from_u128(0));
        self.tell(SagaInput::Reply {
            step,
            undo,
            id,
            outcome,
        });
        self
    }

    /// What is always taken.
    #[track_caller]
    fn tell(&mut self, input: SagaInput) {
        let taken = self.give(input);
        assert_eq!(taken, Ok(()));
    }

    #[track_caller]
    fn give(&mut self, input: SagaInput) -> Result<(), Rejection> {
        let decision = self
            .instance
            .decide(input, self.now)
            .unwrap_or_else(|error| panic!("{error}"));
        for dispatch in &decision.dispatch {
            if let Dispatch::Request { request, role, .. } = dispatch {
                self.asked.push((role.clone(), request.clone()));
            }
        }
        self.journal.extend(decision.events);
        self.sent.extend(decision.dispatch);
        self.replay();
        decision.answer
    }

    /// The instance that the journal makes has to be the one that made the journal, and what it
    /// sends has to follow from the journal.
    #[track_caller]
    fn replay(&mut self) {
        let stream = self.instance.state().stream().clone();
        let mut replayed = SagaInstance::new(self.saga.clone(), stream);
        let mut sent = Vec::new();
        for event in &self.journal {
            replayed.evolve(event);
            sent.extend(outputs(replayed.state(), event));
        }
        assert_eq!(
            replayed.state(),
            self.instance.state(),
            "replaying the journal gives another state"
        );
        assert_eq!(
            sent, self.sent,
            "replaying the journal sends something else"
        );
    }

    fn take(&mut self, undo: bool) -> Vec<(Role, Undo)> {
        let (taken, kept) = std::mem::take(&mut self.asked)
            .into_iter()
            .partition(|(role, _)| names(role).1 == undo);
        self.asked = kept;
        taken
    }

    #[track_caller]
    fn compare<'a>(
        &self,
        what: &str,
        expected: impl IntoIterator<Item = (&'a str, Request)>,
        actual: &[(Role, Undo)],
    ) {
        let expected: Vec<String> = expected
            .into_iter()
            .map(|(step, request)| format!("{step}: {}", shown(&Undo::Ask(request))))
            .collect();
        let actual: Vec<String> = actual
            .iter()
            .map(|(role, request)| format!("{}: {}", names(role).0, shown(request)))
            .collect();
        assert_same(what, &expected, &actual);
    }

    fn shown_journal(&self) -> String {
        let lines = self.journal.iter().map(|event| format!("  {event:?}\n"));
        lines.collect()
    }
}

fn parse(step: &str) -> StepId {
    step.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn operator() -> Operator {
    Operator {
        who: "a test".to_owned(),
        why: "to see what happens".to_owned(),
    }
}

fn names(role: &Role) -> (&StepId, bool) {
    match role {
        Role::Step(step) | Role::Forward(step) => (step, false),
        Role::Undo { step, .. } => (step, true),
        Role::Plain => panic!("a saga sends no ordinary commands"),
    }
}

fn shown(request: &Undo) -> String {
    match request {
        Undo::Ask(Request::Command(c)) => {
            format!("{} {} {}", c.to, c.name, pretty(c.data.as_str()))
        }
        Undo::Ask(Request::Call(c)) => format!("call {} {}", c.effect, pretty(c.request.as_str())),
        Undo::Ask(Request::Saga(s)) => format!("saga {} {}", s.saga, pretty(s.input.as_str())),
        Undo::AbortSaga(saga) => format!("abort saga {saga}"),
    }
}
