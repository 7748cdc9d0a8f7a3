//! `anabranch config`.

use clap::{Args, Subcommand};
use serde_json::{Map, json};

use super::Context;
use crate::failure::Outcome;
use crate::output::{Form, Output};
use crate::settings::{KEYS, variable_of};

/// Show the settings
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, as a configuration file
    #[command(after_help = "\
A flag goes before the environment, the environment before the file. The variable of
`engine.segment_bytes` is ANABRANCH_ENGINE__SEGMENT_BYTES; ANABRANCH_ENGINE__SEGMENT_BYTES_FILE
names a file that holds the value, for secrets. The file is --config, ANABRANCH_CONFIG or
./anabranch.toml.

Examples:
  anabranch config show --origin
  anabranch config show > anabranch.toml
  ANABRANCH_DURABILITY=interval:50ms anabranch config show --origin")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Say where each value came from
    #[arg(long)]
    origin: bool,
}

/// Runs the command.
pub fn run(command: &ConfigCommand, context: &Context) -> Outcome {
    let ConfigCommand::Show(args) = command;
    let mut out = Output::stdout();
    match context.settings.form {
        Form::Text => show_text(args, context, &mut out)?,
        Form::Json | Form::Jsonl => show_json(args, context, &mut out)?,
    }
    out.flush()
}

fn show_text(args: &ShowArgs, context: &Context, out: &mut Output) -> Outcome {
    let settings = &context.settings;
    let mut table = "";
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if section != table {
            table = section;
            out.line(&format!("\n[{section}]"))?;
        }
        out.line(&format!("# {}", key.help))?;
        if args.origin {
            let origin = settings.origin(key);
            out.line(&format!(
                "# from: {origin}; variable {}",
                variable_of(key.name)
            ))?;
        }
        // A TOML basic string has the escapes of a JSON one.
        out.line(&format!("{name} = {}", json!((key.show)(settings))))?;
    }
    Ok(())
}

fn show_json(args: &ShowArgs, context: &Context, out: &mut Output) -> Outcome {
    let settings = &context.settings;
    let mut all = Map::new();
    for key in KEYS {
        let value = (key.show)(settings);
        let shown = if args.origin {
            json!({ "value": value, "origin": settings.origin(key).to_string() })
        } else {
            json!(value)
        };
        all.insert(key.name.to_owned(), shown);
    }
    out.line(&json!(all).to_string())
}
