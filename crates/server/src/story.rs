//! Which events belong to a story.

use anabranch_model::EventRef;
use anabranch_model::record::RecordError;

/// Whether an event has this correlation id; without one, every event does.
pub fn is_of(event: &EventRef<'_>, story: Option<&str>) -> Result<bool, RecordError> {
    let Some(story) = story else { return Ok(true) };
    Ok(event.meta.decode()?.correlation_id.as_deref() == Some(story))
}
