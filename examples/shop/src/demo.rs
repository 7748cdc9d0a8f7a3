//! Lets invoices through the shop, breaks it on the way if asked to, and says what came of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anabranch::domain::{CommandId, Entity};
use anabranch::log::{Log, ReadMode};
use anabranch::model::{Cut, EventType, Filter};
use anabranch::runtime::view::Consistency;
use anabranch::runtime::{
    Accepted, CircuitState, EntityHandle, SendError, SendOptions, StartError, Time,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};

use crate::audit::{Audit, AuditError};
use crate::customers::Spend;
use crate::floor::{Floor, Standing};
use crate::input::{Invoice, Skipped, Work};
use crate::orders::{Line, Order, OrderCommand, Return, ReturnCommand};
use crate::pricing::{Price, PriceCommand};
use crate::provider::{Ledger, ProviderClient};
use crate::shop::Shop;
use crate::stock::{Stock, StockCommand};
use crate::storefront::AllSales;

/// How the demo is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many units there are of each product; the wholesaler delivers as many.
    pub stock: u64,
    /// Below how many units more is ordered; 0: never.
    pub reorder_below: u64,
    /// How many invoices are let in each second; `None`: as many as the shop takes.
    pub rate: Option<f64>,
    /// How often one of the services is killed and started again.
    pub crash_every: Option<Duration>,
    /// How long nothing may happen before the demo says that it is stuck.
    pub patience: Duration,
}

/// The most orders that wait for their outcome at once.
const OPEN_MAX: usize = 512;

/// How often it is looked whether something has stopped, while nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How the demo stands.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// How many invoices there are.
    pub invoices: u64,
    /// How many orders were placed.
    pub placed: u64,
    /// How many were carried out.
    pub confirmed: u64,
    /// How many were not.
    pub rejected: u64,
    /// How many returns have come in.
    pub returned: u64,
    /// For how many of them the money is back.
    pub refunded: u64,
    /// How many events there are in the log since the start.
    pub events: u64,
    /// How many events the view that is furthest behind has not seen.
    pub lag: u64,
    /// How the provider's circuits are, the worst of them.
    pub circuit: Option<CircuitState>,
    /// How often a service was killed and started again.
    pub crashes: u64,
    /// How long it has been running.
    pub elapsed: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The orders.
    pub orders: OrderCounts,
    /// Returns with at least one line that was refunded.
    pub returns: u64,
    /// Lines about goods on the placed orders.
    pub lines: u64,
    /// What of the file was passed over.
    pub skipped: Skipped,
    /// How many events were recorded.
    pub events: u64,
    /// From the first order to the moment when every view had seen everything.
    pub seconds: f64,
    /// How many events were recorded each second.
    pub events_per_second: u64,
    /// How often a service was killed and started again.
    pub crashes: u64,
    /// What was sold.
    pub revenue_mills: Revenue,
    /// What must always hold, and whether it does.
    pub invariants: BTreeMap<&'static str, bool>,
}

/// How many orders there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OrderCounts {
    /// All of them.
    pub placed: u64,
    /// Those that were carried out.
    pub confirmed: u64,
    /// Those that were not.
    pub rejected: u64,
}

/// What was sold, in thousandths of a pound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revenue {
    /// All confirmed orders.
    pub total: u64,
    /// What was given back for returns.
    pub refunded: u64,
    /// Confirmed orders by country.
    pub by_country: BTreeMap<String, u64>,
    /// Confirmed orders by day.
    pub by_day: BTreeMap<String, u64>,
}

impl Summary {
    /// Whether everything holds that must.
    pub fn holds(&self) -> bool {
        self.invariants.values().all(|holds| *holds)
    }
}

/// Why the demo ended early. The log keeps what happened so far.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A service did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A command was refused that the shop should take.
    #[error("{what}: {error}")]
    Send {
        /// Which command.
        what: String,
        /// Why it was refused.
        error: SendError,
    },
    /// The log cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] anabranch::log::ReadError),
    /// The log does not hold what it should.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A view does not answer.
    #[error("a view does not answer: {0}")]
    Query(#[from] anabranch::runtime::port::Problem),
    /// The provider does not say what it has charged so far.
    #[error("the provider does not say what it has charged so far: {0}")]
    Ledger(String),
    /// A service that was killed does not start again.
    #[error("a service that was killed does not start again: {0}")]
    Crash(String),
    /// Nothing has happened for a long time.
    #[error("nothing has happened for a long time: {0}")]
    Stuck(String),
    /// A view, process or saga stands before an event that it cannot take in, and does not go on
    /// by itself.
    #[error("the demo cannot end: {0}")]
    Halted(String),
    /// The user has ended it.
    #[error("stopped before the end; the log keeps what happened so far")]
    Stopped,
}

/// Counts of what has happened, as the log tells it.
#[derive(Default)]
struct Tally {
    placed: AtomicU64,
    confirmed: AtomicU64,
    rejected: AtomicU64,
    returned: AtomicU64,
    refunded: AtomicU64,
    crashes: AtomicU64,
    changed: Notify,
}

impl Tally {
    fn get(count: &AtomicU64) -> u64 {
        count.load(Ordering::Acquire)
    }

    /// How many orders and returns have come to their end.
    fn ended(&self) -> u64 {
        Self::get(&self.confirmed) + Self::get(&self.rejected) + Self::get(&self.refunded)
    }
}

/// What a demo needs beside the services.
#[derive(Clone)]
pub struct Beside {
    /// Clocks and sleep.
    pub time: Time,
    /// Where all facts are.
    pub log: Arc<dyn Log>,
    /// Who moves the money.
    pub provider: ProviderClient,
}

/// A run of the demo.
pub struct Demo {
    floor: Arc<dyn Floor>,
    beside: Beside,
    work: Arc<Work>,
    options: Options,
    tally: Arc<Tally>,
    began: Duration,
    head_before: u64,
    /// The provider's books before, if there was no payment in the log yet: then what it does from
    /// now on is what the log must say.
    ledger_before: Option<Ledger>,
    stopping: AtomicBool,
}

impl Demo {
    /// Prepares to let `work` through `shop`, whose services run.
    pub async fn new(
        shop: Arc<Shop>,
        work: Work,
        options: Options,
    ) -> Result<Arc<Self>, DemoError> {
        let beside = Beside {
            time: shop.time.clone(),
            log: shop.log.clone(),
            provider: shop.provider.clone(),
        };
        Self::on(shop, beside, work, options).await
    }

    /// The same for services that run elsewhere.
    pub async fn on(
        floor: Arc<dyn Floor>,
        beside: Beside,
        work: Work,
        options: Options,
    ) -> Result<Arc<Self>, DemoError> {
        let head_before = offset(&beside.log.head().await?);
        let payments = Filter {
            categories: vec!["payment".to_owned(), "refund".to_owned()],
            ..Filter::all()
        };
        // Read before the log is: services that go on with an order may pay meanwhile, and a payment
        // stands in the log before the provider hears of it.
        let ledger = beside.provider.ledger().await;
        let mut payments = beside.log.read(&Cut::start(), payments, ReadMode::ToHead);
        let ledger_before = match payments.next().await.transpose()? {
            None => Some(ledger.map_err(|error| DemoError::Ledger(error.to_string()))?),
            Some(_) => None,
        };
        Ok(Arc::new(Self {
            ledger_before,
            began: beside.time.monotonic(),
            floor,
            beside,
            work: Arc::new(work),
            options,
            tally: Arc::default(),
            head_before,
            stopping: AtomicBool::new(false),
        }))
    }

    /// How it stands.
    pub async fn progress(&self) -> Progress {
        let tally = &self.tally;
        let standing = self.floor.standing().await;
        let head = match self.beside.log.head().await {
            Ok(head) => offset(&head),
            Err(_) => self.head_before,
        };
        Progress {
            invoices: self.work.invoices.len() as u64,
            placed: Tally::get(&tally.placed),
            confirmed: Tally::get(&tally.confirmed),
            rejected: Tally::get(&tally.rejected),
            returned: Tally::get(&tally.returned),
            refunded: Tally::get(&tally.refunded),
            events: head.saturating_sub(self.head_before),
            lag: standing.lag,
            circuit: standing.circuit,
            crashes: Tally::get(&tally.crashes),
            elapsed: self.beside.time.monotonic().saturating_sub(self.began),
        }
    }

    /// Lets everything through, and goes through the log when all of it has ended.
    pub async fn run(self: &Arc<Self>) -> Result<Summary, DemoError> {
        self.fill_the_shelves().await?;
        let began = self.beside.time.monotonic();
        let mut counting = spawn(self.clone().count());
        let mut crashing = self.options.crash_every.map(|every| {
            let this = self.clone();
            spawn(async move { this.crash(every).await })
        });
        let whole = async {
            self.let_in().await?;
            self.wait_for_the_end().await
        };
        let no_longer_crashing = async {
            match &mut crashing {
                Some(crashing) => crashing.join().await,
                None => std::future::pending().await,
            }
        };
        // What is done beside the orders ends only when it fails, and then they never would.
        tokio::select! {
            done = whole => done?,
            ended = counting.join() => {
                ended?;
                return Err(DemoError::Halted("the log can no longer be followed".to_owned()));
            }
            ended = no_longer_crashing => {
                ended?;
                return Err(DemoError::Halted("services are no longer killed".to_owned()));
            }
        }
        self.stopping.store(true, Ordering::Release);
        if let Some(mut crashing) = crashing {
            crashing.join().await?;
        }
        self.settle().await?;
        counting.abort();
        let seconds = (self.beside.time.monotonic() - began).as_secs_f64();
        self.summary(seconds).await
    }

    /// Opens the stock of every product that is wanted.
    async fn fill_the_shelves(&self) -> Result<(), DemoError> {
        let orders = self.work.invoices.iter().filter(|i| !i.is_return);
        let products: HashSet<&str> = orders
            .flat_map(|order| order.lines.iter().map(|line| line.product.as_str()))
            .collect();
        let open = StockCommand::OpenStock {
            units: self.options.stock,
            reorder_below: self.options.reorder_below,
        };
        let all = products
            .into_iter()
            .map(|product| self.send::<Stock>(product, open.clone(), "open"));
        let mut opened = futures_util::stream::iter(all).buffer_unordered(256);
        while let Some(opened) = opened.next().await {
            opened?;
        }
        self.set_prices().await
    }

    /// Tells pricing what each product costs: what the file's first order of it says. The orders of
    /// the file name their own prices, which were agreed when their invoices were written.
    async fn set_prices(&self) -> Result<(), DemoError> {
        let mut prices = BTreeMap::new();
        for order in self.work.invoices.iter().filter(|i| !i.is_return) {
            for line in &order.lines {
                prices.entry(line.product.as_str()).or_insert(line.mills);
            }
        }
        let all = prices.into_iter().map(|(product, mills)| async move {
            let what = format!("list at {mills}");
            let list = PriceCommand::SetListPrice { mills };
            self.send::<Price>(product, list, &what).await
        });
        let mut set = futures_util::stream::iter(all).buffer_unordered(256);
        while let Some(set) = set.next().await {
            set?;
        }
        Ok(())
    }

    /// Places every order and hands in every return, in their order, with so many open at once.
    async fn let_in(self: &Arc<Self>) -> Result<(), DemoError> {
        let room = Arc::new(Semaphore::new(OPEN_MAX));
        let mut sent = FuturesUnordered::new();
        let mut released = 0;
        let start = self.beside.time.monotonic();
        for at in 0..self.work.invoices.len() {
            if let Some(rate) = self.options.rate {
                let due = start + Duration::from_secs_f64(at as f64 / rate);
                self.beside.time.sleep_until(due).await;
            }
            // As many may be open as there are permits, and what has ended gives one back.
            loop {
                let changed = self.tally.changed.notified();
                let ended = self.tally.ended();
                if ended > released {
                    room.add_permits((ended - released) as usize);
                    released = ended;
                }
                if let Ok(permit) = room.try_acquire() {
                    permit.forget();
                    break;
                }
                tokio::select! {
                    () = changed => {}
                    done = sent.next(), if !sent.is_empty() => {
                        if let Some(done) = done { flatten(done)? }
                    }
                    () = self.beside.time.sleep(self.options.patience) => return Err(self.stuck().await),
                }
            }
            let this = self.clone();
            sent.push(tokio::spawn(async move { this.hand_in(at).await }));
        }
        while let Some(done) = sent.next().await {
            flatten(done)?;
        }
        Ok(())
    }

    async fn hand_in(&self, at: usize) -> Result<(), DemoError> {
        let Invoice {
            number,
            is_return,
            customer,
            country,
            at,
            lines,
        } = &self.work.invoices[at];
        let (customer, country, lines) = (customer.clone(), country.clone(), lines.clone());
        if *is_return {
            let accept = ReturnCommand::AcceptReturn {
                customer,
                country,
                returned_at: at.clone(),
                lines,
            };
            self.send::<Return>(number, accept, "accept").await?;
            self.tally.returned.fetch_add(1, Ordering::AcqRel);
        } else {
            let place = OrderCommand::PlaceOrder {
                customer,
                country,
                placed_at: at.clone(),
                lines,
            };
            self.send::<Order>(number, place, "place").await?;
            self.tally.placed.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Sends a command until it is done. Its id follows from what it is about, so that it is
    /// done once, also when the demo is run again on the same log.
    async fn send<E: Entity>(
        &self,
        key: &str,
        command: E::Command,
        what: &str,
    ) -> Result<Accepted, DemoError>
    where
        E::Command: Clone,
    {
        let text = format!("demo {what} {}/{key}", E::CATEGORY);
        let source = anabranch::model::content_hash([text.as_bytes()]);
        let id = CommandId::derived(source, &[b"demo"]);
        let began = self.beside.time.monotonic();
        loop {
            let options = SendOptions {
                id: Some(id),
                ..SendOptions::default()
            };
            let (port, time) = (self.floor.port(), self.beside.time.clone());
            let entity = EntityHandle::<E>::through(port, time, key);
            match entity.send_with(command.clone(), options).await {
                Ok(accepted) => return Ok(accepted),
                Err(error) if !error.is_passing() || self.is_late(began) => {
                    let what = format!("{what} {}/{key}", E::CATEGORY);
                    return Err(DemoError::Send { what, error });
                }
                Err(_) => self.beside.time.sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn is_late(&self, began: Duration) -> bool {
        self.beside.time.monotonic().saturating_sub(began) > self.options.patience
    }

    /// Counts what ends, as the log tells it.
    async fn count(self: Arc<Self>) -> Result<(), DemoError> {
        let numbers: HashSet<&str> = self
            .work
            .invoices
            .iter()
            .map(|i| i.number.as_str())
            .collect();
        let types = ["OrderConfirmed", "OrderRejected", "PaymentRefunded"];
        let filter = Filter {
            categories: vec!["order".to_owned(), "refund".to_owned()],
            types: types
                .iter()
                .filter_map(|t| EventType::new(*t).ok())
                .collect(),
            ..Filter::all()
        };
        let mut news = self
            .beside
            .log
            .read(&Cut::start(), filter, ReadMode::Follow);
        while let Some(batch) = news.next_batch().await {
            for event in &batch? {
                // What cannot be read is told by the audit.
                let Ok(event) = event else { continue };
                if !numbers.contains(event.key()) {
                    continue;
                }
                let count = match event.event_type {
                    "OrderConfirmed" => &self.tally.confirmed,
                    "OrderRejected" => &self.tally.rejected,
                    _ => &self.tally.refunded,
                };
                count.fetch_add(1, Ordering::AcqRel);
            }
            self.tally.changed.notify_waiters();
        }
        Ok(())
    }

    /// Kills one service after the other, chosen at random, and starts it again.
    async fn crash(&self, every: Duration) -> Result<(), DemoError> {
        while !self.stopping.load(Ordering::Acquire) {
            self.beside.time.sleep(every).await;
            let chosen = self.beside.time.random();
            let crashed = self.floor.crash(chosen).await;
            crashed.map_err(DemoError::Crash)?;
            self.tally.crashes.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    async fn wait_for_the_end(&self) -> Result<(), DemoError> {
        let mut changed_at = self.beside.time.monotonic();
        loop {
            let changed = self.tally.changed.notified();
            if self.tally.ended() >= self.work.invoices.len() as u64 {
                return Ok(());
            }
            tokio::select! {
                () = changed => changed_at = self.beside.time.monotonic(),
                () = self.beside.time.sleep(LOOK_EVERY) => {
                    check_halted(&self.floor.standing().await)?;
                    if self.is_late(changed_at) {
                        return Err(self.stuck().await);
                    }
                }
            }
        }
    }

    /// Waits until nothing is under way and every view and process has seen everything.
    async fn settle(&self) -> Result<(), DemoError> {
        let began = self.beside.time.monotonic();
        let mut quiet_at = None;
        loop {
            let head = self.beside.log.head().await?;
            let standing = self.floor.standing().await;
            if standing.is_quiet(&head) {
                if quiet_at.as_ref() == Some(&head) {
                    return Ok(());
                }
                quiet_at = Some(head);
            } else {
                quiet_at = None;
                check_halted(&standing)?;
                if self.is_late(began) {
                    return Err(self.stuck().await);
                }
            }
            self.beside.time.sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a person needs who finds that nothing happens.
    async fn stuck(&self) -> DemoError {
        let progress = self.progress().await;
        let mut text = format!(
            "{} of {} invoices have ended",
            self.tally.ended(),
            progress.invoices
        );
        for trouble in self.floor.trouble().await {
            text += &format!("; {trouble}");
        }
        DemoError::Stuck(text)
    }

    async fn summary(&self, seconds: f64) -> Result<Summary, DemoError> {
        let head = self.beside.log.head().await?;
        let audit = Audit::of(&*self.beside.log).await?;
        let fresh = || Consistency::after(head.clone(), Duration::from_secs(10));
        let port = self.floor.port();
        let sales = port.query(&AllSales {}, fresh()).await?.value;
        let spend = port.query(&Spend {}, fresh()).await?.value;
        let (by_country, by_day) = audit.revenue();
        let total = audit.confirmed_mills();
        let events = offset(&head).saturating_sub(self.head_before);
        let mut invariants = BTreeMap::from([
            ("stock_never_negative", audit.stock_never_negative()),
            ("every_order_ended_once", audit.every_order_ended_once()),
            ("money_adds_up", audit.money_adds_up()),
            ("nothing_left_reserved", audit.nothing_left_reserved()),
            (
                "returns_are_back_in_stock",
                audit.returns_are_back_in_stock(),
            ),
            ("totals_equal_the_file", self.totals_equal_the_file(&audit)),
            (
                "views_equal_the_log",
                sales.by_country == by_country
                    && sales.by_day == by_day
                    && sales.mills == total
                    && spend.spent_mills == i64::try_from(total).unwrap_or(-1)
                    && spend.refunded_mills == i64::try_from(audit.refunded_mills).unwrap_or(-1),
            ),
        ]);
        if let Some(before) = self.ledger_before {
            let agrees = match self.beside.provider.ledger().await {
                Ok(ledger) => {
                    ledger.charged_mills - before.charged_mills == audit.approved_mills
                        && ledger.refunded_mills - before.refunded_mills == audit.refunded_mills
                }
                Err(_) => false,
            };
            invariants.insert("provider_moved_money_once", agrees);
        }
        let confirmed = audit.confirmed().count() as u64;
        let rejected = audit.orders.values().filter(|o| o.rejected > 0).count() as u64;
        Ok(Summary {
            orders: OrderCounts {
                placed: audit.orders.len() as u64,
                confirmed,
                rejected,
            },
            returns: audit.returns,
            lines: audit.orders.values().map(|order| order.lines).sum(),
            skipped: self.work.skipped,
            events,
            seconds,
            events_per_second: (events as f64 / seconds.max(1e-9)) as u64,
            crashes: Tally::get(&self.tally.crashes),
            revenue_mills: Revenue {
                total,
                refunded: audit.refunded_mills,
                by_country,
                by_day,
            },
            invariants,
        })
    }

    /// Whether the confirmed orders of the file are in the log for what they cost in the file.
    fn totals_equal_the_file(&self, audit: &Audit) -> bool {
        let mut orders = self.work.invoices.iter().filter(|i| !i.is_return);
        orders.all(|order| {
            let price = |line: &Line| u128::from(line.quantity) * u128::from(line.mills);
            let mills: u128 = order.lines.iter().map(price).sum();
            audit.orders.get(&order.number).is_some_and(|known| {
                u128::from(known.mills) == mills
                    && known.country == order.country
                    && order.at.starts_with(&known.day)
                    && known.lines == order.lines.len() as u64
            })
        })
    }
}

fn check_halted(standing: &Standing) -> Result<(), DemoError> {
    match &*standing.halted {
        [] => Ok(()),
        halted => Err(DemoError::Halted(halted.join("; "))),
    }
}

/// How many events a cut of a log with one partition has.
fn offset(cut: &Cut) -> u64 {
    cut.iter().map(|(_, count)| count).sum()
}

/// A task that ends with its handle.
struct Task(tokio::task::JoinHandle<Result<(), DemoError>>);

fn spawn(task: impl Future<Output = Result<(), DemoError>> + Send + 'static) -> Task {
    Task(tokio::spawn(task))
}

impl Task {
    fn abort(&self) {
        self.0.abort();
    }

    async fn join(&mut self) -> Result<(), DemoError> {
        flatten((&mut self.0).await)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn flatten(done: Result<Result<(), DemoError>, tokio::task::JoinError>) -> Result<(), DemoError> {
    match done {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Err(DemoError::Stopped),
        Err(error) => Err(DemoError::Stuck(format!(
            "a task of the demo failed: {error}"
        ))),
    }
}
