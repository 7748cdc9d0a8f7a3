//! Keeps a panic of the user's code where it happened.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `code`; a panic becomes its message. What `code` has changed by then may be half
/// done: the caller drops it.
pub fn contain<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| message(&*payload))
}

/// What a panic said.
pub fn message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
