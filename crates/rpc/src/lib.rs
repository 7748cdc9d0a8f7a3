//! The log over the network: its protocol, and what goes between its messages and the log's
//! own types.
//!
//! `proto/anabranch/log/v1/log.proto` is the contract of the log, and
//! `proto/anabranch/registry/v1/registry.proto` that of the services on it. A server answers them by
//! Connect (JSON by curl), gRPC and gRPC-Web, and beside them what gRPC's own tools ask about its
//! health, `proto/grpc/health/v1/health.proto`. [`protocol`], [`registry`] and [`health`] are made
//! from them; nobody but the server and the remote log sees their types.

mod append;
mod event;
mod made;
mod malformed;
mod many;
mod names;
mod packed;
mod places;
mod problem;
mod read;
mod shape;

pub use made::{health, protocol, registry};
pub use malformed::Malformed;

pub use append::{
    append_of, append_to, appended_of, appended_to, capabilities_of, capabilities_to, layout_of,
    layout_to, message_bytes_max, parts_bytes,
};
pub use event::{id_of, stream_of};
pub use many::{Numbered, pack_append, pack_appended, unpack_appended, unpack_appends};
pub use places::{cut_of, cut_to, placed_of, placed_to};
pub use problem::{append_error_of, append_error_to, read_error_of, read_error_to};
pub use read::{
    Step, filter_of, filter_to, join_steps, mode_of, mode_to, reach_to, step_bytes, step_of,
    step_to,
};
pub use shape::check_json;

/// The version of the protocol that this program speaks. One that speaks the version before
/// works with it, either way.
pub const PROTOCOL: u32 = 1;
