//! Views in every store: the same tests over memory, SQLite and PostgreSQL.

mod all;
mod postgres;
#[path = "../../../runtime/tests/hosting/support.rs"]
#[allow(dead_code, reason = "other tests of hosting use more of it")]
mod support;
