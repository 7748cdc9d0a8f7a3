//! What is wrong with a saga's definition is said when it is registered.

use std::time::Duration;

use anabranch_domain::saga::{
    BRANCHES_MAX, Definition, Promise, Request, SagaType, StepBuilder, StepContext,
};
use anabranch_domain::{HandleError, Json, NoEvent, Saga};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Input {}

#[derive(Serialize, Deserialize)]
enum Anything {
    Do,
}

fn ask(_: &Input, cx: &StepContext<'_>) -> Result<Request, HandleError> {
    Request::to_category("part", cx.key(), &Anything::Do)
}

type Step = StepBuilder<Input>;
type Define = fn() -> Definition<Input>;

fn undoable(step: Step) -> Step {
    forward(step).undo(Promise::ALL, ask)
}

fn forward(step: Step) -> Step {
    step.changes("part").commutes().request(ask)
}

/// Registers a saga with these steps; gives what is wrong with it.
fn faults(define: Define) -> Vec<String> {
    std::thread_local! {
        static DEFINE: std::cell::Cell<Option<Define>> =
            const { std::cell::Cell::new(None) };
    }
    struct Tried;
    impl Saga for Tried {
        const NAME: &'static str = "tried";
        type Event = NoEvent;
        type Input = Input;
        fn define() -> Definition<Input> {
            DEFINE
                .get()
                .map_or_else(|| Definition::new(1), |define| define())
        }
    }
    DEFINE.set(Some(define));
    match SagaType::of::<Tried>() {
        Ok(_) => Vec::new(),
        Err(error) => {
            let text = error.to_string();
            let lines = text.lines().map(str::to_owned);
            let mut lines: Vec<String> = lines.collect();
            assert_eq!(lines.remove(0), "saga tried cannot be registered:");
            lines
                .iter()
                .map(|line| line.trim_start_matches("  - ").to_owned())
                .collect()
        }
    }
}

fn new() -> Definition<Input> {
    Definition::new(1)
}

#[test]
fn a_well_formed_saga_is_registered() {
    let define = || {
        new()
            .compensatable("reserve", undoable)
            .pivot("pay", |s| forward(s).after(["reserve"]))
            .retriable("ship", |s| forward(s).after(["pay"]))
    };
    assert_eq!(faults(define), Vec::<String>::new());
}

/// Each definition has one fault, and this is said about it.
const FAULTS: [(Define, &str); 22] = [
    (new, "it has no steps"),
    (
        || {
            new()
                .compensatable("a", undoable)
                .compensatable("a", undoable)
        },
        "two steps are named a; give each its own name",
    ),
    (
        || new().compensatable("a/b", undoable),
        "the step name \"a/b\" is empty or holds a '/'; choose another",
    ),
    (
        || new().compensatable("a", |s| undoable(s).after(["x"])),
        "step a waits for x, which does not exist",
    ),
    (
        || {
            new()
                .compensatable("a", |s| undoable(s).after(["c"]))
                .compensatable("b", |s| undoable(s).after(["a"]))
                .compensatable("c", |s| undoable(s).after(["b"]))
        },
        "steps wait for each other: a → c → b → a; remove one of the `after`",
    ),
    (
        || {
            new()
                .pivot("a", forward)
                .pivot("b", |s| forward(s).after(["a"]))
        },
        "steps a and b are both pivots; a saga has at most one point of no return",
    ),
    (
        || new().pivot("a", |s| forward(s).for_each(|_| 2)),
        "the pivot a has branches; a point of no return is one request",
    ),
    (
        || {
            new()
                .pivot("pay", forward)
                .compensatable("late", |s| undoable(s).after(["pay"]))
        },
        "step late can be undone, but the pivot pay does not wait for it; add late to the pivot's `after`, or make it retriable",
    ),
    (
        || new().pivot("pay", forward).retriable("mail", forward),
        "step mail cannot be undone and does not wait for the pivot pay; let it wait for the pivot, or make it compensatable",
    ),
    (
        || {
            new()
                .compensatable("a", undoable)
                .retriable("b", |s| forward(s).after(["a"]))
        },
        "step a can be undone and step b cannot, but there is no pivot between them; name the point of no return",
    ),
    (
        || new().retriable("a", |s| s.changes("part")),
        "step a asks for nothing; add `.request(…)`",
    ),
    (
        || new().compensatable("a", forward),
        "step a is compensatable but has no compensation; add `.undo(Promise::ALL, …)`",
    ),
    (
        || new().retriable("a", undoable),
        "step a is never undone, but has a compensation; remove `.undo(…)`, or make it compensatable",
    ),
    (
        || {
            new().compensatable("a", |s| {
                forward(s).undo([Promise::Idempotent, Promise::CommutesWithLateRequest], ask)
            })
        },
        "the compensation of step a does not promise CannotFail; make it so, then say so",
    ),
    (
        || new().compensatable("a", |s| undoable(s).fallback(ask)),
        "step a can be undone, but nobody says how its fallback is; add `.undo_fallback(Promise::ALL, …)`",
    ),
    (
        || {
            new().pivot("a", |s| {
                forward(s).fallback(ask).undo_fallback(Promise::ALL, ask)
            })
        },
        "the fallback of step a is never undone, but has a compensation; remove `.undo_fallback(…)`, or add `.fallback(…)` to a step that can be undone",
    ),
    (
        || {
            new().compensatable("a", |s| {
                undoable(s)
                    .fallback(ask)
                    .undo_fallback([Promise::CannotFail, Promise::Idempotent], ask)
            })
        },
        "the compensation of step a does not promise CommutesWithLateRequest; make it so, then say so",
    ),
    (
        || new().pivot("a", |s| forward(s).timeout(Duration::from_secs(1))),
        "step a has a time-out, but from the pivot on a saga cannot be aborted; remove `.timeout(…)`",
    ),
    (
        || new().retriable("a", |s| forward(s).at_most_once()),
        "step a is retriable and at most once; only one of the two can be",
    ),
    (
        || new().pivot("a", |s| forward(s).at_most_once()),
        "step a is sent at most once, and waits for ever if the request is lost; add `.timeout(…)`",
    ),
    (
        || new().retriable("a", |s| s.request(ask)),
        "step a does not say what it changes; add `.changes(\"category\")`",
    ),
    (
        || new().retriable("a", |s| forward(s).at_once(0)),
        "step a may have no branch under way; `.at_once(…)` is at least 1",
    ),
];

#[test]
fn each_fault_is_named_with_what_to_do() {
    for (define, fault) in FAULTS {
        assert_eq!(faults(define), [fault]);
    }
}

#[test]
fn steps_that_change_the_same_at_the_same_time_have_to_say_why_that_is_right() {
    assert_eq!(
        faults(|| new()
            .compensatable("a", |s| s
                .changes("part")
                .request(ask)
                .undo(Promise::ALL, ask))
            .compensatable("b", |s| s
                .changes("part")
                .request(ask)
                .undo(Promise::ALL, ask))),
        [
            "steps a and b may change part at the same time; order them with `after`, or declare both `.commutes()` or both `.disjoint()`"
        ]
    );
    assert_eq!(
        faults(|| new().compensatable("a", |s| s
            .changes("part")
            .for_each(|_| 2)
            .request(ask)
            .undo(Promise::ALL, ask))),
        [
            "the branches of step a change the same category at the same time; declare `.commutes()` or `.disjoint()`"
        ]
    );
    let ordered = || {
        new()
            .compensatable("a", |s| {
                s.changes("part").request(ask).undo(Promise::ALL, ask)
            })
            .compensatable("b", |s| {
                s.after(["a"])
                    .changes("part")
                    .request(ask)
                    .undo(Promise::ALL, ask)
            })
    };
    assert_eq!(faults(ordered), Vec::<String>::new());
}

#[test]
fn every_fault_is_named_at_once() {
    let define = || {
        new()
            .compensatable("a", forward)
            .pivot("pay", |s| s.changes("x"))
    };
    assert_eq!(faults(define).len(), 3);
    // Also of steps that wait for each other.
    let in_a_circle = || {
        new()
            .compensatable("a", |s| forward(s).after(["b"]))
            .compensatable("b", |s| s.after(["a"]))
    };
    // The circle; of a one fault; of b three.
    assert_eq!(faults(in_a_circle).len(), 5, "{:?}", faults(in_a_circle));
}

#[test]
fn branches_that_are_declared_disjoint_but_meet_go_back() {
    struct Meeting;
    impl Saga for Meeting {
        const NAME: &'static str = "meeting";
        type Event = NoEvent;
        type Input = Input;
        fn define() -> Definition<Input> {
            new().compensatable("a", |s| {
                s.changes("part")
                    .for_each(|_| 2)
                    .disjoint()
                    .request(ask)
                    .undo(Promise::ALL, ask)
            })
        }
    }
    let test = anabranch_domain::testkit::saga::<Meeting>("1", &Input {});
    let _ = test
        .then_undoes([("a", ask_now())])
        .when_undone("a")
        .then_compensated()
        .then_journal(|journal| {
            let text = format!("{journal:?}");
            assert!(
                text.contains("step a/1 changes part/1 at the same time as another step"),
                "{text}"
            );
        });
}

#[test]
fn a_fallback_that_meets_another_step_though_both_are_disjoint_is_not_asked_for() {
    struct Meeting;
    impl Saga for Meeting {
        const NAME: &'static str = "meeting";
        type Event = NoEvent;
        type Input = Input;
        fn define() -> Definition<Input> {
            let branch = |_: &Input, cx: &StepContext<'_>| {
                Request::to_category("part", cx.branch().to_string(), &Anything::Do)
            };
            new().compensatable("a", move |s| {
                s.changes("part")
                    .for_each(|_| 2)
                    .disjoint()
                    .request(branch)
                    .undo(Promise::ALL, branch)
                    .fallback(ask)
                    .undo_fallback(Promise::ALL, ask)
            })
        }
    }
    let test = anabranch_domain::testkit::saga::<Meeting>("1", &Input {});
    let _ = test
        .when_refused("a", "full")
        .when_undone("a/1")
        .then_compensated()
        .then_journal(|journal| {
            let text = format!("{journal:?}");
            assert!(
                text.contains("its fallback changes part/1 at the same time as another step"),
                "{text}"
            );
        });
}

fn ask_now() -> Request {
    match Request::to_category("part", "1", &Anything::Do) {
        Ok(request) => request,
        Err(error) => panic!("{error}"),
    }
}

/// Each takes memory from the start, so what counts is how many there are together.
#[test]
fn a_saga_whose_steps_have_too_many_branches_together_is_not_begun() {
    struct Wide;
    impl Saga for Wide {
        const NAME: &'static str = "wide";
        type Event = NoEvent;
        type Input = usize;
        fn define() -> Definition<usize> {
            let ask = |_: &usize, cx: &StepContext<'_>| {
                Request::to_category("part", cx.key(), &Anything::Do)
            };
            let step = move |step: StepBuilder<usize>| {
                let step = step.changes("part").commutes().for_each(|&count| count);
                step.request(ask)
            };
            Definition::new(1)
                .retriable("one", step)
                .retriable("two", step)
        }
    }
    let saga = SagaType::of::<Wide>().unwrap();
    let half = BRANCHES_MAX / 2;
    assert!(saga.plan(&Json::of(&half).unwrap()).is_ok());
    let error = saga.plan(&Json::of(&(half + 1)).unwrap()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "with step two, saga wide has 1048578 branches; at most 1048576 can be"
    );
    assert!(saga.plan(&Json::of(&usize::MAX).unwrap()).is_err());
}
