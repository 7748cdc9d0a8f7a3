//! What of the log a caller may read: what its scopes say, without what services keep to themselves.
//!
//! * Whoever shows leases reads as the services that they are of: what those keep, and nothing that others do.
//! * Whoever shows none reads what is kept as an operator, by `operate:CATEGORY`. Where nobody is asked who
//!   they are, everybody is one.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use anabranch_access::{Caller, Forbidden, Verb};
use anabranch_domain::types::{Kept, Privacy, PrivateRead};
use anabranch_log::{ReadError, ReadMode};
use anabranch_model::{Event, EventBatch, EventRef, Filter, Position};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use connectrpc::ConnectError;

use crate::policy;
use crate::refusal::Refusal;
use crate::registry::{Denied, Lease, private};
use crate::shared::Shared;

/// The header that shows a lease. Who acts by several shows it several times, or with commas between.
pub const LEASE: HeaderName = HeaderName::from_static(anabranch_wire::LEASE_HEADER);

/// Why something that goes on for long ends.
pub const NO_MORE: &str =
    "the key that was shown is good no more: it has expired or was revoked; nothing was changed";

/// Whoever reads.
#[derive(Clone)]
pub struct Reader {
    caller: Caller,
    /// By what it reads; nothing: as who it is.
    leases: Arc<[Lease]>,
    /// The categories that the read names; none: it is of all.
    named: Arc<BTreeSet<String>>,
    /// What the log was not asked to look for, and is looked for here.
    rest: Option<Arc<Filter>>,
}

/// What is kept at some moment.
#[derive(Clone)]
pub struct Sight {
    registered: Arc<Privacy>,
    /// By services of this very program.
    beside: Arc<Privacy>,
}

/// Why something is not read.
pub enum Unreadable {
    /// No scope allows it.
    Forbidden(Forbidden),
    /// A lease does not, or a service keeps it.
    Denied(Denied),
}

/// Why a read that goes on ends.
pub enum Gone {
    /// What was shown of who calls is good no more.
    Key,
    /// A lease is lost, in words.
    Lease(String),
}

impl Sight {
    /// What is kept now.
    pub fn now(shared: &Shared) -> Self {
        Self {
            registered: match shared.has_log {
                true => shared.registry.privacy(),
                // Its server sees to it.
                false => Arc::default(),
            },
            beside: shared.fleet.privacy(),
        }
    }

    fn of(&self, category: &str) -> Option<&Kept> {
        let registered = self.registered.of(category);
        registered.or_else(|| self.beside.of(category))
    }

    fn is_empty(&self) -> bool {
        self.registered.is_empty() && self.beside.is_empty()
    }
}

impl Reader {
    /// Whoever sends this, for a read of this. One that names what may not be read is refused, and that is
    /// written down.
    pub async fn of(
        shared: &Shared,
        caller: Caller,
        headers: &HeaderMap,
        filter: &Filter,
    ) -> Result<Self, Unreadable> {
        let streams = filter.streams.iter().map(|stream| stream.category());
        let named = filter.categories.iter().map(String::as_str).chain(streams);
        let named: BTreeSet<String> = named.map(str::to_owned).collect();
        let mut leases = Vec::new();
        if shared.has_log {
            shared.registry.ready().await?;
            leases = shared.registry.prove(&tokens(headers)?)?;
        }
        let reader = Self {
            named: Arc::new(named),
            ..Self::by(caller, leases)
        };
        let refused = reader.check_named(&Sight::now(shared));
        refused.map_err(|(category, unreadable)| {
            reader.write_down(shared, &category);
            unreadable
        })?;
        Ok(reader)
    }

    /// Whoever acts by these leases, for what names nothing.
    pub fn by(caller: Caller, leases: Vec<Lease>) -> Self {
        Self {
            caller,
            leases: leases.into(),
            named: Arc::default(),
            rest: None,
        }
    }

    /// Who it is, whatever leases it has shown.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Writes down that it is refused what it wants to know of a category.
    pub fn write_down(&self, shared: &Shared, category: &str) {
        if let Some(audit) = &shared.audit {
            let verb = Verb::Read.needed_for(category);
            audit.refused(self.caller.name(), verb.name(), category);
        }
    }

    /// Why this reader is not given all of a category, if that is so.
    pub fn unread(&self, sight: &Sight, category: &str) -> Option<Unreadable> {
        if let Err(forbidden) = self.caller.check(Verb::Read, category) {
            return Some(Unreadable::Forbidden(forbidden));
        }
        let kept = self.kept(sight, category)?;
        Some(Unreadable::Denied(self.refused(category, kept)))
    }

    /// Why this reader is not given all that does not begin with `$`, if that is so.
    pub fn unread_of_all(&self, sight: &Sight) -> Option<Unreadable> {
        if let Err(forbidden) = self.caller.check_all(Verb::Read) {
            return Some(Unreadable::Forbidden(forbidden));
        }
        let mut all = sight.registered.iter().chain(sight.beside.iter());
        let kept = |(category, kept)| {
            (self.kept(sight, category).is_some()).then(|| self.refused(category, kept))
        };
        all.find_map(kept).map(Unreadable::Denied)
    }

    fn check_named(&self, sight: &Sight) -> Result<(), (String, Unreadable)> {
        self.named.iter().try_for_each(|category| {
            let may = self.caller.check(Verb::Read, category);
            may.map_err(|forbidden| (category.clone(), Unreadable::Forbidden(forbidden)))?;
            match self.kept(sight, category) {
                Some(kept) if kept.open.is_empty() => {
                    let denied = self.refused(category, kept);
                    Err((category.clone(), Unreadable::Denied(denied)))
                }
                _ => Ok(()),
            }
        })
    }

    /// How a category is kept from this reader, if it is.
    fn kept<'a>(&self, sight: &'a Sight, category: &str) -> Option<&'a Kept> {
        let kept = sight.of(category)?;
        let may = match &*self.leases {
            [] => self.caller.may(Verb::Operate, category),
            shown => shown.iter().any(|lease| lease.service == kept.owner),
        };
        (!may).then_some(kept)
    }

    fn refused(&self, category: &str, kept: &Kept) -> Denied {
        let reader = match self.leases.first() {
            Some(lease) => format!("service {}", lease.service),
            None => self.caller.name(),
        };
        private(&PrivateRead {
            reader,
            category: category.to_owned(),
            owner: kept.owner.clone(),
            published: kept.published.clone(),
        })
    }

    /// Whether there is nothing that this reader is not given.
    pub fn sees_all(&self, sight: &Sight) -> bool {
        let is_open = |category: &String| {
            self.caller.may(Verb::Read, category) && self.kept(sight, category).is_none()
        };
        if !self.named.is_empty() && self.named.iter().all(is_open) {
            return true;
        }
        self.caller.is_anybody() && (self.leases.is_empty() || sight.is_empty())
    }

    /// What the log is asked for, for a read of this. Types, headers and tags of a reader who is not given all
    /// are looked for here: where the log finds some would tell of events that are kept.
    pub fn asks(&mut self, filter: Filter, sight: &Sight) -> Filter {
        if self.sees_all(sight) {
            return filter;
        }
        let asked = Filter {
            categories: filter.categories.clone(),
            streams: filter.streams.clone(),
            ..Filter::all()
        };
        self.rest = (asked != filter).then(|| Arc::new(filter));
        asked
    }

    /// Whether this reader is given the event that stands there.
    pub async fn sees_at(&self, shared: &Shared, position: Position) -> Result<bool, ReadError> {
        let sight = Sight::now(shared);
        if self.sees_all(&sight) {
            return Ok(true);
        }
        match at(shared, position).await? {
            Some(event) => self.sees(&sight, &event.as_ref()),
            None => Ok(false),
        }
    }

    /// Whether this reader is given an event. What has become private since the read began that names it ends
    /// the read: who is given nothing has to hear it.
    pub fn sees(&self, sight: &Sight, event: &EventRef<'_>) -> Result<bool, ReadError> {
        let category = event.category();
        if !self.caller.may(Verb::Read, category) {
            return Ok(false);
        }
        let is_sought = self.rest.as_ref().is_none_or(|rest| rest.matches(event));
        match self.kept(sight, category) {
            None => Ok(is_sought),
            Some(kept) if kept.open.is_empty() && self.named.contains(category) => {
                let denied = self.refused(category, kept);
                Err(ReadError::Invalid(denied.to_string()))
            }
            Some(kept) => Ok(is_sought && kept.open.contains(event.event_type)),
        }
    }

    /// Why it may read on no more, if that is so: what goes on for long asks again.
    pub fn gone(&self, shared: &Shared) -> Option<Gone> {
        if !shared.is_still_known(&self.caller) {
            return Some(Gone::Key);
        }
        if self.leases.is_empty() {
            return None;
        }
        shared.registry.lost(&self.leases).map(Gone::Lease)
    }

    /// The events of a batch that may be read. What they stand for stays, so that the reader's place moves over
    /// the others.
    pub fn of_batch(&self, batch: EventBatch, sight: &Sight) -> Result<EventBatch, ReadError> {
        if self.rest.is_none() && self.sees_all(sight) {
            return Ok(batch);
        }
        if batch.parts().len() > 1 {
            let parts = batch.parts().iter().cloned();
            let parts = parts.map(|part| self.of_batch(part, sight));
            return parts.collect::<Result<_, _>>().map(EventBatch::together);
        }
        let (mut events, mut appends) = (Vec::new(), Vec::new());
        let mut is_whole = true;
        for event in &batch {
            if !self.sees(sight, &event.map_err(unreadable)?)? {
                is_whole = false;
                break;
            }
        }
        if is_whole {
            return Ok(batch);
        }
        let reach = batch.reach();
        for event in batch.clone() {
            let event = event.map_err(unreadable)?;
            if !self.sees(sight, &event.as_ref())? {
                continue;
            }
            if reach.is_some() {
                let start = batch.append_start(event.position).offset;
                if appends.last() != Some(&start) {
                    appends.push(start);
                }
            }
            events.push(event);
        }
        Ok(match reach {
            Some(reach) => EventBatch::of_run(events, reach, appends),
            None => events.into(),
        })
    }
}

/// The event at a position, if there is one.
pub async fn at(shared: &Shared, position: Position) -> Result<Option<Event>, ReadError> {
    let mut from = shared.log.head().await?;
    if from.get(position.partition) <= position.offset {
        return Ok(None);
    }
    from.set(position.partition, position.offset);
    let mut events = shared.log.read(&from, Filter::all(), ReadMode::ToHead);
    let event = events.next().await.transpose()?;
    Ok(event.filter(|event| event.position == position))
}

/// The tokens of the leases that a request shows: in several headers, or one behind another with commas between.
pub fn tokens(headers: &HeaderMap) -> Result<Vec<String>, Denied> {
    let mut tokens = Vec::new();
    for shown in headers.get_all(LEASE) {
        // It may be a secret, so it is not shown.
        let shown = shown.to_str().map_err(|_| {
            Denied::Malformed("Anabranch-Lease: this is no lease's token".to_owned())
        })?;
        let parts = shown.split(',').map(str::trim);
        let parts = parts.filter(|token| !token.is_empty());
        tokens.extend(parts.map(str::to_owned));
    }
    Ok(tokens)
}

fn unreadable(error: anabranch_model::record::RecordError) -> ReadError {
    ReadError::Io {
        what: "decoding stored events".to_owned(),
        reason: error.to_string(),
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(forbidden) => forbidden.fmt(f),
            Self::Denied(denied) => denied.fmt(f),
        }
    }
}

impl From<Denied> for Unreadable {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Unreadable> for Refusal {
    fn from(unreadable: Unreadable) -> Self {
        let denied = match unreadable {
            Unreadable::Forbidden(forbidden) => return forbidden.into(),
            Unreadable::Denied(denied) => denied,
        };
        let words = denied.to_string();
        match denied {
            Denied::Malformed(_) => Self::bad_request("bad-lease", words),
            Denied::Unavailable(_) => Self::unavailable(words),
            Denied::Private(_) => Self::new(StatusCode::FORBIDDEN, "private", words),
            _ => Self::new(StatusCode::FORBIDDEN, "lease-lost", words),
        }
    }
}

impl From<Unreadable> for ConnectError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Forbidden(forbidden) => policy::denied(&forbidden),
            Unreadable::Denied(denied) => denied.into(),
        }
    }
}

impl From<Gone> for Refusal {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Key => Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", NO_MORE),
            Gone::Lease(why) => Self::new(StatusCode::FORBIDDEN, "lease-lost", why),
        }
    }
}

impl From<Gone> for ConnectError {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Key => Self::unauthenticated(NO_MORE),
            // Who has another lease by now asks again with that.
            Gone::Lease(why) => Self::unavailable(why),
        }
    }
}
