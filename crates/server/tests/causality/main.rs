//! What causality promises a user: through HTTP with tokens, on a log of several partitions.
//!
//! The tests are called as the scenarios of the table that they are of: an effect is never seen
//! without its cause, and a session never goes back. Each is run on engines by [`engine`], one embedded and
//! one in PostgreSQL, and again on [`minimal`] engines that lack one protection each, where it has to fail.

mod embedded;
mod engine;
mod explicit;
mod histories;
mod items;
mod minimal;
mod postgres;
mod protections;
mod relayout;
mod scenarios;
mod session;
mod slow;
mod stores;
mod together;
mod world;
