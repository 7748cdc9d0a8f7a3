//! The keys of callers, as the log says they are.

mod first;
mod follow;

pub use first::{FirstKeyError, first_key};
pub use follow::Keys;
