//! `anabranch-soak`: the shop at a steady rate, with a provider that fails and services that are
//! killed, for as long as one likes. Prints by the minute what it takes of the machine, and says
//! at the end whether anything has grown but the log.

mod measure;
mod run;
mod verdict;

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anabranch::env::Env;
use anabranch::runtime::Time;
use anabranch_shop::provider::{self, Mood};

use run::{PROVIDER, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
Runs the shop at a steady rate with faults on, and shows that nothing grows but the log.

Usage: anabranch-soak [OPTIONS]

  --minutes N      how long (default 60)
  --rate N         how many orders in each second (default 50)
  --lines N        of each order at most so many lines, for the disk's sake (default 4)
  --crash-every N  a service is killed and started again every so many seconds (default 5; 0: never)

Prints JSON lines: what the process takes, by the minute, and a verdict. The log is removed.

Exit codes: 0 flat but for the log, 1 not, 2 wrong usage.";

/// The allocator's switch for huge pages of the system.
const HUGE_PAGES: &str = "MIMALLOC_ALLOW_THP";

/// Begins the program again without huge pages, if it has them; gives why that cannot be. The
/// system makes such pages of what is used in part and gives them back late, so that the memory of
/// the process would tell how the machine was busy, and not what the program holds.
fn without_huge_pages() -> Option<std::io::Error> {
    if std::env::var_os(HUGE_PAGES).is_some() {
        return None;
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Some(error),
    };
    let mut again = Command::new(program);
    again.args(std::env::args_os().skip(1));
    Some(again.env(HUGE_PAGES, "0").exec())
}

fn main() -> ExitCode {
    if let Some(error) = without_huge_pages() {
        eprintln!("cannot begin without huge pages: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut settings = Settings {
        length: Duration::from_secs(3600),
        rate: 50.0,
        lines_max: 4,
        crash_every: Some(Duration::from_secs(5)),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == PROVIDER {
            return runtime.block_on(be_the_provider());
        }
        let value = arguments.next().unwrap_or_default();
        match (name.as_str(), value.parse::<f64>()) {
            ("--minutes", Ok(n)) if n > 0.0 && n < 1e6 => {
                settings.length = Duration::from_secs_f64(n * 60.0);
            }
            ("--rate", Ok(n)) if n > 0.0 && n < 1e6 => settings.rate = n,
            ("--lines", Ok(n)) if n >= 1.0 => settings.lines_max = n as usize,
            ("--crash-every", Ok(n)) if (0.0..1e6).contains(&n) => {
                settings.crash_every = (n > 0.0).then(|| Duration::from_secs_f64(n));
            }
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match runtime.block_on(run::run(&settings)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says on which port it is, and serves until it is killed or nobody reads what it says.
async fn be_the_provider() -> ExitCode {
    let serve = async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        provider::serve(listener, Mood::Flaky, Time::of(&Env::os())).await
    };
    match serve.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the provider: {error}");
            ExitCode::FAILURE
        }
    }
}
