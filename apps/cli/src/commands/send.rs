//! `anabranch send`.

use std::time::Duration;

use anabranch::log::Expect;
use anabranch::model::{EventId, StreamId};
use anabranch_event_json::parse_expect;
use anabranch_server::client::path;
use anabranch_wire::{
    CommandOutcome, Happened, IDEMPOTENCY_KEY, SagaEnded, SagaOutcome, TOKEN_HEADER,
};
use clap::Args;

use super::Context;
use super::append::{json, read_stdin, stream_id};
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Form, Output};
use crate::remote::{Remote, ServerArgs};
use crate::whole::whole;

/// Send a command to an entity of a running program
#[derive(Debug, Args)]
#[command(after_help = "\
Answers when what the command records is durable. With --id a command can be sent again: what was
done stays done once, and the first outcome is the answer.

Examples:
  anabranch send order/536365 --type PlaceOrder --data '{\"total\":1550}'
  anabranch send order/536365 --type CancelOrder --expect 0
  anabranch send order/536366 --type PlaceOrder --data '{\"total\":20}' --id receipt-17
  anabranch send checkout/536366 --type StartSaga --data '{\"input\":{}}' --wait 10")]
pub struct SendArgs {
    /// The entity, as category/key, for example order/536365
    #[arg(value_parser = stream_id)]
    entity: StreamId,
    /// What is asked for, for example PlaceOrder
    #[arg(long = "type", short = 't', value_name = "TYPE")]
    command: String,
    /// What the command holds: JSON, or - to read it from standard input
    #[arg(
        long,
        short,
        value_name = "JSON",
        default_value = "{}",
        allow_hyphen_values = true
    )]
    data: String,
    /// Id of the command, a UUID or any text; made up if not given
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// State the entity must be in: any, empty, exists, or the version of its last event
    #[arg(long, value_name = "STATE", default_value = "any", value_parser = parse_expect, allow_negative_numbers = true)]
    expect: Expect,
    /// What was seen before, as another answer gave it
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// With a command to a saga: wait for its end, so many seconds and at most 60
    #[arg(long, value_name = "SECONDS", value_parser = whole::<u64>, allow_negative_numbers = true)]
    wait: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

/// How often a command is sent whose outcome is unknown.
const TRIES: u32 = 3;

/// Sends the command.
pub async fn run(args: SendArgs, context: &Context) -> Outcome {
    let data = match args.data.as_str() {
        "-" => read_stdin(context.settings.options.limits.data_bytes_max)?,
        data => data.as_bytes().to_vec(),
    };
    // Checked here too, so that a mistake is told with its column and --data's name.
    let data = String::from_utf8_lossy(&json(data)?).into_owned();
    let id = args.id.clone().unwrap_or_else(|| {
        let now_ms = context.env.clock.wall_micros() / 1_000;
        EventId::v7(now_ms, context.env.rng.next_u128()).to_string()
    });
    let expected = match args.expect {
        Expect::Any => None,
        Expect::Empty => Some(("if-none-match", "*".to_owned())),
        Expect::Exists => Some(("if-match", "*".to_owned())),
        Expect::At(version) => Some(("if-match", format!("\"{version}\""))),
    };
    let mut headers = vec![(IDEMPOTENCY_KEY, id.as_str())];
    headers.extend(
        expected
            .as_ref()
            .map(|(name, value)| (*name, value.as_str())),
    );
    let wait = args.wait.map(|seconds| format!("wait={seconds}"));
    headers.extend(wait.as_deref().map(|wait| ("prefer", wait)));
    headers.extend(args.token.as_deref().map(|token| (TOKEN_HEADER, token)));
    let (category, key) = (args.entity.category(), args.entity.key());
    let path = path(&["commands", category, key], &[("type", &args.command)]);
    let remote = Remote::find(&args.server, context)?;
    let mut tries = 1;
    let answer = loop {
        match remote
            .post_with::<CommandOutcome>(&path, &headers, data.clone())
            .await
        {
            Ok(answer) => break answer,
            // The id makes it safe to ask what has become of it.
            Err(failure) if failure.happened == Happened::Maybe && tries < TRIES => tries += 1,
            Err(failure) if failure.happened == Happened::Maybe => {
                let again = format!("send it again with --id {id} to find out");
                return Err(failure.remedy(again).into());
            }
            Err(failure) => return Err(failure.into()),
        }
        crate::pause::pause(Duration::from_millis(100), &*context.env.rng).await;
    };
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => {
            print(&answer.value, &mut out)?;
            if let Some(token) = &answer.token {
                out.line(&format!("token {}", clean(token)))?;
            }
        }
        Form::Json | Form::Jsonl => {
            out.line(&with_token(&answer.text, answer.token.as_deref())?)?
        }
    }
    out.flush()?;
    match &answer.value.ended {
        Some(SagaEnded {
            outcome: SagaOutcome::Compensated,
            reason,
        }) => {
            let why = reason.as_deref().unwrap_or("it was aborted");
            let what = format!("{} was compensated: {}", args.entity, clean(why));
            Err(Failure::new(Exit::Conflict, "compensated", what)
                .safe("everything that may have taken effect is undone")
                .into())
        }
        _ => Ok(()),
    }
}

fn print(done: &CommandOutcome, out: &mut Output) -> Outcome {
    let stream = clean(&done.stream);
    if let Some(ended) = &done.ended {
        let how = match ended.outcome {
            SagaOutcome::Completed => "has completed",
            SagaOutcome::Compensated => "was compensated",
        };
        return out.line(&format!("{stream} {how}"));
    }
    if done.taken {
        return out.line(&format!(
            "{stream} has taken command {}",
            clean(&done.command)
        ));
    }
    let version = match done.version {
        Some(version) => format!("version {version}"),
        None => "no version".to_owned(),
    };
    let before = if done.repeated {
        " (it was done before)"
    } else {
        ""
    };
    out.line(&format!(
        "{stream} is at {version} after command {}{before}",
        clean(&done.command)
    ))?;
    for event in &done.events {
        out.line(&format!(
            "  {}  {}  {}",
            event.version,
            clean(&event.name),
            clean(event.data.as_str())
        ))?;
    }
    if done.events.is_empty() {
        out.line("  it recorded nothing")?;
    }
    Ok(())
}

/// A JSON object with one more member: the token.
pub fn with_token(object: &str, token: Option<&str>) -> Result<String, Failure> {
    let Some(token) = token else {
        return Ok(object.to_owned());
    };
    let open = object.trim_end().strip_suffix('}').ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "strange-answer",
            "the answer is no JSON object",
        )
    })?;
    Ok(format!("{open},\"token\":{}}}", serde_json::json!(token)))
}
