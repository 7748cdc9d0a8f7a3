//! Appends that wait for their answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use anabranch_log::{Append, AppendError, Appended, Log};

use crate::model::Attempt;
use crate::poll::Bell;

pub(crate) type Answer = Result<Appended, AppendError>;

/// An append under way, polled by hand. Dropping it drops its future.
pub(crate) struct Pending {
    pub(crate) attempt: Attempt,
    future: Pin<Box<dyn Future<Output = Answer> + Send>>,
    bell: Bell,
}

impl Pending {
    pub(crate) fn new(log: Arc<dyn Log>, attempt: Attempt, append: Append) -> Self {
        Self {
            attempt,
            future: Box::pin(async move { log.append(append).await }),
            bell: Bell::new(),
        }
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.bell.has_rung()
    }

    pub(crate) fn poll(&mut self) -> Poll<Answer> {
        self.bell.poll(|cx| self.future.as_mut().poll(cx))
    }
}
