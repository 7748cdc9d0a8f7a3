//! The keys of callers, as the log says they are.

mod first;
mod follow;

pub use first::{FirstKeyError, first_key, key_append};
pub use follow::{Keys, read_keys};
