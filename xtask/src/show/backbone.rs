//! Every service a process of its own, on one shared log.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::deploys;
use super::item::{Item, Run};
use super::security;
use super::shop_run::{Orders, shop_holds};
use super::split_shop::Shop;
use super::tools::{json, number, released, scratch, shipped, size_of_program, tests_pass};
use crate::commands::Outcome;
use crate::process::{output_of, step};
use crate::workspace::Workspace;

/// The items, in their order.
pub const ITEMS: [Item; 10] = [
    Item {
        says: "the conformance suite passes on the log over the network, directly and through one that breaks",
        run: Run::Once(conformance),
    },
    Item {
        says: "the split shop keeps what must hold while any of its processes is killed every 2 s; totals equal the plain script's",
        run: Run::Once(split),
    },
    Item {
        says: "while it runs, a forged append is refused by name and a ninth service catches up; nobody else is started again",
        run: Run::Once(strangers),
    },
    Item {
        says: "while it runs, a new build of pricing is deployed, and one that fails goes back; nobody else is started again",
        run: Run::Once(deploys::deploy),
    },
    Item {
        says: "programs in Python and Node place an order, wait for its outcome, read their own write, and follow through a restart",
        run: Run::Once(clients),
    },
    Item {
        says: "each attack and each requirement of security has a test",
        run: Run::Once(security::list),
    },
    Item {
        says: "a published contract changed in a breaking way is refused, and names its readers; forced, it stops only these",
        run: Run::Once(deploys::contract),
    },
    Item {
        says: "the log behind a server beside the embedded one, and the split shop beside the whole one",
        run: Run::Once(speed),
    },
    Item {
        says: "the program without the clients of other systems is below 20 MB",
        run: Run::Once(size_of_program),
    },
    Item {
        says: "the guide tells of services as processes, deploying, security and operating",
        run: Run::Once(guide),
    },
];

fn conformance(workspace: &Workspace) -> Outcome<String> {
    let passed = |module: &str| {
        let of = [
            "-p",
            "anabranch-server",
            "--all-features",
            "--test",
            "remote",
        ];
        let arguments: Vec<_> = of.into_iter().chain([module]).collect();
        tests_pass(workspace, &arguments)
    };
    let direct = passed("conformance::direct::")?;
    let broken = passed("conformance::through_a_network_that_breaks_every_connection::")?;
    Ok(format!(
        "{direct} tests directly, {broken} while every connection breaks"
    ))
}

fn split(workspace: &Workspace) -> Outcome<String> {
    let program = released(workspace, "anabranch-cli", "anabranch")?;
    let dir = scratch(workspace, "split")?;
    let orders = Orders::of(workspace);
    let demo = ["--log", "./log", "demo", "--split", "--crash-every", "2s"];
    shop_holds(workspace, &program, &dir, &orders, &demo)
}

fn strangers(workspace: &Workspace) -> Outcome<String> {
    let program = released(workspace, "anabranch-cli", "anabranch")?;
    let dir = scratch(workspace, "ninth")?;
    let shop = Shop::start(&program, &dir)?;
    let before = shop.leases(&program, &dir)?;
    let forged = Command::new(&program)
        .args(["append", "order/forged", "--type", "OrderConfirmed"])
        .args(["--log", &shop.log])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let refusal = String::from_utf8_lossy(&forged.stderr);
    if forged.status.success() || !refusal.contains("not-owner") {
        return Err(format!("the forged append was not refused: {refusal}"));
    }
    let mut ninth = Command::new("python3");
    ninth
        .arg(workspace.root.join("testing/ninth-service.py"))
        .arg(&shop.log)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let ninth: Value =
        serde_json::from_str(&output_of(&mut ninth)?).map_err(|error| error.to_string())?;
    let after = shop.leases(&program, &dir)?;
    let gone: Vec<_> = before
        .iter()
        .filter(|lease| !after.contains(lease))
        .map(|(name, _)| name.as_str())
        .collect();
    if before.len() != 8 || after.len() != 9 || !gone.is_empty() {
        return Err(format!(
            "{} services before, {} after; started again: {}",
            before.len(),
            after.len(),
            gone.join(", ")
        ));
    }
    Ok(format!(
        "refused with not-owner; the ninth has read {} events and stood at {} as it was placed; the \
         leases of the other 8 are the same",
        ninth["events"], ninth["live"]
    ))
}

fn clients(workspace: &Workspace) -> Outcome<String> {
    let program = released(workspace, "anabranch-cli", "anabranch")?;
    let mut check = Command::new("bash");
    check
        .arg(workspace.root.join("clients/check.sh"))
        .env("ANABRANCH_BIN", program)
        .env("CLIENTS_SCRATCH", workspace.target()?.join("clients"));
    step("clients/check.sh", &mut check)?;
    Ok("the programs of both READMEs ran, the shared cases and the hostile servers too".to_owned())
}

/// What a figure should be, and what it must not be worse than: how far a machine lets the aim be reached is
/// its own affair, and `docs/benchmarks.md` says what bounds it.
#[derive(Clone, Copy)]
struct Goal {
    aim: f64,
    limit: f64,
    /// Whether more is better.
    is_least: bool,
}

const fn at_least(aim: f64, limit: f64) -> Goal {
    Goal {
        aim,
        limit,
        is_least: true,
    }
}

const fn at_most(aim: f64, limit: f64) -> Goal {
    Goal {
        aim,
        limit,
        is_least: false,
    }
}

/// Of the embedded log's events a second.
const SHARE: Goal = at_least(0.5, 0.3);
/// Times Redis's.
const OVER_REDIS: Goal = at_least(2.0, 1.5);
/// Behind the append.
const BEHIND_US: Goal = at_most(300.0, 1_000.0);
/// Memory: of the idle server, of a small service, of each of a thousand followers.
const IDLE_MB: Goal = at_most(40.0, 40.0);
const SERVICE_MB: Goal = at_most(25.0, 32.0);
const FOLLOWER_KIB: Goal = at_most(64.0, 64.0);
/// Times a durable append.
const OVER_APPEND: Goal = at_most(2.0, 4.0);
/// Times as long as in one process.
const SPLIT: Goal = at_most(2.5, 2.5);

/// Figures beside what they should be.
#[derive(Default)]
struct Figures {
    lines: Vec<String>,
    missed: usize,
}

impl Figures {
    fn say(&mut self, goal: Goal, value: f64, text: &str) {
        let Goal {
            aim,
            limit,
            is_least,
        } = goal;
        let keeps = |bound: f64| match is_least {
            true => value >= bound,
            false => value <= bound,
        };
        let side = if is_least { "at least" } else { "at most" };
        let word = match (keeps(aim), keeps(limit)) {
            (true, _) => "reached".to_owned(),
            (false, true) => format!("NOT reached, {side} {limit}"),
            (false, false) => format!("NOT reached, and not {side} {limit}"),
        };
        self.missed += usize::from(!keeps(aim) && !keeps(limit));
        self.lines.push(format!("{text} (aim {aim}: {word})"));
    }

    /// What nothing measures counts as too bad.
    fn missing(&mut self, text: &str) {
        self.missed += 1;
        self.lines.push(format!("not measured: {text}"));
    }

    fn told(self) -> Outcome<String> {
        let text = self.lines.join("\n           ");
        match self.missed {
            0 => Ok(text),
            missed => Err(format!(
                "{missed} too bad or not measured\n           {text}"
            )),
        }
    }
}

fn speed(workspace: &Workspace) -> Outcome<String> {
    let program = shipped(workspace, "anabranch-cli", "anabranch")?;
    let dir = scratch(workspace, "served")?;
    let mut figures = Figures::default();
    let place = dir.display().to_string();
    for (clients, batch) in [("128", "1"), ("16", "100")] {
        let work = ["bench", "remote", "--clients", clients, "--batch", batch];
        let work = work.into_iter().chain(["--seconds", "5"]);
        let peers = ["--peer", "redis", "--peer", "postgres"];
        // PostgreSQL has a user of its own, who may not enter what the program makes for itself.
        let place = ["--dir", &place];
        let arguments: Vec<_> = work.chain(peers).chain(place).collect();
        let report = json(&program, &arguments, &dir)?;
        beside_embedded(&report, clients, batch, &mut figures)?;
    }
    let Orders { file, which } = Orders::of(workspace);
    let whole = shop_seconds(&program, &dir, &file, &[])?;
    let apart = shop_seconds(&program, &dir, &file, &["--split"])?;
    let times = apart / whole;
    figures.say(
        SPLIT,
        times,
        &format!(
            "the split shop, {which}: {apart:.1} s, in one process {whole:.1} s: {times:.1} ×"
        ),
    );
    figures.told()
}

fn beside_embedded(report: &Value, clients: &str, batch: &str, figures: &mut Figures) -> Outcome {
    // A report has the embedded log over each peer.
    let over = number(report, "/peers/served/ratio/throughput")?;
    let share = 1.0 / over;
    figures.say(
        SHARE,
        share,
        &format!("{clients} clients × {batch}: {share:.2} of the embedded log"),
    );
    if batch == "1" {
        match number(report, "/peers/redis/ratio/throughput") {
            Ok(redis) => figures.say(
                OVER_REDIS,
                redis / over,
                &format!("  {:.2} × Redis", redis / over),
            ),
            Err(_) => figures.missing("Redis, which is not there"),
        }
        let behind = number(report, "/served/follow/p50_us")?;
        figures.say(
            BEHIND_US,
            behind,
            &format!("  a follower is behind by {behind:.0} µs"),
        );
        let megabytes = number(report, "/served/idle_bytes")? / 1e6;
        figures.say(
            IDLE_MB,
            megabytes,
            &format!("  memory of the idle server: {megabytes:.1} MB"),
        );
        beside_an_append(report, figures)?;
    }
    Ok(())
}

/// Followers that wait, and a service of its own process.
fn beside_an_append(report: &Value, figures: &mut Figures) -> Outcome {
    for side in ["server", "client"] {
        let each = number(report, &format!("/served/idle_followers/{side}_bytes_each"))?;
        let kib = each / 1024.0;
        figures.say(
            FOLLOWER_KIB,
            kib,
            &format!("  each of 1,000 idle followers: {kib:.1} KiB at the {side}"),
        );
    }
    let shown = number(report, "/served/gateway/command_to_view_p50_us")?;
    let append = number(report, "/served/gateway/append_p50_us")?;
    let times = shown / append;
    figures.say(
        OVER_APPEND,
        times,
        &format!(
            "  a command through the gateway until a view shows it: {shown:.0} µs, {times:.1} × a \
             durable append"
        ),
    );
    let megabytes = number(report, "/served/gateway/idle_bytes")? / 1e6;
    figures.say(
        SERVICE_MB,
        megabytes,
        &format!("  memory of a small idle service: {megabytes:.1} MB"),
    );
    Ok(())
}

/// How long the shop takes for its orders, as fast as it can.
fn shop_seconds(program: &Path, dir: &Path, file: &Path, how: &[&str]) -> Outcome<f64> {
    let path = file.display().to_string();
    let mut demo = vec!["demo", "--orders", &path, "--rate", "0"];
    demo.extend(["--provider", "reliable", "--stock", "100000"]);
    demo.extend(["--listen", "127.0.0.1:0"]);
    demo.extend(how);
    number(&json(program, &demo, dir)?, "/seconds")
}

/// The pages that should be there.
const PAGES: [&str; 4] = [
    "docs/guide/services-as-processes.md",
    "docs/guide/deploying.md",
    "docs/guide/security.md",
    "docs/guide/operating.md",
];

fn guide(workspace: &Workspace) -> Outcome<String> {
    let missing: Vec<_> = PAGES
        .into_iter()
        .filter(|page| !workspace.root.join(page).exists())
        .collect();
    if missing.is_empty() {
        Ok(format!(
            "{} pages; their examples run as tests",
            PAGES.len()
        ))
    } else {
        Err(format!("no page {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(served: f64) -> Value {
        serde_json::json!({
            "peers": {
                "served": { "ratio": { "throughput": served } },
                "redis": { "ratio": { "throughput": 6.0 } },
            },
            "served": {
                "follow": { "p50_us": 250.0 },
                "idle_bytes": 22e6,
                "idle_followers": { "server_bytes_each": 30e3, "client_bytes_each": 9e3 },
                "gateway": {
                    "command_to_view_p50_us": 900.0,
                    "append_p50_us": 500.0,
                    "idle_bytes": 15e6,
                },
            },
        })
    }

    #[test]
    fn a_share_of_the_embedded_log_that_is_too_small_fails_with_all_figures() {
        let mut figures = Figures::default();
        beside_embedded(&report(1.6), "128", "1", &mut figures).unwrap();
        assert!(figures.told().unwrap().contains("3.75 × Redis"));
        let mut figures = Figures::default();
        beside_embedded(&report(4.0), "128", "1", &mut figures).unwrap();
        let failed = figures.told().unwrap_err();
        assert!(failed.starts_with("1 too bad"), "{failed}");
        assert!(failed.contains("0.25 of the embedded log"), "{failed}");
        assert!(failed.contains("22.0 MB (aim 40: reached)"), "{failed}");
    }

    #[test]
    fn an_aim_that_is_not_reached_is_told_and_fails_beyond_its_limit_only() {
        let told = |goal, value| {
            let mut figures = Figures::default();
            figures.say(goal, value, "it");
            figures.told()
        };
        let said = |text: &str| Ok(format!("it (aim {text})"));
        assert_eq!(told(at_least(0.5, 0.3), 0.5), said("0.5: reached"));
        assert_eq!(
            told(at_least(0.5, 0.3), 0.4),
            said("0.5: NOT reached, at least 0.3")
        );
        assert!(told(at_least(0.5, 0.3), 0.2).is_err());
        assert_eq!(
            told(at_most(2.0, 4.0), 3.0),
            said("2: NOT reached, at most 4")
        );
        assert!(told(at_most(2.0, 4.0), 5.0).is_err());
    }

    #[test]
    fn what_is_not_measured_counts_as_failed() {
        let mut figures = Figures::default();
        figures.missing("Redis");
        assert!(figures.told().is_err());
    }
}
