//! The conformance suite of view stores on views in PostgreSQL.
//!
//! It needs a server: `cargo xtask test` starts one, and so does `cargo xtask backends up`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anabranch_domain::HandleError;
use anabranch_runtime::view::conformance::{Subject, cases, check};
use anabranch_runtime::view::{ViewContext, ViewStore, ViewStoreFactory};
use anabranch_view_postgres::{Postgres, PostgresViews};

/// A database. Each case has schemas of its own, by the name of its service.
struct Database(String);

impl Subject for Database {
    type Rows = Postgres;

    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Postgres>> {
        PostgresViews::at(&self.0).store(context)
    }

    fn set_up(rows: &mut Postgres) -> Result<(), HandleError> {
        rows.run("CREATE TABLE sums (key text PRIMARY KEY, n bigint NOT NULL)")
    }

    fn add(rows: &mut Postgres, key: &str, n: i64) -> Result<(), HandleError> {
        let add = "INSERT INTO sums VALUES ($1, $2)
            ON CONFLICT (key) DO UPDATE SET n = sums.n + $2";
        rows.execute(add, &[&key, &n])
    }

    fn sums(rows: &Postgres) -> Result<BTreeMap<String, i64>, HandleError> {
        let all = "SELECT key, n FROM sums";
        let sums = rows.all(all, &[], |row| Ok((row.try_get(0)?, row.try_get(1)?)))?;
        Ok(sums.into_iter().collect())
    }
}

/// Where the server is.
fn address() -> Option<String> {
    let from_environment = std::env::var("ANABRANCH_TEST_POSTGRES").ok();
    from_environment.or_else(|| {
        // What `cargo xtask backends up` leaves beside the directory of this test's files.
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../backends/postgres.address");
        #[expect(clippy::disallowed_methods, reason = "xtask has written it")]
        std::fs::read_to_string(file).ok()
    })
}

#[test]
fn views_in_postgres_do_what_every_store_must() {
    let Some(address) = address() else {
        let text = "skipped: the conformance of views in PostgreSQL: there is no server; \
                    `cargo xtask backends up` starts one\n";
        // Not by a macro, whose output a passing test keeps to itself.
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    };
    for case in cases::<Database>() {
        check(case.name, Database(address.clone()));
    }
}
