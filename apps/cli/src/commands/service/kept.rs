//! `anabranch service stop`, `start` and `restart`: what `anabranch up` keeps running.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Form, Output};
use crate::up::asked::{Answer, Asked, Standing};
use crate::up::control::{Door, file_of, files_in};

/// Where the files are looked for if none is named: here, and where `anabranch demo --split` has its.
const PLACES: [&str; 2] = [".", ".anabranch/demo"];

/// Which one of the services of a set.
#[derive(Debug, Args)]
pub struct KeptArgs {
    /// The service, as the file names it
    name: String,
    /// The file that `anabranch up` runs [default: the one that runs here]
    #[arg(long, value_name = "FILE")]
    up: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: &KeptArgs, asked: fn(String) -> Asked, context: &Context) -> Outcome {
    let asked = asked(args.name.clone());
    let (path, answer) = ask(args.up.as_deref(), &asked, context).await?;
    let all = match answer {
        Answer::Stand(all) => all,
        answer => return Err(not_done(&args.name, &path, &answer).into()),
    };
    print(&all, context.settings.form)?;
    match all.first() {
        Some(one) if !matches!(asked, Asked::Stop(_)) => check(one),
        _ => Ok(()),
    }
}

/// Why whoever keeps the services has not done what was asked.
pub fn not_done(name: &str, path: &Path, answer: &Answer) -> Failure {
    let failure = match answer {
        Answer::Unknown(known) => return unknown(name, known),
        Answer::Ending => {
            Failure::new(Exit::Conflict, "stopping", "all services are being stopped")
        }
        Answer::Needs(stopped) => {
            let all = stopped.join(", ");
            let what = format!("{name} needs {all}, which is stopped: it would not run");
            Failure::new(Exit::Conflict, "needs-stopped", what).remedy(format!(
                "start it first: `anabranch service start {}`",
                stopped[0]
            ))
        }
        Answer::Refused => {
            let what = format!("the word in {} does not open the door", path.display());
            Failure::new(Exit::Failed, "refused", what)
        }
        Answer::Stand(_) | Answer::WentBack(..) => {
            let what = "it says something else than what was asked";
            return Failure::new(Exit::Failed, "not-up", what)
                .remedy("use the same version of this program for both");
        }
    };
    failure.safe("nothing was changed")
}

/// Asks whoever keeps the services of this file, or the one that runs here.
pub async fn ask(
    plan: Option<&Path>,
    asked: &Asked,
    context: &Context,
) -> Result<(PathBuf, Answer), Failure> {
    let unreadable = |path: &Path, error: &std::io::Error| {
        Failure::file("read", &path.display().to_string(), error).safe("nothing was changed")
    };
    let mut paths = Vec::new();
    match plan {
        Some(plan) => paths.push(file_of(plan)),
        None => {
            for place in PLACES.map(Path::new) {
                let found = files_in(&context.env, place);
                paths.extend(found.map_err(|error| unreadable(place, &error))?);
            }
        }
    }
    // What was killed has left its file, and does not answer.
    let mut living = Vec::new();
    for path in paths {
        let door = Door::read(&context.env, &path).map_err(|error| unreadable(&path, &error))?;
        let Some(door) = door else { continue };
        if door.ask(Asked::Status).await.is_ok() {
            living.push((path, door));
        }
    }
    let Some((path, door)) = living.pop() else {
        return Err(nobody(plan));
    };
    if let Some((other, _)) = living.pop() {
        let what = format!("{} and {} both run here", other.display(), path.display());
        let failure = Failure::new(Exit::Usage, "ambiguous", what).safe("nothing was changed");
        return Err(failure.remedy("name the file of one of them with --up"));
    }
    let answer = door.ask(asked.clone()).await.map_err(|error| {
        let process = door.process;
        let what = format!("`anabranch up`, process {process}, does not answer any more: {error}");
        Failure::new(Exit::Unavailable, "not-up", what).happened(anabranch_wire::Happened::Maybe)
    })?;
    Ok((path, answer))
}

fn nobody(plan: Option<&Path>) -> Failure {
    let what = match plan {
        Some(plan) => format!("no `anabranch up {}` runs", plan.display()),
        None => "no `anabranch up` runs here".to_owned(),
    };
    Failure::new(Exit::Unavailable, "not-up", what)
        .safe("nothing was changed")
        .remedy("name its file with --up; a service that was started by hand is ended by hand")
}

fn unknown(name: &str, known: &[String]) -> Failure {
    let what = format!(
        "no service {name:?} is declared; there are: {}",
        known.join(", ")
    );
    Failure::new(Exit::NotFound, "no-such-service", what).safe("nothing was changed")
}

/// Who was started has to be ready.
fn check(one: &Standing) -> Outcome {
    if one.state == "ready" || !one.waits_for.is_empty() {
        return Ok(());
    }
    let end = one.last_end.as_deref().unwrap_or("it has not ended");
    let what = format!("{} is not ready but {}: {end}", one.service, one.state);
    Err(Failure::new(Exit::Failed, "not-ready", what)
        .safe("it is started again until it is ready, or stopped")
        .remedy("see what it says where `anabranch up` runs")
        .into())
}

pub fn print(all: &[Standing], form: Form) -> Outcome {
    let mut out = Output::stdout();
    match form {
        Form::Text => {
            for one in all {
                out.line(&told(one))?;
            }
        }
        form => out.values(form, all)?,
    }
    out.flush()
}

fn told(one: &Standing) -> String {
    let mut text = format!("{}: {}", one.service, one.state);
    if let Some(process) = one.process {
        text += &format!(", process {process}");
    } else if let Some(end) = &one.last_end {
        text += &format!(", {end}");
    }
    if !one.waits_for.is_empty() {
        let needs = one.waits_for.join(", ");
        text += &format!(", and begins when this is started: {needs}");
    }
    text
}
