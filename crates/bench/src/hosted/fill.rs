//! Logs with events of services in them, written without a service.

use std::sync::Arc;

use anabranch_env::Env;
use anabranch_log::{Append, Log};
use anabranch_model::{CommandId, EventType, Meta, NewEvent, StreamId};

use crate::error::BenchError;

/// How many events are written at once, about.
const BATCH: usize = 1000;

/// Writes events as a service does, each as if by a command of its own.
pub struct Filler {
    log: Arc<dyn Log>,
    event_type: EventType,
    batch: Vec<NewEvent>,
    env: Env,
}

impl Filler {
    /// For events of this type.
    pub fn new(log: &Arc<dyn Log>, event_type: &str) -> Result<Self, BenchError> {
        Ok(Self {
            log: log.clone(),
            event_type: EventType::new(event_type).map_err(|e| invalid(&e))?,
            batch: Vec::new(),
            env: Env::os(),
        })
    }

    /// Adds an event.
    pub async fn event(
        &mut self,
        category: &str,
        key: &str,
        data: Vec<u8>,
    ) -> Result<(), BenchError> {
        let stream = StreamId::of(category, key).map_err(|e| invalid(&e))?;
        let millis = self.env.clock.wall_micros() / 1000;
        let command = CommandId::v7(millis, self.env.rng.next_u128());
        let id = command.event_id(0);
        let mut event = NewEvent::new(id, stream, self.event_type.clone(), data);
        event.meta = Some(Arc::new(Meta {
            source: Some("bench".to_owned()),
            causation_id: Some(command.to_string()),
            ..Meta::default()
        }));
        self.batch.push(event);
        if self.batch.len() >= BATCH {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub async fn finish(mut self) -> Result<(), BenchError> {
        self.write().await
    }

    async fn write(&mut self) -> Result<(), BenchError> {
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            self.log.append(Append::events(batch)).await?;
        }
        Ok(())
    }
}

fn invalid(error: &impl std::fmt::Display) -> BenchError {
    BenchError::Invalid(error.to_string())
}
