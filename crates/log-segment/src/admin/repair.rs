//! Mending a log: what can be made again is, and what is lost is said to be lost.
//!
//! A plan is made by reading only. It names every loss before anything is changed.

mod apply;
mod loss;
mod lost;
mod names;
mod plan;
mod survivors;

use std::path::Path;

use anabranch_env::Env;
use anabranch_log::OpenError;
use anabranch_model::PartitionId;

use super::layout::Layout;
use crate::layout_file::{in_partition, moved};
use crate::open::take_lock;

pub use loss::{Loss, LostEvent};
pub use plan::{Action, RepairPlan};

impl RepairPlan {
    /// Does it: takes the log for itself, and keeps every damaged file under another name.
    ///
    /// Needs memory for one segment. An interrupted repair leaves nothing worse than it was: make a new plan.
    ///
    /// # Errors
    ///
    /// The log is open elsewhere, has changed since the plan was made, or the disk refuses.
    pub fn apply(&self, env: Env) -> Result<(), OpenError> {
        if self.parts.is_empty() {
            return apply::apply(self, env);
        }
        let _held = take_lock(&env, &self.dir)?;
        let mut to_do = self.parts.iter().filter(|part| !part.is_empty());
        to_do.try_for_each(|part| apply::apply(part, env.clone()))
    }

    /// The same as people are told of it where it is of one of several partitions.
    pub(super) fn told_of(mut self, id: PartitionId) -> Self {
        let inside = move |file: &str| in_partition(id, file);
        for loss in &mut self.losses {
            (loss.first, loss.last) = (moved(id, loss.first), moved(id, loss.last));
            loss.file = inside(&loss.file);
            for event in &mut loss.known {
                event.position = moved(id, event.position);
            }
        }
        let actions = self.actions.into_iter();
        self.actions = actions.map(|action| action.named(&inside)).collect();
        self
    }

    /// What mends each of several partitions, together; `told` has the same as people are
    /// told of it.
    pub(super) fn of_parts(dir: &Path, parts: Vec<Self>, told: Vec<Self>) -> Self {
        Self {
            losses: told.iter().flat_map(|part| part.losses.clone()).collect(),
            actions: told.iter().flat_map(|part| part.actions.clone()).collect(),
            dir: dir.to_owned(),
            steps: Vec::new(),
            parts,
        }
    }
}

/// As [`plan_repair`](super::plan_repair), of the files of one partition.
pub(super) fn plan_one(env: &Env, dir: &Path) -> Result<RepairPlan, OpenError> {
    let layout = Layout::take(env, dir)?;
    if layout.written {
        return Err(OpenError::Locked {
            path: dir.display().to_string(),
            holder: "a writer".to_owned(),
        });
    }
    plan::plan(env, dir)
}
