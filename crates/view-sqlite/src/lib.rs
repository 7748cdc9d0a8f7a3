//! SQLite for views and consumers: a file for each copy of a view, with the rows and how far they
//! are; and your own database with the places of consumers in it.

mod consumer;
mod sqlite;
mod view;

pub use consumer::ConsumeInSqlite;
pub use rusqlite;
pub use sqlite::Sqlite;
pub use view::{InSqlite, SqliteViews};
