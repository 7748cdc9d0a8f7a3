//! Logs in a database.

use std::sync::Arc;

use anabranch::DatabaseAddress;
use anabranch::log::copy::TimedLog;
use anabranch::log::{Layout, Log};

use crate::context::Context;
use crate::failure::Failure;

/// A log that is open, and what it says of itself.
pub struct Database {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Another way into it, for events that keep when they were recorded.
    pub timed: Arc<dyn TimedLog>,
    /// Its id.
    pub id: u128,
    /// Whether it was made just now.
    pub is_new: bool,
    /// What is known of how it keeps what it acknowledges.
    pub durability: &'static str,
    /// What tokens are sealed with.
    pub token_key: [u8; 32],
}

/// What is to be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Nothing is changed.
    Read,
    /// It is made if it is not there.
    Append,
}

/// Opens the log at `address`; `layout` is for one that is made.
#[cfg(feature = "log-postgres")]
pub fn open(
    address: &DatabaseAddress,
    wanted: Use,
    layout: Option<Layout>,
    context: &Context,
) -> Result<Database, Failure> {
    use anabranch::log_postgres::{Options, PostgresLog};

    let mut options = Options::default();
    options.limits = context.settings.options.limits;
    options.read_only = wanted == Use::Read;
    options.make = wanted == Use::Append;
    options.layout = layout;
    let log = Arc::new(PostgresLog::open(address.reveal(), options)?);
    Ok(Database {
        timed: log.clone(),
        id: log.id(),
        is_new: log.is_new(),
        durability: log.durability(),
        token_key: log.token_key(),
        log,
    })
}

/// No address of a database gets past the settings of such a build.
#[cfg(not(feature = "log-postgres"))]
pub fn open(
    address: &DatabaseAddress,
    _: Use,
    _: Option<Layout>,
    _: &Context,
) -> Result<Database, Failure> {
    Err(Failure::usage(format!(
        "{address} is in a database, and this build has no engine for those"
    )))
}
