//! `anabranch log repair`.

use anabranch::model::Version;
use anabranch::segment::{self, Loss, LostEvent, RepairPlan};
use clap::Args;
use serde_json::{Value, json};

use super::text::events;
use crate::commands::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output};

/// Mend a damaged log; say first exactly what is lost
#[derive(Debug, Args)]
#[command(after_help = "\
Without --accept-loss, a repair that would lose events changes nothing: it prints what they are and
ends with exit code 1. A repair that loses nothing is done at once.

Every damaged file is kept beside the log under another name. In the place of a lost event stands
an event of type $EventLost, so that positions stay as they were and every reader sees the loss.
A backup that has the events is always better: see `anabranch log restore`.

Examples:
  anabranch log repair
  anabranch log repair --accept-loss")]
pub struct RepairArgs {
    /// Lose the events that cannot be read
    #[arg(long)]
    accept_loss: bool,
}

/// Prints what is lost, and mends the log if that is accepted.
pub fn run(args: &RepairArgs, context: &Context) -> Outcome {
    let dir = logs::directory_of(context)?;
    let plan = segment::plan_repair(context.env.clone(), dir)?;
    let is_accepted = args.accept_loss || plan.losses.is_empty();
    let is_done = is_accepted && !plan.is_empty();
    let mut out = Output::stdout();
    // What is lost is said before it is lost.
    if context.settings.form == Form::Text {
        print_plan(&plan, is_accepted, &mut out)?;
        out.flush()?;
    }
    if is_done {
        plan.apply(context.env.clone())?;
    }
    match context.settings.form {
        Form::Text => out.line(&end_text(&plan, is_done))?,
        Form::Json | Form::Jsonl => out.line(&to_json(&plan, is_done).to_string())?,
    }
    out.flush()?;
    if is_accepted {
        return Ok(());
    }
    let what = format!("a repair would lose {}", events(plan.lost()));
    Err(Failure::new(Exit::Failed, "loss-not-accepted", what)
        .safe("nothing was changed")
        .remedy(
            "restore the log from a backup that has them, or accept the loss with --accept-loss",
        )
        .into())
}

fn print_plan(plan: &RepairPlan, is_accepted: bool, out: &mut Output) -> Outcome {
    for loss in &plan.losses {
        out.line(&format!("lost: {loss}"))?;
        for line in known_lines(loss) {
            out.line(&format!("  {line}"))?;
        }
    }
    let label = if is_accepted { "now" } else { "would" };
    for action in &plan.actions {
        out.line(&format!("{label}: {action}"))?;
    }
    Ok(())
}

fn end_text(plan: &RepairPlan, is_done: bool) -> String {
    match (plan.is_empty(), is_done, plan.lost()) {
        (true, ..) => "nothing to repair: the log is whole".to_owned(),
        (_, true, 0) => "repaired; nothing is lost".to_owned(),
        (_, true, lost) => format!(
            "repaired; {} lost, and events of type $EventLost in their places",
            events(lost)
        ),
        (_, false, lost) => format!("not repaired; {} would be lost", events(lost)),
    }
}

/// Which events of a loss are known, each run of versions on one line.
fn known_lines(loss: &Loss) -> Vec<String> {
    let mut known: Vec<(&str, Version)> = loss
        .known
        .iter()
        .filter_map(|event| Some((event.stream.as_deref()?, event.version)))
        .collect();
    known.sort_unstable();
    let mut lines: Vec<String> = known
        .chunk_by(|a, b| a.0 == b.0 && a.1 + 1 == b.1)
        .map(|run| match (run[0], run[run.len() - 1]) {
            ((stream, first), (_, last)) if first == last => format!("{stream} version {first}"),
            ((stream, first), (_, last)) => format!("{stream} versions {first} to {last}"),
        })
        .collect();
    let total = loss.last.offset - loss.first.offset + 1;
    let alone = (loss.known.len() - known.len()) as u64;
    if alone > 0 {
        let what = "of streams that have no other event";
        lines.push(format!("{} {what}", events(alone)));
    }
    if total > loss.known.len() as u64 {
        let unknown = total - loss.known.len() as u64;
        lines.push(format!("{} of which nothing is known", events(unknown)));
    }
    lines
}

fn to_json(plan: &RepairPlan, is_done: bool) -> Value {
    let known = |event: &LostEvent| {
        json!({
            "position": event.position,
            "stream": event.stream,
            "version": event.version,
        })
    };
    let loss = |loss: &Loss| {
        json!({
            "first": loss.first,
            "last": loss.last,
            "file": loss.file,
            "offset": loss.offset,
            "what": loss.what,
            "known": loss.known.iter().map(known).collect::<Vec<_>>(),
        })
    };
    json!({
        "lost": plan.lost(),
        "losses": plan.losses.iter().map(loss).collect::<Vec<_>>(),
        "actions": plan.actions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "done": is_done,
    })
}
