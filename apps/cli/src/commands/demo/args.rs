//! The words of `anabranch demo`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anabranch_server::HOME;
use anabranch_shop::demo::Options;
use anabranch_shop::provider::Mood;
use anabranch_shop::shop::Build;
use clap::Args;

use crate::serving::DoorArgs;
use crate::whole::whole;

/// Run a whole shop on real orders: services, sagas, a payment provider that fails
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// The orders: a file of the Online Retail data set, plain or compressed by gzip, - for
    /// standard input [default: one day, 1 December 2010]
    #[arg(long, value_name = "FILE")]
    pub orders: Option<PathBuf>,
    /// How the payment provider is: reliable, flaky, or down-for=30s and then reliable; or the
    /// address of one that runs already, http://127.0.0.1:4090
    #[arg(long, value_name = "HOW", default_value = "flaky", value_parser = who)]
    pub provider: Provider,
    /// How many units there are of each product; the wholesaler delivers as many
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub stock: u64,
    /// Order more of a product when fewer than this are left; 0: never [default: a quarter of
    /// --stock]
    #[arg(long, value_name = "N", value_parser = whole::<u64>, allow_negative_numbers = true)]
    pub reorder_below: Option<u64>,
    /// How many invoices come in each second: 50/s; 0: as many as the shop takes [default: 0
    /// with --orders, 20/s without]
    #[arg(long, value_name = "N/s", value_parser = rate)]
    pub rate: Option<f64>,
    /// Kill one of the services and start it again, each so often: 2s
    #[arg(long, value_name = "TIME", value_parser = often)]
    pub crash_every: Option<Duration>,
    /// Where the shop's page and its commands and views are served; on another port if this
    /// one is taken
    #[arg(long, value_name = "ADDRESS", default_value = HOME)]
    pub listen: String,
    #[command(flatten)]
    pub doors: DoorArgs,
    /// Stay up when all orders have ended, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Run the log and each service in a process of its own; --crash-every then kills any of these
    #[arg(long)]
    pub split: bool,
    /// Run only this service, on the log of a server: orders, stock, payments, shipping, pricing,
    /// customers, storefront or checkout
    #[arg(long, value_name = "NAME", conflicts_with_all = ["split", "orders", "crash_every", "rate", "keep"])]
    pub service: Option<String>,
    /// With --service: the service's own directory [default: ./.anabranch/services/NAME]
    #[arg(long, value_name = "DIR", requires = "service")]
    pub dir: Option<PathBuf>,
    /// With --service: a directory whose token.key seals what clients have seen [default: the
    /// server of the log says what does]
    #[arg(long, value_name = "DIR", requires = "service")]
    pub tokens: Option<PathBuf>,
    /// With --service pricing: which of its builds; 2: its own events have another form; 3: what it
    /// publishes has another one, without a word to those who read it
    #[arg(long, value_name = "N", requires = "service", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub build: u8,
    /// With --service: only print the types of its events and commands, for `anabranch deploy check`
    #[arg(long, requires = "service")]
    pub print_types: bool,
    /// Stop when the standard input ends: whoever started it is gone
    #[arg(long, hide = true)]
    pub while_input: bool,
}

const EXAMPLES: &str = "\
Examples:
  anabranch demo
  anabranch demo --orders online-retail.csv.gz --provider reliable --stock 100000
  anabranch demo --provider flaky --crash-every 2s --output json
  anabranch demo --keep --log ./shop
  anabranch demo --split --crash-every 2s
  anabranch demo --service stock --log http://127.0.0.1:7400

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
pub enum Provider {
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

impl DemoArgs {
    /// Whether the whole shop is in this process.
    pub fn is_all(&self) -> bool {
        !self.split && self.service.is_none()
    }

    /// Which build of pricing is meant.
    pub fn build(&self) -> Build {
        match self.build {
            2 => Build::Second,
            3 => Build::Careless,
            _ => Build::First,
        }
    }

    /// How the demo is run.
    pub fn options(&self) -> Options {
        Options {
            stock: self.stock,
            reorder_below: self.reorder_below.unwrap_or(self.stock / 4),
            rate: match (self.rate, &self.orders) {
                (Some(rate), _) => Some(rate).filter(|rate| *rate > 0.0),
                (None, Some(_)) => None,
                (None, None) => Some(CALM),
            },
            crash_every: self.crash_every,
            patience: match self.provider {
                Provider::Ours(Mood::DownFor(down)) => PATIENCE + down,
                _ => PATIENCE,
            },
        }
    }
}
