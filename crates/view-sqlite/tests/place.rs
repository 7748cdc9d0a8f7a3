//! How far the rows of a view are stands with them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Event, EventRef, HandleError, Query, View};
use anabranch_env::Env;
use anabranch_log::{Append, Log, MemoryLog};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use anabranch_runtime::view::{Consistency, ViewSpec};
use anabranch_runtime::{Service, Time};
use anabranch_view_sqlite::{InSqlite as _, Sqlite, rusqlite};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize, Event)]
enum Seen {
    Counted,
}

/// How many events there are.
struct Counts;

impl View for Counts {
    const NAME: &'static str = "counts";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["a"];
    type Event = Seen;
    type Store = Sqlite;

    fn set_up(rows: &mut Sqlite) -> Result<(), HandleError> {
        rows.run("CREATE TABLE counts (n INTEGER NOT NULL); INSERT INTO counts VALUES (0)")
    }

    fn handle(rows: &mut Sqlite, _: &Seen, _: &EventRef<'_>) -> Result<(), HandleError> {
        rows.execute("UPDATE counts SET n = n + 1", []).map(drop)
    }
}

#[derive(Serialize, Deserialize)]
struct Count;

impl Query for Count {
    type View = Counts;
    type Answer = Option<i64>;
    const NAME: &'static str = "count";

    fn answer(&self, rows: &Sqlite) -> Result<Option<i64>, HandleError> {
        rows.one("SELECT n FROM counts", [], |row| row.get(0))
    }
}

/// A directory, gone with the test.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a test cleans up after itself")]
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// They would count everything that there is a second time.
#[tokio::test]
async fn rows_whose_place_somebody_has_removed_are_not_taken_for_empty_ones() {
    let env = Env::os();
    let name = format!("anabranch-place-{:032x}", env.rng.next_u128());
    let dir = Directory(std::env::temp_dir().join(name));
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(env.clone()));
    let append = async |id| {
        let stream = StreamId::of("a", "1").unwrap();
        let kind = EventType::new("Counted").unwrap();
        let event = NewEvent::new(EventId::from_u128(id), stream, kind, "null");
        log.append(Append::event(event)).await.unwrap()
    };
    append(1).await;
    let service = Service::builder("s", log.clone(), Time::of(&env))
        .view_in_sqlite(
            ViewSpec::<Counts>::new().query::<Count>(),
            env.disk.clone(),
            &dir.0,
        )
        .start()
        .await
        .unwrap();
    let first = Consistency::after(log.head().await.unwrap(), Duration::from_secs(10));
    assert_eq!(service.query(Count, first).await.unwrap().value, Some(1));

    let file = dir.0.join("counts.v1.g1.sqlite");
    let rows = rusqlite::Connection::open(file).unwrap();
    rows.execute("DELETE FROM anabranch_progress", []).unwrap();
    append(2).await;
    let said = service.query(Count, Consistency::any()).await;
    let said = said.unwrap_err().to_string();
    assert!(
        said.contains("gone from anabranch_progress") && said.contains("view rebuild"),
        "{said}"
    );
    let count = rows.query_row("SELECT n FROM counts", [], |row| row.get::<_, i64>(0));
    assert_eq!(count.unwrap(), 1);
}
