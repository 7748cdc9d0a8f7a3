use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::Engine;
use crate::life::Life;
use crate::violation::{Violation, Wrong};
use crate::world::{Report, Settings, World};

/// Runs one engine from one seed. Fails with the first violation.
pub fn run(engine: &dyn Engine, seed: u64, settings: Settings) -> (Report, Result<(), Violation>) {
    let mut world = World::new(engine, seed, settings);
    let lived = catch_unwind(AssertUnwindSafe(|| world.lives()));
    let outcome = lived.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("for a reason that is no text");
        Err(Violation::new(Wrong::Panic, text))
    });
    world.take_disk_journal();
    let mut report = world.report;
    report.tally.add(&world.disk.tally());
    (report, outcome)
}

impl World<'_> {
    fn lives(&mut self) -> Result<(), Violation> {
        let mut machine = self.recover()?;
        for life in 0..self.settings.lives {
            self.say(|| format!("== life {life}"));
            Life::new(self, machine).live()?;
            self.model.process_ended();
            self.disk.clear_faults();
            self.disk.set_capacity(None);
            for _ in 0..self.settings.forks {
                self.in_fork("a crash state", Self::check_ahead)?;
            }
            self.end_process();
            machine = self.recover()?;
        }
        self.damage(machine)?;
        self.trace(self.disk.trace());
        Ok(())
    }

    /// Opens the log from another crash state of this moment, and sometimes goes on for a
    /// while, to be cut off again.
    fn check_ahead(&mut self) -> Result<(), Violation> {
        self.end_process();
        let machine = self.recover()?;
        let go_on = self.rng.below(8);
        if go_on < 3 {
            let life = Life::new(self, machine);
            match go_on {
                0 => life.live_for_one_retry()?,
                _ => life.live_shortly()?,
            }
            self.model.process_ended();
            self.end_process();
            self.recover()?;
        }
        Ok(())
    }
}
