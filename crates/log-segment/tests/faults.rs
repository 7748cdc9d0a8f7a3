//! Faults that a review of the engine has shown, each as the promise that it broke.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests are about real time limits and the files of a log"
)]

#[path = "faults/files.rs"]
mod files;
#[path = "faults/forged.rs"]
mod forged;
#[path = "faults/heads.rs"]
mod heads;
#[path = "faults/hook.rs"]
mod hook;
#[path = "faults/interval.rs"]
mod interval;
#[path = "faults/panics.rs"]
mod panics;
#[path = "faults/place.rs"]
mod place;
#[path = "faults/readers.rs"]
mod readers;
#[path = "faults/slow.rs"]
mod slow;
#[expect(dead_code, reason = "what other tests share")]
mod support;
#[path = "faults/timeouts.rs"]
mod timeouts;
#[path = "faults/unreadable.rs"]
mod unreadable;

/// Waits until something is so.
fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        std::thread::yield_now();
    }
}
