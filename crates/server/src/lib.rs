//! Running services behind HTTP and JSON.
//!
//! [`Server`] stands before a [`Fleet`](anabranch_runtime::Fleet): it takes commands, answers
//! queries and lets an operator look at and mend what runs. JSON over HTTP alone is enough to
//! write a client; [`client`] is a small one.
//!
//! | request | does |
//! | --- | --- |
//! | `POST /commands/{category}/{key}?type=T` | sends a command, whose data is the body |
//! | `GET /views/{name}/{query}?field=text` | asks a view |
//! | `GET /events?category=…&from=…` | the log's events as they are appended, as server-sent events |
//! | the same with `Upgrade: websocket` | the same as messages, as many as the reader asks for |
//! | `GET /events/{event}` | one event, by its id or position: as JSON, or with its attributes as headers |
//! | `POST /events` | appends CloudEvents: binary, structured or in a batch |
//! | `GET /operate/…`, `POST /operate/…` | looks at and mends: see the table in `operate` |
//! | `GET /asyncapi.json` | describes the events that can be followed, in AsyncAPI 3 |
//! | `GET /openapi.json` | describes all of them, in OpenAPI 3.1 |
//! | `POST /peer/…` | what services of other processes say to those here: see `anabranch-peer` |
//! | `POST /anabranch.log.v1.LogService/…` | the log itself: append, read, follow. `.proto` of `anabranch-rpc` is the contract, for Connect (JSON by curl), gRPC and gRPC-Web |
//! | `POST /anabranch.registry.v1.RegistryService/…` | which services there are, where, and which categories each owns; an append to what one owns needs its lease |
//!
//! `POST /grpc.health.v1.Health/…` says whether the server is ready, as gRPC's own tools ask.
//!
//! * `Idempotency-Key` is the command's id: sending it again gives the first outcome.
//! * `If-Match` is the version that the entity is expected at; `ETag` the one it is at then.
//! * `Prefer: wait=5` lets a command to a saga be answered when the saga has ended.
//! * `Anabranch-Token`, handed back with the next request, makes a client see what it has
//!   written and never less than it has seen.
//! * `Anabranch-Causes` says what a command depends on: `3:17, TOKEN`, or `root` for nothing. Without it
//!   that is what the token says, and without one what the service has read.
//! * `Anabranch-Log` names the log that a request is meant for; a server of another log refuses
//!   it.
//! * Errors are problem details (RFC 9457) with a stable `code` and with `happened`, which is
//!   `no`, `maybe` or `yes`.
//!
//! Requests and answers are the types of `anabranch-wire`.
//!
//! With [`Doors`] that say so, every request shows a key (`Authorization: Bearer …`), but `GET /livez`. A
//! server that asks nobody who they are is served at loopback addresses only, unless somebody insists. With
//! a [`Certificate`] what is said is encrypted; both together open it to other machines.

/// Where a program is found, unless it is told otherwise.
pub const HOME: &str = "127.0.0.1:4077";

/// Where a log that is served to other processes is found, unless something else is said.
pub const BACKBONE: &str = "127.0.0.1:7400";

mod allowed;
mod answer;
mod appender;
mod askers;
mod asyncapi;
mod audit;
mod calls;
mod causes;
pub mod client;
mod command;
mod convert;
mod earlier;
mod entrance;
mod event_source;
mod events;
mod files;
mod gate;
mod guard;
mod health;
mod health_rpc;
mod host;
mod ingest;
mod keys;
mod many;
mod one_event;
mod operate;
mod owner;
mod page;
mod peer;
mod peer_line;
mod policy;
#[cfg(test)]
mod policy_tests;
mod prefer;
mod present;
mod rate;
mod read;
mod reading;
mod refusal;
mod registry;
mod registry_rpc;
mod rpc;
mod saga_end;
mod seal;
mod server;
mod session;
mod shared;
mod socket;
mod sse;
mod story;
mod together;
mod until;
mod view;

pub use anabranch_access::{Doors, Listening, Transport};
pub use anabranch_jwt::{Issuer, IssuerError};
pub use anabranch_tls::{Certificate, CertificateError, Versions};
pub use anabranch_wire::{LOG_HEADER, POLICY_HEADER, STALE_HEADER, TOKEN_HEADER};
pub use askers::{RegisteredBy, Registrations};
pub use audit::Reports;
pub use earlier::{cuts_file, is_cuts_file, read_cuts, write_cuts};
pub use files::LogFiles;
pub use keys::{FirstKeyError, first_key, key_append, read_keys};
pub use present::{FILES, Presence, PresenceError, Present};
pub use registry::guarded;
pub use seal::{lease_secret, shared_seal, token_key};
pub use server::{ServeError, Server};
