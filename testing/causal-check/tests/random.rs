//! Random histories, judged by a search of all orders that shares nothing with the check but the
//! history.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anabranch_causal_check::{History, Operation, Transaction, check};

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 33) as usize) % bound
    }
}

/// Whether some order of all transactions explains every read: each sees those that its session
/// and its reads bring before it, and of those the last write in the order.
fn some_order_explains(history: &History) -> bool {
    let all: Vec<(usize, &Transaction)> = history
        .sessions
        .iter()
        .enumerate()
        .flat_map(|(session, transactions)| transactions.iter().map(move |one| (session, one)))
        .filter(|(_, one)| one.committed)
        .collect();
    let writes = |index: usize, variable: usize, value: u64| {
        all[index]
            .1
            .operations
            .contains(&Operation::Write { variable, value })
    };
    // Whom each sees, without those whom these see.
    let mut sees = vec![vec![false; all.len()]; all.len()];
    for second in 0..all.len() {
        for first in (0..all.len()).filter(|&first| first != second) {
            let of_session = all[first].0 == all[second].0 && first < second;
            let of_read = all[second].1.operations.iter().any(|one| match *one {
                Operation::Read {
                    variable,
                    value: Some(value),
                } => writes(first, variable, value),
                _ => false,
            });
            sees[second][first] = of_session || of_read;
        }
    }
    for middle in 0..all.len() {
        for second in 0..all.len() {
            for first in 0..all.len() {
                if sees[second][middle] && sees[middle][first] {
                    sees[second][first] = true;
                }
            }
        }
    }
    extend(&mut Vec::new(), &sees, &all)
}

fn extend(order: &mut Vec<usize>, sees: &[Vec<bool>], all: &[(usize, &Transaction)]) -> bool {
    if order.len() == all.len() {
        return true;
    }
    for next in 0..all.len() {
        let may_come = !order.contains(&next)
            && (0..all.len()).all(|first| !sees[next][first] || order.contains(&first))
            && explained(next, order, &sees[next], all);
        if may_come {
            order.push(next);
            if extend(order, sees, all) {
                return true;
            }
            order.pop();
        }
    }
    false
}

/// Whether the transaction reads what those it sees have written, in this order, and itself.
fn explained(next: usize, order: &[usize], sees: &[bool], all: &[(usize, &Transaction)]) -> bool {
    let mut state = BTreeMap::new();
    for &first in order.iter().filter(|&&first| sees[first]) {
        for operation in &all[first].1.operations {
            if let Operation::Write { variable, value } = *operation {
                state.insert(variable, value);
            }
        }
    }
    all[next]
        .1
        .operations
        .iter()
        .all(|operation| match *operation {
            Operation::Write { variable, value } => {
                state.insert(variable, value);
                true
            }
            Operation::Read { variable, value } => state.get(&variable).copied() == value,
        })
}

/// Few transactions, whose reads see about anything.
fn small(random: &mut Random) -> String {
    let (sessions, transactions) = (1 + random.below(3), 2 + random.below(5));
    let variables = ["x", "y", "z"];
    let variables = &variables[..1 + random.below(3)];
    let mut lines = vec![Vec::new(); sessions];
    let mut written = vec![1_usize; variables.len()];
    let mut plan: Vec<Vec<(usize, bool)>> = Vec::new();
    for _ in 0..transactions {
        let operations =
            (0..1 + random.below(3)).map(|_| (random.below(variables.len()), random.below(2) == 0));
        plan.push(operations.collect());
    }
    let mut totals = vec![0; variables.len()];
    for (variable, _) in plan.iter().flatten().filter(|(_, is_write)| *is_write) {
        totals[*variable] += 1;
    }
    for operations in plan {
        let mut words = Vec::new();
        for (variable, is_write) in operations {
            let name = variables[variable];
            if is_write {
                words.push(format!("{name}:={}", written[variable]));
                written[variable] += 1;
            } else {
                // Now and then something that is not there.
                let absent = usize::from(random.below(20) == 0);
                let value = random.below(totals[variable] + 1 + absent);
                words.push(if value == 0 {
                    format!("{name}==?")
                } else {
                    format!("{name}=={value}")
                });
            }
        }
        let mark = if random.below(12) == 0 { "!" } else { "" };
        lines[random.below(sessions)].push(format!("[{}]{mark}", words.join(" ")));
    }
    lines
        .iter()
        .map(|lines| lines.join("\n"))
        .collect::<Vec<_>>()
        .join("\n---\n")
}

#[test]
fn small_histories_are_judged_as_a_search_of_all_orders_does() {
    let (mut consistent, mut circles) = (0, 0);
    for seed in 0..30_000 {
        let text = small(&mut Random(seed));
        let history: History = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}\n{error}"));
        let judged = check(&history);
        assert_eq!(
            judged.is_ok(),
            some_order_explains(&history),
            "seed {seed}\n{text}\n{judged:?}"
        );
        match judged {
            Ok(_) => consistent += 1,
            Err(anabranch_causal_check::Violation::Read(_)) => {}
            Err(_) => circles += 1,
        }
    }
    assert!(
        consistent > 3_000 && circles > 3_000,
        "{consistent} consistent, {circles} circles"
    );
}

/// What a store gives that keeps causes: each session sees what it has seen, what it has written
/// and, now and then, all that another session sees.
fn causal_store(
    random: &mut Random,
    sessions: usize,
    transactions: usize,
    variables: usize,
) -> Vec<Vec<String>> {
    // Of each session and variable the latest write it knows: its place in the order of all.
    let mut known = vec![vec![0_usize; variables]; sessions];
    let mut lines = vec![Vec::new(); sessions];
    for number in 1..=transactions {
        let session = random.below(sessions);
        if random.below(3) == 0 {
            let other = known[random.below(sessions)].clone();
            for (mine, theirs) in known[session].iter_mut().zip(other) {
                *mine = theirs.max(*mine);
            }
        }
        let mut line = "[".to_owned();
        for _ in 0..3 {
            let variable = random.below(variables);
            // A string takes all that is written to it.
            match known[session][variable] {
                0 => write!(line, "v{variable}==? "),
                value => write!(line, "v{variable}=={value} "),
            }
            .expect("a string takes text");
        }
        let variable = random.below(variables);
        known[session][variable] = number;
        write!(line, "v{variable}:={number}]").expect("a string takes text");
        lines[session].push(line);
    }
    lines
}

fn text(lines: &[Vec<String>]) -> String {
    lines
        .iter()
        .map(|lines| lines.join("\n"))
        .collect::<Vec<_>>()
        .join("\n---\n")
}

#[test]
fn what_a_causal_store_gives_is_consistent() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let (sessions, variables) = (1 + random.below(12), 1 + random.below(20));
        let text = text(&causal_store(&mut random, sessions, 300, variables));
        let history: History = text.parse().expect("a history");
        if let Err(violation) = check(&history) {
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
fn one_read_of_what_a_session_has_overwritten_is_found_among_many() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut lines = causal_store(&mut random, 6, 300, 8);
        let session = random.below(6);
        let at = random.below(lines[session].len() + 1);
        // Twice over: the session writes a variable, and later in it nothing is there.
        lines[session].insert(at, "[w:=1]".to_owned());
        lines[session].push("[w==?]".to_owned());
        let history: History = text(&lines).parse().expect("a history");
        let violation = check(&history).expect_err("a missing value");
        assert_eq!(
            violation.name(),
            "missing value",
            "seed {seed}: {violation}"
        );
    }
}

#[test]
fn histories_of_ten_thousand_transactions_are_judged_whole() {
    for sessions in [4, 100, 10_000] {
        let mut lines = causal_store(&mut Random(7), sessions, 20_000, 50);
        let history: History = text(&lines).parse().expect("a history");
        if let Err(violation) = check(&history) {
            panic!("{sessions} sessions: {violation}");
        }
        lines[3].insert(0, "[w:=1]".to_owned());
        lines[3].push("[w==?]".to_owned());
        let history: History = text(&lines).parse().expect("a history");
        assert!(check(&history).is_err(), "{sessions} sessions");
    }
}
