//! The registry of one log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anabranch_access::Caller;
use anabranch_domain::Timestamp;
use anabranch_domain::types::Privacy;
use anabranch_log::{
    Append, AppendError, Appended, Condition, Log, ReadError, ReadMode, Rejection, Scope,
};
use anabranch_model::{Cut, EventId, Filter, StreamId, Version};
use anabranch_runtime::{Fleet, Time, port, registry};
use tokio::sync::Mutex;

use super::denied::Denied;
use super::fact::{About, Fact, OWNER, SERVICE};
use super::lease::{Lease, Proof, check_secret};
use super::names::check_name;
use super::table::{
    Entry, Governed, Shown, State, Table, Wanted, belongs_to, governing, says_itself,
};

/// How often somebody else may have written first before this gives up.
const ATTEMPTS_MAX: u32 = 4;

/// The services and owners of a log.
pub struct Registry {
    log: Arc<dyn Log>,
    /// Services that run beside the log: they write to it themselves.
    beside: Arc<Fleet>,
    time: Time,
    /// Whether the log can make an append depend on a stream that it does not write.
    fences: bool,
    table: RwLock<Table>,
    /// Whether the table says what the log says.
    is_read: AtomicBool,
    /// Held by who changes something.
    changing: Mutex<()>,
}

/// A lease, as its holder gets it.
pub struct Granted {
    pub number: Version,
    pub secret: String,
    pub lasts: Duration,
}

/// A registered service, as everybody may know it.
pub struct Known {
    pub name: String,
    pub about: About,
    /// By which key it has registered.
    pub key: Option<String>,
    pub lease: Version,
    /// When it got that.
    pub since: Option<Timestamp>,
    pub state: State,
}

impl Known {
    /// One that has never registered.
    pub fn unregistered(name: String) -> Self {
        Self {
            name,
            about: About::default(),
            key: None,
            lease: 0,
            since: None,
            state: State::Released,
        }
    }
}

/// By what a service is looked for.
pub enum Subject<'a> {
    Category(&'a str),
    View(&'a str),
    Service(&'a str),
}

impl Registry {
    /// What the log says is read when it is needed first.
    pub fn new(log: Arc<dyn Log>, beside: Arc<Fleet>, time: Time) -> Self {
        Self {
            beside,
            fences: log.capabilities().conditions == Scope::Log,
            log,
            time,
            table: RwLock::default(),
            is_read: AtomicBool::new(false),
            changing: Mutex::default(),
        }
    }

    /// Reads what the log says, if that was not done yet.
    pub async fn ready(&self) -> Result<(), Denied> {
        if self.is_read.load(Ordering::Acquire) {
            return Ok(());
        }
        let _changing = self.changing.lock().await;
        self.read().await
    }

    async fn read(&self) -> Result<(), Denied> {
        if self.is_read.load(Ordering::Acquire) {
            return Ok(());
        }
        let table = self.stored().await;
        *self.table_mut() = table.map_err(|error| Denied::Unavailable(error.to_string()))?;
        self.is_read.store(true, Ordering::Release);
        Ok(())
    }

    async fn stored(&self) -> Result<Table, ReadError> {
        let filter = Filter {
            categories: vec![SERVICE.to_owned(), OWNER.to_owned()],
            ..Filter::default()
        };
        let now = self.time.monotonic();
        let mut table = Table::default();
        let mut read = self.log.read(&Cut::start(), filter, ReadMode::ToHead);
        while let Some(batch) = read.next_batch().await {
            for event in &batch? {
                let event = event.map_err(|error| ReadError::Io {
                    what: "decoding stored events".to_owned(),
                    reason: error.to_string(),
                })?;
                let said_at = Timestamp::from_micros(event.recorded_at);
                table.take_in(&Fact::said_by(&event)?, event.version, (now, said_at));
            }
        }
        Ok(table)
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a service for who may do that; without a secret, one is made.
    pub async fn register(
        &self,
        name: &str,
        about: &About,
        secret: &str,
        lease_time: Duration,
        caller: &Caller,
    ) -> Result<Granted, Denied> {
        let secret = if secret.is_empty() {
            format!("{:032x}{:032x}", self.time.random(), self.time.random())
        } else {
            check_secret(secret)?;
            secret.to_owned()
        };
        let wanted = Wanted {
            name,
            about,
            secret: &secret,
            lease_time,
            caller,
        };
        // Each time anew: somebody else may have had the name meanwhile.
        let plan = |table: &Table, now| {
            check_name(table, &wanted)?;
            table.register(&wanted, now)
        };
        self.change(plan).await?;
        let number = self.table().service(name).map(|entry| entry.lease);
        Ok(Granted {
            number: number.unwrap_or_default(),
            secret,
            lasts: lease_time,
        })
    }

    /// Lets a lease last again from now; for how long.
    pub async fn renew(&self, token: &str) -> Result<Duration, Denied> {
        self.ready().await?;
        let now = self.time.monotonic();
        let mut table = self.table_mut();
        let lease = table.prove(token)?;
        let lasts = table.renew(&lease, now);
        lasts.ok_or_else(|| Denied::Lost("the lease is lost; register again".to_owned()))
    }

    /// Ends a lease.
    pub async fn release(&self, token: &str, give_up: bool) -> Result<(), Denied> {
        self.change(|table, _| table.release(token, give_up)).await
    }

    /// Lets what a service owned have no owner any more, and lets it read nothing, if the service is gone.
    pub async fn forget(&self, name: &str) -> Result<(), Denied> {
        if self.beside.service(name).is_some() {
            return Err(Denied::Held(format!(
                "service {name} runs in this program; nothing was changed"
            )));
        }
        let forgotten = self.change(|table, now| table.forget(name, now)).await;
        // One that has never registered may have said what it reads.
        if !matches!(forgotten, Ok(()) | Err(Denied::Unknown(_))) {
            return forgotten;
        }
        let has_read = registry::forget_reader(&*self.log, name).await;
        match has_read.map_err(Denied::Unavailable)? {
            true => Ok(()),
            false => forgotten,
        }
    }

    /// Says on the log what `plan` wants to be said, and takes it in.
    async fn change(
        &self,
        plan: impl Fn(&Table, Duration) -> Result<Vec<Fact>, Denied>,
    ) -> Result<(), Denied> {
        let _changing = self.changing.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.read().await?;
            let (facts, append) = {
                let table = self.table();
                let facts = plan(&table, self.time.monotonic())?;
                if facts.is_empty() {
                    return Ok(());
                }
                let append = self.append_of(&table, &facts)?;
                (facts, append)
            };
            match self.surely(append).await {
                Ok(appended) => {
                    let now = (self.time.monotonic(), self.time.now());
                    let mut table = self.table_mut();
                    for (fact, placed) in facts.iter().zip(&appended.places) {
                        table.take_in(fact, placed.version, now);
                    }
                    return Ok(());
                }
                Err(error) => {
                    // Somebody else has written, or nobody knows: look again.
                    self.is_read.store(false, Ordering::Release);
                    if !matches!(error, AppendError::Conflict { .. }) {
                        return Err(Denied::Unavailable(error.to_string()));
                    }
                }
            }
        }
        Err(Denied::Unavailable(
            "others change the registry all the time; try again".to_owned(),
        ))
    }

    fn append_of(&self, table: &Table, facts: &[Fact]) -> Result<Append, Denied> {
        let mut append = Append::default();
        for fact in facts {
            let id = EventId::v7(self.time.now().micros() / 1_000, self.time.random());
            append
                .events
                .push(fact.event(id).map_err(Denied::Malformed)?);
            let condition = Condition::Stream(fact.stream.clone(), table.expects(fact));
            append.conditions.push(condition);
        }
        Ok(append)
    }

    /// Appends; again with the same ids while the outcome is unknown.
    async fn surely(&self, append: Append) -> Result<Appended, AppendError> {
        for _ in 1..ATTEMPTS_MAX {
            match self.log.append(append.clone()).await {
                Err(AppendError::Unknown { .. }) => {}
                other => return other,
            }
        }
        self.log.append(append).await
    }

    /// Checks the leases that a client shows.
    pub fn show(&self, tokens: &[String]) -> Shown {
        let table = self.table();
        let mut shown = Shown::default();
        let tokens = tokens.iter().filter(|token| !token.is_empty());
        for token in tokens.take(SHOWN_MAX) {
            match table.prove(token) {
                Ok(lease) => shown.leases.push(lease),
                Err(denied) => {
                    shown.wrong = Some(denied.to_string());
                    let said = Proof::of(token).map(|proof| proof.service.to_owned());
                    shown.former.extend(said);
                }
            }
        }
        shown
    }

    /// The services that a client proves to be, which reads: all that it has shown, or it would be given less than it
    /// believes. [`Registry::ready`] was there before.
    pub fn prove(&self, tokens: &[String]) -> Result<Vec<Lease>, Denied> {
        if tokens.len() > SHOWN_MAX {
            let most = format!("a client shows {SHOWN_MAX} leases at the most");
            return Err(Denied::Malformed(most));
        }
        let table = self.table();
        tokens.iter().map(|token| table.prove(token)).collect()
    }

    /// Why one of these leases is good no more, if that is so.
    pub fn lost(&self, leases: &[Lease]) -> Option<String> {
        let table = self.table();
        let lost = leases.iter().find(|lease| !table.is_current(lease))?;
        Some(table.lost(lost))
    }

    /// What services that have registered keep to themselves.
    pub fn privacy(&self) -> Arc<Privacy> {
        self.table().privacy().clone()
    }

    /// Whether who calls was one of these services, and had by its last registration what writes a stream: its key
    /// says so, where callers are asked for one.
    pub fn was_owner(&self, former: &[String], caller: &Caller, stream: &StreamId) -> bool {
        let Governed::Category(category) = governing(stream) else {
            return false;
        };
        let table = self.table();
        let mut former = former.iter().filter_map(|name| table.service(name));
        former.any(|entry| {
            entry.about.owns.contains(category)
                && match caller {
                    Caller::Known(principal) => entry.key.as_deref() == Some(&*principal.key),
                    Caller::Anybody => true,
                    Caller::Nobody => false,
                }
        })
    }

    /// Appends for a client, if it may. [`Registry::ready`] was there before. Where what may not be appended was
    /// written before, is told to who may know of it.
    pub async fn append(
        &self,
        shown: &Shown,
        append: Append,
        may_know: MayKnow<'_>,
    ) -> Result<Appended, AppendError> {
        let mut answers = self.append_all(shown, vec![append], may_know).await;
        answers.pop().unwrap_or_else(|| {
            Err(AppendError::Unknown {
                reason: "the log says nothing of it".to_owned(),
            })
        })
    }

    /// Appends many for a client, each if it may; what became of them, in their order.
    pub async fn append_all(
        &self,
        shown: &Shown,
        appends: Vec<Append>,
        may_know: MayKnow<'_>,
    ) -> Vec<Result<Appended, AppendError>> {
        let count = appends.len();
        let (mut admitted, mut refused) = (Vec::with_capacity(count), VecDeque::new());
        {
            let table = self.table();
            for (number, mut append) in appends.into_iter().enumerate() {
                let may = self.check_beside(&append);
                match may.and_then(|()| table.admit(shown, &mut append, self.fences)) {
                    Ok(()) => admitted.push(append),
                    Err(rejection) => refused.push_back((number, rejection, append)),
                }
            }
        }
        let mut written = self.log.append_all(admitted).await.into_iter();
        let mut answers = Vec::with_capacity(count);
        for number in 0..count {
            let next = refused.pop_front_if(|(refused, ..)| *refused == number);
            answers.push(match next {
                Some((_, rejection, append)) if may_know(&append) => {
                    self.refuse(rejection, append).await
                }
                Some((_, rejection, _)) => Err(rejection.into()),
                None => self.written(written.next()),
            });
        }
        answers
    }

    /// What became of an append that was let through.
    fn written(
        &self,
        answer: Option<Result<Appended, AppendError>>,
    ) -> Result<Appended, AppendError> {
        match answer {
            Some(Err(AppendError::Conflict { stream, .. })) if stream.category() == OWNER => {
                Err(self.table().overtaken(&stream).into())
            }
            Some(answer) => answer,
            None => Err(AppendError::Unknown {
                reason: "the log says nothing of it".to_owned(),
            }),
        }
    }

    /// What a service that runs here owns is appended to by nobody who asks by the network.
    fn check_beside(&self, append: &Append) -> Result<(), Rejection> {
        let mut checked = None;
        for event in &append.events {
            let governed = governing(&event.stream);
            if checked.replace(governed) == Some(governed) {
                continue;
            }
            match governed {
                Governed::Category(category) => {
                    if let Some(service) = self.beside.home_of(port::Subject::Category(category)) {
                        return Err(belongs_to(category, &service));
                    }
                }
                Governed::Service(name) if self.beside.service(name).is_some() => {
                    return Err(says_itself(name));
                }
                Governed::Service(_) => {}
            }
        }
        Ok(())
    }

    /// Refuses an append, unless it is the repeat of one that was written when it still could be:
    /// then the log says where. What has an id that is taken is never written.
    async fn refuse(&self, rejection: Rejection, append: Append) -> Result<Appended, AppendError> {
        let Some(first) = append.events.first() else {
            return Err(rejection.into());
        };
        match self.log.find(first.id).await {
            Ok(None) => Err(rejection.into()),
            Ok(Some(_)) => self.log.append(append).await,
            Err(error) => Err(AppendError::Unavailable {
                reason: error.to_string(),
                retry_after: None,
            }),
        }
    }

    /// The service that has this.
    pub async fn find(&self, subject: Subject<'_>) -> Result<Option<Known>, Denied> {
        self.ready().await?;
        let now = self.time.monotonic();
        let table = self.table();
        let name = match subject {
            Subject::Category(category) => table.owner_of(category),
            Subject::View(view) => table.owner_of_view(view),
            Subject::Service(name) => Some(name),
        };
        let entry = name.and_then(|name| Some((name, table.service(name)?)));
        Ok(entry.map(|(name, entry)| known(name, entry, table.state_of(entry, now))))
    }

    /// All services, by name.
    pub async fn list(&self) -> Result<Vec<Known>, Denied> {
        self.ready().await?;
        let table = self.table();
        let all = table.all(self.time.monotonic());
        Ok(all
            .map(|(name, entry, state)| known(name, entry, state))
            .collect())
    }
}

/// Whether who appends may know where the events of an append stand that was written before.
pub type MayKnow<'a> = &'a (dyn Fn(&Append) -> bool + Sync);

/// The most leases that one client shows.
const SHOWN_MAX: usize = 64;

fn known(name: &str, entry: &Entry, state: State) -> Known {
    Known {
        name: name.to_owned(),
        about: entry.about.clone(),
        key: entry.key.clone(),
        lease: entry.lease,
        since: Some(entry.since),
        state,
    }
}
