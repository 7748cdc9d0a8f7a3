use std::fmt;

use anabranch_model::Event;

/// In which way a log broke its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// An acknowledged or seen event is gone.
    Lost,
    /// An event is there that must not be.
    Phantom,
    /// An event stands in another place than it was told.
    Reordered,
    /// An event's bytes are not what was appended.
    Changed,
    /// A batch is there in part.
    Torn,
    /// An event is there twice.
    Duplicate,
    /// Positions or versions have a gap.
    Gap,
    /// A batch stands where its conditions did not hold, or was refused for no reason.
    Condition,
    /// An answer contradicts the contract.
    Answer,
    /// A read left out, repeated or added events.
    Read,
    /// Something waits that nothing will ever wake.
    Stuck,
    /// The log refuses to work though nothing is wrong.
    Unavailable,
    /// The log panicked.
    Panic,
}

/// A broken promise, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which kind.
    pub wrong: Wrong,
    /// What was expected and what was found.
    pub text: String,
}

impl Violation {
    pub(crate) fn new(wrong: Wrong, text: impl Into<String>) -> Self {
        Self {
            wrong,
            text: text.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.wrong {
            Wrong::Lost => "lost",
            Wrong::Phantom => "phantom",
            Wrong::Reordered => "reordered",
            Wrong::Changed => "changed",
            Wrong::Torn => "torn",
            Wrong::Duplicate => "duplicate",
            Wrong::Gap => "gap",
            Wrong::Condition => "condition",
            Wrong::Answer => "wrong answer",
            Wrong::Read => "wrong read",
            Wrong::Stuck => "stuck",
            Wrong::Unavailable => "unavailable",
            Wrong::Panic => "panic",
        };
        write!(f, "{kind}: {}", self.text)
    }
}

/// An event without its bytes, for messages.
pub(crate) fn brief(event: &Event) -> String {
    format!(
        "event {} at {}, {} version {}, {} bytes",
        event.id,
        event.position,
        event.stream(),
        event.version,
        event.data().len()
    )
}
