//! `anabranch serve`.

use std::sync::Arc;

use anabranch::Address;
use anabranch::runtime::{Fleet, Time};
use anabranch_server::{BACKBONE, Server};
use clap::Args;

use super::Context;
use crate::export::{self, Export};
use crate::failure::{Failure, Outcome};
use crate::logs;
use crate::output::note;
use crate::serving::{self, DoorArgs};
use crate::stop::StopSignal;

/// Serve the log to programs of other processes, over the network
#[derive(Debug, Args)]
#[command(after_help = "\
Programs use the log by its address, --log http://127.0.0.1:7400, as they would a directory; so
does every command here. By JSON alone it is used with curl, and by gRPC in any language.

Only this machine is served, and whoever is on it may do everything. With --auth everybody has to show
a key, which programs take from the file that ANABRANCH_TOKEN_FILE names. Other machines are served with
--auth and with a certificate, --tls-cert and --tls-key; programs then use https://.

Examples:
  anabranch serve --log ./log
  anabranch append order/1 --type OrderPlaced --log http://127.0.0.1:7400
  anabranch tail --log http://127.0.0.1:7400
  anabranch demo --log http://127.0.0.1:7400
  curl --json '{}' http://127.0.0.1:7400/anabranch.log.v1.LogService/Head")]
pub struct ServeArgs {
    /// Where it is served
    #[arg(long, value_name = "ADDRESS", default_value = BACKBONE)]
    listen: String,
    #[command(flatten)]
    doors: DoorArgs,
    /// Stop when the standard input ends: whoever started it is gone
    #[arg(long, hide = true)]
    while_input: bool,
}

/// Runs the command.
pub async fn run(args: ServeArgs, context: &Context) -> Outcome {
    if let Address::Server(url) = &context.settings.log {
        return Err(Failure::usage(format!("{url} serves its log already"))
            .remedy("name a directory with --log")
            .into());
    }
    args.doors.check(&args.listen, context).await?;
    let mut stop = StopSignal::new()?;
    if args.while_input {
        stop.when_input_ends()?;
    }
    let opened = logs::open_here(context)?;
    args.doors.first_key(&opened.log, context).await?;
    let fleet = Arc::new(Fleet::new());
    let server = Server::new(fleet, opened.log.clone(), Time::of(&context.env)).without_peers();
    // Who is to be found at a certain place is not elsewhere.
    let (serving, url) = serving::start(server, (&args.listen, ""), &args.doors, context).await?;
    note(&format!("the log {}: {url}", context.settings.log));
    let export = export::begin(&url, context)?;
    stop.unless_asked(std::future::pending::<()>()).await;
    Export::end(export).await;
    serving.end().await;
    Ok(opened.close()?)
}
