//! The board again, kept in SQLite and in PostgreSQL.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anabranch_domain::{EventRef, HandleError, Query, View};
use anabranch_env::Env;
use anabranch_runtime::ServiceBuilder;
use anabranch_runtime::view::ViewSpec;
use anabranch_view_postgres::{InPostgres as _, Postgres};
use anabranch_view_sqlite::{InSqlite as _, Sqlite, rusqlite};
use serde::{Deserialize, Serialize};

use crate::items::{ItemEvent, Row, Rows};

const TABLE: &str =
    "CREATE TABLE board (key text PRIMARY KEY, item text NOT NULL, times bigint NOT NULL)";

/// A board whose rows are in a database.
macro_rules! boards {
    ($($name:ident asked by $query:ident is $view:literal in $store:ty: $write:expr, $erase:expr, $select:expr;)*) => {$(
        struct $name;

        impl View for $name {
            const NAME: &'static str = $view;
            const VERSION: u32 = 1;
            const CATEGORIES: &'static [&'static str] = &["note", "payment"];
            type Event = ItemEvent;
            type Store = $store;

            fn set_up(store: &mut $store) -> Result<(), HandleError> {
                store.run(TABLE)
            }

            fn handle(store: &mut $store, event: &ItemEvent, about: &EventRef<'_>) -> Result<(), HandleError> {
                match event {
                    ItemEvent::Written { text } => $write(store, about.key(), text),
                    ItemEvent::Erased => $erase(store, about.key()),
                }
            }
        }

        #[derive(Serialize, Deserialize)]
        struct $query {}

        impl Query for $query {
            type View = $name;
            type Answer = Rows;
            const NAME: &'static str = "all";

            fn answer(&self, store: &$store) -> Result<Rows, HandleError> {
                let rows: Vec<(String, String, i64)> = $select(store)?;
                let row = |(key, text, times)| Ok((key, Row { text, times: u64::try_from(times)? }));
                rows.into_iter().map(row).collect()
            }
        }
    )*};
}

boards! {
    BoardInSqlite asked by AllInSqlite is "board-in-sqlite" in Sqlite:
        |store: &mut Sqlite, key: &str, text: &str| {
            let write = "INSERT INTO board VALUES (?1, ?2, 1)
                ON CONFLICT (key) DO UPDATE SET item = excluded.item, times = times + 1";
            store.execute(write, rusqlite::params![key, text]).map(drop)
        },
        |store: &mut Sqlite, key: &str| store.execute("DELETE FROM board WHERE key = ?1", [key]).map(drop),
        |store: &Sqlite| store.all("SELECT key, item, times FROM board", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
    BoardInPostgres asked by AllInPostgres is "board-in-postgres" in Postgres:
        |store: &mut Postgres, key: &str, text: &str| {
            let write = "INSERT INTO board VALUES ($1, $2, 1)
                ON CONFLICT (key) DO UPDATE SET item = excluded.item, times = board.times + 1";
            store.execute(write, &[&key, &text])
        },
        |store: &mut Postgres, key: &str| store.execute("DELETE FROM board WHERE key = $1", &[&key]),
        |store: &Postgres| store.all("SELECT key, item, times FROM board", &[], |row| {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        });
}

/// Where rows are kept: a directory, and a database if there is a server.
pub struct Stores {
    dir: PathBuf,
    database: Option<String>,
}

impl Stores {
    pub fn new() -> Self {
        let name = format!("anabranch-boards-{:032x}", Env::os().rng.next_u128());
        Self {
            dir: std::env::temp_dir().join(name),
            database: address("histories of views in PostgreSQL"),
        }
    }

    /// The views that show the board.
    pub fn views(&self) -> Vec<&'static str> {
        let all = ["board", "board-in-sqlite", "board-in-postgres"];
        let count = if self.database.is_some() { 3 } else { 2 };
        all[..count].to_vec()
    }

    /// Adds the boards that are kept here to a service.
    pub fn add(&self, name: &str, service: ServiceBuilder) -> ServiceBuilder {
        let spec = ViewSpec::<BoardInSqlite>::new().query::<AllInSqlite>();
        let service = service.view_in_sqlite(spec, Env::os().disk, self.dir.join(name));
        match &self.database {
            None => service,
            Some(address) => {
                let spec = ViewSpec::<BoardInPostgres>::new().query::<AllInPostgres>();
                service.view_in_postgres(spec, address)
            }
        }
    }
}

impl Drop for Stores {
    #[expect(clippy::disallowed_methods, reason = "a test cleans up after itself")]
    fn drop(&mut self) {
        // The system clears what is left here.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Where PostgreSQL is. Without a server the tests say what is skipped.
pub fn address(what: &str) -> Option<String> {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let from_environment = std::env::var("ANABRANCH_TEST_POSTGRES").ok();
    let found = from_environment.or_else(|| {
        // What `cargo xtask backends up` leaves beside the directory of this test's files.
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../backends/postgres.address");
        #[expect(clippy::disallowed_methods, reason = "xtask has written it")]
        std::fs::read_to_string(file).ok()
    });
    if found.is_none() && SAID.lock().unwrap().insert(what.to_owned()) {
        let text =
            format!("skipped: {what}: there is no server; `cargo xtask backends up` starts one\n");
        // Not by a macro, whose output a passing test keeps to itself.
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    found
}
