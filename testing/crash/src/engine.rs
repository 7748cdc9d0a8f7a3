use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{Log, OpenError};

/// A kind of log to be checked.
pub trait Engine: Send + Sync {
    /// Its name, for people.
    fn name(&self) -> String;

    /// Opens the log of this machine, or makes it. `tuning` is a number to derive options
    /// from, so that many sizes and methods are tried; the same number gives the same
    /// options.
    fn open(&self, env: Env, tuning: u64) -> Result<Box<dyn Machine>, OpenError>;

    /// Opens the log for reading what can be read, though it may be damaged. `None`: this
    /// kind of log does not claim to notice damage.
    fn open_damaged(&self, env: Env, tuning: u64) -> Option<Result<Box<dyn Machine>, OpenError>>;
}

/// An open log that does nothing on its own: all its work is done in calls of the checker.
/// Dropping it without closing is the end of its process.
pub trait Machine: Send {
    /// The log.
    fn log(&self) -> Arc<dyn Log>;

    /// Does one piece of work that waits; false when there is none.
    fn step(&self) -> bool;

    /// Does the work that could wait for a quiet moment, though appends may be waiting.
    fn upkeep(&self);

    /// Ends in good order.
    fn close(self: Box<Self>) -> Result<(), OpenError>;
}
