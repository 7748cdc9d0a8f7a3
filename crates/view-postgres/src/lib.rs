//! Views in PostgreSQL: a schema for each copy, with the rows and how far they are.
//!
//! The row of `anabranch_progress` in that schema is the fence. Every transaction locks it
//! first, reads how far the rows are, and moves it with what it writes. So a transaction whose
//! end nobody has heard of is found done or not done, and of two runtimes that write to one
//! copy the second finds what the first has done.
//!
//! All of it runs on threads that may block, each with a connection of its own: the code of a
//! view is not async.

mod address;
mod copy;
mod database;
mod line;
mod store;
mod views;
mod writer;

pub use store::Postgres;
pub use tokio_postgres;
pub use views::{InPostgres, PostgresViews};
