//! The table of engines in the guide is what they say of themselves.
#![expect(
    clippy::disallowed_methods,
    reason = "it reads and writes a page of the guide"
)]

use std::path::{Path, PathBuf};

use anabranch::env::Env;
use anabranch::log::{Capabilities, Layout, Log, MemoryLog, PartitionedLog, Scope};
use anabranch::log_postgres::capabilities_of;
use anabranch::segment::{EmbeddedLog, Options, create};

/// A directory that is removed again.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let name = format!("anabranch-engines-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        Self(dir)
    }

    fn log(&self, name: &str, layout: &Layout) -> Capabilities {
        let path = self.0.join(name);
        create(&Env::os(), &path, layout).expect("a log");
        let log = EmbeddedLog::open(Env::os(), &path, Options::default()).expect("the log");
        log.capabilities()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the directory goes");
    }
}

fn row(name: &str, of: &Capabilities) -> String {
    let reach = |scope: Scope| match scope {
        _ if scope.is_whole(of.partitions) => "any streams",
        Scope::Partition => "streams of one partition",
        _ => "one stream",
    };
    let order = match of.total_order {
        true => "one",
        false => "one in each partition",
    };
    let acknowledged = match (of.survives_restart, of.survives_power_cut) {
        (_, true) => "it is on the disk",
        (true, false) => "it is written",
        (false, false) => "it is in memory",
    };
    let survives = match (of.survives_restart, of.survives_power_cut) {
        (_, true) => "a power cut",
        (true, false) => "the end of the process",
        (false, false) => "nothing",
    };
    let no_match = of.no_match.map_or("no", reach);
    format!(
        "| {name} | {order} | {} | {} | {no_match} | {acknowledged} | {survives} |\n",
        reach(of.batches),
        reach(of.conditions),
    )
}

fn table() -> String {
    let several = Layout::new(Vec::new(), 8).expect("a layout");
    let dir = Dir::new();
    let mut table =
        "| engine | order | a batch | conditions | `NoMatch` | acknowledged when | survives |\n\
                     | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    let memory = MemoryLog::new(Env::os()).capabilities();
    table += &row("memory", &memory);
    let memory = PartitionedLog::in_memory(&Env::os(), several.clone()).capabilities();
    table += &row("memory, several partitions", &memory);
    table += &row("a directory", &dir.log("one", &Layout::one()));
    let directory = dir.log("several", &several);
    table += &row("a directory, several partitions", &directory);
    table += &row("PostgreSQL", &capabilities_of(&Layout::one()));
    table += &row("PostgreSQL, several partitions", &capabilities_of(&several));
    table
}

#[test]
fn the_guide_says_of_each_engine_what_it_says_of_itself() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/engines.md");
    let text = std::fs::read_to_string(&page).expect("the page");
    let (before, rest) = text
        .split_once("<!-- engines: begin -->\n")
        .expect("where the table begins");
    let (shown, after) = rest
        .split_once("<!-- engines: end -->")
        .expect("where the table ends");
    let table = table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = format!("{before}<!-- engines: begin -->\n{table}<!-- engines: end -->{after}");
        std::fs::write(&page, text).expect("the page is written");
    } else {
        assert_eq!(shown, table, "UPDATE_GOLDEN=1 writes the table anew");
    }
}
