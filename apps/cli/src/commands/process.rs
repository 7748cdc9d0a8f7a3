//! `anabranch process`.

use anabranch::model::StreamId;
use anabranch_server::client::path;
use anabranch_wire::{
    CircuitState, Instance, Letter, OperatorName, Process, ProcessDone, Raw, Rejection, ResumeStep,
    SagaState, SagaStep, SettleStep, Settlement, StreamDone, Why,
};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Context;
use super::append::stream_id;
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Form, Output};
use crate::remote::{Remote, ServerArgs};
use crate::table::{Table, print_facts, print_json};

/// Look after the processes and sagas of a running program: ls, show, retry, settle,
/// abort, skip
#[derive(Debug, Subcommand)]
pub enum ProcessCommand {
    Ls(LsArgs),
    Show(ShowArgs),
    Retry(RetryArgs),
    Settle(SettleArgs),
    Abort(AbortArgs),
    Skip(SkipArgs),
}

/// List the processes and sagas, or the instances of one that have not ended
#[derive(Debug, Args)]
#[command(after_help = "\
Retrying: some step has had no answer for many attempts; it is tried further by itself.
Need a person: some of it stays as it is until a person acts; `process show` says what to do.

Examples:
  anabranch process ls
  anabranch process ls checkout
  anabranch process ls checkout --ended")]
pub struct LsArgs {
    /// The process or saga whose instances are listed
    name: Option<String>,
    /// Those that have ended instead, newest first; so many at most
    #[arg(long, value_name = "COUNT", num_args = 0..=1, default_missing_value = "20")]
    #[arg(requires = "name", value_parser = clap::value_parser!(u64).range(1..=1000))]
    ended: Option<u64>,
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

/// Try again what is parked: an instance, a step of a saga, or an event that cannot be consumed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch process retry checkout/536365
  anabranch process retry checkout/536365 --step pay --why 'the provider is back'
  anabranch process retry reorder")]
pub struct RetryArgs {
    /// The instance, as name/key; or just the name, of a process that has stopped consuming
    instance: String,
    /// The parked step of a saga, as name or name/branch
    #[arg(long, requires = "why")]
    step: Option<String>,
    /// Who says so; kept in the journal [default: $USER]
    #[arg(long, requires = "step")]
    who: Option<String>,
    /// Why; kept in the journal
    #[arg(long, requires = "step")]
    why: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Say what became of a step that a person has found out about, or has done by hand
#[derive(Debug, Args)]
#[command(after_help = "\
`anabranch process show` lists the steps, and which of them wait for this. The saga goes on from
what is said here, and does not check it.

Examples:
  anabranch process settle charging/536365 charge --refused --why 'the bank says no'
  anabranch process settle charging/536365 charge --done '{\"receipt\":\"R-7\"}' --who ada --why 'on the bill'
  anabranch process settle checkout/536365 reserve/1 --undone --why 'put back by hand'")]
#[command(group = ArgGroup::new("settlement").required(true))]
pub struct SettleArgs {
    /// The saga, as name/key, for example checkout/536365
    #[arg(value_parser = stream_id)]
    instance: StreamId,
    /// The step, as name or name/branch
    step: String,
    /// It took effect; RESULT is what came back, as JSON
    #[arg(long, value_name = "RESULT", num_args = 0..=1, default_missing_value = "null")]
    #[arg(group = "settlement")]
    done: Option<String>,
    /// It had no effect; CODE is the rejection's, for the saga's code
    #[arg(long, value_name = "CODE", num_args = 0..=1, default_missing_value = "settled-by-hand")]
    #[arg(group = "settlement")]
    refused: Option<String>,
    /// On the way back: what it did is undone
    #[arg(long, group = "settlement")]
    undone: bool,
    /// Who says so; kept in the journal [default: $USER]
    #[arg(long)]
    who: Option<String>,
    /// Why; kept in the journal
    #[arg(long)]
    why: String,
    #[command(flatten)]
    server: ServerArgs,
}

impl SettleArgs {
    /// The settlement, as the saga takes it.
    fn settlement(&self) -> Result<Settlement, Failure> {
        if let Some(result) = &self.done {
            let result = Raw::new(result.as_str()).map_err(|error| {
                Failure::usage(format!("the result of --done is not JSON: {error}"))
                    .safe("nothing was changed")
                    .remedy("write text as '\"text\"', or leave the result out")
            })?;
            return Ok(Settlement::Done(result));
        }
        Ok(match &self.refused {
            Some(code) => Settlement::Refused(Rejection {
                code: code.clone(),
                message: self.why.clone(),
                data: None,
                try_again: false,
            }),
            None => Settlement::Undone,
        })
    }
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

/// Pass over the event that a process cannot consume
#[derive(Debug, Args)]
#[command(after_help = "\
`anabranch process ls` shows the event and why it cannot be consumed.

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
        ProcessCommand::Settle(args) => settle(&args, context).await,
        ProcessCommand::Abort(args) => {
            let path = instance_path("abort", &args.instance);
            let done = format!("{} goes back", args.instance);
            let body = body(&Why { why: args.why })?;
            tell::<StreamDone>(&args.server, &path, body, &done, context).await
        }
        ProcessCommand::Skip(args) => {
            let path = path(&["operate", "processes", &args.name, "skip"], &[]);
            let done = format!("{} passes over the event and goes on", args.name);
            tell::<ProcessDone>(&args.server, &path, String::new(), &done, context).await
        }
    }
}

/// What is asked for, as a body.
fn body<T: Serialize>(request: &T) -> Result<String, Failure> {
    serde_json::to_string(request)
        .map_err(|error| Failure::new(Exit::Failed, "io", error.to_string()))
}

async fn ls(args: &LsArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let answer = remote.get::<Vec<Process>>("/operate/processes").await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let mut table = Table::new([
                "name",
                "service",
                "open",
                "behind",
                "retrying",
                "need a person",
                "state",
            ]);
            for process in &answer.value {
                table.row([
                    &process.name,
                    &process.service,
                    &process.open.to_string(),
                    &behind(process.lag_events),
                    &process.retrying.to_string(),
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
                print_letters(process, &mut out)?;
            }
        }
        form => out.values(form, &answer.value)?,
    }
    out.flush()
}

fn behind(lag_events: u64) -> String {
    match lag_events {
        0 => "nothing".to_owned(),
        events => format!("{events} events"),
    }
}

fn print_letters(process: &Process, out: &mut Output) -> Outcome {
    if process.dead_letters == 0 {
        return Ok(());
    }
    let name = clean(&process.name);
    out.line(&format!(
        "\n{name} has sent what nobody could take: {}\n  see `anabranch dead-letter ls`; when it is mended, `anabranch dead-letter retry --from {name}`",
        process.dead_letters
    ))
}

fn print_stopped(process: &Process, out: &mut Output) -> Outcome {
    let Some(reason) = &process.stopped else {
        return Ok(());
    };
    let name = clean(&process.name);
    out.line(&format!(
        "\n{name} has stopped consuming before {}\n  mend it and `anabranch process retry {name}`, or `anabranch process skip {name}`",
        clean(reason)
    ))
}

async fn ls_instances(name: &str, args: &LsArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let ended = args.ended.map(|count| count.to_string());
    let parameters = ended.as_deref().map(|count| ("ended", count));
    let path = path(&["operate", "processes", name], parameters.as_slice());
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
            let none = match args.ended {
                Some(_) => "no instance has ended",
                None => "every instance has ended",
            };
            table.print(none, &mut out)?;
            print_stopped(&answer.value, &mut out)?;
            print_letters(&answer.value, &mut out)?;
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
    print_held(instance, out)?;
    let Some(state) = &instance.state else {
        return Ok(());
    };
    // A saga's steps read better as a table.
    if let Ok(saga) = state.parse::<SagaState>() {
        print_steps(instance, &saga, out)?;
    } else {
        out.line("\nstate")?;
        print_json(state.as_str(), 2, out)?;
    }
    print_under_way(instance, out)?;
    for letter in &instance.letters {
        let (what, id) = match &letter.what {
            Letter::Command(sent) => (format!("{} to {}", sent.name, sent.to), &letter.id),
            Letter::Call(sent) => (format!("call {}", sent.effect), &letter.id),
        };
        let (what, why) = (clean(&what), clean(&letter.reason));
        out.line(&format!(
            "\nnobody could take {what}: {why}\n  see `anabranch dead-letter show {id}`"
        ))?;
    }
    Ok(())
}

/// How many held events are named; `-o json` has all.
const HELD_SHOWN: usize = 20;

/// What waits for the event that starts the instance.
fn print_held(instance: &Instance, out: &mut Output) -> Outcome {
    if instance.held.is_empty() {
        return Ok(());
    }
    out.line("\nnothing has started it yet; what has come for it is held")?;
    let mut table = Table::new(["held", "of", "at"]);
    for event in instance.held.iter().take(HELD_SHOWN) {
        table.row([&event.event_type, &event.stream, &event.position]);
    }
    table.print("nothing", out)?;
    let more = instance.held.len().saturating_sub(HELD_SHOWN);
    if more > 0 {
        out.line(&format!("and {more} more"))?;
    }
    Ok(())
}

/// What is on its way, how often that has failed, and why.
fn print_under_way(instance: &Instance, out: &mut Output) -> Outcome {
    if instance.under_way.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(["under way", "failed", "circuit", "next try", "last error"]);
    for sent in &instance.under_way {
        table.row([
            &*sent.what,
            &times(sent.attempts),
            sent.circuit.map_or("", CircuitState::name),
            sent.again_at.as_deref().unwrap_or("now"),
            sent.last_error.as_deref().unwrap_or(""),
        ]);
    }
    table.print("nothing", out)
}

fn times(count: u64) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        many => format!("{many} times"),
    }
}

/// What a step waits for, in a few words.
fn waits(step: &SagaStep) -> String {
    let Some(asked) = &step.asked else {
        return String::new();
    };
    let next = match (&step.parked, &step.again_at) {
        (Some(_), None) => "waits for a person".to_owned(),
        (_, Some(at)) => format!("looked after at {at}"),
        (None, None) => "waits for its answer".to_owned(),
    };
    format!("{asked}; attempt {}, {next}", step.attempts)
}

fn print_steps(instance: &Instance, saga: &SagaState, out: &mut Output) -> Outcome {
    if let Some(why) = &saga.aborted {
        print_facts(&[("aborted", why.clone())], out)?;
    }
    out.line("")?;
    let mut table = Table::new(["step", "state", "waits for"]);
    for step in &saga.steps {
        table.row([&step.step, &step.state, &waits(step)]);
    }
    table.print("no steps", out)?;
    for step in &saga.steps {
        if let Some(why) = &step.fallback {
            let (name, why) = (clean(&step.step), clean(why));
            out.line(&format!("\n{name} has asked for its fallback: {why}"))?;
        }
        // Who is parked says it too.
        if let (Some(error), None) = (&step.last_error, &step.parked) {
            let (name, error) = (clean(&step.step), clean(error));
            out.line(&format!("\n{name} has failed: {error}"))?;
        }
        if let Some(why) = &step.parked {
            print_parked(instance, saga, step, why, out)?;
        }
    }
    Ok(())
}

/// Why a person should look at a step, and what a person can do.
fn print_parked(
    instance: &Instance,
    state: &SagaState,
    step: &SagaStep,
    why: &str,
    out: &mut Output,
) -> Outcome {
    let (saga, name) = (clean(&instance.stream), clean(&step.step));
    let is_going_back = instance.phase.as_deref() == Some("aborting");
    let kind = if step.going_on {
        "is retrying by itself"
    } else {
        "needs a person"
    };
    out.line(&format!("\n{name} {kind}: {}", clean(why)))?;
    let mut ways = Vec::new();
    if step.going_on {
        ways.push("wait: it goes on by itself once it is answered".to_owned());
    }
    // What nobody knows about is not asked for again.
    if step.state != "unknown" || is_going_back {
        ways.push(format!(
            "try it now: `anabranch process retry {saga} --step {name} --why …`"
        ));
    }
    match (step.state.as_str(), is_going_back) {
        ("started" | "unknown", false) => ways.push(format!(
            "say what became of it: `anabranch process settle {saga} {name} --done|--refused --why …`"
        )),
        ("undoing", _) | ("started" | "unknown" | "done", true) => ways.push(format!(
            "undo it by hand and say so: `anabranch process settle {saga} {name} --undone --why …`"
        )),
        _ => {}
    }
    if state.can_go_back.unwrap_or(!is_going_back) {
        ways.push(format!(
            "let the saga go back: `anabranch process abort {saga} --why …`"
        ));
    }
    for way in ways {
        out.line(&format!("  {way}"))?;
    }
    Ok(())
}

async fn settle(args: &SettleArgs, context: &Context) -> Outcome {
    let body = body(&SettleStep {
        step: args.step.clone(),
        settlement: args.settlement()?,
        by: OperatorName {
            who: who(args.who.as_deref())?,
            why: args.why.clone(),
        },
    })?;
    let done = format!("{} goes on: step {} is settled", args.instance, args.step);
    let path = instance_path("settle", &args.instance);
    tell::<StreamDone>(&args.server, &path, body, &done, context).await
}

/// Who decides, for the journal.
fn who(named: Option<&str>) -> Result<String, Failure> {
    let of_login = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    match named.map(str::to_owned).or_else(|| of_login().ok()) {
        Some(who) if !who.trim().is_empty() => Ok(who),
        _ => Err(Failure::usage("nobody says who decides")
            .safe("nothing was changed")
            .remedy("say it with --who; it is kept in the journal")),
    }
}

async fn retry(args: &RetryArgs, context: &Context) -> Outcome {
    if !args.instance.contains('/') {
        let path = path(&["operate", "processes", &args.instance, "retry"], &[]);
        let done = format!("{} tries to consume the event again", args.instance);
        return tell::<ProcessDone>(&args.server, &path, String::new(), &done, context).await;
    }
    let instance = stream_id(&args.instance).map_err(Failure::usage)?;
    if let Some(step) = &args.step {
        let body = body(&ResumeStep {
            step: step.clone(),
            by: OperatorName {
                who: who(args.who.as_deref())?,
                why: args.why.clone().unwrap_or_default(),
            },
        })?;
        let done = format!("{instance} goes on with step {step}");
        return tell::<StreamDone>(
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
    tell::<StreamDone>(&args.server, &path, String::new(), &done, context).await
}

fn instance_path(verb: &str, instance: &StreamId) -> String {
    path(&["operate", verb, instance.category(), instance.key()], &[])
}

async fn tell<T: DeserializeOwned>(
    server: &ServerArgs,
    path: &str,
    body: String,
    done: &str,
    context: &Context,
) -> Outcome {
    let remote = Remote::find(server, context)?;
    let answer = remote.post::<T>(path, body).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => out.line(&clean(done))?,
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}
