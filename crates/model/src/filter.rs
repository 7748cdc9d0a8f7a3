use crate::event::EventRef;
use crate::name::{EventType, StreamId};

/// Which events a reader wants. Parts that are empty want everything; of `categories`,
/// `types` and `streams` one must fit, of `headers` and `tags` all must.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The event's category is one of these.
    pub categories: Vec<String>,
    /// The event's type is one of these.
    pub types: Vec<EventType>,
    /// The event's stream is one of these.
    pub streams: Vec<StreamId>,
    /// The event has each of these headers, with just this value.
    pub headers: Vec<(String, String)>,
    /// The event has each of these tags.
    pub tags: Vec<String>,
}

impl Filter {
    /// Every event.
    pub fn all() -> Self {
        Self::default()
    }

    /// The events of one category.
    pub fn category(category: impl Into<String>) -> Self {
        Self {
            categories: vec![category.into()],
            ..Self::default()
        }
    }

    /// The events of one stream.
    pub fn stream(stream: StreamId) -> Self {
        Self {
            streams: vec![stream],
            ..Self::default()
        }
    }

    /// Whether it wants every event.
    pub fn is_all(&self) -> bool {
        self.categories.is_empty()
            && self.types.is_empty()
            && self.streams.is_empty()
            && self.headers.is_empty()
            && self.tags.is_empty()
    }

    /// Whether it wants this event.
    pub fn matches(&self, event: &EventRef<'_>) -> bool {
        let one_of = |list: &[String], value: &str| {
            list.is_empty() || list.iter().any(|wanted| wanted == value)
        };
        one_of(&self.categories, event.category())
            && (self.types.is_empty() || self.types.iter().any(|t| t.as_str() == event.event_type))
            && (self.streams.is_empty() || self.streams.iter().any(|s| s.as_str() == event.stream))
            && self
                .headers
                .iter()
                .all(|(name, value)| event.meta.header(name) == Some(value))
            && has_all_tags(event, &self.tags)
    }
}

fn has_all_tags(event: &EventRef<'_>, tags: &[String]) -> bool {
    tags.iter()
        .all(|wanted| event.meta.tags().any(|tag| tag == wanted))
}

/// A set of events for an append condition: those that match any of its items.
///
/// Semantics of the dynamic consistency boundary specification: an item matches when the
/// type is one of its types (none named: any) and *all* its tags are present.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// The alternatives. A query without items matches nothing.
    pub items: Vec<QueryItem>,
}

/// One alternative of a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryItem {
    /// The event's type is one of these; empty means any type.
    pub types: Vec<EventType>,
    /// The event has each of these tags.
    pub tags: Vec<String>,
}

impl Query {
    /// The events that have every one of these tags.
    pub fn tags(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            items: vec![QueryItem {
                types: Vec::new(),
                tags: tags.into_iter().map(Into::into).collect(),
            }],
        }
    }

    /// Whether this event is in the set.
    pub fn matches(&self, event: &EventRef<'_>) -> bool {
        self.items.iter().any(|item| {
            (item.types.is_empty() || item.types.iter().any(|t| t.as_str() == event.event_type))
                && has_all_tags(event, &item.tags)
        })
    }
}
