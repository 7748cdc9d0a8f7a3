//! `anabranch service`.

mod graph;
pub mod kept;
mod registered;

use anabranch_server::client::path;
use anabranch_wire::{Diagnostic, Registration, Service, ServiceCircuit};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Context;
use crate::event_text::clean;
use crate::failure::Outcome;
use crate::output::{Form, Output};
use crate::remote::{Remote, ServerArgs};
use crate::table::Table;
use crate::up::asked::Asked;

use registered::lease_of;
pub use registered::registered;

/// Look at the services of a log and of a running program: ls, graph, stop, start, restart, forget,
/// diagnostics, circuits
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    Ls(LsArgs),
    Graph(graph::GraphArgs),
    /// End one of the services that `anabranch up` keeps, and leave it so
    #[command(after_help = STOP)]
    Stop(kept::KeptArgs),
    /// Start one of the services that `anabranch up` keeps, and wait until it is ready
    #[command(after_help = START)]
    Start(kept::KeptArgs),
    /// End one of the services that `anabranch up` keeps, start it again, and wait until it is ready
    #[command(after_help = RESTART)]
    Restart(kept::KeptArgs),
    Forget(ForgetArgs),
    Diagnostics(DiagnosticsArgs),
    Circuits(CircuitsArgs),
}

const STOP: &str = "\
It is asked to end, and does what is under way first; if it has not ended within the file's
stop_within, it is killed. It stays so until it is started. Others that need it go on without it.

The set is the one that runs in this directory, `demo --split` too, or that of --up FILE.

Examples:
  anabranch service stop pricing
  anabranch service stop pricing --up /srv/shop/shop.toml";

const START: &str = "\
One that needs what is stopped begins when that is started. Exit code 1: it has ended before it was
ready; it is started again all the same, until it is stopped.

The set is the one that runs in this directory, `demo --split` too, or that of --up FILE.

Examples:
  anabranch service start pricing";

const RESTART: &str = "\
It is ended as by `service stop`, and started as by `service start`. What the others send it meanwhile
waits for it, for up to five seconds.

The set is the one that runs in this directory, `demo --split` too, or that of --up FILE.

Examples:
  anabranch service restart pricing
  anabranch service restart backbone --output json";

/// List the services, what each owns, and how its lease is
#[derive(Debug, Args)]
#[command(after_help = "\
Services that run in the program itself come first. Under way: commands that a service has sent and
that are not answered yet.

Then those that have registered at the log, from other processes. Lease: held: the service is there;
expired: it has not said so in time; released: it has ended in order; taken: another service has
claimed what it owned. Since: when it was started, by the clock of the log's server. As JSON they
have `lease`, `since` and `state`.

Examples:
  anabranch service ls
  anabranch service ls --log http://127.0.0.1:7400")]
pub struct LsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Let what a service owned that is gone have no owner any more
#[derive(Debug, Args)]
#[command(after_help = "\
A category stays owned when its service ends, until that or another one registers. This is for a
service that will not come back. One that is there is refused: stop it first. What it has said
that it reads is forgotten too: `anabranch deploy check` asks nothing more for its sake.

Examples:
  anabranch service forget orders")]
pub struct ForgetArgs {
    /// The service
    name: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Show what went wrong lately and was worked around, the newest last
#[derive(Debug, Args)]
#[command(after_help = "\
Each service keeps its newest 256, in memory: they end with the program.

Examples:
  anabranch service diagnostics
  anabranch service diagnostics payments")]
pub struct DiagnosticsArgs {
    /// Only those of this service
    name: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Show how the third parties are doing that the services call
#[derive(Debug, Args)]
#[command(after_help = "\
Closed: it is called. Open: it has only failed, so it is not called before the next try.
Half-open: one call tries whether it works again. It closes by itself when a call succeeds.

Examples:
  anabranch service circuits")]
pub struct CircuitsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub async fn run(command: ServiceCommand, context: &Context) -> Outcome {
    match command {
        ServiceCommand::Ls(args) => list(&args.server, context).await,
        ServiceCommand::Forget(args) => forget(&args, context).await,
        ServiceCommand::Stop(args) => kept::run(&args, Asked::Stop, context).await,
        ServiceCommand::Start(args) => kept::run(&args, Asked::Start, context).await,
        ServiceCommand::Restart(args) => kept::run(&args, Asked::Restart, context).await,
        ServiceCommand::Graph(args) => graph::run(&args, context).await,
        ServiceCommand::Diagnostics(args) => {
            let path = path(
                &["operate", "diagnostics"],
                &args
                    .name
                    .as_deref()
                    .map(|name| ("service", name))
                    .into_iter()
                    .collect::<Vec<_>>(),
            );
            show(&path, &args.server, context, print_diagnostics).await
        }
        ServiceCommand::Circuits(args) => {
            show("/operate/circuits", &args.server, context, print_circuits).await
        }
    }
}

/// A service, by either way of being one.
#[derive(Serialize)]
#[serde(untagged)]
enum Listed {
    Here(Service),
    Registered(Registration),
}

async fn list(server: &ServerArgs, context: &Context) -> Outcome {
    let remote = Remote::find(server, context)?;
    let here = remote.get::<Vec<Service>>("/operate/services").await?.value;
    let registered = registered(&remote).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            if !here.is_empty() || registered.is_empty() {
                print_services(&here, &mut out)?;
            }
            if !here.is_empty() && !registered.is_empty() {
                out.line("")?;
            }
            if !registered.is_empty() {
                print_registered(&registered, &mut out)?;
            }
        }
        form => {
            let here = here.into_iter().map(Listed::Here);
            let all: Vec<_> = here
                .chain(registered.into_iter().map(Listed::Registered))
                .collect();
            out.values(form, &all)?;
        }
    }
    out.flush()
}

async fn forget(args: &ForgetArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let path = path(&["operate", "registry", &args.name, "forget"], &[]);
    let answer = remote.post::<Registration>(&path, String::new()).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => out.line(&format!(
            "service {} owns nothing any more",
            clean(&answer.value.name)
        ))?,
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}

fn print_registered(all: &[Registration], out: &mut Output) -> Outcome {
    let mut table = Table::new([
        "service", "address", "owns", "views", "program", "lease", "since",
    ]);
    for service in all {
        let program = format!("{} {}", service.program, service.version);
        // To the second.
        let since = service.since.as_deref().unwrap_or_default();
        let since = since
            .split_once('.')
            .map_or(since.to_owned(), |(to, _)| format!("{to}Z"));
        table.row([
            &service.name,
            &service.address,
            &service.owns.join(", "),
            &service.views.join(", "),
            program.trim(),
            &lease_of(service),
            &since,
        ]);
    }
    table.print("no service has registered", out)
}

/// Asks, and prints the answer as it is or for people.
async fn show<T: DeserializeOwned + Serialize>(
    path: &str,
    server: &ServerArgs,
    context: &Context,
    print: impl FnOnce(&[T], &mut Output) -> Outcome,
) -> Outcome {
    let remote = Remote::find(server, context)?;
    let answer = remote.get::<Vec<T>>(path).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => print(&answer.value, &mut out)?,
        form => out.values(form, &answer.value)?,
    }
    out.flush()
}

fn print_services(all: &[Service], out: &mut Output) -> Outcome {
    let mut table = Table::new([
        "service",
        "entities",
        "views",
        "processes",
        "under way",
        "dead letters",
    ]);
    for service in all {
        let entities: Vec<_> = service.entities.iter().map(|e| &*e.category).collect();
        table.row([
            &service.name,
            &entities.join(", "),
            &service.views.join(", "),
            &service.processes.join(", "),
            &service.under_way.to_string(),
            &service.dead_letters.to_string(),
        ]);
    }
    table.print("no service is running", out)
}

fn print_diagnostics(all: &[Diagnostic], out: &mut Output) -> Outcome {
    for note in all {
        let (at, service, text) = (clean(&note.at), clean(&note.service), clean(&note.text));
        out.line(&format!("{at}  {service}: {text}"))?;
    }
    if all.is_empty() {
        out.line("nothing went wrong since the program was started")?;
    }
    Ok(())
}

fn print_circuits(all: &[ServiceCircuit], out: &mut Output) -> Outcome {
    let mut table = Table::new([
        "effect",
        "service",
        "circuit",
        "failures in a row",
        "in flight",
        "next try",
        "last failure",
    ]);
    for ServiceCircuit { service, circuit } in all {
        table.row([
            &circuit.effect,
            service,
            circuit.state.name(),
            &circuit.failures.to_string(),
            &circuit.in_flight.to_string(),
            circuit.again_at.as_deref().unwrap_or(""),
            circuit.last_error.as_deref().unwrap_or(""),
        ]);
    }
    table.print("no service calls a third party", out)
}
