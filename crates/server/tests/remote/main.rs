//! The log over the network: the conformance suite, directly and through a network that breaks
//! every connection, and what the contract does not say. Services that ask each other over it.

#[path = "../http/bank.rs"]
mod bank;
mod conformance;
mod grpc;
mod health;
mod json;
mod large;
mod peers;
mod registry;
mod restart;
mod support;
