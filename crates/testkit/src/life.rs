//! One life of one service: its way to the log and to the other services, both cut when it dies.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anabranch_domain::CommandEnvelope;
use anabranch_env::Clock;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Layout, Log, Order,
    ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, Filter, StreamId};
use anabranch_runtime::port::{Problem, Reply, Request};
use anabranch_runtime::{Delivered, Port, SendError, Sleeper};

use crate::faults::CrashPoint;
use crate::message::Message;
use crate::sky::Sky;

/// How long a sender waits for an answer that was lost.
pub const LOST_AFTER: Duration = Duration::from_secs(5);

/// A service between two crashes.
pub struct Life {
    pub service: String,
    sky: Arc<Sky>,
    is_over: AtomicBool,
}

impl Life {
    pub fn new(service: &str, sky: Arc<Sky>) -> Arc<Self> {
        Arc::new(Self {
            service: service.to_owned(),
            sky,
            is_over: AtomicBool::new(false),
        })
    }

    /// From now on nothing of it reaches the log or another service.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Does not come back if the service has crashed.
    async fn goes_on(&self) {
        if self.is_over.load(Ordering::Acquire) {
            pending::<()>().await;
        }
    }

    async fn crash_if_due(&self, point: CrashPoint, events: &[&str]) {
        if self.sky.crash_is_due(&self.service, point, events) {
            self.end();
            self.sky.note(format!(
                "{} crashes, {point:?} {}",
                self.service,
                events.join(", ")
            ));
        }
        self.goes_on().await;
    }
}

/// The log, as one life of a service reaches it.
pub struct LifeLog {
    pub inner: Arc<dyn Log>,
    pub life: Arc<Life>,
}

impl Log for LifeLog {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(async move {
            let types: Vec<String> = append
                .events
                .iter()
                .map(|event| event.event_type.as_str().to_owned())
                .collect();
            let types: Vec<&str> = types.iter().map(String::as_str).collect();
            self.life
                .crash_if_due(CrashPoint::BeforeAppend, &types)
                .await;
            let appended = self.inner.append(append).await;
            if appended.is_ok() {
                self.life
                    .crash_if_due(CrashPoint::AfterAppend, &types)
                    .await;
            }
            appended
        })
    }

    fn layout(&self) -> Layout {
        self.inner.layout()
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.inner.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.inner.read(from, filter, mode)
    }

    fn find(
        &self,
        id: anabranch_model::EventId,
    ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
        self.inner.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.inner.head()
    }
}

/// The way to the other services, as one life of a service reaches them.
pub struct LifePort {
    pub inner: Arc<dyn Port>,
    pub life: Arc<Life>,
}

impl Port for LifePort {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, Problem>> {
        Box::pin(async move {
            let sky = &self.life.sky;
            let reply = match request {
                Request::Command(dispatch) => {
                    self.life.goes_on().await;
                    let delivered = send(&self.inner, sky, dispatch.command).await?;
                    return Ok(Reply::Delivered(delivered));
                }
                Request::Answer(reply) => *reply,
                // Neither a question nor what may be forgotten changes anything.
                other => return self.inner.call(other).await,
            };
            self.life.goes_on().await;
            let Some(times) = sky.carry(&Message::Reply(reply.clone())).await else {
                return Err(lost(sky).await.into());
            };
            for _ in 1..times {
                self.inner.answer(reply.clone()).await?;
            }
            self.inner.answer(reply).await?;
            Ok(Reply::Heard)
        })
    }
}

/// Sends a command through the sky, and its answer back.
pub async fn send(
    port: &Arc<dyn Port>,
    sky: &Sky,
    command: CommandEnvelope,
) -> Result<Delivered, SendError> {
    let Some(times) = sky.carry(&Message::Command(command.clone())).await else {
        return Err(lost(sky).await);
    };
    for _ in 1..times {
        // Nobody waits for the answer to the first of two copies.
        drop(port.deliver(command.clone()).await);
    }
    let answer = port.deliver(command.clone()).await;
    match sky.carry(&Message::Answer(command)).await {
        Some(_) => answer,
        None => Err(lost(sky).await),
    }
}

async fn lost(sky: &Sky) -> SendError {
    let until = sky.time.monotonic() + LOST_AFTER;
    sky.time.sleep_until(until).await;
    SendError::Unknown {
        reason: format!("no answer within {LOST_AFTER:?}"),
    }
}
