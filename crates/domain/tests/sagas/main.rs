//! The failure scenarios of the saga protocol, and a random model of it.
//!
//! Each scenario holds with all rules, and fails when a rule that it needs is taken away: a test
//! that cannot fail proves nothing.

mod fixture;
mod model;
mod scenarios;
