//! Violations as witnesses that people can follow.

use std::error::Error;
use std::fmt;

use crate::graph::Graph;
use crate::history::{History, Place};
use crate::reads::{BadRead, shown};

/// Why a history is not causally consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A read that is wrong by itself.
    Read(BadRead),
    /// Somebody reads that nothing was there, and a write comes before it.
    Missing {
        /// The read, as it is written.
        read: String,
        /// The transaction that wrote the variable.
        writer: Place,
        /// From the write to the read.
        way: Vec<Step>,
    },
    /// Each of these transactions must stand before the next, and the last before the first.
    Circle(Vec<Step>),
}

/// One transaction before another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The one before.
    pub first: Place,
    /// The one behind.
    pub second: Place,
    /// Why.
    pub why: Why,
}

/// Why one transaction stands before another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is earlier in their session.
    Session,
    /// The second reads this of the first.
    Reads(String),
    /// Both write a variable, and a transaction that the first is before reads it of the second.
    TakenForLater {
        /// The variable.
        variable: String,
        /// What is read.
        read: String,
        /// From the first to who reads.
        way: Vec<Step>,
    },
}

impl Violation {
    /// What such a thing is called.
    pub fn name(&self) -> &'static str {
        let one_read = |way: &[Step]| {
            matches!(
                way,
                [Step {
                    why: Why::Reads(_),
                    ..
                }]
            )
        };
        match self {
            Self::Read(_) => "read without an explanation",
            Self::Missing { way, .. } if one_read(way) => "fractured read",
            Self::Missing { .. } => "missing value",
            Self::Circle(steps) => {
                let mut taken = steps.iter().filter_map(|step| match &step.why {
                    Why::TakenForLater { way, .. } => Some(way),
                    _ => None,
                });
                match (taken.next(), taken.next()) {
                    (None, _) => "cyclic causal order",
                    (Some(way), None) if one_read(way) => "fractured read",
                    (Some(_), None) => "stale read",
                    (Some(_), Some(_)) => "conflicting orders of writes",
                }
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(bad) => write!(f, "{bad}"),
            Self::Missing { read, writer, way } => {
                let reader = way.last().map_or(*writer, |step| step.second);
                write!(
                    f,
                    "{reader} reads {read}, though {writer}, which writes it, comes before it ({})",
                    self.name()
                )?;
                way.iter().try_for_each(|step| write!(f, "\n  {step}"))
            }
            Self::Circle(steps) => {
                write!(f, "transactions come before themselves ({})", self.name())?;
                steps.iter().try_for_each(|step| write!(f, "\n  {step}"))
            }
        }
    }
}

impl Error for Violation {}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, second, why } = self;
        write!(f, "{first} before {second}: ")?;
        match why {
            Why::Session => write!(f, "their session's order"),
            Why::Reads(read) => write!(f, "{second} reads {read} of {first}"),
            Why::TakenForLater {
                variable,
                read,
                way,
            } => {
                let reader = way.last().map_or(*second, |step| step.second);
                write!(
                    f,
                    "both write {variable}, and {reader}, which comes behind {first}, reads {read} of {second}"
                )?;
                way.iter().try_for_each(|step| write!(f, "\n    {step}"))
            }
        }
    }
}

/// Nothing was there for one of `readers`, who all read that, though `writer` is before it.
pub fn explain_initial(
    history: &History,
    graph: &Graph,
    variable: usize,
    writer: usize,
    readers: &[usize],
) -> Violation {
    Violation::Missing {
        read: shown(&history.variables[variable], None),
        writer: graph.nodes[writer].place,
        way: shortest_way(history, graph, writer, readers),
    }
}

/// Each of these is before the next, the last before the first.
pub fn explain_circle(history: &History, graph: &Graph, circle: &[usize]) -> Violation {
    let seconds = circle.iter().skip(1).chain(circle.first());
    let steps = circle.iter().zip(seconds);
    Violation::Circle(
        steps
            .map(|(&first, &second)| step(history, graph, first, second))
            .collect(),
    )
}

fn shortest_way(history: &History, graph: &Graph, first: usize, readers: &[usize]) -> Vec<Step> {
    let ways = readers
        .iter()
        .map(|&reader| graph.causal_way(first, reader));
    let way = ways
        .filter(|way| !way.is_empty())
        .min_by_key(Vec::len)
        .unwrap_or_default();
    way.windows(2)
        .map(|pair| step(history, graph, pair[0], pair[1]))
        .collect()
}

fn step(history: &History, graph: &Graph, first: usize, second: usize) -> Step {
    Step {
        first: graph.nodes[first].place,
        second: graph.nodes[second].place,
        why: why(history, graph, first, second),
    }
}

fn why(history: &History, graph: &Graph, first: usize, second: usize) -> Why {
    let read = graph.nodes[second]
        .reads
        .iter()
        .find(|(_, read)| read.writer == Some(first));
    if let Some((&variable, read)) = read {
        return Why::Reads(shown(&history.variables[variable], read.value));
    }
    if graph.causes(second).contains(&first) {
        return Why::Session;
    }
    let shared = graph.nodes[first].writes.keys().filter_map(|&variable| {
        let value = *graph.nodes[second].writes.get(&variable)?;
        let readers = graph.readers.get(&(variable, Some(second)))?;
        let way = shortest_way(history, graph, first, readers);
        (!way.is_empty()).then_some((variable, value, way))
    });
    let (variable, value, way) = shared
        .min_by_key(|(.., way)| way.len())
        .expect("only such a reader puts the one before the other");
    let name = &history.variables[variable];
    Why::TakenForLater {
        variable: name.clone(),
        read: shown(name, Some(value)),
        way,
    }
}
