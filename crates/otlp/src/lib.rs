//! Spans and figures as collectors of OpenTelemetry take them: the bodies of OTLP over HTTP, as JSON.
//! Source: OpenTelemetry, "OTLP specification 1.5", "OTLP/HTTP" and "JSON Protobuf Encoding".
//!
//! [`Spans`] is a subscriber of [`tracing`]: it keeps the spans of one target that have ended until
//! somebody takes them away. [`metrics`] makes figures of what a server says at `/metrics`. Sending is
//! for whoever has a connection. Nothing here waits, and what is kept is bounded: where nobody takes
//! spans away, further ones are dropped and counted.
//!
//! ```
//! use anabranch_env::Env;
//! use anabranch_otlp::{Resource, Spans};
//!
//! let env = Env::os();
//! let spans = Spans::new("shop", Resource::named("orders"), env.clock, env.rng);
//! tracing::subscriber::with_default(spans.clone(), || {
//!     drop(tracing::span!(target: "shop", tracing::Level::INFO, "place"));
//! });
//! let body = String::from_utf8(spans.take().unwrap()).unwrap();
//! assert!(body.contains("\"name\":\"place\""));
//! assert!(spans.take().is_none());
//! ```

mod figures;
mod span;
mod spans;
mod value;

pub use figures::metrics;
pub use spans::Spans;
pub use value::Resource;

/// Where spans are sent, below the address of a collector.
pub const TRACES: &str = "/v1/traces";

/// Where figures are sent.
pub const METRICS: &str = "/v1/metrics";
