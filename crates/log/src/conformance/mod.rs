//! What every engine must do, as cases that anyone can run on an engine of their own.
//!
//! Implement [`Subject`] for a place that holds one log of your engine, and let
//! [`conformance_tests!`](crate::conformance_tests) make one test of each case:
//!
//! ```
//! use std::sync::Arc;
//!
//! use anabranch_env::Env;
//! use anabranch_log::conformance::Subject;
//! use anabranch_log::{Log, MemoryLog};
//!
//! struct Memory;
//!
//! impl Subject for Memory {
//!     fn open(&self) -> Arc<dyn Log> {
//!         Arc::new(MemoryLog::new(Env::os()))
//!     }
//! }
//!
//! fn memory() -> impl Subject {
//!     Memory
//! }
//!
//! anabranch_log::conformance_tests!(memory, lacking: [SurvivesRestart, ReadOnly]);
//! # fn main() {}
//! ```
//!
//! The cases need no async runtime. A case that needs something that the engine does not
//! offer checks that the engine refuses it with a typed error; a test of its own checks that
//! the list after `lacking` is just what the engine does not offer, so nothing is skipped
//! unnoticed. Each case ends with an audit of the whole log: positions and versions without
//! gaps, ids unique, every acknowledged event in its place and nothing besides.

mod cases;
mod check;
mod drive;
mod list;
mod make;
mod model;
mod need;
mod outcome;
mod report;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use crate::Log;

pub use list::{Case, cases, cases_as_markdown, check, check_lacking};
pub use need::Need;
pub use outcome::Outcome;
pub use report::{Finding, Report, run};

/// An engine under test: a place that holds one log.
///
/// Each case gets a subject of its own and drops it at its end; that is when to remove the
/// log's files. The methods may panic to say that the engine cannot be tested at all.
pub trait Subject: Send + Sync {
    /// Opens the log.
    ///
    /// The first call makes it, empty. A later one comes after the log given before was
    /// dropped and opens the same log again, as after the end of the process; an engine that
    /// does not survive a restart gives an empty one.
    fn open(&self) -> Arc<dyn Log>;

    /// Opens the log for reading only while the one that [`Subject::open`] gave is open.
    /// It may lag behind for a moment. `None`: the engine cannot.
    fn open_read_only(&self) -> Option<Arc<dyn Log>> {
        None
    }

    /// Called whenever a case waits for the engine. An engine without threads of its own
    /// does here all that was asked of it before the call. May be called by several threads
    /// at once.
    fn settle(&self) {}

    /// Whether a read may begin after the call that asks for it: where a network that breaks
    /// stands between, it begins when it gets through. It may then give what was appended
    /// meanwhile.
    fn reads_may_begin_late(&self) -> bool {
        false
    }

    /// How long the engine may stay silent before a case fails.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}
