use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::engine::Engine;
use crate::run::run;
use crate::violation::Violation;
use crate::world::{Report, Settings};

/// Many runs of one engine: seed after seed until enough crash states were seen.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// The first seed; the others follow it.
    pub seed: u64,
    /// How many crash states to see at least.
    pub states: u64,
    /// How many runs to do at most.
    pub runs_max: u64,
    /// How many threads to use.
    pub threads: usize,
    /// How much one run does.
    pub settings: Settings,
}

/// What a campaign did and found.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// The sum of all runs. Its trace hash depends on the order in which threads ended.
    pub report: Report,
    /// How many runs were done.
    pub runs: u64,
    /// The first run that failed, if one did.
    pub failed: Option<Failed>,
}

/// A run that broke a promise.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The seed it can be repeated with.
    pub seed: u64,
    /// What it broke.
    pub violation: Violation,
    /// What it did, line by line.
    pub journal: Vec<String>,
}

impl Totals {
    /// The share of operations that succeeded, from 0 to 1. Too few, and a campaign that
    /// found nothing says nothing.
    pub fn success_share(&self) -> f64 {
        self.report.succeeded as f64 / self.report.operations.max(1) as f64
    }
}

impl Campaign {
    /// Runs until enough states were seen or a run fails.
    pub fn run(&self, engine: &dyn Engine) -> Totals {
        let totals = Mutex::new(Totals::default());
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.runs_max {
                    return;
                }
                let seed = self.seed.wrapping_add(number);
                let (report, outcome) = run(engine, seed, self.settings);
                let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                totals.report.add(&report);
                totals.runs += 1;
                if let Err(violation) = outcome {
                    stop.store(true, Ordering::Relaxed);
                    // Of several threads' failures the first seed's counts, so that the
                    // same campaign reports the same.
                    if totals.failed.as_ref().is_none_or(|f| seed < f.seed) {
                        totals.failed = Some(Failed {
                            seed,
                            violation,
                            journal: Vec::new(),
                        });
                    }
                } else if totals.report.states >= self.states {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads {
                scope.spawn(work);
            }
            work();
        });
        let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = &mut totals.failed {
            let journaled = Settings {
                journal: true,
                ..self.settings
            };
            failed.journal = run(engine, failed.seed, journaled).0.journal;
        }
        totals
    }
}
