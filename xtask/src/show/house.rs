//! How the project is built inside, and how fast it is.

use std::path::Path;

use super::item::{Item, Run};
use super::tools::{json, number, scratch, shipped, size_of_program, tests_pass};
use crate::commands::Outcome;
use crate::workspace::{SourceFile, Workspace};
use crate::{modules, tidy};

/// The items, in their order.
pub const ITEMS: [Item; 7] = [
    Item {
        says: "no files use one another in a circle, none is above 800 lines, no function above 100",
        run: Run::Once(files),
    },
    Item {
        says: "the shop, the copier, the hosting tests and the guide pass; the host is smaller than 4,600 lines",
        run: Run::Once(host),
    },
    Item {
        says: "the services of the shop work through a second implementation of the port",
        run: Run::Once(port),
    },
    Item {
        says: "crates outside the workspace implement a view store and a consumer",
        run: Run::Once(strangers),
    },
    Item {
        says: "the program without the clients of other systems is below 20 MB, and docs/benchmarks.md says how long a build takes",
        run: Run::Once(build),
    },
    Item {
        says: "the log beside the bare loop and its peers, services beside the log",
        run: Run::Once(speed),
    },
    Item {
        says: "ARCHITECTURE.md tells how a command, a query and an event travel",
        run: Run::Once(map),
    },
];

fn files(workspace: &Workspace) -> Outcome<String> {
    let (circles, count) = modules::standing(workspace)?;
    let long = tidy::known_to_be_long(workspace)?;
    let planted = ["-p", "xtask", "--test", "layers", "files_in_a_circle"];
    tests_pass(workspace, &planted)?;
    if circles + long > 0 {
        return Err(format!(
            "{count} files: {circles} circles still stand, and {long} files and functions are too long"
        ));
    }
    Ok(format!(
        "{count} files, no circle, none too long; a planted circle is found"
    ))
}

/// What the host of entities, processes and sagas consists of, below `crates/runtime/src`.
const HOST: [&str; 4] = ["entity/", "host/", "kinds/", "process/"];

fn host(workspace: &Workspace) -> Outcome<String> {
    let lines = lines(&workspace.files()?, "crates/runtime/src/", &HOST);
    let mut passed = 0;
    for arguments in [
        &["-p", "anabranch-shop", "--all-features"][..],
        &["-p", "anabranch-copier", "--all-features"],
        &[
            "-p",
            "anabranch-runtime",
            "--all-features",
            "--test",
            "hosting",
        ],
        &["-p", "anabranch", "--all-features", "--doc"],
    ] {
        passed += tests_pass(workspace, arguments)?;
    }
    let figure = format!("{passed} tests pass; the host has {lines} lines");
    if lines < 4_600 {
        Ok(figure)
    } else {
        Err(figure)
    }
}

fn lines(files: &[SourceFile], dir: &str, parts: &[&str]) -> usize {
    files
        .iter()
        .filter(|file| {
            let below = file.path.strip_prefix(dir);
            below.is_some_and(|below| parts.iter().any(|part| below.starts_with(part)))
        })
        .map(|file| file.text.lines().count())
        .sum()
}

fn port(workspace: &Workspace) -> Outcome<String> {
    let arguments = ["-p", "anabranch-shop", "--all-features", "--test", "port"];
    let passed = tests_pass(workspace, &arguments)?;
    Ok(format!(
        "{passed} tests pass over a channel that loses, repeats and delays answers"
    ))
}

fn strangers(workspace: &Workspace) -> Outcome<String> {
    let dir = workspace.root.join("testing/strangers");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("testing/strangers: {error}"))?;
    let mut shown = Vec::new();
    for entry in entries {
        let manifest = entry
            .map_err(|error| error.to_string())?
            .path()
            .join("Cargo.toml");
        if manifest.exists() {
            let path = manifest.display().to_string();
            let passed = tests_pass(workspace, &["--manifest-path", &path])?;
            shown.push(format!("{passed} tests of {path}"));
        }
    }
    match shown.len() {
        0 | 1 => Err(format!(
            "testing/strangers has {} crates of two",
            shown.len()
        )),
        _ => Ok(shown.join(", ")),
    }
}

fn build(workspace: &Workspace) -> Outcome<String> {
    let text = workspace.read("docs/benchmarks.md")?;
    for command in ["cargo xtask build-times", "cargo run --release -- demo"] {
        if !text.contains(command) {
            return Err(format!("docs/benchmarks.md does not name `{command}`"));
        }
    }
    size_of_program(workspace)
}

/// What is measured beside something else.
struct Measured {
    arguments: &'static [&'static str],
    /// The ratio that we aim for.
    aim: f64,
    /// The least: what was reached on the worse of two machines, with some room for a busy one. The
    /// faster the disk, the more of it is the processor's time. Where it is below the aim,
    /// docs/benchmarks.md says what bounds it.
    least: f64,
}

const fn measured(arguments: &'static [&'static str], aim: f64, least: f64) -> Measured {
    Measured {
        arguments,
        aim,
        least,
    }
}

const RATIOS: [Measured; 6] = [
    measured(
        &["bench", "log", "--clients", "1", "--batch", "1"],
        0.95,
        0.8,
    ),
    measured(
        &["bench", "log", "--clients", "128", "--batch", "1"],
        0.8,
        0.55,
    ),
    measured(
        &["bench", "log", "--clients", "16", "--batch", "100"],
        0.6,
        0.3,
    ),
    measured(&["bench", "entity", "--entities", "1"], 0.7, 0.4),
    measured(&["bench", "entity", "--entities", "100000"], 0.7, 0.25),
    measured(&["bench", "saga"], 0.0, 0.0),
];

/// Where a report has the ratio.
const RATIO: &str = "/ratio/throughput";

/// How often a figure that is too low is measured: other programs on the machine make it lower, none
/// makes it higher.
const ATTEMPTS: usize = 3;

fn speed(workspace: &Workspace) -> Outcome<String> {
    let program = shipped(workspace, "anabranch-cli", "anabranch")?;
    let dir = scratch(workspace, "bench")?;
    let mut figures = Vec::new();
    let mut is_good = true;
    for measured in RATIOS {
        let mut figure = Figure::take(&program, &dir, &measured)?;
        for _ in 1..ATTEMPTS {
            if figure.is_good {
                break;
            }
            figures.push(format!("(measured again: {})", figure.lines[0]));
            figure = Figure::take(&program, &dir, &measured)?;
        }
        is_good &= figure.is_good;
        figures.extend(figure.lines);
    }
    let text = figures.join("\n           ");
    if is_good { Ok(text) } else { Err(text) }
}

/// What a measurement has said.
struct Figure {
    is_good: bool,
    lines: Vec<String>,
}

impl Figure {
    fn take(program: &Path, dir: &Path, measured: &Measured) -> Outcome<Self> {
        let Measured { aim, least, .. } = *measured;
        let mut arguments = measured.arguments.to_vec();
        let said = arguments.join(" ");
        let place = dir.display().to_string();
        if arguments[1] == "log" {
            arguments.extend(["--peer", "redis", "--peer", "sqlite", "--peer", "postgres"]);
            // PostgreSQL has a user of its own, who may not enter what the program makes for itself.
            arguments.extend(["--seconds", "6", "--dir", &place]);
        }
        let report = json(program, &arguments, dir)?;
        let ratio = number(&report, RATIO)?;
        let reached = if ratio >= aim {
            "reached"
        } else {
            "not reached"
        };
        let mut figure = Self {
            is_good: ratio >= least,
            lines: vec![format!(
                "{said}: {ratio:.2} (aim {aim}: {reached}; at least {least})"
            )],
        };
        let peers = report["peers"].as_object().into_iter().flatten();
        for (name, peer) in peers {
            figure.lines.push(match number(peer, RATIO) {
                Ok(ratio) => format!("  over {name}: {ratio:.2}"),
                Err(_) => format!("  {name} is not there: {}", peer["missing"]),
            });
        }
        if let Ok(behind) = number(&report, "/follow/load_p50_us") {
            figure.is_good &= behind <= 1_000.0;
            figure.lines.push(format!(
                "  a follower under load is behind by {behind:.0} µs (at most 1000)"
            ));
        }
        Ok(figure)
    }
}

fn map(workspace: &Workspace) -> Outcome<String> {
    let text = workspace.read("ARCHITECTURE.md")?;
    let headings: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(str::to_lowercase)
        .collect();
    let missing: Vec<&str> = ["command", "query", "event"]
        .into_iter()
        .filter(|word| !headings.iter().any(|heading| heading.contains(word)))
        .collect();
    if missing.is_empty() {
        Ok(
            "each journey has a heading; `cargo xtask tidy` checks the files that it names"
                .to_owned(),
        )
    } else {
        Err(format!(
            "no heading tells the journey of: {}",
            missing.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_in_the_named_folders_only() {
        let file = |path: &str, text: &str| SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let files = [
            file("a/src/host/x.rs", "1\n2\n"),
            file("a/src/view/x.rs", "1\n"),
            file("b/src/host/x.rs", "1\n"),
        ];
        assert_eq!(lines(&files, "a/src/", &["host/"]), 2);
    }
}
