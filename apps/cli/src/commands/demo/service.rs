//! One service of the shop in a process of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anabranch::Address;
use anabranch::domain::types::ServiceTypes;
use anabranch::log::OpenError;
use anabranch::peer::{Declared, PeerOptions, Registered, RemotePort};
use anabranch::remote::{self, Registration, RegistryError, RemoteLog};
use anabranch::runtime::snapshot::DiskSnapshots;
use anabranch::runtime::{Fleet, Time};
use anabranch_server::{HOME, Server, lease_secret, shared_seal, token_key};
use anabranch_shop::demo::DemoError;
use anabranch_shop::provider::ProviderClient;
use anabranch_shop::shop::{SERVICES, Shop};
use anabranch_shop::storefront;

use super::args::DemoArgs;
use super::ending::failure;
use super::provider;
use crate::alerts;
use crate::context::Context;
use crate::credential;
use crate::export::{self, Export};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, note};
use crate::serving;
use crate::stop::StopSignal;

/// How long the log may be away when a service starts.
const LOG_PATIENCE: Duration = Duration::from_secs(30);

/// How long what is under way may take when the service stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the command.
pub async fn run(args: DemoArgs, context: Context) -> Outcome {
    let name = known(args.service.as_deref().unwrap_or_default())?;
    if args.print_types {
        return print_types(&Shop::types_of_build(context.env, name, args.build()));
    }
    let Address::Server(url) = &context.settings.log else {
        return Err(
            Failure::usage("a service in a process of its own uses the log of a server")
                .remedy("name it with --log http://127.0.0.1:7400; `anabranch serve` is one")
                .into(),
        );
    };
    let usual = || Path::new(".anabranch/services").join(name);
    let dir = &args.dir.clone().unwrap_or_else(usual);
    let mut stop = StopSignal::new()?;
    if args.while_input {
        stop.when_input_ends()?;
    }
    let time = Time::of(&context.env);
    let key = credential::find(&context)?;
    let trust = credential::trust(&context)?;
    let mut options = remote::Options::default();
    options.key.clone_from(&key);
    options.trust.clone_from(&trust);
    let Some(log) = stop.unless_asked(open(url, &options, &time)).await else {
        return Ok(());
    };
    let log = log?;
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
    let mut options = PeerOptions::default();
    options.log = Some(log.name().to_owned());
    options.service = Some(name.to_owned());
    options.key = key;
    options.trust = trust;
    options.declared = Some(declared(name));
    let registry = log.registry();
    let registrations = Arc::new(Registered(registry.clone()));
    let port = RemotePort::new(registrations.clone(), time.clone(), options);
    let shop = Shop {
        env: context.env.clone(),
        time: time.clone(),
        log: Arc::new(log),
        snapshots: Arc::new(snapshots),
        views,
        provider: ProviderClient::new(provider::address(args.provider, &time).await?),
        fleet: Arc::new(Fleet::and_elsewhere(Arc::new(port))),
        alerts: alerts::of(&context),
        pricing: args.build(),
    };
    let (wanted, usual) = place(name, &args.listen);
    let bound = serving::bind(wanted, usual, &args.doors, &context).await?;
    let secret =
        lease_secret(&context.env, dir).map_err(|error| file("keep a secret in", dir, &error))?;
    let registration = registration(&shop.types_of(name), bound.url(), secret);
    let Some(lease) = stop.unless_asked(registry.register(registration)).await else {
        return Ok(());
    };
    let lease = lease.map_err(not_registered)?;
    let seal = match &args.tokens {
        None => shared_seal(lease.token_key()).ok_or_else(nothing_shared)?,
        Some(tokens) => token_key(&context.env, tokens)
            .map_err(|error| file("read a key in", tokens, &error))?,
    };
    let started = shop.start(name).await;
    started.map_err(DemoError::from).map_err(failure)?;
    let mut server = Server::new(shop.fleet.clone(), shop.log.clone(), time.clone())
        .without_log()
        .registrations(registrations.clone())
        .reports(registrations);
    if name == "storefront" {
        server = server.page("/", storefront::PAGE);
    }
    let (serving, url) = bound.serve(server, Some((dir, seal)), &context)?;
    note(&format!("service {name}: {url}"));
    let export = export::begin(&url, &context)?;
    let lost = stop.unless_asked(lease.lost()).await;
    Export::end(export).await;
    if let Some(why) = lost {
        // Another process is this service now: nothing more is appended by this one.
        let failure = Failure::new(Exit::Conflict, "lease-lost", why);
        return Err(failure.safe("what was acknowledged is in the log").into());
    }
    serving.end().await;
    if !shop.fleet.shutdown(DRAIN).await {
        note(&format!(
            "note: the service did not end within {DRAIN:?}, and was ended as a crash would"
        ));
    }
    lease.release().await.map_err(not_registered)?;
    Ok(())
}

/// What it has declared that it sends to.
fn declared(name: &str) -> Declared {
    let sends = Shop::sends_of(name).iter();
    Declared {
        service: name.to_owned(),
        sends: sends.map(|&category| category.to_owned()).collect(),
        tell: note,
    }
}

/// Where a service is wanted, and which place is usual: people look for the page where it always is;
/// whatever else is found wherever it is.
fn place<'a>(name: &str, listen: &'a str) -> (&'a str, &'a str) {
    match (name, listen) {
        ("storefront", listen) => (listen, HOME),
        (_, HOME) => ("127.0.0.1:0", ""),
        (_, other) => (other, ""),
    }
}

/// The service of this name.
fn known(name: &str) -> Result<&'static str, Failure> {
    let found = SERVICES.into_iter().find(|known| *known == name);
    found.ok_or_else(|| {
        let known = SERVICES.join(", ");
        Failure::usage(format!("the shop has no service {name:?}; it has {known}"))
    })
}

/// What `anabranch deploy check` and `schema check` read.
fn print_types(types: &ServiceTypes) -> Outcome {
    let text = serde_json::to_string(types).map_err(|error| {
        let what = format!("the types cannot be written as JSON: {error}");
        Failure::new(Exit::Failed, "bad-types", what)
    })?;
    let mut out = Output::stdout();
    out.line(&text)?;
    out.flush()
}

/// A server of an older version keeps to itself what it seals with.
fn nothing_shared() -> Failure {
    let what = "the server of the log does not say what tokens are sealed with";
    Failure::new(Exit::Failed, "no-token-key", what)
        .safe("the service was not started")
        .remedy("run the server with this version, or name the log's directory with --tokens")
}

fn not_registered(error: RegistryError) -> Failure {
    let exit = match &error {
        RegistryError::Refused(_) => Exit::Failed,
        RegistryError::Held(_) => Exit::Conflict,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, "registry", error.to_string())
}

/// What a service says of itself: what it writes is its own.
fn registration(types: &ServiceTypes, address: &str, secret: String) -> Registration {
    let entities = types.entities.iter().map(|entity| &entity.category);
    let owns: Vec<_> = entities.chain(&types.journals).cloned().collect();
    let views = types.readers.iter().filter(|reader| reader.what == "view");
    let read = types.readers.iter().flat_map(|reader| &reader.categories);
    let sends = Shop::sends_of(&types.service);
    let reads: BTreeSet<_> = read.filter(|category| !owns.contains(*category)).collect();
    Registration {
        name: types.service.clone(),
        address: address.to_owned(),
        program: "anabranch demo".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        reads: reads.into_iter().cloned().collect(),
        sends: sends.iter().map(|&category| category.to_owned()).collect(),
        views: views.map(|view| view.name.clone()).collect(),
        private: types.kept(),
        owns,
        secret: Some(secret),
        ..Registration::default()
    }
}

/// The log, once its server answers.
async fn open(url: &str, options: &remote::Options, time: &Time) -> Result<RemoteLog, Failure> {
    let began = time.monotonic();
    loop {
        match RemoteLog::open(url, options.clone()) {
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
