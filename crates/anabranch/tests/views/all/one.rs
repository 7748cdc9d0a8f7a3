//! What is asked of one store only.

use super::*;

/// What the panicking query of [`InMemory`] asks.
#[derive(Debug, Serialize, Deserialize)]
struct AskAndPanic;

impl Query for AskAndPanic {
    type View = InMemory;
    type Answer = Vec<i64>;
    const NAME: &'static str = "panic";

    fn answer(&self, _: &Rows) -> Result<Vec<i64>, HandleError> {
        panic!("no answer to this")
    }
}

#[tokio::test]
async fn a_panic_in_a_query_costs_only_its_answer() {
    let shop = Shop::new();
    let service = shop.open(Memory).await;
    add(&service, "a", 1).await;
    assert_eq!(numbers(&service, "a").await, [1]);
    let asked = service.query(AskAndPanic, Consistency::any()).await;
    let error = asked.unwrap_err().to_string();
    assert_eq!(error, "query panic: no answer to this");
    add(&service, "a", 2).await;
    assert_eq!(numbers(&service, "a").await, [1, 2]);
}

/// Lets [`Slow`] take in one event for each permit.
static PERMITS: Mutex<u64> = Mutex::new(0);
static MORE_PERMITS: std::sync::Condvar = std::sync::Condvar::new();

/// A view that takes its time.
struct Slow;

impl View for Slow {
    const NAME: &'static str = "slow";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;
    type Store = Sqlite;

    fn set_up(store: &mut Sqlite) -> Result<(), HandleError> {
        store.run("CREATE TABLE seen (n INTEGER NOT NULL); INSERT INTO seen VALUES (0)")
    }

    fn handle(store: &mut Sqlite, _: &CounterEvent, _: &EventRef<'_>) -> Result<(), HandleError> {
        let permits = PERMITS.lock().unwrap();
        let mut permits = MORE_PERMITS.wait_while(permits, |n| *n == 0).unwrap();
        *permits -= 1;
        store.execute("UPDATE seen SET n = n + 1", [])?;
        Ok(())
    }
}

/// How many events the slow view has seen.
#[derive(Debug, Serialize, Deserialize)]
struct Seen;

impl Query for Seen {
    type View = Slow;
    type Answer = u64;
    const NAME: &'static str = "seen";

    fn answer(&self, store: &Sqlite) -> Result<u64, HandleError> {
        let seen = store.one("SELECT n FROM seen", [], |row| row.get::<_, i64>(0))?;
        Ok(u64::try_from(seen.unwrap_or(0))?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_view_holds_up_neither_the_writers_nor_other_views() {
    const WRITES: i64 = 500;
    let bench = Bench::new();
    let dir = TempDir::new();
    let disk = anabranch_env::Env::os().disk;
    let service = Service::builder("test", bench.log(), bench.time.clone())
        .entity::<Counter>()
        .view_in_sqlite(ViewSpec::<Slow>::new(), disk, &dir.0)
        .view(spec::<InMemory>().query::<AskMemory>());
    let service = service.start().await.unwrap();
    let mut token = Cut::start();
    for n in 0..WRITES {
        token = add(&service, "a", 100 + n).await.token;
    }
    // The slow one has not seen a single one of them yet.
    let quick = ask(&service, "a", after(&token)).await.unwrap().0;
    assert_eq!(quick.len(), WRITES as usize);
    *PERMITS.lock().unwrap() = u64::MAX;
    MORE_PERMITS.notify_all();
    let seen = service.query(Seen, after(&token)).await.unwrap().value;
    assert_eq!(seen, WRITES as u64);
}
