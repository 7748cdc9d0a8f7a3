//! `anabranch context`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use crate::contexts::{Contexts, Entry};
use crate::failure::{Failure, Outcome};
use crate::output::{Form, Output};
use crate::table::Table;

/// Keep names for several logs, each with its address and key: add, use, ls, rm
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    Add(AddArgs),
    Use(UseArgs),
    Ls(LsArgs),
    Rm(RmArgs),
}

/// Add a context, or change the one of this name
#[derive(Debug, Args)]
#[command(after_help = "\
Contexts are kept in ~/.config/anabranch/contexts.json, which is yours alone; keys stay in their
own files. A context is named with --context or ANABRANCH_CONTEXT; the one that `context use` has
chosen counts where nothing else says where the log is: neither --log, ANABRANCH_LOG nor a file.

Examples:
  anabranch context add staging --log https://log.staging.example:7400 --key-file ~/staging.key
  anabranch tail --context staging
  anabranch context use staging")]
pub struct AddArgs {
    /// Its name
    name: String,
    /// The file of the key to show there
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Use a context wherever nothing else says where the log is
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  anabranch context use staging\n  anabranch context use --none"
)]
pub struct UseArgs {
    /// Its name
    #[arg(required_unless_present = "none")]
    name: Option<String>,
    /// Use none any more
    #[arg(long, conflicts_with = "name")]
    none: bool,
}

/// List the contexts
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  anabranch context ls --output json")]
pub struct LsArgs {}

/// Forget a context; its key file stays
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  anabranch context rm staging")]
pub struct RmArgs {
    /// Its name
    name: String,
}

/// Runs the command.
pub fn run(command: &ContextCommand, context: &Context) -> Outcome {
    let mut contexts = Contexts::load(std::env::vars_os())?;
    match command {
        ContextCommand::Ls(_) => return list(&contexts, context.settings.form),
        ContextCommand::Add(args) => {
            let Some(log) = context.settings.log_flag() else {
                return Err(Failure::usage("a context says where its log is")
                    .remedy("name it with --log")
                    .into());
            };
            // They are read from wherever the context is used.
            let absolute = |file: Option<&PathBuf>| {
                let file = file.map(std::path::absolute).transpose();
                file.map_err(|error| Failure::usage(error.to_string()))
            };
            let entry = Entry {
                log,
                key_file: absolute(args.key_file.as_ref())?,
                tls_ca: absolute(context.settings.tls_ca.as_ref())?,
            };
            contexts.put(&args.name, entry)?;
        }
        ContextCommand::Use(UseArgs {
            name: Some(name), ..
        }) => contexts.choose(name)?,
        ContextCommand::Use(UseArgs { name: None, .. }) => contexts.choose_none(),
        ContextCommand::Rm(args) => contexts.remove(&args.name)?,
    }
    Ok(contexts.save()?)
}

fn list(contexts: &Contexts, form: Form) -> Outcome {
    let used = contexts.in_use().map(|(name, _)| name);
    let mut out = Output::stdout();
    if form == Form::Text {
        let mut table = Table::new(["context", "log", "key file", "in use"]);
        for (name, entry) in contexts.all() {
            let key_file = entry
                .key_file
                .as_ref()
                .map(|path| path.display().to_string());
            let mark = if used == Some(name) { "yes" } else { "" };
            table.row([name, &entry.log, &key_file.unwrap_or_default(), mark]);
        }
        table.print(
            "there is no context; `anabranch context add` makes one",
            &mut out,
        )?;
    } else {
        let all = contexts.all().map(|(name, entry)| {
            json!({
                "name": name,
                "log": entry.log,
                "key_file": entry.key_file,
                "tls_ca": entry.tls_ca,
                "in_use": used == Some(name),
            })
        });
        out.values(form, &all.collect::<Vec<_>>())?;
    }
    out.flush()
}
