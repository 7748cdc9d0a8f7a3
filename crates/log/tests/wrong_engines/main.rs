//! The suite can fail: engines that are wrong in one way each, and the cases that say so.

#[path = "../engines/mod.rs"]
mod engines;

mod appending;
mod boundary;
mod cancelling;
mod capabilities;
mod conditions;
mod content;
mod following;
mod limits;
mod partitions;
mod reading;
mod repeating;
mod restarting;
mod wrong;
