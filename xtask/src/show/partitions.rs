//! Partitions, causes that stay true, and other engines underneath.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::item::{Item, Run};
use super::shop_run::{Orders, shop_holds};
use super::tools::{released, scratch, tests_pass};
use crate::commands::Outcome;
use crate::process::output_of;
use crate::workspace::Workspace;

/// The items, in their order.
pub const ITEMS: [Item; 4] = [
    Item {
        says: "the split shop on 14 partitions keeps what must hold while a process is killed every 2 s; no event lacks a cause",
        run: Run::Once(embedded),
    },
    Item {
        says: "the conformance suite passes on several partitions, in memory and in a directory that is opened again",
        run: Run::Once(conformance),
    },
    Item {
        says: "an engine that breaks one promise of causes is caught, whichever it breaks",
        run: Run::Once(ablations),
    },
    Item {
        says: "the guide tells which engine to take, of partitions and causes, and how to write an engine",
        run: Run::Once(guide),
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

fn ablations(workspace: &Workspace) -> Outcome<String> {
    let passed = tests_pass(
        workspace,
        &["-p", "anabranch-log", "--all-features", "--", "wrong"],
    )?;
    Ok(format!("{passed} wrong engines are caught"))
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
