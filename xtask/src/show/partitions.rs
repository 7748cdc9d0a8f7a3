//! Partitions, causes that stay true, and other engines underneath.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anabranch_backends::{Keeps, Postgres};
use serde_json::Value;

use super::item::{Item, Run};
use super::shop_run::{Orders, shop_holds};
use super::tools::{released, scratch, tests_pass, tests_pass_beside};
use crate::commands::Outcome;
use crate::process::output_of;
use crate::workspace::Workspace;

/// The items, in their order.
pub const ITEMS: [Item; 9] = [
    Item {
        says: "the split shop on 14 partitions keeps what must hold while a process is killed every 2 s; no event lacks a cause",
        run: Run::Once(embedded),
    },
    Item {
        says: "the same in PostgreSQL, which is killed every 20 s",
        run: Run::Once(postgres),
    },
    Item {
        says: "the conformance suite passes on several partitions, in memory and in a directory that is opened again",
        run: Run::Once(conformance),
    },
    Item {
        says: "each scenario of causality holds through HTTP with tokens, on an embedded log of eight partitions and in PostgreSQL",
        run: Run::Once(scenarios),
    },
    Item {
        says: "without any one protection of causes something is seen that must not be",
        run: Run::Once(ablations),
    },
    Item {
        says: "a program that knows nothing of the platform judges histories of views in memory, SQLite and PostgreSQL",
        run: Run::Once(judged),
    },
    Item {
        says: "a log of 14 partitions is copied, into PostgreSQL and back, and moved: its export stays the same, byte for byte",
        run: Run::Once(moved),
    },
    Item {
        says: "the guide tells which engine to take, of partitions and causes, and how to write an engine",
        run: Run::Once(guide),
    },
    Item {
        says: "behind a network that loses, delays and doubles messages each acknowledged append is there once, at its place",
        run: Run::Once(hostile),
    },
];

/// The layout of the shop's log.
const GROUPS: [&str; 6] = [
    "--group",
    "trade=order,payment,return:8",
    "--group",
    "stock=stock:4",
    "--rest",
    "2",
];

fn embedded(workspace: &Workspace) -> Outcome<String> {
    let program = released(workspace, "anabranch-cli", "anabranch")?;
    let dir = scratch(workspace, "partitions")?;
    let mut create = Command::new(&program);
    create.args(["log", "create", "./log"]).args(GROUPS);
    output_of(create.current_dir(&dir))?;
    let orders = Orders::of(workspace);
    let demo = ["--log", "./log", "demo", "--split", "--crash-every", "2s"];
    let figure = shop_holds(workspace, &program, &dir, &orders, &demo)?;
    let causes = no_stale_writes(workspace, &program, &dir, "./log")?;
    Ok(format!("{figure}\n           {causes}"))
}

/// Asks of every event in the log whether it has its causes. The same question without their causes has to
/// find some that have not: else it shows nothing.
fn no_stale_writes(
    workspace: &Workspace,
    program: &Path,
    dir: &Path,
    log: &str,
) -> Outcome<String> {
    let events = dir.join("events.jsonl");
    let file = std::fs::File::create(&events);
    let file = file.map_err(|error| format!("{}: {error}", events.display()))?;
    let mut read = Command::new(program);
    read.args(["--log", log, "read", "--output", "jsonl"])
        .current_dir(dir)
        .stdout(file);
    let status = read.status();
    let status = status.map_err(|error| format!("{}: {error}", program.display()))?;
    if !status.success() {
        return Err(format!("read --output jsonl ended with {status}"));
    }
    let audit = |more: &[&str]| {
        let mut audit = Command::new("python3");
        audit
            .arg(workspace.root.join("testing/stale-writes.py"))
            .arg(&events)
            .args(more);
        audit
    };
    let told: Value =
        serde_json::from_str(&output_of(&mut audit(&[]))?).map_err(|error| error.to_string())?;
    let blind = audit(&["--ignore-causes"]).output();
    let blind = blind.map_err(|error| format!("python3: {error}"))?;
    let blind: Value = serde_json::from_slice(&blind.stdout).map_err(|error| error.to_string())?;
    let caught = blind["stale"].as_u64().unwrap_or_default();
    if caught == 0 {
        return Err("the audit finds nothing even where it ignores causes".to_owned());
    }
    Ok(format!(
        "{} stale writes: {} events in {} partitions, {} causes looked for, {} of them in other partitions; \
         with causes ignored {caught} are stale",
        told["stale"], told["events"], told["partitions"], told["asked"], told["across_partitions"],
    ))
}

fn conformance(workspace: &Workspace) -> Outcome<String> {
    let memory = [
        "-p",
        "anabranch-log",
        "--all-features",
        "--test",
        "partitions",
    ];
    let directory = [
        "-p",
        "anabranch-log-segment",
        "--all-features",
        "--test",
        "partitions",
    ];
    let memory = tests_pass(workspace, &memory)?;
    let directory = tests_pass(workspace, &directory)?;
    Ok(format!(
        "{memory} tests in memory, {directory} in a directory"
    ))
}

/// The tests of causality through HTTP.
const CAUSALITY: [&str; 6] = [
    "-p",
    "anabranch-server",
    "--all-features",
    "--test",
    "causality",
    "--",
];

/// Those of them whose names begin so.
fn causality(name: &str) -> Vec<&str> {
    CAUSALITY.into_iter().chain([name]).collect()
}

/// How many scenarios there are.
const SCENARIOS: u32 = 18;

fn scenarios(workspace: &Workspace) -> Outcome<String> {
    let server = Server::start("scenarios")?;
    let address = server.0.address()?;
    let mut figures = Vec::new();
    let mut missing = Vec::new();
    for (module, engine) in ENGINES {
        let tests = |name: String| {
            let tests = causality(&name);
            tests_pass_beside(workspace, &tests, Some(&address))
        };
        let passed = tests(format!("{module}::b11_"))?;
        figures.push(format!("{passed} tests {engine}"));
        for number in (1..=SCENARIOS).filter(|number| *number != RELAYOUT) {
            if tests(format!("{module}::b11_{number:02}_")).is_err() {
                missing.push(format!("{number} {engine}"));
            }
        }
    }
    let relayout = causality("relayout::b11_16_");
    let passed = tests_pass_beside(workspace, &relayout, Some(&address))?;
    figures.push(format!("{passed} of a log that gets another layout"));
    let figure = figures.join(", ");
    match missing.is_empty() {
        true => Ok(figure),
        false => Err(format!("{figure}; no test of {}", missing.join(", "))),
    }
}

/// The scenario of a log that gets another layout, which makes a log of its own.
const RELAYOUT: u32 = 16;

/// The modules of the scenarios, and what they run on.
const ENGINES: [(&str, &str); 2] = [
    ("on_embedded", "on an embedded log of eight partitions"),
    ("on_postgres", "in PostgreSQL"),
];

fn ablations(workspace: &Workspace) -> Outcome<String> {
    let seen = tests_pass(workspace, &causality("protections::"))?;
    let wrong = [
        "-p",
        "anabranch-log",
        "--all-features",
        "--test",
        "wrong_engines",
    ];
    let wrong = tests_pass(workspace, &wrong)?;
    Ok(format!(
        "{seen} tests without a protection each, through HTTP; {wrong} tests of wrong engines"
    ))
}

fn judged(workspace: &Workspace) -> Outcome<String> {
    let passed = tests_pass(workspace, &["-p", "anabranch-causal-check"])?;
    let program = released(
        workspace,
        "anabranch-causal-check",
        "anabranch-causal-check",
    )?;
    let examples = workspace.root.join("testing/causal-check/tests");
    let mut told = Vec::new();
    for (name, code) in [("photo-and-acl.hist", 0), ("lost-comment.hist", 1)] {
        let first = verdict(&program, &examples.join(name), code)?;
        told.push(format!("{name}: {first}"));
    }
    let server = Server::start("boards")?;
    let boards = causality("histories::");
    let wrong = tests_pass_beside(workspace, &boards, Some(&server.0.address()?))? - 1;
    let ours = workspace.target()?.join("tmp/histories");
    for seed in 0..HISTORIES {
        let name = format!("boards-{seed}.hist");
        let first = verdict(&program, &ours.join(&name), 0)?;
        told.push(format!(
            "{name}, of boards in memory, SQLite and PostgreSQL: {first}"
        ));
    }
    Ok(format!(
        "{passed} tests of the judge; {wrong} ways to do without a protection are found in histories\n           {}",
        told.join("\n           ")
    ))
}

/// How many histories of boards the tests of causality leave.
const HISTORIES: u32 = 4;

/// What the judge says of a history, which it has to end with this code for.
fn verdict(judge: &Path, history: &Path, code: i32) -> Outcome<String> {
    let judged = Command::new(judge).arg(history).output();
    let judged = judged.map_err(|error| format!("{}: {error}", judge.display()))?;
    let said = String::from_utf8_lossy(&judged.stdout);
    if judged.status.code() != Some(code) {
        let name = history.display();
        return Err(format!("{name} ended with {}: {said}", judged.status));
    }
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

fn moved(workspace: &Workspace) -> Outcome<String> {
    let program = released(workspace, "anabranch-cli", "anabranch")?;
    let dir = scratch(workspace, "moved")?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        output_of(command.args(arguments).current_dir(&dir))
    };
    let create: Vec<_> = ["log", "create", "./log"]
        .into_iter()
        .chain(GROUPS)
        .collect();
    run(&create)?;
    let file = Orders::of(workspace).file.display().to_string();
    let demo = ["--log", "./log", "demo", "--orders", &file, "--rate", "0"];
    let demo: Vec<_> = demo
        .into_iter()
        .chain(["--listen", "127.0.0.1:0"])
        .collect();
    run(&demo)?;
    let server = Server::start("copies")?;
    let database = format!("{}?durability=unchecked", server.0.address()?);
    run(&["log", "copy", "./log", &database])?;
    run(&["log", "copy", &database, "./copy"])?;
    run(&["log", "copy", "./copy", "./again"])?;
    run(&["log", "copy", "./log", "./moved", "--move"])?;
    let export = |log: &str| run(&["--log", log, "log", "export"]);
    let first = export("./log")?;
    for other in [&*database, "./copy", "./again", "./moved"] {
        if export(other)? != first {
            return Err(format!("the export of {other} is not that of ./log"));
        }
    }
    let refused = run(&["append", "note/1", "--type", "Noted", "--log", "./log"]);
    let Err(refused) = refused else {
        return Err("a log that was moved away has taken an append".to_owned());
    };
    if !refused.contains("moved") {
        return Err(format!(
            "the refusal does not name where the log is: {refused}"
        ));
    }
    run(&["append", "note/1", "--type", "Noted", "--log", "./moved"])?;
    Ok(format!(
        "{} events, {} bytes each time; the old directory refuses appends and names the new one",
        first.lines().count(),
        first.len()
    ))
}

/// The pages that should be there.
const PAGES: [&str; 3] = [
    "docs/guide/engines.md",
    "docs/guide/partitions.md",
    "docs/guide/your-own-engine.md",
];

fn guide(workspace: &Workspace) -> Outcome<String> {
    let missing: Vec<_> = PAGES
        .into_iter()
        .filter(|page| !workspace.root.join(page).exists())
        .collect();
    match missing.is_empty() {
        true => Ok(format!(
            "{} pages; their examples run as tests",
            PAGES.len()
        )),
        false => Err(format!("no page {}", missing.join(", "))),
    }
}

/// How many simulated runs behind a hostile network.
const HOSTILE_RUNS: &str = "2000";

fn hostile(workspace: &Workspace) -> Outcome<String> {
    let crash = released(workspace, "anabranch-crash", "anabranch-crash")?;
    let text = output_of(Command::new(crash).args(["--hostile", "--runs", HOSTILE_RUNS]))?;
    let lines = text.lines().map(str::trim);
    let told: Vec<_> = lines.filter(|line| line.contains(';')).collect();
    Ok(told.join("\n           "))
}

/// How long the database runs before it is killed.
const DATABASE_RUNS: Duration = Duration::from_secs(20);

/// A server of PostgreSQL that is stopped, and whose data is removed, at the end.
struct Server(Postgres);

impl Server {
    /// One that keeps nothing beyond a power cut: for tests.
    fn start(name: &str) -> Outcome<Self> {
        // The server's user may not be able to get below the target directory.
        let name = format!("anabranch-show-{name}-{}", std::process::id());
        Ok(Self(Postgres::start(&std::env::temp_dir().join(name))?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(why) = self.0.stop() {
            eprintln!("PostgreSQL was not stopped: {why}");
        }
    }
}

fn postgres(workspace: &Workspace) -> Outcome<String> {
    let program = released(workspace, "anabranch-cli", "anabranch")?;
    let dir = scratch(workspace, "postgres")?;
    // The server's user may not be able to get below the target directory.
    let place = format!("anabranch-show-postgres-{}", std::process::id());
    let place = std::env::temp_dir().join(place);
    let server = Server(Postgres::start_that_keeps(&place, Keeps::Everything)?);
    let log = server.0.address()?;
    let mut create = Command::new(&program);
    create.args(["log", "create", &log]).args(GROUPS);
    output_of(create.current_dir(&dir))?;
    let orders = Orders::of(workspace);
    let (ended, end) = mpsc::channel::<()>();
    let (figure, killed) = std::thread::scope(|scope| {
        let shop = scope.spawn(|| {
            let demo = ["--log", &log, "demo", "--split", "--crash-every", "2s"];
            let figure = shop_holds(workspace, &program, &dir, &orders, &demo);
            drop(ended);
            figure
        });
        let mut killed = 0;
        let killing = loop {
            if end.recv_timeout(DATABASE_RUNS) != Err(RecvTimeoutError::Timeout) {
                break Ok(killed);
            }
            let again = server.0.kill().and_then(|()| server.0.start_again());
            if again.is_err() {
                break again.map(|()| killed);
            }
            killed += 1;
        };
        let figure = shop.join().map_err(|_| "the shop was not run".to_owned());
        (figure.and_then(|figure| figure), killing)
    });
    let (figure, killed) = (figure?, killed?);
    let causes = no_stale_writes(workspace, &program, &dir, &log)?;
    Ok(format!(
        "{figure}; PostgreSQL killed {killed} times\n           {causes}"
    ))
}
