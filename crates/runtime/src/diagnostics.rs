use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use anabranch_domain::Timestamp;
use serde::Serialize;

/// The most diagnostics that are kept.
const NOTES_MAX: usize = 256;

/// What went wrong and was mended or worked around: the newest few, for an operator.
#[derive(Debug, Default)]
pub struct Diagnostics(Mutex<VecDeque<Diagnostic>>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// When.
    pub at: Timestamp,
    /// What happened, what was kept and what to do.
    pub text: String,
}

impl Diagnostics {
    /// Adds a note; beyond the most that are kept, the oldest goes.
    pub fn add(&self, at: Timestamp, text: impl Into<String>) {
        let mut diagnostics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if diagnostics.len() == NOTES_MAX {
            diagnostics.pop_front();
        }
        diagnostics.push_back(Diagnostic {
            at,
            text: text.into(),
        });
    }

    /// The diagnostics, oldest first.
    pub fn all(&self) -> Vec<Diagnostic> {
        let diagnostics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        diagnostics.iter().cloned().collect()
    }
}
