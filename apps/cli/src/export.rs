//! Sends spans and figures to a collector of OpenTelemetry, if the settings name one.

use std::sync::OnceLock;
use std::time::Duration;

use anabranch_otlp::{METRICS, Resource, Spans, TRACES, metrics};
use anabranch_runtime::{TELEMETRY_TARGET, Time};
use anabranch_server::client::{Client, Method};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::credential;
use crate::failure::Failure;
use crate::output::note;
use crate::remote::Remote;

/// How often is sent what there is.
const EVERY: Duration = Duration::from_secs(5);

/// How long the last sending may take.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// The spans of this process, if anybody wants them.
static SPANS: OnceLock<(Spans, Resource)> = OnceLock::new();

/// Keeps the spans of this process from now on, as those of this service.
pub fn keep_spans(service: &str, env: &anabranch::env::Env) {
    let resource = Resource::named(service);
    let (clock, rng) = (env.clock.clone(), env.rng.clone());
    let spans = Spans::new(TELEMETRY_TARGET, resource.clone(), clock, rng);
    // Who keeps them already goes on.
    if spans.install() {
        drop(SPANS.set((spans, resource)));
    }
}

/// Goes on until it is ended.
pub struct Export {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Begins to send, where the server of this process is; `None`: nobody wants it.
pub fn begin(own: &str, context: &Context) -> Result<Option<Export>, Failure> {
    let (Some(url), Some((spans, resource))) = (&context.settings.otlp, SPANS.get()) else {
        return Ok(None);
    };
    let time = Time::of(&context.env);
    let collector = Client::new(url, time.clone());
    let collector = collector.map_err(|error| Failure::usage(format!("otlp: {error}")))?;
    let mut sender = Sender {
        collector: collector.with_trust(credential::trust(context)?),
        own: Remote::at(own, context)?,
        clock: context.env.clock.clone(),
        spans: spans.clone(),
        resource: resource.clone(),
        has_failed: false,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move { sender.send_until(stopped, time).await });
    Ok(Some(Export { stop, task }))
}

impl Export {
    /// Sends what is left, and ends. The server of this process still answers.
    pub async fn end(export: Option<Self>) {
        let Some(Self { stop, task }) = export else {
            return;
        };
        drop(stop);
        // What has panicked sends nothing more.
        drop(task.await);
    }
}

struct Sender {
    collector: Client,
    own: Remote,
    clock: std::sync::Arc<dyn anabranch::env::Clock>,
    spans: Spans,
    resource: Resource,
    has_failed: bool,
}

impl Sender {
    /// Sends again and again, and once more at the end, whatever is being waited for then.
    async fn send_until(&mut self, stopped: oneshot::Receiver<()>, time: Time) {
        let rounds = async {
            loop {
                time.sleep(EVERY).await;
                self.send_all().await;
            }
        };
        tokio::select! {
            () = rounds => {}
            // Nothing is ever sent: that it is dropped is the end.
            _ = stopped => {}
        }
        tokio::select! {
            () = self.send_all() => {}
            () = time.sleep(LAST_WITHIN) => {}
        }
    }

    async fn send_all(&mut self) {
        while let Some(body) = self.spans.take() {
            if !self.send(TRACES, body).await {
                break;
            }
        }
        // A server that asks who calls, and does not know this program, keeps its figures.
        if let Ok(reply) = self.own.reply("/metrics").await {
            let said = String::from_utf8_lossy(&reply.body);
            if let Some(body) = metrics(&self.resource, &said, self.clock.wall_micros()) {
                self.send(METRICS, body).await;
            }
        }
    }

    /// Whether it was taken. The first time that it is not is told, and then when it is again.
    async fn send(&mut self, path: &str, body: Vec<u8>) -> bool {
        let sent = self.collector.send(Method::Post, path, &[], body.into());
        let failed = match sent.await {
            Ok(reply) if reply.status.is_success() => None,
            Ok(reply) => Some(format!("it answers with status {}", reply.status.as_u16())),
            Err(error) => Some(error.to_string()),
        };
        match &failed {
            Some(why) if !self.has_failed => note(&format!(
                "WARNING: spans and figures are dropped, because the collector {} does not take them: {why}",
                self.collector.address()
            )),
            None if self.has_failed => note(&format!(
                "the collector {} takes spans and figures again; {} spans were dropped",
                self.collector.address(),
                self.spans.dropped()
            )),
            _ => {}
        }
        self.has_failed = failed.is_some();
        !self.has_failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use anabranch::env::Env;
    use anabranch_runtime::ManualTime;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_end_does_not_wait_for_somebody_who_is_silent() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let env = Env::os();
        let clock = ManualTime::new();
        let time = Time::manual(&clock, env.rng.clone());
        let context = Context {
            settings: Settings::default(),
            env: env.clone(),
        };
        let resource = Resource::named("test");
        let (wall, rng) = (env.clock.clone(), env.rng.clone());
        let mut sender = Sender {
            collector: Client::new(&url, time.clone()).unwrap(),
            own: Remote::at(&url, &context).unwrap(),
            clock: env.clock.clone(),
            spans: Spans::new(TELEMETRY_TARGET, resource.clone(), wall, rng),
            resource,
            has_failed: false,
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move { sender.send_until(stopped, time).await });
        tokio::task::yield_now().await;
        clock.advance(EVERY);
        // It has asked, and nobody answers.
        let (_asked, _) = silent.accept().await.unwrap();
        drop(stop);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        clock.advance(LAST_WITHIN);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(task.is_finished());
    }
}
