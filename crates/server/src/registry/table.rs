//! Who is registered and who owns what, in memory. Pure: it is what the facts on the log make it,
//! and times come from outside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::Caller;
use anabranch_domain::Timestamp;
use anabranch_domain::types::{Kept, Privacy, PrivateRead, Reads};
use anabranch_log::{Append, Condition, Expect, Rejection};
use anabranch_model::{NameError, StreamId, Version};
use anabranch_runtime::registry::READERS;

use super::denied::Denied;
use super::fact::{About, Fact, OWNER, Owned, Registered, Released, Replaced, SERVICE, What};
use super::lease::{Lease, Proof, secret_hash};

/// The most services, and the most categories, that have ever registered on a log: what is held
/// of them in memory is bounded.
const SERVICES_MAX: usize = 1_024;
const CATEGORIES_MAX: usize = 8_192;

/// Services and owners, as the facts so far say.
#[derive(Default)]
pub struct Table {
    services: BTreeMap<String, Entry>,
    owners: BTreeMap<String, Owner>,
    views: BTreeMap<String, String>,
    /// What services keep to themselves, whether or not they are there.
    privacy: Arc<Privacy>,
}

/// A service that has registered.
#[derive(Debug, Clone)]
pub struct Entry {
    pub about: About,
    /// By which key it has registered.
    pub key: Option<String>,
    /// The number of its newest lease.
    pub lease: Version,
    /// When it got that, by the clock of whoever wrote it down.
    pub since: Timestamp,
    /// The last event of its stream.
    last: Version,
    secret_hash: String,
    lease_time: Duration,
    end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// Then, on the monotonic clock.
    At(Duration),
    Released,
    Replaced {
        by: String,
    },
}

/// How a lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// For so long yet.
    Held(Duration),
    Expired,
    Released,
    /// By this service.
    Taken(String),
}

/// Whose a category is.
struct Owner {
    stream: StreamId,
    /// `None`: nobody's any more.
    by: Option<Owned>,
    /// The last event of `stream`: the fence.
    last: Version,
}

/// What a service wants to be registered as.
pub struct Wanted<'a> {
    pub name: &'a str,
    pub about: &'a About,
    pub secret: &'a str,
    pub lease_time: Duration,
    /// Who registers it.
    pub caller: &'a Caller,
}

impl Wanted<'_> {
    /// The id of the key that was shown.
    fn key(&self) -> Option<String> {
        match self.caller {
            Caller::Known(principal) => Some(principal.key.clone()),
            Caller::Anybody | Caller::Nobody => None,
        }
    }
}

/// What a client has shown of the leases that it acts by.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub leases: Vec<Lease>,
    /// What is wrong with one that was shown.
    pub wrong: Option<String>,
    /// The services that those are said to be of that are none, or none any more.
    pub former: Vec<String>,
}

impl Entry {
    fn state(&self, now: Duration) -> State {
        match &self.end {
            End::At(at) if *at > now => State::Held(*at - now),
            End::At(_) => State::Expired,
            End::Released => State::Released,
            End::Replaced { by } => State::Taken(by.clone()),
        }
    }

    /// Whether it may still act, for all that is known here: nobody has followed.
    fn is_current(&self, lease: Version) -> bool {
        self.lease == lease && matches!(self.end, End::At(_))
    }
}

impl Table {
    /// Takes in what an event of the log says, and since when. A lease lasts from `now`: who was there
    /// before a restart has time to renew it.
    pub fn take_in(&mut self, fact: &Fact, version: Version, now: (Duration, Timestamp)) {
        let key = fact.stream.key();
        match &fact.what {
            What::Registered(said) => self.registered(key, said, version, now),
            What::Released(Released { given_up }) => {
                let Some(entry) = self.services.get_mut(key) else {
                    return;
                };
                entry.end = End::Released;
                entry.last = version;
                if *given_up {
                    entry.about.owns.clear();
                    self.views.retain(|_, service| service != key);
                }
            }
            What::Replaced(Replaced { by }) => {
                if let Some(entry) = self.services.get_mut(key) {
                    entry.end = End::Replaced { by: by.clone() };
                    entry.last = version;
                }
            }
            What::Owned(by) => self.owned(&fact.stream, Some(by.clone()), version),
            What::Freed => self.owned(&fact.stream, None, version),
        }
    }

    fn registered(
        &mut self,
        name: &str,
        said: &Registered,
        version: Version,
        (now, since): (Duration, Timestamp),
    ) {
        self.views.retain(|_, service| service != name);
        for view in &said.about.views {
            self.views.insert(view.clone(), name.to_owned());
        }
        let lease_time = Duration::from_millis(said.lease_ms);
        let entry = Entry {
            about: said.about.clone(),
            key: said.key.clone(),
            lease: version,
            since,
            last: version,
            secret_hash: said.secret_hash.clone(),
            lease_time,
            end: End::At(now.saturating_add(lease_time)),
        };
        self.services.insert(name.to_owned(), entry);
    }

    fn owned(&mut self, stream: &StreamId, by: Option<Owned>, last: Version) {
        let stream = stream.clone();
        let category = stream.key().to_owned();
        // What nobody owns any more is not for everybody because of that.
        if let Some(Owned {
            service, private, ..
        }) = &by
        {
            let about = self.services.get(service).map(|entry| &entry.about);
            let kept = private.clone().map(|open| Kept {
                owner: service.clone(),
                open,
                published: about.map(About::published).unwrap_or_default(),
            });
            let privacy = Arc::make_mut(&mut self.privacy);
            match kept {
                Some(kept) => privacy.keep(&category, kept),
                None => privacy.open(&category),
            }
        }
        self.owners.insert(category, Owner { stream, by, last });
    }

    /// The lease that a token proves.
    pub fn prove(&self, token: &str) -> Result<Lease, Denied> {
        let (lease, entry) = self.newest(token)?;
        match entry.is_current(lease.number) {
            true => Ok(lease),
            false => Err(Denied::Lost(self.lost(&lease))),
        }
    }

    /// The newest lease of a service, which a token proves; it may have ended.
    fn newest(&self, token: &str) -> Result<(Lease, &Entry), Denied> {
        let proof = Proof::of(token)?;
        let entry = self.services.get(proof.service).ok_or_else(|| {
            Denied::Unknown(format!(
                "no service {} has registered on this log; register it first",
                proof.service
            ))
        })?;
        let lease = Lease {
            service: proof.service.to_owned(),
            number: proof.number,
        };
        if entry.lease != proof.number {
            return Err(Denied::Lost(self.lost(&lease)));
        }
        if secret_hash(proof.service, proof.secret) != entry.secret_hash {
            return Err(Denied::WrongSecret(format!(
                "the secret is not that of lease {} of service {}; nothing was changed",
                proof.number, proof.service
            )));
        }
        Ok((lease, entry))
    }

    /// Why a lease is none any more, in words.
    pub fn lost(&self, lease: &Lease) -> String {
        let Lease { service, number } = lease;
        let what = match self.services.get(service) {
            None => "it is not known on this log".to_owned(),
            Some(entry) if entry.lease != *number => {
                format!("lease {} of the same service has followed it", entry.lease)
            }
            Some(entry) => match &entry.end {
                End::Replaced { by } => {
                    format!("service {by} has claimed what it owned after it had ended")
                }
                End::Released => "it was released".to_owned(),
                End::At(_) => "it is not valid".to_owned(),
            },
        };
        format!("lease {number} of service {service} is lost: {what}; stop, or register again")
    }

    /// What has to be said on the log for a service to be registered, or why it cannot be.
    pub fn register(&self, wanted: &Wanted<'_>, now: Duration) -> Result<Vec<Fact>, Denied> {
        let Wanted { name, about, .. } = wanted;
        self.check_own(wanted, now)?;
        let mut replaced = Vec::new();
        for category in &about.owns {
            let by = self
                .owners
                .get(category)
                .and_then(|owner| owner.by.as_ref());
            if let Some(by) = by.filter(|by| by.service != *name) {
                self.check_held(&format!("category {category}"), &by.service, now)?;
                replaced.push(by.service.as_str());
            }
        }
        for view in &about.views {
            if let Some(by) = self.views.get(view).filter(|by| by != name) {
                self.check_held(&format!("view {view}"), by, now)?;
                replaced.push(by);
            }
        }
        self.check_room(wanted)?;
        self.check_private(wanted, now)?;
        self.facts(wanted, replaced).map_err(unnamed)
    }

    /// Refuses who reads what another service keeps to itself, and who begins to keep what another one that
    /// is there reads.
    fn check_private(&self, wanted: &Wanted<'_>, now: Duration) -> Result<(), Denied> {
        let Wanted { name, about, .. } = wanted;
        check_reads(&self.privacy, name, about)?;
        let mut own = Privacy::default();
        for (category, open) in &about.private {
            let kept = Kept {
                owner: (*name).to_owned(),
                open: open.clone(),
                published: about.published(),
            };
            own.keep(category, kept);
        }
        let there = self.services.iter();
        let mut there = there.filter(|(_, entry)| matches!(entry.state(now), State::Held(_)));
        there.try_for_each(|(other, entry)| check_reads(&own, other, &entry.about))
    }

    /// Who has the name itself.
    fn check_own(&self, wanted: &Wanted<'_>, now: Duration) -> Result<(), Denied> {
        let name = wanted.name;
        let Some(entry) = self.services.get(name) else {
            return Ok(());
        };
        match entry.state(now) {
            State::Held(rest) if secret_hash(name, wanted.secret) != entry.secret_hash => {
                Err(Denied::Held(format!(
                    "service {name} is registered at {} by lease {}, for {} yet; register with that lease's secret, or when it has ended",
                    or_nowhere(&entry.about.address),
                    entry.lease,
                    rounded(rest),
                )))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what another service holds.
    fn check_held(&self, what: &str, by: &str, now: Duration) -> Result<(), Denied> {
        let Some(entry) = self.services.get(by) else {
            return Ok(());
        };
        match entry.state(now) {
            State::Held(rest) => Err(Denied::Held(format!(
                "{what} belongs to service {by} at {}, whose lease {} lasts for {} yet; stop that service, or claim it when the lease has ended",
                or_nowhere(&entry.about.address),
                entry.lease,
                rounded(rest),
            ))),
            _ => Ok(()),
        }
    }

    fn check_room(&self, wanted: &Wanted<'_>) -> Result<(), Denied> {
        let full = |what: &str, max: usize| {
            Err(Denied::Malformed(format!(
                "{max} {what} have registered on this log, and more are not kept"
            )))
        };
        if !self.services.contains_key(wanted.name) && self.services.len() >= SERVICES_MAX {
            return full("services", SERVICES_MAX);
        }
        let is_new = |category: &&String| !self.owners.contains_key(*category);
        let new = wanted.about.owns.iter().filter(is_new).count();
        if self.owners.len() + new > CATEGORIES_MAX {
            return full("categories", CATEGORIES_MAX);
        }
        Ok(())
    }

    fn facts(&self, wanted: &Wanted<'_>, mut replaced: Vec<&str>) -> Result<Vec<Fact>, NameError> {
        let Wanted { name, about, .. } = wanted;
        let entry = self.services.get(*name);
        let lease = entry.map_or(0, |entry| entry.last + 1);
        let registered = Registered {
            about: (*about).clone(),
            secret_hash: secret_hash(name, wanted.secret),
            lease_ms: wanted.lease_time.as_millis() as u64,
            key: wanted.key(),
        };
        let mut facts = vec![Fact::of_service(name, What::Registered(registered))?];
        replaced.sort_unstable();
        replaced.dedup();
        for other in replaced {
            let by = (*name).to_owned();
            facts.push(Fact::of_service(other, What::Replaced(Replaced { by }))?);
        }
        for category in &about.owns {
            let owned = What::Owned(Owned {
                service: (*name).to_owned(),
                lease,
                private: about.private.get(category).cloned(),
            });
            facts.push(Fact::of_category(category, owned)?);
        }
        for category in self.owned_by(name) {
            if !about.owns.contains(category) {
                facts.push(Fact::of_category(category, What::Freed)?);
            }
        }
        Ok(facts)
    }

    /// What has to be said on the log for a lease to end before its time; nothing if that was said.
    pub fn release(&self, token: &str, given_up: bool) -> Result<Vec<Fact>, Denied> {
        let (lease, entry) = self.newest(token)?;
        match &entry.end {
            End::At(_) => {}
            // Whoever has not heard the answer asks again.
            End::Released if !given_up => return Ok(Vec::new()),
            End::Released => {}
            End::Replaced { .. } => return Err(Denied::Lost(self.lost(&lease))),
        }
        self.ended(&lease.service, given_up).map_err(unnamed)
    }

    fn ended(&self, service: &str, given_up: bool) -> Result<Vec<Fact>, NameError> {
        let released = What::Released(Released { given_up });
        let mut facts = vec![Fact::of_service(service, released)?];
        if given_up {
            for category in self.owned_by(service) {
                facts.push(Fact::of_category(category, What::Freed)?);
            }
        }
        Ok(facts)
    }

    /// What has to be said on the log for a service that is gone to own nothing any more.
    pub fn forget(&self, name: &str, now: Duration) -> Result<Vec<Fact>, Denied> {
        self.services.get(name).ok_or_else(|| {
            let known: Vec<_> = self.services.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Denied::Unknown(format!("no service {name} has registered; known: {known}"))
        })?;
        self.check_held(&format!("service {name} is there: its name"), name, now)?;
        self.ended(name, true).map_err(unnamed)
    }

    fn owned_by<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a str> {
        let is_its = move |owner: &Owner| owner.by.as_ref().is_some_and(|by| by.service == service);
        let owners = self.owners.iter();
        owners.filter_map(move |(category, owner)| is_its(owner).then_some(&**category))
    }

    /// Lets a lease last again from now. How long that is.
    pub fn renew(&mut self, lease: &Lease, now: Duration) -> Option<Duration> {
        let entry = self.services.get_mut(&lease.service)?;
        if !entry.is_current(lease.number) {
            return None;
        }
        entry.end = End::At(now.saturating_add(entry.lease_time));
        Some(entry.lease_time)
    }

    /// The state that the stream of a fact is expected in before it is said.
    pub fn expects(&self, fact: &Fact) -> Expect {
        let key = fact.stream.key();
        let last = match fact.stream.category() {
            OWNER => self.owners.get(key).map(|owner| owner.last),
            _ => self.services.get(key).map(|entry| entry.last),
        };
        last.map_or(Expect::Empty, Expect::At)
    }

    /// Whether an append may be made by who has shown these leases. Where it writes to what they
    /// own, the append gets the condition that this is still so when it is written.
    pub fn admit(&self, shown: &Shown, append: &mut Append, fences: bool) -> Result<(), Rejection> {
        let has_shown = shown.wrong.is_some() || !shown.leases.is_empty();
        if has_shown && !shown.leases.iter().any(|lease| self.is_current(lease)) {
            return Err(self.fenced(shown, append));
        }
        let Append { conditions, events } = append;
        let mut checked = None;
        for event in &*events {
            let governed = governing(&event.stream);
            if checked.replace(governed) == Some(governed) {
                continue;
            }
            let fence = match governed {
                Governed::Category(category) => self.check_owner(shown, category)?,
                Governed::Service(name) => self.check_service(shown, name).map(|()| None)?,
            };
            if let Some((stream, last)) = fence.filter(|_| fences) {
                let fence = Condition::Stream(stream.clone(), Expect::At(last));
                if !conditions.contains(&fence) {
                    conditions.insert(0, fence);
                }
            }
        }
        Ok(())
    }

    /// The fence of a category that one of the shown leases owns; nothing if nobody does.
    fn check_owner(
        &self,
        shown: &Shown,
        category: &str,
    ) -> Result<Option<(&StreamId, Version)>, Rejection> {
        if category == SERVICE || category == OWNER {
            return Err(Rejection::NotOwner {
                category: category.to_owned(),
                owner: String::new(),
                why: format!(
                    "category {category} says which services there are, and only the registry writes it"
                ),
            });
        }
        let Some(owner) = self.owners.get(category) else {
            return Ok(None);
        };
        let Some(by) = &owner.by else {
            return Ok(None);
        };
        let is_its = |lease: &Lease| lease.number == by.lease && lease.service == by.service;
        let mut its = shown.leases.iter().filter(|lease| is_its(lease));
        if its.any(|lease| self.is_current(lease)) {
            return Ok(Some((&owner.stream, owner.last)));
        }
        Err(belongs_to(category, &by.service))
    }

    /// Refuses who says what a service reads, and is not that service. One that has ended in order, or has
    /// never registered, may be anybody.
    fn check_service(&self, shown: &Shown, name: &str) -> Result<(), Rejection> {
        let entry = self.services.get(name);
        let Some(entry) = entry.filter(|entry| matches!(entry.end, End::At(_))) else {
            return Ok(());
        };
        let is_its = |lease: &Lease| lease.number == entry.lease && lease.service == name;
        match shown.leases.iter().any(is_its) {
            true => Ok(()),
            false => Err(says_itself(name)),
        }
    }

    /// Whether a lease is held, for all that is known here.
    pub fn is_current(&self, lease: &Lease) -> bool {
        let entry = self.services.get(&lease.service);
        entry.is_some_and(|entry| entry.is_current(lease.number))
    }

    /// What services keep to themselves.
    pub fn privacy(&self) -> &Arc<Privacy> {
        &self.privacy
    }

    /// Why an append by leases that are all lost is refused.
    fn fenced(&self, shown: &Shown, append: &Append) -> Rejection {
        let first = append.events.first();
        let category = first.map_or("", |event| match governing(&event.stream) {
            Governed::Category(category) => category,
            Governed::Service(_) => event.stream.category(),
        });
        let by = self
            .owners
            .get(category)
            .and_then(|owner| owner.by.as_ref());
        let lost = shown.leases.first().map(|lease| self.lost(lease));
        Rejection::NotOwner {
            category: category.to_owned(),
            owner: by.map(|by| by.service.clone()).unwrap_or_default(),
            why: lost.or_else(|| shown.wrong.clone()).unwrap_or_default(),
        }
    }

    /// Why an append was refused by its fence: the owner has changed meanwhile.
    pub fn overtaken(&self, fence: &StreamId) -> Rejection {
        let category = fence.key();
        let by = self
            .owners
            .get(category)
            .and_then(|owner| owner.by.as_ref());
        let owner = by.map(|by| by.service.clone()).unwrap_or_default();
        Rejection::NotOwner {
            category: category.to_owned(),
            why: format!(
                "the owner of category {category} has changed while the append was under way; service {owner} registered last"
            ),
            owner,
        }
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Entry> {
        self.services.get(name)
    }

    /// The name of the service that owns a category.
    pub fn owner_of(&self, category: &str) -> Option<&str> {
        let by = self.owners.get(category)?.by.as_ref()?;
        Some(&by.service)
    }

    /// The name of the service that has a view.
    pub fn owner_of_view(&self, view: &str) -> Option<&str> {
        self.views.get(view).map(String::as_str)
    }

    /// All services by name, and how their leases are.
    pub fn all(&self, now: Duration) -> impl Iterator<Item = (&str, &Entry, State)> {
        let all = self.services.iter();
        all.map(move |(name, entry)| (name.as_str(), entry, entry.state(now)))
    }

    /// How the lease of an entry is.
    pub fn state_of(&self, entry: &Entry, now: Duration) -> State {
        entry.state(now)
    }
}

/// Refuses a service that reads what another one keeps to itself.
pub fn check_reads(privacy: &Privacy, name: &str, about: &About) -> Result<(), Denied> {
    let reads = about.reads.iter().map(|category| Reads {
        reader: None,
        category,
    });
    match privacy.refuses(name, reads) {
        None => Ok(()),
        Some(read) => Err(private(&read)),
    }
}

/// The refusal of a read.
pub fn private(read: &PrivateRead) -> Denied {
    Denied::Private(read.to_string())
}

/// By whom a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Governed<'a> {
    /// By the owner of this category.
    Category(&'a str),
    /// By this service.
    Service(&'a str),
}

/// By whom a stream is written: by the owner of its category, or for a stream that is kept about a
/// category (`$schema/order`: what its events look like) of that one; what a service reads
/// (`$readers/orders`) is said by that service.
pub fn governing(stream: &StreamId) -> Governed<'_> {
    let (category, about) = (stream.category(), stream.key());
    if category == READERS {
        return Governed::Service(about);
    }
    if !category.starts_with('$') || category == SERVICE || category == OWNER {
        return Governed::Category(category);
    }
    Governed::Category(about.split_once('/').map_or(about, |(about, _)| about))
}

/// The refusal of an append that says what another service reads.
pub fn says_itself(service: &str) -> Rejection {
    Rejection::NotOwner {
        category: READERS.to_owned(),
        owner: service.to_owned(),
        why: format!("what service {service} reads is said by that service alone"),
    }
}

/// The refusal of an append to what another service owns.
pub fn belongs_to(category: &str, service: &str) -> Rejection {
    Rejection::NotOwner {
        category: category.to_owned(),
        owner: service.to_owned(),
        why: format!(
            "category {category} belongs to service {service}, and only that appends to it; send it a command instead"
        ),
    }
}

fn unnamed(error: NameError) -> Denied {
    Denied::Malformed(error.to_string())
}

fn or_nowhere(address: &str) -> &str {
    if address.is_empty() {
        "no address"
    } else {
        address
    }
}

/// In words, rounded up.
fn rounded(rest: Duration) -> String {
    format!("{} s", rest.as_millis().div_ceil(1_000))
}
