use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use anabranch_domain::Timestamp;
use serde::Serialize;

/// The most notes that are kept.
const NOTES_MAX: usize = 256;

/// What went wrong and was mended or worked around: the newest few, for an operator.
#[derive(Debug, Default)]
pub struct Notes(Mutex<VecDeque<Note>>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// What happened, what was kept and what to do.
    pub text: String,
}

impl Notes {
    /// Adds a note; beyond the most that are kept, the oldest goes.
    pub fn add(&self, at: Timestamp, text: impl Into<String>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back(Note {
            at,
            text: text.into(),
        });
    }

    /// The notes, oldest first.
    pub fn all(&self) -> Vec<Note> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().cloned().collect()
    }
}
