//! What the partitions of a log depend on in one another, while appends come and go.
//!
//! An append is *sent* to its partition, and later it is known to be *stored* or not. Its
//! causes are a cut T of the whole log, closed: with an event it names what that depends on.
//! Stored is only the *delta*: what of T no stored event before it says.
//!
//! * Everything in `stored` stands before what is sent from now on. So a delta may leave it
//!   out: whoever has the prefix has it too.
//! * `sent` also has what is on its way or has failed, and what that depends on in the partition
//!   itself. It may say too much, and is never too small for what stands in the partition: so it
//!   belongs to the closure that an append answers.
//! * What is sent names nothing beyond the `end`s. So they are a closed cut at any time. An append to
//!   several partitions names itself; until all of it is stored, they end before it.

use anabranch_model::{Cut, PartitionId};

/// For each partition a count of its events; those of all partitions, dense.
pub(super) type Counts = Vec<u64>;

/// See the module's text.
pub(super) struct Causes(Vec<Part>);

struct Part {
    /// So many of its events are known to be durable; an append ends here.
    end: u64,
    /// What comes here is not whole yet: of an append to several partitions.
    until: Option<u64>,
    /// What its events are known to depend on.
    stored: Counts,
    /// What all of its events depend on, those on their way too.
    sent: Counts,
}

impl Causes {
    /// Of partitions that go so far and depend on so much.
    pub fn new(parts: Vec<(u64, Counts)>) -> Self {
        let part = |(p, (end, stored)): (usize, (u64, Counts))| {
            let mut sent = stored.clone();
            sent[p] = end;
            Part {
                end,
                until: None,
                stored,
                sent,
            }
        };
        Self(parts.into_iter().enumerate().map(part).collect())
    }

    /// How far each partition is known to go: a closed cut.
    pub fn ends(&self) -> Counts {
        self.0.iter().map(|part| part.end).collect()
    }

    /// A partition goes so far at least.
    pub fn reaches(&mut self, partition: usize, end: u64) {
        let part = &mut self.0[partition];
        let end = part.until.map_or(end, |until| end.min(until));
        part.end = end.max(part.end);
    }

    /// What comes behind `start` in a partition counts when all of it is stored: an append to several
    /// partitions.
    pub fn begins_together(&mut self, partition: usize, start: u64) {
        self.0[partition].until = Some(start);
    }

    /// Nothing of such an append, which begins at `start`, is on its way to a partition any more.
    pub fn ends_together(&mut self, partition: usize, start: u64) {
        let until = &mut self.0[partition].until;
        // Who is late must not end the next one.
        if *until == Some(start) {
            *until = None;
        }
    }

    /// Where such an append begins in a partition, if one is on its way.
    pub fn until(&self, partition: usize) -> Option<u64> {
        self.0.get(partition).and_then(|part| part.until)
    }

    /// The causes that are not known to be in the log.
    pub fn beyond(&self, causes: &Cut) -> Cut {
        let mut beyond = Cut::start();
        for (q, count) in causes.iter() {
            if self.0.get(q.0 as usize).is_none_or(|part| count > part.end) {
                beyond.set(q, count);
            }
        }
        beyond
    }

    /// The causes of an append to `home` that no stored event of it says.
    pub fn news(&self, home: usize, causes: &Cut) -> Cut {
        let mut news = Cut::start();
        for (q, count) in causes.iter() {
            let q_index = q.0 as usize;
            if q_index != home && self.0[home].stored.get(q_index).is_some_and(|&s| s < count) {
                news.set(q, count);
            }
        }
        news
    }

    /// An append to `home` with these causes, which are closed and in the log, is sent. Gives
    /// the delta to store with it.
    pub fn send(&mut self, home: usize, causes: &Cut) -> Cut {
        debug_assert_eq!(self.beyond(causes), Cut::start(), "causes beyond the log");
        self.send_part(home, causes)
    }

    /// As [`Causes::send`], for a part of an append that depends on its other parts, which are not in
    /// the log yet.
    pub fn send_part(&mut self, home: usize, causes: &Cut) -> Cut {
        let delta = self.news(home, causes);
        join(&mut self.0[home].sent, causes);
        delta
    }

    /// What was sent to `home` with this delta is stored, and ends at `end`.
    pub fn stored(&mut self, home: usize, delta: &Cut, end: u64) {
        join(&mut self.0[home].stored, delta);
        self.reaches(home, end);
    }

    /// Everything that an append to `home` depends on, which ends at `end` and was sent with
    /// these causes; with itself.
    pub fn closure(&self, home: usize, causes: &Cut, end: u64) -> Cut {
        if self.0.len() == 1 {
            return Cut::at(end);
        }
        let mut closure = to_cut(&self.0[home].sent);
        closure.join(causes);
        let home = PartitionId(home as u32);
        closure.set(home, end.max(closure.get(home)));
        closure
    }
}

/// The pointwise maximum.
pub(super) fn join(counts: &mut [u64], cut: &Cut) {
    for (q, count) in cut.iter() {
        if let Some(known) = counts.get_mut(q.0 as usize) {
            *known = count.max(*known);
        }
    }
}

pub(super) fn to_cut(counts: &[u64]) -> Cut {
    let mut cut = Cut::start();
    for (q, &count) in counts.iter().enumerate() {
        cut.set(PartitionId(q as u32), count);
    }
    cut
}

#[cfg(test)]
mod tests {
    use anabranch_env::SplitMix64;

    use super::*;

    fn fresh(partitions: usize, end: u64) -> Causes {
        Causes::new(vec![(end, vec![0; partitions]); partitions])
    }

    #[test]
    fn a_delta_leaves_out_what_is_stored_and_its_own_partition() {
        let mut causes = fresh(3, 10);
        let token = to_cut(&[4, 5, 0]);
        let delta = causes.send(0, &token);
        assert_eq!(delta, to_cut(&[0, 5, 0]));
        causes.stored(0, &delta, 11);
        assert_eq!(causes.send(0, &token), Cut::start());
        assert_eq!(causes.send(0, &to_cut(&[0, 5, 7])), to_cut(&[0, 0, 7]));
        assert_eq!(causes.send(2, &token), to_cut(&[4, 5, 0]));
    }

    #[test]
    fn what_is_on_its_way_may_fail_and_so_is_said_again() {
        let mut causes = fresh(2, 10);
        let token = to_cut(&[0, 5]);
        assert_eq!(causes.send(0, &token), token);
        assert_eq!(causes.send(0, &token), token);
        // It may stand before this one, which has no causes of its own.
        let closure = causes.closure(0, &Cut::start(), 12);
        assert_eq!(closure, to_cut(&[12, 5]));
    }

    #[test]
    fn what_is_not_in_the_log_is_beyond_it() {
        let mut causes = fresh(2, 10);
        let mut token = to_cut(&[10, 11]);
        token.set(PartitionId(2), 1);
        let mut beyond = token.clone();
        beyond.set(PartitionId(0), 0);
        assert_eq!(causes.beyond(&token), beyond);
        causes.reaches(1, 11);
        beyond.set(PartitionId(1), 0);
        assert_eq!(causes.beyond(&token), beyond);
    }

    /// Appends of a random run: each is sent, then it stands in its partition or fails, and
    /// then its answer comes, or is lost.
    struct Run {
        rng: SplitMix64,
        causes: Causes,
        /// By partition and offset: the causes that were given, and the delta that is stored.
        log: Vec<Vec<(Cut, Cut)>>,
        sent: Vec<(usize, Cut, Cut)>,
        standing: Vec<(usize, Cut, Cut, u64)>,
        closures: Vec<Cut>,
    }

    impl Run {
        fn new(seed: u64) -> Self {
            let partitions = 2 + (seed % 4) as usize;
            Self {
                rng: SplitMix64::new(seed),
                causes: fresh(partitions, 0),
                log: vec![Vec::new(); partitions],
                sent: Vec::new(),
                standing: Vec::new(),
                closures: vec![Cut::start()],
            }
        }

        fn pick(&mut self, of: usize) -> usize {
            self.rng.below(of as u64) as usize
        }

        fn step(&mut self) {
            match self.pick(4) {
                0 => {
                    let (a, b) = (
                        self.pick(self.closures.len()),
                        self.pick(self.closures.len()),
                    );
                    let mut causes = self.closures[a].clone();
                    causes.join(&self.closures[b]);
                    if self.pick(4) == 0 {
                        causes = to_cut(&self.causes.ends());
                    }
                    let home = self.pick(self.log.len());
                    let delta = self.causes.send(home, &causes);
                    self.sent.push((home, causes, delta));
                }
                1 if !self.sent.is_empty() => {
                    let at = self.pick(self.sent.len());
                    let (home, causes, delta) = self.sent.swap_remove(at);
                    if self.pick(8) > 0 {
                        self.log[home].push((causes.clone(), delta.clone()));
                        let end = self.log[home].len() as u64;
                        self.standing.push((home, causes, delta, end));
                    }
                }
                2 if !self.standing.is_empty() => {
                    let at = self.pick(self.standing.len());
                    let (home, causes, delta, end) = self.standing.swap_remove(at);
                    if self.pick(8) > 0 {
                        self.causes.stored(home, &delta, end);
                        let closure = self.causes.closure(home, &causes, end);
                        self.assert_closed(&closure);
                        self.closures.push(closure);
                    }
                }
                _ => {
                    let home = self.pick(self.log.len());
                    self.causes.reaches(home, self.log[home].len() as u64);
                    self.assert_closed(&to_cut(&self.causes.ends()));
                }
            }
        }

        fn assert_closed(&self, cut: &Cut) {
            for (p, count) in cut.iter() {
                for (causes, _) in &self.log[p.0 as usize][..count as usize] {
                    assert!(cut.covers(causes), "{cut} has not {causes}");
                }
            }
        }
    }

    #[test]
    fn closures_and_ends_are_closed_and_a_prefix_says_all_that_its_events_depend_on() {
        for seed in 0..300 {
            let mut run = Run::new(seed);
            for _ in 0..300 {
                run.step();
            }
            for (p, events) in run.log.iter().enumerate() {
                let mut said = Cut::start();
                for (causes, delta) in events {
                    said.join(delta);
                    let mut due = causes.clone();
                    due.set(PartitionId(p as u32), 0);
                    assert!(
                        said.covers(&due),
                        "seed {seed}: {said} says less than {due}"
                    );
                }
            }
        }
    }
}
