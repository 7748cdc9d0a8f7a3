use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anabranch::Address;
use anabranch::runtime::snapshot::{DiskSnapshots, MemorySnapshots, SnapshotStore};
use anabranch::runtime::{Fleet, Time};
use anabranch_server::{HOME, Server};
use anabranch_shop::demo::{Demo, DemoError, Options, Summary};
use anabranch_shop::input::{self, Work};
use anabranch_shop::provider::{self, Mood, ProviderClient};
use anabranch_shop::shop::Shop;
use anabranch_shop::storefront;
use clap::Args;
use tokio::net::TcpListener;

use crate::commands::Context;
use crate::demo_text::{Display, summary_text};
use crate::failure::{Ending, Exit, Failure, Outcome};
use crate::logs;
use crate::output::{Form, Output, note};
use crate::remote::{DEMO, DEMO_LOG};
use crate::serving::{self, Serving};
use crate::stop::StopSignal;
use crate::whole::whole;

/// Run a whole shop on real orders: services, sagas, a payment provider that fails
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// The orders: a file of the Online Retail data set, plain or compressed by gzip, - for
    /// standard input [default: one day, 1 December 2010]
    #[arg(long, value_name = "FILE")]
    orders: Option<PathBuf>,
    /// How the payment provider is: reliable, flaky, or down-for=30s and then reliable; or the
    /// address of one that runs already, http://127.0.0.1:4090
    #[arg(long, value_name = "HOW", default_value = "flaky", value_parser = who)]
    provider: Provider,
    /// How many units there are of each product; the wholesaler delivers as many
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = whole::<u64>, allow_negative_numbers = true)]
    stock: u64,
    /// Order more of a product when fewer than this are left; 0: never [default: a quarter of
    /// --stock]
    #[arg(long, value_name = "N", value_parser = whole::<u64>, allow_negative_numbers = true)]
    reorder_below: Option<u64>,
    /// How many invoices come in each second: 50/s; 0: as many as the shop takes [default: 0
    /// with --orders, 20/s without]
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<f64>,
    /// Kill one of the services and start it again, each so often: 2s
    #[arg(long, value_name = "TIME", value_parser = often)]
    crash_every: Option<Duration>,
    /// Where the shop's page and its commands and views are served; on another port if this
    /// one is taken
    #[arg(long, value_name = "ADDRESS", default_value = HOME)]
    listen: String,
    /// Stay up when all orders have ended, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

const EXAMPLES: &str = "\
Examples:
  anabranch demo
  anabranch demo --orders online-retail.csv.gz --provider reliable --stock 100000
  anabranch demo --provider flaky --crash-every 2s --output json
  anabranch demo --keep --log ./shop

Without --log the log is ./.anabranch/demo/log, made new for each demo.";

/// How long nothing may happen before the demo says that it is stuck, beside the time for which
/// the provider is away.
const PATIENCE: Duration = Duration::from_secs(90);

/// How many invoices come in each second, unless something else is said, on the sample day.
const CALM: f64 = 20.0;

fn rate(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let wrong = || format!("{text:?} is no rate; say 50/s, or 0 for as fast as it goes");
    let rate: f64 = number.parse().map_err(|_| wrong())?;
    if (0.0..=1e9).contains(&rate) {
        Ok(rate)
    } else {
        Err(wrong())
    }
}

/// Who moves the money.
#[derive(Debug, Clone, Copy)]
enum Provider {
    /// One that is started with the demo.
    Ours(Mood),
    /// One that runs already.
    At(SocketAddr),
}

fn who(text: &str) -> Result<Provider, String> {
    match text.strip_prefix("http://") {
        None => {
            let mood = text.parse::<Mood>();
            mood.map(Provider::Ours).map_err(|error| error.to_string())
        }
        Some(address) => {
            let address = address.trim_end_matches('/').parse();
            let wrong = "say an address and a port, such as http://127.0.0.1:4090";
            address.map(Provider::At).map_err(|_| wrong.to_owned())
        }
    }
}

fn often(text: &str) -> Result<Duration, String> {
    let every = crate::settings::units::parse_duration(text)?;
    if every < Duration::from_millis(10) {
        return Err("services need 10 ms to start before they are killed again".to_owned());
    }
    Ok(every)
}

/// Runs the command.
pub async fn run(args: DemoArgs, mut context: Context) -> Outcome {
    let form = context.settings.form;
    let work = read_work(args.orders.as_deref())?;
    let place = Place::choose(&mut context)?;
    let opened = logs::open_here(&context)?;
    let time = Time::of(&context.env);
    let snapshots: Arc<dyn SnapshotStore> = match &place {
        Place::Directory(dir) => {
            let dir = dir.join("snapshots");
            let disk = context.env.disk.clone();
            Arc::new(
                DiskSnapshots::open(disk, &dir)
                    .map_err(|error| Failure::file("make", &dir.display().to_string(), &error))?,
            )
        }
        Place::Memory(_) => Arc::new(MemorySnapshots::new()),
    };
    let provider = match args.provider {
        Provider::Ours(mood) => start_provider(mood, &time).await?,
        Provider::At(address) => address,
    };
    let shop = Arc::new(Shop {
        env: context.env.clone(),
        time: time.clone(),
        log: opened.log.clone(),
        snapshots,
        views: place.dir().join("views"),
        provider: ProviderClient::new(provider),
        fleet: Arc::new(Fleet::new()),
    });
    shop.open()
        .await
        .map_err(DemoError::from)
        .map_err(failure)?;
    let (serving, url) = serve(&args.listen, &shop, &context).await?;
    if form == Form::Text {
        note(&format!("the shop's page: {url}"));
    }
    let options = Options {
        stock: args.stock,
        reorder_below: args.reorder_below.unwrap_or(args.stock / 4),
        rate: match (args.rate, &args.orders) {
            (Some(rate), _) => Some(rate).filter(|rate| *rate > 0.0),
            (None, Some(_)) => None,
            (None, None) => Some(CALM),
        },
        crash_every: args.crash_every,
        patience: match args.provider {
            Provider::Ours(Mood::DownFor(down)) => PATIENCE + down,
            _ => PATIENCE,
        },
    };
    let mut stop = StopSignal::new()?;
    let demo = Demo::new(shop.clone(), work, options)
        .await
        .map_err(failure)?;
    let summary = {
        let display = Display::new(form, demo.clone(), time.clone());
        let watched = stop.unless_asked(demo.run()).await;
        display.end();
        watched.unwrap_or(Err(DemoError::Stopped))
    };
    let was_stopped = matches!(summary, Err(DemoError::Stopped));
    let printed = match summary {
        Ok(summary) => print(&summary, form),
        Err(error) => {
            let remedy = remedy(&error, args.keep, &context.settings.log);
            let mut failure = failure(error);
            failure.remedy = remedy;
            Err(failure.into())
        }
    };
    // Also when something is wrong: what has stopped can be looked at and mended only while it
    // runs.
    if args.keep && !was_stopped {
        if let Err(Ending::Failed(failure)) = &printed {
            let text = match form {
                Form::Text => failure.to_text(),
                Form::Json | Form::Jsonl => failure.to_json(),
            };
            note(text.trim_end());
        }
        note("the shop stays open; Ctrl-C closes it");
        stop.unless_asked(std::future::pending::<()>()).await;
    }
    serving.end().await;
    let in_order = shop.fleet.shutdown(Duration::from_secs(10)).await;
    if !in_order {
        note("note: the services did not end within 10 s, and were ended as a crash would");
    }
    drop(shop);
    opened.close()?;
    printed
}

fn print(summary: &Summary, form: Form) -> Outcome {
    let mut out = Output::stdout();
    match form {
        Form::Text => out.write(summary_text(summary).as_bytes())?,
        Form::Json | Form::Jsonl => {
            let json = serde_json::to_string(summary).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    "summary",
                    format!("cannot be written: {error}"),
                )
            })?;
            out.line(&json)?;
        }
    }
    out.flush()?;
    if summary.holds() {
        return Ok(());
    }
    let broken: Vec<_> = summary
        .invariants
        .iter()
        .filter(|(_, holds)| !**holds)
        .map(|(name, _)| *name)
        .collect();
    let what = format!("this does not hold, though it must: {}", broken.join(", "));
    Err(Failure::new(Exit::Failed, "invariant", what)
        .safe("the log has everything that happened")
        .into())
}

fn read_work(orders: Option<&Path>) -> Result<Work, Failure> {
    let Some(path) = orders else {
        return input::sample_day().map_err(|error| input_failure("the sample day", &error));
    };
    input::read(path).map_err(|error| input_failure(&path.display().to_string(), &error))
}

fn input_failure(name: &str, error: &retail::input::Failure) -> Failure {
    let failure = match error {
        retail::input::Failure::Input(io) => Failure::file("read", name, io),
        _ => Failure::new(Exit::Failed, "bad-input", format!("{name}: {error}"))
            .remedy("mend the line; `anabranch demo --help` says what files are read"),
    };
    failure.safe("nothing was ordered, and no log was opened")
}

fn failure(error: DemoError) -> Failure {
    let (exit, code) = match &error {
        DemoError::Start(_) => (Exit::Failed, "start"),
        DemoError::Send { .. } => (Exit::Failed, "send"),
        DemoError::Read(_) | DemoError::Audit(_) => (Exit::Failed, "read"),
        DemoError::Ledger(_) => (Exit::Unavailable, "provider"),
        DemoError::Query(_) => (Exit::Unavailable, "query"),
        DemoError::Stuck(_) => (Exit::Failed, "stuck"),
        DemoError::Halted(_) => (Exit::Failed, "halted"),
        DemoError::Stopped => (Exit::Failed, "stopped"),
    };
    Failure::new(exit, code, error.to_string())
        .safe("everything that was acknowledged is in the log")
}

/// What to do when the demo has not come to its end.
fn remedy(error: &DemoError, keep: bool, log: &Address) -> Option<String> {
    let dir = match log {
        Address::Directory(dir) => dir.display(),
        Address::Memory | Address::Server(_) => return None,
    };
    match error {
        DemoError::Stopped => Some(format!(
            "`anabranch demo --log {dir}`, with the same --orders, goes on from there"
        )),
        DemoError::Halted(_) if keep => Some(format!(
            "`anabranch view ls --log {dir}` and `anabranch process ls --log {dir}` say how each goes on"
        )),
        DemoError::Halted(_) | DemoError::Stuck(_) => Some(format!(
            "run it again with --keep --log {dir}; `anabranch view ls` and `anabranch process ls` say what has stopped and how it goes on"
        )),
        _ => None,
    }
}

/// Starts the payment provider on a free port of this machine.
async fn start_provider(mood: Mood, time: &Time) -> Result<SocketAddr, Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("the payment provider cannot be started: {error}");
        Failure::new(Exit::Failed, "provider", what)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let time = time.clone();
    tokio::spawn(async move {
        if let Err(error) = provider::serve(listener, mood, time).await {
            note(&format!("the payment provider has ended: {error}"));
        }
    });
    Ok(address)
}

/// Serves the shop's page, its commands and its views.
async fn serve(wanted: &str, shop: &Shop, context: &Context) -> Result<(Serving, String), Failure> {
    let server = Server::new(shop.fleet.clone(), shop.log.clone(), shop.time.clone())
        .page("/", storefront::PAGE);
    serving::start(server, wanted, HOME, context).await
}

/// Where the demo keeps what it has beside the log.
enum Place {
    Directory(PathBuf),
    /// The log is in memory or elsewhere; what must be files here goes when the demo ends.
    Memory(PathBuf),
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is about directories of the demo itself"
)]
impl Place {
    /// Beside the log that the user names. If none is named, a directory of the demo, made new.
    fn choose(context: &mut Context) -> Result<Self, Failure> {
        let failed = |dir: &Path, error: std::io::Error| {
            Failure::file("make", &dir.display().to_string(), &error)
        };
        let place = match &context.settings.log {
            Address::Memory | Address::Server(_) => {
                let name = format!("anabranch-{:032x}", context.env.rng.next_u128());
                let dir = std::env::temp_dir().join(name);
                // Others may write there too: this must be new, and ours alone.
                std::fs::DirBuilder::new()
                    .mode(0o700)
                    .create(&dir)
                    .map_err(|error| failed(&dir, error))?;
                Self::Memory(dir)
            }
            Address::Directory(dir) if context.settings.log_is_named() => {
                let mut beside = dir.clone().into_os_string();
                beside.push(".demo");
                Self::Directory(beside.into())
            }
            Address::Directory(_) => {
                let dir = PathBuf::from(DEMO);
                context.settings.log = Address::Directory(PathBuf::from(DEMO_LOG));
                if dir.exists() {
                    // Refuses while another demo is at work there.
                    logs::open_here(context)?.close()?;
                    std::fs::remove_dir_all(&dir).map_err(|error| failed(&dir, error))?;
                }
                Self::Directory(dir)
            }
        };
        let dir = place.dir();
        let made = context.env.disk.create_dir(dir);
        made.map_err(|error| failed(dir, error))?;
        Ok(place)
    }

    fn dir(&self) -> &Path {
        match self {
            Self::Directory(dir) | Self::Memory(dir) => dir,
        }
    }
}

/// Takes away what nobody needs any more, however the demo ends.
impl Drop for Place {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is about a directory of the demo itself"
    )]
    fn drop(&mut self) {
        if let Self::Memory(dir) = &*self
            && let Err(error) = std::fs::remove_dir_all(dir)
        {
            note(&format!("note: {} stays: {error}", dir.display()));
        }
    }
}
