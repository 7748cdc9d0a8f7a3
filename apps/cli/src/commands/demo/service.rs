//! One service of the shop in a process of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anabranch::Address;
use anabranch::log::OpenError;
use anabranch::remote::{self, RemoteLog};
use anabranch::runtime::snapshot::DiskSnapshots;
use anabranch::runtime::{Fleet, Time};
use anabranch_peer::{PeerOptions, RemotePort};
use anabranch_server::{HOME, Server, token_key};
use anabranch_shop::demo::DemoError;
use anabranch_shop::provider::ProviderClient;
use anabranch_shop::shop::{SERVICES, Shop};
use anabranch_shop::storefront;

use super::args::DemoArgs;
use super::ending::failure;
use super::provider;
use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::neighbours::Neighbours;
use crate::output::note;
use crate::serving;
use crate::stop::StopSignal;

/// How long the log may be away when a service starts.
const LOG_PATIENCE: Duration = Duration::from_secs(30);

/// How long what is under way may take when the service stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the command.
pub async fn run(args: DemoArgs, context: Context) -> Outcome {
    let name = args.service.as_deref().unwrap_or_default();
    let Some(name) = SERVICES.into_iter().find(|known| *known == name) else {
        let known = SERVICES.join(", ");
        return Err(
            Failure::usage(format!("the shop has no service {name:?}; it has {known}")).into(),
        );
    };
    let (Some(beside), Some(tokens)) = (&args.beside, &args.tokens) else {
        return Err(Failure::usage("--service wants --beside and --tokens").into());
    };
    let Address::Server(url) = &context.settings.log else {
        return Err(
            Failure::usage("a service in a process of its own uses the log of a server")
                .remedy("name it with --log http://127.0.0.1:7400; `anabranch serve` is one")
                .into(),
        );
    };
    let mut stop = StopSignal::new()?;
    if args.while_input {
        stop.when_input_ends()?;
    }
    let time = Time::of(&context.env);
    let Some(log) = stop.unless_asked(open(url, &time)).await else {
        return Ok(());
    };
    let log = log?;
    let dir = beside.join(name);
    let file = |doing: &str, path: &Path, error: &std::io::Error| {
        Failure::file(doing, &path.display().to_string(), error)
    };
    let disk = context.env.disk.clone();
    let views = dir.join("views");
    disk.create_dir(&views)
        .map_err(|error| file("make", &views, &error))?;
    let snapshots = dir.join("snapshots");
    let snapshots =
        DiskSnapshots::open(disk, &snapshots).map_err(|error| file("make", &snapshots, &error))?;
    let seal =
        token_key(&context.env, tokens).map_err(|error| file("read a key in", tokens, &error))?;
    let mut options = PeerOptions::default();
    options.log = Some(log.name().to_owned());
    let neighbours = Neighbours::new(beside.clone(), context.env.clone());
    let port = RemotePort::new(Arc::new(neighbours), time.clone(), options);
    let shop = Shop {
        env: context.env.clone(),
        time: time.clone(),
        log: Arc::new(log),
        snapshots: Arc::new(snapshots),
        views,
        provider: ProviderClient::new(provider::address(args.provider, &time).await?),
        fleet: Arc::new(Fleet::and_elsewhere(Arc::new(port))),
    };
    let started = shop.start(name).await;
    started.map_err(DemoError::from).map_err(failure)?;
    let mut server = Server::new(shop.fleet.clone(), shop.log.clone(), shop.time.clone());
    if name == "storefront" {
        server = server.page("/", storefront::PAGE);
    }
    // The others find it wherever it is; people look for the page where it always is.
    let wanted = match (name, args.listen.as_str()) {
        ("storefront", listen) => listen,
        (_, HOME) => "127.0.0.1:0",
        (_, other) => other,
    };
    let place = Some((dir.as_path(), seal));
    let (serving, url) = serving::start_in(server, wanted, HOME, place, &context).await?;
    note(&format!("service {name}: {url}"));
    stop.unless_asked(std::future::pending::<()>()).await;
    serving.end().await;
    if !shop.fleet.shutdown(DRAIN).await {
        note(&format!(
            "note: the service did not end within {DRAIN:?}, and was ended as a crash would"
        ));
    }
    Ok(())
}

/// The log, once its server answers.
async fn open(url: &str, time: &Time) -> Result<RemoteLog, Failure> {
    let began = time.monotonic();
    loop {
        match RemoteLog::open(url, remote::Options::default()) {
            Err(OpenError::Unreachable { .. })
                if time.monotonic().saturating_sub(began) < LOG_PATIENCE =>
            {
                time.sleep(Duration::from_millis(100)).await;
            }
            Err(error @ OpenError::Unreachable { .. }) => {
                let failure = Failure::new(Exit::Unavailable, "unreachable", error.to_string());
                return Err(failure.safe("nothing was changed"));
            }
            opened => return opened.map_err(Failure::from),
        }
    }
}
