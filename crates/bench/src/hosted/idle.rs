//! How much memory entities take that nobody asks anything of.

use std::path::PathBuf;
use std::sync::Arc;

use anabranch_domain::Entity;
use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_runtime::{EntityOptions, Service, Time};
use serde::Serialize;

use super::fill::Filler;
use super::shop::{Ledger, LedgerCommand};
use crate::dir::BenchDir;
use crate::error::BenchError;
use crate::machine::Process;
use crate::measure::on_runtime;
use crate::table::{count, number};
use crate::{Durability, Tools};

/// Entities that are idle.
#[derive(Debug, Clone, PartialEq)]
pub struct IdleConfig {
    /// How many.
    pub entities: u64,
    /// How many events each has, each by a command of its own.
    pub events_each: u32,
    /// Below which directory to write. The measurement makes one of its own there.
    pub dir: PathBuf,
    /// Whether that directory stays.
    pub keep: bool,
}

/// What they take. Its JSON form is one object whose keys are its fields.
#[derive(Debug, Clone, Serialize)]
pub struct IdleReport {
    /// How many entities.
    pub entities: u64,
    /// How many events each has.
    pub events_each: u32,
    /// Memory of the process before they were loaded, the log open, in bytes.
    pub resident_before_bytes: u64,
    /// The same when all were loaded.
    pub resident_after_bytes: u64,
    /// The state of one, in bytes.
    pub state_bytes: u64,
    /// What one takes beyond that, in bytes.
    pub beyond_state_bytes: f64,
}

/// Entities that are asked at the same time while they are loaded.
const AT_ONCE: u64 = 64;

/// Writes the events of many entities, opens the log again, loads all of them, and looks at
/// the memory of the process: what the runtime takes, and all that loading has left behind.
/// Blocks until done.
pub fn measure_idle(config: &IdleConfig, tools: &Tools<'_>) -> Result<IdleReport, BenchError> {
    if config.entities == 0 {
        return Err(BenchError::Invalid("at least one entity is needed".into()));
    }
    let dir = BenchDir::below(&config.dir, config.keep)?;
    let report = on_runtime(|runtime| crate::block_on(runtime, measure_in(&dir, config, tools)))?;
    dir.finish()?;
    Ok(report)
}

async fn measure_in(
    dir: &BenchDir,
    config: &IdleConfig,
    tools: &Tools<'_>,
) -> Result<IdleReport, BenchError> {
    let path = dir.sub("log")?;
    let open = || {
        let engine = tools.engine;
        engine.open(Env::os(), &path, Durability::Sync)
    };
    (tools.progress)("writing their events");
    let filled = open()?;
    let log: Arc<dyn Log> = filled.clone();
    let mut filler = Filler::new(&log, "Noted")?;
    for _ in 0..config.events_each {
        for entity in 0..config.entities {
            let data = br#"{"text":"x"}"#.to_vec();
            let key = entity.to_string();
            filler.event(Ledger::CATEGORY, &key, data).await?;
        }
    }
    filler.finish().await?;
    drop(log);
    filled.close()?;
    drop(filled);
    (tools.progress)("loading them");
    let opened = open()?;
    let log: Arc<dyn Log> = opened.clone();
    let options = EntityOptions {
        // Nothing leaves.
        memory_max: usize::MAX,
        ..EntityOptions::default()
    };
    let service = Service::builder("bench", log, Time::of(&Env::os()))
        .entity_with::<Ledger>(options)
        .start()
        .await;
    let service = Arc::new(service.map_err(|e| BenchError::Invalid(e.to_string()))?);
    let machine = Env::os().disk;
    let resident = || {
        Process::now(&*machine).resident_bytes.ok_or_else(|| {
            BenchError::Invalid("this system does not say how much memory is used".into())
        })
    };
    let before = resident()?;
    load_all(&service, config.entities).await?;
    let after = resident()?;
    let live = service
        .any_entity(Ledger::CATEGORY)
        .map_or(0, |door| door.memory().0);
    if live as u64 != config.entities {
        return Err(BenchError::Void(format!(
            "{live} entities are in memory, not {}",
            config.entities
        )));
    }
    drop(service);
    opened.close()?;
    let state = size_of::<Ledger>() as u64;
    let each = after.saturating_sub(before) as f64 / config.entities as f64;
    Ok(IdleReport {
        entities: config.entities,
        events_each: config.events_each,
        resident_before_bytes: before,
        resident_after_bytes: after,
        state_bytes: state,
        beyond_state_bytes: each - state as f64,
    })
}

async fn load_all(service: &Arc<Service>, entities: u64) -> Result<(), BenchError> {
    let share = entities.div_ceil(AT_ONCE);
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|n| {
            let service = service.clone();
            tokio::spawn(async move {
                for entity in n * share..((n + 1) * share).min(entities) {
                    let ledger = service.entity::<Ledger>(entity.to_string());
                    let touched = ledger.send(LedgerCommand::Look).await;
                    touched.map_err(|e| BenchError::Void(e.to_string()))?;
                }
                Ok::<_, BenchError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|e| BenchError::Void(e.to_string()))??;
    }
    Ok(())
}

impl IdleReport {
    /// The report for people.
    pub fn to_text(&self) -> String {
        format!(
            "{} idle entities of {} events each: {} MB before they were loaded, {} MB after\n\
             {} bytes each beyond their state of {} bytes\n",
            count(self.entities),
            self.events_each,
            number(self.resident_before_bytes as f64 / 1e6),
            number(self.resident_after_bytes as f64 / 1e6),
            number(self.beyond_state_bytes),
            self.state_bytes
        )
    }
}
