//! What filters and queries mean, written anew, so that the checker does not believe the
//! code that the engines use.

use anabranch_log::Expect;
use anabranch_model::{Filter, NewEvent, Query, Version};

pub(crate) fn filter_fits(filter: &Filter, event: &NewEvent) -> bool {
    let stream = event.stream.as_str();
    let category = stream.split('/').next().unwrap_or("");
    if !filter.categories.is_empty() && !filter.categories.iter().any(|c| c == category) {
        return false;
    }
    if !filter.types.is_empty() && !filter.types.contains(&event.event_type) {
        return false;
    }
    if !filter.streams.is_empty() && !filter.streams.contains(&event.stream) {
        return false;
    }
    for (name, value) in &filter.headers {
        let headers = event.meta.as_ref().map(|meta| &meta.headers);
        if headers.and_then(|headers| headers.get(name)) != Some(value) {
            return false;
        }
    }
    has_tags(event, &filter.tags)
}

pub(crate) fn query_fits(query: &Query, event: &NewEvent) -> bool {
    query.items.iter().any(|item| {
        let type_fits = item.types.is_empty() || item.types.contains(&event.event_type);
        type_fits && has_tags(event, &item.tags)
    })
}

fn has_tags(event: &NewEvent, tags: &[String]) -> bool {
    let own = event.meta.as_ref().map_or(&[][..], |meta| &meta.tags);
    tags.iter().all(|tag| own.contains(tag))
}

/// Whether a stream with `count` events is in the expected state.
pub(crate) fn expect_fits(expect: Expect, count: Version) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Empty => count == 0,
        Expect::Exists => count > 0,
        Expect::At(version) => count.checked_sub(1) == Some(version),
    }
}
