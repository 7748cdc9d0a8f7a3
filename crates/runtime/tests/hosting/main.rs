//! A service hosted on a log in memory that misbehaves on demand, under time that stands
//! still.

mod effects;
mod entities;
mod faults;
mod flows;
mod promises;
mod support;
