//! The log in PostgreSQL, in a program that was built without other systems.

use crate::config::DatabaseConfig;
use crate::error::BenchError;
use crate::peers::absent;
use crate::suite::Suite;

/// Says which program measures it.
///
/// # Errors
///
/// Always: this one was built without PostgreSQL.
pub fn measure_database(
    _: &DatabaseConfig,
    _: &(dyn Fn(&str) + Sync),
) -> Result<Suite, BenchError> {
    Err(absent("postgres"))
}
