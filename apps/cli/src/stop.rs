//! Signals: being asked to stop by Ctrl-C and SIGTERM, and SIGXFSZ.

use std::io;
use std::pin::pin;
use std::process;
use std::thread;

use futures_util::future::{Either, select};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::failure::{Exit, Failure};

/// Lets a write beyond the largest file that the process may have (`ulimit -f`) fail as any
/// other, with words. By itself SIGXFSZ ends the process in its midst. Once somebody listens for
/// a signal it does nothing by itself any more, for as long as the process lives.
pub fn let_large_writes_fail() -> Result<(), Failure> {
    take(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}

fn take(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| {
        Failure::new(
            Exit::Failed,
            "io",
            format!("cannot listen for signals: {error}"),
        )
    })
}

/// Waits for Ctrl-C or SIGTERM. From the moment it is made these no longer end the process
/// by themselves, so whoever makes it must wait on it.
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
    /// Dropped when the standard input has ended, if that is watched.
    input: Option<oneshot::Receiver<()>>,
    was_asked: bool,
}

impl StopSignal {
    /// Takes over both signals.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            input: None,
            was_asked: false,
        })
    }

    /// The end of the standard input counts as being asked too: whoever holds its other end is gone.
    pub fn when_input_ends(&mut self) -> Result<(), Failure> {
        let (held, ended) = oneshot::channel();
        let watch = move || {
            // An input that cannot be read has ended too.
            drop(io::copy(&mut io::stdin().lock(), &mut io::sink()));
            drop(held);
        };
        let thread = thread::Builder::new().name("input-end".to_owned());
        thread.spawn(watch).map_err(|error| {
            Failure::new(
                Exit::Failed,
                "io",
                format!("cannot watch the standard input: {error}"),
            )
        })?;
        self.input = Some(ended);
        Ok(())
    }

    /// Answers when the process is asked to stop.
    async fn asked(&mut self) {
        let interrupt = pin!(self.interrupt.recv());
        let terminate = pin!(self.terminate.recv());
        let signal = select(interrupt, terminate);
        match &mut self.input {
            None => {
                signal.await;
            }
            // Nothing is ever sent: that it is dropped is the end.
            Some(input) => {
                select(signal, input).await;
            }
        }
    }

    /// What `work` gives, or `None` if the process is or was asked to stop before that.
    pub async fn unless_asked<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        if self.was_asked {
            return None;
        }
        match select(pin!(self.asked()), pin!(work)).await {
            Either::Left(_) => None,
            Either::Right((done, _)) => Some(done),
        }
    }

    /// Finishes `work` though the process is asked to stop, which the next
    /// [`StopSignal::unless_asked`] tells; ends the process at once if it is asked again.
    pub async fn finish<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let done = match select(&mut work, pin!(self.asked())).await {
                Either::Left((done, _)) => Some(done),
                Either::Right(_) => None,
            };
            match done {
                Some(done) => return done,
                None if self.was_asked => process::exit(Exit::Failed as i32),
                None => self.was_asked = true,
            }
        }
    }
}
