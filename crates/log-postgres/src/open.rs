//! Finding a log in its database, or making one.

use std::time::Duration;

use anabranch_log::{Group, Layout, OpenError};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::address::{Address, Durability};
use crate::fault::Fault;
use crate::pool::{Pool, Value, ask};

/// The form of the tables that this program reads and writes.
const FORMAT: i32 = 1;
/// The oldest server, and how people call it.
const SERVER_VERSION_MIN: i32 = 150_000;
/// How many partitions a log has whose maker says nothing of them, besides the one of system
/// streams.
const PARTITIONS: u32 = 16;
/// The key of the lock under which a log is made, of the database: "anabralo" in ASCII.
const MAKE_LOCK: i64 = 0x616e_6162_7261_6c6f;
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What a log says of itself.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its id.
    pub id: Uuid,
    /// Which partition each stream stands in.
    pub layout: Layout,
    /// What tokens of it are sealed with, 32 bytes.
    pub token_key: [u8; 32],
    /// Whether it was made just now.
    pub is_new: bool,
}

/// Finds the log at `address`. Where there is none it is made, laid out so; `None` refuses.
pub async fn find(
    pool: &Pool,
    address: &Address,
    make: Option<Option<&Layout>>,
) -> Result<Described, OpenError> {
    let away = |fault: Fault| unreachable(address, fault);
    let client = pool.connect().await.map_err(away)?;
    check_server(&client, address).await?;
    let mut is_new = false;
    let row = match described(&client, address).await? {
        Some(row) => row,
        None => {
            let not_found = || OpenError::NotFound {
                path: address.shown.clone(),
            };
            make_log(&client, address, make.ok_or_else(not_found)?).await?;
            is_new = true;
            described(&client, address).await?.ok_or_else(not_found)?
        }
    };
    let strange = |error: tokio_postgres::Error| unreachable(address, Fault::of(&error));
    let format: i32 = row.try_get(1).map_err(strange)?;
    if format != FORMAT {
        // There is no older one yet.
        return Err(OpenError::NewerFormat {
            file: address.shown.clone(),
            found: format as u32,
            known: FORMAT as u32,
        });
    }
    let text: String = row.try_get(2).map_err(strange)?;
    let key: Vec<u8> = row.try_get(3).map_err(strange)?;
    let damaged = |what: &str| OpenError::Damaged {
        file: address.shown.clone(),
        what: what.to_owned(),
    };
    Ok(Described {
        id: row.try_get(0).map_err(strange)?,
        layout: layout_of(&text).ok_or_else(|| damaged("its layout is not understood"))?,
        token_key: key
            .try_into()
            .map_err(|_| damaged("its key of tokens has not 32 bytes"))?,
        is_new,
    })
}

fn unreachable(address: &Address, fault: Fault) -> OpenError {
    OpenError::Unreachable {
        address: address.shown.clone(),
        reason: fault.to_string(),
    }
}

async fn rows(
    client: &Client,
    address: &Address,
    sql: &str,
    values: &[Value<'_>],
) -> Result<Vec<Row>, OpenError> {
    let asked = ask(client, sql, values, FIRST_ANSWER).await;
    asked.map_err(|fault| unreachable(address, fault))
}

async fn described(client: &Client, address: &Address) -> Result<Option<Row>, OpenError> {
    let schema = &address.schema;
    let table = format!("{schema}.log");
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    let there = rows(client, address, sql, &[(&table, Type::TEXT)]).await?;
    let is_there = there.first().map(|row| row.try_get::<_, bool>(0));
    if !matches!(is_there, Some(Ok(true))) {
        return Ok(None);
    }
    let sql = format!("SELECT id, format, layout, token_key FROM {schema}.log");
    Ok(rows(client, address, &sql, &[]).await?.into_iter().next())
}

/// Refuses a server that cannot have a log, or that does not keep what it acknowledges.
async fn check_server(client: &Client, address: &Address) -> Result<(), OpenError> {
    let sql = "SELECT current_setting('server_version_num')::integer,
        current_setting('server_encoding'), current_setting('server_version')";
    let row = rows(client, address, sql, &[]).await?;
    let strange = |error: tokio_postgres::Error| unreachable(address, Fault::of(&error));
    let row = row
        .first()
        .ok_or_else(|| unreachable(address, Fault::Lost("it says nothing of itself".to_owned())))?;
    let number: i32 = row.try_get(0).map_err(strange)?;
    let (encoding, version): (String, String) = (
        row.try_get(1).map_err(strange)?,
        row.try_get(2).map_err(strange)?,
    );
    if number < SERVER_VERSION_MIN {
        return Err(OpenError::Invalid(format!(
            "{} is PostgreSQL {version}; a log needs version 15 or later",
            address.shown
        )));
    }
    if encoding != "UTF8" {
        return Err(OpenError::Invalid(format!(
            "the database of {} has the encoding {encoding}; a log needs UTF8: make a database \
             with ENCODING 'UTF8'",
            address.shown
        )));
    }
    match address.durability {
        Durability::Unchecked => Ok(()),
        Durability::Sync => check_durability(client, address).await,
    }
}

/// Refuses a server that does not say that it keeps what it acknowledges.
async fn check_durability(client: &Client, address: &Address) -> Result<(), OpenError> {
    match weakness_of(client).await {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(OpenError::Invalid(format!(
            "{}: {what}, so what it acknowledges may be lost by a power cut; correct its \
             settings, or say durability=unchecked in the address to accept that",
            address.shown
        ))),
        Err(fault) => Err(unreachable(address, fault)),
    }
}

/// Why what the server acknowledges may be lost, if it may.
pub async fn weakness_of(client: &Client) -> Result<Option<String>, Fault> {
    let sql = "SELECT current_setting('fsync'), current_setting('full_page_writes'),
        pg_is_in_recovery()";
    let rows = ask(client, sql, &[], FIRST_ANSWER).await?;
    Ok(weakness(rows.first()))
}

/// What is weak of a server that has said so of itself, if anything is.
fn weakness(row: Option<&Row>) -> Option<String> {
    let Some(row) = row else {
        return Some("the server does not say how it keeps what it writes".to_owned());
    };
    for (at, setting) in ["fsync", "full_page_writes"].into_iter().enumerate() {
        match row.try_get::<_, &str>(at) {
            Ok("on") => {}
            Ok(other) => return Some(format!("the server has {setting} = {other}")),
            Err(_) => return Some(format!("the server does not say what {setting} is")),
        }
    }
    match row.try_get::<_, bool>(2) {
        Ok(false) => None,
        Ok(true) => Some("the server is a standby, which another one may leave behind".to_owned()),
        Err(_) => Some("the server does not say whether it is a standby".to_owned()),
    }
}

async fn make_log(
    client: &Client,
    address: &Address,
    layout: Option<&Layout>,
) -> Result<(), OpenError> {
    let usual = || Layout::new(Vec::new(), PARTITIONS);
    let layout = match layout {
        Some(layout) => layout.clone(),
        None => usual().map_err(|error| OpenError::Invalid(error.to_string()))?,
    };
    let schema = &address.schema;
    let tables = include_str!("schema.sql").replace("SCHEMA.", &format!("{schema}."));
    // Names of groups and categories may have quotes.
    let text = layout_text(&layout).replace('\'', "''");
    let last = layout.partitions() - 1;
    let sql = format!(
        "BEGIN; SET LOCAL client_min_messages = warning;
        SELECT pg_advisory_xact_lock({MAKE_LOCK});
        CREATE SCHEMA IF NOT EXISTS {schema};
        {tables}
        INSERT INTO {schema}.partitions SELECT generate_series(0, {last});
        INSERT INTO {schema}.log (id, format, layout, token_key) VALUES
            (gen_random_uuid(), {FORMAT}, '{text}', sha256(decode(replace(
                gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')));
        COMMIT"
    );
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(error) => {
            // The connection is not used again, but it is ended in order.
            let ended = client.batch_execute("ROLLBACK").await;
            // Somebody else has made it meanwhile: then it is there.
            if ended.is_ok() && matches!(described(client, address).await, Ok(Some(_))) {
                return Ok(());
            }
            Err(OpenError::Invalid(format!(
                "no log could be made in {}: {}",
                address.shown,
                Fault::of(&error)
            )))
        }
    }
}

/// A layout as it is kept: a line for each group, then how many partitions the rest has.
fn layout_text(layout: &Layout) -> String {
    let groups = layout.groups().iter().map(|group| format!("{group}\n"));
    format!("{}{}", groups.collect::<String>(), layout.rest())
}

fn layout_of(text: &str) -> Option<Layout> {
    let mut lines: Vec<&str> = text.lines().collect();
    let rest: u32 = lines.pop()?.parse().ok()?;
    if rest == 0 && lines.is_empty() {
        return Some(Layout::one());
    }
    let groups: Result<Vec<Group>, _> = lines.into_iter().map(str::parse).collect();
    Layout::new(groups.ok()?, rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_read_as_it_was_kept() {
        let groups = ["trade=order,it's:8", "stock=stock:4"].map(|it| it.parse().unwrap());
        for layout in [Layout::one(), Layout::new(groups.into(), 2).unwrap()] {
            assert_eq!(layout_of(&layout_text(&layout)), Some(layout));
        }
        for text in ["", "x", "trade=order:2", "trade=order:2\n0"] {
            assert_eq!(layout_of(text), None, "{text:?}");
        }
    }
}
