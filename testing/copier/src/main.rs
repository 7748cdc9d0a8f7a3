//! `anabranch-copier`: the full dose, 100,000 numbers on each log.

use std::path::PathBuf;
use std::process::ExitCode;

use anabranch_copier::{Engine, Settings, TempDir, run};
use anabranch_env::{Env, SplitMix64};

const USAGE: &str = "\
Copies numbered events through entity, process and views while everything is killed, and counts.

Usage: anabranch-copier [OPTIONS]

  --events N   how many numbers (default 100000)
  --streams N  in how many streams (default 50)
  --per-kill N about how many numbers between two kills (default 1000; 0: no kills)
  --runs N     how many runs on each log (default 1)
  --seed S     the first seed; the others follow it (default: a fresh one)
  --engine E   memory, segment or both (default)
  --postgres A the address of a database for a view there (default: no such view)

Exit codes: 0 each number arrived once and in order, 1 not, 2 wrong usage.";

fn main() -> ExitCode {
    let mut settings = Settings {
        seed: Env::os().rng.next_u64(),
        events: 100_000,
        streams: 50,
        events_per_kill: 1000,
        failure_one_in: 200,
        engine: Engine::Memory,
        sabotage: false,
        dir: PathBuf::new(),
        postgres: None,
    };
    let (mut runs, mut engines) = (1, vec![Engine::Memory, Engine::Segment]);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = value.parse::<u64>();
        match (name.as_str(), number) {
            ("--events", Ok(n)) => settings.events = n,
            ("--streams", Ok(n)) if n > 0 => settings.streams = n,
            ("--per-kill", Ok(n)) => settings.events_per_kill = n,
            ("--runs", Ok(n)) => runs = n,
            ("--seed", Ok(n)) => settings.seed = n,
            ("--engine", Err(_)) if value == "memory" => engines = vec![Engine::Memory],
            ("--engine", Err(_)) if value == "segment" => engines = vec![Engine::Segment],
            ("--engine", Err(_)) if value == "both" => {}
            ("--postgres", Err(_)) => settings.postgres = Some(value),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let mut seeds = SplitMix64::new(settings.seed);
    let clock = Env::os().clock;
    for _ in 0..runs {
        for &engine in &engines {
            let dir = TempDir::new();
            let settings = Settings {
                engine,
                dir: dir.path().to_owned(),
                ..settings.clone()
            };
            let began = clock.monotonic();
            match run(&settings) {
                Ok(report) => {
                    let took = clock.monotonic().saturating_sub(began).as_secs_f64();
                    println!(
                        "{engine:?}, seed {}: {report:?}, {took:.1} s",
                        settings.seed
                    );
                }
                Err(wrong) => {
                    eprintln!("{engine:?}: {wrong}\n{settings:?}");
                    return ExitCode::FAILURE;
                }
            }
        }
        settings.seed = seeds.next_u64();
    }
    ExitCode::SUCCESS
}
