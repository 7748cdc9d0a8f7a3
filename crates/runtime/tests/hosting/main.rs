//! A service hosted on a log in memory that misbehaves on demand, under time that stands
//! still.

mod bounds;
mod calls;
mod causes;
mod circuits;
mod effects;
mod entities;
mod entity_memory;
mod faults;
mod numbers;
mod one_host;
mod partitioned;
mod processes;
mod promises;
mod support;
mod take_over;
mod telemetry;
mod together;
mod told;
mod versions;
