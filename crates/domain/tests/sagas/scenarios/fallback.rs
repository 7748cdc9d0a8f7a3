//! A step that has a fallback: when it is asked for, and what is undone.

use anabranch_domain::saga::{CIRCUIT_OPEN, Definition, Phase, Promise, SagaEvent, Settlement};
use anabranch_domain::testkit::{self, SagaTest, World};
use anabranch_domain::{Json, NoEvent, Rejection, Retry, Saga, Timestamp};

use crate::fixture::*;

/// Books at `first`, or else at `other`; the pivot `pay` too may take `cash`; `ship` may go `by-foot`.
pub struct Booking;

impl Saga for Booking {
    const NAME: &'static str = "booking";
    type Event = NoEvent;
    type Input = Nothing;

    fn define() -> Definition<Nothing> {
        Definition::<Nothing>::new(1)
            .compensatable("book", |book| {
                book.changes("part")
                    .request(|_, cx| do_it("first", cx))
                    .undo(Promise::ALL, |_, cx| undo_it("first", cx))
                    .fallback(|_, cx| do_it("other", cx))
                    .undo_fallback(Promise::ALL, |_, cx| undo_it("other", cx))
                    .timeout(TIMEOUT)
                    .retry(Retry::NEVER)
            })
            .pivot("pay", |pay| {
                pay.after(["book"])
                    .changes("part")
                    .request(|_, cx| do_it("card", cx))
                    .fallback(|_, cx| do_it("cash", cx))
            })
            .retriable("ship", |ship| {
                ship.after(["pay"])
                    .changes("part")
                    .request(|_, cx| match cx.fell_back("pay", 0) {
                        true => do_it("ship-unpaid", cx),
                        false => do_it("ship", cx),
                    })
                    .fallback(|_, cx| do_it("by-foot", cx))
            })
    }
}

fn booking() -> SagaTest {
    testkit::saga::<Booking>("1", &Nothing {}).then_asks([("book", ask("first"))])
}

/// What the saga of the key 1 asks of a part.
fn ask(part: &str) -> anabranch_domain::saga::Request {
    request(part, &PartCommand::Do { saga: "1".into() })
}

fn undo(part: &str) -> anabranch_domain::saga::Request {
    request(part, &PartCommand::Undo { saga: "1".into() })
}

fn request(part: &str, command: &PartCommand) -> anabranch_domain::saga::Request {
    anabranch_domain::saga::Request::to::<Part>(part, command).unwrap()
}

#[test]
fn a_step_that_is_refused_asks_for_its_fallback_instead_and_the_saga_completes() {
    booking()
        .when_refused("book", "full")
        .then_asks([("book", ask("other"))])
        .when_ok("book")
        .then_asks([("pay", ask("card"))])
        .when_ok("pay")
        .then_asks([("ship", ask("ship"))])
        .when_ok("ship")
        .then_journal(|journal| {
            let why = journal.iter().find_map(|event| match event {
                SagaEvent::StepStarted { fallback, .. } => fallback.clone(),
                _ => None,
            });
            assert_eq!(why.as_deref(), Some("full (full)"));
        })
        .then_completed();
}

#[test]
fn what_the_fallback_did_is_undone_by_its_own_compensation_and_nothing_else_is() {
    booking()
        .when_refused("book", "full")
        .then_asks([("book", ask("other"))])
        .when_ok("book")
        .then_asks([("pay", ask("card"))])
        .when_aborted(Some("past-pivot"))
        .when_refused("pay", "declined")
        .then_asks([("pay", ask("cash"))])
        .when_refused("pay", "no-change")
        .then_undoes([("book", undo("other"))])
        .when_undone("book")
        .then_compensated();
}

#[test]
fn a_fallback_that_is_refused_leads_where_the_step_would_have_led_and_is_asked_for_once() {
    booking()
        .when_refused("book", "full")
        .then_asks([("book", ask("other"))])
        .when_refused("book", "full-too")
        .then_asks([])
        .then_undoes([])
        .then_compensated();
}

#[test]
fn a_step_of_which_nobody_knows_is_undone_before_its_fallback_is_asked_for() {
    booking()
        .when_wakes("book")
        .then_asks([])
        .then_undoes([("book", undo("first"))])
        .then_phase(Phase::Running)
        .when_undone("book")
        .then_asks([("book", ask("other"))])
        .when_ok("book")
        .then_asks([("pay", ask("card"))])
        .when_refused("pay", "declined")
        .when_refused("pay", "no-change")
        // The first was undone already; the fallback has not been.
        .then_undoes([("book", undo("other"))])
        .when_undone("book")
        .then_compensated();
}

#[test]
fn a_step_that_is_being_undone_for_its_fallback_goes_back_when_somebody_wants_that() {
    booking()
        .when_wakes("book")
        .then_undoes([("book", undo("first"))])
        .when_aborted(None)
        .when_undone("book")
        .then_asks([])
        .then_compensated();
}

#[test]
fn a_person_who_has_undone_a_step_by_hand_lets_its_fallback_be_asked_for() {
    let test = booking()
        .when_wakes("book")
        .when_undo_refused("book", "gone")
        .then_parked(Some("book"))
        .when_settled("book", Settlement::Undone)
        .then_parked(None)
        .then_asks([("book", ask("other"))])
        .when_ok("book");
    assert_eq!(test.state().phase(), Phase::Running);
}

#[test]
fn an_open_circuit_lets_steps_of_every_kind_fall_back_that_were_not_sent() {
    let open = || Rejection::new(CIRCUIT_OPEN, "not called").for_now();
    booking()
        .when_refused_with("book", open())
        .then_asks([("book", ask("other"))])
        .when_ok("book")
        .then_asks([("pay", ask("card"))])
        .when_refused_with("pay", open())
        .then_asks([("pay", ask("cash"))])
        .when_ok("pay")
        // A later step knows that it was cash.
        .then_asks([("ship", ask("ship-unpaid"))])
        .when_refused_with("ship", open())
        .then_asks([("ship", ask("by-foot"))])
        .when_ok("ship")
        .then_completed();
}

#[test]
fn an_open_circuit_lets_no_step_fall_back_that_may_have_taken_effect() {
    let open = || Rejection::new(CIRCUIT_OPEN, "not called").for_now();
    let test = booking()
        .when_ok("book")
        .then_asks([("pay", ask("card"))])
        .when_wakes("pay")
        .then_asks([("pay", ask("card"))])
        .when_refused_with("pay", open())
        .then_asks([]);
    assert_eq!(test.state().phase(), Phase::Running);
}

#[test]
fn a_step_after_the_pivot_that_is_refused_falls_back_before_a_person_is_asked() {
    let test = booking()
        .when_ok("book")
        .when_ok("pay")
        .then_asks([("pay", ask("card")), ("ship", ask("ship"))])
        .when_refused("ship", "closed")
        .then_parked(None)
        .then_asks([("ship", ask("by-foot"))])
        .when_refused("ship", "closed")
        .then_parked(Some("ship"));
    assert_eq!(test.state().phase(), Phase::Running);
}

#[test]
fn a_timer_that_was_set_for_the_request_does_not_end_the_time_of_the_fallback() {
    let test = booking();
    let mut stale = test.timers().remove(0);
    // A moment before the one that the fallback has set.
    stale.at = Timestamp::from_micros(stale.at.micros() - 1);
    let test = test
        .when_refused("book", "full")
        .then_asks([("book", ask("other"))])
        .when_timer(stale)
        .then_phase(Phase::Running)
        .then_undoes([])
        .when_done("book", Json::null());
    assert_eq!(test.state().phase(), Phase::Running);
}

#[test]
fn the_fallback_has_an_id_of_its_own_and_so_has_its_compensation() {
    let ids = |journal: &[SagaEvent]| {
        let ids = journal.iter().filter_map(|event| match event {
            SagaEvent::StepStarted { command, .. } | SagaEvent::CompStarted { command, .. } => {
                *command
            }
            _ => None,
        });
        let ids: Vec<_> = ids.collect();
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!((ids.len(), distinct.len()), (4, 4), "{ids:?}");
    };
    booking()
        .when_wakes("book")
        .when_undone("book")
        .when_aborted(None)
        .then_undoes([("book", undo("first")), ("book", undo("other"))])
        .then_journal(ids)
        .when_undone("book")
        .then_compensated();
}

#[test]
fn what_runs_says_that_it_is_a_fallback_and_why() {
    let state = serde_json::to_value(
        booking()
            .when_refused("book", "full")
            .state()
            .describe()
            .next()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(state["fallback"], "full (full)");
    assert_eq!(state["asked"], "Do to part/other");
}

/// A request that nobody could answer in time arrives late, and is undone; never both.
#[test]
fn whatever_is_lost_the_request_and_its_fallback_never_both_take_effect() {
    for (lost, undos, phase) in [
        (0, 0, Phase::Completed),
        (1, 1, Phase::Completed),
        (1, 5, Phase::Completed),
        // The fallback is lost as well.
        (2, 3, Phase::Compensated),
    ] {
        let mut world = World::new(lost).with(parts()).with(sagas());
        world.drop_next(lost as u32, |m| m.asks("Do"));
        world.drop_next(undos, |m| m.asks("Undo"));
        let saga = world.start_saga::<Booking>("1", &Nothing {});
        world.run_to_end();
        assert_eq!(world.saga(&saga).phase(), phase, "{lost} lost");
        let net = |part| {
            let (done, undone) = done_and_undone(&world, part, &saga);
            done as i64 - undone as i64
        };
        let taken = i64::from(phase == Phase::Completed);
        assert_eq!(net("first") + net("other"), taken, "{lost} lost");
        assert!(net("first") >= 0 && net("other") >= 0, "{lost} lost");
    }
}
