//! A consumer in SQLite: its place is kept with what it writes.

use std::path::PathBuf;
use std::sync::Arc;

use anabranch_domain::{EventRef, HandleError, Retry};
use anabranch_env::Env;
use anabranch_log::{Append, Log, MemoryLog};
use anabranch_model::{Cut, EventId, EventType, NewEvent, StreamId};
use anabranch_runtime::consumer::{Consumer, FollowState};
use anabranch_runtime::{Service, Time};
use anabranch_view_sqlite::{ConsumeInSqlite as _, Sqlite, rusqlite};

/// A directory, gone with the test.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a test cleans up after itself")]
        std::fs::remove_dir_all(&self.0).ok();
    }
}

struct Stage {
    env: Env,
    log: Arc<dyn Log>,
    dir: Directory,
}

/// Writes what it is given, and then refuses what says `bad`.
fn write(rows: &mut Sqlite, event: &EventRef<'_>) -> Result<(), HandleError> {
    let text = String::from_utf8_lossy(event.data).into_owned();
    rows.execute("INSERT INTO mails VALUES (?1)", [&text])?;
    if text == "bad" {
        return Err("no such address".into());
    }
    Ok(())
}

impl Stage {
    fn new() -> Self {
        let env = Env::os();
        let name = format!("anabranch-consumer-{:032x}", env.rng.next_u128());
        Self {
            log: Arc::new(MemoryLog::new(env.clone())),
            dir: Directory(std::env::temp_dir().join(name)),
            env,
        }
    }

    fn database(&self) -> PathBuf {
        self.dir.0.join("mails.sqlite")
    }

    async fn append(&self, texts: &[&str]) -> Cut {
        let event = |text: &&str| {
            let mut event = NewEvent::new(
                EventId::from_u128(self.env.rng.next_u128()),
                StreamId::of("order", "1").unwrap(),
                EventType::new("Placed").unwrap(),
                text.as_bytes().to_vec(),
            );
            event.meta_mut().content_type = Some("text/plain".to_owned());
            event
        };
        let events: Vec<_> = texts.iter().map(event).collect();
        self.log.append(Append::events(events)).await.unwrap();
        self.log.head().await.unwrap()
    }

    async fn start(&self) -> Service {
        let (disk, schema) = (self.env.disk.clone(), "CREATE TABLE mails (text TEXT)");
        let mailer = Consumer::named("mailer").categories(["order"]).from_start();
        let mailer = mailer.in_sqlite(disk, self.database(), schema, write);
        Service::builder("mail", self.log.clone(), Time::of(&self.env))
            .consumer(mailer.retry(Retry::NEVER))
            .start()
            .await
            .unwrap()
    }

    /// What stands in the user's table, read as the user would.
    fn mails(&self) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.database()).unwrap();
        let mut select = connection.prepare("SELECT text FROM mails").unwrap();
        let rows = select.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }
}

#[tokio::test]
async fn each_event_is_written_once_over_restarts() {
    let stage = Stage::new();
    for n in 0..5 {
        let head = stage.append(&[&n.to_string()]).await;
        let service = stage.start().await;
        service.consumer("mailer").unwrap().reached(&head).await;
        // As a crash would end it.
        drop(service);
    }
    assert_eq!(stage.mails(), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_an_event_has_written_that_fails_is_not_kept_nor_its_append() {
    let stage = Stage::new();
    stage.append(&["1"]).await;
    let head = stage.append(&["2", "bad", "3"]).await;
    let service = stage.start().await;
    let mailer = service.consumer("mailer").unwrap();
    while !matches!(mailer.status().await.state, FollowState::Stopped { .. }) {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.mails(), ["1"]);
    assert!(mailer.skip().await.unwrap());
    mailer.reached(&head).await;
    assert_eq!(stage.mails(), ["1", "2", "3"]);
}
