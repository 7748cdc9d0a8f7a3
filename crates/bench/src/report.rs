use std::collections::BTreeMap;
use std::fmt::Write as _;

use anabranch_env::Env;
use anabranch_log_segment::Durability;
use serde::Serialize;

use crate::append::{BareFigures, Compared, LogFigures, PeerFigures};
use crate::config::Config;
use crate::figures::{Figures, Ratio};
use crate::follow::Followed;
use crate::machine;
use crate::replay::Replayed;
use crate::served::ServedFigures;
use crate::table::{Table, count, number};

/// The outcome of one measurement. Its JSON form is one object whose keys are its fields.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Appending to the log.
    pub append: AppendReport,
    /// The same work, done by the bare loop.
    pub bare: BareFigures,
    /// The log's figures over the bare loop's.
    pub ratio: Ratio,
    /// Reading from the start.
    pub replay: Replayed,
    /// Delivered minus acknowledged.
    pub follow: Followed,
    /// The same work, done by other systems.
    pub peers: BTreeMap<&'static str, PeerFigures>,
    /// What else was measured of the log behind a server, whose appends are among the peers'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<ServedFigures>,
}

/// What the log did, and what it was asked to do.
#[derive(Debug, Clone, Serialize)]
pub struct AppendReport {
    /// What it did.
    #[serde(flatten)]
    pub done: LogFigures,
    /// What it was asked to do.
    pub work: About,
}

/// What was measured, on what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct About {
    /// The engine of the log.
    pub engine: &'static str,
    /// How it writes.
    pub method: String,
    /// Clients at work at the same time.
    pub clients: usize,
    /// Events of one append.
    pub batch: usize,
    /// Data of one event, in bytes.
    pub size: usize,
    /// Streams.
    pub streams: u64,
    /// `sync`, or `interval:` and how far the disk may be behind.
    pub durability: String,
    /// Rounds that the figures are medians of.
    pub rounds: usize,
    /// How long each contender appended in each round.
    pub seconds_per_round: f64,
    /// The processors.
    pub machine: String,
}

impl About {
    pub(crate) fn new(config: &Config, engine: &'static str, method: String) -> Self {
        let work = &config.workload;
        Self {
            engine,
            method,
            clients: work.clients,
            batch: work.batch,
            size: work.size,
            streams: work.streams,
            durability: match work.durability {
                Durability::Sync => "sync".to_owned(),
                Durability::Interval(every) => format!("interval:{every:?}"),
            },
            rounds: config.rounds,
            seconds_per_round: config.seconds.as_secs_f64() / config.rounds as f64,
            machine: machine::processors(&*Env::os().disk),
        }
    }
}

impl Report {
    pub(crate) fn new(
        about: About,
        compared: Compared,
        replay: Replayed,
        follow: Followed,
        served: Option<ServedFigures>,
    ) -> Self {
        Self {
            append: AppendReport {
                done: compared.append,
                work: about,
            },
            bare: compared.bare,
            ratio: compared.ratio,
            replay,
            follow,
            peers: compared.peers,
            served,
        }
    }

    /// The report for people.
    pub fn to_text(&self) -> String {
        let mut text = self.heading();
        text.push_str(&self.appends());
        let _ = writeln!(
            text,
            "\nthe log over the bare loop: {:.2} × the events per second, {:.2} × the median latency\n\
             the log wrote {}; the bare loop was fastest {}",
            self.ratio.throughput, self.ratio.p50, self.append.work.method, self.bare.method
        );
        self.peer_notes(&mut text);
        if let (Some(before), Some(after)) = (
            self.append.done.resident_before_bytes,
            self.append.done.resident_after_bytes,
        ) {
            let _ = writeln!(
                text,
                "memory of this process: {} MB before, {} MB after {} events",
                number(before as f64 / 1e6),
                number(after as f64 / 1e6),
                count(self.append.done.events)
            );
        }
        let _ = writeln!(
            text,
            "\nreplay of {} events: {} events/s in batches, {} events/s one at a time",
            count(self.replay.events),
            number(self.replay.events_per_second),
            number(self.replay.stream_events_per_second)
        );
        let _ = writeln!(
            text,
            "follow, delivered after acknowledged: p50 {} µs, p99 {} µs with one writer; \
             p50 {} µs, p99 {} µs under this load",
            number(self.follow.p50_us),
            number(self.follow.p99_us),
            number(self.follow.load_p50_us),
            number(self.follow.load_p99_us)
        );
        if let Some(served) = &self.served {
            text.push_str(&served.to_text());
        }
        text
    }

    fn heading(&self) -> String {
        let work = &self.append.work;
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        format!(
            "{} client{} × {} event{} of {} bytes, {} streams, durability {}\n\
             {} rounds of {:.1} s each, medians; {}\n\n",
            work.clients,
            plural(work.clients),
            work.batch,
            plural(work.batch),
            work.size,
            count(work.streams),
            work.durability,
            work.rounds,
            work.seconds_per_round,
            work.machine
        )
    }

    fn appends(&self) -> String {
        let mut table = Table::new(
            1,
            &[
                "append",
                "events/s",
                "p50 µs",
                "p90 µs",
                "p99 µs",
                "p99.9 µs",
                "max µs",
                "syncs/s",
                "syncs/append",
                "bytes/byte",
            ],
        );
        table.row(cells(
            &format!("anabranch {}", self.append.work.engine),
            &self.append.done.figures,
        ));
        table.row(cells("bare loop", &self.bare.figures));
        for (name, peer) in &self.peers {
            if let PeerFigures::Measured {
                figures, version, ..
            } = peer
            {
                table.row(cells(&format!("{name} {version}"), figures));
            }
        }
        table.to_text()
    }

    fn peer_notes(&self, text: &mut String) {
        for (name, peer) in &self.peers {
            let _ = match peer {
                PeerFigures::Measured { ratio, setup, .. } => writeln!(
                    text,
                    "the log over {name}: {:.2} × the events per second, {:.2} × the median latency ({setup})",
                    ratio.throughput, ratio.p50
                ),
                PeerFigures::Absent { missing } => writeln!(text, "not measured: {missing}"),
            };
        }
    }
}

fn cells(name: &str, figures: &Figures) -> Vec<String> {
    let some = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
    vec![
        name.to_owned(),
        number(figures.events_per_second),
        number(figures.p50_us),
        number(figures.p90_us),
        number(figures.p99_us),
        number(figures.p999_us),
        number(figures.max_us),
        some(figures.syncs_per_second),
        some(figures.syncs_per_append),
        some(figures.bytes_per_payload_byte),
    ]
}
