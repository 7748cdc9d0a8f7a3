//! The conformance suite of view stores on views in SQLite.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anabranch_domain::HandleError;
use anabranch_env::Env;
use anabranch_runtime::view::conformance::Subject;
use anabranch_runtime::view::{ViewContext, ViewStore, ViewStoreFactory};
use anabranch_view_sqlite::{Sqlite, SqliteViews, rusqlite};

/// A directory, gone with the subject.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a test cleans up after itself")]
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Subject for Directory {
    type Rows = Sqlite;

    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Sqlite>> {
        SqliteViews::in_dir(Env::os().disk, &self.0).store(context)
    }

    fn set_up(rows: &mut Sqlite) -> Result<(), HandleError> {
        rows.run("CREATE TABLE sums (key TEXT PRIMARY KEY, n INTEGER NOT NULL)")
    }

    fn add(rows: &mut Sqlite, key: &str, n: i64) -> Result<(), HandleError> {
        let add = "INSERT INTO sums VALUES (?1, ?2) ON CONFLICT DO UPDATE SET n = n + ?2";
        rows.execute(add, rusqlite::params![key, n]).map(drop)
    }

    fn sums(rows: &Sqlite) -> Result<BTreeMap<String, i64>, HandleError> {
        let all = "SELECT key, n FROM sums";
        let sums = rows.all(all, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(sums.into_iter().collect())
    }
}

fn directory() -> Directory {
    let name = format!("anabranch-views-{:032x}", Env::os().rng.next_u128());
    Directory(std::env::temp_dir().join(name))
}

anabranch_runtime::view_conformance_tests!(directory);
