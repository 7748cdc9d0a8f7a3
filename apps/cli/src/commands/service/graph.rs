//! `anabranch service graph`.

use std::collections::BTreeMap;

use anabranch_wire::Registration;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Context;
use super::registered::{lease_of, registered};
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::observed::{self, Sent};
use crate::output::{Form, Output, note};
use crate::remote::{Remote, ServerArgs};
use crate::whole::whole;

/// Show which services need which: what each has declared that it reads and sends, and what it sent
#[derive(Debug, Args)]
#[command(after_help = "\
A service says what it reads and sends when it registers at the log. The owner of what it names is
the one that has registered last; a category without one is owned by nobody.

What it has sent is told by the newest events of its processes' and sagas' journals. What was sent and
not declared is marked. With --forbid-undeclared the exit code is 1 if there is any.

Examples:
  anabranch service graph --log http://127.0.0.1:7400
  anabranch service graph --format dot | dot -Tsvg > services.svg
  anabranch service graph --newest 1000000 --forbid-undeclared
  anabranch service graph --output json")]
pub struct GraphArgs {
    /// As lines of text, or in the language of Graphviz
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// How many of the newest events of journals are looked at for what was sent; 0: none
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = whole::<u64>, allow_negative_numbers = true)]
    newest: u64,
    /// Fail if a service has sent what it has not declared
    #[arg(long)]
    forbid_undeclared: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Dot,
}

/// One service needs another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Arrow<'a> {
    from: &'a str,
    /// `None`: nobody owns what is needed.
    to: Option<&'a str>,
    how: How,
    category: &'a str,
    /// Whether it says so itself.
    declared: bool,
    /// How often it was seen to send it.
    observed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Reads,
    Sends,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Sends => "sends",
        }
    }
}

/// Runs the command.
pub async fn run(args: &GraphArgs, context: &Context) -> Outcome {
    let remote = Remote::find(&args.server, context)?;
    let all = registered(&remote).await?;
    let sent = sent(&all, args.newest, &remote, context).await?;
    let arrows = arrows(&all, &sent);
    let mut out = Output::stdout();
    match (context.settings.form, args.format) {
        (Form::Text, Format::Text) => {
            for line in text(&all, &arrows) {
                out.line(&line)?;
            }
        }
        (_, Format::Dot) => {
            for line in dot(&all, &arrows) {
                out.line(&line)?;
            }
        }
        (form, Format::Text) => out.values(form, &arrows)?,
    }
    out.flush()?;
    check(&arrows, args.forbid_undeclared)
}

/// What the journals of these services say that they have sent.
async fn sent(
    all: &[Registration],
    newest: u64,
    remote: &Remote,
    context: &Context,
) -> Result<Sent, Failure> {
    // Nobody knows which of these are journals; entities have no such events.
    let journals: Vec<_> = all
        .iter()
        .flat_map(|service| service.owns.clone())
        .collect();
    if journals.is_empty() || newest == 0 {
        return Ok(Sent::new());
    }
    let opened = logs::served(context, &remote.address(), None)?;
    let sent = observed::sent(&*opened.log, journals, newest).await?;
    opened.close()?;
    Ok(sent)
}

/// Says what was sent and not declared.
fn check(arrows: &[Arrow<'_>], is_forbidden: bool) -> Outcome {
    let undeclared = arrows.iter().filter(|arrow| !arrow.declared);
    let undeclared: Vec<_> = undeclared
        .map(|arrow| format!("{} to {}", clean(arrow.from), clean(arrow.category)))
        .collect();
    if undeclared.is_empty() {
        return Ok(());
    }
    let what = format!("sent and not declared: {}", undeclared.join(", "));
    if !is_forbidden {
        note(&format!("note: {what}"));
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "undeclared", what)
        .remedy("name the categories in `sends` where the service registers")
        .into())
}

fn arrows<'a>(all: &'a [Registration], sent: &'a Sent) -> Vec<Arrow<'a>> {
    let mut owners = BTreeMap::new();
    for service in all {
        for category in &service.owns {
            owners.insert(category.as_str(), service.name.as_str());
        }
    }
    let mut arrows = Vec::new();
    for service in all {
        let reads = service.reads.iter().map(|category| (How::Reads, category));
        let sends = service.sends.iter().map(|category| (How::Sends, category));
        let owns = |category: &String| service.owns.contains(category);
        let mut seen: BTreeMap<&String, u64> = BTreeMap::new();
        for ((journal, category), count) in sent {
            // What a service does within itself needs nobody.
            if owns(journal) && !owns(category) {
                *seen.entry(category).or_default() += count;
            }
        }
        let arrow = |how, category: &'a String, declared, observed| Arrow {
            from: &service.name,
            to: owners.get(category.as_str()).copied(),
            how,
            category,
            declared,
            observed,
        };
        for (how, category) in reads.chain(sends) {
            let observed = match how {
                How::Sends => seen.remove(category).unwrap_or_default(),
                How::Reads => 0,
            };
            arrows.push(arrow(how, category, true, observed));
        }
        arrows.extend(
            seen.into_iter()
                .map(|(category, count)| arrow(How::Sends, category, false, count)),
        );
    }
    arrows.sort();
    arrows
}

fn text(all: &[Registration], arrows: &[Arrow<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    for service in all {
        let owns = service.owns.join(", ");
        let owns = if owns.is_empty() { "nothing" } else { &owns };
        lines.push(format!(
            "{} ({}) owns {}",
            clean(&service.name),
            lease_of(service),
            clean(owns)
        ));
        for arrow in arrows.iter().filter(|arrow| arrow.from == service.name) {
            let to = arrow.to.unwrap_or("nobody");
            let (how, category) = (arrow.how.name(), clean(arrow.category));
            let seen = match (arrow.declared, arrow.observed) {
                (true, 0) => String::new(),
                (true, count) => format!(", seen {count} times"),
                (false, count) => format!(", seen {count} times and not declared"),
            };
            lines.push(format!("  {how} {category} of {}{seen}", clean(to)));
        }
    }
    if lines.is_empty() {
        lines.push("no service has registered".to_owned());
    }
    lines
}

fn dot(all: &[Registration], arrows: &[Arrow<'_>]) -> Vec<String> {
    let mut lines = vec!["digraph services {".to_owned()];
    for service in all {
        lines.push(format!("  {};", quoted(&service.name)));
    }
    for arrow in arrows {
        let (how, category) = (arrow.how.name(), arrow.category);
        lines.push(format!(
            "  {} -> {} [label={}{}];",
            quoted(arrow.from),
            quoted(arrow.to.unwrap_or("nobody")),
            quoted(&format!("{how} {category}")),
            if arrow.declared { "" } else { ", style=dashed" }
        ));
    }
    lines.push("}".to_owned());
    lines
}

/// A name as DOT writes it.
fn quoted(name: &str) -> String {
    let escaped = clean(name).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_wire::LeaseState;

    fn service(name: &str, owns: &[&str], reads: &[&str], sends: &[&str]) -> Registration {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        Registration {
            name: name.to_owned(),
            address: String::new(),
            program: String::new(),
            version: String::new(),
            owns: names(owns),
            views: Vec::new(),
            reads: names(reads),
            sends: names(sends),
            private: Vec::new(),
            lease: 0,
            since: None,
            state: LeaseState::Released,
            expires_in_ms: None,
            taken_by: None,
        }
    }

    #[test]
    fn the_graph_names_the_owner_of_what_each_service_needs_and_marks_what_it_has_not_declared() {
        let all = [
            service("checkout", &["checkout"], &["order"], &["payment", "fax"]),
            service("orders", &["order"], &[], &[]),
            service("pay\"ments", &["payment"], &[], &[]),
        ];
        let sent = Sent::from([
            (("checkout".to_owned(), "payment".to_owned()), 3),
            (("checkout".to_owned(), "order".to_owned()), 2),
            (("checkout".to_owned(), "checkout".to_owned()), 9),
        ]);
        let arrows = arrows(&all, &sent);
        assert_eq!(
            text(&all, &arrows),
            [
                "checkout (released) owns checkout",
                "  sends fax of nobody",
                "  reads order of orders",
                "  sends order of orders, seen 2 times and not declared",
                "  sends payment of pay\"ments, seen 3 times",
                "orders (released) owns order",
                "pay\"ments (released) owns payment",
            ]
        );
        let dot = dot(&all, &arrows);
        assert!(
            dot.contains(
                &"  \"checkout\" -> \"pay\\\"ments\" [label=\"sends payment\"];".to_owned()
            ),
            "{dot:?}"
        );
    }
}
