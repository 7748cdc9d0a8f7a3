//! Views in PostgreSQL, where the database is not there, goes away or comes back: what the
//! tests of all views cannot ask of a file.
//!
//! They need a server: `cargo xtask test` starts one, and so does `cargo xtask backends up`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::Duration;

use anabranch_domain::{EventRef, HandleError, Query, Retry, View};
use anabranch_env::Env;
use anabranch_model::Cut;
use anabranch_runtime::view::{
    Consistency, CopyState, OperateError, QueryError, ViewOptions, ViewSpec, ViewStatus,
};
use anabranch_runtime::{EntityOptions, Service, StartError};
use anabranch_view_postgres::{InPostgres as _, Postgres, tokio_postgres};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

use crate::support::{Bench, Counter, CounterCommand, CounterEvent, settle};

/// Where the server is. Without one the tests say so and do nothing.
pub fn address() -> Option<String> {
    static SAID: Once = Once::new();
    let from_environment = std::env::var("ANABRANCH_TEST_POSTGRES").ok();
    let found = from_environment.or_else(|| {
        // What `cargo xtask backends up` leaves beside the directory of this test's files.
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../backends/postgres.address");
        #[expect(clippy::disallowed_methods, reason = "xtask has written it")]
        std::fs::read_to_string(file).ok()
    });
    if found.is_none() {
        SAID.call_once(|| {
            let text = "skipped: views in PostgreSQL: there is no server; \
                        `cargo xtask backends up` starts one\n";
            // Not by a macro, whose output a passing test keeps to itself.
            std::io::stderr().write_all(text.as_bytes()).unwrap();
        });
    }
    found
}

/// The numbers of each counter. The database refuses 777, and 778 in a way that the view's
/// code passes over.
struct Ledger;

impl View for Ledger {
    const NAME: &'static str = "ledger";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["counter"];
    type Event = CounterEvent;
    type Store = Postgres;

    fn set_up(store: &mut Postgres) -> Result<(), HandleError> {
        store.run(
            "CREATE TABLE ledger (id bigserial PRIMARY KEY, key text NOT NULL,
                n bigint NOT NULL CONSTRAINT no_777 CHECK (n <> 777))",
        )
    }

    fn handle(
        store: &mut Postgres,
        event: &CounterEvent,
        about: &EventRef<'_>,
    ) -> Result<(), HandleError> {
        let CounterEvent::Added { n } = event else {
            return Ok(());
        };
        if *n == 778 {
            store.execute("SELECT 1 / (778 - $1::bigint)", &[n]).ok();
            return Ok(());
        }
        let key = about.stream.split_once('/').ok_or("no key")?.1;
        store.execute("INSERT INTO ledger (key, n) VALUES ($1, $2)", &[&key, n])
    }
}

/// The numbers of one counter, in order.
#[derive(Debug, Serialize, Deserialize)]
struct Numbers {
    key: String,
}

impl Query for Numbers {
    type View = Ledger;
    type Answer = Vec<i64>;
    const NAME: &'static str = "numbers";

    fn answer(&self, store: &Postgres) -> Result<Vec<i64>, HandleError> {
        let select = "SELECT n FROM ledger WHERE key = $1 ORDER BY id";
        store.all(select, &[&self.key], |row| row.try_get(0))
    }
}

/// A log, a database behind a proxy, and a service's name that nobody else has.
struct Shop {
    bench: Bench,
    name: String,
    proxy: Proxy,
    direct: String,
}

impl Shop {
    fn new() -> Option<Self> {
        let direct = address()?;
        Some(Self {
            bench: Bench::new(),
            name: format!("shop_{:016x}", Env::os().rng.next_u128() as u64),
            proxy: Proxy::start(&direct),
            direct,
        })
    }

    async fn start(&self, address: &str) -> Result<Service, StartError> {
        let spec = ViewSpec::<Ledger>::new()
            .options(ViewOptions {
                retry: Retry::NEVER,
                ..ViewOptions::default()
            })
            .query::<Numbers>();
        Service::builder(&*self.name, self.bench.log(), self.bench.time.clone())
            .entity_with::<Counter>(EntityOptions::default())
            .view_in_postgres(spec, address)
            .start()
            .await
    }

    /// A service whose database is behind the proxy, and whose view serves.
    async fn open(&self) -> Service {
        let service = self.start(&self.proxy.address).await.unwrap();
        until(&service, |status| status.serving.is_some()).await;
        service
    }

    /// Whether the view gets to where the log ends, given time. Time passes here only.
    async fn numbers(&self, service: &Service) -> Vec<i64> {
        let head = self.bench.log.inner();
        let head = anabranch_log::Log::head(&**head).await.unwrap();
        self.until_in_time(service, |status| {
            let copy = status.serving.as_ref();
            copy.is_some_and(|copy| copy.cut.covers(&head))
        })
        .await;
        ask(service, head).await.unwrap()
    }

    async fn until_in_time(&self, service: &Service, what: impl Fn(&ViewStatus) -> bool) {
        while !what(&status(service).await) {
            self.bench.clock.advance(Duration::from_secs(1));
            settle().await;
        }
    }

    async fn admin(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.direct, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    fn schema(&self, generation: u32) -> String {
        format!("{}__ledger_v1_g{generation}", self.name)
    }
}

async fn ask(service: &Service, seen: Cut) -> Result<Vec<i64>, QueryError> {
    let key = "a".to_owned();
    let consistency = Consistency::after(seen, Duration::from_secs(5));
    let answer = service.query(Numbers { key }, consistency).await?;
    Ok(answer.value)
}

async fn add(service: &Service, n: i64) {
    let counter = service.entity::<Counter>("a");
    counter.send(CounterCommand::Add { n }).await.unwrap();
}

async fn status(service: &Service) -> ViewStatus {
    service.view("ledger").unwrap().status().await
}

async fn until(service: &Service, what: impl Fn(&ViewStatus) -> bool) {
    while !what(&status(service).await) {
        tokio::task::yield_now().await;
    }
}

fn failing(status: &ViewStatus) -> Option<&str> {
    match &status.serving.as_ref()?.state {
        CopyState::Failing { reason } => Some(reason),
        _ => None,
    }
}

async fn failure(service: &Service) -> String {
    until(service, |status| failing(status).is_some()).await;
    failing(&status(service).await).unwrap().to_owned()
}

fn has_note(service: &Service, part: &str) -> bool {
    service
        .diagnostics()
        .iter()
        .any(|note| note.text.contains(part))
}

/// Stands between a service and its database, and cuts what goes through it.
struct Proxy {
    address: String,
    state: Arc<(Mutex<Way>, Condvar)>,
}

#[derive(Default)]
struct Way {
    sockets: Vec<TcpStream>,
    is_closed: bool,
    is_held: bool,
    /// The next answer to a COMMIT is kept from who waits for it, who is cut off.
    eats_commit: bool,
}

/// What the server says when a transaction is kept.
const COMMITTED: &[u8] = b"COMMIT\0";

impl Proxy {
    fn start(direct: &str) -> Self {
        let (before, after) = direct.rsplit_once('@').unwrap();
        let (server, path) = after.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("{before}@{}/{path}", listener.local_addr().unwrap());
        let state = Arc::new((Mutex::<Way>::default(), Condvar::new()));
        let (server, shared) = (server.to_owned(), state.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                let mut way = shared.0.lock().unwrap();
                if way.is_closed {
                    continue;
                }
                for socket in [&client, &server] {
                    socket.set_nodelay(true).unwrap();
                    way.sockets.push(socket.try_clone().unwrap());
                }
                let (up, down) = (shared.clone(), shared.clone());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || carry(from, to, &up, false));
                std::thread::spawn(move || carry(server, client, &down, true));
            }
        });
        Self { address, state }
    }

    fn change(&self, change: impl FnOnce(&mut Way)) {
        change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
    }

    /// Cuts every connection.
    fn cut(&self) {
        self.change(|way| {
            for socket in way.sockets.drain(..) {
                // One that is closed already is cut.
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|way| (way.is_closed, way.is_held) = (true, false));
        self.cut();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &(Mutex<Way>, Condvar), is_answer: bool) {
    let mut buffer = [0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..read];
        let mut way = state.0.lock().unwrap();
        while way.is_held {
            way = state.1.wait(way).unwrap();
        }
        let says_committed = bytes.windows(COMMITTED.len()).any(|part| part == COMMITTED);
        let is_eaten = is_answer && says_committed && way.eats_commit;
        if is_eaten {
            way.eats_commit = false;
        }
        drop(way);
        if is_eaten || to.write_all(bytes).is_err() {
            break;
        }
    }
    for socket in [from, to] {
        // The other direction may have closed it.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

#[tokio::test]
async fn an_event_that_the_database_refuses_is_named_although_statements_run_ahead() {
    for (n, why) in [(777, "no_777"), (778, "division by zero")] {
        let Some(shop) = Shop::new() else { return };
        let service = shop.open().await;
        for n in [1, 2, n, 3] {
            add(&service, n).await;
        }
        let has_stopped = |status: &ViewStatus| {
            let state = status.serving.as_ref().map(|copy| copy.state.clone());
            matches!(state, Some(CopyState::Stopped { .. }))
        };
        until(&service, has_stopped).await;
        let copy = status(&service).await.serving.unwrap();
        let CopyState::Stopped { event } = copy.state else {
            panic!("{:?}", copy.state)
        };
        assert_eq!((event.version, copy.cut), (2, Cut::at(2)));
        assert!(event.reason.contains(why), "{event}");
        assert_eq!(ask(&service, Cut::at(2)).await.unwrap(), [1, 2]);
        service.view("ledger").unwrap().skip(None).await.unwrap();
        assert_eq!(shop.numbers(&service).await, [1, 2, 3]);
    }
}

#[tokio::test]
async fn many_events_of_one_transaction_keep_their_order() {
    let Some(shop) = Shop::new() else { return };
    let service = shop.open().await;
    // More than may be on the way at a time.
    let numbers: Vec<i64> = (0..2000).map(|n| n + 10_000).collect();
    let counter = service.entity::<Counter>("a");
    let add = CounterCommand::AddAll {
        numbers: numbers.clone(),
    };
    counter.send(add).await.unwrap();
    assert_eq!(shop.numbers(&service).await, numbers);
}

#[tokio::test]
async fn a_view_whose_connection_is_lost_goes_on_by_itself_and_counts_each_event_once() {
    let Some(shop) = Shop::new() else { return };
    let service = shop.open().await;
    let mut expected = Vec::new();
    for n in 100..140 {
        add(&service, n).await;
        expected.push(n);
        if n % 4 == 0 {
            // Somewhere in its work.
            for _ in 0..n % 16 {
                tokio::task::yield_now().await;
            }
            shop.proxy.cut();
        }
    }
    assert_eq!(shop.numbers(&service).await, expected);
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_and_its_return_too() {
    let Some(shop) = Shop::new() else { return };
    let service = shop.open().await;
    add(&service, 1).await;
    assert_eq!(shop.numbers(&service).await, [1]);
    shop.proxy.change(|way| way.is_closed = true);
    shop.proxy.cut();
    add(&service, 2).await;
    let reason = failure(&service).await;
    assert!(
        reason.contains("no connection to postgres://anabranch@127"),
        "{reason}"
    );
    assert!(
        reason.contains("start the server or correct the address"),
        "{reason}"
    );
    assert!(has_note(&service, "no connection to postgres://"));
    let behind = service.query(
        Numbers {
            key: "a".to_owned(),
        },
        Consistency::after(Cut::at(1), Duration::from_secs(5)),
    );
    let error = behind.await.unwrap_err();
    assert!(matches!(error, QueryError::Store(_)), "{error}");
    shop.proxy.change(|way| way.is_closed = false);
    assert_eq!(shop.numbers(&service).await, [1, 2]);
    assert!(has_note(&service, "answers again; the view goes on"));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let Some(shop) = Shop::new() else { return };
    let service = shop.open().await;
    for n in 1..=5 {
        shop.proxy.change(|way| way.eats_commit = true);
        add(&service, n).await;
        assert_eq!(shop.numbers(&service).await, (1..=n).collect::<Vec<_>>());
        let was_eaten = !shop.proxy.state.0.lock().unwrap().eats_commit;
        assert!(was_eaten, "the answer was not lost");
    }
}

#[tokio::test]
async fn connections_that_ended_while_nobody_used_them_are_not_missed() {
    let Some(shop) = Shop::new() else { return };
    let service = shop.open().await;
    add(&service, 1).await;
    assert_eq!(shop.numbers(&service).await, [1]);
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = $1";
    let name = format!("anabranch {}", shop.name);
    let ended = shop.admin().await.query_one(end, &[&name]).await.unwrap();
    assert!(ended.get::<_, i64>(0) > 0);
    // No time passes: nothing had to be tried again later.
    assert_eq!(ask(&service, Cut::at(1)).await.unwrap(), [1]);
    add(&service, 2).await;
    until(&service, |status| {
        status
            .serving
            .as_ref()
            .is_some_and(|copy| copy.cut.covers(&Cut::at(2)))
    })
    .await;
    assert_eq!(ask(&service, Cut::at(2)).await.unwrap(), [1, 2]);
    assert!(
        service.diagnostics().is_empty(),
        "{:?}",
        service.diagnostics()
    );
}

#[tokio::test]
async fn a_database_that_does_not_answer_holds_up_its_view_only() {
    let Some(shop) = Shop::new() else { return };
    let service = shop.open().await;
    add(&service, 1).await;
    assert_eq!(shop.numbers(&service).await, [1]);
    shop.proxy.change(|way| way.is_held = true);
    for n in 102..120 {
        add(&service, n).await;
        settle().await;
    }
    let copy = status(&service).await.serving.unwrap();
    assert_eq!((copy.cut, copy.lag_events), (Cut::at(1), 18));
    shop.proxy.change(|way| way.is_held = false);
    let expected: Vec<i64> = [1].into_iter().chain(102..120).collect();
    assert_eq!(shop.numbers(&service).await, expected);
}

#[tokio::test]
async fn a_service_does_not_start_without_its_database_and_says_what_to_do() {
    let Some(shop) = Shop::new() else { return };
    let cases = [
        // A port that nothing may listen on.
        (
            "postgres://ann:secret@127.0.0.1:1/shop",
            "start the server or correct the address",
        ),
        (
            "postgres://ann:secret@127.0.0.1:1/shop?sslmode=require",
            "sslmode=disable",
        ),
        (
            "mysql://ann:secret@127.0.0.1/shop",
            "postgres://user@host:port/database",
        ),
        (
            &shop.direct.replace("anabranch:", "stranger:secret"),
            "password",
        ),
        (
            &shop.direct.replace("/postgres", "/nowhere"),
            "\"nowhere\" does not exist",
        ),
    ];
    for (address, text) in cases {
        let error = shop.start(address).await.err().unwrap();
        let error = error.to_string();
        assert!(error.starts_with("the store of view ledger: "), "{error}");
        assert!(error.contains(text), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_second_runtime_on_one_view_is_told_of() {
    let Some(shop) = Shop::new() else { return };
    let services = [shop.open().await, shop.open().await];
    for n in 0..20 {
        add(&services[n % 2], 100 + n as i64).await;
        for service in &services {
            shop.numbers(service).await;
        }
    }
    let expected: Vec<i64> = (100..120).collect();
    for service in &services {
        assert_eq!(shop.numbers(service).await, expected);
    }
    let told = services
        .iter()
        .filter(|service| has_note(service, "writes the same rows"));
    assert!(told.count() > 0);
}

#[tokio::test]
async fn two_runtimes_cannot_both_say_which_copies_there_are() {
    let Some(shop) = Shop::new() else { return };
    let (one, other) = (shop.open().await, shop.open().await);
    add(&one, 1).await;
    assert_eq!(shop.numbers(&other).await, [1]);
    let built = one.view("ledger").unwrap().rebuild().await.unwrap();
    until(&one, |status| {
        status.serving.as_ref().is_some_and(|copy| copy.id == built)
    })
    .await;
    let error = other.view("ledger").unwrap().rebuild().await.unwrap_err();
    assert!(matches!(error, OperateError::Store(_)), "{error}");
    assert!(
        error.to_string().contains("another runtime has changed"),
        "{error}"
    );
    assert_eq!(ask(&one, Cut::start()).await.unwrap(), [1]);
    drop(other);
    let other = shop.open().await;
    assert_eq!(status(&other).await.serving.unwrap().id, built);
}

#[tokio::test]
async fn a_copy_that_somebody_removed_is_told_and_not_made_empty() {
    let Some(shop) = Shop::new() else { return };
    let service = shop.open().await;
    add(&service, 1).await;
    assert_eq!(shop.numbers(&service).await, [1]);
    let drop = format!("DROP SCHEMA {} CASCADE", shop.schema(1));
    shop.admin().await.batch_execute(&drop).await.unwrap();
    add(&service, 2).await;
    let reason = failure(&service).await;
    assert!(reason.contains("are gone"), "{reason}");
    assert!(reason.contains("rebuild the view"), "{reason}");
    let built = service.view("ledger").unwrap().rebuild().await.unwrap();
    until(&service, |status| {
        status.serving.as_ref().is_some_and(|copy| copy.id == built)
    })
    .await;
    assert_eq!(shop.numbers(&service).await, [1, 2]);
}

#[tokio::test]
async fn a_database_that_was_put_back_gets_what_it_lacks_and_shows_nothing_stale() {
    let Some(shop) = Shop::new() else { return };
    let service = shop.open().await;
    for n in 1..=3 {
        add(&service, n).await;
    }
    assert_eq!(shop.numbers(&service).await, [1, 2, 3]);
    let (schema, admin) = (shop.schema(1), shop.admin().await);
    let keep = format!("CREATE TABLE {schema}.kept AS SELECT * FROM {schema}.anabranch_progress");
    admin.batch_execute(&keep).await.unwrap();
    add(&service, 4).await;
    assert_eq!(shop.numbers(&service).await, [1, 2, 3, 4]);
    let put_back = format!(
        "DELETE FROM {schema}.ledger WHERE n = 4;
         UPDATE {schema}.anabranch_progress p SET progress = k.progress FROM {schema}.kept k"
    );
    admin.batch_execute(&put_back).await.unwrap();
    let stale = ask(&service, Cut::at(4)).await.unwrap_err();
    assert!(matches!(stale, QueryError::NotReached { .. }), "{stale}");
    // The view goes back to the log although nothing new has happened.
    assert!(failure(&service).await.contains("was put back"));
    shop.until_in_time(&service, |status| failing(status).is_none())
        .await;
    assert_eq!(shop.numbers(&service).await, [1, 2, 3, 4]);
    assert!(has_note(&service, "was put back"));
}
