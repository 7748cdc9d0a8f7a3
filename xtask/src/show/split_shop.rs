//! The shop in processes of its own, for items that look at it while it runs.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::tools::json;
use crate::commands::Outcome;

/// A shop that runs in processes of its own. Killed when it is dropped; its services watch for that.
pub struct Shop {
    demo: Child,
    /// The server of its log.
    pub log: String,
    /// The page of its storefront.
    pub page: String,
}

impl Shop {
    /// Starts it in this directory.
    pub fn start(program: &Path, dir: &Path) -> Outcome<Self> {
        let mut demo = Command::new(program)
            .args(["demo", "--split", "--keep", "--rate", "5/s"])
            .args(["--provider", "reliable", "--listen", "127.0.0.1:0"])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let stderr = demo.stderr.take();
        let mut shop = Self {
            demo,
            log: String::new(),
            page: String::new(),
        };
        let mut said = Vec::new();
        for line in BufReader::new(stderr.ok_or("it has no standard error")?).lines() {
            let line = line.map_err(|error| error.to_string())?;
            if let Some((_, rest)) = line.split_once("the log: ") {
                shop.log = rest.split(';').next().unwrap_or(rest).to_owned();
            }
            if let Some((_, page)) = line.split_once("page: ") {
                shop.page = page.to_owned();
                return Ok(shop);
            }
            said.push(line);
        }
        Err(format!("the split shop has ended: {}", said.join("; ")))
    }

    /// Each of its services, with the number of its lease, which another one has when it is started
    /// again.
    pub fn leases(&self, program: &Path, dir: &Path) -> Outcome<Vec<(String, u64)>> {
        let all = json(program, &["service", "ls", "--log", &self.log], dir)?;
        let all = all.as_array().into_iter().flatten();
        Ok(all
            .filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["lease"].as_u64()?)))
            .collect())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Who has ended already is not killed.
        drop(self.demo.kill());
        drop(self.demo.wait());
    }
}
