//! The judgement.
//!
//! Transaction `a` is *before* `b` if a chain of session steps and reads leads from `a` to `b`.
//! If `b` reads variable `x` of `w`, and another writer `a` of `x` is before `b`, then `b` knew of
//! both and took `w`'s for the later one: `a` stands before `w` in the order that explains the
//! history. Such an order exists if and only if these demands and "before" have no circle.
//! Whoever reads that nothing was there must have no writer of it before it.
//!
//! What is before each transaction is a set of bits. The bits of one block of transactions at a
//! time are held, so memory grows with the length of the history and not with its square.

use std::fmt;

use crate::bits::Bits;
use crate::explain::{Violation, explain_circle, explain_initial};
use crate::graph::Graph;
use crate::history::History;
use crate::reads::resolve;

/// How many transactions are looked at together as those that are before.
const BLOCK: usize = 8_192;

/// How much was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Sessions that have transactions.
    pub sessions: usize,
    /// Transactions that committed.
    pub transactions: usize,
    /// Transactions that did not; what they read is not judged.
    pub uncommitted: usize,
    /// Reads of what other transactions wrote or nobody, one for each variable of each.
    pub reads: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sessions,
            transactions,
            uncommitted,
            reads,
        } = self;
        write!(
            f,
            "{transactions} transactions of {sessions} sessions, {reads} reads"
        )?;
        match uncommitted {
            0 => Ok(()),
            count => write!(f, "; {count} that did not commit are left out"),
        }
    }
}

/// Whether the history is causally consistent.
///
/// # Errors
///
/// What no order of the transactions explains, as a witness.
pub fn check(history: &History) -> Result<Summary, Violation> {
    check_in_blocks(history, BLOCK)
}

fn check_in_blocks(history: &History, block: usize) -> Result<Summary, Violation> {
    let nodes = resolve(history).map_err(Violation::Read)?;
    let transactions = history.sessions.iter().flatten().count();
    let summary = Summary {
        sessions: history
            .sessions
            .iter()
            .filter(|session| !session.is_empty())
            .count(),
        transactions: nodes.len(),
        uncommitted: transactions - nodes.len(),
        reads: nodes.iter().map(|node| node.reads.len()).sum(),
    };
    let mut graph = Graph::new(nodes);
    let explained = |graph: &Graph, circle: Vec<usize>| explain_circle(history, graph, &circle);
    let order = graph.order().map_err(|circle| explained(&graph, circle))?;
    for start in (0..order.len()).step_by(block) {
        let end = order.len().min(start + block);
        let known = Known::new(&graph, &order, start, end);
        for (first, second) in known.demands(history, &graph)? {
            graph.force(first, second);
        }
    }
    graph.order().map_err(|circle| explained(&graph, circle))?;
    Ok(summary)
}

/// Which transactions of a block are before each transaction.
struct Known {
    start: usize,
    size: usize,
    before: Vec<Bits>,
    /// Those of the block that write each variable.
    writers: Vec<Option<Bits>>,
}

impl Known {
    fn new(graph: &Graph, order: &[usize], start: usize, end: usize) -> Self {
        let size = end - start;
        let mut before = vec![Bits::new(0); order.len()];
        for &index in order {
            let mut bits = Bits::new(size);
            for &cause in graph.causes(index) {
                bits.join(&before[cause]);
                if (start..end).contains(&cause) {
                    bits.insert(cause - start);
                }
            }
            before[index] = bits;
        }
        let mut writers = Vec::new();
        for (offset, node) in graph.nodes[start..end].iter().enumerate() {
            for &variable in node.writes.keys() {
                if writers.len() <= variable {
                    writers.resize(variable + 1, None);
                }
                writers[variable]
                    .get_or_insert_with(|| Bits::new(size))
                    .insert(offset);
            }
        }
        Self {
            start,
            size,
            before,
            writers,
        }
    }

    /// Pairs of which the first must stand before the second.
    fn demands(&self, history: &History, graph: &Graph) -> Result<Vec<(usize, usize)>, Violation> {
        let mut demands = Vec::new();
        let mut others = Bits::new(self.size);
        for (&(variable, writer), readers) in &graph.readers {
            let Some(writers) = self.writers.get(variable).and_then(Option::as_ref) else {
                continue;
            };
            others.clear();
            for &reader in readers {
                others.join(&self.before[reader]);
            }
            others.keep(writers);
            let mut last_session = None;
            for offset in others.descending() {
                let first = self.start + offset;
                let Some(writer) = writer else {
                    return Err(explain_initial(history, graph, variable, first, readers));
                };
                // Of a session the last is enough: the others are before it.
                let session = Some(graph.nodes[first].session);
                if first == writer || session == last_session {
                    continue;
                }
                last_session = session;
                if !self.before[writer].has(offset) {
                    demands.push((first, writer));
                }
            }
        }
        Ok(demands)
    }
}

#[cfg(test)]
mod tests {
    use super::{check, check_in_blocks};
    use crate::history::History;

    #[test]
    fn the_size_of_the_blocks_changes_no_judgement() {
        let texts = [
            "[x:=1]\n[y:=1]\n---\n[y==1 x==?]\n",
            "[x:=1]\n[x:=2]\n[y:=1]\n---\n[y==1]\n[x==1]\n",
            "[x:=1]\n---\n[x:=2]\n---\n[x==1]\n[x==2]\n---\n[x==2]\n[x==1]\n",
            "[x:=1]\n[y:=1]\n---\n[y==1 x==1]\n---\n[x==?]\n[x==1]\n",
        ];
        for text in texts {
            let history: History = text.parse().expect("a history");
            let whole = check(&history);
            for block in 1..5 {
                assert_eq!(
                    check_in_blocks(&history, block).is_ok(),
                    whole.is_ok(),
                    "{text}"
                );
            }
        }
    }
}
