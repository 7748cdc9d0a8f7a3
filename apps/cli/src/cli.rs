//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    append, bench, completions, config, dead_letter, demo, entity, import, log, process, read,
    schema, send, service, view,
};
use crate::output::Form;

/// A durable log of events, and what services need to keep their state as events.
#[derive(Debug, Parser)]
#[command(name = "anabranch", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  anabranch demo
  anabranch append order/536365 --type OrderPlaced --data '{\"total\":1550}'
  anabranch read --stream order/536365
  anabranch import events.jsonl.gz
  anabranch read --category order --type OrderPlaced --output jsonl
  anabranch tail --category payment
  anabranch log verify
  anabranch entity show order/536365
  anabranch view ls

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict, 5 unavailable (try again).
Every setting can also come from the environment (ANABRANCH_LOG, ANABRANCH_DURABILITY, …) or from
anabranch.toml: see `anabranch config show --origin`.";

/// What every command takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options for every command")]
pub struct GlobalArgs {
    /// Where the log is: ./dir, or memory: for one that ends with the command [default:
    /// ./.anabranch/log]
    #[arg(long, global = true, value_name = "URL")]
    pub log: Option<String>,
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

/// The commands. Each has its description where its arguments are.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::DemoArgs),
    Append(append::AppendArgs),
    Import(import::ImportArgs),
    Read(read::ReadArgs),
    Tail(read::TailArgs),
    Send(send::SendArgs),
    #[command(subcommand)]
    Entity(entity::EntityCommand),
    #[command(subcommand)]
    View(view::ViewCommand),
    #[command(subcommand)]
    Process(process::ProcessCommand),
    #[command(subcommand)]
    DeadLetter(dead_letter::DeadLetterCommand),
    #[command(subcommand)]
    Service(service::ServiceCommand),
    #[command(subcommand)]
    Schema(schema::SchemaCommand),
    #[command(subcommand)]
    Log(log::LogCommand),
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Completions(completions::CompletionsArgs),
}
