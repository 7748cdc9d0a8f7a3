//! What many streams cost: memory, and speed of appending.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::Log;
use serde::Serialize;

use crate::append::{Contender, Driven, Rounds};
use crate::child::{ChildJob, ChildNote, RunningChild, filling};
use crate::drive::Length;
use crate::engine::{Engine, LogClient};
use crate::error::BenchError;
use crate::figures::{Figures, Ratio};
use crate::fill::fill_streams;
use crate::workload::{EventSource, Streams, Workload};

/// Memory in use as the number of streams grows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamMemory {
    /// What one million streams more cost, in units of 10⁶ bytes: from the first step to
    /// the last.
    pub mb_per_million: f64,
    /// Each step.
    pub steps: Vec<MemoryStep>,
}

/// Memory in use with a number of streams.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MemoryStep {
    /// Streams with one event each.
    pub streams: u64,
    /// Memory of the process in RAM, in units of 10⁶ bytes.
    pub resident_mb: f64,
}

/// Measures in a child process, whose memory holds nothing else.
pub fn stream_memory(
    child: &dyn Fn(&str) -> io::Result<Command>,
    dir: &Path,
    steps: Vec<u64>,
) -> Result<StreamMemory, BenchError> {
    let job = ChildJob::Memory {
        dir: dir.to_owned(),
        streams: steps,
    };
    let mut child = RunningChild::start(child, &job)?;
    let mut seen = Vec::new();
    while let Some(note) = child.note()? {
        if let ChildNote::Memory {
            streams,
            resident_bytes,
        } = note
        {
            seen.push(MemoryStep {
                streams,
                resident_mb: resident_bytes as f64 / 1e6,
            });
        }
    }
    slope(seen)
}

fn slope(steps: Vec<MemoryStep>) -> Result<StreamMemory, BenchError> {
    match (steps.first(), steps.last()) {
        (Some(first), Some(last)) if last.streams > first.streams => Ok(StreamMemory {
            mb_per_million: (last.resident_mb - first.resident_mb)
                / ((last.streams - first.streams) as f64 / 1e6),
            steps,
        }),
        _ => Err(BenchError::Child(
            "it told no two numbers of streams".to_owned(),
        )),
    }
}

/// Appending to one of many streams beside appending to one of few, in logs that hold the
/// same number of events.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ManyStreams {
    /// How many are few.
    pub few: u64,
    /// How many are many.
    pub many: u64,
    /// The figures with few.
    pub with_few: Figures,
    /// The figures with many.
    pub with_many: Figures,
    /// With many over with few.
    pub ratio: Ratio,
}

/// Fills two logs below `dir`, and measures both in turn.
pub async fn many_streams(
    engine: &dyn Engine,
    dir: &Path,
    workload: &Workload,
    few: u64,
    many: u64,
    rounds: Rounds,
) -> Result<ManyStreams, BenchError> {
    let mut lanes = Vec::new();
    for streams in [few, many] {
        let path = dir.join(format!("streams-{streams}"));
        lanes.push((
            filled(engine, &path, workload, streams, many).await?,
            Vec::new(),
        ));
    }
    for (lane, _) in &mut lanes {
        lane.settle().await;
    }
    for round in 0..rounds.count {
        for turn in 0..2 {
            let (lane, seen) = &mut lanes[(round + turn) % 2];
            let slice = lane.slice(Length::time(rounds.each)).await?;
            lane.settle().await;
            seen.push(Figures::of(&slice));
        }
    }
    let none = || BenchError::Invalid("at least one round is needed".to_owned());
    let (few_seen, many_seen) = (&lanes[0].1, &lanes[1].1);
    Ok(ManyStreams {
        few,
        many,
        with_few: Figures::median(few_seen).ok_or_else(none)?,
        with_many: Figures::median(many_seen).ok_or_else(none)?,
        ratio: Ratio::median(many_seen, few_seen).ok_or_else(none)?,
    })
}

/// The clients of a log with `events` events, spread evenly over `streams` streams.
async fn filled(
    engine: &dyn Engine,
    dir: &Path,
    workload: &Workload,
    streams: u64,
    events: u64,
) -> Result<Driven<LogClient>, BenchError> {
    let env = Env::os();
    env.disk
        .create_dir(dir)
        .map_err(BenchError::io(format!("making {}", dir.display())))?;
    let log: Arc<dyn Log> = engine.open(env.clone(), dir, workload.durability)?;
    let names = Arc::new(Streams::unkept(streams));
    for _ in 0..events.div_ceil(streams) {
        fill_streams(&log, &filling(), &names, 0, streams).await?;
    }
    let clients = (0..workload.clients)
        .map(|n| {
            let source = EventSource::new(workload, Arc::clone(&names), Arc::clone(&env.clock), n);
            LogClient::new(Arc::clone(&log), workload, source)
        })
        .collect();
    Ok(Driven::new(workload, clients, Some(env.disk)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_taken_from_the_first_step_to_the_last() {
        let step = |streams, resident_mb| MemoryStep {
            streams,
            resident_mb,
        };
        let steps = vec![
            step(1_000_000, 50.0),
            step(2_000_000, 170.0),
            step(3_000_000, 250.0),
        ];
        assert_eq!(slope(steps).unwrap().mb_per_million, 100.0);
        assert!(slope(vec![step(1, 1.0)]).is_err());
    }
}
