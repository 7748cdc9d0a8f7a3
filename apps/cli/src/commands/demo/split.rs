//! The log and each service of the shop in a process of its own.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files of the demo itself"
)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anabranch::Address;
use anabranch::access::KEY_FILE_VARIABLE;
use anabranch::peer::{PeerOptions, Registered, RemotePort};
use anabranch::remote::{self, RemoteLog};
use anabranch::runtime::Time;
use anabranch::tls::CA_VARIABLE;
use anabranch_server::Transport;
use anabranch_shop::demo::{Beside, Demo, DemoError};
use anabranch_shop::input::Work;
use anabranch_shop::provider::ProviderClient;
use anabranch_shop::shop::SERVICES;

use super::args::DemoArgs;
use super::ending::{failure, read_work, stay_open, told};
use super::place::Place;
use super::provider;
use super::split_floor::SplitFloor;
use super::split_keys;
use crate::commands::up::open_door;
use crate::context::Context;
use crate::credential;
use crate::demo_text::Display;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs::real;
use crate::neighbours::Neighbours;
use crate::output::{Form, note};
use crate::serving::whole;
use crate::stop::StopSignal;
use crate::up::plan::Plan;
use crate::up::{Lines, State, Supervisor};

/// How long all may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long the log may be away, which is killed too: who watches does not give up before the services.
const LOG_PATIENCE: Duration = Duration::from_secs(300);

/// Runs the command.
pub async fn run(args: DemoArgs, mut context: Context) -> Outcome {
    let work = read_work(args.orders.as_deref())?;
    if matches!(context.settings.log, Address::Memory | Address::Server(_)) {
        return Err(
            Failure::usage("with --split a process of its own serves the log")
                .remedy("name a directory or a database with --log, or none")
                .into(),
        );
    }
    let place = Place::choose(&mut context)?;
    let mut stop = StopSignal::new()?;
    let time = Time::of(&context.env);
    let provider = provider::address(args.provider, &time).await?;
    let split = Split {
        backbone: match args.doors.transport(&context)? {
            Transport::Tls => format!("https://{}", free_port(&time)?),
            Transport::Plain => format!("http://{}", free_port(&time)?),
        },
        services: services_in(place.dir(), &context)?,
        said: place.dir().join("services.log"),
        provider,
    };
    if args.doors.doors().auth {
        split_keys::give(&split.services, &args.doors, args.build(), &context).await?;
    }
    let text = split.declare(&args, &context)?;
    let plan_file = place.dir().join("up.toml");
    std::fs::write(&plan_file, &text)
        .map_err(|error| Failure::file("write", &plan_file.display().to_string(), &error))?;
    let plan = Plan::parse(&text, &real(place.dir()))
        .map_err(|wrong| Failure::new(Exit::Failed, "bad-plan", wrong.join("; ")))?;
    let supervisor = Arc::new(Supervisor::start(
        &plan,
        &time,
        &to_file(&split.said)?,
        credential::trust(&context)?,
    ));
    let control = open_door(&context, &plan_file, &supervisor).await?;
    let outcome = match stop.unless_asked(ready(&supervisor, &time)).await {
        None => told(Err(DemoError::Stopped), args.keep, &context),
        Some(Err(mut failure)) => {
            failure.remedy = Some(format!("see what they say in {}", split.said.display()));
            Err(failure.into())
        }
        Some(Ok(())) => {
            split
                .drive(&args, work, &supervisor, &mut stop, &context)
                .await
        }
    };
    supervisor.stop().await;
    drop(control);
    outcome
}

/// Where everything is.
struct Split {
    /// The server of the log.
    backbone: String,
    /// The directory in which each service has one of its own.
    services: PathBuf,
    /// What the services write.
    said: PathBuf,
    provider: SocketAddr,
}

impl Split {
    /// Lets the orders through the services, which run.
    async fn drive(
        &self,
        args: &DemoArgs,
        work: Work,
        supervisor: &Arc<Supervisor>,
        stop: &mut StopSignal,
        context: &Context,
    ) -> Outcome {
        let form = context.settings.form;
        let time = Time::of(&context.env);
        let key = credential::find(context)?;
        let trust = credential::trust(context)?;
        let shown = (key.clone(), trust.clone());
        let neighbours = Neighbours::new(self.services.clone(), shown, context.env.clone());
        let neighbours = Arc::new(neighbours);
        if form == Form::Text {
            let page = neighbours.address("storefront").unwrap_or_default();
            let (log, said) = (&self.backbone, self.said.display());
            note(&format!("the log: {log}; what the services say: {said}"));
            note(&format!("the shop's page: {page}"));
        }
        let mut options = remote::Options::default();
        options.key.clone_from(&key);
        options.trust.clone_from(&trust);
        options.patience = LOG_PATIENCE;
        let log = RemoteLog::open(&self.backbone, options);
        let log = log.map_err(Failure::from)?;
        let mut options = PeerOptions::default();
        options.log = Some(log.name().to_owned());
        options.key = key;
        options.trust = trust;
        let directory = Arc::new(Registered(log.registry()));
        let port = RemotePort::new(directory, time.clone(), options);
        let beside = Beside {
            time: time.clone(),
            log: Arc::new(log),
            provider: ProviderClient::new(self.provider),
        };
        let floor = SplitFloor::new(Arc::new(port), neighbours, supervisor.clone());
        let demo = Demo::on(Arc::new(floor), beside, work, args.options());
        let demo = demo.await.map_err(failure)?;
        let display = Display::new(form, demo.clone(), time);
        let watched = stop.unless_asked(demo.run()).await;
        display.end();
        let was_stopped = watched.is_none();
        let summary = watched.unwrap_or(Err(DemoError::Stopped));
        let printed = told(summary, args.keep, context);
        if args.keep && !was_stopped {
            stay_open(&printed, form, stop).await;
        }
        printed
    }

    /// The services as `anabranch up` reads them.
    fn declare(&self, args: &DemoArgs, context: &Context) -> Result<String, Failure> {
        // An address may have a password, which no argument may have: everybody sees those.
        let (log, secret) = match &context.settings.log {
            Address::Directory(dir) => (Some(real(dir).display().to_string()), None),
            Address::Database(address) => (None, Some(address.reveal())),
            Address::Memory | Address::Server(_) => {
                return Err(Failure::usage("the log is a directory or a database"));
            }
        };
        let services = self.services.display().to_string();
        let listen = self.backbone.split_once("://").map_or("", |(_, rest)| rest);
        let provider = format!("http://{}", self.provider);
        let mut text = String::from("# Written by `anabranch demo --split`.\n");
        text += "\n[env]\n";
        // If none, also not that of the environment, which a context may have set aside.
        let ca = context.settings.tls_ca.as_deref().map(whole);
        let ca = json_text(&ca.unwrap_or_default().display().to_string());
        text += &format!("{CA_VARIABLE} = {ca}\n");
        let doors = args.doors.arguments(context)?;
        let doors: Vec<_> = doors.iter().map(String::as_str).collect();
        let mut table = |name: &str, arguments: &[&str], rest: &str| {
            // A text of JSON is one of TOML.
            let arguments: Vec<_> = arguments.iter().map(|text| json_text(text)).collect();
            let arguments = arguments.join(", ");
            // Writing to a text cannot fail.
            let _ = write!(
                text,
                "\n[service.{name}]\nprogram = \"anabranch\"\nargs = [{arguments}]\n{rest}"
            );
        };
        let mut serve = vec!["serve", "--listen", listen, "--while-input"];
        serve.extend(log.iter().flat_map(|log| ["--log", log]));
        serve.extend(&doors);
        let head = json_text(&format!("{}/openapi.json", self.backbone));
        // One that was killed has a long log to look through.
        let mut rest = format!("ready = {head}\nready_within = \"300s\"\n");
        if let Some(address) = secret {
            rest += &format!("env = {{ ANABRANCH_LOG = {} }}\n", json_text(address));
        }
        table("backbone", &serve, &rest);
        for name in SERVICES {
            let own = format!("{services}/{name}");
            let mut arguments = vec!["demo", "--service", name, "--log", &self.backbone];
            arguments.extend(["--dir", &own, "--provider", &provider, "--while-input"]);
            arguments.extend(&doors);
            if name == "storefront" {
                arguments.extend(["--listen", &args.listen]);
            }
            let ready = json_text(&own);
            let mut rest = format!(
                "needs = [\"backbone\"]\nready = {ready}\nprint_types = [\"--print-types\"]\n"
            );
            if args.doors.doors().auth {
                let key = split_keys::file_of(&self.services, name);
                let key = json_text(&key.display().to_string());
                rest += &format!("env = {{ {KEY_FILE_VARIABLE} = {key} }}\n");
            }
            table(name, &arguments, &rest);
        }
        Ok(text)
    }
}

/// Waits until all are ready.
async fn ready(supervisor: &Supervisor, time: &Time) -> Result<(), Failure> {
    tokio::select! {
        () = supervisor.ready() => Ok(()),
        () = time.sleep(READY_WITHIN) => {
            let mut text = format!("not all are ready after {READY_WITHIN:?}");
            for (name, status) in supervisor.status() {
                if status.state != State::Ready {
                    let end = status.last_end.as_deref().unwrap_or("it has not ended");
                    text += &format!("; {name} is {}: {end}", status.state.name());
                }
            }
            Err(Failure::new(Exit::Failed, "not-ready", text))
        }
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The directory in which each service has one of its own.
fn services_in(place: &Path, context: &Context) -> Result<PathBuf, Failure> {
    let dir = place.join("services");
    let made = context.env.disk.create_dir(&dir);
    made.map_err(|error| Failure::file("make", &dir.display().to_string(), &error))?;
    Ok(real(&dir))
}

/// A port of this machine that nobody has now. The log is served there also when its process is
/// started again; so it is none of those that the system gives to whoever asks for any, which somebody
/// else could have by then.
fn free_port(time: &Time) -> Result<SocketAddr, Failure> {
    let given = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let given = given_ports(&given.unwrap_or_default());
    let chosen = (0..PORT_TRIES).map(|_| {
        let span = u128::from(PORTS.end - PORTS.start);
        PORTS.start + (time.random() % span) as u16
    });
    let mut ports = chosen.filter(|port| !given.contains(port)).chain([0]);
    let free = ports.find_map(|port| {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        bound.and_then(|bound| bound.local_addr()).ok()
    });
    free.ok_or_else(|| Failure::new(Exit::Failed, "io", "no port is free"))
}

/// From these one is chosen.
const PORTS: Range<u16> = 10_000..60_000;
/// How many are tried.
const PORT_TRIES: usize = 200;

/// The ports that the system gives to whoever asks for any, as it says itself; or as it usually is.
fn given_ports(said: &str) -> RangeInclusive<u16> {
    let mut ports = said.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 32_768..=60_999,
    }
}

/// Writes what the services say into a file.
fn to_file(path: &Path) -> Result<Lines, Failure> {
    let file = std::fs::File::create(path)
        .map_err(|error| Failure::file("write", &path.display().to_string(), &error))?;
    let file = Mutex::new(file);
    Ok(Arc::new(move |name: &str, line: &str| {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // What a full disk does not take is lost; the services go on.
        drop(writeln!(file, "{name:<10} | {line}"));
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_the_log_is_none_that_the_system_gives_to_others() {
        assert_eq!(given_ports("32768\t60999\n"), 32_768..=60_999);
        assert_eq!(given_ports(""), 32_768..=60_999);
        let said = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let given = given_ports(&said);
        let time = Time::of(&anabranch::env::Env::os());
        for _ in 0..50 {
            let port = free_port(&time).unwrap().port();
            assert!(!given.contains(&port), "{port} {given:?}");
        }
    }
}
