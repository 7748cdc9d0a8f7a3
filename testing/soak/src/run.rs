//! The shop, the orders that come in, and what goes wrong on the way.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch::domain::{CommandId, Entity};
use anabranch::env::Env;
use anabranch::log::{Log, ReadMode};
use anabranch::model::{Cut, EventType, Filter};
use anabranch::runtime::snapshot::DiskSnapshots;
use anabranch::runtime::{Fleet, SendOptions, Time};
use anabranch::segment::{Options, SegmentLog};
use anabranch_shop::audit::Audit;
use anabranch_shop::input::{self, Invoice};
use anabranch_shop::orders::{Order, OrderCommand};
use anabranch_shop::provider::ProviderClient;
use anabranch_shop::shop::{Build, SERVICES, Shop};
use anabranch_shop::stock::{Stock, StockCommand};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::measure::Taken;
use crate::verdict::{Verdict, grown};

/// What the program calls itself with to be the payment provider, which is not measured.
pub const PROVIDER: &str = "--be-the-provider";

/// How long, how fast, and what goes wrong.
pub struct Settings {
    /// How long orders come in.
    pub length: Duration,
    /// How many in each second.
    pub rate: f64,
    /// The most lines of an order.
    pub lines_max: usize,
    /// How often a service is killed.
    pub crash_every: Option<Duration>,
}

type Failure = Box<dyn Error + Send + Sync>;

/// The most orders that are under way at once.
const OPEN_MAX: u64 = 2048;

/// Units of each product, and below how many more is ordered.
const UNITS: u64 = 5000;

/// How long the last orders may take to end.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Serialize)]
struct Minute {
    second: u64,
    orders: u64,
    ended: u64,
    crashes: u64,
    #[serde(flatten)]
    taken: Taken,
}

#[derive(Default)]
struct Counts {
    placed: AtomicU64,
    ended: AtomicU64,
    crashes: AtomicU64,
}

/// Runs it all; whether it is flat but for the log, and the shop as it must be.
pub async fn run(settings: &Settings) -> Result<bool, Failure> {
    let env = Env::os();
    let time = Time::of(&env);
    let place = Place::new(&env);
    let provider = Provider::start()?;
    let log = SegmentLog::open(env.clone(), place.log(), Options::default())?;
    let log: Arc<dyn Log> = Arc::new(log);
    let snapshots = DiskSnapshots::open(env.disk.clone(), place.beside().join("snapshots"))?;
    let shop = Arc::new(Shop {
        env: env.clone(),
        time: time.clone(),
        log: log.clone(),
        snapshots: Arc::new(snapshots),
        views: place.beside().join("views"),
        provider: ProviderClient::new(provider.address.parse()?),
        fleet: Arc::new(Fleet::new()),
        alerts: None,
        pricing: Build::First,
    });
    shop.open().await?;
    let counts = Arc::new(Counts::default());
    tokio::spawn(count(log.clone(), counts.clone()));
    let crashing = settings
        .crash_every
        .map(|every| tokio::spawn(crash(shop.clone(), counts.clone(), every)));
    let taken = let_in(&shop, settings, &counts, &place).await?;
    if let Some(crashing) = crashing {
        crashing.abort();
    }
    let audit = settle(&shop, &counts).await?;
    let orders = counts.placed.load(Ordering::Acquire);
    let verdict = verdict(&audit, &taken, orders, &counts);
    println!("{}", serde_json::to_string(&verdict)?);
    shop.fleet.shutdown(Duration::from_secs(10)).await;
    Ok(verdict.is_good())
}

fn verdict(audit: &Audit, taken: &[Taken], orders: u64, counts: &Counts) -> Verdict {
    let must = [
        ("every_order_ended_once", audit.every_order_ended_once()),
        ("stock_never_negative", audit.stock_never_negative()),
        ("money_adds_up", audit.money_adds_up()),
        ("nothing_left_reserved", audit.nothing_left_reserved()),
        ("no_order_is_lost", audit.orders.len() as u64 == orders),
    ];
    let broken = must.iter().filter(|(_, holds)| !holds);
    let mut verdict = Verdict {
        verdict: "flat but for the log",
        grown: grown(taken, orders),
        broken: broken.map(|(name, _)| *name).collect(),
        orders,
        confirmed: audit.confirmed().count() as u64,
        crashes: counts.crashes.load(Ordering::Acquire),
    };
    if !verdict.broken.is_empty() {
        verdict.verdict = "the shop is not as it must be";
    } else if !verdict.grown.is_empty() {
        verdict.verdict = "not flat";
    }
    verdict
}

/// Places orders at the rate, those of the sample day again and again under fresh numbers, and
/// measures by the minute; in short runs more often.
async fn let_in(
    shop: &Arc<Shop>,
    settings: &Settings,
    counts: &Arc<Counts>,
    place: &Place,
) -> Result<Vec<Taken>, Failure> {
    let mut day = input::sample_day()?.invoices;
    day.retain(|invoice| !invoice.is_return);
    for order in &mut day {
        order.lines.truncate(settings.lines_max);
    }
    for product in products(&day) {
        let open = StockCommand::OpenStock {
            units: UNITS,
            reorder_below: UNITS / 4,
        };
        send::<Stock>(shop, product, &open).await?;
    }
    let every = (settings.length / 16).min(Duration::from_secs(60));
    let room = Arc::new(Semaphore::new(256));
    let began = shop.time.monotonic();
    let (mut taken, mut look_at, mut number) = (Vec::new(), every, 0_u64);
    loop {
        let elapsed = shop.time.monotonic().saturating_sub(began);
        if elapsed >= look_at {
            look_at += every;
            let now = Taken::now(&place.log(), place.beside())?;
            taken.push(now);
            let minute = Minute {
                second: elapsed.as_secs(),
                orders: counts.placed.load(Ordering::Acquire),
                ended: counts.ended.load(Ordering::Acquire),
                crashes: counts.crashes.load(Ordering::Acquire),
                taken: now,
            };
            println!("{}", serde_json::to_string(&minute)?);
        }
        if elapsed >= settings.length {
            break;
        }
        let due = Duration::from_secs_f64(number as f64 / settings.rate);
        let open = number.saturating_sub(counts.ended.load(Ordering::Acquire));
        if elapsed < due || open >= OPEN_MAX {
            shop.time.sleep(Duration::from_millis(5)).await;
            continue;
        }
        let order = &day[(number % day.len() as u64) as usize];
        let place = OrderCommand::PlaceOrder {
            customer: order.customer.clone(),
            country: order.country.clone(),
            placed_at: order.at.clone(),
            lines: order.lines.clone(),
        };
        number += 1;
        let permit = room.clone().acquire_owned().await?;
        let (shop, counts) = (shop.clone(), counts.clone());
        tokio::spawn(async move {
            match send::<Order>(&shop, &number.to_string(), &place).await {
                Ok(()) => {
                    counts.placed.fetch_add(1, Ordering::AcqRel);
                }
                Err(error) => eprintln!("order {number}: {error}"),
            }
            drop(permit);
        });
    }
    // Every order has been answered when all permits are back.
    drop(room.acquire_many(256).await?);
    Ok(taken)
}

fn products(day: &[Invoice]) -> std::collections::BTreeSet<&str> {
    let lines = day.iter().flat_map(|order| &order.lines);
    lines.map(|line| line.product.as_str()).collect()
}

/// Sends a command until it is done: under one id, so once.
async fn send<E: Entity>(shop: &Shop, key: &str, command: &E::Command) -> Result<(), Failure>
where
    E::Command: Clone,
{
    let id = CommandId::v7(shop.time.now().micros() / 1000, shop.time.random());
    let began = shop.time.monotonic();
    loop {
        let options = SendOptions {
            id: Some(id),
            ..SendOptions::default()
        };
        let sent = match shop.fleet.owner(E::CATEGORY) {
            Ok(owner) => {
                owner
                    .entity::<E>(key)
                    .send_with(command.clone(), options)
                    .await
            }
            Err(error) => Err(error),
        };
        let is_late = shop.time.monotonic().saturating_sub(began) > PATIENCE;
        match sent {
            Ok(_) => return Ok(()),
            Err(error) if is_late || !error.is_passing() => return Err(error.into()),
            Err(_) => shop.time.sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Counts the orders that end, as the log tells it.
async fn count(log: Arc<dyn Log>, counts: Arc<Counts>) {
    let types = ["OrderConfirmed", "OrderRejected"];
    let filter = Filter {
        types: types
            .iter()
            .filter_map(|t| EventType::new(*t).ok())
            .collect(),
        ..Filter::category("order")
    };
    let mut news = log.read(&Cut::start(), filter, ReadMode::Follow);
    while let Some(batch) = news.next_batch().await {
        match batch {
            Ok(batch) => {
                let ended = batch.into_iter().count() as u64;
                counts.ended.fetch_add(ended, Ordering::AcqRel);
            }
            Err(error) => {
                eprintln!("the log cannot be followed: {error}");
                return;
            }
        }
    }
}

/// Kills one service after the other, chosen at random, and starts it again.
async fn crash(shop: Arc<Shop>, counts: Arc<Counts>, every: Duration) {
    loop {
        shop.time.sleep(every).await;
        let chosen = SERVICES[(shop.time.random() % SERVICES.len() as u128) as usize];
        match shop.start(chosen).await {
            Ok(_) => counts.crashes.fetch_add(1, Ordering::AcqRel),
            Err(error) => {
                eprintln!("{chosen} cannot be started again: {error}");
                return;
            }
        };
    }
}

/// Waits until every order has ended and nothing is on its way, and goes through the log.
async fn settle(shop: &Shop, counts: &Counts) -> Result<Audit, Failure> {
    // One that was killed last may not have come back.
    for name in SERVICES {
        shop.start(name).await?;
    }
    let began = shop.time.monotonic();
    loop {
        let all = counts.ended.load(Ordering::Acquire) >= counts.placed.load(Ordering::Acquire);
        let is_late = shop.time.monotonic().saturating_sub(began) > PATIENCE;
        if all || is_late {
            let audit = Audit::of(&*shop.log).await?;
            if is_late || (audit.every_order_ended_once() && audit.nothing_left_reserved()) {
                return Ok(audit);
            }
        }
        shop.time.sleep(Duration::from_secs(1)).await;
    }
}

/// The payment provider, in a process of its own that ends with this one.
struct Provider {
    child: Child,
    address: String,
}

impl Provider {
    fn start() -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(PROVIDER)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the provider says nothing")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        let address = address.trim().to_owned();
        Ok(Self { child, address })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // One that has ended by itself is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A directory that goes with the run.
struct Place {
    dir: PathBuf,
    beside: PathBuf,
}

impl Place {
    fn new(env: &Env) -> Self {
        let name = format!("anabranch-soak-{:032x}", env.rng.next_u128());
        let dir = std::env::temp_dir().join(name);
        let beside = dir.join("beside");
        Self { dir, beside }
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn beside(&self) -> &Path {
        &self.beside
    }
}

impl Drop for Place {
    #[expect(clippy::disallowed_methods, reason = "the run made these files")]
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays: {error}", self.dir.display());
        }
    }
}
