//! The cases, by what they are about. Each is a function named as the sentence it checks.

pub(super) mod appending;
pub(super) mod backward;
pub(super) mod boundary;
pub(super) mod cancelling;
pub(super) mod conditions;
pub(super) mod filtering;
pub(super) mod following;
pub(super) mod limits;
pub(super) mod names;
pub(super) mod partitions;
pub(super) mod payloads;
pub(super) mod racing;
pub(super) mod random;
pub(super) mod read_only;
pub(super) mod reading;
pub(super) mod repeating;
pub(super) mod restarting;
pub(super) mod streams;
