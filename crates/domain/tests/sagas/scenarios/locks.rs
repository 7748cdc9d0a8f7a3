//! Several sagas over the same entities.

use std::time::Duration;

use anabranch_domain::saga::{Definition, Phase, Promise, Request, Rules};
use anabranch_domain::testkit::{CrashPoint, Service, World};
use anabranch_domain::{
    Decide, Entity, Event, NoEvent, Rejection, Saga, SemanticLock, StreamId, WhenLocked,
};
use serde::{Deserialize, Serialize};

use crate::ensure;
use crate::fixture::{RETRY, Verdict, holds};

/// A seat that a saga holds until it knows what becomes of it.
#[derive(Default, Serialize, Deserialize)]
struct Seat {
    lock: SemanticLock,
    when_locked: When,
    sold: bool,
    free: i64,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
enum When {
    #[default]
    Reject,
    Wait,
    /// Others go on with the value as if the change had been made: the pessimistic one.
    Pessimistic,
}

#[derive(Serialize, Deserialize)]
enum SeatCommand {
    Set { when: When, free: i64 },
    Hold,
    Sell,
    GiveBack,
}

#[derive(Serialize, Deserialize, Event)]
enum SeatEvent {
    WasSet { when: When, free: i64 },
    Held { by: StreamId },
    Sold,
    GivenBack,
}

impl Entity for Seat {
    const CATEGORY: &'static str = "seat";
    type Command = SeatCommand;
    type Event = SeatEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &SeatCommand, cx: &Decide) -> Result<Vec<SeatEvent>, Rejection> {
        let sender = cx.sender();
        let nobody = || Rejection::new("nobody", "only a saga can hold a seat");
        Ok(vec![match command {
            SeatCommand::Set { when, free } => SeatEvent::WasSet {
                when: *when,
                free: *free,
            },
            SeatCommand::Hold => {
                match self.when_locked {
                    When::Reject => self.lock.check(sender, WhenLocked::Reject)?,
                    When::Wait => self.lock.check(sender, WhenLocked::Wait)?,
                    // What is held counts as sold already.
                    When::Pessimistic => {}
                }
                if self.free == 0 {
                    return Err(Rejection::new("full", "no seat is free"));
                }
                SeatEvent::Held {
                    by: sender.ok_or_else(nobody)?.clone(),
                }
            }
            SeatCommand::Sell => SeatEvent::Sold,
            SeatCommand::GiveBack => SeatEvent::GivenBack,
        }])
    }

    fn evolve(&mut self, event: &SeatEvent) {
        match event {
            SeatEvent::WasSet { when, free } => {
                self.when_locked = *when;
                self.free = *free;
            }
            SeatEvent::Held { by } => {
                self.lock.hold(by.clone());
                self.free -= 1;
            }
            SeatEvent::Sold => {
                self.lock.release();
                self.sold = true;
            }
            SeatEvent::GivenBack => {
                self.lock.release();
                self.free += 1;
            }
        }
    }
}

/// Holds seats one after the other, decides, and sells them.
struct Sale;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SaleInput {
    seats: Vec<String>,
    fails: bool,
    patience_ms: u64,
}

/// The pivot: says yes or no.
#[derive(Default, Serialize, Deserialize)]
struct Judge {}

#[derive(Serialize, Deserialize)]
enum JudgeCommand {
    Judge { fails: bool },
}

#[derive(Serialize, Deserialize, Event)]
enum JudgeEvent {
    Approved,
}

impl Entity for Judge {
    const CATEGORY: &'static str = "judge";
    type Command = JudgeCommand;
    type Event = JudgeEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &JudgeCommand, _: &Decide) -> Result<Vec<JudgeEvent>, Rejection> {
        match command {
            JudgeCommand::Judge { fails: true } => Err(Rejection::new("declined", "no")),
            JudgeCommand::Judge { fails: false } => Ok(vec![JudgeEvent::Approved]),
        }
    }

    fn evolve(&mut self, _: &JudgeEvent) {}
}

impl Saga for Sale {
    const NAME: &'static str = "sale";
    type Event = NoEvent;
    type Input = SaleInput;

    fn define() -> Definition<SaleInput> {
        Definition::<SaleInput>::new(1)
            .compensatable("first", |first| {
                first
                    .changes("seat")
                    .request(|sale, _| Request::to::<Seat>(&sale.seats[0], &SeatCommand::Hold))
                    .undo(Promise::ALL, |sale, _| {
                        Request::to::<Seat>(&sale.seats[0], &SeatCommand::GiveBack)
                    })
                    .retry(RETRY)
                    .timeout(Duration::from_secs(60))
            })
            .compensatable("second", |second| {
                second
                    .after(["first"])
                    .for_each(|sale: &SaleInput| sale.seats.len() - 1)
                    .commutes()
                    .changes("seat")
                    .request(|sale, cx| {
                        Request::to::<Seat>(&sale.seats[1 + cx.branch()], &SeatCommand::Hold)
                    })
                    .undo(Promise::ALL, |sale, cx| {
                        Request::to::<Seat>(&sale.seats[1 + cx.branch()], &SeatCommand::GiveBack)
                    })
                    .retry(RETRY)
                    .timeout(Duration::from_secs(20))
            })
            .pivot("judge", |judge| {
                judge
                    .after(["second"])
                    .changes("judge")
                    .request(|sale, cx| {
                        let fails = sale.fails;
                        Request::to::<Judge>(cx.key(), &JudgeCommand::Judge { fails })
                    })
                    .retry(RETRY)
            })
            .retriable("sell", |sell| {
                sell.after(["judge"])
                    .for_each(|sale: &SaleInput| sale.seats.len())
                    .commutes()
                    .changes("seat")
                    .request(|sale, cx| {
                        Request::to::<Seat>(&sale.seats[cx.branch()], &SeatCommand::Sell)
                    })
                    .retry(RETRY)
            })
    }
}

fn world(rules: Rules) -> World {
    World::new(1)
        .under(rules)
        .with(Service::new("seats").entity::<Seat>().entity::<Judge>())
        .with(Service::new("sales").saga::<Sale>())
}

fn set(world: &mut World, seat: &str, when: When, free: i64) {
    world.send::<Seat>(seat, &SeatCommand::Set { when, free });
    world.run();
}

fn sale(seats: &[&str], fails: bool) -> SaleInput {
    SaleInput {
        seats: seats.iter().map(|s| (*s).to_owned()).collect(),
        fails,
        patience_ms: 0,
    }
}

/// What becomes of a second saga that meets the first one's lock.
fn second_saga(rules: Rules, when: When, first_fails: bool) -> Result<(Phase, Phase), String> {
    let mut world = world(rules);
    set(&mut world, "1", when, 2);
    let judged = world.hold(|m| m.answers("Judge"));
    let first = world.start_saga::<Sale>("first", &sale(&["1"], first_fails));
    world.run();
    ensure!(world.state::<Seat>("1").lock.is_held(), "nothing is locked");
    let second = world.start_saga::<Sale>("second", &sale(&["1"], false));
    world.run();
    world.pass(Duration::from_secs(1));
    world.release(judged);
    world.run_to_end();
    let seat = world.state::<Seat>("1");
    ensure!(!seat.lock.is_held(), "the lock is still held");
    let phases = (world.saga(&first).phase(), world.saga(&second).phase());
    let sold = [phases.0, phases.1]
        .iter()
        .filter(|p| **p == Phase::Completed)
        .count();
    ensure!(
        seat.free == 2 - sold as i64,
        "{} seats are free after {sold} sales",
        seat.free
    );
    Ok(phases)
}

fn locked_entity(rules: Rules) -> Verdict {
    use Phase::{Compensated, Completed};
    for (when, first_fails, expected) in [
        (When::Reject, false, (Completed, Compensated)),
        (When::Reject, true, (Compensated, Compensated)),
        (When::Wait, false, (Completed, Completed)),
        (When::Wait, true, (Compensated, Completed)),
        (When::Pessimistic, false, (Completed, Completed)),
    ] {
        let phases = second_saga(rules, when, first_fails)?;
        ensure!(
            phases == expected,
            "{when:?}, the first fails {first_fails}: {phases:?}"
        );
    }
    Ok(())
}

#[test]
fn scenario_21_a_locked_entity_rejects_queues_or_shows_the_pessimistic_value() {
    holds(locked_entity);
}

fn no_lock_leaks_in_a_crash(rules: Rules) -> Verdict {
    for fails in [true, false] {
        for point in [
            CrashPoint::BeforeAppend,
            CrashPoint::AfterAppend,
            CrashPoint::AfterSend,
        ] {
            let mut world = world(rules);
            set(&mut world, "1", When::Reject, 1);
            world.crash_at("sales", point, "StepOk");
            let saga = world.start_saga::<Sale>("1", &sale(&["1"], fails));
            world.run();
            ensure!(world.state::<Seat>("1").lock.is_held(), "nothing is locked");
            world.restart("sales");
            world.run_to_end();
            let seat = world.state::<Seat>("1");
            ensure!(
                !seat.lock.is_held(),
                "{saga} left its lock behind ({point:?}, fails {fails})"
            );
            ensure!(seat.sold != fails, "sold {}, fails {fails}", seat.sold);
        }
    }
    Ok(())
}

#[test]
fn scenario_21_no_lock_is_left_behind_by_a_crash() {
    holds(no_lock_leaks_in_a_crash);
}

/// One saga takes the seats A and B, another one B and A, at the same time.
fn crossing_locks(rules: Rules) -> Verdict {
    let mut world = world(rules);
    for seat in ["A", "B"] {
        set(&mut world, seat, When::Wait, 1);
    }
    // Each gets its first seat before it asks for the second.
    let both = world.hold(|m| m.answers("Hold"));
    let ab = world.start_saga::<Sale>("ab", &sale(&["A", "B"], false));
    world.run();
    world.pass(Duration::from_secs(7));
    let ba = world.start_saga::<Sale>("ba", &sale(&["B", "A"], false));
    world.run();
    world.release(both);
    world.run_to_end();
    let phases = (world.saga(&ab).phase(), world.saga(&ba).phase());
    ensure!(
        phases.0.is_terminal() && phases.1.is_terminal(),
        "a deadlock: {phases:?}"
    );
    for seat in ["A", "B"] {
        let state = world.state::<Seat>(seat);
        ensure!(!state.lock.is_held(), "{seat} is still locked");
    }
    ensure!(
        phases.0 == Phase::Compensated || phases.1 == Phase::Compensated,
        "both have one seat: {phases:?}"
    );
    Ok(())
}

#[test]
fn scenario_22_a_deadline_breaks_a_deadlock() {
    holds(crossing_locks);
}

fn ordered_locks(rules: Rules) -> Verdict {
    let mut world = world(rules);
    for seat in ["A", "B"] {
        set(&mut world, seat, When::Wait, 2);
    }
    let one = world.start_saga::<Sale>("one", &sale(&["A", "B"], false));
    let two = world.start_saga::<Sale>("two", &sale(&["A", "B"], false));
    world.run_to_end();
    for saga in [one, two] {
        let phase = world.saga(&saga).phase();
        ensure!(phase == Phase::Completed, "{saga} is {phase:?}");
    }
    Ok(())
}

#[test]
fn scenario_22_locks_taken_in_one_order_never_wait_for_each_other() {
    holds(ordered_locks);
}
