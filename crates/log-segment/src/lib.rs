//! The embedded engine: append-only segment files on a local disk.

mod options;

pub use options::{Background, Durability, Options, WriteMethod};
