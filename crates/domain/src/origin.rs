use anabranch_model::record::RecordError;
use anabranch_model::{EventId, EventRef};
use serde::{Deserialize, Serialize};

/// What began a saga, or was consumed by a process, and which story that belongs to. What they send
/// belongs to the same story.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// The event that began it; `None` if that was a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
    /// Id of the whole story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// W3C trace context of who began the story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Origin {
    /// The story of `event`. One that says nothing of a story begins its own. Fails when what the
    /// log keeps beside the event's data cannot be read.
    pub fn of(event: &EventRef<'_>) -> Result<Self, RecordError> {
        let meta = event.meta.decode()?;
        let own = || event.id.to_string();
        Ok(Self {
            event: Some(event.id),
            correlation_id: Some(meta.correlation_id.unwrap_or_else(own)),
            traceparent: meta.traceparent,
        })
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}
