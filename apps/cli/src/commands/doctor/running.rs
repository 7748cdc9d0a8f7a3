//! Programs that run: the server of a log, and the services that have registered there.

use anabranch_server::client::Reply;
use anabranch_wire::{
    CopyState, LeaseState, Process, Registration, Service, ServiceCircuit, ServiceView, Version,
};

use super::check::Check;
use super::time;
use crate::commands::service::registered;
use crate::context::Context;
use crate::remote::Remote;

/// So many events behind is far.
const LAG_EVENTS: u64 = 10_000;

/// A program that answers.
pub struct Server<'a> {
    /// What it is called here.
    pub name: String,
    /// How to ask it.
    pub remote: &'a Remote,
}

/// Everything that the server of a log says of itself, and the services that have registered there.
pub async fn all_of(remote: &Remote, context: &Context) -> Vec<Check> {
    let server = Server {
        name: format!("the server at {}", remote.address()),
        remote,
    };
    let Ok(mut checks) = server.itself(context).await else {
        return vec![silent(&server.name)];
    };
    checks.extend(server.services().await);
    let Ok(registered) = registered(remote).await else {
        return checks;
    };
    let here = env!("CARGO_PKG_VERSION");
    for service in &registered {
        checks.push(lease(service));
        if service.program == "anabranch" && service.version != here {
            checks.push(version(
                &format!("service {}", service.name),
                &service.version,
            ));
        }
        if service.state == LeaseState::Held && !service.address.is_empty() {
            checks.extend(of_registered(remote, service, context).await);
        }
    }
    checks
}

/// Who registers says where it is, so that may be anywhere.
async fn of_registered(log: &Remote, service: &Registration, context: &Context) -> Vec<Check> {
    let name = format!("service {} at {}", service.name, service.address);
    let Ok(remote) = log.named_by_others(&service.address, context) else {
        return vec![silent(&name)];
    };
    let server = Server {
        name: name.clone(),
        remote: &remote,
    };
    match server.itself(context).await {
        Ok(mut checks) => {
            checks.extend(server.services().await);
            checks
        }
        Err(()) => vec![silent(&name)],
    }
}

fn silent(name: &str) -> Check {
    Check::fault(
        "server",
        format!("{name} does not answer"),
        "see that it runs, and that this machine reaches it",
    )
}

impl Server<'_> {
    /// Whether it is ready, which version it has, what its clock says. `Err`: it does not answer.
    async fn itself(&self, context: &Context) -> Result<Vec<Check>, ()> {
        let ready = self.remote.reply("/readyz?verbose").await.map_err(drop)?;
        let mut checks = vec![readiness(&self.name, &ready, self.remote.is_shown_key())];
        let now = context.env.clock.wall_micros();
        let said = ready.header("date");
        checks.extend(said.and_then(|said| time::beside_other(now, said, &self.name)));
        if let Ok(metrics) = self.remote.reply("/metrics").await {
            let text = String::from_utf8_lossy(&metrics.body).into_owned();
            checks.extend(certificate(&self.name, &text, now / 1_000_000));
        }
        if let Ok(answer) = self.remote.get::<Version>("/version").await {
            checks.push(version(&self.name, &answer.value.version));
        }
        Ok(checks)
    }

    /// How the services are that run there.
    async fn services(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Ok(views) = self.remote.get::<Vec<ServiceView>>("/operate/views").await {
            checks.extend(views.value.iter().filter_map(view));
        }
        if let Ok(processes) = self.remote.get::<Vec<Process>>("/operate/processes").await {
            checks.extend(processes.value.iter().map(process));
        }
        if let Ok(services) = self.remote.get::<Vec<Service>>("/operate/services").await {
            checks.extend(services.value.iter().filter_map(dead_letters));
        }
        let circuits = self.remote.get::<Vec<ServiceCircuit>>("/operate/circuits");
        if let Ok(circuits) = circuits.await {
            checks.extend(circuits.value.iter().filter_map(circuit));
        }
        checks
    }
}

fn readiness(name: &str, ready: &Reply, is_shown_key: bool) -> Check {
    if ready.status.is_success() {
        return Check::ok("server", format!("{name} is ready"));
    }
    if [401, 403].contains(&ready.status.as_u16()) {
        if !is_shown_key {
            return Check::warning(
                "server",
                format!("{name} asks who calls, and was shown no key"),
                "name the file of a key in ANABRANCH_TOKEN_FILE; one is shown to programs on the machine of the log's server alone, so look at others where they run",
            );
        }
        return Check::fault(
            "server",
            format!("{name} does not know who asks"),
            "name the file of a key in ANABRANCH_TOKEN_FILE",
        );
    }
    let text = String::from_utf8_lossy(&ready.body);
    let failed = text.lines().filter_map(|line| line.strip_prefix("[-]"));
    let failed: Vec<_> = failed.collect();
    Check::fault(
        "server",
        format!("{name} is not ready: {}", failed.join("; ")),
        "see what it says on its standard error; a log that refuses appends has no disk left, or its files are gone",
    )
}

/// The figure that says when the certificate of a server ends, in seconds since 1970.
const CERTIFICATE_ENDS: &str = "anabranch_certificate_not_after_seconds{} ";

/// Of a certificate that ends sooner it is said.
const DAYS_LEFT: u64 = 14;

/// How long the certificate is good that a server shows, if it shows one.
fn certificate(name: &str, metrics: &str, now: u64) -> Option<Check> {
    let mut lines = metrics.lines();
    let ends = lines.find_map(|line| line.strip_prefix(CERTIFICATE_ENDS))?;
    let ends: u64 = ends.trim().parse().ok()?;
    let remedy = "put a new certificate and its key in the place of the old files; the server takes them without a restart";
    let days = ends.saturating_sub(now) / 86_400;
    let what = format!("the certificate of {name} ends in {days} days");
    Some(match (ends <= now, days < DAYS_LEFT) {
        (true, _) => Check::fault(
            "certificate",
            format!("the certificate of {name} has ended"),
            remedy,
        ),
        (false, true) => Check::warning("certificate", what, remedy),
        (false, false) => Check::ok("certificate", what),
    })
}

fn version(name: &str, theirs: &str) -> Check {
    let here = env!("CARGO_PKG_VERSION");
    if theirs == here {
        return Check::ok(
            "versions",
            format!("{name} has version {theirs}, as this program"),
        );
    }
    Check::warning(
        "versions",
        format!("{name} has version {theirs}, this program {here}"),
        "deploy the same version everywhere; one version apart works both ways",
    )
}

fn lease(service: &Registration) -> Check {
    let name = &service.name;
    let owns = match service.owns.is_empty() {
        true => "nothing".to_owned(),
        false => service.owns.join(", "),
    };
    match service.state {
        LeaseState::Held => Check::ok("ownership", format!("{name} owns {owns}")),
        LeaseState::Released => Check::warning(
            "ownership",
            format!("{name} has ended in order, and nobody appends to {owns} meanwhile"),
            format!("start it; if it will not come back, `anabranch service forget {name}`"),
        ),
        LeaseState::Expired => Check::fault(
            "ownership",
            format!("{name} has not renewed its lease: nobody appends to {owns}"),
            format!(
                "see that it runs and reaches the log's server; if it will not come back, `anabranch service forget {name}`"
            ),
        ),
        LeaseState::Taken => Check::fault(
            "ownership",
            format!(
                "{} has claimed what {name} owned",
                service.taken_by.as_deref().unwrap_or("another service")
            ),
            "let one of the two own the category",
        ),
    }
}

fn view(service: &ServiceView) -> Option<Check> {
    let view = &service.view;
    let name = format!("view {} of {}", view.name, service.service);
    let copy = view.serving.as_ref()?;
    let behind = format!("{} events behind", copy.lag_events);
    Some(match copy.state {
        CopyState::Stopped | CopyState::Failing => Check::fault(
            "lag",
            format!(
                "{name} is {}, {behind}: {}",
                copy.state.name(),
                copy.reason.as_deref().unwrap_or("it does not say why")
            ),
            format!("mend the cause, then `anabranch view retry {}`", view.name),
        ),
        _ if copy.lag_events > LAG_EVENTS => Check::warning(
            "lag",
            format!("{name} is {behind}"),
            "give it time after a rebuild; else see `anabranch service diagnostics`",
        ),
        _ => Check::ok("lag", format!("{name} is {behind}")),
    })
}

fn process(process: &Process) -> Check {
    let name = format!("process {} of {}", process.name, process.service);
    let show = format!("see `anabranch process show {}`", process.name);
    if let Some(reason) = &process.stopped {
        let remedy = format!(
            "mend the cause; `anabranch process skip {}` passes over the event",
            process.name
        );
        return Check::fault("lag", format!("{name} has stopped: {reason}"), remedy);
    }
    if process.need_a_person > 0 {
        let what = format!("{} of {name} need a person", process.need_a_person);
        return Check::warning("lag", what, show);
    }
    let what = format!("{name} is {} events behind", process.lag_events);
    match process.lag_events > LAG_EVENTS {
        true => Check::warning("lag", what, show),
        false => Check::ok("lag", what),
    }
}

fn dead_letters(service: &Service) -> Option<Check> {
    (service.dead_letters > 0).then(|| {
        Check::warning(
            "dead letters",
            format!(
                "{} of {} wait for a person",
                service.dead_letters, service.name
            ),
            "see `anabranch dead-letter ls`",
        )
    })
}

fn circuit(circuit: &ServiceCircuit) -> Option<Check> {
    let open = circuit.circuit.state == anabranch_wire::CircuitState::Open;
    open.then(|| {
        Check::warning(
            "third parties",
            format!(
                "{} is not called by {} because it only fails: {}",
                circuit.circuit.effect,
                circuit.service,
                circuit.circuit.last_error.as_deref().unwrap_or("")
            ),
            "see `anabranch service circuits`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::State;

    #[test]
    fn a_lease_that_has_expired_is_a_fault_and_says_how_to_mend_it() {
        let of = |state: &str| {
            let text = format!(
                r#"{{"name":"orders","address":"","program":"p","version":"1","owns":["order"],
                    "views":[],"reads":[],"sends":[],"lease":1,"state":"{state}"}}"#
            );
            lease(&serde_json::from_str(&text).unwrap())
        };
        assert_eq!(of("held").state, State::Ok);
        assert_eq!(of("released").state, State::Warning);
        let expired = of("expired");
        assert_eq!(expired.state, State::Fault);
        assert!(expired.remedy.unwrap().contains("service forget orders"));
        assert_eq!(of("taken").state, State::Fault);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_a_warning_and_one_that_has_ended_a_fault() {
        let state = |ends: u64| {
            let metrics = format!("anabranch_insecure{{}} 0\n{CERTIFICATE_ENDS}{ends}\n");
            certificate("x", &metrics, 1_000).map(|check| check.state)
        };
        assert_eq!(state(999), Some(State::Fault));
        assert_eq!(state(1_000 + 86_400), Some(State::Warning));
        assert_eq!(state(1_000 + 90 * 86_400), Some(State::Ok));
        assert_eq!(certificate("x", "anabranch_insecure{} 0\n", 0), None);
    }

    #[test]
    fn another_version_is_told() {
        assert_eq!(version("x", env!("CARGO_PKG_VERSION")).state, State::Ok);
        assert_eq!(version("x", "0.0.1").state, State::Warning);
    }
}
