//! `anabranch doctor`: what is wrong with a log, the machine it is on and the services around it, and what
//! to do about it. [`machine`] and [`time`] look at what the system says; [`directory`] at a log's files;
//! [`running`] at programs that run; [`set`] at what `anabranch up` keeps.

mod check;
mod directory;
mod machine;
mod running;
mod set;
mod time;

use std::path::{Path, PathBuf};

use anabranch::Address;
use anabranch_server::Present;
use clap::Args;

use super::Context;
use super::service::kept;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Form, Output};
use crate::remote::{DEMO_LOG, Remote};
use crate::up::asked::{Answer, Asked};

use check::{Check, State};

/// Look for what is wrong with a log, its machine and its services, and say what to do
#[derive(Debug, Args)]
#[command(after_help = "\
Looks at clock, disk, limits, memory, durability, the log's files, the server, who owns what, how
far views and processes are behind, versions and certificates; changes nothing. Of a log in a
directory also the program that serves it, of that also the services that have registered there,
and the set that `anabranch up` keeps here. With the address of a server, what that says.

Exit code 1: something is a fault. Warnings alone are no failure.

Examples:
  anabranch doctor
  anabranch doctor --log http://127.0.0.1:7400
  anabranch doctor --up shop.toml --output json")]
pub struct DoctorArgs {
    /// Look at the set of services that `anabranch up` keeps by this file [default: the one that runs
    /// here]
    #[arg(long, value_name = "FILE")]
    up: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: &DoctorArgs, context: &Context) -> Outcome {
    let checks = examine(args.up.as_deref(), context).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => print(&checks, &mut out)?,
        form => out.values(form, &checks)?,
    }
    out.flush()?;
    let faults: Vec<_> = of(&checks, State::Fault).collect();
    let Some(first) = faults.first() else {
        return Ok(());
    };
    let what = format!("{} wrong, first of all: {}", faults.len(), first.what);
    Err(Failure::new(Exit::Failed, "faults", what)
        .safe("nothing was changed")
        .into())
}

/// Everything that can be looked at from here.
pub async fn examine(up: Option<&Path>, context: &Context) -> Result<Vec<Check>, Failure> {
    let mut checks = Vec::new();
    let mut process = "self".to_owned();
    let remote = match &context.settings.log {
        Address::Memory => {
            return Err(Failure::usage("a log in memory ends with its program")
                .remedy("name a directory or the address of a server with --log"));
        }
        Address::Database(_) => {
            return Err(Failure::usage("the log is in a database, which has tools of its own")
                .remedy("`anabranch log info` says what the log is; name a program that runs with --server"));
        }
        Address::Server(_) => Some(Remote::find(&Default::default(), context)?),
        Address::Directory(dir) => {
            let dir = known(dir, context);
            checks.extend(directory::log_in(&dir, context).await);
            if let Ok(Some(present)) = Present::find(&context.env, &dir) {
                process = present.pid.to_string();
            }
            Remote::of_log(&dir, context)?
        }
    };
    checks.extend(machine::limits_of(&process));
    checks.extend(machine::memory());
    if let Some(remote) = &remote {
        checks.extend(running::all_of(remote, context).await);
    }
    match kept::ask(up, &Asked::Status, context).await {
        Ok((_, Answer::Stand(all))) => checks.extend(set::standing(&all)),
        Ok((path, _)) => checks.push(Check::fault(
            "services",
            format!(
                "whoever has {} does not say how the services stand",
                path.display()
            ),
            "start `anabranch up` again",
        )),
        Err(failure) if up.is_some() || failure.code != "not-up" => return Err(failure),
        Err(_) => {}
    }
    Ok(checks)
}

/// The log's directory; that of a demo here, where nobody has said which and there is no other.
fn known(dir: &Path, context: &Context) -> PathBuf {
    let exists = |dir: &Path| context.env.disk.exists(dir).unwrap_or(false);
    let demo = Path::new(DEMO_LOG);
    match context.settings.log_is_named() || exists(dir) || !exists(demo) {
        true => dir.to_owned(),
        false => demo.to_owned(),
    }
}

fn of(checks: &[Check], state: State) -> impl Iterator<Item = &Check> {
    checks.iter().filter(move |check| check.state == state)
}

fn print(checks: &[Check], out: &mut Output) -> Outcome {
    for check in checks {
        let what = crate::event_text::clean(&check.what);
        out.line(&format!(
            "{:<8} {:<13} {what}",
            check.state.name(),
            check.about
        ))?;
        if let Some(remedy) = &check.remedy {
            let remedy = crate::event_text::clean(remedy);
            out.line(&format!("{:<22} do: {remedy}", ""))?;
        }
    }
    let count = |state| of(checks, state).count();
    out.line(&format!(
        "\n{} looked at: {} ok, {} warnings, {} faults",
        checks.len(),
        count(State::Ok),
        count(State::Warning),
        count(State::Fault)
    ))
}
