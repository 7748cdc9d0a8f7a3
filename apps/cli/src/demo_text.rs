//! The demo for people: how it stands while it runs, and what came of it.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anabranch::runtime::{CircuitState, Time};
use anabranch_shop::demo::{Demo, Progress, Summary};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::output::Form;

/// How often the display is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Shows on stderr how the demo stands, if that is a terminal.
pub struct Display(Option<(MultiProgress, JoinHandle<()>)>);

impl Display {
    /// Begins to show `demo`.
    pub fn new(form: Form, demo: Arc<Demo>, time: Time) -> Self {
        if form != Form::Text || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let all = MultiProgress::new();
        let orders = all.add(ProgressBar::new(1));
        // Wide messages are cut where a narrow terminal ends: one that wraps is never wiped out.
        // The template is a constant; a wrong one shows as the plain bar.
        if let Ok(style) = ProgressStyle::with_template("  {bar:30.green/dim} {wide_msg}") {
            orders.set_style(style);
        }
        let lines: Vec<ProgressBar> = (0..3)
            .map(|_| {
                let line = all.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("  {wide_msg}") {
                    line.set_style(style);
                }
                line
            })
            .collect();
        let task = tokio::spawn(async move {
            let mut before = Progress::default();
            loop {
                let now = demo.progress().await;
                let ended = now.confirmed + now.rejected + now.refunded;
                orders.set_length(now.invoices.max(1));
                orders.set_position(ended);
                orders.set_message(format!("{ended} of {} invoices", grouped(now.invoices)));
                for (line, text) in lines.iter().zip(texts(&before, &now)) {
                    line.set_message(text);
                }
                before = now;
                time.sleep(FRAME).await;
            }
        });
        Self(Some((all, task)))
    }

    /// Takes the display away.
    pub fn end(self) {
        if let Some((all, task)) = self.0 {
            task.abort();
            // If the terminal is gone there is nothing to take away.
            drop(all.clear());
        }
    }
}

fn texts(before: &Progress, now: &Progress) -> [String; 3] {
    let open = now.placed.saturating_sub(now.confirmed + now.rejected);
    let orders = format!(
        "orders     {:>8} confirmed   {:>6} rejected   {:>6} open   {:>6} refunded",
        grouped(now.confirmed),
        grouped(now.rejected),
        grouped(open),
        grouped(now.refunded)
    );
    let span = now.elapsed.saturating_sub(before.elapsed).as_secs_f64();
    let rate = match span {
        0.0 => 0.0,
        _ => now.events.saturating_sub(before.events) as f64 / span,
    };
    let events = format!(
        "events     {:>8} recorded    {:>6} /s         views {} behind",
        grouped(now.events),
        grouped(rate as u64),
        grouped(now.lag)
    );
    let circuit = match now.circuit {
        None | Some(CircuitState::Closed) => "answers",
        Some(CircuitState::HalfOpen) => "is tried again",
        Some(CircuitState::Open) => "is away; payments wait",
    };
    let mut provider = format!("provider   {circuit}");
    if now.crashes > 0 {
        let _ = write!(provider, "          {} services killed", now.crashes);
    }
    [orders, events, provider]
}

/// What came of it, for people.
pub fn summary_text(summary: &Summary) -> String {
    let Summary {
        orders,
        revenue_mills: revenue,
        skipped,
        ..
    } = summary;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line(
        "orders",
        format!(
            "{} placed, {} confirmed, {} rejected",
            grouped(orders.placed),
            grouped(orders.confirmed),
            grouped(orders.rejected)
        ),
    );
    line("returns", format!("{} refunded", grouped(summary.returns)));
    line(
        "lines",
        format!(
            "{} ordered; of the file {} lines and {} orders are not about goods",
            grouped(summary.lines),
            grouped(skipped.lines),
            grouped(skipped.orders)
        ),
    );
    line(
        "events",
        format!(
            "{} in {:.1} s, {} each second",
            grouped(summary.events),
            summary.seconds,
            grouped(summary.events_per_second)
        ),
    );
    if summary.crashes > 0 {
        line("crashes", format!("{} services killed", summary.crashes));
    }
    line(
        "revenue",
        format!(
            "£{} sold, £{} refunded",
            pounds(revenue.total),
            pounds(revenue.refunded)
        ),
    );
    let mut countries: Vec<_> = revenue.by_country.iter().collect();
    countries.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    for (country, mills) in countries.iter().take(5) {
        line(
            "",
            format!("{country:<24}{:>16}", format!("£{}", pounds(**mills))),
        );
    }
    if countries.len() > 5 {
        let rest: u64 = countries[5..].iter().map(|(_, mills)| **mills).sum();
        let name = format!("{} other countries", countries.len() - 5);
        line(
            "",
            format!("{name:<24}{:>16}", format!("£{}", pounds(rest))),
        );
    }
    line("always", String::new());
    for (name, holds) in &summary.invariants {
        let mark = if *holds { "✓" } else { "✗" };
        line("", format!("{mark} {}", name.replace('_', " ")));
    }
    text
}

/// Thousandths as pounds and pence, rounded.
fn pounds(mills: u64) -> String {
    let pence = (mills + 5) / 10;
    format!("{}.{:02}", grouped(pence / 100), pence % 100)
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_money_are_easy_to_read() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(pounds(1_234_567), "1,234.57");
        assert_eq!(pounds(5), "0.01");
    }
}
