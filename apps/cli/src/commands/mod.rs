//! One file for each command.

pub mod append;
pub mod audit;
#[cfg(feature = "bench")]
pub mod bench;
#[cfg(not(feature = "bench"))]
#[path = "bench_absent.rs"]
pub mod bench;
pub mod completions;
pub mod config;
pub mod context;
pub mod dead_letter;
pub mod debug;
pub mod demo;
pub mod deploy;
pub mod doctor;
pub mod entity;
pub mod import;
pub mod key;
pub mod log;
pub mod process;
pub mod read;
pub mod schema;
pub mod send;
pub mod serve;
pub mod service;
pub mod story;
pub mod up;
pub mod view;

pub use crate::context::Context;
