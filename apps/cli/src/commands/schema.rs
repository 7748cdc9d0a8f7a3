//! `anabranch schema`.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files that the user names"
)]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anabranch::domain::types::{Held, ProgramTypes, Registered, Report, ServiceTypes};
use anabranch::log::Log;
use anabranch_runtime::registry::{self, RegistryError};
use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::log::text::{count, counted};
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output};
use crate::remote::{Remote, ServerArgs};
use crate::table::Table;

/// Compare the types of events in a log with those of a program: ls, check, types
#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    Ls(LsArgs),
    Check(CheckArgs),
    Types(TypesArgs),
}

/// List what services have said, in the log, of the types that they write
#[derive(Debug, Args)]
#[command(after_help = "\
A service says so when it starts, if something has changed. Each change is an event of the stream
$schema/CATEGORY.

Examples:
  anabranch schema ls
  anabranch schema ls order")]
pub struct LsArgs {
    /// Only this category
    category: Option<String>,
}

/// Say which change of a program's types would break whom
#[derive(Debug, Args)]
#[command(after_help = "\
Compares the program's types with every category, type and version that the log holds, and with
what services have said of them: types that were removed but are stored, versions that went back,
missing upcasts, fields that became required, views that wait for what nobody writes. Reads the
whole log once, also while a process writes to it; ends with 1 if something would break.

The types of your program are what `ServiceBuilder::types` gives, as JSON, one for each service in
an array; `anabranch schema types` prints those of a running one.

Examples:
  anabranch schema types > types.json
  anabranch schema check --types types.json
  my-program --print-types | anabranch schema check --types - --log /srv/shop/log")]
pub struct CheckArgs {
    /// The program's types, as JSON; - for standard input
    #[arg(long, value_name = "FILE")]
    types: Option<PathBuf>,
}

/// Print the types of a running program, as JSON
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch schema types > types.json
  anabranch schema check --types types.json")]
pub struct TypesArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub async fn run(command: SchemaCommand, context: &Context) -> Outcome {
    match command {
        SchemaCommand::Ls(args) => ls(&args, context).await,
        SchemaCommand::Check(args) => run_check(&args, context).await,
        SchemaCommand::Types(args) => types(&args, context).await,
    }
}

/// Which change of `program` would break whom, on this log.
pub async fn check(program: &ProgramTypes, log: &dyn Log) -> Result<Report, Failure> {
    registry::check(program, log).await.map_err(unreadable)
}

/// What is said of types in the log cannot be read.
pub fn unreadable(error: RegistryError) -> Failure {
    match error {
        RegistryError::Read(error) => error.into(),
        RegistryError::Unreadable { .. } => {
            Failure::new(Exit::Failed, "newer-registry", error.to_string())
                .remedy("use a newer program")
        }
    }
}

async fn run_check(args: &CheckArgs, context: &Context) -> Outcome {
    let Some(types) = &args.types else {
        return Err(Failure::usage("nobody says which program's types are meant")
            .safe("nothing was compared")
            .remedy("name them with --types FILE; `anabranch schema types` prints those of a running program")
            .into());
    };
    let program = read_types(types)?;
    let opened = logs::open_read_only(context)?;
    let report = check(&program, &*opened.log).await?;
    opened.close()?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => print_report(&report, &mut out)?,
        Form::Json | Form::Jsonl => out.line(&json!(report).to_string())?,
    }
    out.flush()?;
    if report.breaks.is_empty() {
        return Ok(());
    }
    let what = format!(
        "{} would break somebody",
        counted(report.breaks.len() as u64, "change")
    );
    Err(Failure::new(Exit::Failed, "breaks", what)
        .safe("the log is as it was")
        .into())
}

/// No description of types is longer.
const TYPES_BYTES_MAX: u64 = 64 << 20;

/// Reads what a program has printed of its types.
pub fn read_types(path: &Path) -> Result<ProgramTypes, Failure> {
    let name = path.display().to_string();
    let mut text = String::new();
    let read = if name == "-" {
        std::io::stdin()
            .lock()
            .take(TYPES_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(TYPES_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::file("read", &name, &error))?;
    parse_types(&text, &name)
}

/// What a program has printed of its types, at the place of this name.
pub fn parse_types(text: &str, name: &str) -> Result<ProgramTypes, Failure> {
    let types = match serde_json::from_str::<ServiceTypes>(text) {
        Ok(one) => return Ok(ProgramTypes(vec![one])),
        Err(_) => serde_json::from_str(text),
    };
    types.map_err(|error| {
        Failure::new(
            Exit::Failed,
            "bad-types",
            format!("{name} does not describe the types of a program: {error}"),
        )
        .remedy(
            "print what `ServiceBuilder::types` gives, as JSON, one for each service in an array",
        )
    })
}

/// Prints what would break.
pub fn print_breaks(report: &Report, out: &mut Output) -> Outcome {
    for finding in &report.breaks {
        out.line(&format!(
            "{}: {} would break: {}",
            finding.code,
            clean(&finding.whom),
            clean(&finding.what)
        ))?;
        out.line(&format!(
            "  events: {}, {} stored",
            clean(&finding.event),
            count(finding.stored)
        ))?;
        out.line(&format!("  do: {}\n", clean(&finding.remedy)))?;
    }
    Ok(())
}

fn print_report(report: &Report, out: &mut Output) -> Outcome {
    print_breaks(report, out)?;
    let looked = format!(
        "{} of {} in the log",
        counted(report.kinds, "kind"),
        counted(report.events, "event")
    );
    if report.breaks.is_empty() {
        out.line(&format!("the program fits the log: {looked}"))?;
    } else {
        out.line(&format!("compared: {looked}"))?;
    }
    if !report.others.is_empty() {
        let others = clean(&report.others.join(", "));
        out.line(&format!(
            "not compared, because the program has no service for them: {others}"
        ))?;
    }
    Ok(())
}

async fn ls(args: &LsArgs, context: &Context) -> Outcome {
    let opened = logs::open_read_only(context)?;
    let held = registry::registered(&*opened.log)
        .await
        .map_err(unreadable)?;
    opened.close()?;
    let Held { mut registered, .. } = held;
    if let Some(wanted) = &args.category {
        registered.retain(|category, _| category == wanted);
        if registered.is_empty() {
            let what = format!("no service has said what it writes in category {wanted:?}");
            return Err(Failure::new(Exit::NotFound, "not-found", what).into());
        }
    }
    let mut out = Output::stdout();
    if context.settings.form != Form::Text {
        out.line(&json!(registered).to_string())?;
        return out.flush();
    }
    let mut table = Table::new(["category", "event", "service", "changes", "data"]);
    for (category, entries) in &registered {
        let Some(Registered { service, kinds, .. }) = entries.last() else {
            continue;
        };
        let changes = entries.len().to_string();
        for kind in kinds {
            let event = format!("{} v{}", kind.name, kind.version);
            table.row([
                category.as_str(),
                &event,
                service,
                &changes,
                &kind.shape.to_string(),
            ]);
        }
    }
    table.print("no service has said what it writes", &mut out)?;
    out.flush()
}

async fn types(args: &TypesArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let answer = remote.get::<ProgramTypes>("/operate/types").await?;
    let mut out = Output::stdout();
    out.line(&answer.text)?;
    out.flush()
}
