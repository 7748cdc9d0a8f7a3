//! `anabranch process`.

use anabranch::model::StreamId;
use anabranch_server::client::path;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Context;
use super::append::stream_id;
use crate::event_text::clean;
use crate::failure::{Failure, Outcome};
use crate::output::{Form, Output};
use crate::remote::{Remote, ServerArgs};
use crate::table::{Table, print_facts, print_json};

/// Look after the processes and sagas of a running program: ls, show, retry, abort, skip
#[derive(Debug, Subcommand)]
pub enum ProcessCommand {
    Ls(LsArgs),
    Show(ShowArgs),
    Retry(RetryArgs),
    Abort(AbortArgs),
    Skip(SkipArgs),
}

/// List the processes and sagas, or the instances of one that have not ended
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch process ls
  anabranch process ls checkout")]
pub struct LsArgs {
    /// The process or saga whose instances are listed
    name: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Show one instance: how far it is, and what it waits for
#[derive(Debug, Args)]
#[command(after_help = "\
Its journal is a stream of the log: `anabranch read --stream checkout/536365`.

Examples:
  anabranch process show checkout/536365")]
pub struct ShowArgs {
    /// The instance, as name/key, for example checkout/536365
    #[arg(value_parser = stream_id)]
    instance: StreamId,
    #[command(flatten)]
    server: ServerArgs,
}

/// Try again what is parked: an instance, a step of a saga, or an event that cannot be heard
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch process retry checkout/536365
  anabranch process retry checkout/536365 --step pay --who ada --why 'the provider is back'
  anabranch process retry reorder")]
pub struct RetryArgs {
    /// The instance, as name/key; or just the name, of a process that has stopped hearing
    instance: String,
    /// The parked step of a saga, as name or name/branch
    #[arg(long, requires = "who", requires = "why")]
    step: Option<String>,
    /// Who says so; kept in the journal
    #[arg(long, requires = "step")]
    who: Option<String>,
    /// Why; kept in the journal
    #[arg(long, requires = "step")]
    why: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Let a saga go back: what it has done is compensated
#[derive(Debug, Args)]
#[command(after_help = "\
Beyond its pivot a saga does not go back any more.

Examples:
  anabranch process abort checkout/536365 --why 'the customer called'")]
pub struct AbortArgs {
    /// The instance, as name/key, for example checkout/536365
    #[arg(value_parser = stream_id)]
    instance: StreamId,
    /// Why; kept in the journal
    #[arg(long)]
    why: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Pass over the event that a process cannot hear
#[derive(Debug, Args)]
#[command(after_help = "\
`anabranch process ls` shows the event and why it cannot be heard.

Examples:
  anabranch process skip reorder")]
pub struct SkipArgs {
    /// The process or saga
    name: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub async fn run(command: ProcessCommand, context: &Context) -> Outcome {
    match command {
        ProcessCommand::Ls(args) => match &args.name {
            None => ls(&args, context).await,
            Some(name) => ls_instances(name, &args, context).await,
        },
        ProcessCommand::Show(args) => show(&args, context).await,
        ProcessCommand::Retry(args) => retry(&args, context).await,
        ProcessCommand::Abort(args) => {
            let path = instance_path("abort", &args.instance);
            let done = format!("{} goes back", args.instance);
            let body = json!({"why": args.why}).to_string();
            tell(&args.server, &path, body, &done, context).await
        }
        ProcessCommand::Skip(args) => {
            let path = path(&["operate", "processes", &args.name, "skip"], &[]);
            let done = format!("{} passes over the event and goes on", args.name);
            tell(&args.server, &path, String::new(), &done, context).await
        }
    }
}

#[derive(Deserialize)]
struct Process {
    name: String,
    service: String,
    stopped: Option<String>,
    open: u64,
    need_a_person: u64,
    #[serde(default)]
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    stream: String,
    parked: Option<String>,
    phase: Option<String>,
    #[serde(default)]
    needs_person: bool,
    #[serde(default)]
    length: u64,
    state: Option<Box<RawValue>>,
}

impl Instance {
    fn trouble(&self) -> &str {
        match &self.parked {
            Some(reason) => reason,
            None if self.needs_person => "a step is parked",
            None => "",
        }
    }
}

async fn ls(args: &LsArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let answer = remote.get::<Vec<Process>>("/operate/processes").await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let mut table = Table::new(["name", "service", "open", "need a person", "state"]);
            for process in &answer.value {
                table.row([
                    &process.name,
                    &process.service,
                    &process.open.to_string(),
                    &process.need_a_person.to_string(),
                    if process.stopped.is_some() {
                        "stopped"
                    } else {
                        "running"
                    },
                ]);
            }
            table.print("no service has a process or saga", &mut out)?;
            for process in &answer.value {
                print_stopped(process, &mut out)?;
            }
        }
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}

fn print_stopped(process: &Process, out: &mut Output) -> Outcome {
    let Some(reason) = &process.stopped else {
        return Ok(());
    };
    let name = clean(&process.name);
    out.line(&format!(
        "\n{name} has stopped hearing before {}\n  mend it and `anabranch process retry {name}`, or `anabranch process skip {name}`",
        clean(reason)
    ))
}

async fn ls_instances(name: &str, args: &LsArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let path = path(&["operate", "processes", name], &[]);
    let answer = remote.get::<Process>(&path).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let mut table = Table::new(["instance", "phase", "events", "trouble"]);
            for instance in &answer.value.instances {
                table.row([
                    &instance.stream,
                    instance.phase.as_deref().unwrap_or("unreadable"),
                    &instance.length.to_string(),
                    instance.trouble(),
                ]);
            }
            table.print("every instance has ended", &mut out)?;
            print_stopped(&answer.value, &mut out)?;
        }
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}

async fn show(args: &ShowArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let path = instance_path("instance", &args.instance);
    let answer = remote.get::<Instance>(&path).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => print_instance(&answer.value, &mut out)?,
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}

fn print_instance(instance: &Instance, out: &mut Output) -> Outcome {
    let phase = instance.phase.as_deref().unwrap_or("unreadable");
    let mut facts = vec![
        ("instance", instance.stream.clone()),
        ("phase", phase.to_owned()),
        ("journal", format!("{} events", instance.length)),
    ];
    if !instance.trouble().is_empty() {
        facts.push(("trouble", instance.trouble().to_owned()));
    }
    print_facts(&facts, out)?;
    let Some(state) = &instance.state else {
        return Ok(());
    };
    let state: Value = serde_json::from_str(state.get()).unwrap_or_default();
    // A saga's steps read better as a table.
    if let Some(steps) = state["steps"].as_array() {
        if let Some(why) = state["aborted"].as_str() {
            print_facts(&[("aborted", why.to_owned())], out)?;
        }
        out.line("")?;
        let mut table = Table::new(["step", "state", "trouble"]);
        for step in steps {
            let text = |value: &Value| match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            table.row([
                &*text(&step["step"]),
                &*text(&step["state"]),
                &*text(&step["parked"]),
            ]);
        }
        return table.print("no steps", out);
    }
    out.line("\nstate")?;
    print_json(&state, 2, out)
}

async fn retry(args: &RetryArgs, context: &Context) -> Outcome {
    if !args.instance.contains('/') {
        let path = path(&["operate", "processes", &args.instance, "retry"], &[]);
        let done = format!("{} tries to hear the event again", args.instance);
        return tell(&args.server, &path, String::new(), &done, context).await;
    }
    let instance = stream_id(&args.instance).map_err(Failure::usage)?;
    if let Some(step) = &args.step {
        let by = json!({"who": args.who, "why": args.why});
        let body = json!({"step": step, "by": by}).to_string();
        let done = format!("{instance} goes on with step {step}");
        return tell(
            &args.server,
            &instance_path("resume", &instance),
            body,
            &done,
            context,
        )
        .await;
    }
    let done = format!("{instance} is tried again");
    let path = instance_path("retry", &instance);
    tell(&args.server, &path, String::new(), &done, context).await
}

fn instance_path(verb: &str, instance: &StreamId) -> String {
    path(&["operate", verb, instance.category(), instance.key()], &[])
}

async fn tell(
    server: &ServerArgs,
    path: &str,
    body: String,
    done: &str,
    context: &Context,
) -> Outcome {
    let remote = Remote::find(server, context)?;
    let answer = remote.post(path, body).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => out.line(&clean(done))?,
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}
