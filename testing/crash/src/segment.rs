//! The embedded engine, driven by hand and made small, so that a short run rolls, seals
//! and indexes many segments.

use std::sync::Arc;
use std::time::Duration;

use anabranch_env::{Env, SplitMix64};
use anabranch_log::{Log, OpenError};
use anabranch_log_segment::{Background, Bug, Options, SegmentLog, WriteMethod};

use crate::careless::{Careless, Flaw};
use crate::engine::{Engine, Machine};

/// The embedded engine, sound or with a planted bug.
#[derive(Debug, Clone, Copy, Default)]
pub struct Segment {
    /// What is wrong with it.
    pub bug: Option<Bug>,
    /// What is wrong with the way it uses its disk.
    pub flaw: Option<Flaw>,
}

impl Engine for Segment {
    fn name(&self) -> String {
        match (self.bug, self.flaw) {
            (None, None) => "segment".to_owned(),
            (Some(bug), _) => format!("segment with {bug:?}"),
            (None, Some(flaw)) => format!("segment with {flaw:?}"),
        }
    }

    fn open(&self, env: Env, tuning: u64) -> Result<Box<dyn Machine>, OpenError> {
        let (careless, env) = match self.flaw {
            Some(flaw) => {
                let (careless, env) = Careless::put(env, flaw);
                (Some(careless), env)
            }
            None => (None, env),
        };
        let log = Arc::new(SegmentLog::open(env, "log", self.options(tuning))?);
        Ok(Box::new(Handle { log, careless }))
    }

    fn open_damaged(&self, env: Env, tuning: u64) -> Option<Result<Box<dyn Machine>, OpenError>> {
        let opened = SegmentLog::open_read_only(env, "log", self.options(tuning));
        Some(opened.map(|log| {
            let (log, careless) = (Arc::new(log), None);
            Box::new(Handle { log, careless }) as Box<dyn Machine>
        }))
    }
}

impl Segment {
    /// The engine with one planted bug.
    pub fn with_bug(bug: Bug) -> Self {
        Self {
            bug: Some(bug),
            flaw: None,
        }
    }

    /// The sound engine on a careless disk.
    pub fn with_flaw(flaw: Flaw) -> Self {
        Self {
            bug: None,
            flaw: Some(flaw),
        }
    }

    fn options(&self, tuning: u64) -> Options {
        let mut rng = SplitMix64::new(tuning);
        let mut one_of = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
        Options {
            write_method: match one_of(&[0, 0, 0, 1, 1, 1, 2]) {
                0 => WriteMethod::Buffered,
                1 => WriteMethod::Direct,
                _ => WriteMethod::Auto,
            },
            segment_bytes: one_of(&[64, 64, 128, 256]) << 10,
            first_segment_bytes: Some(one_of(&[32, 64]) << 10),
            spare_segments: one_of(&[0, 1, 2]) as usize,
            index_memory: one_of(&[16, 1024]) as usize * 1024,
            queue_bytes_max: one_of(&[64, 4096]) as usize * 1024,
            append_timeout: Duration::from_secs(30),
            reserve_bytes: 64 << 10,
            background: Background::Manual,
            sabotage: self.bug,
            ..Options::default()
        }
    }
}

struct Handle {
    log: Arc<SegmentLog>,
    careless: Option<Careless>,
}

impl Machine for Handle {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    fn step(&self) -> bool {
        self.log.step()
    }

    fn upkeep(&self) {
        self.log.prepare();
    }

    fn close(self: Box<Self>) -> Result<(), OpenError> {
        if let Some(careless) = &self.careless {
            careless.closes();
        }
        self.log.close()
    }
}
