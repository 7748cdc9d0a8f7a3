//! The services of the shop in processes of their own, as the demo sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch::log::BoxFuture;
use anabranch::model::{Cut, PartitionId};
use anabranch::runtime::{CircuitState, Port};
use anabranch_shop::floor::{Floor, Standing};
use anabranch_shop::shop::SERVICES;
use anabranch_wire as wire;
use futures_util::future::join_all;

use crate::neighbours::Neighbours;
use crate::up::Supervisor;

/// The services of the shop, each of which is asked how it stands.
pub struct SplitFloor {
    port: Arc<dyn Port>,
    neighbours: Arc<Neighbours>,
    supervisor: Arc<Supervisor>,
}

/// What one service says of itself.
struct Told {
    services: Vec<wire::Service>,
    processes: Vec<wire::Process>,
    views: Vec<wire::ServiceView>,
    circuits: Vec<wire::ServiceCircuit>,
}

impl SplitFloor {
    /// The services that are kept by `supervisor`.
    pub fn new(
        port: Arc<dyn Port>,
        neighbours: Arc<Neighbours>,
        supervisor: Arc<Supervisor>,
    ) -> Self {
        Self {
            port,
            neighbours,
            supervisor,
        }
    }

    async fn told(&self, name: &str) -> Option<Told> {
        let ask = &self.neighbours;
        Some(Told {
            services: ask.ask(name, "/operate/services").await?,
            processes: ask.ask(name, "/operate/processes").await?,
            views: ask.ask(name, "/operate/views").await?,
            circuits: ask.ask(name, "/operate/circuits").await?,
        })
    }
}

fn count_in(told: &Told, standing: &mut Standing) {
    standing.under_way += told.services.iter().map(|s| s.under_way).sum::<u64>();
    for process in &told.processes {
        standing.consumed.push(cut(&process.consumed));
        if let Some(reason) = &process.stopped {
            let name = &process.name;
            let halted = format!("{name} has stopped consuming before {reason}");
            standing.halted.push(halted);
        }
    }
    for wire::ServiceView { view, .. } in &told.views {
        let Some(copy) = &view.serving else {
            standing.consumed.push(Cut::start());
            continue;
        };
        standing.lag = standing.lag.max(copy.lag_events);
        standing.consumed.push(cut(&copy.cut));
        if let Some(event) = &copy.event {
            let (name, position) = (&view.name, &event.position);
            let halted = format!(
                "view {name} has stopped before {position}: {}",
                event.reason
            );
            standing.halted.push(halted);
        }
    }
    for circuit in &told.circuits {
        standing.circuit(match circuit.circuit.state {
            wire::CircuitState::Closed => CircuitState::Closed,
            wire::CircuitState::Open => CircuitState::Open,
            wire::CircuitState::HalfOpen => CircuitState::HalfOpen,
        });
    }
}

/// What is no cut shows nothing.
fn cut(counts: &BTreeMap<String, u64>) -> Cut {
    let mut cut = Cut::start();
    for (partition, count) in counts {
        if let Ok(partition) = partition.parse() {
            cut.set(PartitionId(partition), *count);
        }
    }
    cut
}

impl Floor for SplitFloor {
    fn port(&self) -> Arc<dyn Port> {
        self.port.clone()
    }

    fn standing(&self) -> BoxFuture<'_, Standing> {
        Box::pin(async move {
            let mut standing = Standing::default();
            let asked = SERVICES.map(|name| async move { (name, self.told(name).await) });
            for (name, told) in join_all(asked).await {
                match told {
                    Some(told) => count_in(&told, &mut standing),
                    None => standing.missing.push(name.to_owned()),
                }
            }
            standing
        })
    }

    fn trouble(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let mut trouble = Vec::new();
            for name in SERVICES {
                let path = "/operate/processes";
                let processes: Option<Vec<wire::Process>> = self.neighbours.ask(name, path).await;
                let Some(processes) = processes else {
                    trouble.push(format!("{name} does not answer"));
                    continue;
                };
                for process in processes {
                    let (open, process_name) = (process.open, process.name);
                    if open > 0 {
                        trouble.push(format!("{open} of {process_name} are open"));
                    }
                    if let Some(reason) = process.stopped {
                        trouble.push(format!("{process_name} has stopped: {reason}"));
                    }
                }
                let path = "/operate/diagnostics";
                let notes: Option<Vec<wire::Diagnostic>> = self.neighbours.ask(name, path).await;
                if let Some(note) = notes.unwrap_or_default().last() {
                    trouble.push(format!("{name} says: {}", note.text));
                }
            }
            trouble
        })
    }

    fn crash(&self, chosen: u128) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.supervisor.kill(chosen);
            Ok(())
        })
    }
}
