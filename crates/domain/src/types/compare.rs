use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::{EventTypes, Held, KindTypes, ProgramTypes, Shape};
use crate::downcasts::{Downcasts, Way};

/// What would break, and what was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Everything that would break somebody; empty when the program fits the log.
    pub breaks: Vec<Finding>,
    /// How many kinds of stored events were compared.
    pub kinds: u64,
    /// How many events of them there are.
    pub events: u64,
    /// Categories of the log that no service of the program has, which were not looked at.
    pub others: Vec<String>,
}

/// One change that would break somebody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Which kind of change it is.
    pub code: FindingCode,
    /// Whom it would break: `entity order`, `view customers`.
    pub whom: String,
    /// The events that it is about: `order/… OrderPlaced v1`.
    pub event: String,
    /// How many of them the log holds.
    pub stored: u64,
    /// What is wrong, for people.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Which kind of change breaks somebody. Stable, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingCode {
    /// A type is in the log that the program does not know.
    RemovedType,
    /// The log holds a newer version than the program has.
    LowerVersion,
    /// Nothing leads from a stored version to the present one.
    MissingUpcast,
    /// A field is required that stored events may lack.
    RequiredField,
    /// A value has another type, at the same version.
    ChangedType,
    /// A name is no longer known that stored events may have.
    RemovedValue,
    /// A view, process or saga waits for a type that nobody writes.
    NobodyWrites,
    /// A view, process or saga cannot read what is written now.
    ReaderBehind,
    /// Instances of a saga run on a definition that the program does not have.
    RunningSagas,
    /// The program does not take a command that it took.
    RemovedCommand,
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RemovedType => "removed-type",
            Self::LowerVersion => "lower-version",
            Self::MissingUpcast => "missing-upcast",
            Self::RequiredField => "required-field",
            Self::ChangedType => "changed-type",
            Self::RemovedValue => "removed-value",
            Self::NobodyWrites => "nobody-writes",
            Self::ReaderBehind => "reader-behind",
            Self::RunningSagas => "running-sagas",
            Self::RemovedCommand => "removed-command",
        })
    }
}

/// Compares the types of a program with what a log holds: can everybody read what is stored,
/// and what will be written?
pub fn check(program: &ProgramTypes, held: &Held) -> Report {
    let mut report = Report::default();
    let owned = owners(program);
    for service in &program.0 {
        for entity in &service.entities {
            let whom = format!("entity {}", entity.category);
            let reads = Reads {
                whom: &whom,
                events: &entity.events,
                must_know_all: true,
            };
            stored(&reads, &entity.category, held, &mut report);
        }
        for reader in &service.readers {
            let whom = format!("{} {}", reader.what, reader.name);
            let reads = Reads {
                whom: &whom,
                events: &reader.events,
                must_know_all: false,
            };
            for category in &reader.categories {
                stored(&reads, category, held, &mut report);
            }
            written(&reads, &reader.categories, &owned, &mut report);
        }
    }
    let journals: BTreeSet<_> = program.0.iter().flat_map(|s| &s.journals).collect();
    for (category, types) in &held.events {
        if let Some(_owner) = owned.get(category.as_str()) {
            let versions = types.values().flat_map(BTreeMap::values);
            report.kinds += versions.clone().count() as u64;
            report.events += versions.sum::<u64>();
        } else if !journals.contains(category) {
            report.others.push(category.clone());
        }
    }
    report.breaks.sort();
    report.breaks.dedup();
    report
}

fn owners(program: &ProgramTypes) -> BTreeMap<&str, EventTypes> {
    let entities = program.0.iter().flat_map(|service| &service.entities);
    entities
        .map(|entity| (entity.category.as_str(), entity.events.clone()))
        .collect()
}

/// Somebody who reads.
pub(super) struct Reads<'a> {
    pub whom: &'a str,
    pub events: &'a EventTypes,
    /// An entity needs each of its events; others pass over what they do not know.
    pub must_know_all: bool,
}

/// Can they read what is stored of a category?
fn stored(reads: &Reads<'_>, category: &str, held: &Held, report: &mut Report) {
    let Some(types) = held.events.get(category) else {
        return;
    };
    for (name, versions) in types {
        // Names of the platform itself.
        if name.starts_with('$') || reads.events.retired.contains(name) {
            continue;
        }
        for (&version, &count) in versions {
            let event = Stored {
                category,
                name,
                version,
                count,
            };
            let found = can_read(reads, &event, held);
            report.breaks.extend(found);
        }
    }
}

/// Events of one kind that the log holds, or that will be written.
struct Stored<'a> {
    category: &'a str,
    name: &'a str,
    version: u32,
    count: u64,
}

impl Stored<'_> {
    fn finding(
        &self,
        code: FindingCode,
        whom: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            code,
            whom: whom.to_owned(),
            event: format!("{}/… {} v{}", self.category, self.name, self.version),
            stored: self.count,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

fn can_read(reads: &Reads<'_>, event: &Stored<'_>, held: &Held) -> Vec<Finding> {
    let (name, version) = (event.name, event.version);
    if let Some(found) = by_downcasts(reads, event, held) {
        return found;
    }
    let Some(kind) = reads.events.kind(name) else {
        let is_older = reads.events.older.contains(&(name.to_owned(), version));
        let knows_name = reads.events.older.iter().any(|(older, _)| older == name);
        if is_older || !(reads.must_know_all || knows_name) {
            return Vec::new();
        }
        return vec![event.finding(
            FindingCode::RemovedType,
            reads.whom,
            format!("the program no longer knows {name} v{version}"),
            format!(
                "keep the variant, or add `.rename(({name:?}, {version}), …)` or `.retire({name:?})` to the upcasts"
            ),
        )];
    };
    if version > kind.version {
        return vec![event.finding(
            FindingCode::LowerVersion,
            reads.whom,
            format!(
                "the program reads {name} up to v{}, and the log holds v{version}",
                kind.version
            ),
            format!("raise `#[event(version = {version})]`: a version never goes back"),
        )];
    }
    if version < kind.version {
        if reads.events.older.contains(&(name.to_owned(), version)) {
            return Vec::new();
        }
        return vec![event.finding(
            FindingCode::MissingUpcast,
            reads.whom,
            format!(
                "no upcast leads from {name} v{version} to v{}",
                kind.version
            ),
            format!("add `.change({name:?}, {version}, …)` to the upcasts"),
        )];
    }
    let shapes: Vec<&Shape> = shapes_of(event, held).collect();
    mismatches(reads.whom, kind, event, &shapes)
}

/// What services have said that these events look like.
fn shapes_of<'a>(event: &'a Stored<'_>, held: &'a Held) -> impl Iterator<Item = &'a Shape> {
    let said = held.registered.get(event.category).into_iter().flatten();
    let kinds = said.flat_map(|said| &said.kinds);
    let these = kinds.filter(|old| old.name == event.name && old.version == event.version);
    these.map(|old| &old.shape)
}

/// What does not fit when events that they do not know are read by downcasts; `None` if they know them,
/// or no downcasts lead there.
fn by_downcasts(reads: &Reads<'_>, event: &Stored<'_>, held: &Held) -> Option<Vec<Finding>> {
    let (name, version) = (event.name, event.version);
    if reads.events.reads(name, version) {
        return None;
    }
    let said = held.registered.get(event.category).into_iter().flatten();
    let all = said.map(|said| said.downcasts.clone());
    let downcasts = all.reduce(Downcasts::and)?;
    let is_known = |name: &str, version| reads.events.knows(name, version);
    let Way::To {
        name: to,
        version: at,
        ..
    } = downcasts.way(name, version, &is_known)?
    else {
        return Some(Vec::new());
    };
    // From an older version upcasts lead on.
    let kind = reads.events.kind(to).filter(|kind| kind.version == at);
    let lowered: Vec<Shape> = shapes_of(event, held)
        .filter_map(|shape| downcasts.shape((name, version), shape, &is_known))
        .collect();
    let lowered: Vec<&Shape> = lowered.iter().collect();
    Some(kind.map_or_else(Vec::new, |kind| {
        mismatches(reads.whom, kind, event, &lowered)
    }))
}

fn mismatches(whom: &str, kind: &KindTypes, event: &Stored<'_>, shapes: &[&Shape]) -> Vec<Finding> {
    use super::Mismatch;
    let all = shapes.iter().flat_map(|old| kind.shape.mismatches(old));
    let found = all.map(|mismatch| {
        let what = format!("{} v{} {mismatch}", kind.name, kind.version);
        let next = kind.version.saturating_add(1);
        let raise = format!(
            "or raise `#[event(version = {next})]` and add `.change({:?}, {}, …)` to the upcasts",
            kind.name, kind.version
        );
        let (code, remedy) = match &mismatch {
            Mismatch::Required { .. } => (
                FindingCode::RequiredField,
                format!("give it a `#[serde(default)]`, {raise}"),
            ),
            Mismatch::Changed { .. } => (
                FindingCode::ChangedType,
                format!("take the change back, {raise}"),
            ),
            Mismatch::ValueRemoved { .. } => {
                (FindingCode::RemovedValue, format!("keep the name, {raise}"))
            }
        };
        event.finding(code, whom, what, remedy)
    });
    found.collect()
}

/// Can they read what the owners of these categories write now?
pub(super) fn written(
    reads: &Reads<'_>,
    categories: &[String],
    owned: &BTreeMap<&str, EventTypes>,
    report: &mut Report,
) {
    for kind in &reads.events.kinds {
        let owners = categories.iter().map(|category| {
            let owner = owned.get(category.as_str());
            (
                category,
                owner.map(|events| (events, events.kind(&kind.name))),
            )
        });
        let owners: Vec<_> = owners.collect();
        // Somebody else's program may write it.
        let writes_none = |owner: &Option<(_, Option<_>)>| matches!(owner, Some((_, None)));
        if owners.iter().all(|(_, owner)| writes_none(owner)) {
            let event = Stored {
                category: categories.first().map_or("", String::as_str),
                name: &kind.name,
                version: kind.version,
                count: 0,
            };
            report.breaks.push(event.finding(
                FindingCode::NobodyWrites,
                reads.whom,
                format!(
                    "it waits for {}, which nobody writes in {}",
                    kind.name,
                    categories.join(", ")
                ),
                "read the type that took its place, or take it out of the reader",
            ));
        }
        for (category, owner) in owners {
            let Some((owner, Some(writes))) = owner else {
                continue;
            };
            let event = Stored {
                category,
                name: &writes.name,
                version: writes.version,
                count: 0,
            };
            report
                .breaks
                .extend(behind(reads, kind, writes, &owner.downcasts, &event));
        }
    }
}

fn behind(
    reads: &Reads<'_>,
    kind: &KindTypes,
    writes: &KindTypes,
    downcasts: &Downcasts,
    event: &Stored<'_>,
) -> Vec<Finding> {
    if writes.version == kind.version {
        return mismatches(reads.whom, kind, event, &[&writes.shape]);
    }
    let is_older = reads
        .events
        .older
        .contains(&(writes.name.clone(), writes.version));
    if is_older {
        return Vec::new();
    }
    let is_read = |name: &str, version| reads.events.knows(name, version);
    let lowered = downcasts.shape((&writes.name, writes.version), &writes.shape, &is_read);
    if let Some(lowered) = lowered {
        return mismatches(reads.whom, kind, event, &[&lowered]);
    }
    vec![event.finding(
        FindingCode::ReaderBehind,
        reads.whom,
        format!(
            "it reads {} v{}, and v{} is written",
            kind.name, kind.version, writes.version
        ),
        format!(
            "let the reader's own `{0}` have version {1}, with the upcasts that lead there, or declare \
             how older ones read it: `Downcasts::none().change({0:?}, {1}, …)`",
            kind.name, writes.version
        ),
    )]
}
