//! A service hosted on a log in memory that misbehaves on demand, under time that stands
//! still.

mod effects;
mod entities;
mod faults;
mod flows;
#[cfg(feature = "postgres")]
mod postgres;
mod promises;
mod support;
#[cfg(feature = "sqlite")]
mod views;
