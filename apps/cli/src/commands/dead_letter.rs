//! `anabranch dead-letter`.

use anabranch_server::client::path;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Context;
use super::append::json as checked_json;
use crate::failure::Outcome;
use crate::output::{Form, Output};
use crate::remote::{Remote, ServerArgs};
use crate::table::{Table, print_facts, print_json};

/// Deal with what processes have sent and nobody could take: ls, show, retry, discard
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    Ls(LsArgs),
    Show(ShowArgs),
    Retry(RetryArgs),
    Discard(DiscardArgs),
}

/// List what could not be delivered, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch dead-letter ls")]
pub struct LsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Show one, with what it holds
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch dead-letter show 01939f6e-0000-8000-8000-000000000000")]
pub struct ShowArgs {
    /// Its id
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Try again to deliver one, changed or not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch dead-letter retry 01939f6e-0000-8000-8000-000000000000
  anabranch dead-letter retry 01939f6e-0000-8000-8000-000000000000 --data '{\"units\":5}'")]
pub struct RetryArgs {
    /// Its id
    id: String,
    /// What it shall hold instead: JSON
    #[arg(long, short, value_name = "JSON")]
    data: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Give one up: who sent it is told that it was refused
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch dead-letter discard 01939f6e-0000-8000-8000-000000000000 --why 'sold out'")]
pub struct DiscardArgs {
    /// Its id
    id: String,
    /// Why; the sender is told
    #[arg(long)]
    why: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub async fn run(command: DeadLetterCommand, context: &Context) -> Outcome {
    match command {
        DeadLetterCommand::Ls(args) => ls(&args, context).await,
        DeadLetterCommand::Show(args) => show(&args, context).await,
        DeadLetterCommand::Retry(args) => {
            let data = args.data.map(|data| checked_json(data.into_bytes()));
            let body = match data.transpose()? {
                Some(data) => format!("{{\"data\":{}}}", String::from_utf8_lossy(&data)),
                None => String::new(),
            };
            let done = format!("{} is delivered again", args.id);
            deal(&args.server, &args.id, "retry", body, &done, context).await
        }
        DeadLetterCommand::Discard(args) => {
            let body = json!({"why": args.why}).to_string();
            let done = format!("{} is given up; its sender is told", args.id);
            deal(&args.server, &args.id, "discard", body, &done, context).await
        }
    }
}

#[derive(Deserialize)]
struct Shown {
    service: String,
    letter: Letter,
}

#[derive(Deserialize)]
struct Letter {
    id: String,
    from: String,
    what: Value,
    reason: String,
    attempts: u32,
}

impl Letter {
    /// What was sent, as type and receiver.
    fn summary(&self) -> (String, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(command) = self.what.get("command") {
            return (text(&command["type"]), text(&command["to"]));
        }
        let call = &self.what["call"][0]["call"];
        (text(&call["effect"]), "the world outside".to_owned())
    }
}

async fn ls(args: &LsArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let answer = remote.get::<Vec<Shown>>("/operate/dead-letters").await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let mut table = Table::new(["id", "from", "what", "to", "tried", "reason"]);
            for Shown { letter, .. } in &answer.value {
                let (what, to) = letter.summary();
                table.row([
                    &*letter.id,
                    &letter.from,
                    &what,
                    &to,
                    &letter.attempts.to_string(),
                    &letter.reason,
                ]);
            }
            table.print("everything was delivered", &mut out)?;
        }
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}

async fn show(args: &ShowArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let path = path(&["operate", "dead-letters", &args.id], &[]);
    let answer = remote.get::<Shown>(&path).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let Shown { service, letter } = &answer.value;
            let (what, to) = letter.summary();
            print_facts(
                &[
                    ("id", letter.id.clone()),
                    ("from", format!("{} of service {service}", letter.from)),
                    ("what", what),
                    ("to", to),
                    ("tried", letter.attempts.to_string()),
                    ("reason", letter.reason.clone()),
                ],
                &mut out,
            )?;
            out.line("\nwhat it holds")?;
            print_json(&letter.what, 2, &mut out)?;
        }
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}

async fn deal(
    server: &ServerArgs,
    id: &str,
    verb: &str,
    body: String,
    done: &str,
    context: &Context,
) -> Outcome {
    let remote = Remote::find(server, context)?;
    let path = path(&["operate", "dead-letters", id, verb], &[]);
    let answer = remote.post(&path, body).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => out.line(&crate::event_text::clean(done))?,
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}
