//! Learns when every task of the world waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use tokio::runtime::{Builder, Runtime};

/// Knows whether the world's thread has found nothing more to do.
#[derive(Debug, Default)]
pub struct Idle {
    is_parked: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Idle {
    /// A runtime of one thread that tells when it is about to sleep. Its timers are not
    /// enabled: all time in a world is simulated.
    pub fn runtime() -> std::io::Result<(Runtime, Arc<Self>)> {
        let idle = Arc::new(Self::default());
        let told = idle.clone();
        let runtime = Builder::new_current_thread()
            .on_thread_park(move || told.parked())
            .build()?;
        Ok((runtime, idle))
    }

    fn parked(&self) {
        self.is_parked.store(true, Ordering::Release);
        if let Some(waker) = self.lock().take() {
            waker.wake();
        }
    }

    /// Ready when every other task waits for something that only the caller can bring about.
    pub async fn wait(&self) {
        self.is_parked.store(false, Ordering::Release);
        std::future::poll_fn(|cx| {
            if self.is_parked.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            *self.lock() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
