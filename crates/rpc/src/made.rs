//! What is made from the `.proto` files.

/// The messages, the services' traits and their clients, as they are made from the `.proto` files.
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
pub use made::anabranch::registry::v1 as registry;
pub use made::grpc::health::v1 as health;
