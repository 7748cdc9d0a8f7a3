//! `anabranch log`.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files that the user names"
)]

mod backup;
mod copy;
mod create;
mod export;
pub mod info;
mod relayout;
mod repair;
pub mod text;
mod upgrade;
mod verify;

use clap::Subcommand;

use super::Context;
use crate::failure::Outcome;

/// Make or look after a log: create, info, verify, repair, backup, restore, copy, export, upgrade
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    Create(create::CreateArgs),
    Info(info::InfoArgs),
    Verify(verify::VerifyArgs),
    Repair(repair::RepairArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Copy(copy::CopyArgs),
    Export(export::ExportArgs),
    Upgrade(upgrade::UpgradeArgs),
}

/// Runs the command.
pub async fn run(command: LogCommand, context: &Context) -> Outcome {
    match command {
        LogCommand::Create(args) => create::run(args, context),
        LogCommand::Info(args) => info::run(&args, context).await,
        LogCommand::Verify(args) => verify::run(&args, context).await,
        LogCommand::Repair(args) => repair::run(&args, context),
        LogCommand::Backup(args) => backup::run_backup(&args, context).await,
        LogCommand::Restore(args) => backup::run_restore(&args, context),
        LogCommand::Copy(args) => copy::run(args, context).await,
        LogCommand::Upgrade(args) => upgrade::run(&args, context),
        LogCommand::Export(args) => export::run(args, context).await,
    }
}
