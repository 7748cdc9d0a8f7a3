use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Subject;
use super::list::{Case, cases};
use super::outcome::Outcome;

/// One case and how it ended.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The case.
    pub case: Case,
    /// How it ended.
    pub outcome: Outcome,
}

/// How all cases ended. Shows itself as one line for each, and a summary.
#[derive(Debug, Clone)]
pub struct Report {
    /// One entry for each case.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether no case is broken.
    pub fn passed(&self) -> bool {
        self.broken().next().is_none()
    }

    /// The findings that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| matches!(finding.outcome, Outcome::Broken(_)))
    }
}

/// Runs every case, each on a subject of its own, also after one is broken.
pub fn run<S: Subject>(subject: impl Fn() -> S) -> Report {
    let finding = |&case: &Case| {
        let ran = catch_unwind(AssertUnwindSafe(|| case.run(&subject())));
        let outcome = ran.unwrap_or_else(|panic| Outcome::Broken(message(&*panic)));
        Finding { case, outcome }
    };
    Report {
        findings: cases().iter().map(finding).collect(),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the case panicked without a message".to_owned())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut kept, mut lacking, mut broken) = (0, 0, 0);
        for Finding { case, outcome } in &self.findings {
            write!(f, "{}::{}: ", case.group, case.name)?;
            match outcome {
                Outcome::Kept => {
                    kept += 1;
                    writeln!(f, "kept")?;
                }
                Outcome::Lacking(need) => {
                    lacking += 1;
                    writeln!(f, "not offered: {need}")?;
                }
                Outcome::Broken(why) => {
                    broken += 1;
                    writeln!(f, "BROKEN: {why}")?;
                }
            }
        }
        writeln!(
            f,
            "{} cases: {kept} kept, {lacking} not offered, {broken} broken",
            self.findings.len()
        )
    }
}
