use super::need::Need;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The engine keeps it.
    Kept,
    /// The engine does not offer what the case needs, and refuses it where it can be asked.
    Lacking(Need),
    /// The engine breaks it; why.
    Broken(String),
}
