//! `anabranch up`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch::runtime::Time;
use clap::Args;
use serde_json::json;

use super::Context;
use crate::credential;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Form, Output, note};
use crate::stop::StopSignal;
use crate::table::Table;
use crate::up::control::{self, Control};
use crate::up::plan::{Declared, Plan, Ready};
use crate::up::{Supervisor, on_stderr, systemd};

/// Run a small declared set of services: start, watch, start again, stop in order
#[derive(Debug, Args)]
#[command(after_help = "\
FILE is TOML. Each service has a table; what it needs is started before it and ended after it. A
service that ends is started again, at first after 100 ms and at most after 30 s. The program
`anabranch` is this one. Paths are seen from FILE's directory.

  stop_within = \"15s\"                # then a service is killed

  [env]                              # for every service
  ANABRANCH_OUTPUT = \"text\"

  [service.backbone]
  program = \"anabranch\"
  args = [\"serve\", \"--log\", \"./log\"]
  ready = \"http://127.0.0.1:7400\"    # ready when this answers

  [service.orders]
  program = \"./orders\"
  args = [\"--log\", \"http://127.0.0.1:7400\"]
  needs = [\"backbone\"]
  ready = \"./orders.d\"               # or: when its server.json there says where it serves
  ready_within = \"60s\"
  print_types = [\"--types\"]          # told so besides, it prints its types, for `deploy`
  env = { RUST_LOG = \"info\" }

What services write goes to the standard error, each line with its service's name. While it runs,
`anabranch service stop`, `start` and `restart` look after one of them; they find it by the file
FILE.control beside FILE.

Examples:
  anabranch up shop.toml
  anabranch up shop.toml --check
  anabranch up shop.toml --systemd")]
pub struct UpArgs {
    /// What is declared
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only check the file, and print in which order its services are started
    #[arg(long)]
    check: bool,
    /// Only print the services as units of systemd, which then takes the place of this command
    #[arg(long, conflicts_with = "check")]
    systemd: bool,
}

/// Runs the command.
pub async fn run(args: UpArgs, context: &Context) -> Outcome {
    let plan = read(&args.file)?;
    if args.check {
        return print_plan(&plan, context.settings.form);
    }
    if args.systemd {
        return print_units(&plan);
    }
    let mut stop = StopSignal::new()?;
    let time = Time::of(&context.env);
    let trust = credential::trust(context)?;
    let supervisor = Supervisor::start(&plan, &time, &on_stderr(&plan), trust);
    let supervisor = Arc::new(supervisor);
    let control = open_door(context, &args.file, &supervisor).await?;
    if stop.unless_asked(supervisor.ready()).await.is_some() {
        for line in table(&supervisor).lines() {
            note(&line);
        }
        stop.unless_asked(std::future::pending::<()>()).await;
    }
    note("stopping; what is under way is finished first");
    supervisor.stop().await;
    drop(control);
    Ok(())
}

/// The door by which `anabranch service stop`, `start` and `restart` come in.
pub async fn open_door(
    context: &Context,
    plan: &Path,
    supervisor: &Arc<Supervisor>,
) -> Result<Control, Failure> {
    let opened = Control::open(&context.env, plan, supervisor.clone()).await;
    opened.map_err(|error| {
        let file = control::file_of(plan).display().to_string();
        Failure::file("say where this is in", &file, &error).safe("the services were stopped")
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is about a file that the user names"
)]
pub fn read(path: &Path) -> Result<Plan, Failure> {
    let name = path.display().to_string();
    let failed = |error: &std::io::Error| Failure::file("read", &name, error);
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let dir = dir.canonicalize().map_err(|error| failed(&error))?;
    Plan::parse(&text, &dir).map_err(|wrong| {
        let wrong = wrong.join("; ");
        Failure::new(Exit::Usage, "bad-plan", format!("{name}: {wrong}"))
            .safe("nothing was started")
            .remedy("mend the file; `anabranch up --help` shows one")
    })
}

fn print_plan(plan: &Plan, form: Form) -> Outcome {
    let mut out = Output::stdout();
    // A plan that is read has no circle.
    let order = plan.order().unwrap_or_default();
    let services: Vec<_> = order
        .iter()
        .filter_map(|name| Some((*name, plan.services.get(*name)?)))
        .collect();
    match form {
        Form::Text => {
            let mut table = Table::new(["service", "needs", "ready", "runs"]);
            for (name, declared) in services {
                let (needs, ready) = (declared.needs.join(", "), ready_text(declared));
                let runs = format!("{} {}", declared.program, declared.args.join(" "));
                table.row([name, &needs, &ready, &runs]);
            }
            table.print("no service is declared", &mut out)?;
        }
        Form::Json | Form::Jsonl => {
            let services: Vec<_> = services
                .into_iter()
                .map(|(name, declared)| {
                    json!({
                        "service": name,
                        "needs": declared.needs,
                        "ready": ready_text(declared),
                        "program": declared.program,
                        "args": declared.args,
                    })
                })
                .collect();
            out.values(form, &services)?;
        }
    }
    out.flush()
}

fn print_units(plan: &Plan) -> Outcome {
    let program = std::env::current_exe().map_err(|error| {
        let what = format!("cannot tell where this program is: {error}");
        Failure::new(Exit::Failed, "io", what)
    })?;
    let mut out = Output::stdout();
    out.write(systemd::units(plan, &program.display().to_string()).as_bytes())?;
    out.flush()
}

fn ready_text(declared: &Declared) -> String {
    match &declared.ready {
        Ready::AtOnce => "at once".to_owned(),
        Ready::Url(url) => url.clone(),
        Ready::Directory(dir) => dir.display().to_string(),
    }
}

/// How the services stand, as a table.
fn table(supervisor: &Supervisor) -> Table {
    let mut table = Table::new(["service", "state", "process", "restarts", "last end"]);
    for (name, status) in supervisor.status() {
        let pid = status.pid.map_or(String::new(), |pid| pid.to_string());
        table.row([
            name,
            status.state.name(),
            &pid,
            &status.restarts.to_string(),
            status.last_end.as_deref().unwrap_or(""),
        ]);
    }
    table
}
