//! Small ways to wait, for tasks and for threads.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Locks that a panic elsewhere does not close: what they guard is kept whole by writing
/// it in an order that is right at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// How a commit group ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Durable,
    /// Nothing was written.
    NotWritten,
    /// It may be on the disk.
    Unknown,
    /// Nobody knows yet, but its time is up.
    TimedOut,
}

/// What the appends of one commit group wait for.
///
/// It is *answered* as soon as there is something to tell its appends, be it that their time
/// is up, and *settled* when it is known what became of the group.
pub(crate) struct Completion {
    state: AtomicU8,
    settled: AtomicBool,
    inner: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    reason: String,
    wakers: Vec<Option<Waker>>,
    /// Of those who wait until it is settled.
    settled_wakers: Vec<Waker>,
}

const PENDING: u8 = 0;

impl Completion {
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(PENDING),
            settled: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        match self.state.load(Ordering::Acquire) {
            1 => Some(Outcome::Durable),
            2 => Some(Outcome::NotWritten),
            3 => Some(Outcome::Unknown),
            4 => Some(Outcome::TimedOut),
            _ => None,
        }
    }

    /// Whether it is known what became of the group.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Tells all who wait. Only the first call is their answer; a time that is up does not
    /// settle the group, what comes later does.
    pub fn finish(&self, outcome: Outcome, reason: &str) {
        let (wakers, settled_wakers) = {
            let mut inner = lock(&self.inner);
            let settled_wakers = if outcome == Outcome::TimedOut {
                Vec::new()
            } else {
                self.settled.store(true, Ordering::Release);
                std::mem::take(&mut inner.settled_wakers)
            };
            if self.outcome().is_some() {
                drop(inner);
                settled_wakers.into_iter().for_each(Waker::wake);
                return;
            }
            if outcome != Outcome::Durable {
                reason.clone_into(&mut inner.reason);
            }
            let state = match outcome {
                Outcome::Durable => 1,
                Outcome::NotWritten => 2,
                Outcome::Unknown => 3,
                Outcome::TimedOut => 4,
            };
            self.state.store(state, Ordering::Release);
            (std::mem::take(&mut inner.wakers), settled_wakers)
        };
        for waker in wakers.into_iter().flatten().chain(settled_wakers) {
            waker.wake();
        }
    }

    /// Whether it is settled; if not, wakes the task when it is.
    pub fn poll_settled(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_settled() {
            return Poll::Ready(());
        }
        let mut inner = lock(&self.inner);
        if self.is_settled() {
            return Poll::Ready(());
        }
        if !inner.settled_wakers.iter().any(|w| w.will_wake(cx.waker())) {
            inner.settled_wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for the end; gives it with its reason.
    pub async fn wait(&self) -> (Outcome, String) {
        let mut slot = None;
        poll_fn(|cx| self.poll(cx, &mut slot)).await
    }

    pub fn poll(&self, cx: &mut Context<'_>, slot: &mut Option<usize>) -> Poll<(Outcome, String)> {
        if self.outcome() == Some(Outcome::Durable) {
            return Poll::Ready((Outcome::Durable, String::new()));
        }
        let mut inner = lock(&self.inner);
        if let Some(outcome) = self.outcome() {
            return Poll::Ready((outcome, inner.reason.clone()));
        }
        match *slot {
            Some(at) => inner.wakers[at] = Some(cx.waker().clone()),
            None => {
                *slot = Some(inner.wakers.len());
                inner.wakers.push(Some(cx.waker().clone()));
            }
        }
        Poll::Pending
    }
}

/// Tasks that wait for something to change.
#[derive(Default)]
pub(crate) struct WakerSet(Mutex<Vec<Waker>>);

impl WakerSet {
    /// Wakes the task at the next change. Look again after calling, before giving up.
    pub fn register(&self, cx: &Context<'_>) {
        let mut wakers = lock(&self.0);
        if !wakers.iter().any(|w| w.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
    }

    pub fn wake_all(&self) {
        let wakers = std::mem::take(&mut *lock(&self.0));
        for waker in wakers {
            waker.wake();
        }
    }
}

/// A thread's doorbell: rings are kept until heard.
#[derive(Default)]
pub(crate) struct Signal {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Signal {
    pub fn ring(&self) {
        let mut rung = lock(&self.rung);
        if !*rung {
            *rung = true;
            self.bell.notify_one();
        }
    }

    /// Waits for a ring, or for the time to pass.
    pub fn wait(&self, at_most: Duration) {
        let mut rung = lock(&self.rung);
        if !*rung {
            rung = self
                .bell
                .wait_timeout(rung, at_most)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *rung = false;
    }
}
