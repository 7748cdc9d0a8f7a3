//! What the journals of processes and sagas hold reads back as it was written, and nothing that
//! somebody else has written makes their readers panic: over values drawn at random.

use anabranch_domain::process::{
    ConsumedEvent, Planned, ProcessEvent, ProcessInstance, ProcessType, Received,
};
use anabranch_domain::saga::{
    BRANCHES_MAX, DefinitionHash, Operator, Parent, Request, SagaEvent, SagaState, StepDeclared,
    StepId, StepKind, Undo,
};
use anabranch_domain::{
    Asked, Call, CallEnvelope, CommandEnvelope, CommandId, Correlate, Cut, Decide, Decided, Entity,
    EntityInstance, Event, EventRef, Input, Json, Origin, Outcome, Process, Reaction, Rejection,
    ReplyEnvelope, Role, Source, StreamId, Timer, Timestamp,
};
use anabranch_model::{EventId, PartitionId, Position};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

fn ids() -> impl Strategy<Value = CommandId> {
    any::<u128>().prop_map(|id| CommandId::derived(id, &[]))
}

fn streams() -> impl Strategy<Value = StreamId> {
    "[a-cß]{1,3}/[a-c0-9 ]{1,4}".prop_map(|name| StreamId::new(name).unwrap())
}

fn jsons() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::null()),
        any::<f64>().prop_map(|n| Json::of(&n).unwrap()),
        any::<u64>().prop_map(|n| Json::of(&n).unwrap()),
        ".{0,8}".prop_map(|text| Json::of(&text).unwrap()),
        Just(Json::new(r#"{"b" : 1.50,"a":[ ]}"#).unwrap()),
    ]
}

fn times() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000u64).prop_map(Timestamp::from_seconds)
}

fn cuts() -> impl Strategy<Value = Cut> {
    prop::collection::btree_map(any::<u32>(), 1..=u64::MAX, 0..3).prop_map(|counts| {
        let mut cut = Cut::start();
        for (partition, count) in counts {
            cut.set(PartitionId(partition), count);
        }
        cut
    })
}

fn steps() -> impl Strategy<Value = StepId> {
    ("[a-c]{1,4}", any::<u32>()).prop_map(|(name, branch)| StepId::new(name, branch))
}

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Plain),
        steps().prop_map(Role::Step),
        steps().prop_map(Role::Forward),
        (steps(), ids()).prop_map(|(step, of)| Role::Undo { step, of }),
    ]
}

fn refusals() -> impl Strategy<Value = Rejection> {
    ("[a-c-]{1,5}", ".{0,8}", jsons(), any::<bool>()).prop_map(|(code, message, data, now)| {
        let rejection = Rejection::new(code, message).with_data(data);
        if now { rejection.for_now() } else { rejection }
    })
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        jsons().prop_map(Outcome::Done),
        refusals().prop_map(Outcome::Refused),
        ".{0,8}".prop_map(Outcome::Unavailable),
        ".{0,8}".prop_map(Outcome::Unknown),
    ]
}

prop_compose! {
    fn commands()(
        id in ids(),
        to in streams(),
        data in jsons(),
        role in roles(),
        reply_to in prop::option::of(streams()),
        correlation_id in prop::option::of(".{0,8}"),
        traceparent in prop::option::of(".{0,8}"),
        causes in cuts(),
    ) -> CommandEnvelope {
        let name = "Add".to_owned();
        CommandEnvelope { id, to, name, data, role, reply_to, correlation_id, traceparent, causes }
    }
}

prop_compose! {
    fn origins()(
        event in prop::option::of(any::<u128>()),
        correlation_id in prop::option::of(".{0,8}"),
        traceparent in prop::option::of(".{0,8}"),
    ) -> Origin {
        Origin { event: event.map(EventId::from_u128), correlation_id, traceparent }
    }
}

fn calls() -> impl Strategy<Value = Call> {
    ("[a-c]{1,3}", jsons()).prop_map(|(effect, request)| Call { effect, request })
}

fn timers() -> impl Strategy<Value = Timer> {
    (".{0,5}", times(), jsons()).prop_map(|(name, at, data)| Timer { name, at, data })
}

prop_compose! {
    fn consumed()(
        id in any::<u128>(),
        stream in streams(),
        version in any::<u64>(),
        position in any::<u64>(),
        recorded_at in times(),
        name in ".{1,5}",
        schema_version in any::<u32>(),
        data in jsons(),
        closure in cuts(),
        origin in origins(),
    ) -> ConsumedEvent {
        let (id, position) = (EventId::from_u128(id), Position::at(position));
        let source = Source { id, stream, version, position, recorded_at };
        ConsumedEvent { source, name, schema_version, data, closure, origin }
    }
}

prop_compose! {
    fn replies()(
        to in streams(),
        from in streams(),
        id in ids(),
        role in roles(),
        outcome in outcomes(),
        causes in cuts(),
    ) -> ReplyEnvelope {
        ReplyEnvelope { to, from, id, name: "Add".to_owned(), role, outcome, causes }
    }
}

fn of_process() -> impl Strategy<Value = ProcessEvent> {
    let inputs = prop_oneof![
        consumed().prop_map(Received::Event),
        timers().prop_map(Received::Timer),
        replies().prop_map(Received::Reply),
    ];
    let plans = prop_oneof![
        commands().prop_map(Planned::Command),
        (ids(), calls(), streams(), origins()).prop_map(|(key, call, reply_to, origin)| {
            Planned::Call(CallEnvelope {
                key,
                call,
                reply_to,
                correlation_id: origin.correlation_id,
                traceparent: origin.traceparent,
            })
        }),
        timers().prop_map(Planned::Timer),
        ".{0,5}".prop_map(|timer| Planned::Cancel { timer }),
        Just(Planned::Complete),
    ];
    let settled = || prop::collection::vec(ids(), 0..3);
    prop_oneof![
        (
            inputs,
            prop::collection::vec(plans, 0..3),
            settled(),
            times()
        )
            .prop_map(|(input, actions, settled, at)| ProcessEvent::Received {
                input,
                actions,
                settled,
                at
            }),
        settled().prop_map(|settled| ProcessEvent::Settled { settled }),
        settled().prop_map(|settled| ProcessEvent::Ended { settled }),
        consumed().prop_map(|event| ProcessEvent::Held { event }),
    ]
}

fn parents() -> impl Strategy<Value = Parent> {
    (streams(), ids(), roles()).prop_map(|(stream, command, role)| Parent {
        stream,
        command,
        role,
    })
}

fn people() -> impl Strategy<Value = Operator> {
    (".{0,5}", ".{0,5}").prop_map(|(who, why)| Operator { who, why })
}

fn started() -> impl Strategy<Value = SagaEvent> {
    let kinds = prop_oneof![
        Just(StepKind::Compensatable),
        Just(StepKind::Pivot),
        Just(StepKind::Retriable),
    ];
    let declared =
        ("[a-c]{1,4}", kinds, 0u32..40).prop_map(|(name, kind, branches)| StepDeclared {
            name,
            kind,
            branches,
        });
    let hash = any::<u128>().prop_map(|n| DefinitionHash::try_from(format!("{n:032x}")).unwrap());
    (
        ids(),
        hash,
        prop::collection::vec(declared, 0..3),
        jsons(),
        prop::option::of(parents()),
        origins(),
        times(),
    )
        .prop_map(|(id, definition, steps, input, parent, origin, at)| {
            SagaEvent::SagaStarted {
                id,
                definition,
                steps,
                input,
                parent,
                origin,
                at,
            }
        })
}

fn of_saga() -> impl Strategy<Value = SagaEvent> {
    let asks = || calls().prop_map(Request::Call);
    let undo = prop_oneof![
        asks().prop_map(Undo::Ask),
        streams().prop_map(Undo::AbortSaga),
    ];
    let by = || prop::option::of(people());
    let wakes = || prop::option::of(times());
    let sent = || prop::option::of(ids());
    prop_oneof![
        started(),
        (
            (steps(), asks(), wakes(), wakes(), sent()),
            prop::option::of(".{0,5}")
        )
            .prop_map(|((step, request, wake, deadline, command), fallback)| {
                SagaEvent::StepStarted {
                    step,
                    request,
                    wake,
                    deadline,
                    command,
                    fallback,
                }
            }),
        (steps(), any::<u32>(), wakes(), sent()).prop_map(|(step, attempt, wake, command)| {
            SagaEvent::StepRetried {
                step,
                attempt,
                wake,
                command,
            }
        }),
        (steps(), any::<bool>(), ".{0,5}").prop_map(|(step, undo, why)| SagaEvent::AttemptFailed {
            step,
            undo,
            why
        }),
        (steps(), jsons(), by()).prop_map(|(step, result, by)| SagaEvent::StepOk {
            step,
            result,
            by
        }),
        (steps(), refusals(), by()).prop_map(|(step, why, by)| SagaEvent::StepRefused {
            step,
            why,
            by
        }),
        steps().prop_map(|step| SagaEvent::StepTimedOut { step }),
        (steps(), ".{0,5}").prop_map(|(step, why)| SagaEvent::StepUnknown { step, why }),
        (".{0,5}", prop::option::of(parents()))
            .prop_map(|(why, by)| SagaEvent::AbortRequested { why, by }),
        (steps(), undo, wakes(), sent()).prop_map(|(step, request, wake, command)| {
            SagaEvent::CompStarted {
                step,
                request,
                wake,
                command,
            }
        }),
        (steps(), by()).prop_map(|(step, by)| SagaEvent::CompOk { step, by }),
        (steps(), any::<bool>(), outcomes()).prop_map(|(step, undo, outcome)| {
            SagaEvent::LateReply {
                step,
                undo,
                outcome,
            }
        }),
        (steps(), ".{0,5}", any::<bool>()).prop_map(|(step, why, going_on)| SagaEvent::Parked {
            step,
            why,
            going_on
        }),
        (steps(), people()).prop_map(|(step, by)| SagaEvent::Resumed { step, by }),
        (ids(), any::<u64>(), prop::option::of(refusals())).prop_map(|(id, content, refused)| {
            SagaEvent::OperatorAsked {
                id,
                content,
                refused,
            }
        }),
        Just(SagaEvent::SagaCompleted),
        Just(SagaEvent::SagaCompensated),
    ]
}

fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let written = serde_json::to_string(value).unwrap();
    serde_json::from_str(&written).unwrap_or_else(|error| panic!("{written}: {error}"))
}

/// A text that was written, with a piece of it cut out and another one put in.
fn spoilt(text: &str, at: usize, cut: usize, put: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = at % (chars.len() + 1);
    let rest = chars[at..].iter().skip(cut);
    chars[..at]
        .iter()
        .copied()
        .chain(put.chars())
        .chain(rest.copied())
        .collect()
}

/// What a process hears.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
enum Heard {
    Counted(serde_json::Value),
}

/// Keeps what it hears.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counting {
    heard: u64,
}

impl Process for Counting {
    const NAME: &'static str = "counting";
    const CATEGORIES: &'static [&'static str] = &["a"];
    type Event = Heard;

    fn correlate(_: &Heard, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.key().to_owned())
    }

    fn decide(&self, _: &Input<Heard>, _: &Decide) -> Reaction {
        Reaction::none()
    }

    fn evolve(&mut self, _: &Input<Heard>) {
        self.heard += 1;
    }
}

/// Adds up; refuses what is below nothing, and records nothing for nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    sum: i128,
}

#[derive(Debug, Serialize, Deserialize)]
enum SumCommand {
    Add { n: i64 },
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
enum SumEvent {
    Added { n: i64 },
}

impl Entity for Sum {
    const CATEGORY: &'static str = "sum";
    type Command = SumCommand;
    type Event = SumEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &SumCommand, _: &Decide) -> Result<Vec<SumEvent>, Rejection> {
        match command {
            SumCommand::Add { n: ..0 } => Err(Rejection::new("below", "below nothing")),
            SumCommand::Add { n } if n % 3 == 0 => Ok(Vec::new()),
            SumCommand::Add { n } => Ok(vec![SumEvent::Added { n: *n }]),
        }
    }

    fn evolve(&mut self, SumEvent::Added { n }: &SumEvent) {
        self.sum += i128::from(*n);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_of_a_process_reads_back_as_it_was_written(event in of_process()) {
        prop_assert_eq!(again(&event), event);
    }

    #[test]
    fn the_journal_of_a_saga_reads_back_as_it_was_written(event in of_saga()) {
        prop_assert_eq!(again(&event), event);
    }

    /// What a journal makes is what a snapshot of it gives back, whatever order the events have.
    #[test]
    fn any_journal_of_a_saga_makes_a_state_that_a_snapshot_keeps(
        journal in prop::collection::vec(of_saga(), 0..12)
    ) {
        let state = SagaState::of_journal(StreamId::of("transfer", "1").unwrap(), &journal);
        prop_assert_eq!(again(&state), state);
    }

    #[test]
    fn any_journal_of_a_process_makes_an_instance_that_a_snapshot_keeps(
        journal in prop::collection::vec(of_process(), 0..12)
    ) {
        let process = ProcessType::<Counting>::new().unwrap();
        let mut instance = ProcessInstance::<Counting>::new(StreamId::of("counting", "1").unwrap());
        for event in &journal {
            // An event that it cannot read changes nothing.
            let before = instance.clone();
            if instance.evolve(&process, event).is_err() {
                prop_assert_eq!(&instance, &before);
            }
        }
        let kept = again(&instance);
        prop_assert_eq!(kept.outstanding(), instance.outstanding());
        prop_assert_eq!(kept, instance);
    }

    #[test]
    fn whatever_an_entity_has_recorded_a_snapshot_keeps_it_and_what_it_remembers(
        commands in prop::collection::vec((commands(), any::<i64>()), 0..12)
    ) {
        let mut entity = EntityInstance::<Sum>::default();
        for (command, n) in &commands {
            let asked = Asked {
                id: command.id,
                role: &command.role,
                reply_to: command.reply_to.as_ref(),
            };
            let stream = StreamId::of("sum", "1").unwrap();
            let command = SumCommand::Add { n: *n };
            match entity.decide(&stream, asked, &command, Timestamp::from_seconds(9)) {
                Decided::Events(events) => entity.apply(asked, &events),
                Decided::Note(note, _) => entity.apply_note(&note),
                Decided::Nothing(_) | Decided::Repeat(_) => {}
            }
        }
        prop_assert_eq!(again(&entity), entity);
    }

    /// Memory is taken for each branch: a number that nobody can have written takes none.
    #[test]
    fn more_branches_than_can_be_are_refused_before_memory_is_taken(
        branches in prop::collection::vec(any::<u32>(), 1..4)
    ) {
        let total: u64 = branches.iter().map(|&n| u64::from(n)).sum();
        let steps = branches.iter().map(|&branches| StepDeclared {
            name: "a".to_owned(),
            kind: StepKind::Pivot,
            branches,
        });
        let event = SagaEvent::SagaStarted {
            id: CommandId::derived(1, &[]),
            definition: DefinitionHash::try_from(format!("{:032x}", 1)).unwrap(),
            steps: steps.collect(),
            input: Json::null(),
            parent: None,
            origin: Origin::default(),
            at: Timestamp::from_seconds(0),
        };
        let read = serde_json::from_str::<SagaEvent>(&serde_json::to_string(&event).unwrap());
        prop_assert_eq!(read.is_ok(), total <= BRANCHES_MAX as u64);
    }

    #[test]
    fn a_spoilt_journal_is_refused_or_read_and_never_panics(
        process in of_process(),
        saga in of_saga(),
        at in any::<usize>(),
        cut in 0usize..8,
        put in r#"[{}\[\]",:0-9a-z\\]{0,5}"#,
    ) {
        let text = spoilt(&serde_json::to_string(&process).unwrap(), at, cut, &put);
        drop(serde_json::from_str::<ProcessEvent>(&text));
        let text = spoilt(&serde_json::to_string(&saga).unwrap(), at, cut, &put);
        if let Ok(event) = serde_json::from_str::<SagaEvent>(&text) {
            SagaState::new(StreamId::of("transfer", "1").unwrap()).evolve(&event);
        }
    }
}
