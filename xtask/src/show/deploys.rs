//! Another build of one service, while the others run.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::split_shop::Shop;
use super::tools::{json, released, scratch};
use crate::commands::Outcome;
use crate::process::output_of;
use crate::workspace::Workspace;

/// A shop that runs, and how it is asked.
struct Rig {
    program: PathBuf,
    dir: PathBuf,
    shop: Shop,
}

impl Rig {
    fn start(workspace: &Workspace, name: &str) -> Outcome<Self> {
        let program = released(workspace, "anabranch-cli", "anabranch")?;
        let dir = scratch(workspace, name)?;
        let shop = Shop::start(&program, &dir)?;
        Ok(Self { program, dir, shop })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome<Output> {
        let output = self.command(arguments).output();
        output.map_err(|error| format!("{}: {error}", self.program.display()))
    }

    /// Writes down the types of a build, and checks them.
    fn check(&self, build: &str) -> Outcome<Output> {
        let print = [
            "demo",
            "--service",
            "pricing",
            "--build",
            build,
            "--print-types",
        ];
        let types = output_of(&mut self.command(&print))?;
        let file = self.dir.join("types.json");
        std::fs::write(&file, types).map_err(|error| format!("{}: {error}", file.display()))?;
        let check = ["deploy", "check", "pricing", "--types", "types.json"];
        let rest = ["--log", &self.shop.log, "--output", "json"];
        self.run(&[&check[..], &rest[..]].concat())
    }

    /// Asks pricing for something by the shop's page.
    fn send(&self, command: &str, data: &str) -> Outcome<Value> {
        let page = &self.shop.page;
        let send = [
            "send",
            "price/show",
            "--type",
            command,
            "--data",
            data,
            "--server",
            page,
        ];
        json(&self.program, &send, &self.dir)
    }

    /// The views of the shop's page that have stopped, once what stands at this position is behind all.
    fn stopped(&self, named: &[&str], position: &str) -> Outcome<Vec<String>> {
        for _ in 0..400 {
            let ask = ["view", "ls", "--server", &self.shop.page];
            let views = json(&self.program, &ask, &self.dir)?;
            if let Some(stopped) = settled(&views, named, position) {
                return Ok(stopped);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Err("not all views have come so far in time".to_owned())
    }

    /// The services that were started again since.
    fn started_again(&self, before: &[(String, u64)]) -> Outcome<Vec<String>> {
        let after = self.shop.leases(&self.program, &self.dir)?;
        let gone = before.iter().filter(|lease| !after.contains(lease));
        Ok(gone.map(|(name, _)| name.clone()).collect())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn deploy(workspace: &Workspace) -> Outcome<String> {
    let rig = Rig::start(workspace, "deploy")?;
    let before = rig.shop.leases(&rig.program, &rig.dir)?;
    rig.send("SetListPrice", r#"{"mills":1000}"#)?;
    let check = rig.check("2")?;
    if !check.status.success() {
        return Err(format!(
            "the check of a build that fits failed: {}",
            said(&check)
        ));
    }
    let rolled = rig.run(&[
        "deploy",
        "pricing",
        "--program",
        "anabranch",
        "--",
        "--build",
        "2",
    ])?;
    if !rolled.status.success() {
        return Err(format!("it was not deployed: {}", said(&rolled)));
    }
    let raised = rig.send("RaisePrice", r#"{"percent":10}"#)?;
    if raised["events"][0]["schema_version"] != 2 {
        return Err(format!("the new build does not answer: {raised}"));
    }
    let back = rig.run(&["deploy", "pricing", "--program", "false", "--force"])?;
    if back.status.success() || !said(&back).contains("went-back") {
        return Err(format!(
            "a build that fails did not go back: {}",
            said(&back)
        ));
    }
    let lowered = rig.send("LowerPrice", r#"{"percent":5}"#)?;
    if lowered["events"][0]["schema_version"] != 2 {
        return Err(format!("another build answers than was there: {lowered}"));
    }
    let again = rig.started_again(&before)?;
    if again != ["pricing"] {
        return Err(format!("started again: {}", again.join(", ")));
    }
    Ok("it writes the new form, a failing one went back, and the leases of the other 7 are the same".to_owned())
}

pub fn contract(workspace: &Workspace) -> Outcome<String> {
    let rig = Rig::start(workspace, "contract")?;
    rig.send("SetListPrice", r#"{"mills":1000}"#)?;
    let check = rig.check("3")?;
    let report: Value = serde_json::from_slice(&check.stdout)
        .map_err(|error| format!("{error}: {}", said(&check)))?;
    let readers = report["readers"].as_array().into_iter().flatten();
    let named: Vec<_> = readers
        .filter(|reader| reader["breaks"] == true)
        .filter_map(|reader| reader["reader"].as_str()?.strip_prefix("view "))
        .collect();
    if check.status.success() || named.is_empty() {
        return Err(format!("a breaking build passes the check: {report}"));
    }
    let deploy = ["deploy", "pricing", "--program", "anabranch"];
    let build = ["--", "--build", "3"];
    let refused = rig.run(&[&deploy[..], &build[..]].concat())?;
    if refused.status.success() || !said(&refused).contains("breaks") {
        return Err(format!(
            "a breaking build is rolled out: {}",
            said(&refused)
        ));
    }
    rig.run(&[&deploy[..], &["--force"], &build[..]].concat())?;
    let raised = rig.send("RaisePrice", r#"{"percent":10}"#)?;
    // What is published stands right behind it.
    let position = raised["events"][0]["position"].as_str().unwrap_or_default();
    let stopped = rig.stopped(&named, position)?;
    if stopped != named {
        let (named, stopped) = (named.join(", "), stopped.join(", "));
        return Err(format!("named: {named}; stopped: {stopped}"));
    }
    Ok(format!(
        "named and, forced, stopped: view {}; all other views go on",
        named.join(", ")
    ))
}

/// The views that have stopped of these, if all that were named have, and all others have taken in the
/// event behind this position; `None`: not yet.
fn settled(views: &Value, named: &[&str], position: &str) -> Option<Vec<String>> {
    let (partition, offset) = position.split_once(':')?;
    let behind = offset.parse::<u64>().ok()? + 2;
    let mut stopped = Vec::new();
    for view in views.as_array()? {
        let view = &view["view"];
        let (name, copy) = (view["name"].as_str()?, &view["serving"]);
        if copy["state"] == "stopped" {
            stopped.push(name.to_owned());
        } else if named.contains(&name) || copy["cut"][partition].as_u64()? < behind {
            return None;
        }
    }
    Some(stopped)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_waits_until_the_named_views_have_stopped_and_the_others_have_passed() {
        let view = |name: &str, state: &str, cut: u64| json!({"view": {"name": name, "serving": {"state": state, "cut": {"0": cut}}}});
        let named = ["catalogue"];
        for (catalogue, orders, stopped) in [
            (("live", 9), ("live", 9), None),
            (("stopped", 5), ("live", 6), None),
            (("stopped", 5), ("live", 7), Some(vec!["catalogue"])),
            (
                ("stopped", 5),
                ("stopped", 5),
                Some(vec!["catalogue", "orders"]),
            ),
        ] {
            let views = json!([
                view("catalogue", catalogue.0, catalogue.1),
                view("orders", orders.0, orders.1),
            ]);
            let found = settled(&views, &named, "0:5");
            let stopped = stopped.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(found, stopped, "{views}");
        }
    }
}
