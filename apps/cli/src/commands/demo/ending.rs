//! What goes into the demo, and what comes of it.

use std::path::Path;

use anabranch::Address;
use anabranch_shop::demo::{DemoError, Summary};
use anabranch_shop::input::{self, Work};

use crate::context::Context;
use crate::demo_text::summary_text;
use crate::failure::{Ending, Exit, Failure, Outcome};
use crate::output::{Form, Output, note};
use crate::stop::StopSignal;

/// What came of it, printed, or why it has ended early.
pub fn told(summary: Result<Summary, DemoError>, keep: bool, context: &Context) -> Outcome {
    match summary {
        Ok(summary) => print(&summary, context.settings.form),
        Err(error) => {
            let remedy = remedy(&error, keep, &context.settings.log);
            let mut failure = failure(error);
            failure.remedy = remedy;
            Err(failure.into())
        }
    }
}

/// Says what is wrong, if something is, and leaves the shop open until the user closes it.
pub async fn stay_open(printed: &Outcome, form: Form, stop: &mut StopSignal) {
    if let Err(Ending::Failed(failure)) = printed {
        let text = match form {
            Form::Text => failure.to_text(),
            Form::Json | Form::Jsonl => failure.to_json(),
        };
        note(text.trim_end());
    }
    note("the shop stays open; Ctrl-C closes it");
    stop.unless_asked(std::future::pending::<()>()).await;
}

/// Prints what came of it; a failure if something does not hold.
fn print(summary: &Summary, form: Form) -> Outcome {
    let mut out = Output::stdout();
    match form {
        Form::Text => out.write(summary_text(summary).as_bytes())?,
        Form::Json | Form::Jsonl => {
            let json = serde_json::to_string(summary).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    "summary",
                    format!("cannot be written: {error}"),
                )
            })?;
            out.line(&json)?;
        }
    }
    out.flush()?;
    if summary.holds() {
        return Ok(());
    }
    let broken: Vec<_> = summary
        .invariants
        .iter()
        .filter(|(_, holds)| !**holds)
        .map(|(name, _)| *name)
        .collect();
    let what = format!("this does not hold, though it must: {}", broken.join(", "));
    Err(Failure::new(Exit::Failed, "invariant", what)
        .safe("the log has everything that happened")
        .into())
}

/// The orders that come in.
pub fn read_work(orders: Option<&Path>) -> Result<Work, Failure> {
    let Some(path) = orders else {
        return input::sample_day().map_err(|error| input_failure("the sample day", &error));
    };
    input::read(path).map_err(|error| input_failure(&path.display().to_string(), &error))
}

fn input_failure(name: &str, error: &retail::input::Failure) -> Failure {
    let failure = match error {
        retail::input::Failure::Input(io) => Failure::file("read", name, io),
        _ => Failure::new(Exit::Failed, "bad-input", format!("{name}: {error}"))
            .remedy("mend the line; `anabranch demo --help` says what files are read"),
    };
    failure.safe("nothing was ordered, and no log was opened")
}

/// What it means that the demo has ended early.
pub fn failure(error: DemoError) -> Failure {
    let (exit, code) = match &error {
        DemoError::Start(_) | DemoError::Crash(_) => (Exit::Failed, "start"),
        DemoError::Send { .. } => (Exit::Failed, "send"),
        DemoError::Read(_) | DemoError::Audit(_) => (Exit::Failed, "read"),
        DemoError::Ledger(_) => (Exit::Unavailable, "provider"),
        DemoError::Query(_) => (Exit::Unavailable, "query"),
        DemoError::Stuck(_) => (Exit::Failed, "stuck"),
        DemoError::Halted(_) => (Exit::Failed, "halted"),
        DemoError::Stopped => (Exit::Failed, "stopped"),
    };
    Failure::new(exit, code, error.to_string())
        .safe("everything that was acknowledged is in the log")
}

/// What to do when the demo has not come to its end.
fn remedy(error: &DemoError, keep: bool, log: &Address) -> Option<String> {
    let dir = match log {
        Address::Directory(dir) => dir.display(),
        Address::Memory | Address::Server(_) | Address::Database(_) => return None,
    };
    match error {
        DemoError::Stopped => Some(format!(
            "`anabranch demo --log {dir}`, with the same --orders, goes on from there"
        )),
        DemoError::Halted(_) if keep => Some(format!(
            "`anabranch view ls --log {dir}` and `anabranch process ls --log {dir}` say how each goes on"
        )),
        DemoError::Halted(_) | DemoError::Stuck(_) => Some(format!(
            "run it again with --keep --log {dir}; `anabranch view ls` and `anabranch process ls` say what has stopped and how it goes on"
        )),
        _ => None,
    }
}
