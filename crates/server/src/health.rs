//! Whether the server lives, whether it is ready, what it is, and its figures: for whoever
//! supervises it. They are answered while everything else is busy.

use std::time::Duration;

use anabranch_access::{Listening, Verb};
use anabranch_rpc::PROTOCOL;
use anabranch_runtime::Service;
use anabranch_wire as wire;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::{Either, select};

use crate::answer::{Answer, reply};
use crate::convert;
use crate::entrance::ends;
use crate::policy::{Needs, Routes};
use crate::read::Parameters;
use crate::seal::log_name;
use crate::shared::Shared;

/// How long the log may take to say where its head is.
const LOG_WITHIN: Duration = Duration::from_secs(1);

pub fn routes() -> Routes {
    let alive = async || text(StatusCode::OK, "ok\n".to_owned());
    Routes::default()
        .get("/livez", Needs::Public, alive)
        .get("/readyz", Needs::Known, ready)
        .get("/version", Needs::Known, version)
        .get("/metrics", Needs::Of(Verb::Operate, "metrics"), metrics)
}

fn text(status: StatusCode, body: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}

async fn version(State(shared): State<Shared>) -> Answer {
    reply(&wire::Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        log: log_name(&shared.seal),
    })
}

/// Ready is who answers now. A view or process that has stopped does not make the server unready:
/// taking it away mends nothing.
async fn ready(State(shared): State<Shared>, mut parameters: Parameters) -> Answer {
    let verbose = parameters.take("verbose")?.is_some();
    parameters.finish()?;
    let checks = readiness(&shared).await;
    let is_ready = checks.iter().all(|(_, check)| check.is_ok());
    let mut body = String::new();
    for (name, check) in &checks {
        match check {
            Ok(()) if verbose => body += &format!("[+]{name} ok\n"),
            Ok(()) => {}
            Err(reason) => body += &format!("[-]{name} failed: {reason}\n"),
        }
    }
    if verbose {
        let certificate = shared.certificate.as_deref();
        if let Some(words) = certificate.and_then(|shown| ends(shown, &shared.time)) {
            body += &format!("[!]{words}\n");
        }
        for service in shared.fleet.services() {
            for told in stopped(&service).await {
                body += &format!("[!]{}: {told}\n", service.name());
            }
        }
    }
    let (status, last) = match (is_ready, verbose) {
        (true, true) => (StatusCode::OK, "readyz check passed\n"),
        (true, false) => (StatusCode::OK, "ok\n"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "readyz check failed\n"),
    };
    Ok(text(status, body + last))
}

/// What has to be well for the server to be ready, and how it is.
pub async fn readiness(shared: &Shared) -> Vec<(&'static str, Result<(), String>)> {
    let mut checks = vec![("log", log(shared).await)];
    if *shared.stopping.borrow() {
        checks.push(("stopping", Err("the server is about to end".to_owned())));
    }
    checks
}

/// Whether the log answers, and would take an append.
async fn log(shared: &Shared) -> Result<(), String> {
    let late = Box::pin(shared.time.sleep(LOG_WITHIN));
    match select(shared.log.head(), late).await {
        Either::Left((Ok(_), _)) => {
            let takes = shared.log.takes_appends();
            takes.map_err(|error| error.to_string())
        }
        Either::Left((Err(error), _)) => Err(error.to_string()),
        Either::Right(_) => Err(format!("no answer within {LOG_WITHIN:?}")),
    }
}

/// What of a service has stopped and waits for a person.
async fn stopped(service: &Service) -> Vec<String> {
    let mut told = Vec::new();
    for (name, view) in service.views() {
        let view = convert::view(&view.status().await);
        let state = view.serving.map(|copy| copy.state);
        if let Some(state @ (wire::CopyState::Stopped | wire::CopyState::Failing)) = state {
            told.push(format!("view {name} is {}", state.name()));
        }
    }
    for (name, process) in service.processes() {
        if let Some(reason) = process.stopped() {
            told.push(format!("process {name} has stopped: {reason}"));
        }
    }
    told
}

/// In the text format of Prometheus.
async fn metrics(State(shared): State<Shared>) -> Answer {
    let mut out = Metrics::default();
    let version = env!("CARGO_PKG_VERSION");
    out.gauge(
        "anabranch_build_info",
        "What runs; always 1.",
        [("version", version)],
        1,
    );
    let help = "1 if others than this machine reach the server and something protects it not.";
    let is_insecure = shared.listening == Listening::Insecure;
    out.gauge("anabranch_insecure", help, [], u64::from(is_insecure));
    let certificate = shared.certificate.as_ref();
    if let Some(end) = certificate.and_then(|shown| shown.not_after()) {
        let help = "When the certificate that is shown ends, in seconds since 1970.";
        out.gauge("anabranch_certificate_not_after_seconds", help, [], end);
    }
    if let Ok(head) = shared.log.head().await {
        for (partition, count) in head.iter() {
            let partition = partition.0.to_string();
            let labels = [("partition", &*partition)];
            out.gauge("anabranch_log_head", "Events of the log.", labels, count);
        }
    }
    for (lane, busy) in shared.lanes.busy() {
        let help = "Requests that are being answered.";
        out.gauge(
            "anabranch_requests_in_progress",
            help,
            [("kind", lane)],
            busy as u64,
        );
    }
    for service in shared.fleet.services() {
        of_service(&mut out, &service).await;
    }
    let headers = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((headers, out.finish()).into_response())
}

async fn of_service(out: &mut Metrics, service: &Service) {
    let name = service.name();
    let of = [("service", name)];
    let help = "Commands and calls that are sent and not answered.";
    out.gauge("anabranch_under_way", help, of, service.under_way() as u64);
    let help = "What could not be delivered and waits for a person.";
    out.gauge(
        "anabranch_dead_letters",
        help,
        of,
        service.dead_letters().len() as u64,
    );
    for category in service.categories() {
        let Ok(entity) = service.any_entity(category) else {
            continue;
        };
        let (live, bytes) = entity.memory();
        let of = [("service", name), ("category", category)];
        out.gauge(
            "anabranch_entities_in_memory",
            "Entities in memory.",
            of,
            live as u64,
        );
        let help = "Bytes that their states take, about.";
        out.gauge("anabranch_entities_memory_bytes", help, of, bytes as u64);
    }
    for (view, host) in service.views() {
        let status = convert::view(&host.status().await);
        let of = [("service", name), ("view", view)];
        if let Some(copy) = status.serving {
            let help = "Events of the log that the view has not looked at.";
            out.gauge("anabranch_view_lag_events", help, of, copy.lag_events);
            let help = "Streams that the view has set aside.";
            out.gauge(
                "anabranch_view_parked_streams",
                help,
                of,
                copy.parked.len() as u64,
            );
            let is_well = matches!(
                copy.state,
                wire::CopyState::CatchingUp | wire::CopyState::CaughtUp
            );
            let help = "1 while the view takes events in, 0 when it has stopped or fails.";
            out.gauge("anabranch_view_up", help, of, u64::from(is_well));
        }
    }
    for (process, host) in service.processes() {
        let of = [("service", name), ("process", process)];
        let behind = convert::behind(&service.head(), &host.consumed());
        let help = "Events of the log that the process has not looked at.";
        out.gauge("anabranch_process_lag_events", help, of, behind);
        let help = "1 while the process goes on, 0 when it has stopped.";
        out.gauge(
            "anabranch_process_up",
            help,
            of,
            u64::from(host.stopped().is_none()),
        );
    }
    for circuit in service.circuits() {
        let circuit = convert::circuit(&circuit);
        let of = [("service", name), ("effect", circuit.effect.as_str())];
        let help = "1 while a third party is not called because it only fails.";
        let is_open = circuit.state == wire::CircuitState::Open;
        out.gauge("anabranch_circuit_open", help, of, u64::from(is_open));
    }
}

/// Figures by their names: all of one name stand together, as the format asks.
#[derive(Default)]
struct Metrics {
    families: Vec<(&'static str, String)>,
}

impl Metrics {
    fn gauge<const N: usize>(
        &mut self,
        name: &'static str,
        help: &str,
        labels: [(&str, &str); N],
        value: u64,
    ) {
        let at = self.families.iter().position(|(known, _)| *known == name);
        let at = at.unwrap_or_else(|| {
            let head = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
            self.families.push((name, head));
            self.families.len() - 1
        });
        let text = &mut self.families[at].1;
        let labels = labels.map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
        *text += &format!("{name}{{{}}} {value}\n", labels.join(","));
    }

    fn finish(self) -> String {
        self.families.into_iter().map(|(_, text)| text).collect()
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_name_stand_together_below_one_heading() {
        let mut out = Metrics::default();
        out.gauge("a", "First.", [("x", "1")], 1);
        out.gauge("b", "Second.", [], 2);
        out.gauge("a", "First.", [("x", "two \"words\"")], 3);
        let expected = "# HELP a First.\n# TYPE a gauge\na{x=\"1\"} 1\na{x=\"two \\\"words\\\"\"} 3\n\
                        # HELP b Second.\n# TYPE b gauge\nb{} 2\n";
        assert_eq!(out.finish(), expected);
    }
}
