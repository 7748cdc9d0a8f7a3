//! `anabranch key`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anabranch::access::{Key, KeyAdded, KeyFact, Known, Scopes};
use anabranch::domain::Timestamp;
use anabranch::env::{Env, OpenMode};
use anabranch::log::Log;
use anabranch::model::EventId;
use anabranch_server::{key_append, read_keys};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output, note};
use crate::settings::units::parse_duration;
use crate::table::Table;

/// Make and revoke the keys that callers show to a server with --auth: add, ls, revoke
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    Add(AddArgs),
    Ls(LsArgs),
    Revoke(RevokeArgs),
}

/// Make a key, and print it: it is shown this once
#[derive(Debug, Args)]
#[command(after_help = "\
The log keeps a hash of the key, and no key. A scope says what its holder may do: a verb, a colon, and a
category, view or name, with a * at its end if names that begin so are meant. What no scope allows is
refused; one that begins with deny: beats all others.

  read:order         read events of the category order, by any way to read
  append:order-*     append events
  command:order      send commands to entities and sagas
  query:orders       ask the view orders
  operate:*          look at and mend what runs; operate:metrics only reads the metrics
  operate:$schema    read and append what the platform keeps in such a category
  admin:$access      make and revoke keys;  admin:log  copy the log's files
  *:*                everything but what begins with $; with *:$* that too

Examples:
  anabranch key add reports --scope read:order --scope query:* --expires 720h
  anabranch key add orders --scope '*:*' --scope 'operate:$*' --file ./orders.key")]
pub struct AddArgs {
    /// What it is for, in words
    name: String,
    /// What its holder may do; may stand there several times
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
    /// For how long it is good, for example 720h [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires: Option<Duration>,
    /// Write it to this new file, which only you may read, and not to the standard output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// List the keys: never their secrets
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  anabranch key ls")]
pub struct LsArgs {}

/// Let a key be good for nothing any more, for ever
#[derive(Debug, Args)]
#[command(after_help = "\
Every server of the log refuses it within a second.

Examples:
  anabranch key revoke 4f1b9c0d22aa")]
pub struct RevokeArgs {
    /// The id of the key, as `anabranch key ls` shows it
    id: String,
}

/// Runs the command.
pub async fn run(command: KeyCommand, context: &Context) -> Outcome {
    match command {
        KeyCommand::Add(args) => add(args, context).await,
        KeyCommand::Ls(LsArgs {}) => list(context).await,
        KeyCommand::Revoke(args) => revoke(&args, context).await,
    }
}

/// A key as programs read it.
#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    scopes: Vec<String>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

async fn add(args: AddArgs, context: &Context) -> Outcome {
    let env = &context.env;
    let scopes = Scopes::parse(args.scopes.iter().map(String::as_str));
    let scopes = scopes.map_err(|error| Failure::usage(error.to_string()))?;
    let key = Key::generate(&*env.rng);
    let expires_at = args.expires.map(|expires| {
        let micros = u64::try_from(expires.as_micros()).unwrap_or(u64::MAX);
        env.clock.wall_micros().saturating_add(micros)
    });
    // A key that cannot be handed over is not made.
    if let Some(file) = &args.file {
        let written = write(env, file, &key);
        written.map_err(|error| Failure::file("write", &file.display().to_string(), &error))?;
    }
    let fact = KeyFact::Added(KeyAdded {
        name: args.name,
        hash: key.hash().to_string(),
        scopes,
        expires_at,
    });
    let opened = logs::open(context)?;
    say(&opened.log, key.id(), &fact, env).await?;
    opened.close()?;
    let mut out = Output::stdout();
    match (&args.file, context.settings.form) {
        (Some(file), Form::Text) => note(&format!("key {}: {}", key.id(), file.display())),
        (None, Form::Text) => {
            note(&format!("key {}; it is shown this once:", key.id()));
            out.line(key.reveal())?;
        }
        (file, form) => {
            let secret = file.is_none().then(|| key.reveal());
            out.values(form, &[serde_json::json!({"id": key.id(), "key": secret})])?;
        }
    }
    out.flush()
}

async fn list(context: &Context) -> Outcome {
    let opened = logs::open_read_only(context)?;
    let keys = read_keys(&opened.log).await?;
    opened.close()?;
    let now = context.env.clock.wall_micros();
    let all: Vec<_> = keys
        .list()
        .into_iter()
        .map(|key| shown(&key, now))
        .collect();
    let mut out = Output::stdout();
    if context.settings.form != Form::Text {
        out.values(context.settings.form, &all)?;
        return out.flush();
    }
    let mut table = Table::new(["key", "for", "state", "until", "may"]);
    for key in &all {
        let until = key.expires.as_deref().unwrap_or("");
        table.row([
            &key.id,
            &clean(&key.name),
            key.state,
            until,
            &key.scopes.join(" "),
        ]);
    }
    table.print("the log speaks of no key", &mut out)?;
    out.flush()
}

async fn revoke(args: &RevokeArgs, context: &Context) -> Outcome {
    let opened = logs::open(context)?;
    let known = read_keys(&opened.log).await?.find(&args.id);
    let Some(known) = known else {
        let what = format!("the log speaks of no key {:?}", args.id);
        return Err(Failure::new(Exit::NotFound, "no-key", what)
            .safe("nothing was changed")
            .remedy("see the keys with `anabranch key ls`")
            .into());
    };
    if !known.is_revoked {
        say(&opened.log, &args.id, &KeyFact::Revoked, &context.env).await?;
    }
    opened.close()?;
    note(&format!("key {} is revoked", args.id));
    Ok(())
}

/// Says something about a key on the log, which every server of the log follows.
pub async fn say(log: &Arc<dyn Log>, id: &str, fact: &KeyFact, env: &Env) -> Outcome {
    let event = EventId::v7(env.clock.wall_micros() / 1000, env.rng.next_u128());
    let append = key_append(event, id, fact);
    let append = append.map_err(|error| Failure::new(Exit::Failed, "key", error))?;
    log.append(append).await?;
    Ok(())
}

fn shown(key: &Known, now: u64) -> Shown {
    let state = match (key.is_revoked, key.expires_at) {
        (true, _) => "revoked",
        (false, Some(end)) if end <= now => "expired",
        (false, _) => "good",
    };
    Shown {
        id: key.principal.key.clone(),
        name: key.principal.name.clone(),
        scopes: key
            .principal
            .scopes
            .iter()
            .map(ToString::to_string)
            .collect(),
        state,
        expires: key
            .expires_at
            .map(|at| Timestamp::from_micros(at).to_string()),
    }
}

/// Writes a key to a new file, which its owner alone may read.
pub fn write(env: &Env, path: &Path, key: &Key) -> io::Result<()> {
    if env.disk.exists(path)? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let file = env.disk.open(path, OpenMode::Create)?;
    file.write_all_at(format!("{}\n", key.reveal()).as_bytes(), 0)?;
    file.sync_data()
}
