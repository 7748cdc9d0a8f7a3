//! The keys of callers, as the log says they are.

mod first;
mod follow;
mod issuer;

pub use first::{FirstKeyError, first_key, key_append};
pub use follow::{Keys, read_keys};
pub use issuer::follow_issuer;
