//! What is made from the `.proto`.

/// The messages, the service's trait and its client, as they are made from the `.proto`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    rustdoc::all,
    reason = "made by a tool"
)]
mod made {
    include!(concat!(env!("OUT_DIR"), "/protocol.rs"));
}

pub use made::anabranch::log::v1 as protocol;
