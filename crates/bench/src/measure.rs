use std::sync::Arc;
use std::time::Duration;

use anabranch_env::Env;
use anabranch_log::Log;
use tokio::runtime::Runtime;

use crate::Tools;
use crate::append::{Compared, Rounds, best_bare, compare, log_contender};
use crate::config::Config;
use crate::dir::BenchDir;
use crate::drive::Written;
use crate::engine::OpenLog;
use crate::error::BenchError;
use crate::follow::follow;
use crate::peers;
use crate::replay::replay;
use crate::report::{About, Report};
use crate::served;

/// Events that a replay reads at most, so that they stay in the page cache.
const REPLAY_EVENTS_MAX: u64 = 10_000_000;

/// Measures one workload: appending beside the bare loop and the peers, replaying what
/// was appended, and following while more is appended. Blocks until done.
pub fn measure(config: &Config, tools: &Tools<'_>) -> Result<Report, BenchError> {
    config.workload.check()?;
    if config.rounds == 0 || config.seconds.is_zero() {
        return Err(BenchError::Invalid(
            "at least one round and some time are needed".to_owned(),
        ));
    }
    let dir = BenchDir::below(&config.dir, config.keep)?;
    let report = on_runtime(|runtime| crate::block_on(runtime, measure_in(&dir, config, tools)))?;
    dir.finish()?;
    Ok(report)
}

/// Runs `body` with the runtime that all clients run on, on a thread that belongs to no
/// other runtime.
pub(crate) fn on_runtime<T: Send>(
    body: impl FnOnce(&Runtime) -> Result<T, BenchError> + Send,
) -> Result<T, BenchError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| body(&crate::runtime()?));
        match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

pub(crate) async fn measure_in(
    dir: &BenchDir,
    config: &Config,
    tools: &Tools<'_>,
) -> Result<Report, BenchError> {
    let workload = &config.workload;
    let rounds = Rounds::over(config.seconds, config.rounds);
    dir.need(3 * config.bare_file_bytes)?;
    (tools.progress)("trying the ways of the bare loop");
    let trial = (rounds.each / 4).min(Duration::from_millis(500));
    let bare = best_bare(&dir.sub("bare")?, config.bare_file_bytes, workload, trial).await?;
    let fastest = bare
        .2
        .iter()
        .map(|t| t.events_per_second)
        .fold(0.0, f64::max);
    dir.need(log_bytes_max(config, fastest))?;

    let env = Env::os();
    let disk = Arc::clone(&env.disk);
    let open = tools
        .engine
        .open_for_burst(env, &dir.sub("log")?, workload.durability)?;
    let log: Arc<dyn Log> = open.clone();
    let mut entries = Vec::new();
    for &peer in &config.peers {
        (tools.progress)(&format!("starting {peer}"));
        entries.push(peers::start(peer, dir, workload).await);
    }
    if config.served {
        (tools.progress)("starting a server");
        entries.push(served::start(&dir.sub("served")?, workload).await);
    }
    open.prepare();
    let counted: Arc<dyn OpenLog> = open.clone();
    let all = Arc::clone(&disk);
    let written: Written = Arc::new(move || counted.written(&*all));
    let contender = Box::new(log_contender(workload, &log, Some(disk)).counting(written));
    let compared = compare(contender, bare, entries, rounds, tools.progress).await?;
    dir.done_with("bare")?;
    check_head(&log, &compared).await?;
    (tools.progress)("replaying");
    let replayed = replay(&log, REPLAY_EVENTS_MAX, config.rounds).await?;
    (tools.progress)("following");
    let idle_appends = config.seconds.as_millis().clamp(10, 500) as u64;
    let followed = follow(&log, workload, idle_appends, rounds.each).await?;
    let served = if config.served {
        (tools.progress)("following through a server");
        let dir = dir.sub("served-follow")?;
        Some(served::follow_served(&dir, workload, idle_appends, rounds.each).await?)
    } else {
        None
    };
    let about = About::new(config, log.capabilities().engine, open.method());
    open.close()?;
    dir.done_with("log")?;
    Ok(Report::new(about, compared, replayed, followed, served))
}

/// What the log may write if it appends as fast as the bare loop, with room for its
/// frames and indexes.
fn log_bytes_max(config: &Config, events_per_second: f64) -> u64 {
    let seconds = config.seconds.as_secs_f64() * 1.1 + 1.0;
    let per_event = config.workload.size as f64 * 1.6 + 100.0;
    // The bare loop's best trial is more than any of these reaches. Where it is high, and room matters,
    // no peer has written half of that.
    let writers = 1.0 + 0.5 * config.peers.len() as f64 + 0.5 * f64::from(u8::from(config.served));
    (events_per_second * seconds * per_event * writers) as u64 + (1 << 30)
}

/// What was acknowledged must be there.
async fn check_head(log: &Arc<dyn Log>, compared: &Compared) -> Result<(), BenchError> {
    let head: u64 = log.head().await?.iter().map(|(_, count)| count).sum();
    if head < compared.append.events {
        return Err(BenchError::Void(format!(
            "{} events were acknowledged, but the log has {head}",
            compared.append.events
        )));
    }
    Ok(())
}
