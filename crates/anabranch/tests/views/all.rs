//! Views: what they show, how fresh, and what happens at an event that they cannot take in.
//! The same tests run over views in memory, in SQLite and, where there is a server, in
//! PostgreSQL.

mod one;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_domain::{EventRef, HandleError, Json, Poison, Query, Retry, View};
use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_model::Cut;
use anabranch_runtime::snapshot::{MemorySnapshots, SnapshotStore};
use anabranch_runtime::view::{
    Consistency, CopyState, OperateError, Policy, QueryError, ViewOptions, ViewSpec, ViewStatus,
};
use anabranch_runtime::{Accepted, EntityOptions, Service};
use anabranch_view_postgres::{InPostgres as _, Postgres};
use anabranch_view_sqlite::{InSqlite as _, Sqlite, rusqlite};
use serde::{Deserialize, Serialize};

use crate::support::{Bench, Counter, CounterCommand, CounterEvent, settle};

/// Keys whose 666 can be taken in.
static MENDED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn check(event: &CounterEvent, about: &EventRef<'_>) -> Result<i64, HandleError> {
    let CounterEvent::Added { n } = event else {
        return Ok(0);
    };
    let mended = MENDED.lock().unwrap().contains(about.stream);
    match n {
        666 if !mended => Err("the number of the beast".into()),
        667 if !mended => panic!("its neighbour"),
        n => Ok(*n),
    }
}

/// The sum, and the numbers in order, of each counter.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rows(BTreeMap<String, Vec<i64>>);

macro_rules! views {
    ($($name:ident, $question:ident: $store:ty, $view:literal v $version:literal, $poison:expr;)*) => {
        $(
            struct $name;

            impl View for $name {
                const NAME: &'static str = $view;
                const VERSION: u32 = $version;
                const CATEGORIES: &'static [&'static str] = &["counter"];
                const POISON: Poison = $poison;
                type Event = CounterEvent;
                type Store = $store;

                fn set_up(store: &mut Self::Store) -> Result<(), HandleError> {
                    store.prepare()
                }

                fn handle(
                    store: &mut Self::Store,
                    event: &CounterEvent,
                    about: &EventRef<'_>,
                ) -> Result<(), HandleError> {
                    let key = about.stream.split_once('/').ok_or("no key")?.1;
                    // A part is written before it fails: nothing of it may stay.
                    store.push(key, -1)?;
                    let n = check(event, about)?;
                    store.pop(key)?;
                    store.push(key, n * i64::from($version))
                }
            }

            /// The numbers of one counter.
            #[derive(Debug, Serialize, Deserialize)]
            struct $question {
                key: String,
            }

            impl Query for $question {
                type View = $name;
                type Answer = Vec<i64>;
                const NAME: &'static str = "numbers";

                fn answer(&self, store: &$store) -> Result<Vec<i64>, HandleError> {
                    store.numbers(&self.key)
                }
            }
        )*
    };
}

views! {
    InMemory, AskMemory: Rows, "numbers" v 1, Poison::Stop;
    InMemoryNew, AskMemoryNew: Rows, "numbers" v 2, Poison::Stop;
    InMemoryPark, AskMemoryPark: Rows, "numbers" v 1, Poison::Park;
    InSqlite, AskSqlite: Sqlite, "numbers" v 1, Poison::Stop;
    InSqliteNew, AskSqliteNew: Sqlite, "numbers" v 2, Poison::Stop;
    InSqlitePark, AskSqlitePark: Sqlite, "numbers" v 1, Poison::Park;
}
views! {
    InPostgres, AskPostgres: Postgres, "numbers" v 1, Poison::Stop;
    InPostgresNew, AskPostgresNew: Postgres, "numbers" v 2, Poison::Stop;
    InPostgresPark, AskPostgresPark: Postgres, "numbers" v 1, Poison::Park;
}

trait Store {
    fn prepare(&mut self) -> Result<(), HandleError>;
    fn push(&mut self, key: &str, n: i64) -> Result<(), HandleError>;
    fn pop(&mut self, key: &str) -> Result<(), HandleError>;
    fn numbers(&self, key: &str) -> Result<Vec<i64>, HandleError>;
}

impl Store for Rows {
    fn prepare(&mut self) -> Result<(), HandleError> {
        Ok(())
    }

    fn push(&mut self, key: &str, n: i64) -> Result<(), HandleError> {
        self.0.entry(key.to_owned()).or_default().push(n);
        Ok(())
    }

    fn pop(&mut self, key: &str) -> Result<(), HandleError> {
        self.0.get_mut(key).ok_or("no row")?.pop();
        Ok(())
    }

    fn numbers(&self, key: &str) -> Result<Vec<i64>, HandleError> {
        Ok(self.0.get(key).cloned().unwrap_or_default())
    }
}

impl Store for Sqlite {
    fn prepare(&mut self) -> Result<(), HandleError> {
        self.run(
            "CREATE TABLE numbers (id INTEGER PRIMARY KEY, key TEXT NOT NULL, n INTEGER NOT NULL)",
        )
    }

    fn push(&mut self, key: &str, n: i64) -> Result<(), HandleError> {
        let insert = "INSERT INTO numbers (key, n) VALUES (?1, ?2)";
        self.execute(insert, rusqlite::params![key, n])?;
        Ok(())
    }

    fn pop(&mut self, key: &str) -> Result<(), HandleError> {
        let delete = "DELETE FROM numbers WHERE id = (SELECT max(id) FROM numbers WHERE key = ?1)";
        self.execute(delete, [key])?;
        Ok(())
    }

    fn numbers(&self, key: &str) -> Result<Vec<i64>, HandleError> {
        let select = "SELECT n FROM numbers WHERE key = ?1 ORDER BY id";
        self.all(select, [key], |row| row.get(0))
    }
}
impl Store for Postgres {
    fn prepare(&mut self) -> Result<(), HandleError> {
        self.run(
            "CREATE TABLE numbers (id bigserial PRIMARY KEY, key text NOT NULL, n bigint NOT NULL)",
        )
    }

    fn push(&mut self, key: &str, n: i64) -> Result<(), HandleError> {
        let insert = "INSERT INTO numbers (key, n) VALUES ($1, $2)";
        self.execute(insert, &[&key, &n])
    }

    fn pop(&mut self, key: &str) -> Result<(), HandleError> {
        let delete = "DELETE FROM numbers WHERE id = (SELECT max(id) FROM numbers WHERE key = $1)";
        self.execute(delete, &[&key])
    }

    fn numbers(&self, key: &str) -> Result<Vec<i64>, HandleError> {
        let select = "SELECT n FROM numbers WHERE key = $1 ORDER BY id";
        self.all(select, &[&key], |row| row.try_get(0))
    }
}

/// A directory that is removed at the end of its test.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let name = format!("anabranch-views-{:032x}", Env::os().rng.next_u128());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempDir {
    #[expect(clippy::disallowed_methods, reason = "the test made these files")]
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// A log, and where views are kept beyond a restart.
struct Shop {
    bench: Bench,
    snapshots: Arc<MemorySnapshots>,
    dir: TempDir,
    /// What the service is called: another one in each test, so that in a database they do not
    /// meet.
    name: String,
}

/// Where the view is kept, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    MemoryNew,
    MemoryPark,
    Sqlite,
    SqliteNew,
    SqlitePark,
    InDatabase,
    InDatabaseNew,
    InDatabasePark,
}

use Kind::*;

/// Where views are kept, as far as that can be had here.
fn stores() -> Vec<Kind> {
    let kinds = vec![Memory, Sqlite];
    with_database(kinds, InDatabase)
}

/// The same, of views that set streams aside.
fn parking_stores() -> Vec<Kind> {
    let kinds = vec![MemoryPark, SqlitePark];
    with_database(kinds, InDatabasePark)
}
fn with_database(mut kinds: Vec<Kind>, kind: Kind) -> Vec<Kind> {
    kinds.extend(crate::postgres::address().map(|_| kind));
    kinds
}

impl Kind {
    /// The same, with the next version of the view.
    fn new_version(self) -> Self {
        match self {
            Memory => MemoryNew,
            Sqlite => SqliteNew,
            InDatabase => InDatabaseNew,
            other => other,
        }
    }
}

fn spec<V: View>() -> ViewSpec<V> {
    ViewSpec::new().options(ViewOptions {
        retry: Retry::NEVER,
        snapshot_every: 5,
        ..ViewOptions::default()
    })
}

impl Shop {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            snapshots: Arc::new(MemorySnapshots::new()),
            dir: TempDir::new(),
            name: format!("test_{:016x}", Env::os().rng.next_u128() as u64),
        }
    }

    async fn open(&self, kind: Kind) -> Service {
        let disk = Env::os().disk;
        let dir = self.dir.0.clone();
        let service = Service::builder(&*self.name, self.bench.log(), self.bench.time.clone())
            .snapshots(self.snapshots.clone() as Arc<dyn SnapshotStore>)
            .entity_with::<Counter>(EntityOptions::default());
        let service = match kind {
            Memory => service.view(spec::<InMemory>().query::<AskMemory>()),
            MemoryNew => service.view(spec::<InMemoryNew>().query::<AskMemoryNew>()),
            MemoryPark => service.view(spec::<InMemoryPark>().query::<AskMemoryPark>()),
            Sqlite => service.view_in_sqlite(spec::<InSqlite>().query::<AskSqlite>(), disk, dir),
            SqliteNew => {
                service.view_in_sqlite(spec::<InSqliteNew>().query::<AskSqliteNew>(), disk, dir)
            }
            SqlitePark => {
                service.view_in_sqlite(spec::<InSqlitePark>().query::<AskSqlitePark>(), disk, dir)
            }
            InDatabase | InDatabaseNew | InDatabasePark => {
                let address = crate::postgres::address().unwrap();
                match kind {
                    InDatabaseNew => {
                        let spec = spec::<InPostgresNew>().query::<AskPostgresNew>();
                        service.view_in_postgres(spec, address)
                    }
                    InDatabasePark => {
                        let spec = spec::<InPostgresPark>().query::<AskPostgresPark>();
                        service.view_in_postgres(spec, address)
                    }
                    _ => {
                        let spec = spec::<InPostgres>().query::<AskPostgres>();
                        service.view_in_postgres(spec, address)
                    }
                }
            }
        };
        service.start().await.unwrap()
    }
}

async fn add(service: &Service, key: &str, n: i64) -> Accepted {
    let counter = service.entity::<Counter>(key);
    counter.send(CounterCommand::Add { n }).await.unwrap()
}

async fn ask(
    service: &Service,
    key: &str,
    consistency: Consistency,
) -> Result<(Vec<i64>, bool), QueryError> {
    let question = Json::new(format!(r#"{{"key":"{key}"}}"#)).unwrap();
    let answer = service.query_json("numbers", "numbers", question, consistency);
    let answer = answer.await?;
    Ok((answer.value.parse().unwrap(), answer.stale))
}

fn after(cut: &Cut) -> Consistency {
    Consistency::after(cut.clone(), Duration::from_secs(5))
}

async fn numbers(service: &Service, key: &str) -> Vec<i64> {
    let head = service_head(service).await;
    ask(service, key, after(&head)).await.unwrap().0
}

async fn service_head(service: &Service) -> Cut {
    settle().await;
    service.head()
}

/// Waits until the view is in a state, without a clock.
async fn until(service: &Service, what: impl Fn(&ViewStatus) -> bool) -> ViewStatus {
    loop {
        let status = service.view("numbers").unwrap().status().await;
        if what(&status) {
            return status;
        }
        tokio::task::yield_now().await;
    }
}

fn has_stopped(status: &ViewStatus) -> bool {
    let copies = [&status.serving, &status.building];
    let mut copies = copies.into_iter().flatten();
    copies.any(|copy| matches!(copy.state, CopyState::Stopped { .. }))
}

#[tokio::test]
async fn with_the_token_of_a_write_a_query_sees_it() {
    for kind in stores() {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        for n in 1..12 {
            let token = add(&service, "a", n).await.token;
            let (numbers, stale) = ask(&service, "a", after(&token)).await.unwrap();
            assert_eq!(numbers, (1..=n).collect::<Vec<_>>(), "{kind:?}");
            assert!(!stale);
        }
    }
}

#[tokio::test]
async fn the_token_of_an_event_that_the_view_does_not_consume_is_reached_too() {
    for kind in stores() {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        add(&service, "a", 1).await;
        let other = anabranch_model::NewEvent::new(
            anabranch_model::EventId::from_u128(1),
            anabranch_model::StreamId::new("other/1").unwrap(),
            anabranch_model::EventType::new("Happened").unwrap(),
            "{}",
        );
        let append = anabranch_log::Append::event(other);
        let token = shop.bench.log.append(append).await.unwrap().cut();
        assert_eq!(ask(&service, "a", after(&token)).await.unwrap().0, [1]);
    }
}

#[tokio::test]
async fn a_view_that_is_behind_waits_fails_or_says_that_it_is_stale() {
    for kind in stores() {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        add(&service, "a", 1).await;
        numbers(&service, "a").await;
        let token = add(&service, "behind", 666).await.token;
        until(&service, has_stopped).await;
        let with = |policy| Consistency {
            seen: token.clone(),
            policy,
        };
        let error = ask(&service, "a", with(Policy::Fail)).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("stands at 0:1 and the answer needs 0:2"),
            "{text}"
        );
        assert!(text.contains("the number of the beast"), "{text}");
        let stale = ask(&service, "a", with(Policy::AllowStale)).await.unwrap();
        assert_eq!(stale, (vec![1], true));
        let wait = with(Policy::Wait(Duration::from_secs(1)));
        let (late, ()) = futures_util::future::join(ask(&service, "a", wait), async {
            settle().await;
            shop.bench.clock.advance(Duration::from_secs(1));
        })
        .await;
        assert_eq!(late.unwrap_err(), error);
    }
}

#[tokio::test]
async fn a_token_of_another_log_is_refused() {
    let shop = Shop::new();
    let service = shop.open(Memory).await;
    let error = ask(&service, "a", after(&Cut::at(99))).await.unwrap_err();
    assert!(matches!(error, QueryError::BeyondHead { .. }), "{error}");
}

#[tokio::test]
async fn a_view_stops_before_a_poison_event_and_names_it() {
    let cases = stores()
        .into_iter()
        .flat_map(|kind| [(kind, 666), (kind, 667)]);
    for (kind, n) in cases {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        assert!(numbers(&service, "stops").await.is_empty());
        for n in [1, 2, n, 3] {
            add(&service, "stops", n).await;
        }
        let all_seen = |status: &ViewStatus| {
            let lag = status.serving.as_ref().map(|copy| copy.lag_events);
            has_stopped(status) && lag == Some(2)
        };
        let status = until(&service, all_seen).await;
        let shown = ask(&service, "stops", Consistency::any()).await.unwrap();
        assert_eq!(shown.0, [1, 2], "{kind:?}");
        let copy = status.serving.unwrap();
        let CopyState::Stopped { event } = copy.state else {
            panic!("{kind:?}: {:?}", copy.state)
        };
        assert_eq!(event.version, 2);
        assert_eq!(copy.cut, Cut::at(2));
        assert_eq!(copy.lag_events, 2);
        service.view("numbers").unwrap().skip(None).await.unwrap();
        assert_eq!(numbers(&service, "stops").await, [1, 2, 3], "{kind:?}");
    }
}

#[tokio::test]
async fn a_view_goes_on_after_a_poison_event_was_mended() {
    for kind in stores() {
        let key = &*format!("mend-{kind:?}");
        let shop = Shop::new();
        let service = shop.open(kind).await;
        for n in [1, 666, 3] {
            add(&service, key, n).await;
        }
        until(&service, has_stopped).await;
        MENDED.lock().unwrap().insert(format!("counter/{key}"));
        service.view("numbers").unwrap().retry(None).await.unwrap();
        assert_eq!(numbers(&service, key).await, [1, 666, 3], "{kind:?}");
    }
}

#[tokio::test]
async fn a_stream_that_is_set_aside_keeps_its_order_and_holds_up_no_other() {
    for kind in parking_stores() {
        let key = &*format!("park-{kind:?}");
        let shop = Shop::new();
        let service = shop.open(kind).await;
        for n in [1, 666, 3] {
            add(&service, key, n).await;
            add(&service, "other", n % 665).await;
        }
        assert_eq!(numbers(&service, "other").await, [1, 1, 3], "{kind:?}");
        assert_eq!(numbers(&service, key).await, [1]);
        let view = service.view("numbers").unwrap();
        let stream = format!("counter/{key}");
        let parked = view.status().await.serving.unwrap().parked;
        assert_eq!(parked[&stream].version, 1);
        let still = view.retry(Some(stream.clone())).await.unwrap_err();
        assert!(matches!(still, OperateError::Poison(_)), "{still}");
        assert_eq!(numbers(&service, key).await, [1]);
        MENDED.lock().unwrap().insert(stream.clone());
        view.retry(Some(stream)).await.unwrap();
        add(&service, key, 4).await;
        assert_eq!(numbers(&service, key).await, [1, 666, 3, 4], "{kind:?}");
    }
}

#[tokio::test]
async fn a_skipped_event_lets_its_stream_go_on() {
    for kind in parking_stores() {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        for n in [1, 666, 3] {
            add(&service, "skipped", n).await;
        }
        numbers(&service, "skipped").await;
        let view = service.view("numbers").unwrap();
        view.skip(Some("counter/skipped".to_owned())).await.unwrap();
        assert_eq!(numbers(&service, "skipped").await, [1, 3], "{kind:?}");
    }
}

#[tokio::test]
async fn each_event_counts_once_over_restarts_at_any_moment() {
    for kind in stores() {
        let shop = Shop::new();
        let mut expected = Vec::new();
        for round in 0..12 {
            let service = shop.open(kind).await;
            for n in 0..7 {
                expected.push(round * 100 + n);
                let token = add(&service, "a", round * 100 + n).await.token;
                if n == round % 7 {
                    ask(&service, "a", after(&token)).await.unwrap();
                }
            }
            // As a crash does: nothing is kept in order.
            drop(service);
        }
        let service = shop.open(kind).await;
        assert_eq!(numbers(&service, "a").await, expected, "{kind:?}");
    }
}

#[tokio::test]
async fn a_rebuild_serves_the_old_rows_until_it_has_caught_up_and_can_be_backed_out() {
    for kind in stores() {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        add(&service, "a", 1).await;
        assert_eq!(numbers(&service, "a").await, [1]);
        let view = service.view("numbers").unwrap();
        let built = view.rebuild().await.unwrap();
        assert_eq!(built.generation, 2);
        assert_eq!(ask(&service, "a", Consistency::any()).await.unwrap().0, [1]);
        let swapped = |status: &ViewStatus| status.serving.as_ref().is_some_and(|c| c.id == built);
        let status = until(&service, swapped).await;
        assert_eq!(status.previous.map(|id| id.generation), Some(1));
        add(&service, "a", 2).await;
        assert_eq!(numbers(&service, "a").await, [1, 2], "{kind:?}");
        let back = view.back_out().await.unwrap();
        assert_eq!(back.generation, 1);
        assert_eq!(numbers(&service, "a").await, [1, 2], "{kind:?}");
    }
}

#[tokio::test]
async fn a_new_version_is_built_beside_the_old_one_which_an_old_program_finds_again() {
    for old in stores() {
        let new = old.new_version();
        let shop = Shop::new();
        let service = shop.open(old).await;
        add(&service, "a", 1).await;
        assert_eq!(numbers(&service, "a").await, [1]);
        assert!(service.shutdown(Duration::from_secs(1)).await);
        let service = shop.open(new).await;
        assert_eq!(numbers(&service, "a").await, [2], "{new:?}");
        let status = service.view("numbers").unwrap().status().await;
        assert_eq!(status.previous.map(|id| id.version), Some(1));
        assert!(service.shutdown(Duration::from_secs(1)).await);
        let service = shop.open(old).await;
        let status = service.view("numbers").unwrap().status().await;
        assert_eq!(status.serving.map(|copy| copy.id.version), Some(1));
        assert_eq!(ask(&service, "a", Consistency::any()).await.unwrap().0, [1]);
    }
}

#[tokio::test]
async fn a_rebuild_that_was_interrupted_goes_on_after_a_restart() {
    for kind in stores() {
        let key = &*format!("resume-{kind:?}");
        let shop = Shop::new();
        let stream = format!("counter/{key}");
        MENDED.lock().unwrap().insert(stream.clone());
        let service = shop.open(kind).await;
        for n in [1, 666, 3] {
            add(&service, key, n).await;
        }
        assert_eq!(numbers(&service, key).await, [1, 666, 3]);
        MENDED.lock().unwrap().remove(&stream);
        service.view("numbers").unwrap().rebuild().await.unwrap();
        until(&service, has_stopped).await;
        drop(service);
        MENDED.lock().unwrap().insert(stream);
        let service = shop.open(kind).await;
        let swapped = |status: &ViewStatus| {
            status
                .serving
                .as_ref()
                .is_some_and(|copy| copy.id.generation == 2)
        };
        until(&service, swapped).await;
        assert_eq!(numbers(&service, key).await, [1, 666, 3], "{kind:?}");
    }
}

#[tokio::test]
async fn an_unknown_view_or_query_is_named_with_those_there_are() {
    let shop = Shop::new();
    let service = shop.open(Memory).await;
    let ask = |view: &'static str, query: &'static str| {
        service.query_json(view, query, Json::null(), Consistency::any())
    };
    assert_eq!(
        ask("sums", "x").await.unwrap_err().to_string(),
        "no view \"sums\" is hosted here; known: numbers"
    );
    numbers(&service, "a").await;
    assert_eq!(
        ask("numbers", "x").await.unwrap_err().to_string(),
        "view numbers has no query \"x\"; known: numbers"
    );
}

/// What a command with several numbers records stands in one append.
async fn add_all(service: &Service, key: &str, numbers: Vec<i64>) -> Accepted {
    let counter = service.entity::<Counter>(key);
    let add = CounterCommand::AddAll { numbers };
    counter.send(add).await.unwrap()
}

#[tokio::test]
async fn a_query_never_sees_a_part_of_an_append() {
    for kind in stores() {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        numbers(&service, "a").await;
        // More at once than a read gives in one go, of sizes that do not fit it.
        let writes = (0..8).map(|_| add_all(&service, "a", vec![1; 100]));
        let writing = futures_util::future::join_all(writes);
        let mut seen = BTreeSet::new();
        let looking = async {
            while seen.last() != Some(&800) {
                let shown = ask(&service, "a", Consistency::any()).await.unwrap().0;
                seen.insert(shown.len());
                tokio::task::yield_now().await;
            }
        };
        futures_util::future::join(writing, looking).await;
        let torn: Vec<_> = seen.iter().filter(|len| *len % 100 != 0).collect();
        assert!(torn.is_empty(), "{kind:?}: {torn:?}");
    }
}

#[tokio::test]
async fn a_view_that_stops_in_an_append_shows_nothing_of_it() {
    for kind in stores() {
        let key = &*format!("torn-{kind:?}");
        let shop = Shop::new();
        let service = shop.open(kind).await;
        add_all(&service, key, vec![1, 2]).await;
        assert_eq!(numbers(&service, key).await, [1, 2]);
        add_all(&service, key, vec![3, 4, 666, 5]).await;
        let status = until(&service, has_stopped).await;
        let shown = ask(&service, key, Consistency::any()).await.unwrap().0;
        assert_eq!(shown, [1, 2], "{kind:?}");
        assert_eq!(status.serving.unwrap().cut, Cut::at(2));
        service.view("numbers").unwrap().skip(None).await.unwrap();
        assert_eq!(numbers(&service, key).await, [1, 2, 3, 4, 5], "{kind:?}");
    }
}

#[tokio::test]
async fn two_runtimes_with_one_store_count_each_event_once() {
    for kind in stores().into_iter().filter(|kind| *kind != Memory) {
        let shop = Shop::new();
        let services = [shop.open(kind).await, shop.open(kind).await];
        let mut expected = Vec::new();
        for n in 0..40 {
            add(&services[n % 2], "a", 100 + n as i64).await;
            expected.push(100 + n as i64);
            for service in &services {
                ask(service, "a", Consistency::any()).await.ok();
            }
        }
        for service in &services {
            assert_eq!(numbers(service, "a").await, expected, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn a_view_stops_at_a_gap_in_the_log_and_says_so() {
    for kind in stores() {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        add(&service, "a", 1).await;
        assert_eq!(numbers(&service, "a").await, [1]);
        shop.bench.log.lose(Some(2..4));
        add(&service, "a", 2).await;
        add_all(&service, "a", vec![3, 4]).await;
        add_all(&service, "a", vec![5, 6]).await;
        let failing = |status: &ViewStatus| {
            let state = status.serving.as_ref().map(|copy| &copy.state);
            matches!(state, Some(CopyState::Failing { .. }))
        };
        until(&service, failing).await;
        let token = service_head(&service).await;
        let fail = Consistency {
            seen: token,
            policy: Policy::Fail,
        };
        let error = ask(&service, "a", fail).await.unwrap_err().to_string();
        assert!(error.contains("leaves out positions"), "{kind:?}: {error}");
        let shown = ask(&service, "a", Consistency::any()).await.unwrap().0;
        assert!(shown.len() < 3, "{kind:?}: {shown:?}");
        // The log is whole again: the view goes on by itself.
        shop.bench.log.lose(None);
        while failing(&service.view("numbers").unwrap().status().await) {
            shop.bench.clock.advance(Duration::from_secs(1));
            settle().await;
        }
        assert_eq!(numbers(&service, "a").await, [1, 2, 3, 4, 5, 6], "{kind:?}");
    }
}

#[tokio::test]
async fn a_log_that_is_shorter_than_a_view_makes_the_view_say_so() {
    for kind in stores().into_iter().filter(|kind| *kind != Memory) {
        let shop = Shop::new();
        let service = shop.open(kind).await;
        for n in 1..4 {
            add(&service, "a", n).await;
        }
        assert_eq!(numbers(&service, "a").await, [1, 2, 3]);
        drop(service);
        // An older log beside the newer rows.
        let older = Shop {
            bench: Bench::new(),
            snapshots: shop.snapshots.clone(),
            dir: TempDir(shop.dir.0.clone()),
            name: shop.name.clone(),
        };
        let service = older.open(kind).await;
        let failing = |status: &ViewStatus| {
            let state = status.serving.as_ref().map(|copy| &copy.state);
            matches!(state, Some(CopyState::Failing { .. }))
        };
        until(&service, failing).await;
    }
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the rights of files are not the view's business"
)]
async fn rows_in_sqlite_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let shop = Shop::new();
    // A directory of the user's, which others may look into.
    std::fs::create_dir(&shop.dir.0).unwrap();
    let service = shop.open(Sqlite).await;
    add(&service, "a", 1).await;
    assert_eq!(numbers(&service, "a").await, [1]);
    let mut files = 0;
    for file in std::fs::read_dir(&shop.dir.0).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}: {mode:o}", file.file_name());
        files += 1;
    }
    assert!(files >= 2, "{files}");
}
