//! One item of a list.

use crate::commands::Outcome;
use crate::workspace::Workspace;

/// Something that the project can show.
pub struct Item {
    /// What holds, in one sentence.
    pub says: &'static str,
    /// Shows it: gives its figure, or says what is missing.
    pub run: Run,
}

/// How an item is shown.
pub enum Run {
    /// It takes what it takes.
    Once(fn(&Workspace) -> Outcome<String>),
    /// It goes on for as many minutes as it is told.
    Minutes(fn(&Workspace, f64) -> Outcome<String>),
}
