//! The machine that holds the log, and what of it survives.

use std::sync::Arc;

use anabranch_env::sim::{self, SimDisk, SimRng, Survival};
use anabranch_env::{Env, SplitMix64};
use anabranch_log::{Log, MemoryLog};
use anabranch_log_segment::{Background, Options, SegmentLog};
use anabranch_runtime::{ManualTime, Time};

/// Which log the events stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// In memory: services die, the log stays.
    Memory,
    /// The embedded engine on a simulated disk, whose power is cut as well.
    Segment,
}

/// A log, its disk, and time that passes by hand.
pub struct Machine {
    pub clock: ManualTime,
    pub time: Time,
    seed: u64,
    disk: SimDisk,
    kind: Kind,
}

enum Kind {
    Memory(Arc<MemoryLog>),
    Segment(Arc<SegmentLog>),
}

impl Machine {
    pub fn new(engine: Engine, seed: u64) -> Result<Self, String> {
        let clock = ManualTime::new();
        let rng = Arc::new(SimRng::new(seed));
        let (_, disk, _) = sim::env(seed);
        let env = env(&disk, &clock, seed);
        let kind = match engine {
            Engine::Memory => Kind::Memory(Arc::new(MemoryLog::new(env))),
            Engine::Segment => Kind::Segment(open(env)?),
        };
        Ok(Self {
            time: Time::manual(&clock, rng),
            clock,
            seed,
            disk,
            kind,
        })
    }

    pub fn log(&self) -> Arc<dyn Log> {
        match &self.kind {
            Kind::Memory(log) => log.clone(),
            Kind::Segment(log) => log.clone(),
        }
    }

    /// Does what the log's own threads would do.
    pub fn step(&self) {
        if let Kind::Segment(log) = &self.kind {
            while log.step() {}
        }
    }

    /// Cuts the power, if this machine has any, once nobody holds the log; true if it had.
    pub fn cut_power(&mut self, rng: &mut SplitMix64) -> Result<bool, String> {
        if !matches!(self.kind, Kind::Segment(_)) {
            return Ok(false);
        }
        self.disk.crash(Survival::Any(rng.next_u64()));
        self.seed = self.seed.wrapping_add(1);
        self.kind = Kind::Segment(open(env(&self.disk, &self.clock, self.seed))?);
        Ok(true)
    }
}

fn env(disk: &SimDisk, clock: &ManualTime, seed: u64) -> Env {
    Env {
        clock: Arc::new(clock.clone()),
        ..disk.env(seed)
    }
}

fn open(env: Env) -> Result<Arc<SegmentLog>, String> {
    let options = Options {
        background: Background::Manual,
        segment_bytes: 4 << 20,
        first_segment_bytes: Some(256 << 10),
        reserve_bytes: 1 << 20,
        ..Options::default()
    };
    let opened = SegmentLog::open(env, "log", options);
    opened.map(Arc::new).map_err(|error| error.to_string())
}
