//! `anabranch view`.

use anabranch_server::client::path;
use anabranch_wire::{
    CopyStatus, POLICY_HEADER, QueryAnswer, ServiceView, TOKEN_HEADER, View, ViewDone,
};
use clap::{Args, Subcommand};

use super::Context;
use super::send::with_token;
use crate::failure::{Failure, Outcome};
use crate::output::{Form, Output, note};
use crate::remote::{Remote, ServerArgs};
use crate::table::{Table, print_json};

/// Ask the views of a running program and look after them: ls, get, rebuild, back-out, skip,
/// retry
#[derive(Debug, Subcommand)]
pub enum ViewCommand {
    Ls(LsArgs),
    Get(GetArgs),
    /// Build a view again from the start of the log, beside the one that answers
    #[command(after_help = "\
The new copy takes its place when it has caught up; `anabranch view ls` shows how far it is.

Examples:
  anabranch view rebuild customers")]
    Rebuild(NamedArgs),
    /// Take back the last swap: the copy that served before serves again
    #[command(after_help = "\
Examples:
  anabranch view back-out customers")]
    BackOut(NamedArgs),
    /// Pass over the event that a view has stopped at
    #[command(after_help = "\
`anabranch view ls` shows the event and why it cannot be taken in.

Examples:
  anabranch view skip customers
  anabranch view skip customers --stream order/536365")]
    Skip(MendArgs),
    /// Try the event again that a view has stopped at
    #[command(after_help = "\
Examples:
  anabranch view retry customers
  anabranch view retry customers --stream order/536365")]
    Retry(MendArgs),
}

/// List the views, how far they are, and what holds them up
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch view ls
  anabranch view ls --output json | jq '.[].view.serving.lag_events'")]
pub struct LsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Ask a view
#[derive(Debug, Args)]
#[command(after_help = "\
The fields of the query are given as NAME=TEXT, or all of them as JSON with --data. With --token
the answer includes what was seen before; --policy says what to do while the view is behind.

Examples:
  anabranch view get customers of customer=17850
  anabranch view get customers of --data '{\"customer\":\"17850\"}'
  anabranch view get customers top least=10 --policy stale --output json | jq .value")]
pub struct GetArgs {
    /// The view
    view: String,
    /// The query
    query: String,
    /// The query's fields, as NAME=TEXT
    #[arg(value_name = "NAME=TEXT", value_parser = super::append::header, conflicts_with = "data")]
    fields: Vec<(String, String)>,
    /// The query's fields, as JSON
    #[arg(long, short, value_name = "JSON")]
    data: Option<String>,
    /// What to do while the view is behind: wait=5s, fail or stale [default: wait=5s]
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// What was seen before, as another answer gave it
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub struct NamedArgs {
    /// The view
    view: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub struct MendArgs {
    /// The view
    view: String,
    /// The stream that the view has set aside, if it has not stopped as a whole
    #[arg(long, short, value_name = "STREAM")]
    stream: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub async fn run(command: ViewCommand, context: &Context) -> Outcome {
    match command {
        ViewCommand::Ls(args) => ls(&args, context).await,
        ViewCommand::Get(args) => get(&args, context).await,
        ViewCommand::Rebuild(args) => {
            let done = format!(
                "{} is being built again; see how far it is with `anabranch view ls`",
                args.view
            );
            mend(&args.view, "rebuild", None, &args.server, &done, context).await
        }
        ViewCommand::BackOut(args) => {
            let done = format!("the copy of {} that served before serves again", args.view);
            mend(&args.view, "back-out", None, &args.server, &done, context).await
        }
        ViewCommand::Skip(args) => {
            let stream = args.stream.as_deref();
            let done = format!("{} passes over the event and goes on", args.view);
            mend(&args.view, "skip", stream, &args.server, &done, context).await
        }
        ViewCommand::Retry(args) => {
            let stream = args.stream.as_deref();
            let done = format!("{} tries the event again", args.view);
            mend(&args.view, "retry", stream, &args.server, &done, context).await
        }
    }
}

/// A duration, for people.
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

async fn ls(args: &LsArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let answer = remote.get::<Vec<ServiceView>>("/operate/views").await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let mut table =
                Table::new(["view", "version", "service", "state", "behind", "queries"]);
            for ServiceView { service, view } in &answer.value {
                table.row([
                    &view.name,
                    &view.version.to_string(),
                    service,
                    &state(view),
                    &view.serving.as_ref().map_or_else(String::new, behind),
                    &view.queries.join(", "),
                ]);
            }
            table.print("no service has a view", &mut out)?;
            print_trouble(&answer.value, &mut out)?;
        }
        form => out.values(form, &answer.value)?,
    }
    out.flush()
}

fn state(view: &View) -> String {
    let serving = match &view.serving {
        Some(copy) => copy.state.name().to_owned(),
        None => "not there yet".to_owned(),
    };
    match &view.building {
        None => serving,
        Some(copy) => {
            let left = copy.time_left_ms.map(seconds);
            let left = left.map_or_else(String::new, |left| format!(", {left} left"));
            format!(
                "{serving}; building, {} events to go{left}",
                copy.lag_events
            )
        }
    }
}

fn behind(copy: &CopyStatus) -> String {
    match copy.lag_events {
        0 => "nothing".to_owned(),
        events => format!("{events} events, {}", seconds(copy.lag_ms)),
    }
}

/// Below the table: what has to be mended, and how.
fn print_trouble(all: &[ServiceView], out: &mut Output) -> Outcome {
    let clean = crate::event_text::clean;
    for ServiceView { view, .. } in all {
        let name = clean(&view.name);
        for copy in [&view.serving, &view.building].into_iter().flatten() {
            if let Some(event) = &copy.event {
                out.line(&format!(
                    "\n{name} has stopped before {} at {}, event {} of {}:\n  {}\n  mend it and `anabranch view retry {name}`, or `anabranch view skip {name}`",
                    clean(&event.event_type),
                    clean(&event.position),
                    event.version,
                    clean(&event.stream),
                    clean(&event.reason),
                ))?;
            }
            if let Some(reason) = &copy.reason {
                out.line(&format!("\n{name}: {}", clean(reason)))?;
            }
            for (stream, parked) in &copy.parked {
                out.line(&format!(
                    "\n{name} has set {} aside: {}\n  mend it and `anabranch view retry {name} --stream {}`, or skip it",
                    clean(stream),
                    clean(&parked.reason),
                    clean(stream),
                ))?;
            }
        }
    }
    Ok(())
}

async fn get(args: &GetArgs, context: &Context) -> Outcome {
    let mut parameters: Vec<(&str, &str)> = Vec::new();
    if let Some(data) = &args.data {
        parameters.push(("q", data));
    }
    for (name, text) in &args.fields {
        parameters.push((name, text));
    }
    let headers: Vec<(&str, &str)> = [
        (POLICY_HEADER, args.policy.as_deref()),
        (TOKEN_HEADER, args.token.as_deref()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let remote = Remote::find(&args.server, context)?;
    let path = path(&["views", &args.view, &args.query], &parameters);
    let answer = remote.get_with::<QueryAnswer>(&path, &headers).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            if answer.value.stale {
                note("note: the view is behind: the answer lacks something that was seen before");
            }
            print_json(answer.value.value.as_str(), 0, &mut out)?;
        }
        Form::Json | Form::Jsonl => {
            out.line(&with_token(&answer.text, answer.token.as_deref())?)?
        }
    }
    out.flush()
}

async fn mend(
    view: &str,
    verb: &str,
    stream: Option<&str>,
    server: &ServerArgs,
    done: &str,
    context: &Context,
) -> Outcome {
    let parameters: Vec<_> = stream
        .map(|stream| ("stream", stream))
        .into_iter()
        .collect();
    let path = path(&["operate", "views", view, verb], &parameters);
    let remote = Remote::find(server, context)?;
    let answer = remote
        .post::<ViewDone>(&path, String::new())
        .await
        .map_err(hint)?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => out.line(done)?,
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}

fn hint(failure: Failure) -> Failure {
    if failure.code == "not-now" {
        return failure.remedy("see what the views are doing with `anabranch view ls`");
    }
    failure
}
