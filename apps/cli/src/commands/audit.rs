//! `anabranch audit`.

use anabranch::access::{AUDIT_STREAM, AuditBreak, AuditChain, AuditRecord};
use anabranch::domain::Timestamp;
use anabranch::log::{Order, VersionRange};
use anabranch::model::StreamId;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output};
use crate::table::Table;

/// Look at what servers with --auth have written down of who did what: ls, verify
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    Ls(LsArgs),
    Verify(VerifyArgs),
}

/// List the records: who did what, and what came of it
#[derive(Debug, Args)]
#[command(after_help = "\
A server with --auth writes down who appends to categories of the platform, such as keys; what operators
do; which services register; and whom it has refused, those that are alike counted together.

Examples:
  anabranch audit ls --log ./log")]
pub struct LsArgs {}

/// Check that no record was changed, taken out or moved since it was written
#[derive(Debug, Args)]
#[command(after_help = "\
Each record holds the hash of the one before. The last hash is printed: kept elsewhere, and given again
with --holds, it shows that nothing was cut off at the end, or written anew from the start.

Examples:
  anabranch audit verify --log ./log
  anabranch audit verify --log ./log --holds 7:9f86d081884c7d65…")]
pub struct VerifyArgs {
    /// The audit has to hold this record: its number and its hash, as they were printed before
    #[arg(long, value_name = "NUMBER:HASH")]
    holds: Option<String>,
}

/// Runs the command.
pub async fn run(command: AuditCommand, context: &Context) -> Outcome {
    let (records, end) = read(context).await?;
    match command {
        AuditCommand::Ls(LsArgs {}) => {
            list(&records, context.settings.form)?;
            end.map(|_| ()).map_err(|broken| failure(&broken).into())
        }
        AuditCommand::Verify(args) => {
            let chain = end.map_err(|broken| failure(&broken))?;
            if let Some(held) = &args.holds {
                let is_it =
                    |record: &AuditRecord| *held == format!("{}:{}", record.number, record.hash);
                if !records.iter().any(is_it) {
                    let what = format!(
                        "the audit does not hold record {held}: it was cut off or written anew"
                    );
                    return Err(Failure::new(Exit::Failed, "audit-broken", what).into());
                }
            }
            print(&chain, context.settings.form)
        }
    }
}

/// The records up to the first that is not as it was written, and where the audit ends or is broken.
async fn read(
    context: &Context,
) -> Result<(Vec<AuditRecord>, Result<AuditChain, AuditBreak>), Failure> {
    let opened = logs::open_read_only(context)?;
    let stream = StreamId::system(AUDIT_STREAM);
    let stream = stream.map_err(|error| Failure::new(Exit::Failed, "audit", error.to_string()))?;
    let mut read = opened
        .log
        .read_stream(&stream, VersionRange::ALL, Order::Forward);
    let (mut chain, mut records) = (AuditChain::default(), Vec::new());
    while let Some(event) = read.next().await {
        let event = event?;
        match chain.follow_event(event.event_type(), event.data()) {
            Ok(record) => records.push(record),
            Err(broken) => return Ok((records, Err(broken))),
        }
    }
    drop(read);
    opened.close()?;
    Ok((records, Ok(chain)))
}

fn failure(broken: &AuditBreak) -> Failure {
    Failure::new(Exit::Failed, "audit-broken", broken.to_string())
        .remedy("compare it with a backup: who can write the log's files can change them")
}

fn list(records: &[AuditRecord], form: Form) -> Outcome {
    let mut out = Output::stdout();
    if form != Form::Text {
        out.values(form, records)?;
        return out.flush();
    }
    let mut table = Table::new(["record", "when", "who", "did", "to", "result", "times"]);
    for record in records {
        table.row([
            &record.number.to_string(),
            &Timestamp::from_micros(record.at).to_string(),
            &record.who,
            &record.did,
            &record.about,
            &record.result,
            &record.times.to_string(),
        ]);
    }
    table.print("nothing was written down; servers with --auth do", &mut out)?;
    out.flush()
}

fn print(chain: &AuditChain, form: Form) -> Outcome {
    let mut out = Output::stdout();
    let (number, hash) = (chain.number(), chain.hash());
    match form {
        Form::Text if number == 0 => out.line("the audit has no record")?,
        Form::Text => out.line(&format!(
            "the audit is whole; the last record is {number}:{hash}"
        ))?,
        Form::Json | Form::Jsonl => {
            out.values(form, &[json!({"records": number, "hash": hash})])?
        }
    }
    out.flush()
}
