use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anabranch_domain::{Process, Saga};
use anabranch_env::SplitMix64;
use anabranch_log::{Log, ReadMode};
use anabranch_model::{EventType, Filter};
use anabranch_runtime::{Accepted, SendError, Service};
use tokio::sync::oneshot;

use super::config::{HostedConfig, Sagas};
use super::shop::{self, Checkout, Dispatching, Ledger, LedgerCommand, Line, Order, OrderCommand};
use crate::drive::Client;
use crate::error::BenchError;

fn rng_of(config: &HostedConfig, client: usize) -> SplitMix64 {
    SplitMix64::new(config.seed ^ (client as u64).wrapping_mul(0x9e37_79b9))
}

fn refused(error: SendError) -> BenchError {
    BenchError::Void(format!("a command was not done: {error}"))
}

/// Sends commands to entities and waits until what they record is durable.
pub struct EntityClient {
    service: Arc<Service>,
    rng: SplitMix64,
    entities: u64,
    text: String,
    next: Option<(String, LedgerCommand)>,
}

pub fn entity_clients(
    config: &HostedConfig,
    service: &Arc<Service>,
    entities: u64,
) -> Vec<EntityClient> {
    let text = "x".repeat(config.size - shop::NOTED_BYTES);
    let client = |number| EntityClient {
        service: service.clone(),
        rng: rng_of(config, number),
        entities,
        text: text.clone(),
        next: None,
    };
    (0..config.clients).map(client).collect()
}

impl Client for EntityClient {
    fn prepare(&mut self) {
        let key = self.rng.below(self.entities).to_string();
        let text = self.text.clone();
        self.next = Some((key, LedgerCommand::Note { text }));
    }

    async fn append(&mut self) -> Result<(), BenchError> {
        let Some((key, command)) = self.next.take() else {
            return Ok(());
        };
        let sent = self.service.entity::<Ledger>(key).send(command).await;
        recorded_one(&sent.map_err(refused)?)
    }
}

fn recorded_one(accepted: &Accepted) -> Result<(), BenchError> {
    if accepted.repeated || accepted.events.len() != 1 {
        return Err(BenchError::Void(format!(
            "a new command was answered with {} events{}",
            accepted.events.len(),
            if accepted.repeated { " of before" } else { "" }
        )));
    }
    Ok(())
}

/// Who waits for which order, and for how many more events.
type Ends = Arc<Mutex<BTreeMap<String, (usize, oneshot::Sender<()>)>>>;

/// Places orders and waits until their sagas, and processes, have ended.
pub struct SagaClient {
    service: Arc<Service>,
    rng: SplitMix64,
    work: Sagas,
    number: usize,
    placed: u64,
    ends: Ends,
    next: Option<(String, OrderCommand)>,
}

pub async fn saga_clients(
    config: &HostedConfig,
    service: &Arc<Service>,
    log: &Arc<dyn Log>,
    work: Sagas,
) -> Result<Vec<SagaClient>, BenchError> {
    let ends = Ends::default();
    let head = log.head().await?;
    let named = |name| EventType::new(name).map_err(|e| BenchError::Invalid(e.to_string()));
    let filter = Filter {
        categories: vec![Checkout::NAME.to_owned(), Dispatching::NAME.to_owned()],
        types: vec![named("SagaCompleted")?, named("Received")?],
        ..Filter::all()
    };
    let mut news = log.read(&head, filter, ReadMode::Follow);
    let told = Arc::downgrade(&ends);
    // Ends with the clients, or with the log.
    tokio::spawn(async move {
        while let Some(Ok(batch)) = news.next_batch().await {
            let Some(ends) = told.upgrade() else { return };
            let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
            for event in batch.iter().flatten() {
                let Some((left, _)) = ends.get_mut(event.key()) else {
                    continue;
                };
                *left -= 1;
                if *left == 0
                    && let Some((_, waits)) = ends.remove(event.key())
                {
                    // Who no longer waits does not want to know.
                    let _ = waits.send(());
                }
            }
        }
    });
    let client = |number| SagaClient {
        service: service.clone(),
        rng: rng_of(config, number),
        work,
        number,
        placed: 0,
        ends: ends.clone(),
        next: None,
    };
    Ok((0..config.clients).map(client).collect())
}

impl Client for SagaClient {
    fn prepare(&mut self) {
        let lines = (0..self.work.lines).map(|_| Line {
            product: self.rng.below(u64::from(self.work.products)) as u32,
            units: 1 + self.rng.below(12) as u32,
        });
        let place = OrderCommand::Place {
            lines: lines.collect(),
        };
        self.placed += 1;
        self.next = Some((format!("{}-{}", self.number, self.placed), place));
    }

    async fn append(&mut self) -> Result<(), BenchError> {
        let Some((key, place)) = self.next.take() else {
            return Ok(());
        };
        let (end, ended) = oneshot::channel();
        {
            let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            // The saga's end; of the process two events of the order, and each line's answer.
            let left = if self.work.dispatching {
                1 + 2 + self.work.lines
            } else {
                1
            };
            ends.insert(key.clone(), (left, end));
        }
        let sent = self.service.entity::<Order>(&key).send(place).await;
        recorded_one(&sent.map_err(refused)?)?;
        ended
            .await
            .map_err(|_| BenchError::Void(format!("the end of saga {key} was not seen")))
    }
}
