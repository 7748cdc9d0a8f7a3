use std::any::Any;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::{Arc, Barrier, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use super::Subject;

/// Drives futures of one subject on the calling thread.
#[derive(Clone, Copy)]
pub(super) struct Driver<'a>(pub &'a dyn Subject);

impl Driver<'_> {
    /// The value of `future`. Panics when the engine stays silent for too long: `what` then
    /// says what it was asked for.
    pub fn wait<T>(self, what: &str, future: impl Future<Output = T>) -> T {
        let signal = Arc::new(Signal::default());
        let waker = Waker::from(Arc::clone(&signal));
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            self.wait_for(&signal, what);
        }
    }

    /// Waits until the engine has woken `signal`.
    pub fn wait_for(self, signal: &Signal, what: &str) {
        self.0.settle();
        let patience = self.0.patience();
        assert!(
            signal.wait(patience),
            "{what}: nothing came within {patience:?}, and nothing woke the caller"
        );
    }
}

/// What a waker wakes.
#[derive(Default)]
pub(super) struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Whether it is woken, or was since the last call, within this time.
    fn wait(&self, patience: Duration) -> bool {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut woken, _) = self
            .changed
            .wait_timeout_while(woken, patience, |woken| !*woken)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *woken)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// Runs `write` on `count` threads, and `watch` on this one, again and again until all of
/// them have ended, and once more after that.
pub(super) fn while_writing(count: usize, write: impl Fn(usize) + Sync, mut watch: impl FnMut()) {
    let write = &write;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|index| scope.spawn(move || write(index)))
            .collect();
        while !threads.iter().all(|thread| thread.is_finished()) {
            watch();
        }
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    watch();
}

/// Runs `work` on `count` threads, begun at the same moment, and gives what each returned,
/// by its index. A panic of one is the caller's panic.
pub(super) fn together<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (work, begin) = (&work, &Barrier::new(count));
    let results: Vec<Result<T, Box<dyn Any + Send>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|index| {
                scope.spawn(move || {
                    begin.wait();
                    work(index)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|panic| resume_unwind(panic)))
        .collect()
}
