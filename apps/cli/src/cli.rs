//! The words of the command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    append, audit, bench, completions, config, context, dead_letter, debug, demo, deploy, doctor,
    entity, import, key, log, process, read, schema, send, serve, service, story, up, view,
};
use crate::global_args::GlobalArgs;

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
  anabranch story order/536365
  anabranch log verify
  anabranch entity show order/536365
  anabranch view ls

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 conflict, 5 unavailable (try again).
Every setting can also come from the environment (ANABRANCH_LOG, ANABRANCH_DURABILITY, …) or from
anabranch.toml: see `anabranch config show --origin`.";

impl Command {
    /// Whether it goes on and serves others.
    pub fn is_service(&self) -> bool {
        matches!(self, Self::Demo(_) | Self::Serve(_))
    }

    /// As which service what it says is told.
    pub fn speaks_as(&self) -> &str {
        match self {
            Self::Demo(args) => args.service.as_deref().unwrap_or("demo"),
            Self::Serve(_) => "backbone",
            Self::Up(_) => "up",
            _ => "anabranch",
        }
    }
}

/// The commands. Each has its description where its arguments are.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::DemoArgs),
    Append(append::AppendArgs),
    Import(import::ImportArgs),
    Read(read::ReadArgs),
    Tail(read::TailArgs),
    Story(story::StoryArgs),
    Send(send::SendArgs),
    Serve(serve::ServeArgs),
    Up(up::UpArgs),
    Deploy(deploy::DeployArgs),
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
    Key(key::KeyCommand),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(subcommand)]
    Log(log::LogCommand),
    Doctor(doctor::DoctorArgs),
    #[command(subcommand)]
    Debug(debug::DebugCommand),
    #[cfg_attr(feature = "bench", command(subcommand))]
    Bench(bench::BenchCommand),
    #[command(subcommand)]
    Context(context::ContextCommand),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Completions(completions::CompletionsArgs),
}
