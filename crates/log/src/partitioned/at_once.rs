//! What is asked of partitions that answer without waiting.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::error::ReadError;

/// The value of a future that does not wait for anything; `None` if it does.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A partition does not answer at once.
pub(super) fn not_here() -> ReadError {
    ReadError::Unsupported("have partitions that another process has")
}
