//! What matters to security, as events that hold each other's hashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anabranch_access::{AUDIT_STREAM, AUDIT_TYPE, Act, AuditChain, AuditRecord, Caller};
use anabranch_log::{Append, AppendError, Condition, Expect, Log, Order, VersionRange};
use anabranch_model::{EventId, EventType, NewEvent, StreamId};
use anabranch_runtime::Time;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::future::{Either, select};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::calls;

/// The most acts that wait to be written. Further ones are counted.
const WAITING_MAX: usize = 1024;

/// The most records of one append. Refusals of more kinds are counted together.
const RECORDS_MAX: usize = 64;

/// How long refusals are gathered: those that are alike become one record.
const GATHER: Duration = Duration::from_secs(1);

/// When an append is tried again that has failed.
const AGAIN: Duration = Duration::from_secs(1);

const REFUSED: &str = "refused";

/// Writes the audit of a log.
pub struct Audit {
    acts: mpsc::Sender<Act>,
    lost: Arc<AtomicU64>,
}

impl Audit {
    /// Begins to write. Ends when the server does, and has written then what it was told.
    pub fn start(
        log: Arc<dyn Log>,
        time: Time,
        stopping: watch::Receiver<bool>,
    ) -> (Self, JoinHandle<()>) {
        let (acts, told) = mpsc::channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            log,
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
            who,
            did: did.to_owned(),
            about: about.to_owned(),
            result: result.to_owned(),
        };
        if self.acts.try_send(act).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells that somebody was refused. Strangers choose what they ask for, so of that the beginning is kept.
    pub fn refused(&self, who: String, did: &str, about: &str) {
        let about: String = about.chars().take(64).collect();
        self.tell(who, did, &about, REFUSED);
    }

    /// Tells what came of a request, if it matters: what operators and services that register did, and
    /// whom the server has refused.
    pub fn heard(&self, who: &Caller, method: &Method, path: &str, response: &Response) {
        let is_refused = matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        );
        // A call of gRPC says it in a header, if it has said nothing else.
        let of_grpc = response.headers().get("grpc-status");
        let is_refused = is_refused || of_grpc.is_some_and(|code| code == "7" || code == "16");
        let is_act = path.starts_with("/operate/") && *method == Method::POST
            || path.starts_with("/operate/log/files")
            || path.starts_with(calls::REGISTRY_PATH)
                && !READS.iter().any(|end| path.ends_with(end));
        if is_refused {
            let part = path.split('/').nth(1).unwrap_or_default();
            self.refused(who.name(), method.as_str(), &format!("/{part}"));
        } else if is_act {
            let status = response.status().as_u16().to_string();
            self.tell(who.name(), method.as_str(), path, &status);
        }
    }
}

/// Calls of the registry that change nothing, and one that says that a service is still there.
const READS: [&str; 3] = ["/List", "/Find", "/Renew"];

struct Writer {
    log: Arc<dyn Log>,
    time: Time,
    /// Where the audit stands, once that is known.
    chain: Option<AuditChain>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    async fn write(mut self, mut told: mpsc::Receiver<Act>, mut stopping: watch::Receiver<bool>) {
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
                    let mut rest = Gathered::default();
                    rest.take(&mut told);
                    let acts = rest.finish(&self.lost);
                    self.append(acts, &stopping).await;
                    return;
                }
            };
            let mut gathered = Gathered::default();
            let is_refusal = first.result == REFUSED;
            gathered.add(first);
            if is_refusal {
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
            // It may have been written; then the next try finds it, and says it once more.
            Err(AppendError::Rejected(_)) => true,
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
                let record: AuditRecord = serde_json::from_slice(last.data()).ok()?;
                AuditChain::behind(&record)
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

/// Acts in their order; refusals that are alike are one.
#[derive(Default)]
struct Gathered {
    acts: Vec<(Act, u64)>,
    refusals: BTreeMap<Act, usize>,
    more: u64,
}

impl Gathered {
    fn add(&mut self, act: Act) {
        if act.result == REFUSED {
            if let Some(at) = self.refusals.get(&act) {
                self.acts[*at].1 += 1;
                return;
            }
            if self.refusals.len() >= RECORDS_MAX {
                self.more += 1;
                return;
            }
            self.refusals.insert(act.clone(), self.acts.len());
        }
        self.acts.push((act, 1));
    }

    fn take(&mut self, told: &mut mpsc::Receiver<Act>) {
        while self.acts.len() < WAITING_MAX
            && let Ok(act) = told.try_recv()
        {
            self.add(act);
        }
    }

    fn finish(mut self, lost: &AtomicU64) -> Vec<(Act, u64)> {
        let lost = lost.swap(0, Ordering::Relaxed);
        for (count, what) in [
            (self.more, "refusals of other kinds"),
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
    use super::*;

    fn refusal(about: &str) -> Act {
        Act {
            who: "nobody".to_owned(),
            did: "GET".to_owned(),
            about: about.to_owned(),
            result: REFUSED.to_owned(),
        }
    }

    #[test]
    fn refusals_that_are_alike_are_counted_and_their_kinds_are_bounded() {
        let mut gathered = Gathered::default();
        for number in 0..1000 {
            gathered.add(refusal("/events"));
            gathered.add(refusal(&format!("/{number}")));
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
