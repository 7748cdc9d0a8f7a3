//! The embedded log with several partitions: power cuts over all of their files, and a network that
//! loses, delays and doubles what goes between clients and log.
//!
//! A run is made from one seed. Clients append to streams of every partition, many at a time, each
//! behind what it was told before; the power is cut or the process killed, in the midst of a call, in
//! the midst of a recovery; the log is opened again and read. What is checked, besides what the
//! checker of one partition does:
//!
//! * every acknowledged append is there, once, at its place, with all that it was said to depend on;
//! * nothing is read before its cause, and nothing was recorded before it;
//! * every closure is closed, after each recovery too;
//! * whoever did not get the answer repeats the append and gets the places of the first time.
//!
//! [`Told`](told::Told) is what clients and log were told. It shares no code with the log's.

mod run;
mod told;

pub use run::{Counts, Trouble, run_partitioned};
