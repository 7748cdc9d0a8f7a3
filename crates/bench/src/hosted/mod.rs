//! Measures what a service on the log does: commands to entities, sagas, views; each beside
//! the log that does as much without a service.

mod clients;
mod config;
mod fill;
mod idle;
mod report;
mod shop;
mod view;

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::Log;
use anabranch_runtime::{EntityOptions, ProcessOptions, Service, ServiceBuilder, Time};

use crate::Tools;
use crate::append::{Contender, Driven, Lane, Rounds, log_contender};
use crate::dir::BenchDir;
use crate::drive::Length;
use crate::error::BenchError;
use crate::figures::{Figures, Ratio};
use crate::machine;
use crate::measure::on_runtime;
use crate::workload::Workload;

pub use config::{Hosted, HostedConfig, Sagas};
pub use idle::{IdleConfig, IdleReport, measure_idle};
pub use report::HostedReport;
pub use view::{Built, ViewConfig, ViewReport, measure_views};

/// The streams of the work that the log does beside it, as `bench log` has them.
const LOG_STREAMS: u64 = 10_000;

/// Measures a service beside the log alone. Blocks until done.
pub fn measure_hosted(
    config: &HostedConfig,
    tools: &Tools<'_>,
) -> Result<HostedReport, BenchError> {
    if config.rounds == 0 || config.seconds.is_zero() {
        return Err(BenchError::Invalid(
            "at least one round and some time are needed".to_owned(),
        ));
    }
    if config.size <= shop::NOTED_BYTES {
        return Err(BenchError::Invalid(format!(
            "an event has more than {} bytes of data here",
            shop::NOTED_BYTES
        )));
    }
    let dir = BenchDir::below(&config.dir, config.keep)?;
    let report = on_runtime(|runtime| crate::block_on(runtime, measure_in(&dir, config, tools)))?;
    dir.finish()?;
    Ok(report)
}

async fn measure_in(
    dir: &BenchDir,
    config: &HostedConfig,
    tools: &Tools<'_>,
) -> Result<HostedReport, BenchError> {
    let workload = Workload {
        clients: config.clients,
        size: config.size,
        streams: LOG_STREAMS,
        durability: config.durability,
        seed: config.seed,
        ..Workload::default()
    };
    workload.check()?;
    let open = |name: &str| -> Result<_, BenchError> {
        let env = Env::os();
        let log = tools
            .engine
            .open_for_burst(env, &dir.sub(name)?, config.durability)?;
        log.prepare();
        Ok(log)
    };
    (tools.progress)("writing segments ahead");
    let (beside, under) = (open("log")?, open("service")?);
    let (log, hosting): (Arc<dyn Log>, Arc<dyn Log>) = (beside.clone(), under.clone());
    let service = start(config, &hosting).await?;
    let contender = contender(config, &service, &hosting).await?;
    let mut lanes = [
        Lane::new(contender),
        Lane::new(Box::new(log_contender(&workload, &log, None))),
    ];
    for lane in &mut lanes {
        lane.contender.settle().await;
    }
    let rounds = Rounds::over(config.seconds, config.rounds);
    for round in 0..rounds.count {
        (tools.progress)(&format!("round {} of {}", round + 1, rounds.count));
        for turn in 0..2 {
            lanes[(round + turn) % 2]
                .run(Length::time(rounds.each))
                .await?;
        }
    }
    let [ours, logs] = lanes;
    let diagnostics = service.diagnostics();
    if let Some(note) = diagnostics.last() {
        return Err(BenchError::Void(format!(
            "the service has noted {} faults, the last: {}",
            diagnostics.len(),
            note.text
        )));
    }
    drop(ours.contender);
    if let Ok(service) = Arc::try_unwrap(service) {
        service.shutdown(SHUTDOWN).await;
    }
    drop(logs.contender);
    under.close()?;
    beside.close()?;
    let none = || BenchError::Invalid("at least one round is needed".to_owned());
    Ok(HostedReport {
        work: config.work.to_string(),
        clients: config.clients,
        size: config.size,
        rounds: config.rounds,
        seconds_per_round: rounds.each.as_secs_f64(),
        machine: machine::processors(&*Env::os().disk),
        service: Figures::median(&ours.seen).ok_or_else(none)?,
        log: Figures::median(&logs.seen).ok_or_else(none)?,
        ratio: Ratio::median(&ours.seen, &logs.seen).ok_or_else(none)?,
        events_per_answer: config.work.events_per_answer(),
    })
}

const SHUTDOWN: Duration = Duration::from_secs(10);

async fn start(config: &HostedConfig, log: &Arc<dyn Log>) -> Result<Arc<Service>, BenchError> {
    let time = Time::of(&Env::os());
    let builder: ServiceBuilder = Service::builder("bench", log.clone(), time);
    let entities = EntityOptions {
        // Clients that wait must not be refused: this measures work, not refusals.
        waiting_max: config.clients.max(1024) * 32,
        mailbox_max: config.clients.max(1024) * 32,
        ..EntityOptions::default()
    };
    let builder = match config.work {
        Hosted::Commands { .. } => builder.entity_with::<shop::Ledger>(entities),
        Hosted::Sagas(sagas) => {
            let builder = builder
                .entity_with::<shop::Order>(entities.clone())
                .entity_with::<shop::Stock>(entities.clone())
                .entity_with::<shop::Payment>(entities.clone())
                .entity_with::<shop::Shipment>(entities)
                .saga_with::<shop::Checkout>(ProcessOptions::default().from_start());
            if sagas.dispatching {
                builder.process_with::<shop::Dispatching>(ProcessOptions::default().from_start())
            } else {
                builder
            }
        }
    };
    let service = builder.start().await;
    Ok(Arc::new(
        service.map_err(|error| BenchError::Invalid(error.to_string()))?,
    ))
}

async fn contender(
    config: &HostedConfig,
    service: &Arc<Service>,
    log: &Arc<dyn Log>,
) -> Result<Box<dyn Contender>, BenchError> {
    let events = config.work.events_per_answer();
    Ok(match config.work {
        Hosted::Commands { entities } => Box::new(Driven::of(
            clients::entity_clients(config, service, entities),
            events,
            config.size,
        )),
        Hosted::Sagas(sagas) => Box::new(Driven::of(
            clients::saga_clients(config, service, log, sagas).await?,
            events,
            events * config.size,
        )),
    })
}
