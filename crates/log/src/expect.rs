use anabranch_model::Version;

/// The state a stream is expected to be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Any state.
    Any,
    /// No events yet.
    Empty,
    /// At least one event.
    Exists,
    /// The last event has this version.
    At(Version),
}

impl Expect {
    /// Whether a stream whose last version is `last` (`None`: empty) is as expected.
    pub fn holds(self, last: Option<Version>) -> bool {
        match self {
            Self::Any => true,
            Self::Empty => last.is_none(),
            Self::Exists => last.is_some(),
            Self::At(version) => last == Some(version),
        }
    }
}
