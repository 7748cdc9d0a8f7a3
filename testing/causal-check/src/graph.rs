//! What comes before what, and why.

use std::collections::{BTreeMap, VecDeque};

use crate::bits::Bits;
use crate::reads::Node;

/// Who read a variable of a writer, or of nobody: by variable and writer.
pub type Readers = BTreeMap<(usize, Option<usize>), Vec<usize>>;

/// The transactions, and which come right before each.
pub struct Graph {
    pub nodes: Vec<Node>,
    /// By sessions and reads.
    before: Vec<Vec<usize>>,
    /// Because a reader of the one knows of the other and does not see it.
    forced: Vec<Vec<usize>>,
    pub readers: Readers,
}

impl Graph {
    /// What sessions and reads say.
    pub fn new(nodes: Vec<Node>) -> Self {
        let mut before = vec![Vec::new(); nodes.len()];
        let mut readers = Readers::new();
        for (index, node) in nodes.iter().enumerate() {
            if index > 0 && nodes[index - 1].session == node.session {
                before[index].push(index - 1);
            }
            for (&variable, read) in &node.reads {
                readers
                    .entry((variable, read.writer))
                    .or_default()
                    .push(index);
                before[index].extend(read.writer);
            }
            before[index].sort_unstable();
            before[index].dedup();
        }
        let forced = vec![Vec::new(); nodes.len()];
        Self {
            nodes,
            before,
            forced,
            readers,
        }
    }

    /// Says that `first` comes before `second`, because of a reader of the second.
    pub fn force(&mut self, first: usize, second: usize) {
        self.forced[second].push(first);
    }

    /// Those right before this one by sessions and reads.
    pub fn causes(&self, index: usize) -> &[usize] {
        &self.before[index]
    }

    /// All that come right before this one.
    fn all_before(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        self.before[index]
            .iter()
            .chain(&self.forced[index])
            .copied()
    }

    /// The transactions in an order in which each stands behind those before it, or a shortest
    /// circle among those that have no such order: each comes before the next, the last before
    /// the first.
    pub fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut behind = vec![Vec::new(); self.nodes.len()];
        let mut missing = vec![0_usize; self.nodes.len()];
        for (index, count) in missing.iter_mut().enumerate() {
            for first in self.all_before(index) {
                behind[first].push(index);
                *count += 1;
            }
        }
        let mut order: Vec<usize> = (0..missing.len())
            .filter(|&index| missing[index] == 0)
            .collect();
        let mut next = 0;
        while let Some(&index) = order.get(next) {
            next += 1;
            for &second in &behind[index] {
                missing[second] -= 1;
                if missing[second] == 0 {
                    order.push(second);
                }
            }
        }
        match missing.iter().position(|&count| count > 0) {
            None => Ok(order),
            Some(start) => Err(self.circle(start, &missing)),
        }
    }

    /// A circle before `start`; each that misses something has one before it that does.
    fn circle(&self, start: usize, missing: &[usize]) -> Vec<usize> {
        let mut seen = Bits::new(self.nodes.len());
        let mut index = start;
        while !seen.has(index) {
            seen.insert(index);
            match self.all_before(index).find(|&first| missing[first] > 0) {
                Some(first) => index = first,
                None => break,
            }
        }
        // `index` is on a circle. Another one through it, or through one beside it, may be shorter.
        let mut best = self.way(index, index, |at| self.all_before(at).collect());
        let around = best.clone();
        for &other in around.iter().take(100) {
            let way = self.way(other, other, |at| self.all_before(at).collect());
            if way.len() < best.len() {
                best = way;
            }
        }
        best.pop();
        best
    }

    /// A shortest way by sessions and reads from `first` to `last`, both included; empty if
    /// there is none.
    pub fn causal_way(&self, first: usize, last: usize) -> Vec<usize> {
        self.way(first, last, |at| self.before[at].clone())
    }

    /// At least one step, from `first` to `last`.
    fn way(&self, first: usize, last: usize, before: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
        let mut next = vec![None; self.nodes.len()];
        let mut queue = VecDeque::from([last]);
        while let Some(at) = queue.pop_front() {
            for one in before(at) {
                if next[one].is_some() {
                    continue;
                }
                next[one] = Some(at);
                if one == first {
                    let mut way = vec![first];
                    let mut at = first;
                    while let Some(following) = next[at] {
                        way.push(following);
                        at = following;
                        if at == last {
                            return way;
                        }
                    }
                }
                queue.push_back(one);
            }
        }
        Vec::new()
    }
}
