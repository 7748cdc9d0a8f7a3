//! What a validator that others use says of a document.

/// What became of the check.
pub enum Checked {
    /// The document is valid, and what was looked at.
    Valid(String),
    /// The validator cannot be had here, and why.
    Skipped(String),
    /// The document is not valid, and where.
    Invalid(String),
}
