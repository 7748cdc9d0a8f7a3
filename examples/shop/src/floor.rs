//! Where the services of a shop run, as the demo sees them: side by side in its own program, or
//! each in a process of its own.

use std::sync::Arc;

use anabranch::log::BoxFuture;
use anabranch::model::Cut;
use anabranch::runtime::view::CopyState;
use anabranch::runtime::{CircuitState, Port};

use crate::shop::{SERVICES, Shop};

/// The services of a shop.
pub trait Floor: Send + Sync + 'static {
    /// The way to all of them.
    fn port(&self) -> Arc<dyn Port>;

    /// How they stand.
    fn standing(&self) -> BoxFuture<'_, Standing>;

    /// What a person needs who finds that nothing happens: what is open, and what went wrong last.
    fn trouble(&self) -> BoxFuture<'_, Vec<String>>;

    /// Ends one of them as a crash would, chosen by this number, and sees to it that it is started
    /// again. The error is in words.
    fn crash(&self, chosen: u128) -> BoxFuture<'_, Result<(), String>>;
}

/// How the services of a shop stand.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Those that do not answer.
    pub missing: Vec<String>,
    /// How many commands and calls are under way.
    pub under_way: u64,
    /// How many events the view that is furthest behind has not seen.
    pub lag: u64,
    /// How the provider's circuits are, the worst of them.
    pub circuit: Option<CircuitState>,
    /// How far each view, process and saga is; nothing if it shows nothing yet.
    pub consumed: Vec<Cut>,
    /// What has stopped until a person acts.
    pub halted: Vec<String>,
}

impl Standing {
    /// Whether nothing is under way, and everybody has seen everything up to `head`.
    pub fn is_quiet(&self, head: &Cut) -> bool {
        self.missing.is_empty()
            && self.under_way == 0
            && self.consumed.iter().all(|consumed| consumed.covers(head))
    }

    /// Counts a circuit in.
    pub fn circuit(&mut self, state: CircuitState) {
        let severity = |state: &CircuitState| match state {
            CircuitState::Closed => 0,
            CircuitState::HalfOpen => 1,
            CircuitState::Open => 2,
        };
        self.circuit = self.circuit.into_iter().chain([state]).max_by_key(severity);
    }
}

impl Floor for Shop {
    fn port(&self) -> Arc<dyn Port> {
        self.fleet.port()
    }

    fn standing(&self) -> BoxFuture<'_, Standing> {
        Box::pin(async move {
            let mut standing = Standing::default();
            for service in self.fleet.services() {
                standing.under_way += service.under_way() as u64;
                for (name, process) in service.processes() {
                    standing.consumed.push(process.consumed());
                    if let Some(reason) = process.stopped() {
                        let halted = format!("{name} has stopped consuming before {reason}");
                        standing.halted.push(halted);
                    }
                }
                for (name, view) in service.views() {
                    let Some(copy) = view.status().await.serving else {
                        standing.consumed.push(Cut::start());
                        continue;
                    };
                    standing.lag = standing.lag.max(copy.lag_events);
                    standing.consumed.push(copy.cut);
                    if let CopyState::Stopped { event } = copy.state {
                        let halted = format!("view {name} has stopped before {event}");
                        standing.halted.push(halted);
                    }
                }
                for circuit in service.circuits() {
                    standing.circuit(circuit.state);
                }
            }
            standing
        })
    }

    fn trouble(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let mut trouble = Vec::new();
            for service in self.fleet.services() {
                for (process, any) in service.processes() {
                    let open = any.list().await;
                    if let Some(first) = open.first() {
                        let (count, first) = (open.len(), &first.stream);
                        trouble.push(format!(
                            "{count} of {process} are open, for example {first}"
                        ));
                    }
                    if let Some(reason) = any.stopped() {
                        trouble.push(format!("{process} has stopped: {reason}"));
                    }
                }
                if let Some(note) = service.diagnostics().last() {
                    trouble.push(format!("{} says: {}", service.name(), note.text));
                }
            }
            trouble
        })
    }

    fn crash(&self, chosen: u128) -> BoxFuture<'_, Result<(), String>> {
        let name = SERVICES[(chosen % SERVICES.len() as u128) as usize];
        Box::pin(async move {
            let started = self.start(name).await;
            started.map(drop).map_err(|error| error.to_string())
        })
    }
}
