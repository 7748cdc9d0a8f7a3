//! A log's files.

use std::path::Path;

use anabranch::log::{Log, ReadMode};
use anabranch::model::Filter;
use anabranch::segment::{self, Durability};

use super::check::Check;
use super::{machine, time};
use crate::commands::log::text::{bytes, count};
use crate::context::Context;
use crate::logs;

/// What can be said of the log in this directory without the program that serves it.
pub async fn log_in(dir: &Path, context: &Context) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(room(dir, context));
    checks.extend(durability(dir, context));
    checks.push(files(dir, context));
    let newest = match logs::read_only_at(dir, context) {
        Ok(log) => newest(&*log).await,
        Err(_) => None,
    };
    checks.push(time::beside_newest(context.env.clock.wall_micros(), newest));
    checks
}

/// When the newest event was recorded, in microseconds since 1970.
async fn newest(log: &dyn Log) -> Option<u64> {
    let head = log.head().await.ok()?;
    let mut from = head.clone();
    for (partition, count) in head.iter() {
        from.set(partition, count - 1);
    }
    let mut events = log.read(&from, Filter::all(), ReadMode::ToHead);
    let mut newest = None;
    while let Some(Ok(event)) = events.next().await {
        newest = newest.max(Some(event.recorded_at));
    }
    newest
}

fn room(dir: &Path, context: &Context) -> Vec<Check> {
    let disk = &context.env.disk;
    let mut checks = Vec::new();
    if disk.is_world_writable(dir).unwrap_or(false) {
        let what = format!("anybody on this machine may write to {}", dir.display());
        let remedy = format!("`chmod 700 {}`", dir.display());
        checks.push(Check::fault("disk", what, remedy));
    }
    let options = &context.settings.options;
    match disk.free_bytes(dir) {
        Ok(free) => checks.push(free_room(
            free,
            options.reserve_bytes,
            options.segment_bytes,
        )),
        Err(error) => checks.push(Check::fault(
            "disk",
            format!("{}: {error}", dir.display()),
            "see that the directory is there, and that you may read it",
        )),
    }
    checks
}

/// How many segments more should have room.
const SEGMENTS: u64 = 8;

fn free_room(free: u64, reserve: u64, segment: u64) -> Check {
    let what = format!("{} are free on the log's disk", bytes(free));
    let remedy = "make room: move a backup or other files away, or give the log a larger disk";
    if free < reserve.saturating_add(segment) {
        let what = format!("{what}: appends are refused, or soon will be");
        Check::fault("disk", what, remedy)
    } else if free < reserve.saturating_add(segment.saturating_mul(SEGMENTS)) {
        Check::warning("disk", what, remedy)
    } else {
        Check::ok("disk", what)
    }
}

fn durability(dir: &Path, context: &Context) -> Vec<Check> {
    let set = match context.settings.options.durability {
        Durability::Sync => Check::ok(
            "durability",
            "what is acknowledged is on the disk, by the settings here",
        ),
        Durability::Interval(every) => Check::warning(
            "durability",
            format!(
                "a power cut may lose what was acknowledged in the last {} ms, by the settings here",
                every.as_millis()
            ),
            "set durability to sync; `anabranch config show --origin` says who set it",
        ),
    };
    [Some(set), machine::file_system(dir)]
        .into_iter()
        .flatten()
        .collect()
}

fn files(dir: &Path, context: &Context) -> Check {
    match segment::info(context.env.clone(), dir) {
        Ok(info) if !info.problems.is_empty() => Check::fault(
            "log",
            info.problems.join("; "),
            "see all damage with `anabranch log verify`, then `anabranch log repair` or a backup",
        ),
        Ok(info) => {
            let state = match (info.written, info.clean) {
                (true, _) => "a program writes to it",
                (false, true) => "closed in order",
                (false, false) => "not closed in order; the next opening recovers by itself",
            };
            let what = format!("{} events, {state}", count(info.events));
            Check::ok("log", what)
        }
        Err(error) => Check::fault("log", error.to_string(), "see `anabranch log verify`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::State;

    #[test]
    fn a_disk_that_is_nearly_full_is_a_warning_and_a_full_one_a_fault() {
        let state = |free| free_room(free, 10, 100).state;
        assert_eq!(state(109), State::Fault);
        assert_eq!(state(110), State::Warning);
        assert_eq!(state(810), State::Ok);
    }
}
