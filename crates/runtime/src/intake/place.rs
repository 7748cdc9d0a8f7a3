//! Where a runtime begins that takes over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::{Cut, StreamId};
use anabranch_log::{Append, Condition, Expect, Order, ReadMode, VersionRange};
use anabranch_model::{EventId, EventType, Filter, NewEvent, Position, content_hash};
use serde::{Deserialize, Serialize};

use crate::follow::{Begin, ToHead};
use crate::host::{Description, Host, InstanceStatus, Shard, Touched};
use crate::kinds::Listening;
use crate::send_error::SendError;
use crate::snapshot::Snapshot;

/// How long to wait before a runtime tries again to take over.
const REST: Duration = Duration::from_secs(1);

/// Where a runtime begins that takes over. Lost, everything is consumed again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Place {
    /// What was consumed is durable up to here.
    consumed: Cut,
    /// Journals were looked through up to here.
    journals: Cut,
    /// Those of them that have not ended and wait for something.
    open: Vec<StreamId>,
    /// Those that have not ended and wait for nothing.
    #[serde(default)]
    idle: Vec<StreamId>,
    /// Events that an operator has told it to pass over.
    #[serde(default)]
    skipped: BTreeSet<Position>,
}

/// The event that says where a process began, in the stream of its place.
const BEGAN: &str = "$Began";

/// The event with which a saga that has ended begins again, as a step that a person resumes does.
const BEGINS_ANEW: &str = "SagaStarted";

#[derive(Debug, Serialize, Deserialize)]
struct Began {
    cut: Cut,
}

/// How far journals were looked through when the place was kept last, and when to keep it
/// again.
#[derive(Default)]
struct Kept {
    journals: Cut,
    /// How many instances there were: keeping costs time for each.
    instances: u64,
}

/// Where the consuming of events begins.
pub struct Begins {
    pub consumed: Cut,
    pub skipped: BTreeSet<Position>,
}

/// How many events a cut includes.
pub fn count(cut: &Cut) -> u64 {
    cut.iter().map(|(_, count)| count).sum()
}

/// Finds and keeps the place of one process or saga.
pub struct Places {
    pub kind: Arc<dyn Listening>,
    pub host: Host,
    keep_every: u64,
    begin: Option<Begin>,
    kept: tokio::sync::Mutex<Kept>,
}

impl Places {
    pub fn new(
        kind: Arc<dyn Listening>,
        host: Host,
        keep_every: u64,
        begin: Option<Begin>,
    ) -> Self {
        Self {
            kind,
            host,
            keep_every,
            begin,
            kept: tokio::sync::Mutex::default(),
        }
    }

    pub fn note(&self, text: String) {
        let text = format!("{}: {text}", self.host.shared.about.name);
        self.host.shared.note(text);
    }

    /// Names what the place depends on: the categories and types that are listened to.
    fn listening(&self) -> u128 {
        let mut filter = self.kind.listens_to().unwrap_or_default();
        filter.categories.sort_unstable();
        filter.types.sort_unstable();
        let categories = filter.categories.iter().map(|name| name.as_bytes());
        let types = filter.types.iter().map(|name| name.as_str().as_bytes());
        content_hash(categories.chain([&b""[..]]).chain(types))
    }

    fn stream(&self) -> Result<StreamId, String> {
        let name = format!("$flow/{}", self.host.shared.about.name);
        StreamId::system(name).map_err(|error| error.to_string())
    }

    /// Takes over, as often as it takes.
    pub async fn taken_over(&self) -> Begins {
        loop {
            match self.take_over().await {
                Ok(begins) => return begins,
                Err(reason) => {
                    self.note(format!("cannot take over yet: {reason}"));
                    self.host.shared.time.sleep(REST).await;
                }
            }
        }
    }

    /// Looks for journals that have not ended, and lets their instances go on.
    async fn take_over(&self) -> Result<Begins, String> {
        let kept = self.load().await?;
        let is_new = kept.is_none();
        let mut place = kept.unwrap_or_default();
        let touched = self.touched(&place.journals).await?;
        let began = self.began(is_new && touched.is_empty()).await?;
        place.consumed.join(&began);
        let mut open: BTreeSet<StreamId> = place.open.into_iter().collect();
        let mut idle: BTreeSet<StreamId> = place.idle.into_iter().collect();
        for (stream, touched) in touched {
            idle.remove(&stream);
            if touched.has_ended {
                open.remove(&stream);
            } else {
                open.insert(stream);
            }
        }
        *self.kept.lock().await = Kept {
            journals: place.journals,
            instances: (open.len() + idle.len()) as u64,
        };
        let told = |error: SendError| error.to_string();
        for stream in idle {
            let of = stream.clone();
            let sent = self.host.tell(&of, |shard| shard.learn_idle(stream));
            sent.await.map_err(told)?;
        }
        for stream in open {
            let of = stream.clone();
            let sent = self.host.tell(&of, move |shard| shard.resume(&stream));
            sent.await.map_err(told)?;
        }
        Ok(Begins {
            consumed: place.consumed,
            skipped: place.skipped,
        })
    }

    /// The instances that have ended, newest first and at most `max`, without their states.
    pub async fn ended(&self, max: usize) -> Result<Vec<InstanceStatus>, String> {
        let ends = self.kind.ends();
        let types = ends.iter().map(|(name, _)| *name).chain([BEGINS_ANEW]);
        let filter = Filter {
            types: types.filter_map(|name| EventType::new(name).ok()).collect(),
            ..Filter::category(self.host.shared.about.name)
        };
        let start = Cut::start();
        let mut reading = ToHead::begin(&self.host.shared.log, &start, Some(filter)).await?;
        let mut ended: VecDeque<InstanceStatus> = VecDeque::new();
        while let Some(batch) = reading.next().await {
            for event in &batch? {
                let event = event.map_err(|error| error.to_string())?;
                let Some((_, how)) = ends.iter().find(|(name, _)| *name == event.event_type) else {
                    // It has gone back and begins again: rare, and not long ago.
                    if event.version > 0 {
                        ended.retain(|one| one.stream.as_str() != event.stream);
                    }
                    continue;
                };
                ended.push_back(InstanceStatus {
                    stream: StreamId::system(event.stream).map_err(|e| e.to_string())?,
                    parked: None,
                    description: Some(Description {
                        phase: (*how).to_owned(),
                        ended: true,
                        length: event.version + 1,
                        ..Description::default()
                    }),
                });
                if ended.len() > max {
                    ended.pop_front();
                }
            }
        }
        Ok(ended.into_iter().rev().collect())
    }

    /// The first event that a process would hear which is new on this log and says nothing of where
    /// it begins; `None` if there is none, or it is not new. Says in the log that it began, so that
    /// what comes from now on is no history of others.
    pub async fn unsaid(&self) -> Result<Option<Position>, String> {
        let log = &self.host.shared.log;
        let heard = self.kind.listens_to().filter(|_| {
            // What ends with its program has no history that somebody has acted upon.
            self.begin.is_none() && log.capabilities().survives_restart
        });
        let Some(heard) = heard else { return Ok(None) };
        let journals = Filter::category(self.host.shared.about.name);
        let stream = self.stream()?;
        let mut began = log.read_stream(&stream, VersionRange(0..1), Order::Forward);
        let is_known = began.next().await.is_some()
            || self.load().await?.is_some()
            || self.first(journals).await?.is_some();
        if is_known {
            return Ok(None);
        }
        let first = self.first(heard).await?;
        if first.is_none() {
            self.say(&stream, Cut::start()).await?;
        }
        Ok(first)
    }

    async fn first(&self, filter: Filter) -> Result<Option<Position>, String> {
        let log = &self.host.shared.log;
        let mut events = log.read(&Cut::start(), filter, ReadMode::ToHead);
        let first = events.next().await.transpose();
        let first = first.map_err(|error| error.to_string())?;
        Ok(first.map(|event| event.position))
    }

    /// Says in the log where it began, unless another runtime has said so first.
    async fn say(&self, stream: &StreamId, begin: Cut) -> Result<(), String> {
        let kind = EventType::new(BEGAN).map_err(|e| e.to_string())?;
        let data = serde_json::to_vec(&Began { cut: begin }).map_err(|e| e.to_string())?;
        let time = &self.host.shared.time;
        let id = EventId::v7(time.now().micros() / 1000, time.random());
        let mut event = NewEvent::new(id, stream.clone(), kind, data);
        event.meta_mut().correlation_id = Some(stream.to_string());
        let append = Append {
            conditions: vec![Condition::Stream(stream.clone(), Expect::Empty)],
            events: vec![event],
        };
        match self.host.shared.log.append(append).await {
            Err(error) if !error.is_conflict() => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// Where it began when it was started for the first time. That stands in the log, because a
    /// place may be lost; only a process that is new says where.
    async fn began(&self, is_new: bool) -> Result<Cut, String> {
        let (log, stream) = (&self.host.shared.log, self.stream()?);
        loop {
            let mut first = log.read_stream(&stream, VersionRange(0..1), Order::Forward);
            if let Some(event) = first.next().await {
                let event = event.map_err(|e| e.to_string())?;
                let began: Began =
                    serde_json::from_slice(event.data()).map_err(|e| e.to_string())?;
                return Ok(began.cut);
            }
            let head = log.head().await.map_err(|e| e.to_string())?;
            let begin = match &self.begin {
                None | Some(Begin::Start) => return Ok(Cut::start()),
                Some(_) if !is_new => return Ok(Cut::start()),
                Some(begin) => begin.cut(&head),
            };
            if !head.covers(&begin) {
                return Err(format!(
                    "it is to begin at {begin}, but the log ends at {head}: that is a place of \
                     another log"
                ));
            }
            // Another runtime may say so first: what stands there counts.
            self.say(&stream, begin).await?;
        }
    }

    /// The place that was kept, as far as it fits the log; `None` if there is none.
    async fn load(&self) -> Result<Option<Place>, String> {
        let shared = &self.host.shared;
        let kept = shared.snapshots.load(&self.stream()?).await;
        let head = shared.log.head().await.map_err(|e| e.to_string())?;
        let place: Place = match kept {
            Ok(Some(kept)) => {
                let mut place: Place = match serde_json::from_slice(&kept.state) {
                    Ok(place) => place,
                    Err(error) => {
                        self.note(format!(
                            "its place cannot be read, and it goes on as if that had been lost: {error}"
                        ));
                        return Ok(None);
                    }
                };
                if kept.fingerprint != self.listening() {
                    // It listens to something else than it did: what it has not heard of that
                    // is heard now, as if the place had been lost.
                    place.consumed = Cut::start();
                }
                place
            }
            Ok(None) => return Ok(None),
            Err(error) => {
                self.note(error.to_string());
                return Ok(None);
            }
        };
        let fits = head.covers(&place.consumed) && head.covers(&place.journals);
        Ok(fits.then_some(place))
    }

    /// The journals that have grown since `from`, whoever has written to them.
    async fn touched(&self, from: &Cut) -> Result<BTreeMap<StreamId, Touched>, String> {
        let filter = Filter::category(self.host.shared.about.name);
        let mut reading = ToHead::begin(&self.host.shared.log, from, Some(filter)).await?;
        let (ends, mut touched) = (self.kind.ends(), BTreeMap::new());
        while let Some(batch) = reading.next().await {
            for event in &batch? {
                let event = event.map_err(|error| error.to_string())?;
                let stream = StreamId::system(event.stream).map_err(|e| e.to_string())?;
                let grown = Touched {
                    length: event.version + 1,
                    has_ended: ends.iter().any(|(name, _)| *name == event.event_type),
                };
                touched.insert(stream, grown);
            }
        }
        Ok(touched)
    }

    /// Keeps the place when the log has grown by enough since it was kept, as far as `at`.
    pub async fn keep_sometimes(&self, at: &Cut, skipped: BTreeSet<Position>) {
        let due = {
            let kept = self.kept.lock().await;
            let every = self.keep_every.max(kept.instances);
            count(at) >= count(&kept.journals).saturating_add(every)
        };
        if due {
            self.keep(skipped).await;
        }
    }

    /// Keeps the place.
    pub async fn keep(&self, skipped: BTreeSet<Position>) {
        let mut kept = self.kept.lock().await;
        let kept_now = async {
            let place = self.find(&kept.journals, skipped).await?;
            self.save(&place).await?;
            Ok::<_, String>(place)
        };
        match kept_now.await {
            Ok(place) => {
                kept.instances = (place.open.len() + place.idle.len()) as u64;
                kept.journals = place.journals;
            }
            Err(reason) => self.note(format!("the place to begin at was not kept: {reason}")),
        }
    }

    /// Where a restart would begin. A second runtime may have written journals too, which the
    /// shards learn here.
    async fn find(&self, from: &Cut, skipped: BTreeSet<Position>) -> Result<Place, String> {
        let shared = &self.host.shared;
        let consumed = shared.feed.done();
        let skipped = skipped.into_iter().filter(|at| !consumed.includes(*at));
        let mut place = Place {
            skipped: skipped.collect(),
            consumed,
            journals: shared.log.head().await.map_err(|e| e.to_string())?,
            ..Place::default()
        };
        for (stream, touched) in self.touched(from).await? {
            let of = stream.clone();
            let told = self
                .host
                .tell(&of, move |shard| shard.learn(&stream, touched));
            told.await.map_err(|error| error.to_string())?;
        }
        let known = self.host.ask_all(Shard::known).await;
        for (stream, known) in known.ok_or("a shard has ended")? {
            match known.waiting {
                true => place.open.push(stream),
                false => place.idle.push(stream),
            }
        }
        Ok(place)
    }

    async fn save(&self, place: &Place) -> Result<(), String> {
        let snapshot = Snapshot {
            fingerprint: self.listening(),
            version: 0,
            last_event: EventId::from_u128(0),
            state: serde_json::to_vec(place).map_err(|e| e.to_string())?,
        };
        let saved = self.host.shared.snapshots.save(&self.stream()?, snapshot);
        saved.await.map_err(|e| e.to_string())
    }
}
