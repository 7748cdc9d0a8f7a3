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

/// The type of an event that stands for one that is lost.
pub(crate) const LOST_TYPE: &str = "$EventLost";
/// The category of the streams of such events.
pub(crate) const LOST_CATEGORY: &str = "$lost";
/// The header of such an event that names the stream's key, in hexadecimal.
pub(crate) const LOST_KEY_HEADER: &str = "lost-stream-key";
/// The header of such an event that names the version it had in its stream.
pub(crate) const LOST_VERSION_HEADER: &str = "lost-version";
