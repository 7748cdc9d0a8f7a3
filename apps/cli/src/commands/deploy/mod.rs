//! `anabranch deploy`.

mod report;
mod vet;

use std::path::PathBuf;

use anabranch_runtime::registry;
use clap::{Args, Subcommand};

use super::schema::{read_types, unreadable};
use super::service::kept;
use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, note};
use crate::up::asked::{Answer, Asked, Deploy, Standing};

use report::{breaks, own, show};

/// Let another build of one service take the place of the one that runs; or check what that would break
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = ROLL)]
pub struct DeployArgs {
    #[command(subcommand)]
    command: Option<DeployCommand>,
    /// The service, as the file of `anabranch up` names it
    service: Option<String>,
    /// The program of the new build, which gets the arguments that are declared; `anabranch` is this one
    #[arg(long, value_name = "PATH")]
    program: Option<String>,
    /// The file that `anabranch up` runs [default: the one that runs here]
    #[arg(long, value_name = "FILE")]
    up: Option<PathBuf>,
    /// The file of the types of the new build, for the check, if the file of `anabranch up` does not say
    /// how they are printed
    #[arg(long, value_name = "FILE", conflicts_with = "force")]
    types: Option<PathBuf>,
    /// Roll it out whatever it would break
    #[arg(long)]
    force: bool,
    /// What the program is told besides
    #[arg(last = true, value_name = "ARGUMENT")]
    args: Vec<String>,
}

const ROLL: &str = "\
First it is looked at what the new build would break, as `deploy check` does; if that is anything, the
exit code is 1 and nothing is rolled out, but with --force. Its types are in --types FILE, or are what
it prints with the arguments that `print_types` of the service says; without both nobody looks. It is
compared with --log, or with the log that the service's arguments or its `env` name (ANABRANCH_LOG);
if none is named, nobody looks either, and a note says so.

The build that runs is ended in order, as by `service stop`; the new one is started, and has to get
ready within the file's ready_within. If it ends before, or takes longer, the one before is started
again, and the exit code is 1. What the others send to the service meanwhile waits for up to five
seconds, and is sent again by its id: no command is lost or done twice.

The file of `anabranch up` is not changed: name the new program there too, or the next `up` starts the
old one.

Examples:
  anabranch deploy check pricing --types types.json
  anabranch deploy pricing --program ./pricing-2
  anabranch deploy pricing --program anabranch -- --build 2";

/// Say what another build of a service would break: check
#[derive(Debug, Subcommand)]
enum DeployCommand {
    Check(CheckArgs),
}

/// Say what a new build of a service would break, before it is rolled out
#[derive(Debug, Args)]
#[command(after_help = CHECK)]
struct CheckArgs {
    /// The service
    service: String,
    /// What the new build prints of its types, as JSON; - for standard input
    #[arg(long, value_name = "FILE")]
    types: PathBuf,
}

const CHECK: &str = "\
Compares what the new build writes, reads and takes with the history in the log, with the instances of
its sagas that run, and with what the other services have said that they read of it. Names each that
would be broken, and what to do. Those that read newer events by a downcast of the new build are not.
Ends with 1 if something would break. Nothing is changed.

FILE is what `ServiceBuilder::types` gives, as JSON: of one service, or of several in an array. A
service of the shop prints it with --print-types.

Examples:
  anabranch demo --service pricing --build 2 --print-types > types.json
  anabranch deploy check pricing --types types.json --log http://127.0.0.1:7400";

/// Runs the command.
pub async fn run(args: DeployArgs, context: &Context) -> Outcome {
    if let Some(DeployCommand::Check(args)) = args.command {
        return check(&args, context).await;
    }
    let (Some(service), Some(program)) = (args.service, args.program) else {
        let what = "say which service, and which --program";
        return Err(Failure::usage(what).safe("nothing was changed").into());
    };
    let deploy = Deploy {
        service: service.clone(),
        program: seen_from_here(program),
        args: args.args,
    };
    if !args.force {
        vet::vet(
            &deploy,
            (args.up.as_deref(), args.types.as_deref()),
            context,
        )
        .await?;
    }
    let asked = Asked::Deploy(deploy);
    let (path, answer) = kept::ask(args.up.as_deref(), &asked, context).await?;
    let form = context.settings.form;
    match answer {
        Answer::Stand(all) => {
            kept::print(&all, form)?;
            if form == Form::Text {
                let file = path.with_extension("");
                note(&format!("note: {} names the build before", file.display()));
            }
            Ok(())
        }
        Answer::WentBack(why, standing) => {
            kept::print(std::slice::from_ref(&standing), form)?;
            Err(went_back(&why, &standing).into())
        }
        answer => Err(kept::not_done(&service, &path, &answer).into()),
    }
}

/// A path is seen from where the command runs; a name is looked up.
fn seen_from_here(program: String) -> String {
    match std::path::absolute(&program) {
        Ok(path) if program.contains('/') => path.display().to_string(),
        _ => program,
    }
}

fn went_back(why: &str, standing: &Standing) -> Failure {
    let what = format!(
        "the new build of {} did not get ready: {why}",
        standing.service
    );
    let safe = match standing.state.as_str() {
        "ready" => "the build before runs again",
        "stopped" => "the service is stopped, as it was",
        _ => "the build before was started again, and is not ready yet",
    };
    Failure::new(Exit::Failed, "went-back", what)
        .safe(safe)
        .remedy("see what it says where `anabranch up` runs")
}

async fn check(args: &CheckArgs, context: &Context) -> Outcome {
    let types = read_types(&args.types)?;
    let types = own(types, &args.service, &args.types.display().to_string())?;
    let opened = logs::open_read_only(context)?;
    let rollout = registry::check_rollout(&types, &*opened.log).await;
    let rollout = rollout.map_err(unreadable)?;
    opened.close()?;
    show(&rollout, context.settings.form)?;
    Ok(breaks(&rollout).map_or(Ok(()), Err)?)
}
