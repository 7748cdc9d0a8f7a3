use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anabranch_env::{Clock, Rng};
use serde_json::{Value, json};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::span::{Place, Span};
use crate::value::{Resource, scope};

/// The most spans that are open at a time, and that wait to be taken away.
const OPEN_MAX: usize = 1 << 16;
const WAITING_MAX: usize = 1 << 14;

/// The most spans of one body.
const TAKEN_MAX: usize = 1 << 11;

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<Id>> = const { RefCell::new(Vec::new()) };
}

/// A subscriber that keeps the spans of one target.
#[derive(Clone)]
pub struct Spans(Arc<Inner>);

struct Inner {
    target: &'static str,
    resource: Resource,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    last: AtomicU64,
    dropped: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Span>,
    ended: Vec<Value>,
}

impl Spans {
    /// Keeps spans of this target, which are of this service.
    pub fn new(
        target: &'static str,
        resource: Resource,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        Self(Arc::new(Inner {
            target,
            resource,
            clock,
            rng,
            last: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            state: Mutex::default(),
        }))
    }

    /// The body of a request to [`TRACES`](crate::TRACES) with spans that have ended, at most 2048 of
    /// them; `None` if there are none.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        let count = state.ended.len().min(TAKEN_MAX);
        let spans: Vec<_> = state.ended.drain(..count).collect();
        drop(state);
        let resource = self.0.resource.json();
        let of_scope = json!([{"scope": scope(), "spans": spans}]);
        let body = json!({"resourceSpans": [{"resource": resource, "scopeSpans": of_scope}]});
        (count > 0).then(|| body.to_string().into_bytes())
    }

    /// How many spans were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Takes the spans of this whole process from now on; false if another subscriber does already.
    pub fn install(&self) -> bool {
        tracing::subscriber::set_global_default(self.clone()).is_ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a span belongs that has this parent.
    fn placed(&self, span: &mut Span, parent: Option<Place>) {
        // Zero is nobody's id.
        let id = || self.0.rng.next_u64().max(1);
        let above = parent.or(span.outside);
        span.parent = above.map_or(0, |above| above.span);
        span.place = Place {
            trace: above.map_or_else(|| self.0.rng.next_u128().max(1), |above| above.trace),
            span: id(),
        };
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target() == self.0.target
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        let metadata = attributes.metadata();
        let mut span = Span::new(metadata.name(), self.0.clock.wall_micros());
        attributes.record(&mut span);
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.clone()),
            None if attributes.is_contextual() => {
                ENTERED.with_borrow(|entered| entered.last().cloned())
            }
            None => None,
        };
        let mut state = self.state();
        let parent = parent.and_then(|id| Some(state.open.get(&id.into_u64())?.place));
        self.placed(&mut span, parent);
        if state.open.len() < OPEN_MAX {
            state.open.insert(number, span);
        } else {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Id::from_u64(number)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        if let Some(span) = self.state().open.get_mut(&id.into_u64()) {
            values.record(span);
        }
    }

    fn record_follows_from(&self, id: &Id, follows: &Id) {
        let mut state = self.state();
        let place = state.open.get(&follows.into_u64()).map(|span| span.place);
        if let (Some(place), Some(span)) = (place, state.open.get_mut(&id.into_u64())) {
            span.links.push(place);
        }
    }

    /// Only spans are kept.
    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.clone()));
    }

    fn exit(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(at) = entered.iter().rposition(|entered| entered == id) {
                entered.remove(at);
            }
        });
    }

    fn clone_span(&self, id: &Id) -> Id {
        if let Some(span) = self.state().open.get_mut(&id.into_u64()) {
            span.holders += 1;
        }
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut state = self.state();
        let Some(span) = state.open.get_mut(&id.into_u64()) else {
            return false;
        };
        span.holders -= 1;
        if span.holders > 0 {
            return false;
        }
        let ended = self.0.clock.wall_micros();
        if let Some(span) = state.open.remove(&id.into_u64()) {
            if state.ended.len() < WAITING_MAX {
                let span = span.json(ended);
                state.ended.push(span);
            } else {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use anabranch_env::Env;
    use tracing::{Level, span};

    use super::*;

    fn spans() -> Spans {
        let env = Env::os();
        Spans::new("shop", Resource::named("orders"), env.clock, env.rng)
    }

    fn taken(spans: &Spans) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&spans.take().unwrap()).unwrap();
        let resource = &body["resourceSpans"][0];
        let name = &resource["resource"]["attributes"][0];
        assert_eq!(name["key"], "service.name");
        assert_eq!(name["value"]["stringValue"], "orders");
        resource["scopeSpans"][0]["spans"]
            .as_array()
            .unwrap()
            .clone()
    }

    #[test]
    fn a_span_says_its_trace_its_parent_its_kind_and_its_fields() {
        let all = spans();
        tracing::subscriber::with_default(all.clone(), || {
            let outside = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let command = span!(target: "shop", Level::INFO, "command",
                otel.name = "send order", otel.kind = "producer",
                messaging.batch.message_count = 3u64, anabranch.traceparent = outside,
                error.type = tracing::field::Empty);
            let below = command.in_scope(|| span!(target: "shop", Level::INFO, "decide"));
            let other = span!(target: "shop", parent: None, Level::INFO, "append");
            other.follows_from(command.id());
            drop(span!(target: "elsewhere", Level::INFO, "nobody's"));
            command.record("error.type", "conflict");
            drop((below, other, command.clone(), command));
        });
        let spans = taken(&all);
        let [below, other, command] = &spans[..] else {
            panic!("{spans:?}");
        };
        assert_eq!(command["name"], "send order");
        assert_eq!(command["kind"], 4);
        assert_eq!(command["traceId"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(command["parentSpanId"], "b7ad6b7169203331");
        assert_eq!(command["status"]["code"], 2);
        let fields = command["attributes"].as_array().unwrap();
        let field =
            |name: &str| &fields.iter().find(|field| field["key"] == name).unwrap()["value"];
        assert_eq!(field("messaging.batch.message_count")["intValue"], "3");
        assert_eq!(field("error.type")["stringValue"], "conflict");
        assert_eq!(below["parentSpanId"], command["spanId"]);
        assert_eq!(below["traceId"], command["traceId"]);
        assert_eq!(other["parentSpanId"], "");
        assert_ne!(other["traceId"], command["traceId"]);
        assert_eq!(other["links"][0]["spanId"], command["spanId"]);
        assert!(all.take().is_none());
    }

    #[test]
    fn where_nobody_takes_spans_away_further_ones_are_dropped_and_counted() {
        let all = spans();
        tracing::subscriber::with_default(all.clone(), || {
            for _ in 0..WAITING_MAX + 3 {
                drop(span!(target: "shop", Level::INFO, "command"));
            }
        });
        assert_eq!(all.dropped(), 3);
        assert_eq!(taken(&all).len(), TAKEN_MAX);
    }
}
