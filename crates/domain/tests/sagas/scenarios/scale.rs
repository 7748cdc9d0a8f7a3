//! Long journals and many branches.

use std::sync::Arc;

use anabranch_domain::saga::{
    Definition, Dispatch, Phase, Promise, SagaInput, SagaInstance, SagaState, SagaType, StepId,
};
use anabranch_domain::testkit::START;
use anabranch_domain::{CommandId, Json, NoEvent, Outcome, Saga, StreamId};

use crate::fixture::*;

/// A step that has to be tried for ever.
struct Stubborn;

impl Saga for Stubborn {
    const NAME: &'static str = "stubborn";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1).retriable("try", |step| {
            step.changes("part")
                .request(|_, cx| do_it("x", cx))
                .retry(RETRY)
        })
    }
}

/// A step with as many branches as the input says.
struct Wide;

impl Saga for Wide {
    const NAME: &'static str = "wide";
    type Event = NoEvent;
    type Input = Branches;

    fn define() -> Definition<Branches> {
        Definition::<Branches>::new(1).compensatable("reserve", |reserve| {
            reserve
                .for_each(|input: &Branches| input.count)
                .commutes()
                .at_once(100)
                .changes("part")
                .request(|_, cx| do_it("x", cx))
                .undo(Promise::ALL, |_, cx| undo_it("x", cx))
        })
    }
}

fn start<S: Saga>(input: &S::Input) -> (Arc<SagaType>, SagaInstance, Vec<Dispatch>) {
    let saga = Arc::new(SagaType::of::<S>().unwrap());
    let stream = StreamId::of(S::NAME, "1").unwrap();
    let mut instance = SagaInstance::new(saga.clone(), stream);
    let input = SagaInput::Start {
        id: CommandId::from_u128(1),
        input: Json::of(input).unwrap(),
        parent: None,
        origin: Default::default(),
    };
    let decision = instance.decide(input, START).unwrap();
    (saga, instance, decision.dispatch)
}

fn snapshot(instance: &SagaInstance) -> String {
    serde_json::to_string(instance.state()).unwrap()
}

#[test]
fn scenario_28_a_journal_of_a_million_events_needs_no_more_memory_than_a_short_one() {
    const EVENTS: u64 = 1_000_000;
    let (saga, mut instance, dispatch) = start::<Stubborn>(&Nothing {});
    let timer = |dispatch: &[Dispatch]| {
        dispatch.iter().find_map(|d| match d {
            Dispatch::Timer(timer) => Some(timer.clone()),
            _ => None,
        })
    };
    let mut next = timer(&dispatch).unwrap();
    let mut largest = 0;
    let mut recovered: Option<SagaInstance> = None;
    while instance.state().length() < EVENTS {
        let now = next.at;
        let decision = instance.decide(SagaInput::Wake(next), now).unwrap();
        next = timer(&decision.dispatch).unwrap();
        if instance.state().length() % 100_000 == 0 {
            largest = largest.max(snapshot(&instance).len());
        }
        // From a snapshot shortly before the end, and the tail, another node makes the same.
        if instance.state().length() == EVENTS - 1000 {
            let state: SagaState = serde_json::from_str(&snapshot(&instance)).unwrap();
            recovered = Some(SagaInstance::restore(saga.clone(), state));
        } else if let Some(recovered) = &mut recovered {
            for event in &decision.events {
                recovered.evolve(event);
            }
        }
    }
    assert!(largest < 2000, "a snapshot has {largest} bytes");
    assert_eq!(recovered.unwrap().state(), instance.state());
}

#[test]
fn scenario_28_of_many_branches_only_so_many_are_under_way() {
    const BRANCHES: u32 = 20_000;
    let count = BRANCHES as usize;
    let (_, mut instance, dispatch) = start::<Wide>(&Branches { count });
    let requests = |d: &[Dispatch]| {
        let requests = d.iter().filter(|d| matches!(d, Dispatch::Request { .. }));
        requests.count()
    };
    assert_eq!(requests(&dispatch), 100);
    for branch in 0..BRANCHES {
        let decision = instance
            .decide(
                SagaInput::Reply {
                    step: StepId::new("reserve", branch),
                    undo: false,
                    id: CommandId::from_u128(0),
                    outcome: Outcome::Done(Json::null()),
                },
                START,
            )
            .unwrap();
        assert!(requests(&decision.dispatch) <= 1);
    }
    assert_eq!(instance.state().phase(), Phase::Completed);
}
