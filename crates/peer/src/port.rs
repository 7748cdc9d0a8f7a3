//! A port whose other side is a server.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch_domain::CommandEnvelope;
use anabranch_log::BoxFuture;
use anabranch_runtime::port::{Problem, Reply, Request, Subject};
use anabranch_runtime::view::Policy;
use anabranch_runtime::{Port, SendError, Time};
use anabranch_tls::{Connector, Trust};
use anabranch_wire as wire;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::convert::{self, Malformed};
use crate::directory::Directory;
use crate::line::{Ended, Http, KINDS, Line, Sent};
use crate::{MANY, NOT_HERE, problem};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How often a server that owes an answer is asked whether it is there, and how long that may take.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
const ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// How long an answer may take beyond the time that the request itself has.
const GRACE: Duration = Duration::from_secs(2);

/// The largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// How long the directory may take, and how long what it has said is not asked again.
const TOLD_WITHIN: Duration = Duration::from_secs(3);
const TOLD_FRESH: Duration = Duration::from_millis(100);

/// About how many names are kept that nobody has.
const NAMES_MAX: usize = 4096;

/// How soon a line is begun again that has ended. Until then each request goes alone.
const LINE_AGAIN: Duration = Duration::from_secs(1);

/// When whoever is away is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// How a [`RemotePort`] behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerOptions {
    /// The log that is meant, by the name that its server gives it: a server of another log refuses
    /// what is asked. `None`: whichever is there.
    pub log: Option<String>,
    /// The service that asks, by the name that it has registered. A server that asks who calls checks that it has done so
    /// by the key below. `None`: an operator asks.
    pub service: Option<String>,
    /// What is shown to servers that ask who calls;
    /// [`Key::from_env`](anabranch_access::Key::from_env) finds it. `None`: nothing.
    pub key: Option<anabranch_access::Key>,
    /// Whose certificates are believed, of servers with `https://`; `None`: as
    /// [`Trust::from_env`] says.
    pub trust: Option<Trust>,
    /// How long an answer may take if the request does not say.
    pub patience: Duration,
    /// How long requests wait for a service that has gone, so that one that is started again
    /// fails nobody. Who comes when it has been away for longer is told at once.
    pub away: Duration,
    /// What the service has declared that it sends to. `None`: nobody looks.
    pub declared: Option<Declared>,
}

/// What a service has declared that it sends to, and who is told of what else it sends to.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The service.
    pub service: String,
    /// The categories.
    pub sends: BTreeSet<String>,
    /// Is told once of each other category that one of its processes or sagas sends to. It is sent all the
    /// same.
    pub tell: fn(&str),
}

impl Default for PeerOptions {
    /// Any log; forty seconds, which is more than a command takes by itself; five seconds for who
    /// is away.
    fn default() -> Self {
        Self {
            log: None,
            service: None,
            key: None,
            trust: None,
            patience: Duration::from_secs(40),
            away: Duration::from_secs(5),
            declared: None,
        }
    }
}

/// The way to services in other processes. One connection to each, made when it is needed and again
/// when it breaks; requests share it.
pub struct RemotePort {
    http: Http,
    lines: Mutex<BTreeMap<String, Kept>>,
    directory: Arc<dyn Directory>,
    time: Time,
    options: PeerOptions,
    known: Mutex<BTreeMap<Key, Known>>,
    away: Mutex<BTreeMap<Key, Away>>,
    /// The categories that were told of.
    undeclared: Mutex<BTreeSet<String>>,
    /// Held by who asks the directory: others wait for what it says.
    asking: tokio::sync::Mutex<()>,
}

/// A line to an address.
struct Kept {
    line: Line,
    begun_at: Duration,
}

/// A [`Subject`] that is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key(bool, String);

impl Key {
    fn of(subject: Subject<'_>) -> Self {
        match subject {
            Subject::Category(name) | Subject::Process(name) => Self(false, name.to_owned()),
            Subject::View(name) => Self(true, name.to_owned()),
        }
    }
}

/// What the directory has said, and when.
#[derive(Debug, Clone)]
struct Known {
    address: Option<String>,
    /// Whether it has ever named an address.
    was_there: bool,
    asked_at: Duration,
}

/// Who was away when asked last.
#[derive(Clone)]
struct Away {
    since: Duration,
    /// When it was asked last.
    failed_at: Duration,
    /// Held by the one of all who wait that looks whether it is back.
    looking: Arc<tokio::sync::Mutex<()>>,
}

/// Of one that looks; the others need none.
type Turn = Option<tokio::sync::OwnedMutexGuard<()>>;

/// What one attempt has come to.
enum Asked {
    Answer(Bytes),
    Refused(Box<wire::Problem>),
    /// Did not happen: nobody is there, or somebody else.
    Nobody(String),
    /// May have happened: the connection broke.
    Broken(String),
    /// May have happened: the time is up.
    Late(String),
}

/// A request as it is sent.
struct Letter {
    /// As in [`KINDS`].
    kind: u8,
    body: Bytes,
    within: Duration,
}

impl RemotePort {
    /// A way to whatever `directory` knows.
    pub fn new(directory: Arc<dyn Directory>, time: Time, options: PeerOptions) -> Self {
        let connector = Connector::new(options.trust.clone(), CONNECT_WITHIN).only("h2");
        let http = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(true)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .http2_keep_alive_timeout(ALIVE_WITHIN)
            .build(connector);
        Self {
            http,
            lines: Mutex::default(),
            directory,
            time,
            options,
            known: Mutex::default(),
            away: Mutex::default(),
            undeclared: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Where this is served, as far as is known: what was said last while that is fresh, or while
    /// the directory says nothing.
    async fn find(&self, subject: Subject<'_>, is_old: Option<&str>) -> Result<String, String> {
        let key = Key::of(subject);
        if let Some(address) = self.kept(&key, is_old) {
            return Ok(address);
        }
        let asking = self.asking.lock().await;
        // Somebody may have asked meanwhile.
        if let Some(address) = self.kept(&key, is_old) {
            return Ok(address);
        }
        let before = self.known().get(&key).cloned();
        let now = self.time.monotonic();
        let is_fresh = |known: &Known| now.saturating_sub(known.asked_at) < TOLD_FRESH;
        let (address, why) = match before {
            Some(known) if is_fresh(&known) => (known.address, None),
            before => {
                let (address, why) = match self.told(subject).await {
                    Ok(address) => (address, None),
                    Err(why) => (before.and_then(|before| before.address), Some(why)),
                };
                let asked_at = self.time.monotonic();
                self.keep(&key, address.clone(), asked_at);
                (address, why)
            }
        };
        drop(asking);
        let Key(_, name) = key;
        match (address, why) {
            (Some(address), _) => Ok(address),
            (None, None) => Err(format!("no running service is known to have {name:?}")),
            (None, Some(why)) => Err(format!("nothing says where {name:?} is served: {why}")),
        }
    }

    fn keep(&self, key: &Key, address: Option<String>, asked_at: Duration) {
        let mut all = self.known();
        let was_there = address.is_some() || all.get(key).is_some_and(|known| known.was_there);
        if !was_there && all.len() >= NAMES_MAX {
            // Clients may ask for any name.
            all.retain(|_, known| known.was_there);
        }
        let known = Known {
            address,
            was_there,
            asked_at,
        };
        all.insert(key.clone(), known);
    }

    /// Whether the directory has ever known it: who is waited for.
    fn was_there(&self, key: &Key) -> bool {
        self.known().get(key).is_some_and(|known| known.was_there)
    }

    /// What the directory says.
    async fn told(&self, subject: Subject<'_>) -> Result<Option<String>, String> {
        let told = self.directory.find(subject);
        match select(told, self.time.sleep(TOLD_WITHIN)).await {
            Either::Left((told, _)) => told,
            Either::Right(_) => Err(format!("no answer within {TOLD_WITHIN:?}")),
        }
    }

    /// The address that is kept, unless it is this one, which is old.
    fn kept(&self, key: &Key, is_old: Option<&str>) -> Option<String> {
        let known = self.known();
        let address = known.get(key)?.address.as_deref();
        address
            .filter(|address| Some(*address) != is_old)
            .map(str::to_owned)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to whoever has what it is for, and again if that has moved or was away for
    /// a moment. What may have happened is sent again too: by its id it has one outcome for ever.
    async fn carry(&self, subject: Subject<'_>, letter: &Letter) -> Result<Asked, SendError> {
        let until = self.time.monotonic().saturating_add(letter.within);
        let key = Key::of(subject);
        let unavailable = |reason| SendError::Unavailable {
            reason,
            retry_after: Some(AGAIN),
        };
        let mut may_have_happened = false;
        let mut newer: Option<String> = None;
        // Held while the service is asked.
        let mut turn: Turn = None;
        loop {
            let found = match newer.take() {
                Some(address) => Ok(address),
                None => self.find(subject, None).await,
            };
            let reason = match found {
                // A name that may be wrong is not waited for.
                Err(reason) if !self.was_there(&key) => return Err(unavailable(reason)),
                Err(reason) => reason,
                Ok(address) => {
                    let reason = match self.ask(&address, letter, until).await {
                        Asked::Nobody(reason) => reason,
                        Asked::Broken(reason) => {
                            may_have_happened = true;
                            reason
                        }
                        asked => {
                            self.away().remove(&key);
                            return Ok(asked);
                        }
                    };
                    // It may have moved: then nobody waits.
                    let told = self.find(subject, Some(&address)).await;
                    newer = told.ok().filter(|newer| *newer != address);
                    if newer.is_some() && self.time.monotonic() < until {
                        continue;
                    }
                    reason
                }
            };
            drop(turn);
            turn = match self.turn(&key, until).await {
                Some(turn) => turn,
                None if may_have_happened => return Ok(Asked::Broken(reason)),
                None => return Err(unavailable(reason)),
            };
        }
    }

    /// Waits for a turn to ask somebody who was away, at most until then; `None`: it has been away
    /// for too long. One looks whether it is back while the others wait.
    async fn turn(&self, key: &Key, until: Duration) -> Option<Turn> {
        let now = self.time.monotonic();
        let mine = {
            let mut away = self.away();
            let mine = away.entry(key.clone()).or_insert_with(|| Away {
                since: now,
                failed_at: now,
                looking: Arc::default(),
            });
            // Who was away an hour ago, and was not asked since, has not been away for an hour.
            if now.saturating_sub(mine.failed_at) > self.options.away {
                mine.since = now;
            }
            mine.failed_at = now;
            mine.clone()
        };
        let until = until.min(mine.since.saturating_add(self.options.away));
        let wait = until.checked_sub(now).filter(|wait| !wait.is_zero())?;
        let turn = pin!(async {
            let looking = mine.looking.clone().lock_owned().await;
            let now = self.away().get(key).map(|now| now.looking.clone());
            if now.is_some_and(|now| Arc::ptr_eq(&now, &mine.looking)) {
                self.time.sleep(AGAIN).await;
                Some(looking)
            } else {
                None
            }
        });
        match select(turn, self.time.sleep(wait)).await {
            Either::Left((turn, _)) => Some(turn),
            Either::Right(_) => None,
        }
    }

    fn away(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, address: &str, letter: &Letter, until: Duration) -> Asked {
        let left = until.saturating_sub(self.time.monotonic());
        let asked = pin!(self.ask_once(address, letter));
        match select(asked, self.time.sleep(left)).await {
            Either::Left((asked, _)) => asked,
            Either::Right(_) => Asked::Late(format!(
                "{address} has not answered within {:?}",
                letter.within
            )),
        }
    }

    /// A request to an address, without its body.
    fn head(&self, address: &str, path: &str) -> hyper::http::request::Builder {
        let mut request = hyper::Request::builder()
            .method(hyper::Method::POST)
            .uri(format!("{}{path}", address.trim_end_matches('/')))
            .header(CONTENT_TYPE, HeaderValue::from_static(wire::JSON));
        if let Some(log) = &self.options.log {
            request = request.header(wire::LOG_HEADER, log);
        }
        if let Some(service) = &self.options.service {
            request = request.header(wire::SERVICE_HEADER, service);
        }
        if let Some(key) = &self.options.key
            && let Ok(mut shown) = HeaderValue::from_str(&key.bearer())
        {
            shown.set_sensitive(true);
            request = request.header(AUTHORIZATION, shown);
        }
        request
    }

    /// The line to an address. `None`: one has ended a moment ago, perhaps because the server is older and
    /// has none.
    fn line(&self, address: &str) -> Option<Line> {
        let now = self.time.monotonic();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lines.get(address) {
            if !kept.line.is_over() {
                return Some(kept.line.clone());
            }
            if now.saturating_sub(kept.begun_at) < LINE_AGAIN {
                return None;
            }
        }
        lines.retain(|_, kept| !kept.line.is_over());
        let kept = Kept {
            line: Line::start(
                self.http.clone(),
                self.head(address, MANY),
                ANSWER_BYTES_MAX,
            ),
            begun_at: now,
        };
        let line = kept.line.clone();
        lines.insert(address.to_owned(), kept);
        Some(line)
    }

    async fn ask_once(&self, address: &str, letter: &Letter) -> Asked {
        let broken = |why: String| Asked::Broken(format!("{address} did not answer: {why}"));
        if let Some(line) = self.line(address) {
            match line.ask(letter.kind, letter.body.clone()).await {
                Ended::Answer(status, body) => return said(address, status, body),
                Ended::Broken(why) => return broken(why),
                Ended::Alone => {}
            }
        }
        let nobody = |error: &dyn std::fmt::Display| {
            Asked::Nobody(format!("nothing answers at {address}: {error}"))
        };
        let path = KINDS.get(usize::from(letter.kind)).copied();
        let request = self.head(address, path.unwrap_or_default());
        let request = match request.body(Sent::Whole(Full::new(letter.body.clone()))) {
            Ok(request) => request,
            Err(error) => return nobody(&error),
        };
        let response = match self.http.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return nobody(&causes(&error)),
            Err(error) => return broken(causes(&error)),
        };
        let (parts, body) = response.into_parts();
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => said(address, parts.status, body.to_bytes()),
            Err(error) => Asked::Broken(format!("{address} did not answer whole: {error}")),
        }
    }

    /// Sends what changes something; the answer is a `T`.
    async fn tell<T: DeserializeOwned>(
        &self,
        subject: Subject<'_>,
        letter: &Letter,
    ) -> Result<T, SendError> {
        let unknown = |reason| SendError::Unknown { reason };
        match self.carry(subject, letter).await? {
            Asked::Answer(body) => {
                serde_json::from_slice(&body).map_err(|error| unknown(error.to_string()))
            }
            Asked::Refused(problem) => Err(problem::send_error(&problem)),
            Asked::Nobody(reason) | Asked::Broken(reason) | Asked::Late(reason) => {
                Err(unknown(reason))
            }
        }
    }

    /// Asks what changes nothing.
    async fn query(&self, subject: Subject<'_>, letter: &Letter) -> Result<Reply, Problem> {
        let unavailable = |reason| SendError::Unavailable {
            reason,
            retry_after: Some(AGAIN),
        };
        match self.carry(subject, letter).await? {
            Asked::Answer(body) => {
                let answer: Result<wire::QueryAnswer, _> = serde_json::from_slice(&body);
                let answer = answer.map_err(|error| unavailable(error.to_string()))?;
                let shown = convert::shown_of(&answer);
                let shown = shown.map_err(|error| unavailable(error.to_string()))?;
                Ok(Reply::Shown(shown))
            }
            Asked::Refused(problem) => Err(problem::query_problem(&problem)),
            Asked::Nobody(reason) | Asked::Broken(reason) | Asked::Late(reason) => {
                Err(unavailable(reason).into())
            }
        }
    }

    /// Tells, once for each category, that something is sent there which was not declared. What is only
    /// handed on for somebody else is waited for by nobody here.
    fn check_declared(&self, command: &CommandEnvelope) {
        let category = command.to.category();
        let (Some(declared), Some(_)) = (&self.options.declared, &command.reply_to) else {
            return;
        };
        if declared.sends.contains(category) {
            return;
        }
        let mut told = self
            .undeclared
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.len() < NAMES_MAX && told.insert(category.to_owned()) {
            (declared.tell)(&format!(
                "service {} sends to {category}, which it has not declared: name it in `sends` where \
                 the service registers; `anabranch service graph` shows what each sends",
                declared.service
            ));
        }
    }

    async fn call(&self, request: Request) -> Result<Reply, Problem> {
        let subject = request.subject();
        match &request {
            Request::Command(dispatch) => {
                self.check_declared(&dispatch.command);
                let within = dispatch.timeout.unwrap_or(self.options.patience) + GRACE;
                let letter = letter(0, &convert::command(dispatch), within)?;
                let told: wire::PeerDelivered = self.tell(subject, &letter).await?;
                let delivered = convert::delivered_of(&told).map_err(strange)?;
                Ok(Reply::Delivered(delivered))
            }
            Request::Answer(reply) => {
                let within = self.options.patience;
                let letter = letter(1, &convert::answer(reply), within)?;
                let wire::PeerHeard {} = self.tell(subject, &letter).await?;
                Ok(Reply::Heard)
            }
            Request::Forget { at, saga } => {
                let within = self.options.patience;
                let letter = letter(2, &convert::forget(at, saga), within)?;
                let wire::PeerHeard {} = self.tell(subject, &letter).await?;
                Ok(Reply::Heard)
            }
            Request::Query(ask) => {
                let wait = match ask.consistency.policy {
                    Policy::Wait(wait) => wait,
                    Policy::Fail | Policy::AllowStale => Duration::ZERO,
                };
                let letter = letter(3, &convert::query(ask), wait + self.options.patience)?;
                self.query(subject, &letter).await
            }
        }
    }
}

/// What an answer says.
fn said(address: &str, status: StatusCode, body: Bytes) -> Asked {
    if status.is_success() {
        return Asked::Answer(body);
    }
    match serde_json::from_slice::<wire::Problem>(&body) {
        // Somebody else has got the address.
        Ok(problem) if problem.code == NOT_HERE || problem.code == "other-log" => {
            Asked::Nobody(format!("{address}: {}", problem.detail))
        }
        Ok(problem) => Asked::Refused(Box::new(problem)),
        Err(_) => Asked::Broken(format!("{address} answered {status}")),
    }
}

impl Port for RemotePort {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>> {
        Box::pin(self.call(request))
    }
}

fn letter<T: Serialize>(kind: u8, message: &T, within: Duration) -> Result<Letter, SendError> {
    let body = serde_json::to_vec(message);
    Ok(Letter {
        kind,
        body: body
            .map_err(|error| SendError::Invalid(error.to_string()))?
            .into(),
        within,
    })
}

/// It was done, and its answer is not understood.
fn strange(error: Malformed) -> SendError {
    SendError::Unknown {
        reason: format!("the answer is not understood: {error}"),
    }
}

/// An error with what it comes from, for people.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
