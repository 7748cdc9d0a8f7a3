//! Futures polled by hand. A future is polled when it was woken, so that a lost wake-up
//! shows as a future that never ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::engine::Machine;
use crate::violation::{Violation, Wrong};

/// Remembers whether it was woken.
#[derive(Debug)]
pub(crate) struct Bell {
    rung: Arc<Rung>,
    waker: Waker,
}

#[derive(Debug)]
struct Rung(AtomicBool);

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Bell {
    /// A bell that has rung once: everything is polled at first.
    pub(crate) fn new() -> Self {
        let rung = Arc::new(Rung(AtomicBool::new(true)));
        let waker = rung.clone().into();
        Self { rung, waker }
    }

    pub(crate) fn has_rung(&self) -> bool {
        self.rung.0.load(Ordering::SeqCst)
    }

    /// Polls, after the bell is quiet again.
    pub(crate) fn poll<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.rung.0.store(false, Ordering::SeqCst);
        poll(&mut Context::from_waker(&self.waker))
    }
}

/// Runs a future to its end, doing the machine's waiting work in between.
pub(crate) fn drive<T>(
    machine: &dyn Machine,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, Violation> {
    let mut future = Box::pin(future);
    let bell = Bell::new();
    drive_poll(machine, what, &bell, |cx| Pin::new(&mut future).poll(cx))
}

pub(crate) fn drive_poll<T>(
    machine: &dyn Machine,
    what: &str,
    bell: &Bell,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<T, Violation> {
    const STEPS_MAX: usize = 100_000;
    for _ in 0..STEPS_MAX {
        if let Poll::Ready(value) = bell.poll(&mut poll) {
            return Ok(value);
        }
        while !bell.has_rung() {
            if !machine.step() && !bell.has_rung() {
                let text = format!("{what} waits, no work is left, and nothing woke it");
                return Err(Violation::new(Wrong::Stuck, text));
            }
        }
    }
    let text = format!("{what} was polled {STEPS_MAX} times and never ended");
    Err(Violation::new(Wrong::Stuck, text))
}
