use std::fmt::Write as _;

use serde::Serialize;

use crate::figures::{Figures, Ratio};
use crate::table::{Table, number};

/// The outcome of measuring a service. Its JSON form is one object whose keys are its fields.
#[derive(Debug, Clone, Serialize)]
pub struct HostedReport {
    /// What was done, in words.
    pub work: String,
    /// Clients at work at the same time.
    pub clients: usize,
    /// Data of one event, in bytes.
    pub size: usize,
    /// Rounds that the figures are medians of.
    pub rounds: usize,
    /// How long each contender was at work in each round.
    pub seconds_per_round: f64,
    /// The processors.
    pub machine: String,
    /// The service. Latencies are those of its answers.
    pub service: Figures,
    /// The log alone.
    pub log: Figures,
    /// The service's figures over the log's.
    pub ratio: Ratio,
    /// How many events the service has recorded for one answer.
    pub events_per_answer: usize,
}

impl HostedReport {
    /// The report for people.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{}, {} clients; the log beside it: as many, single events of {} bytes\n\
             {} rounds of {:.1} s each, medians; {}\n\n",
            self.work, self.clients, self.size, self.rounds, self.seconds_per_round, self.machine
        );
        let mut table = Table::new(
            1,
            &[
                "",
                "answers/s",
                "events/s",
                "p50 µs",
                "p90 µs",
                "p99 µs",
                "p99.9 µs",
                "max µs",
                "CPU µs/event",
            ],
        );
        table.row(cells("service", &self.service, self.events_per_answer));
        table.row(cells("log", &self.log, 1));
        text.push_str(&table.to_text());
        let _ = writeln!(
            text,
            "\nthe service over the log: {:.2} × the events per second",
            self.ratio.throughput
        );
        text
    }
}

fn cells(name: &str, figures: &Figures, events_per_answer: usize) -> Vec<String> {
    vec![
        name.to_owned(),
        number(figures.events_per_second / events_per_answer as f64),
        number(figures.events_per_second),
        number(figures.p50_us),
        number(figures.p90_us),
        number(figures.p99_us),
        number(figures.p999_us),
        number(figures.max_us),
        figures
            .cpu_us_per_event
            .map_or_else(|| "–".to_owned(), number),
    ]
}
