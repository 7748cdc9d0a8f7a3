//! Scenarios 1 to 28: a fault, and what has to come of it.

mod coordinator;
pub mod fallback;
mod locks;
mod messages;
mod nested;
mod outcomes;
mod processes;
mod scale;
mod time;
mod upgrades;
mod views;
