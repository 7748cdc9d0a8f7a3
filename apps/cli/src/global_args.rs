//! The options that every command takes.

use std::path::PathBuf;

use clap::Args;

use crate::output::Form;

/// What every command takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options for every command")]
pub struct GlobalArgs {
    /// Where the log is: ./dir, or memory: for one that ends with the command [default:
    /// ./.anabranch/log]
    #[arg(long, global = true, value_name = "URL")]
    pub log: Option<String>,
    /// Believe only servers that are certified by the CA in this file [default: whom this machine
    /// believes]
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<String>,
    /// Use the log of this context, and its key: see `anabranch context ls`
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Form of what is printed: text, json (one value) or jsonl (one on each line); errors are
    /// JSON too unless it is text [default: text]
    #[arg(
        long,
        short,
        global = true,
        value_name = "FORM",
        value_parser = Form::parser(),
        hide_possible_values = true
    )]
    pub output: Option<Form>,
    /// Read settings from this file [default: ./anabranch.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// When an append is acknowledged: sync (on the disk), or interval[:100ms], which a power
    /// cut may undo [default: sync]
    #[arg(long, global = true, value_name = "WHEN")]
    pub durability: Option<String>,
    /// Set any setting, for example engine.write_method=direct
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
