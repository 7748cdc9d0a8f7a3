//! `anabranch-crash`: cuts the power under the log until enough crash states were seen.

use std::process::ExitCode;

use anabranch_crash::reference::{self, Reference};
use anabranch_crash::{
    Campaign, Counts, Engine, Flaw, Segment, Settings, Totals, Trouble, directed, run_partitioned,
};
use anabranch_env::Env;
use anabranch_log_segment::Bug;

const USAGE: &str = "\
Cuts the power under a log, many times, and compares what is left with what was told.

Usage: anabranch-crash [OPTIONS]

  --states N     see at least so many crash states (default 250000)
  --runs N       do at most so many runs
  --seed S       the first seed; the others follow it (default: a fresh one)
  --threads N    how many threads to use (default: one for each core)
  --engine NAME  segment (default) or reference
  --partitions   check the log with several partitions instead, by --runs runs (default 1000)
  --hostile      the same behind a network that loses, delays and doubles messages (default 2000)
  --sabotage     turn on the planted bugs one after another: each must be caught
  --bug NAME     of the planted bugs only this one
  --journal      print what a failed run did, line by line

Exit codes: 0 all promises kept (or all bugs caught), 1 not, 2 wrong usage.";

/// Below this share of succeeded operations a run proves nothing.
const SUCCESS_SHARE_MIN: f64 = 0.5;

struct Arguments {
    campaign: Campaign,
    engine: Kind,
    sabotage: bool,
    bug: Option<String>,
    journal: bool,
    /// Several partitions, and what happens to them.
    partitioned: Option<Trouble>,
}

#[derive(Clone, Copy)]
enum Kind {
    Segment,
    Reference,
}

impl Kind {
    fn sound(self) -> Box<dyn Engine> {
        match self {
            Self::Segment => Box::new(Segment::default()),
            Self::Reference => Box::new(Reference::default()),
        }
    }

    /// The engine with each of its planted bugs.
    fn sabotaged(self) -> Vec<(String, Box<dyn Engine>)> {
        let segment = |bug: Bug| -> (String, Box<dyn Engine>) {
            (format!("{bug:?}"), Box::new(Segment::with_bug(bug)))
        };
        let flaw = |flaw: Flaw| -> (String, Box<dyn Engine>) {
            (format!("{flaw:?}"), Box::new(Segment::with_flaw(flaw)))
        };
        let reference = |bug: reference::Bug| -> (String, Box<dyn Engine>) {
            (format!("{bug:?}"), Box::new(Reference { bug: Some(bug) }))
        };
        match self {
            Self::Segment => {
                let bugs = Bug::ALL.into_iter().map(segment);
                bugs.chain(Flaw::ALL.into_iter().map(flaw)).collect()
            }
            Self::Reference => reference::Bug::ALL.iter().copied().map(reference).collect(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A panic of the log is a finding, told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let good = if let Some(trouble) = arguments.partitioned {
        check_partitioned(&arguments.campaign, trouble)
    } else if arguments.sabotage {
        sabotage(&arguments)
    } else {
        check(&arguments, arguments.engine.sound().as_ref())
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = Arguments {
        campaign: Campaign {
            seed: Env::os().rng.next_u64() >> 16,
            states: 250_000,
            runs_max: u64::MAX,
            threads: cores,
            settings: Settings::default(),
        },
        engine: Kind::Segment,
        sabotage: false,
        bug: None,
        journal: false,
        partitioned: None,
    };
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or(format!("{word} needs a number"))?;
            value
                .parse()
                .map_err(|_| format!("{word}: {value:?} is no number"))
        };
        match word.as_str() {
            "--states" => arguments.campaign.states = number()?,
            "--runs" => arguments.campaign.runs_max = number()?,
            "--seed" => arguments.campaign.seed = number()?,
            "--threads" => arguments.campaign.threads = number()?.max(1) as usize,
            "--sabotage" => arguments.sabotage = true,
            "--bug" => {
                arguments.sabotage = true;
                arguments.bug = Some(words.next().ok_or("--bug needs a name")?);
            }
            "--journal" => arguments.journal = true,
            "--partitions" => arguments.partitioned = Some(Trouble::Cuts),
            "--hostile" => arguments.partitioned = Some(Trouble::Hostile),
            "--engine" => match words.next().as_deref() {
                Some("segment") => arguments.engine = Kind::Segment,
                Some("reference") => arguments.engine = Kind::Reference,
                other => return Err(format!("--engine: {other:?} is unknown")),
            },
            "-h" | "--help" => return Ok(None),
            _ => return Err(format!("{word:?} is unknown")),
        }
    }
    Ok(Some(arguments))
}

/// Runs the campaign and prints what was seen. Whether all promises were kept.
fn check(arguments: &Arguments, engine: &dyn Engine) -> bool {
    let campaign = &arguments.campaign;
    println!(
        "Checking the {} log from seed {}.",
        engine.name(),
        campaign.seed
    );
    if matches!(arguments.engine, Kind::Segment)
        && let Err(violation) = directed(engine)
    {
        println!("FAILED in a case led to on purpose: {violation}");
        return false;
    }
    let clock = Env::os().clock;
    let totals = campaign.run(engine);
    let seconds = clock.monotonic().as_secs_f64();
    print_totals(&totals, seconds);
    if let Some(failed) = &totals.failed {
        if arguments.journal {
            for line in &failed.journal {
                println!("{line}");
            }
        }
        println!("FAILED with seed {}: {}", failed.seed, failed.violation);
        println!("Repeat it with --seed {} --runs 1 --journal.", failed.seed);
        return false;
    }
    if totals.success_share() < SUCCESS_SHARE_MIN {
        println!("FAILED: too few operations succeeded for the rest to mean anything.");
        return false;
    }
    println!("0 lost, 0 phantom, 0 reordered.");
    true
}

/// Runs a log with several partitions and prints what was seen. Whether all promises were kept.
fn check_partitioned(campaign: &Campaign, trouble: Trouble) -> bool {
    let (what, flag, runs) = match trouble {
        Trouble::Cuts => ("several partitions", "--partitions", 1_000),
        Trouble::Hostile => (
            "several partitions behind a hostile network",
            "--hostile",
            2_000,
        ),
    };
    let runs = match campaign.runs_max {
        u64::MAX => runs,
        runs => runs,
    };
    println!("Checking a log with {what} from seed {}.", campaign.seed);
    let mut counts = Counts::default();
    for number in 0..runs {
        let seed = campaign.seed.wrapping_add(number);
        let (done, outcome) = run_partitioned(seed, trouble, None);
        counts.add(&done);
        if let Err(violation) = outcome {
            println!("FAILED with seed {seed}: {violation}");
            println!("Repeat it with {flag} --seed {seed} --runs 1.");
            return false;
        }
    }
    println!(
        "{} runs, {} crash states; {} appends: {} acknowledged, {} refused by their conditions.",
        counts.runs, counts.states, counts.appends, counts.acknowledged, counts.refused
    );
    println!(
        "{} messages or answers lost, {} late, {} doubled; {} appends sent again were there already.",
        counts.lost, counts.late, counts.doubled, counts.repeated
    );
    if counts.acknowledged * 2 < counts.appends {
        println!("FAILED: too few appends were acknowledged for the rest to mean anything.");
        return false;
    }
    println!("Each acknowledged append is there once, at its place, behind its causes.");
    true
}

fn print_totals(totals: &Totals, seconds: f64) {
    let report = &totals.report;
    println!(
        "{} crash states in {} runs, {} recoveries cut short, in {seconds:.1} s ({:.0} states/s).",
        report.states,
        totals.runs,
        report.recoveries_cut,
        report.states as f64 / seconds.max(0.001)
    );
    println!(
        "{} operations: {:.1} % succeeded, {:.1} % declined with a reason.",
        report.operations,
        totals.success_share() * 100.0,
        report.declined as f64 / report.operations.max(1) as f64 * 100.0
    );
    println!(
        "{} damaged copies: {} told, {} of no consequence. {} states of lying disks: {} losses told, {} that nobody could see.",
        report.damaged,
        report.damage_told,
        report.damaged - report.damage_told,
        report.lying,
        report.lying_told,
        report.lying_silent,
    );
    println!("What happened to the disks:");
    for (hit, count) in report.tally.iter() {
        println!("  {count:>12}  {}", hit.text());
    }
}

/// Turns on one bug after another. Whether all were caught.
fn sabotage(arguments: &Arguments) -> bool {
    let mut bugs = arguments.engine.sabotaged();
    if let Some(wanted) = &arguments.bug {
        bugs.retain(|(name, _)| name == wanted);
    }
    let count = bugs.len();
    let mut caught = 0;
    for (bug, engine) in bugs {
        if matches!(arguments.engine, Kind::Segment)
            && let Err(violation) = directed(engine.as_ref())
        {
            caught += 1;
            println!("caught      {bug} in a case led to on purpose: {violation}");
            continue;
        }
        let totals = arguments.campaign.run(engine.as_ref());
        match totals.failed {
            Some(failed) => {
                caught += 1;
                println!(
                    "caught      {bug} after {} states, seed {}: {}",
                    totals.report.states, failed.seed, failed.violation
                );
            }
            None => println!("NOT caught  {bug} in {} states", totals.report.states),
        }
    }
    println!("{caught} of {count} bugs caught.");
    caught == count && count > 0
}
