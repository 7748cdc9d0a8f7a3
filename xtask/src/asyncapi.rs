//! Checks the AsyncAPI document of a running shop against the official schema.
//!
//! The schema and the validator are npm packages, which are installed below `target/` and never
//! committed. `testing/asyncapi-check.mjs` is what judges.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::checked::Checked;
use crate::commands::Outcome;
use crate::process::{is_installed, output_of};
use crate::workspace::Workspace;

const SCRIPT: &str = "testing/asyncapi-check.mjs";
const PACKAGES: [&str; 3] = ["@asyncapi/specs@6.11.1", "ajv@8.20.0", "ajv-formats@3.0.1"];

/// What the shop says before its address.
const PAGE: &str = "the shop's page: ";

/// Installs the schema if need be, starts the shop with these orders, and lets its document be judged.
pub fn check(workspace: &Workspace, program: &Path, orders: &Path, scratch: &Path) -> Checked {
    for tool in ["node", "npm"] {
        if !is_installed(tool, &[]) {
            return Checked::Skipped(format!("AsyncAPI document: {tool} is not installed"));
        }
    }
    let validator = workspace.root.join("target/asyncapi-validator");
    let script = match install(workspace, &validator) {
        Ok(script) => script,
        Err(why) => {
            let what = "AsyncAPI document: its schema cannot be installed";
            return Checked::Skipped(format!("{what}: {why}"));
        }
    };
    let judged = Shop::start(program, orders, scratch).and_then(|shop| {
        let mut node = Command::new("node");
        let output = node
            .arg(script)
            .arg(&shop.url)
            .stdin(Stdio::null())
            .output();
        output.map_err(|error| format!("node: {error}"))
    });
    match judged {
        Ok(said) if said.status.success() => {
            Checked::Valid(String::from_utf8_lossy(&said.stdout).trim_end().to_owned())
        }
        Ok(said) => Checked::Invalid(format!(
            "AsyncAPI document: {}{}",
            String::from_utf8_lossy(&said.stdout).trim_end(),
            String::from_utf8_lossy(&said.stderr).trim_end()
        )),
        Err(why) => Checked::Invalid(format!("AsyncAPI document: {why}")),
    }
}

/// The script, beside the packages that it uses.
fn install(workspace: &Workspace, dir: &Path) -> Outcome<PathBuf> {
    let failed = |error| format!("{}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    let made = dir.join("made-of");
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&made).ok().as_ref() != Some(&wanted) {
        // What it installs into is this directory, and not one above it.
        std::fs::write(dir.join("package.json"), "{\"private\":true}\n").map_err(failed)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund"])
            .args(["--silent", "--no-save"])
            .args(PACKAGES)
            .current_dir(dir);
        output_of(&mut npm)?;
        std::fs::write(&made, wanted).map_err(failed)?;
    }
    let script = dir.join("check.mjs");
    std::fs::copy(workspace.root.join(SCRIPT), &script).map_err(failed)?;
    Ok(script)
}

/// A shop that stays open until this is dropped.
struct Shop {
    demo: Child,
    url: String,
}

impl Shop {
    fn start(program: &Path, orders: &Path, dir: &Path) -> Outcome<Self> {
        let failed = |error| format!("{}: {error}", dir.display());
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut demo = Command::new(program)
            .args(["demo", "--keep", "--rate", "0", "--listen", "127.0.0.1:0"])
            .arg("--orders")
            .arg(orders)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let stderr = demo.stderr.take().ok_or("it has no standard error")?;
        let mut shop = Self {
            demo,
            url: String::new(),
        };
        let (mut lines, mut said) = (BufReader::new(stderr).lines(), Vec::new());
        // It says that it stays open when all orders are done.
        while let Some(line) = lines.next() {
            let line = line.map_err(|error| error.to_string())?;
            if let Some((_, url)) = line.split_once(PAGE) {
                shop.url = url.trim().to_owned();
            }
            if line.contains("stays open") {
                // Nobody reads what it says from now on, and it must not wait for that.
                thread::spawn(move || lines.for_each(drop));
                return Ok(shop);
            }
            said.push(line);
        }
        Err(format!("the shop has ended: {}", said.join("; ")))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // What has ended already is not killed.
        drop(self.demo.kill());
        drop(self.demo.wait());
    }
}
