//! How fast a view is built from the start of the log.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement waits for real time to pass"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Event, EventRef, HandleError, Query, View};
use anabranch_env::{Env, SplitMix64};
use anabranch_log::Log;
use anabranch_model::{Cut, Filter};
use anabranch_runtime::view::{Consistency, QueryError, ViewSpec};
use anabranch_runtime::{Service, Time};
use anabranch_view_sqlite::{InSqlite as _, Sqlite};
use serde::{Deserialize, Serialize};

use super::fill::Filler;
use crate::dir::BenchDir;
use crate::error::BenchError;
use crate::figures::median;
use crate::machine::{self, Process};
use crate::measure::on_runtime;
use crate::replay::{Reader, pass};
use crate::table::{Table, count, number};
use crate::{Durability, Tools};

/// What a view takes in here: a product was sold.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum SaleEvent {
    /// It was sold.
    Sold {
        /// Which.
        product: u32,
        /// How many.
        units: u32,
        /// For how much each.
        mills: u64,
    },
}

const CATEGORY: &str = "sale";

/// What was sold, by product.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sales {
    by_product: BTreeMap<u32, (u64, u64)>,
    events: u64,
}

impl View for Sales {
    const NAME: &'static str = "sales";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &[CATEGORY];
    type Event = SaleEvent;
    type Store = Self;

    fn handle(sales: &mut Self, event: &SaleEvent, _: &EventRef<'_>) -> Result<(), HandleError> {
        let SaleEvent::Sold {
            product,
            units,
            mills,
        } = *event;
        let (sold, taken) = sales.by_product.entry(product).or_default();
        *sold += u64::from(units);
        *taken += u64::from(units) * mills;
        sales.events += 1;
        Ok(())
    }
}

/// How many events were taken in.
#[derive(Debug, Deserialize)]
struct SalesSeen;

impl Query for SalesSeen {
    type View = Sales;
    type Answer = u64;
    const NAME: &'static str = "seen";

    fn answer(&self, sales: &Sales) -> Result<u64, HandleError> {
        Ok(sales.events)
    }
}

/// A row for each sale.
struct SaleRows;

impl View for SaleRows {
    const NAME: &'static str = "sale-rows";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &[CATEGORY];
    type Event = SaleEvent;
    type Store = Sqlite;

    fn set_up(store: &mut Sqlite) -> Result<(), HandleError> {
        store.run("CREATE TABLE sale (id INTEGER PRIMARY KEY, product INTEGER NOT NULL, units INTEGER NOT NULL, mills INTEGER NOT NULL)")
    }

    fn handle(
        store: &mut Sqlite,
        event: &SaleEvent,
        about: &EventRef<'_>,
    ) -> Result<(), HandleError> {
        let SaleEvent::Sold {
            product,
            units,
            mills,
        } = *event;
        let (id, mills) = (i64::try_from(about.position.offset)?, i64::try_from(mills)?);
        store.execute(
            "INSERT INTO sale VALUES (?1, ?2, ?3, ?4)",
            (id, product, units, mills),
        )?;
        Ok(())
    }
}

/// How many rows there are.
#[derive(Debug, Deserialize)]
struct RowCount;

impl Query for RowCount {
    type View = SaleRows;
    type Answer = u64;
    const NAME: &'static str = "count";

    fn answer(&self, store: &Sqlite) -> Result<u64, HandleError> {
        let counted: Option<i64> = store.one("SELECT count(*) FROM sale", (), |row| row.get(0))?;
        Ok(u64::try_from(counted.unwrap_or(0))?)
    }
}

/// What to measure of views.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewConfig {
    /// How many events the log has.
    pub events: u64,
    /// How often each view is built.
    pub rounds: usize,
    /// Below which directory to write. The measurement makes one of its own there.
    pub dir: PathBuf,
    /// Whether that directory stays.
    pub keep: bool,
}

/// How fast views are built. Its JSON form is one object whose keys are its fields.
#[derive(Debug, Clone, Serialize)]
pub struct ViewReport {
    /// Events that were taken in each time.
    pub events: u64,
    /// How often each was built; figures are medians.
    pub rounds: usize,
    /// The processors.
    pub machine: String,
    /// A view in memory: a sum for each of 4,000 products.
    pub memory: Built,
    /// A view in SQLite: a row for each event.
    pub sqlite: Built,
    /// Reading the same events and doing nothing with them.
    pub replay_events_per_second: f64,
}

/// How fast one was.
#[derive(Debug, Clone, Serialize)]
pub struct Built {
    /// Events taken in per second.
    pub events_per_second: f64,
    /// Processor time of the whole process for each event, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_event: Option<f64>,
    /// The median of the rounds' ratios to reading alone.
    pub ratio_to_replay: f64,
}

const PRODUCTS: u64 = 4000;
/// How long one build may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often to look whether a view is there.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Writes a log, then builds views from it, in turns with reading it alone. Blocks until done.
pub fn measure_views(config: &ViewConfig, tools: &Tools<'_>) -> Result<ViewReport, BenchError> {
    if config.rounds == 0 || config.events == 0 {
        return Err(BenchError::Invalid(
            "at least one round and one event are needed".to_owned(),
        ));
    }
    let dir = BenchDir::below(&config.dir, config.keep)?;
    let report = on_runtime(|runtime| crate::block_on(runtime, measure_in(&dir, config, tools)))?;
    dir.finish()?;
    Ok(report)
}

#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    ratios: Vec<f64>,
    cpu: Vec<f64>,
}

async fn measure_in(
    dir: &BenchDir,
    config: &ViewConfig,
    tools: &Tools<'_>,
) -> Result<ViewReport, BenchError> {
    (tools.progress)("writing the log");
    let env = Env::os();
    let open = tools.engine.open(env, &dir.sub("log")?, Durability::Sync)?;
    let log: Arc<dyn Log> = open.clone();
    fill(&log, config.events).await?;
    let (mut memory, mut sqlite, mut replays) = (Seen::default(), Seen::default(), Vec::new());
    for round in 0..config.rounds {
        (tools.progress)(&format!("round {} of {}", round + 1, config.rounds));
        let read = pass(&log, Filter::all(), Reader::Batches, u64::MAX).await?;
        let replay = read.events as f64 / read.elapsed.as_secs_f64();
        replays.push(replay);
        build(&log, config.events, None, replay, &mut memory).await?;
        let name = format!("sqlite-{round}");
        let at = dir.sub(&name)?;
        build(&log, config.events, Some(at), replay, &mut sqlite).await?;
        dir.done_with(&name)?;
    }
    drop(log);
    open.close()?;
    let none = || BenchError::Invalid("at least one round is needed".to_owned());
    let built = |seen: Seen| {
        Ok::<_, BenchError>(Built {
            events_per_second: median(seen.rates).ok_or_else(none)?,
            cpu_us_per_event: median(seen.cpu),
            ratio_to_replay: median(seen.ratios).ok_or_else(none)?,
        })
    };
    Ok(ViewReport {
        events: config.events,
        rounds: config.rounds,
        machine: machine::processors(&*Env::os().disk),
        memory: built(memory)?,
        sqlite: built(sqlite)?,
        replay_events_per_second: median(replays).ok_or_else(none)?,
    })
}

async fn fill(log: &Arc<dyn Log>, events: u64) -> Result<(), BenchError> {
    let mut rng = SplitMix64::new(1);
    let mut filler = Filler::new(log, "Sold")?;
    for n in 0..events {
        let sold = SaleEvent::Sold {
            product: rng.below(PRODUCTS) as u32,
            units: 1 + rng.below(12) as u32,
            mills: rng.below(20_000),
        };
        let mut data = Vec::new();
        let encoded = sold.encode(&mut data);
        encoded.map_err(|e| BenchError::Invalid(e.to_string()))?;
        let key = (n % 10_000).to_string();
        filler.event(CATEGORY, &key, data).await?;
    }
    filler.finish().await
}

/// Builds a view, in memory or in SQLite in this directory, and looks whether it is complete.
async fn build(
    log: &Arc<dyn Log>,
    events: u64,
    sqlite: Option<PathBuf>,
    replay: f64,
    seen: &mut Seen,
) -> Result<(), BenchError> {
    let Env { disk, clock, .. } = Env::os();
    let head = log.head().await?;
    let (begun, cpu_begun) = (clock.monotonic(), Process::now(&*disk).cpu);
    let in_sqlite = sqlite.is_some();
    let builder = Service::builder("bench", log.clone(), Time::of(&Env::os()));
    let builder = match sqlite {
        Some(dir) => builder.view_in_sqlite::<SaleRows>(ViewSpec::new(), disk.clone(), dir),
        None => builder.view::<Sales>(ViewSpec::new()),
    };
    let service = builder.start().await;
    let service = service.map_err(|e| BenchError::Invalid(e.to_string()))?;
    loop {
        let there = if in_sqlite {
            is_there(&service, "sale-rows", &head).await
        } else {
            is_there(&service, "sales", &head).await
        };
        if there {
            break;
        }
        if clock.monotonic().saturating_sub(begun) > PATIENCE {
            return Err(BenchError::Void("a view was not built in time".to_owned()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let took = clock.monotonic().saturating_sub(begun);
    let cpu = Process::now(&*disk).cpu.zip(cpu_begun);
    let after = || Consistency::after(head.clone(), PATIENCE);
    let counted: Result<u64, QueryError> = if in_sqlite {
        service.query(RowCount, after()).await.map(|a| a.value)
    } else {
        service.query(SalesSeen, after()).await.map(|a| a.value)
    };
    match counted {
        Ok(counted) if counted == events => {}
        Ok(counted) => {
            return Err(BenchError::Void(format!(
                "the view has taken in {counted} of {events} events"
            )));
        }
        Err(error) => return Err(BenchError::Void(error.to_string())),
    }
    service.shutdown(PATIENCE).await;
    let rate = events as f64 / took.as_secs_f64();
    seen.rates.push(rate);
    seen.ratios.push(rate / replay);
    if let Some((ended, begun)) = cpu {
        let used = ended.saturating_sub(begun).as_secs_f64();
        seen.cpu.push(used * 1e6 / events as f64);
    }
    Ok(())
}

async fn is_there(service: &Service, view: &str, head: &Cut) -> bool {
    let Ok(view) = service.view(view) else {
        return false;
    };
    let serving = view.status().await.serving;
    serving.is_some_and(|copy| copy.cut.covers(head))
}

impl ViewReport {
    /// The report for people.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "views built from {} events\n{} rounds, medians; {}\n\n",
            count(self.events),
            self.rounds,
            self.machine
        );
        let mut table = Table::new(1, &["view", "events/s", "CPU µs/event", "of reading alone"]);
        for (name, built) in [("in memory", &self.memory), ("in SQLite", &self.sqlite)] {
            table.row(vec![
                name.to_owned(),
                number(built.events_per_second),
                built
                    .cpu_us_per_event
                    .map_or_else(|| "–".to_owned(), number),
                number(built.ratio_to_replay),
            ]);
        }
        text.push_str(&table.to_text());
        let _ = writeln!(
            text,
            "\nreading alone: {} events/s",
            number(self.replay_events_per_second)
        );
        text
    }
}
