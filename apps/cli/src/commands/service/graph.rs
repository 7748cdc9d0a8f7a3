//! `anabranch service graph`.

use std::collections::BTreeMap;

use anabranch_wire::Registration;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Context;
use super::registered::{lease_of, registered};
use crate::event_text::clean;
use crate::failure::Outcome;
use crate::output::{Form, Output};
use crate::remote::{Remote, ServerArgs};

/// Show which services need which: what each has declared that it reads and sends
#[derive(Debug, Args)]
#[command(after_help = "\
A service says what it reads and sends when it registers at the log. The owner of what it names is
the one that has registered last; a category without one is owned by nobody.

Examples:
  anabranch service graph --log http://127.0.0.1:7400
  anabranch service graph --format dot | dot -Tsvg > services.svg
  anabranch service graph --output json")]
pub struct GraphArgs {
    /// As lines of text, or in the language of Graphviz
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
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
    let arrows = arrows(&all);
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
    out.flush()
}

fn arrows(all: &[Registration]) -> Vec<Arrow<'_>> {
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
        for (how, category) in reads.chain(sends) {
            arrows.push(Arrow {
                from: &service.name,
                to: owners.get(category.as_str()).copied(),
                how,
                category,
            });
        }
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
            lines.push(format!("  {how} {category} of {}", clean(to)));
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
            "  {} -> {} [label={}];",
            quoted(arrow.from),
            quoted(arrow.to.unwrap_or("nobody")),
            quoted(&format!("{how} {category}"))
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
            lease: 0,
            state: LeaseState::Released,
            expires_in_ms: None,
            taken_by: None,
        }
    }

    #[test]
    fn the_graph_names_the_owner_of_what_each_service_needs() {
        let all = [
            service("checkout", &["checkout"], &["order"], &["payment", "fax"]),
            service("orders", &["order"], &[], &[]),
            service("pay\"ments", &["payment"], &[], &[]),
        ];
        let arrows = arrows(&all);
        assert_eq!(
            text(&all, &arrows),
            [
                "checkout (released) owns checkout",
                "  sends fax of nobody",
                "  reads order of orders",
                "  sends payment of pay\"ments",
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
