//! The log over the network: the conformance suite, directly and through a network that breaks
//! every connection, and what the contract does not say. Services that ask each other over it.

mod access;
mod audit;
#[path = "../http/bank.rs"]
mod bank;
mod conformance;
mod events;
mod grpc;
mod health;
mod json;
mod large;
mod many;
mod network;
mod never_reads;
mod peers;
mod private;
#[path = "../http/reader.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod reader;
mod registry;
mod restart;
mod support;
mod tls;
mod tokens;
mod untold;
