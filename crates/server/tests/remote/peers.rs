//! One service asks another by a port whose other side is a server.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anabranch_access::Key;
use anabranch_domain::{
    Command as _, CommandEnvelope, CommandId, Decide, Entity, Event, Publishes, StreamId, Timestamp,
};
use anabranch_env::Env;
use anabranch_log::{
    Append, AppendError, BoxFuture, Expect, Log, MemoryLog, Order, Rejection, VersionRange,
};
use anabranch_log_remote::{Options, Registration, RemoteLog, Sought};
use anabranch_model::{Cut, EventId, NewEvent, TokenKey, TokenSeal};
use anabranch_peer::{Declared, Directory, FixedDirectory, PeerOptions, RemotePort};
use anabranch_runtime::port::{Ask, Dispatch, Port, Problem, Subject};
use anabranch_runtime::view::{Consistency, Question};
use anabranch_runtime::{
    Accepted, Delivered, EntityHandle, EntityOptions, Fleet, ManualTime, SendError, Service, Time,
};
use anabranch_server::client::{Client, Method, Reply};
use anabranch_server::{Doors, RegisteredBy, Registrations, Server};
use anabranch_wire::PeerDelivered;
use futures_util::FutureExt as _;
use futures_util::future::{Either, join, join_all, select};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::audit;
use crate::bank::{self, Account, AccountCommand, AccountEvent};
use crate::support::{Network, Served};

/// The bank behind a server, and its fleet.
struct Bank {
    url: String,
    fleet: Arc<Fleet>,
    log: Arc<MemoryLog>,
    env: Env,
}

impl Bank {
    async fn open() -> Self {
        Self::open_at(Server::bind("127.0.0.1:0").await.unwrap()).await
    }

    async fn open_at(listener: TcpListener) -> Self {
        let bank = Self::closed_at(listener);
        let log: Arc<dyn Log> = bank.log.clone();
        let options = EntityOptions::default();
        let service = bank::service(log, &bank.env, bank.fleet.port(), options).await;
        bank.fleet.join(service);
        bank
    }

    /// A server without services.
    async fn closed() -> Self {
        Self::closed_at(Server::bind("127.0.0.1:0").await.unwrap())
    }

    fn closed_at(listener: TcpListener) -> Self {
        let env = Env::os();
        let log = Arc::new(MemoryLog::new(env.clone()));
        let fleet = Arc::new(Fleet::new());
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = TokenKey {
            id: 1,
            secret: [7; 32],
        };
        let server = Server::new(fleet.clone(), log.clone(), Time::of(&env));
        let server = server.seal(TokenSeal::new(7, 0, key));
        tokio::spawn(server.serve(listener, std::future::pending()));
        Self {
            url,
            fleet,
            log,
            env,
        }
    }

    async fn balance(&self, key: &str) -> u64 {
        let bank = self.fleet.service("bank").unwrap();
        let inspection = bank.entity::<Account>(key).inspect(None).await.unwrap();
        inspection.state.parse::<Account>().unwrap().balance
    }
}

fn all_at(url: &str) -> Arc<dyn Directory> {
    let at = |name: &str| BTreeMap::from([(name.to_owned(), url.to_owned())]);
    Arc::new(FixedDirectory {
        categories: at("account"),
        views: at("balances"),
    })
}

fn port_to(url: &str) -> Arc<dyn Port> {
    port(all_at(url), PeerOptions::default())
}

#[tokio::test]
async fn what_a_process_sends_and_its_service_has_not_declared_is_told_once() {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let bank = Bank::open().await;
    let mut options = PeerOptions::default();
    options.declared = Some(Declared {
        service: "till".to_owned(),
        sends: ["price".to_owned()].into(),
        tell: |text| TOLD.lock().unwrap().push(text.to_owned()),
    });
    let port = port(all_at(&bank.url), options);
    let told = || TOLD.lock().unwrap().clone();
    // Handed on for somebody else.
    port.deliver(deposit(1, 5)).await.unwrap();
    assert!(told().is_empty(), "{:?}", told());
    for id in [2, 3] {
        let mut sent = deposit(id, 5);
        sent.command.reply_to = Some(StreamId::of("charging", "1").unwrap());
        port.deliver(sent).await.unwrap();
    }
    let told = told();
    assert_eq!(told.len(), 1, "{told:?}");
    let words = "service till sends to account, which it has not declared";
    assert!(told[0].starts_with(words), "{told:?}");
}

/// Nobody waits for who is away.
fn at_once() -> PeerOptions {
    let mut options = PeerOptions::default();
    options.away = Duration::ZERO;
    options
}

fn port(directory: Arc<dyn Directory>, options: PeerOptions) -> Arc<dyn Port> {
    Arc::new(RemotePort::new(directory, Time::of(&Env::os()), options))
}

fn deposit(id: u128, amount: u64) -> Dispatch {
    deposit_at("ada", id, amount)
}

fn deposit_at(key: &str, id: u128, amount: u64) -> Dispatch {
    let (name, data) = AccountCommand::Deposit { amount }.to_wire().unwrap();
    CommandEnvelope {
        id: CommandId::from_u128(id),
        to: StreamId::of("account", key).unwrap(),
        name: name.to_owned(),
        data,
        role: anabranch_domain::Role::Plain,
        reply_to: None,
        correlation_id: Some("story".to_owned()),
        traceparent: None,
        causes: Cut::start(),
    }
    .into()
}

fn done(delivered: Delivered) -> Accepted {
    match delivered {
        Delivered::Done(accepted) => accepted,
        Delivered::Taken => panic!("a saga has taken it"),
    }
}

/// An address at which nobody is.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_command_to_another_process_says_what_it_would_say_here() {
    let bank = Bank::open().await;
    let far = port_to(&bank.url);
    let near: Arc<dyn Port> = bank.fleet.port();
    let first = done(far.deliver(deposit(1, 5)).await.unwrap());
    assert_eq!((first.version, first.repeated), (Some(0), false));
    let event = first.events[0].decode::<AccountEvent>().unwrap();
    assert!(matches!(event, AccountEvent::Deposited { amount: 5 }));
    let again = Accepted {
        repeated: true,
        ..first
    };
    assert_eq!(done(far.deliver(deposit(1, 5)).await.unwrap()), again);
    assert_eq!(done(near.deliver(deposit(1, 5)).await.unwrap()), again);
    // What is refused is refused in the same words.
    let (name, data) = AccountCommand::Withdraw { amount: 9 }.to_wire().unwrap();
    let mut too_much = deposit(2, 0);
    too_much.command.name = name.to_owned();
    too_much.command.data = data;
    let mut too_late = deposit(3, 1);
    too_late.expect = Some(Expect::Empty);
    let mut nonsense = deposit(4, 1);
    nonsense.command.name = "Nonsense".to_owned();
    for refused in [too_much, too_late, nonsense, deposit(1, 6)] {
        let said = far.deliver(refused.clone()).await.unwrap_err();
        assert_eq!(near.deliver(refused).await.unwrap_err(), said);
    }
    assert_eq!(bank.balance("ada").await, 5);
}

#[tokio::test]
async fn clocks_that_are_an_hour_apart_change_nothing_between_services() {
    const HOUR: u64 = 3_600_000_000;
    let bank = Bank::open().await;
    let now = Time::of(&bank.env).now().micros();
    for (id, wall) in [(1, now - HOUR), (2, now + HOUR)] {
        let clock = ManualTime::new();
        clock.set_wall(Timestamp::from_micros(wall));
        let time = Time::manual(&clock, bank.env.rng.clone());
        let port = RemotePort::new(all_at(&bank.url), time, PeerOptions::default());
        let port: Arc<dyn Port> = Arc::new(port);
        let mut sent = deposit(id, 5);
        sent.timeout = Some(Duration::from_secs(5));
        let done = done(port.deliver(sent).await.unwrap());
        assert!(!done.repeated, "{done:?}");
    }
    assert_eq!(bank.balance("ada").await, 10);
}

#[tokio::test]
async fn an_entity_is_the_same_call_wherever_it_is() {
    let bank = Bank::open().await;
    let time = Time::of(&bank.env);
    let ada = EntityHandle::<Account>::through(port_to(&bank.url), time, "ada");
    let accepted = ada.send(AccountCommand::Deposit { amount: 7 }).await;
    assert_eq!(accepted.unwrap().version, Some(0));
    let refused = ada.send(AccountCommand::Withdraw { amount: 8 }).await;
    assert!(matches!(refused, Err(SendError::Rejected(no)) if no.code == "out-of-funds"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_of_the_serving_program_owns_is_appended_to_by_nobody_else() {
    let bank = Bank::open().await;
    let log: Arc<dyn Log> = bank.log.clone();
    let signs = Service::builder("signs", log, Time::of(&bank.env)).publishing_entity::<Sign>();
    bank.fleet.join(signs.start().await.unwrap());
    let stranger = RemoteLog::open(&bank.url, Options::default()).unwrap();
    let owned = [
        (StreamId::new("account/ada"), "bank"),
        (StreamId::system("$schema/account"), "bank"),
        // What is published is its publisher's.
        (StreamId::new("sign-news/ada"), "signs"),
    ];
    for (stream, by) in owned {
        let forged = NewEvent::new(
            EventId::from_u128(1),
            stream.unwrap(),
            "Deposited".parse().unwrap(),
            r#"{"amount":1000000}"#,
        );
        let refused = stranger.append(Append::event(forged)).await;
        let Err(AppendError::Rejected(Rejection::NotOwner { owner, .. })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(owner, by);
    }
    let registry = stranger.registry();
    let claim = Registration {
        name: "forger".to_owned(),
        owns: vec!["sign-news".to_owned()],
        ..Registration::default()
    };
    let refused = registry.register(claim).await.err().expect("it is owned");
    assert!(refused.to_string().contains("belongs to service signs"));
}

#[derive(Default, Serialize, Deserialize)]
struct Sign;

#[derive(Clone, Serialize, Deserialize, Event)]
enum Painted {
    Painted {},
}

impl Entity for Sign {
    const CATEGORY: &'static str = "sign";
    type Command = Painted;
    type Event = Painted;
    type Rejection = anabranch_domain::Rejection;

    fn decide(&self, c: &Painted, _: &Decide) -> Result<Vec<Painted>, Self::Rejection> {
        Ok(vec![c.clone()])
    }

    fn evolve(&mut self, _: &Painted) {}
}

impl Publishes for Sign {
    const PUBLISHED: &'static str = "sign-news";
    type Published = Painted;

    fn publish(&self, event: &Painted) -> Option<Painted> {
        Some(event.clone())
    }
}

#[tokio::test]
async fn a_view_of_another_process_answers_with_at_least_what_was_seen() {
    let bank = Bank::open().await;
    let far = port_to(&bank.url);
    let accepted = done(far.deliver(deposit(1, 5)).await.unwrap());
    let mut ask = Ask {
        view: "balances".to_owned(),
        query: "above".to_owned(),
        question: Question::Fields(vec![("least".to_owned(), "5".to_owned())]),
        consistency: Consistency::after(accepted.token.clone(), Duration::from_secs(10)),
    };
    let answer = far.ask(ask.clone()).await.unwrap();
    assert_eq!(answer.value.as_str(), "1");
    assert!(answer.cut.covers(&accepted.token));
    ask.question = Question::Fields(Vec::new());
    let wrong = far.ask(ask.clone()).await.unwrap_err();
    assert_eq!(bank.fleet.port().ask(ask).await.unwrap_err(), wrong);
    assert!(matches!(wrong, Problem::Query(_)), "{wrong}");
}

/// What a client is told of a saga that it starts, and waits for, at a gateway: that has a log, and no service.
async fn lend_by_gateway(bank: &Bank, log: Arc<dyn Log>) -> Reply {
    let directory = FixedDirectory {
        categories: BTreeMap::from([("lending".to_owned(), bank.url.clone())]),
        views: BTreeMap::new(),
    };
    let far = port(Arc::new(directory), PeerOptions::default());
    let fleet = Arc::new(Fleet::and_elsewhere(far));
    let listener = Server::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let time = Time::of(&bank.env);
    let gateway = Server::new(fleet, log, time.clone()).without_log();
    tokio::spawn(gateway.serve(listener, std::future::pending()));
    let client = Client::new(&url, time).unwrap();
    let start = "/commands/lending/1?type=StartSaga";
    let wait = [("prefer", "wait=30")];
    let sent = client.send(Method::Post, start, &wait, r#"{"input":5}"#.into());
    sent.await.unwrap()
}

#[tokio::test]
async fn a_client_waits_for_the_end_of_a_saga_that_another_process_runs() {
    let bank = Bank::open().await;
    done(
        bank.fleet
            .port()
            .deliver(deposit_at("till", 1, 5))
            .await
            .unwrap(),
    );
    let reply = lend_by_gateway(&bank, bank.log.clone()).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    assert_eq!(reply.json()["ended"]["outcome"], "completed");
    assert_eq!(bank.balance("till").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_journal_of_a_saga_another_service_sees_how_it_ended_and_no_more() {
    let bank = Bank::open().await;
    let till = deposit_at("till", 1, 5);
    done(bank.fleet.port().deliver(till).await.unwrap());
    let log = || RemoteLog::open(&bank.url, Options::default()).unwrap();
    let log = Arc::new(tokio::task::block_in_place(log));
    let gateway = Registration {
        name: "gateway".to_owned(),
        ..Registration::default()
    };
    let _lease = log.registry().register(gateway).await.unwrap();
    let reply = lend_by_gateway(&bank, log.clone()).await;
    assert_eq!(reply.json()["ended"]["outcome"], "completed");
    let journal = StreamId::of("lending", "1").unwrap();
    let mut read = log.read_stream(&journal, VersionRange::ALL, Order::Forward);
    let mut types = Vec::new();
    while let Some(event) = read.next().await {
        types.push(event.unwrap().event_type().to_owned());
    }
    assert_eq!(types, ["SagaCompleted"]);
}

#[tokio::test]
async fn where_nobody_is_nothing_was_done_and_it_may_be_tried_again() {
    let far = port(all_at(&nobody().await), at_once());
    let error = far.deliver(deposit(1, 5)).await.unwrap_err();
    assert!(matches!(error, SendError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("nothing answers"), "{error}");
    let ask = Ask {
        view: "balances".to_owned(),
        query: "of".to_owned(),
        question: Question::Fields(Vec::new()),
        consistency: Consistency::any(),
    };
    let error = far.ask(ask).await.unwrap_err().of_send();
    assert!(matches!(error, SendError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn what_nobody_has_ever_had_is_not_waited_for() {
    let time = Time::manual(&ManualTime::new(), Env::os().rng.clone());
    let directory = Arc::new(FixedDirectory::default());
    let far: Arc<dyn Port> = Arc::new(RemotePort::new(directory, time, PeerOptions::default()));
    for id in 1..3 {
        let told = far.deliver(deposit(id, 5)).now_or_never();
        assert!(told.expect("it waits").unwrap_err().did_not_happen());
    }
}

/// Says one address after the other, and then that it is away.
struct Moving {
    addresses: Mutex<Vec<String>>,
    asked: AtomicUsize,
}

impl Directory for Moving {
    fn find<'a>(&'a self, _: Subject<'a>) -> BoxFuture<'a, Result<Option<String>, String>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let next = self.addresses.lock().unwrap().pop();
        Box::pin(async move { next.map(Some).ok_or_else(|| "it is away".to_owned()) })
    }
}

fn moving(mut addresses: Vec<String>) -> Arc<Moving> {
    addresses.reverse();
    Arc::new(Moving {
        addresses: Mutex::new(addresses),
        asked: AtomicUsize::new(0),
    })
}

/// Until it is done; what is refused meanwhile must say that nothing was.
async fn insist(port: &Arc<dyn Port>, dispatch: Dispatch) -> Accepted {
    loop {
        match port.deliver(dispatch.clone()).await {
            Ok(delivered) => return done(delivered),
            Err(error) => assert!(matches!(error, SendError::Unavailable { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_service_that_has_moved_is_found_where_it_is_now() {
    // Be it that requests wait for who is away, or that they are told at once.
    for options in [PeerOptions::default(), at_once()] {
        let bank = Bank::open().await;
        // Nobody is at its old address, and then a service that does not have what is asked.
        let other = Bank::closed().await;
        let old = vec![nobody().await, other.url, bank.url.clone()];
        let directory = moving(old);
        let far = port(directory.clone(), options);
        assert_eq!(insist(&far, deposit(1, 5)).await.version, Some(0));
        assert_eq!(directory.asked.load(Ordering::Relaxed), 3);
        // From now on the directory is away, and nobody asks it.
        assert_eq!(insist(&far, deposit(2, 5)).await.version, Some(1));
        assert_eq!(directory.asked.load(Ordering::Relaxed), 3);
    }
}

#[tokio::test]
async fn a_service_of_another_log_does_nothing() {
    let bank = Bank::open().await;
    let mut options = at_once();
    options.log = Some(format!("{:016x}", 8));
    let far = port(all_at(&bank.url), options);
    let error = far.deliver(deposit(1, 5)).await.unwrap_err();
    assert!(matches!(error, SendError::Unavailable { .. }), "{error}");
    assert_eq!(bank.balance("ada").await, 0);
    let mut options = PeerOptions::default();
    options.log = Some(format!("{:016x}", 7));
    let far = port(all_at(&bank.url), options);
    far.deliver(deposit(1, 5)).await.unwrap();
}

#[tokio::test]
async fn a_service_that_never_answers_leaves_the_outcome_unknown_when_the_time_is_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = port_to(&format!("http://{}", listener.local_addr().unwrap()));
    let mut dispatch = deposit(1, 5);
    dispatch.timeout = Some(Duration::from_millis(10));
    let error = far.deliver(dispatch).await.unwrap_err();
    assert!(matches!(error, SendError::Unknown { .. }), "{error}");
}

/// How many bytes come through before a connection breaks: from its first to where everything has
/// been said.
const BREAKS: [u64; 24] = [
    0, 20, 40, 60, 80, 100, 150, 200, 250, 300, 350, 400, 450, 500, 550, 600, 650, 700, 800, 900,
    1000, 1200, 1500, 2000,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_a_connection_breaks_a_command_is_done_once_and_no_word_of_it_is_wrong() {
    let bank = Bank::open().await;
    let network = Network::start(bank.url["http://".len()..].parse().unwrap(), &BREAKS);
    let good = port_to(&bank.url);
    let mut unknown = 0;
    for round in 0..2 * BREAKS.len() as u64 {
        // A port of its own has a connection of its own, which breaks where the next one does.
        let far = port(all_at(&network.url()), at_once());
        let dispatch = deposit(u128::from(round) + 1, 1);
        let before = bank.balance("ada").await;
        match far.deliver(dispatch.clone()).await {
            Ok(delivered) => assert!(!done(delivered).repeated),
            Err(error) if error.did_not_happen() => {
                assert_eq!(bank.balance("ada").await, before, "{error}");
            }
            Err(_) => unknown += 1,
        }
        // Sent again it is done, or has been.
        good.deliver(dispatch).await.unwrap();
        assert_eq!(bank.balance("ada").await, before + 1);
    }
    assert!(unknown > 0, "no answer was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_repeats_what_was_on_its_way_when_a_connection_broke() {
    let bank = Bank::open().await;
    let network = Network::start(bank.url["http://".len()..].parse().unwrap(), &BREAKS);
    for round in 0..BREAKS.len() as u64 {
        let far = port_to(&network.url());
        let delivered = far.deliver(deposit(u128::from(round) + 1, 1)).await;
        done(delivered.unwrap());
        assert_eq!(bank.balance("ada").await, round + 1);
    }
}

/// Says always the same, and rings when it has been asked twice: what it said first was wrong.
struct Twice {
    address: String,
    asked: AtomicUsize,
    twice: Notify,
}

impl Directory for Twice {
    fn find<'a>(&'a self, _: Subject<'a>) -> BoxFuture<'a, Result<Option<String>, String>> {
        if self.asked.fetch_add(1, Ordering::Relaxed) == 1 {
            self.twice.notify_one();
        }
        Box::pin(async { Ok(Some(self.address.clone())) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_a_service_that_is_started_again() {
    let address = nobody().await;
    let directory = Arc::new(Twice {
        address: address.clone(),
        asked: AtomicUsize::new(0),
        twice: Notify::new(),
    });
    let far = port(directory.clone(), PeerOptions::default());
    let waiting = (0..100).map(|i| far.deliver(deposit(i + 1, 1)));
    let started = async {
        directory.twice.notified().await;
        let listener = Server::bind(&address["http://".len()..]).await.unwrap();
        Bank::open_at(listener).await
    };
    let (waited, bank) = join(join_all(waiting), started).await;
    for delivered in waited {
        assert!(!done(delivered.unwrap()).repeated);
    }
    assert_eq!(bank.balance("ada").await, 100);
}

#[tokio::test]
async fn who_comes_when_a_service_has_been_away_for_long_is_told_at_once() {
    let (manual, rng) = (ManualTime::new(), Env::os().rng.clone());
    let directory = all_at(&nobody().await);
    let options = PeerOptions::default();
    let far: Arc<dyn Port> = Arc::new(RemotePort::new(
        directory,
        Time::manual(&manual, rng),
        options.clone(),
    ));
    let mut first = pin!(far.deliver(deposit(1, 1)));
    let passing = async {
        loop {
            manual.advance(Duration::from_millis(1));
            yield_now().await;
        }
    };
    match select(first.as_mut(), pin!(passing)).await {
        Either::Left((told, _)) => assert!(told.unwrap_err().did_not_happen()),
        Either::Right((never, _)) => never,
    }
    assert!(Time::manual(&manual, Env::os().rng.clone()).monotonic() >= options.away);
    // No time passes.
    let told = far.deliver(deposit(2, 1)).await;
    assert!(told.unwrap_err().did_not_happen());
}

#[tokio::test]
async fn a_server_that_is_a_version_older_is_asked_by_requests_alone() {
    let told = PeerDelivered {
        taken: true,
        version: None,
        repeated: false,
        events: Vec::new(),
        token: BTreeMap::new(),
    };
    let told = serde_json::to_string(&told).unwrap();
    let routes = axum::Router::new().route(
        "/peer/commands",
        axum::routing::post(move || async move { told }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = port_to(&format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let routes = TowerToHyperService::new(routes.clone());
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let served = http.serve_connection(TokioIo::new(stream), routes);
                // It ends with the test.
                drop(served.await);
            });
        }
    });
    for id in 1..4 {
        let delivered = far.deliver(deposit(id, 1)).await.unwrap();
        assert!(matches!(delivered, Delivered::Taken));
    }
}

#[tokio::test]
async fn many_requests_at_once_are_each_answered_as_alone() {
    let bank = Bank::open().await;
    let far = port_to(&bank.url);
    let asked = (0..500).map(|id| far.deliver(deposit(id / 2 + 1, 1)));
    let answers = join_all(asked).await;
    let repeated = answers.into_iter().filter(|answer| match answer {
        Ok(Delivered::Done(accepted)) => accepted.repeated,
        other => panic!("{other:?}"),
    });
    // Each was sent twice, and done once.
    assert_eq!(repeated.count(), 250);
    assert_eq!(bank.balance("ada").await, 250);
    let mut wrong = deposit(9_000, 1);
    wrong.command.name = "Plunder".to_owned();
    far.deliver(wrong).await.unwrap_err();
    far.deliver(deposit(9_001, 1)).await.unwrap();
}

/// Where services register, for a server of a bank.
struct At(RemoteLog);

impl Registrations for At {
    fn registered<'a>(
        &'a self,
        service: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<RegisteredBy>, String>> {
        Box::pin(async move {
            let registry = self.0.registry();
            let found = match service {
                Some(name) => {
                    let found = registry.find(Sought::Service(name.to_owned())).await;
                    found.map(|found| found.into_iter().collect())
                }
                None => registry.list().await,
            };
            let found: Vec<_> = found.map_err(|error| error.to_string())?;
            let keys = found.into_iter().filter_map(|found| found.key);
            Ok(keys.map(RegisteredBy::Key).collect())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_asks_has_registered_by_the_key_that_it_shows() {
    let env = Env::os();
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(env.clone()));
    let doors = Doors {
        auth: true,
        insecure: false,
    };
    let key = |name, scopes: &[&str]| audit::key(&*log, name, scopes);
    let shop = key("service shop", &["command:account", "append:shop"]);
    let mallory = key("mallory", &["command:account", "append:*"]);
    let ada = key("ada", &["command:account", "operate:account"]);
    let (time, anywhere) = (Time::of(&env), "127.0.0.1:0".parse().unwrap());
    let set = move |server: Server| server.doors(doors);
    let backbone = Served::start_with(log.clone(), anywhere, 7, time.clone(), set);
    let program = |key: &Key| {
        let mut options = Options::default();
        options.key = Some(key.clone());
        options.patience = Duration::ZERO;
        tokio::task::block_in_place(|| RemoteLog::open(&backbone.url(), options).unwrap())
    };
    let of_shop = program(&shop);
    let registration = Registration {
        name: "shop".to_owned(),
        ..Registration::default()
    };
    let _lease = of_shop.registry().register(registration).await.unwrap();
    let fleet = Arc::new(Fleet::new());
    let options = EntityOptions::default();
    let bank = bank::service(log.clone(), &env, fleet.port(), options).await;
    fleet.join(bank);
    let listener = Server::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::new(fleet, log.clone(), time).without_log();
    let server = server
        .doors(doors)
        .registrations(Arc::new(At(program(&ada))));
    tokio::spawn(server.serve(listener, std::future::pending()));
    let ask = |key: &Key, service: Option<&str>, id| {
        let mut options = at_once();
        options.key = Some(key.clone());
        options.service = service.map(str::to_owned);
        let far = port(all_at(&url), options);
        async move { far.deliver(deposit(id, 1)).await }
    };
    done(ask(&shop, Some("shop"), 1).await.unwrap());
    for (service, words) in [
        (Some("shop"), "mallory (key "),
        (Some("nobody"), "says that it is service nobody"),
        (None, "does not say which service it is"),
    ] {
        // It may have to ask again: nobody is refused by what was said for somebody else.
        let refused = loop {
            let refused = ask(&mallory, service, 2).await.unwrap_err();
            assert!(refused.did_not_happen(), "{refused}");
            if !matches!(refused, SendError::Unavailable { .. }) {
                break refused;
            }
        };
        assert!(refused.to_string().contains(words), "{refused}");
    }
    // One of a version before does not say which service it is, and has the key of one.
    done(ask(&shop, None, 5).await.unwrap());
    // An operator is no service, and need not be.
    done(ask(&ada, None, 3).await.unwrap());
    // What is known holds while the log's server is away.
    drop(backbone);
    done(ask(&shop, Some("shop"), 4).await.unwrap());
}
