//! Appends, what they have done, and what a log can do.

use anabranch_log::{Append, Appended, Capabilities, Condition, Expect, Group, Layout, Scope};
use anabranch_model::{Limits, Query, QueryItem};
use buffa::MessageField;

use crate::event::{new_event_of, new_event_to, stream_of, type_of};
use crate::made::protocol as p;
use crate::made::protocol::__buffa::oneof;
use crate::malformed::Malformed;
use crate::names::kept;
use crate::places::{cut_of, cut_to, placed_of, placed_to, some_cut};

/// An append as a message.
pub fn append_to(append: &Append) -> p::AppendRequest {
    p::AppendRequest {
        events: append.events.iter().map(new_event_to).collect(),
        conditions: append.conditions.iter().map(condition_to).collect(),
        ..Default::default()
    }
}

/// How large a message to the server of a log with these limits may be, in bytes: as it travels,
/// and its parts in memory. Names, numbers and metadata come on top of the largest batch.
pub fn message_bytes_max(limits: &Limits) -> usize {
    limits.batch_bytes_max.saturating_mul(3)
}

/// What an event, and what each of its headers, tags and causes, takes at most in a message that
/// was read, in bytes, its text aside.
pub(crate) const EVENT_PARTS_BYTES: usize = 1024;
pub(crate) const PART_BYTES: usize = 64;

/// What an append, and each of its conditions, takes beside its events.
pub(crate) const APPEND_BYTES: usize = 256;
pub(crate) const CONDITION_BYTES: usize = 128;

/// About how many bytes the parts of an append take in memory once its message is read: not more
/// than this. See [`message_bytes_max`].
pub fn parts_bytes(append: &Append) -> usize {
    let events = append.events.iter().map(|event| {
        let parts = event.meta.as_deref().map_or(0, |meta| {
            meta.headers.len() + meta.tags.len() + meta.causes.iter().count()
        });
        EVENT_PARTS_BYTES + PART_BYTES * parts
    });
    APPEND_BYTES + CONDITION_BYTES * append.conditions.len() + events.sum::<usize>()
}

/// The append that a message means.
pub fn append_of(message: p::AppendRequest) -> Result<Append, Malformed> {
    let numbered = message.events.into_iter().enumerate();
    let events = numbered.map(|(at, event)| {
        new_event_of(event).map_err(|error| Malformed(format!("event {at}: {error}")))
    });
    let conditions = message.conditions.into_iter().map(condition_of);
    Ok(Append {
        events: events.collect::<Result<_, _>>()?,
        conditions: conditions.collect::<Result<_, _>>()?,
    })
}

/// What an append has done, as a message.
pub fn appended_to(appended: &Appended) -> p::AppendResponse {
    p::AppendResponse {
        places: appended.places.iter().copied().map(placed_to).collect(),
        repeated: appended.repeated,
        closure: match appended.closure == appended.cut() {
            true => MessageField::none(),
            false => MessageField::some(cut_to(&appended.closure)),
        },
        ..Default::default()
    }
}

/// What an append has done, as a message says.
pub fn appended_of(message: &p::AppendResponse) -> Result<Appended, Malformed> {
    let places = message.places.iter().map(placed_of);
    let mut appended = Appended::new(places.collect::<Result<_, _>>()?, message.repeated);
    if let Some(closure) = message.closure.as_option() {
        appended.closure = cut_of(closure);
    }
    Ok(appended)
}

fn condition_to(condition: &Condition) -> p::Condition {
    let condition = match condition {
        Condition::Stream(stream, expect) => p::StreamCondition {
            stream: stream.as_str().to_owned(),
            expect: MessageField::some(expect_to(*expect)),
            ..Default::default()
        }
        .into(),
        Condition::NoMatch { query, after } => p::NoMatch {
            items: query.items.iter().map(item_to).collect(),
            after: MessageField::some(cut_to(after)),
            ..Default::default()
        }
        .into(),
    };
    p::Condition {
        condition,
        ..Default::default()
    }
}

fn condition_of(message: p::Condition) -> Result<Condition, Malformed> {
    match message.condition {
        Some(oneof::condition::Condition::Stream(on)) => {
            let expect = on.expect.as_option().map(expect_of);
            let expect = expect.ok_or_else(|| {
                Malformed::new("a condition on a stream does not say what it expects")
            })?;
            Ok(Condition::Stream(stream_of(&on.stream)?, expect?))
        }
        Some(oneof::condition::Condition::NoMatch(no)) => {
            let items = no.items.into_iter().map(item_of);
            Ok(Condition::NoMatch {
                query: Query {
                    items: items.collect::<Result<_, _>>()?,
                },
                after: some_cut(&no.after),
            })
        }
        None => Err(Malformed::new("a condition says nothing")),
    }
}

pub(crate) fn expect_to(expect: Expect) -> p::Expect {
    use oneof::expect::State;

    p::Expect {
        state: Some(match expect {
            Expect::Any => State::Any(true),
            Expect::Empty => State::Empty(true),
            Expect::Exists => State::Exists(true),
            Expect::At(version) => State::At(version),
        }),
        ..Default::default()
    }
}

pub(crate) fn expect_of(message: &p::Expect) -> Result<Expect, Malformed> {
    use oneof::expect::State;

    match message.state {
        Some(State::Any(_)) => Ok(Expect::Any),
        Some(State::Empty(_)) => Ok(Expect::Empty),
        Some(State::Exists(_)) => Ok(Expect::Exists),
        Some(State::At(version)) => Ok(Expect::At(version)),
        None => Err(Malformed::new(
            "a condition on a stream does not say what it expects",
        )),
    }
}

fn item_to(item: &QueryItem) -> p::QueryItem {
    p::QueryItem {
        types: item.types.iter().map(|t| t.as_str().to_owned()).collect(),
        tags: item.tags.clone(),
        ..Default::default()
    }
}

fn item_of(message: p::QueryItem) -> Result<QueryItem, Malformed> {
    let types = message.types.iter().map(|text| type_of(text));
    Ok(QueryItem {
        types: types.collect::<Result<_, _>>()?,
        tags: message.tags,
    })
}

/// What a log can do, as a message.
pub fn capabilities_to(can: &Capabilities) -> p::Capabilities {
    let limits = &can.limits;
    p::Capabilities {
        engine: can.engine.to_owned(),
        partitions: can.partitions,
        batches: scope_to(Some(can.batches)).into(),
        conditions: scope_to(Some(can.conditions)).into(),
        no_match: scope_to(can.no_match).into(),
        total_order: can.total_order,
        backward_reads: can.backward_reads,
        survives_restart: can.survives_restart,
        survives_power_cut: can.survives_power_cut,
        limits: MessageField::some(p::Limits {
            data_bytes_max: limits.data_bytes_max as u64,
            headers_bytes_max: limits.headers_bytes_max as u64,
            batch_bytes_max: limits.batch_bytes_max as u64,
            batch_events_max: limits.batch_events_max as u64,
            tags_max: limits.tags_max as u64,
            conditions_max: limits.conditions_max as u64,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What a log can do, as a message says. What is not said, it cannot.
pub fn capabilities_of(message: &p::Capabilities) -> Result<Capabilities, Malformed> {
    let limits = message
        .limits
        .as_option()
        .ok_or_else(|| Malformed::new("the log does not say its limits"))?;
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(Capabilities {
        engine: kept(&message.engine),
        partitions: message.partitions,
        batches: scope_of(message.batches.as_known()).unwrap_or(Scope::Stream),
        conditions: scope_of(message.conditions.as_known()).unwrap_or(Scope::Stream),
        no_match: scope_of(message.no_match.as_known()),
        total_order: message.total_order,
        backward_reads: message.backward_reads,
        survives_restart: message.survives_restart,
        survives_power_cut: message.survives_power_cut,
        limits: Limits {
            data_bytes_max: size(limits.data_bytes_max),
            headers_bytes_max: size(limits.headers_bytes_max),
            batch_bytes_max: size(limits.batch_bytes_max),
            batch_events_max: size(limits.batch_events_max),
            tags_max: size(limits.tags_max),
            conditions_max: size(limits.conditions_max),
        },
    })
}

fn scope_to(scope: Option<Scope>) -> p::Scope {
    match scope {
        None => p::Scope::SCOPE_UNSPECIFIED,
        Some(Scope::Stream) => p::Scope::SCOPE_STREAM,
        Some(Scope::Partition) => p::Scope::SCOPE_PARTITION,
        Some(Scope::Log) => p::Scope::SCOPE_LOG,
    }
}

fn scope_of(message: Option<p::Scope>) -> Option<Scope> {
    match message? {
        p::Scope::SCOPE_UNSPECIFIED => None,
        p::Scope::SCOPE_STREAM => Some(Scope::Stream),
        p::Scope::SCOPE_PARTITION => Some(Scope::Partition),
        p::Scope::SCOPE_LOG => Some(Scope::Log),
    }
}

/// A layout as a message; nothing where there is one partition.
pub fn layout_to(layout: &Layout) -> Option<p::Layout> {
    if layout.is_one() {
        return None;
    }
    let group = |group: &Group| p::Group {
        name: group.name.clone(),
        categories: group.categories.clone(),
        count: group.count,
        ..Default::default()
    };
    Some(p::Layout {
        groups: layout.groups().iter().map(group).collect(),
        rest: layout.rest(),
        ..Default::default()
    })
}

/// The layout that a message means, if there is one.
pub fn layout_of(message: Option<&p::Layout>) -> Result<Layout, Malformed> {
    let Some(layout) = message else {
        return Ok(Layout::one());
    };
    let group = |group: &p::Group| Group {
        name: group.name.clone(),
        categories: group.categories.clone(),
        count: group.count,
    };
    let groups = layout.groups.iter().map(group).collect();
    Layout::new(groups, layout.rest)
        .map_err(|error| Malformed(format!("the log's layout: {error}")))
}
