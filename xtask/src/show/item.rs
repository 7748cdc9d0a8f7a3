//! One item of a list.

use crate::commands::Outcome;
use crate::workspace::Workspace;

/// Something that the project can show.
pub struct Item {
    /// What holds, in one sentence.
    pub says: &'static str,
    /// Shows it: gives its figure, or says what is missing.
    pub run: fn(&Workspace) -> Outcome<String>,
}
