//! Time as the runtime sees it: clocks that tell it, and a sleeper that waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use anabranch_domain::Timestamp;
use anabranch_env::{Clock, Env, Rng};
use anabranch_log::BoxFuture;

/// Waits for moments of the monotonic clock.
pub trait Sleeper: Send + Sync + 'static {
    /// Ready when the monotonic clock shows `at` or later.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()>;
}

/// Clock, sleeper and randomness of one runtime. Cheap to clone.
#[derive(Clone)]
pub struct Time {
    clock: Arc<dyn Clock>,
    sleeper: Arc<dyn Sleeper>,
    rng: Arc<dyn Rng>,
}

impl Time {
    /// The clocks of `env`, and the timers of the async runtime. The clocks must run as those
    /// of the machine do; a clock that stands still needs a [`ManualTime`].
    pub fn of(env: &Env) -> Self {
        Self {
            clock: env.clock.clone(),
            sleeper: Arc::new(TokioSleeper(env.clock.clone())),
            rng: env.rng.clone(),
        }
    }

    /// Time that passes only when told to.
    pub fn manual(time: &ManualTime, rng: Arc<dyn Rng>) -> Self {
        Self {
            clock: Arc::new(time.clone()),
            sleeper: Arc::new(time.clone()),
            rng,
        }
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock.wall_micros())
    }

    /// The monotonic clock.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Waits until the monotonic clock shows `at`.
    pub fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        self.sleeper.sleep_until(at)
    }

    /// Waits for this long.
    pub fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.monotonic().saturating_add(wait))
    }

    /// 128 random bits.
    pub fn random(&self) -> u128 {
        self.rng.next_u128()
    }
}

struct TokioSleeper(Arc<dyn Clock>);

impl Sleeper for TokioSleeper {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the runtime waits for the machine's clock"
    )]
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        let wait = at.saturating_sub(self.0.monotonic());
        Box::pin(tokio::time::sleep(wait))
    }
}

/// A clock and a sleeper for tests: time passes only when [`ManualTime::advance`] says so.
/// Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct ManualTime(Arc<Mutex<Manual>>);

#[derive(Debug)]
struct Manual {
    monotonic: Duration,
    wall_micros: u64,
    next_key: u64,
    /// Who sleeps, by the moment that they wait for and a key of their own. Wakers are other
    /// people's code, so they are woken and dropped after the lock is released.
    sleepers: BTreeMap<(Duration, u64), Waker>,
}

/// 2026-01-01T00:00:00Z, where a new clock stands.
const WALL_START_MICROS: u64 = 1_767_225_600_000_000;

impl Default for Manual {
    fn default() -> Self {
        Self {
            monotonic: Duration::ZERO,
            wall_micros: WALL_START_MICROS,
            next_key: 0,
            sleepers: BTreeMap::new(),
        }
    }
}

impl ManualTime {
    /// A clock that shows the start of 2026.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass, on both clocks, and wakes who waited for it.
    pub fn advance(&self, by: Duration) {
        let woken = {
            let mut manual = self.lock();
            manual.monotonic += by;
            manual.wall_micros += by.as_micros() as u64;
            let now = manual.monotonic;
            let later = manual.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut manual.sleepers, later)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// Sets the wall clock, forward or back, as an operator or a time server may.
    pub fn set_wall(&self, to: Timestamp) {
        self.lock().wall_micros = to.micros();
    }

    /// The first moment of the monotonic clock that somebody waits for, if anybody does.
    pub fn next_wake(&self) -> Option<Duration> {
        self.lock().sleepers.keys().next().map(|(at, _)| *at)
    }
}

impl Clock for ManualTime {
    fn wall_micros(&self) -> u64 {
        self.lock().wall_micros
    }

    fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }
}

impl Sleeper for ManualTime {
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        let mut sleep = Sleep {
            time: self.clone(),
            at,
            key: None,
        };
        Box::pin(std::future::poll_fn(move |cx| sleep.poll(cx.waker())))
    }
}

struct Sleep {
    time: ManualTime,
    at: Duration,
    key: Option<u64>,
}

impl Sleep {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let mut manual = self.time.lock();
        if manual.monotonic >= self.at {
            return Poll::Ready(());
        }
        let key = *self.key.get_or_insert_with(|| {
            manual.next_key += 1;
            manual.next_key
        });
        let before = manual.sleepers.insert((self.at, key), waker.clone());
        drop(manual);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let before = self.time.lock().sleepers.remove(&(self.at, key));
            drop(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_sleeper_wakes_when_its_moment_has_come() {
        let time = ManualTime::new();
        let mut sleep = time.sleep_until(Duration::from_secs(2));
        assert_eq!(sleep.as_mut().now_or_never(), None);
        assert_eq!(time.next_wake(), Some(Duration::from_secs(2)));
        time.advance(Duration::from_secs(1));
        assert_eq!(sleep.as_mut().now_or_never(), None);
        time.advance(Duration::from_secs(1));
        assert_eq!(sleep.as_mut().now_or_never(), Some(()));
        assert_eq!(time.next_wake(), None);
    }

    #[test]
    fn a_sleeper_that_gives_up_is_forgotten() {
        let time = ManualTime::new();
        let mut sleep = time.sleep_until(Duration::from_secs(2));
        assert_eq!(sleep.as_mut().now_or_never(), None);
        drop(sleep);
        assert_eq!(time.next_wake(), None);
    }
}
