//! A run of the shop to its end, and whether what must hold is true then.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::tools::{ORDERS, json, number};
use crate::commands::Outcome;
use crate::process::output_of;
use crate::workspace::Workspace;

/// The orders of one day, for who has no more.
const DAY: &str = "examples/retail/data/first-day.csv";

/// The file of orders, and what it is.
pub struct Orders {
    pub file: PathBuf,
    pub which: &'static str,
}

impl Orders {
    /// The file that the environment names, else that of one day.
    pub fn of(workspace: &Workspace) -> Self {
        match std::env::var(ORDERS) {
            Ok(file) => Self {
                file: file.into(),
                which: "the file of orders",
            },
            Err(_) => Self {
                file: workspace.root.join(DAY),
                which: "one day; half a year needs a file of orders",
            },
        }
    }

    fn is_day(&self) -> bool {
        self.file.ends_with(DAY)
    }
}

/// Runs the shop with these arguments, `--log ADDRESS demo …`, and gives its figures if every invariant
/// holds and its totals are the plain script's.
pub fn shop_holds(
    workspace: &Workspace,
    program: &Path,
    dir: &Path,
    orders: &Orders,
    demo: &[&str],
) -> Outcome<String> {
    let path = orders.file.display().to_string();
    let mut demo = demo.to_vec();
    demo.extend(["--orders", &path, "--listen", "127.0.0.1:0"]);
    if orders.is_day() {
        // Else it has ended before many are killed.
        demo.extend(["--rate", "10/s"]);
    }
    let summary = json(program, &demo, dir)?;
    let invariants = summary["invariants"].as_object();
    let invariants = invariants.ok_or("the summary has no invariants")?;
    let broken: Vec<_> = invariants
        .iter()
        .filter(|(_, holds)| **holds != true)
        .map(|(name, _)| name.as_str())
        .collect();
    if !broken.is_empty() {
        return Err(format!("does not hold: {}", broken.join(", ")));
    }
    let log = demo.iter().position(|word| *word == "--log");
    let log = log.and_then(|at| demo.get(at + 1));
    let log = log.ok_or("the shop has to be told its log")?;
    equal_totals(workspace, program, dir, log, &orders.file, &summary)?;
    Ok(format!(
        "{}: {} of {} orders confirmed, {} processes killed, {:.1} s, totals equal",
        orders.which,
        summary["orders"]["confirmed"],
        summary["orders"]["placed"],
        summary["crashes"],
        number(&summary, "/seconds")?
    ))
}

/// Compares what was sold with what a script that knows nothing of the shop says.
fn equal_totals(
    workspace: &Workspace,
    program: &Path,
    dir: &Path,
    log: &str,
    file: &Path,
    summary: &Value,
) -> Outcome {
    let mut read = Command::new(program);
    read.args(["--log", log, "read", "--category", "order"])
        .args(["--type", "OrderConfirmed", "--output", "jsonl"])
        .current_dir(dir);
    let confirmed = output_of(&mut read)?
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            let subject = event["subject"].as_str().unwrap_or_default();
            Ok(subject.trim_start_matches("order/").to_owned() + "\n")
        })
        .collect::<Outcome<String>>()?;
    let list = dir.join("confirmed");
    std::fs::write(&list, confirmed).map_err(|error| format!("{}: {error}", list.display()))?;
    let mut plain = Command::new("python3");
    plain
        .arg(workspace.root.join("testing/shop-totals.py"))
        .arg(file)
        .arg(&list);
    let plain: Value =
        serde_json::from_str(&output_of(&mut plain)?).map_err(|error| error.to_string())?;
    for (name, expected) in plain.as_object().into_iter().flatten() {
        let sold = &summary["revenue_mills"][name];
        if sold != expected {
            return Err(format!("{name}: {sold}, the plain script says {expected}"));
        }
    }
    Ok(())
}
