//! The service under test: sources, the process that copies, targets, and the views.

use std::collections::BTreeMap;

use anabranch_domain::{
    Correlate, Decide, Entity, Event, EventRef, HandleError, Input, Process, Query, Reaction,
    Rejection, View,
};
use anabranch_view_postgres::{Postgres, tokio_postgres};
use anabranch_view_sqlite::{Sqlite, rusqlite};
use serde::{Deserialize, Serialize};

/// Records numbers, several at once.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Source {
    next: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum SourceCommand {
    /// Records `count` numbers, the first of which is `first`.
    Emit { first: u64, count: u64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub enum SourceEvent {
    /// A number; `last` in the batch that recorded it.
    Emitted { number: u64, last: bool },
}

impl Entity for Source {
    const CATEGORY: &'static str = "source";
    type Command = SourceCommand;
    type Event = SourceEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &SourceCommand, _: &Decide) -> Result<Vec<SourceEvent>, Rejection> {
        let SourceCommand::Emit { first, count } = *command;
        if first != self.next {
            let text = format!("{first} was sent and {} comes next", self.next);
            return Err(Rejection::new("out-of-order", text));
        }
        let number = |i| SourceEvent::Emitted {
            number: first + i,
            last: i + 1 == count,
        };
        Ok((0..count).map(number).collect())
    }

    fn evolve(&mut self, SourceEvent::Emitted { number, .. }: &SourceEvent) {
        self.next = number + 1;
    }
}

/// Records whatever number it gets: that each comes once and in order is for others to see to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Target;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum TargetCommand {
    Take { number: u64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
pub enum TargetEvent {
    Taken { number: u64 },
}

impl Entity for Target {
    const CATEGORY: &'static str = "target";
    type Command = TargetCommand;
    type Event = TargetEvent;
    type Rejection = Rejection;

    fn decide(&self, command: &TargetCommand, _: &Decide) -> Result<Vec<TargetEvent>, Rejection> {
        let TargetCommand::Take { number } = *command;
        Ok(vec![TargetEvent::Taken { number }])
    }

    fn evolve(&mut self, _: &TargetEvent) {}
}

/// Sends each number of a source on to the target of the same key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Copier {
    consumed: u64,
}

impl Process for Copier {
    const NAME: &'static str = "copier";
    const CATEGORIES: &'static [&'static str] = &["source"];
    type Event = SourceEvent;

    fn correlate(_: &SourceEvent, about: &EventRef<'_>) -> Correlate {
        Correlate::Start(about.stream.trim_start_matches("source/").to_owned())
    }

    fn decide(&self, input: &Input<SourceEvent>, cx: &Decide) -> Reaction {
        match input {
            Input::Event(SourceEvent::Emitted { number, .. }, _) => {
                let take = TargetCommand::Take { number: *number };
                Reaction::none().send::<Target>(cx.key(), &take)
            }
            _ => Reaction::none(),
        }
    }

    fn evolve(&mut self, input: &Input<SourceEvent>) {
        self.consumed += u64::from(matches!(input, Input::Event(..)));
    }
}

/// What the views consume.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
pub enum Seen {
    Emitted { number: u64, last: bool },
    Taken { number: u64 },
}

/// What a view has seen of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Row {
    /// The number that has to come next, which is also how many have come.
    pub next: i64,
    /// How many came that were not the next.
    pub wrong: i64,
    /// Whether the last one was in the midst of its batch.
    pub torn: bool,
}

impl Row {
    fn see(&mut self, seen: &Seen) {
        let (number, last) = match *seen {
            Seen::Emitted { number, last } => (number, last),
            Seen::Taken { number } => (number, true),
        };
        if number as i64 == self.next {
            self.next += 1;
        } else {
            self.wrong += 1;
        }
        self.torn = !last;
    }
}

/// Every stream's row.
pub type Rows = BTreeMap<String, Row>;

/// The view in memory.
pub struct InMemory;

impl View for InMemory {
    const NAME: &'static str = "in-memory";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["source", "target"];
    type Event = Seen;
    type Store = Rows;

    fn handle(rows: &mut Rows, seen: &Seen, about: &EventRef<'_>) -> Result<(), HandleError> {
        rows.entry(about.stream.to_owned()).or_default().see(seen);
        Ok(())
    }
}

/// The view in SQLite.
pub struct InSqlite;

impl View for InSqlite {
    const NAME: &'static str = "in-sqlite";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["source", "target"];
    type Event = Seen;
    type Store = Sqlite;

    fn set_up(store: &mut Sqlite) -> Result<(), HandleError> {
        store.run(
            "CREATE TABLE seen (stream TEXT PRIMARY KEY, next INTEGER NOT NULL,
             wrong INTEGER NOT NULL, torn INTEGER NOT NULL) WITHOUT ROWID",
        )
    }

    fn handle(store: &mut Sqlite, seen: &Seen, about: &EventRef<'_>) -> Result<(), HandleError> {
        let select = "SELECT next, wrong, torn FROM seen WHERE stream = ?1";
        let mut row = store.one(select, [about.stream], read)?.unwrap_or_default();
        row.see(seen);
        let write = "INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3, ?4)";
        let Row { next, wrong, torn } = row;
        store.execute(write, rusqlite::params![about.stream, next, wrong, torn])?;
        Ok(())
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        next: row.get(0)?,
        wrong: row.get(1)?,
        torn: row.get(2)?,
    })
}

/// Everything that the view in memory shows.
#[derive(Debug, Serialize, Deserialize)]
pub struct AllInMemory;

impl Query for AllInMemory {
    type View = InMemory;
    type Answer = Rows;
    const NAME: &'static str = "all";

    fn answer(&self, rows: &Rows) -> Result<Rows, HandleError> {
        Ok(rows.clone())
    }
}

/// Everything that the view in SQLite shows.
#[derive(Debug, Serialize, Deserialize)]
pub struct AllInSqlite;

impl Query for AllInSqlite {
    type View = InSqlite;
    type Answer = Rows;
    const NAME: &'static str = "all";

    fn answer(&self, store: &Sqlite) -> Result<Rows, HandleError> {
        let select = "SELECT next, wrong, torn, stream FROM seen";
        let rows = store.all(select, [], |row| Ok((row.get(3)?, read(row)?)))?;
        Ok(rows.into_iter().collect())
    }
}

/// The view in PostgreSQL.
pub struct InPostgres;

impl View for InPostgres {
    const NAME: &'static str = "in-postgres";
    const VERSION: u32 = 1;
    const CATEGORIES: &'static [&'static str] = &["source", "target"];
    type Event = Seen;
    type Store = Postgres;

    fn set_up(store: &mut Postgres) -> Result<(), HandleError> {
        store.run(
            "CREATE TABLE seen (stream text PRIMARY KEY, next bigint NOT NULL,
             wrong bigint NOT NULL, torn boolean NOT NULL)",
        )
    }

    fn handle(store: &mut Postgres, seen: &Seen, about: &EventRef<'_>) -> Result<(), HandleError> {
        let select = "SELECT next, wrong, torn FROM seen WHERE stream = $1";
        let row = store.one(select, &[&about.stream], read_postgres)?;
        let mut row = row.unwrap_or_default();
        row.see(seen);
        let write = "INSERT INTO seen VALUES ($1, $2, $3, $4)
            ON CONFLICT (stream) DO UPDATE SET next = $2, wrong = $3, torn = $4";
        let Row { next, wrong, torn } = row;
        store.execute(write, &[&about.stream, &next, &wrong, &torn])
    }
}

fn read_postgres(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    Ok(Row {
        next: row.try_get(0)?,
        wrong: row.try_get(1)?,
        torn: row.try_get(2)?,
    })
}

/// Everything that the view in PostgreSQL shows.
#[derive(Debug, Serialize, Deserialize)]
pub struct AllInPostgres;

impl Query for AllInPostgres {
    type View = InPostgres;
    type Answer = Rows;
    const NAME: &'static str = "all";

    fn answer(&self, store: &Postgres) -> Result<Rows, HandleError> {
        let select = "SELECT next, wrong, torn, stream FROM seen";
        let rows = store.all(select, &[], |row| {
            Ok((row.try_get(3)?, read_postgres(row)?))
        })?;
        Ok(rows.into_iter().collect())
    }
}
