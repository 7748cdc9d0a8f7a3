//! What hangs over all services of a world: time, chance, and the faults that are planned.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anabranch_env::{Clock, SplitMix64};
use anabranch_log::BoxFuture;
use anabranch_runtime::{ManualTime, Sleeper};
use tokio::sync::oneshot;

use crate::faults::{CrashPlan, CrashPoint, DropPlan, Faults, Hold};
use crate::message::Message;

/// How many of the last steps are printed when a test fails.
const TRACE_MAX: usize = 80;

/// Shared by all services of a world.
pub struct Sky {
    pub time: ManualTime,
    state: Mutex<State>,
}

pub struct State {
    pub rng: SplitMix64,
    pub faults: Faults,
    pub drops: Vec<DropPlan>,
    pub holds: Vec<Hold>,
    pub crashes: Vec<CrashPlan>,
    /// Services that have just crashed in the middle of something.
    pub crashed: Vec<String>,
    /// How many messages are on their way, by a delay that is theirs.
    pub travelling: usize,
    /// How many messages have been sent.
    pub sent: u64,
    pub trace: VecDeque<String>,
    started_at: Duration,
}

/// What becomes of a message.
enum Fate {
    Arrives { after: Duration, twice: bool },
    Lost,
    Kept(oneshot::Receiver<()>),
}

impl Sky {
    pub fn new(seed: u64, time: ManualTime) -> Arc<Self> {
        let started_at = time.monotonic();
        Arc::new(Self {
            time,
            state: Mutex::new(State {
                rng: SplitMix64::new(seed),
                faults: Faults::NONE,
                drops: Vec::new(),
                holds: Vec::new(),
                crashes: Vec::new(),
                crashed: Vec::new(),
                travelling: 0,
                sent: 0,
                trace: VecDeque::new(),
                started_at,
            }),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to what is printed when a test fails.
    pub fn note(&self, line: impl Into<String>) {
        let now = self.time.monotonic();
        let mut state = self.lock();
        let at = now.saturating_sub(state.started_at).as_secs_f64();
        if state.trace.len() == TRACE_MAX {
            state.trace.pop_front();
        }
        state.trace.push_back(format!("{at:>12.6} {}", line.into()));
    }

    /// Waits for simulated time to pass, as a message on its way does.
    async fn travel(&self, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        let sleep: BoxFuture<'static, ()> = self.time.sleep_until(self.time.monotonic() + wait);
        let on_its_way = Travelling::begin(self);
        sleep.await;
        drop(on_its_way);
    }

    fn fate(&self, message: &Message) -> Fate {
        let mut state = self.lock();
        state.sent += 1;
        let planned = state
            .drops
            .iter_mut()
            .find(|plan| plan.left > 0 && (plan.matches)(message));
        if let Some(plan) = planned {
            plan.left -= 1;
            return Fate::Lost;
        }
        let hold = state
            .holds
            .iter_mut()
            .find(|hold| hold.is_open && (hold.matches)(message));
        if let Some(hold) = hold {
            let (release, released) = oneshot::channel();
            hold.kept.push(release);
            return Fate::Kept(released);
        }
        let faults = state.faults;
        if state.percent(faults.drop_percent) {
            return Fate::Lost;
        }
        let twice = state.percent(faults.duplicate_percent);
        Fate::Arrives {
            after: state.up_to(faults.delay_max),
            twice,
        }
    }

    /// Lets a message travel. True: it arrives, and now; the number says how often. False: it
    /// never does.
    pub async fn carry(&self, message: &Message) -> Option<u32> {
        match self.fate(message) {
            Fate::Lost => {
                self.note(format!("lost: {message}"));
                None
            }
            Fate::Kept(released) => {
                self.note(format!("kept back: {message}"));
                // A hold that is gone with its world keeps its messages for good.
                released.await.ok()?;
                self.note(format!("released: {message}"));
                Some(1)
            }
            Fate::Arrives { after, twice } => {
                self.travel(after).await;
                let times = if twice { " twice" } else { "" };
                self.note(format!("arrives{times}: {message}"));
                Some(if twice { 2 } else { 1 })
            }
        }
    }

    /// Whether a crash of this service was planned for an append of these events at this point.
    pub fn crash_is_due(&self, service: &str, point: CrashPoint, events: &[&str]) -> bool {
        let mut state = self.lock();
        let planned = state.crashes.iter().position(|plan| {
            plan.service == service
                && plan.point == point
                && plan.event.as_deref().is_none_or(|e| events.contains(&e))
        });
        if let Some(planned) = planned {
            state.crashes.remove(planned);
            state.crashed.push(service.to_owned());
        }
        planned.is_some()
    }
}

impl State {
    pub fn percent(&mut self, percent: u8) -> bool {
        percent > 0 && self.rng.below(100) < u64::from(percent)
    }

    pub fn up_to(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.below(micros))
    }
}

/// Counts a message as on its way, also when its sender is killed meanwhile.
struct Travelling<'a>(&'a Sky);

impl<'a> Travelling<'a> {
    fn begin(sky: &'a Sky) -> Self {
        sky.lock().travelling += 1;
        Self(sky)
    }
}

impl Drop for Travelling<'_> {
    fn drop(&mut self) {
        self.0.lock().travelling -= 1;
    }
}
