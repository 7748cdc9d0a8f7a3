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
mod several;
mod verify;
mod walk;

#[cfg(test)]
pub(crate) use manifest::decode_manifest;
#[cfg(test)]
pub(crate) use several::decode_whole;

pub use backup::BackupReport;
pub use info::{Info, SegmentInfo};
pub use repair::{Action, Loss, LostEvent, RepairPlan};
pub use report::{Damage, Progress, Remark, VerifyReport};
pub use several::{backup, backup_until, info, plan_repair, restore, verify};
