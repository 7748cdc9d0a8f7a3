//! `anabranch dead-letter`.

use anabranch_server::client::path;
use anabranch_wire::{
    Edited, LetterDone, LetterOutcome, LettersRetried, Raw, Retried, RetryLetters, ServiceLetter,
    Why,
};
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::append::json as checked_json;
use super::log::text::counted;
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
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

/// Try again to deliver one, changed or not, or many
#[derive(Debug, Args)]
#[command(after_help = "\
Says what became of each: delivered, failed again with the reason, or still under way. Ends with 1
if one failed again.

Examples:
  anabranch dead-letter retry 01939f6e-0000-8000-8000-000000000000
  anabranch dead-letter retry 01939f6e-0000-8000-8000-000000000000 --data '{\"units\":5}'
  anabranch dead-letter retry --from mailing --dry-run
  anabranch dead-letter retry --reason 'too busy'
  anabranch dead-letter retry --all")]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["id", "all", "from", "reason"]))]
pub struct RetryArgs {
    /// Its id
    #[arg(conflicts_with_all = ["all", "from", "reason", "dry_run"])]
    id: Option<String>,
    /// What it shall hold instead: JSON
    #[arg(long, short, value_name = "JSON", requires = "id")]
    data: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["from", "reason"])]
    all: bool,
    /// Those that this process or saga has sent, or this instance of one, as name/key
    #[arg(long, value_name = "PROCESS")]
    from: Option<String>,
    /// Those whose reason holds this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only list those that are meant
    #[arg(long)]
    dry_run: bool,
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
        DeadLetterCommand::Retry(args) => retry(args, context).await,
        DeadLetterCommand::Discard(args) => discard(args, context).await,
    }
}

/// What is asked for, as a body.
fn body<T: Serialize>(request: &T) -> Result<String, Failure> {
    serde_json::to_string(request)
        .map_err(|error| Failure::new(Exit::Failed, "io", error.to_string()))
}

async fn retry(args: RetryArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let (letters, left) = if let Some(id) = &args.id {
        let data = args.data.map(|data| checked_json(data.into_bytes()));
        let data = data.transpose()?;
        let data = data.map(|data| Raw::new(String::from_utf8_lossy(&data)));
        let edited = Edited {
            data: data
                .transpose()
                .map_err(|e| Failure::usage(e.to_string()))?,
        };
        let path = path(&["operate", "dead-letters", id, "retry"], &[]);
        let answer = remote.post::<Retried>(&path, body(&edited)?).await?;
        (vec![answer.value], 0)
    } else {
        let meant = RetryLetters {
            all: args.all,
            from: args.from,
            reason: args.reason,
            dry_run: args.dry_run,
        };
        let path = "/operate/dead-letters/retry";
        let answer = remote.post::<LettersRetried>(path, body(&meant)?).await?;
        (answer.value.letters, answer.value.left)
    };
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => print_retried(&letters, left, &mut out)?,
        form => out.values(form, &letters)?,
    }
    out.flush()?;
    let failed = letters
        .iter()
        .filter(|letter| letter.outcome == LetterOutcome::FailedAgain)
        .count() as u64;
    if failed == 0 {
        return Ok(());
    }
    let what = format!(
        "{} could not be delivered again",
        counted(failed, "dead letter")
    );
    Err(Failure::new(Exit::Failed, "failed-again", what)
        .safe("they are kept as dead letters")
        .remedy("mend the reason, edit one with --data, or give it up with `anabranch dead-letter discard`")
        .into())
}

fn print_retried(letters: &[Retried], left: u64, out: &mut Output) -> Outcome {
    for letter in letters {
        let (id, reason) = (&letter.id, letter.reason.as_deref().unwrap_or_default());
        let line = match letter.outcome {
            LetterOutcome::Delivered => format!("{id} was delivered"),
            LetterOutcome::FailedAgain => format!("{id} failed again: {reason}"),
            LetterOutcome::UnderWay => {
                format!(
                    "{id} is under way; see whether it comes back with `anabranch dead-letter ls`"
                )
            }
            LetterOutcome::WouldRetry => {
                format!("{id} of {} would be tried again: {reason}", letter.from)
            }
        };
        out.line(&clean(&line))?;
    }
    if letters.is_empty() {
        out.line("no dead letter fits")?;
    }
    if left > 0 {
        out.line(&format!("{left} more fit and were not tried: ask again"))?;
    }
    Ok(())
}

async fn discard(args: DiscardArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let path = path(&["operate", "dead-letters", &args.id, "discard"], &[]);
    let why = body(&Why { why: args.why })?;
    let answer = remote.post::<LetterDone>(&path, why).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => out.line(&clean(&format!(
            "{} is given up; its sender is told",
            args.id
        )))?,
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}

async fn ls(args: &LsArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let answer = remote
        .get::<Vec<ServiceLetter>>("/operate/dead-letters")
        .await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let mut table = Table::new(["id", "from", "what", "to", "tried", "reason"]);
            for ServiceLetter { letter, .. } in &answer.value {
                let (what, to) = letter.what.summary();
                table.row([
                    &*letter.id,
                    &letter.from,
                    what,
                    to,
                    &letter.attempts.to_string(),
                    &letter.reason,
                ]);
            }
            table.print("everything was delivered", &mut out)?;
        }
        form => out.values(form, &answer.value)?,
    }
    out.flush()
}

async fn show(args: &ShowArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let path = path(&["operate", "dead-letters", &args.id], &[]);
    let answer = remote.get::<ServiceLetter>(&path).await?;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            let ServiceLetter { service, letter } = &answer.value;
            let (what, to) = letter.what.summary();
            print_facts(
                &[
                    ("id", letter.id.clone()),
                    ("from", format!("{} of service {service}", letter.from)),
                    ("what", what.to_owned()),
                    ("to", to.to_owned()),
                    ("tried", letter.attempts.to_string()),
                    ("reason", letter.reason.clone()),
                ],
                &mut out,
            )?;
            out.line("\nwhat it holds")?;
            print_json(letter.what.data().as_str(), 2, &mut out)?;
        }
        Form::Json | Form::Jsonl => out.line(&answer.text)?,
    }
    out.flush()
}
