//! The log over the network: the conformance suite, directly and through a network that breaks
//! every connection, and what the contract does not say.

mod conformance;
mod health;
mod json;
mod large;
mod registry;
mod restart;
mod support;
