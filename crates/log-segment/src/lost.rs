//! Events that stand in the place of lost ones, as a repair writes them.

use anabranch_model::EventRef;

/// The type of an event that stands for one that is lost.
pub(crate) const LOST_TYPE: &str = "$EventLost";
/// The category of the streams of such events.
pub(crate) const LOST_CATEGORY: &str = "$lost";
/// The header of such an event that names the stream's key, in hexadecimal.
pub(crate) const LOST_KEY_HEADER: &str = "lost-stream-key";
/// The header of such an event that names the version it had in its stream.
pub(crate) const LOST_VERSION_HEADER: &str = "lost-version";

/// The stream and version of the event that `event` says is lost, if it says so.
pub(crate) fn lost_version(event: &EventRef<'_>) -> Option<(u128, u64)> {
    if event.event_type != LOST_TYPE || event.category() != LOST_CATEGORY {
        return None;
    }
    let key = u128::from_str_radix(event.meta.header(LOST_KEY_HEADER)?, 16).ok()?;
    let version = event.meta.header(LOST_VERSION_HEADER)?.parse().ok()?;
    (version < u64::MAX).then_some((key, version))
}
