//! Which function runs which command.

use anabranch::env::Env;
use clap::CommandFactory as _;

use crate::cli::{Cli, Command};
use crate::commands::{
    append, audit, bench, completions, config, context, dead_letter, debug, demo, deploy, doctor,
    entity, import, key, log, process, read, schema, send, serve, service, story, up, view,
};
use crate::context::Context;
use crate::failure::Outcome;
use crate::settings::Settings;

/// Runs a command.
pub async fn run(command: Command, settings: Settings) -> Outcome {
    let env = Env::os();
    let context = Context { settings, env };
    match command {
        Command::Demo(args) => demo::run(args, context).await,
        Command::Append(args) => append::run(args, &context).await,
        Command::Import(args) => import::run(args, &context).await,
        Command::Read(args) => read::run(args, &context).await,
        Command::Tail(args) => read::tail(args, &context).await,
        Command::Story(args) => story::run(args, &context).await,
        Command::Send(args) => send::run(args, &context).await,
        Command::Serve(args) => serve::run(args, &context).await,
        Command::Up(args) => up::run(args, &context).await,
        Command::Deploy(args) => deploy::run(args, &context).await,
        Command::Entity(command) => entity::run(command, &context).await,
        Command::View(command) => view::run(command, &context).await,
        Command::Process(command) => process::run(command, &context).await,
        Command::Service(command) => service::run(command, &context).await,
        Command::Schema(command) => schema::run(command, &context).await,
        Command::DeadLetter(command) => dead_letter::run(command, &context).await,
        Command::Bench(command) => bench::run(&command, &context),
        Command::Key(command) => key::run(command, &context).await,
        Command::Audit(command) => audit::run(command, &context).await,
        Command::Log(command) => log::run(command, &context).await,
        Command::Doctor(args) => doctor::run(&args, &context).await,
        Command::Debug(command) => debug::run(command, &context).await,
        Command::Context(command) => context::run(&command, &context),
        Command::Config(command) => config::run(&command, &context),
        Command::Completions(args) => completions::run(&args, Cli::command()),
    }
}
