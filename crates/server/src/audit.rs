//! What matters to security, as events that hold each other's hashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_access::{AUDIT_STREAM, AUDIT_TYPE, Act, AuditChain, AuditRecord, Caller};
use anabranch_log::{Append, AppendError, BoxFuture, Condition, Expect, Log, Order, VersionRange};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use anabranch_runtime::Time;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::future::{Either, select};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::calls::{self, Refused};

/// The most acts that are written at once, and that are kept room for which are done here. Further ones are counted.
const WAITING_MAX: usize = 1024;

/// The most acts that wait, with those that are reported: a report of as many as are written at once finds room.
const ALL_WAITING_MAX: usize = 3 * WAITING_MAX;

/// The most records of one append. Refusals of more kinds are counted together.
const RECORDS_MAX: usize = 64;

/// How long refusals, and other acts of which nothing came, are gathered: those that are alike become one record.
const GATHER: Duration = Duration::from_secs(1);

/// When an append is tried again that has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The most times that a report may say of an act: many of them can be added.
const TIMES_MAX: u64 = 1 << 32;

const REFUSED: &str = "refused";

/// Of a request whose sender has gone before the answer.
const LEFT: &str = "left";

/// The most characters of a text of a record: who it was, what was done, and to what. Callers choose them.
const WHO_MAX: usize = 256;
const DID_MAX: usize = 64;
const ABOUT_MAX: usize = 512;
const RESULT_MAX: usize = 16;

/// Where a service in a process of its own has written down what is done there: in the audit of the log.
pub trait Reports: Send + Sync + 'static {
    /// Takes acts, each so many times. The error is in words: why they cannot be taken now. Some may have been; then
    /// they are told again.
    fn report(&self, acts: Vec<(Act, u64)>) -> BoxFuture<'_, Result<(), String>>;
}

/// Writes the audit of a log.
pub struct Audit {
    acts: mpsc::Sender<(Act, u64)>,
    lost: Arc<AtomicU64>,
}

impl Audit {
    /// Begins to write, to the log or by these reports to the server that has it. Ends when `stopping` says so, and has written then what it was told.
    pub fn start(
        log: Arc<dyn Log>,
        reports: Option<Arc<dyn Reports>>,
        time: Time,
        stopping: watch::Receiver<bool>,
    ) -> (Self, JoinHandle<()>) {
        let (acts, told) = mpsc::channel(ALL_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            log,
            reports,
            time,
            chain: None,
            lost: lost.clone(),
        };
        let writing = tokio::spawn(writer.write(told, stopping));
        (Self { acts, lost }, writing)
    }

    /// Tells of an act. What there is no room for is counted.
    pub fn tell(&self, who: String, did: &str, about: &str, result: &str) {
        let act = Act {
            who: beginning(&who, WHO_MAX),
            did: beginning(did, DID_MAX),
            about: beginning(about, ABOUT_MAX),
            result: result.to_owned(),
        };
        self.reported(act, 1);
    }

    /// The same of an act that has happened so many times.
    fn reported(&self, act: Act, times: u64) {
        if self.acts.try_send((act, times)).is_err() {
            self.lost.fetch_add(times, Ordering::Relaxed);
        }
    }

    /// Tells of what was done at a service in a process of its own, all of it or nothing: whether there is room
    /// beside what is kept for what is done here.
    pub fn of_service(&self, service: &str, acts: Vec<(Act, u64)>) -> bool {
        if self.acts.capacity() < WAITING_MAX + acts.len() {
            return false;
        }
        let Ok(places) = self.acts.try_reserve_many(acts.len()) else {
            return false;
        };
        for (place, (act, times)) in places.zip(acts) {
            let act = Act {
                who: format!("{} at service {service}", beginning(&act.who, WHO_MAX)),
                did: beginning(&act.did, DID_MAX),
                about: beginning(&act.about, ABOUT_MAX),
                result: beginning(&act.result, RESULT_MAX),
            };
            place.send((act, times.clamp(1, TIMES_MAX)));
        }
        true
    }

    /// Tells that somebody was refused. Strangers choose what they ask for, so of that the beginning is kept.
    pub fn refused(&self, who: String, did: &str, about: &str) {
        self.tell(who, did, &beginning(about, 64), REFUSED);
    }

    /// Tells of a request whose sender has gone before the answer, if it matters. It may have been carried out.
    pub fn left(&self, who: &Caller, method: &Method, path: &str) {
        if is_act(who, method, path) {
            self.tell(who.name(), method.as_str(), path, LEFT);
        }
    }

    /// Tells what came of a request, if it matters: what operators and services that register did, and
    /// whom the server has refused.
    pub fn heard(&self, who: &Caller, method: &Method, path: &str, response: &Response) {
        let status = response.status();
        let is_refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status)
            || response.extensions().get::<Refused>().is_some();
        // A call of gRPC says it in a header, if it has said nothing else.
        let of_grpc = response.headers().get("grpc-status");
        let of_grpc = of_grpc.and_then(|code| code.to_str().ok());
        let is_refused = is_refused || of_grpc.is_some_and(|code| code == "7" || code == "16");
        let is_known = matches!(who, Caller::Known(_));
        let is_act = is_act(who, method, path);
        // Of these a caller can make as many kinds as it likes.
        let is_nothing = NOTHING_DONE.contains(&status);
        let is_turned_away = !is_known && status == StatusCode::TOO_MANY_REQUESTS;
        let is_refused = is_refused || is_turned_away || is_act && is_nothing;
        if is_refused {
            let part = path.split('/').nth(1).unwrap_or_default();
            self.refused(who.name(), method.as_str(), &format!("/{part}"));
        } else if is_act {
            let result = match of_grpc {
                Some(code) if code != "0" => format!("grpc {}", beginning(code, 2)),
                _ => status.as_str().to_owned(),
            };
            self.tell(who.name(), method.as_str(), path, &result);
        }
    }
}

/// Whether this, if it is allowed, is written down.
fn is_act(who: &Caller, method: &Method, path: &str) -> bool {
    let of_registry = path.strip_prefix(calls::REGISTRY_PATH);
    let of_registry = of_registry.is_some_and(|call| CHANGES.contains(&call));
    let of_operator = path.starts_with("/operate/") && *method == Method::POST
        || path.starts_with("/operate/log/files");
    matches!(who, Caller::Known(_)) && (of_operator || of_registry)
}

/// What is answered to an act of which nothing was done, because there is no such thing or not now.
const NOTHING_DONE: [StatusCode; 3] = [
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::TOO_MANY_REQUESTS,
];

fn beginning(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

/// Calls of the registry that change something. One that says that a service is still there does not, and one that
/// brings acts does that itself. What has no such name is no act: callers may make up any.
const CHANGES: [&str; 2] = ["RegisterService", "Release"];

/// Whether acts of which this came are gathered, as callers can make as many as they like: nothing is known to have
/// been done.
fn is_gathered(result: &str) -> bool {
    let is_error = result.starts_with(['4', '5']) || result.starts_with("grpc");
    [REFUSED, LEFT].contains(&result) || is_error
}

struct Writer {
    log: Arc<dyn Log>,
    /// Takes what is written, if another program has the log.
    reports: Option<Arc<dyn Reports>>,
    time: Time,
    /// Where the audit stands, once that is known.
    chain: Option<AuditChain>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    async fn write(
        mut self,
        mut told: mpsc::Receiver<(Act, u64)>,
        mut stopping: watch::Receiver<bool>,
    ) {
        loop {
            let next = {
                let stopped = Box::pin(stopping.wait_for(|is_stopping| *is_stopping));
                match select(Box::pin(told.recv()), stopped).await {
                    Either::Left((act, _)) => Some(act),
                    Either::Right(_) => None,
                }
            };
            let first = match next {
                Some(Some(act)) => act,
                // Nobody is left who could tell.
                Some(None) => return,
                None => {
                    for _ in 0..ALL_WAITING_MAX / WAITING_MAX {
                        let mut rest = Gathered::default();
                        rest.take(&mut told);
                        let acts = rest.finish(&self.lost);
                        self.append(acts, &stopping).await;
                    }
                    return;
                }
            };
            let mut gathered = Gathered::default();
            let is_one_of_many = is_gathered(&first.0.result);
            gathered.add(first);
            if is_one_of_many {
                let stopped = Box::pin(stopping.wait_for(|is_stopping| *is_stopping));
                drop(select(self.time.sleep(GATHER), stopped).await);
            }
            gathered.take(&mut told);
            let acts = gathered.finish(&self.lost);
            self.append(acts, &stopping).await;
        }
    }

    /// Appends until it has succeeded, or the server stops.
    async fn append(&mut self, acts: Vec<(Act, u64)>, stopping: &watch::Receiver<bool>) {
        if acts.is_empty() {
            return;
        }
        loop {
            if self.try_append(&acts).await {
                return;
            }
            // Another server may have written.
            self.chain = None;
            if *stopping.borrow() {
                return;
            }
            self.time.sleep(AGAIN).await;
        }
    }

    async fn try_append(&mut self, acts: &[(Act, u64)]) -> bool {
        if let Some(reports) = &self.reports {
            return reports.report(acts.to_vec()).await.is_ok();
        }
        let Some(stream) = stream() else { return true };
        let Some(chain) = self.chain().await else {
            return false;
        };
        let expected = match chain.number() {
            0 => Expect::Empty,
            number => Expect::At(number - 1),
        };
        let mut next = chain.clone();
        let now = self.time.now().micros();
        let mut events = Vec::new();
        for (act, times) in acts {
            let record = next.next(act.clone(), *times, now);
            let Ok(event_type) = EventType::new(AUDIT_TYPE) else {
                return true;
            };
            let id = EventId::v7(now / 1000, self.time.random());
            events.push(NewEvent::new(id, stream.clone(), event_type, record.data()));
            next = AuditChain::behind(&record);
        }
        let append = Append {
            events,
            conditions: vec![Condition::Stream(stream, expected)],
        };
        match self.log.append(append).await {
            Ok(_) => {
                self.chain = Some(next);
                true
            }
            // No try will be taken: the next record says how many these were.
            Err(AppendError::Rejected(_)) => {
                let times = acts.iter().map(|(_, times)| *times);
                let times = times.fold(0, u64::saturating_add);
                self.lost.fetch_add(times, Ordering::Relaxed);
                true
            }
            // It may have been written; then the next try finds it, and says it once more.
            Err(_) => false,
        }
    }

    /// Where the audit stands: behind its last record. One that cannot be read is a break that a check
    /// finds; it goes on behind it.
    async fn chain(&mut self) -> Option<AuditChain> {
        if let Some(chain) = &self.chain {
            return Some(chain.clone());
        }
        let stream = stream()?;
        let mut read = self
            .log
            .read_stream(&stream, VersionRange::ALL, Order::Backward);
        let chain = match read.next().await {
            None => AuditChain::default(),
            Some(Ok(last)) => {
                let number = last.version + 1;
                match serde_json::from_slice::<AuditRecord>(last.data()) {
                    Ok(record) if record.number == number => AuditChain::behind(&record),
                    _ => AuditChain::behind_break(number),
                }
            }
            Some(Err(_)) => return None,
        };
        self.chain = Some(chain.clone());
        Some(chain)
    }
}

fn stream() -> Option<StreamId> {
    StreamId::system(AUDIT_STREAM).ok()
}

/// Acts in their order; refusals that are alike are one, and so are others that nothing came of.
#[derive(Default)]
struct Gathered {
    acts: Vec<(Act, u64)>,
    /// Where in them such an act is.
    alike: BTreeMap<Act, usize>,
    more_refused: u64,
    more_failed: u64,
}

impl Gathered {
    fn add(&mut self, (act, times): (Act, u64)) {
        if is_gathered(&act.result) {
            if let Some(at) = self.alike.get(&act) {
                let count = &mut self.acts[*at].1;
                *count = count.saturating_add(times);
                return;
            }
            // What strangers are refused takes no room from the others.
            let is_refused = act.result == REFUSED;
            let kinds = self.alike.keys();
            let kinds = kinds.filter(|kind| (kind.result == REFUSED) == is_refused);
            if kinds.count() >= RECORDS_MAX {
                let more = match is_refused {
                    true => &mut self.more_refused,
                    false => &mut self.more_failed,
                };
                *more = more.saturating_add(times);
                return;
            }
            self.alike.insert(act.clone(), self.acts.len());
        }
        self.acts.push((act, times));
    }

    fn take(&mut self, told: &mut mpsc::Receiver<(Act, u64)>) {
        while self.acts.len() < WAITING_MAX
            && let Ok(act) = told.try_recv()
        {
            self.add(act);
        }
    }

    fn finish(mut self, lost: &AtomicU64) -> Vec<(Act, u64)> {
        let lost = lost.swap(0, Ordering::Relaxed);
        for (count, what) in [
            (self.more_refused, "refusals of other kinds"),
            (self.more_failed, "failures of other kinds"),
            (lost, "acts that there was no room for"),
        ] {
            if count > 0 {
                let act = Act {
                    who: "several".to_owned(),
                    did: what.to_owned(),
                    about: String::new(),
                    result: "counted".to_owned(),
                };
                self.acts.push((act, count));
            }
        }
        self.acts
    }
}

#[cfg(test)]
mod tests {
    use anabranch_access::{Key, Principal, Scopes};
    use anabranch_env::Env;
    use anabranch_log::MemoryLog;
    use anabranch_model::Limits;
    use axum::http::{HeaderMap, HeaderValue, header};
    use axum::response::IntoResponse as _;
    use connectrpc::ConnectError;

    use super::*;

    fn refusal(about: &str) -> Act {
        Act {
            who: "nobody".to_owned(),
            did: "GET".to_owned(),
            about: about.to_owned(),
            result: REFUSED.to_owned(),
        }
    }

    /// A writer before a log whose audit ends like this.
    fn writer(log: MemoryLog) -> Writer {
        Writer {
            log: Arc::new(log),
            reports: None,
            time: Time::of(&Env::os()),
            chain: None,
            lost: Arc::default(),
        }
    }

    /// The data of all events of the audit.
    async fn written(writer: &Writer) -> Vec<Vec<u8>> {
        let stream = stream().unwrap();
        let mut read = writer
            .log
            .read_stream(&stream, VersionRange::ALL, Order::Forward);
        let mut all = Vec::new();
        while let Some(event) = read.next().await {
            all.push(event.unwrap().data().to_vec());
        }
        all
    }

    #[tokio::test]
    async fn an_audit_goes_on_behind_a_last_event_that_is_no_record_and_stays_broken_there() {
        let wrong = |number| {
            let mut record = AuditChain::default().next(refusal("/x"), 1, 1);
            record.number = number;
            record.data()
        };
        for bad in [b"{}".to_vec(), wrong(u64::MAX), wrong(7)] {
            let mut writer = writer(MemoryLog::new(Env::os()));
            let kind = EventType::new(AUDIT_TYPE).unwrap();
            let event = NewEvent::new(EventId::from_u128(1), stream().unwrap(), kind, bad);
            writer.log.append(Append::events([event])).await.unwrap();
            assert!(writer.try_append(&[(refusal("/y"), 1)]).await);
            // Also another one that begins there.
            writer.chain = None;
            assert!(writer.try_append(&[(refusal("/z"), 1)]).await);
            let all = written(&writer).await;
            let numbers = all[1..].iter().map(|data| {
                let record: AuditRecord = serde_json::from_slice(data).unwrap();
                record.number
            });
            assert_eq!(numbers.collect::<Vec<_>>(), [2, 3]);
            let mut chain = AuditChain::default();
            let mut events = all.iter();
            let followed = events.try_for_each(|data| {
                let followed = chain.follow_event(AUDIT_TYPE, data);
                followed.map(|_| ())
            });
            assert_eq!(followed.unwrap_err().number, 1);
        }
    }

    #[tokio::test]
    async fn acts_that_the_log_does_not_take_are_counted() {
        let limits = Limits {
            data_bytes_max: 1,
            ..Limits::default()
        };
        let mut writer = writer(MemoryLog::with_limits(Env::os(), limits));
        assert!(writer.try_append(&[(refusal("/y"), 5)]).await);
        assert_eq!(writer.lost.load(Ordering::Relaxed), 5);
    }

    fn heard(who: &Caller, method: &Method, path: &str, response: &Response) -> Vec<Act> {
        let (acts, mut told) = mpsc::channel(9);
        let lost = Arc::default();
        Audit { acts, lost }.heard(who, method, path, response);
        std::iter::from_fn(|| told.try_recv().ok())
            .map(|(act, _)| act)
            .collect()
    }

    fn known() -> Caller {
        let key = Key::generate(&*Env::os().rng);
        Caller::Known(Arc::new(Principal {
            name: "ada".to_owned(),
            key: key.id().to_owned(),
            scopes: Scopes::parse(["*:*"]).unwrap(),
            until: None,
        }))
    }

    #[test]
    fn a_call_that_is_refused_is_heard_in_each_protocol() {
        for kind in [
            "application/connect+proto",
            "application/grpc",
            "application/json",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            let error = ConnectError::permission_denied("no");
            let refused = calls::refuse_call(&headers, &error);
            let path = "/anabranch.log.v1.LogService/Read";
            let acts = heard(&known(), &Method::POST, path, &refused);
            assert_eq!(acts.len(), 1, "{kind}");
            assert_eq!(acts[0].result, REFUSED, "{kind}");
        }
    }

    #[test]
    fn what_callers_choose_is_cut_and_acts_of_which_nothing_was_done_are_alike() {
        let answered = |status: StatusCode| status.into_response();
        let long = Method::from_bytes(&[b'M'; 4000]).unwrap();
        let path = format!("/operate/log/files/{}", "x".repeat(4000));
        let acts = heard(&known(), &long, &path, &answered(StatusCode::OK));
        assert_eq!(acts[0].did.len(), DID_MAX);
        assert_eq!(acts[0].about.len(), ABOUT_MAX);
        for status in NOTHING_DONE {
            let acts = heard(&known(), &Method::POST, &path, &answered(status));
            assert_eq!((&*acts[0].about, &*acts[0].result), ("/operate", REFUSED));
        }
        let nobody = heard(
            &Caller::Nobody,
            &Method::POST,
            &path,
            &answered(StatusCode::OK),
        );
        assert_eq!(nobody, []);
    }

    #[test]
    fn calls_of_the_registry_that_change_nothing_or_are_none_are_no_acts() {
        let after = |call: &str| {
            let path = format!("{}{call}", calls::REGISTRY_PATH);
            let done = StatusCode::OK.into_response();
            heard(&known(), &Method::POST, &path, &done).len()
        };
        for call in ["List", "Find", "Renew", "Report", "MadeUp", "x/Release", ""] {
            assert_eq!(after(call), 0, "{call}");
        }
        for call in CHANGES {
            assert_eq!(after(call), 1, "{call}");
        }
    }

    #[test]
    fn acts_of_which_nothing_is_known_to_have_come_are_counted_beside_refusals() {
        let mut gathered = Gathered::default();
        for result in [LEFT, "404", "grpc 3"] {
            for _ in 0..100 {
                let act = Act {
                    result: result.to_owned(),
                    ..refusal("/x")
                };
                gathered.add((act, 1));
            }
        }
        assert_eq!(gathered.acts.len(), 3);
        for number in 0..1000 {
            gathered.add((refusal(&format!("/{number}")), 1));
        }
        assert_eq!(gathered.acts.len(), 3 + RECORDS_MAX);
        assert_eq!(gathered.more_failed, 0);
    }

    #[test]
    fn an_act_that_is_said_to_have_happened_as_often_as_can_be_said_ends_no_audit() {
        let (acts, mut told) = mpsc::channel(ALL_WAITING_MAX);
        let audit = Audit {
            acts,
            lost: Arc::default(),
        };
        let most = || (refusal("/x"), u64::MAX);
        assert!(audit.of_service("shop", vec![most(), most(), (refusal("/y"), 0)]));
        let mut gathered = Gathered::default();
        gathered.take(&mut told);
        assert_eq!(gathered.acts[0].1, 2 * TIMES_MAX);
        assert_eq!(gathered.acts[1].1, 1);
        gathered.add(most());
        gathered.add(most());
        let acts = gathered.finish(&audit.lost);
        assert_eq!(acts.last().unwrap().1, u64::MAX);
    }

    #[test]
    fn reports_leave_room_for_what_is_done_here_and_are_taken_wholly_or_not() {
        let (acts, mut told) = mpsc::channel(ALL_WAITING_MAX);
        let lost = Arc::default();
        let audit = Audit { acts, lost };
        let report = || vec![(refusal("/x"), 1); 700];
        assert!(audit.of_service("shop", report()) && audit.of_service("shop", report()));
        assert!(!audit.of_service("shop", report()));
        audit.refused("ada".to_owned(), "GET", "/x");
        let all = std::iter::from_fn(|| told.try_recv().ok());
        assert_eq!(all.count(), 1401);
        assert_eq!(audit.lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn refusals_that_are_alike_are_counted_and_their_kinds_are_bounded() {
        let mut gathered = Gathered::default();
        for number in 0..1000 {
            gathered.add((refusal("/events"), 1));
            gathered.add((refusal(&format!("/{number}")), 1));
        }
        let lost = AtomicU64::new(7);
        let acts = gathered.finish(&lost);
        assert_eq!(acts.len(), RECORDS_MAX + 2);
        assert_eq!(acts[0], (refusal("/events"), 1000));
        let counted: u64 = acts.iter().map(|(_, times)| times).sum();
        assert_eq!(counted, 2007);
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }
}
