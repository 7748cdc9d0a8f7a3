//! Looking after a log: what it holds, whether it is whole, mending it, copying it.
//!
//! Nothing here is on the way of an append or a read. [`info`] and [`verify`] change
//! nothing and work beside a writer; [`RepairPlan::apply`] takes the log for itself.

mod backup;
mod info;
mod layout;
mod manifest;
mod repair;
mod report;
mod verify;
mod walk;

#[cfg(test)]
pub(crate) use manifest::decode_manifest;

pub use backup::{BackupReport, backup, restore};
pub use info::{Info, SegmentInfo, info};
pub use repair::{Action, Loss, LostEvent, RepairPlan, plan_repair};
pub use report::{Damage, Progress, Remark, VerifyReport};
pub use verify::verify;
