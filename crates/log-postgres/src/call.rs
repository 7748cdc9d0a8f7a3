//! What is said to the function `append` of `schema.sql`, and what it answers.

use std::collections::BTreeMap;

use anabranch_log::{Append, AppendError, Appended, Condition, Expect, Layout, Placed, Rejection};
use anabranch_model::{
    Cut, EventId, Meta, NewEvent, PartitionId, Position, Query, StreamId, Version,
    record::encode_meta,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::fault::Fault;
use crate::pool::Value;

/// What became of an append.
pub type Answer = Result<Appended, AppendError>;

/// What of an append stands in one partition.
pub struct Part {
    pub home: PartitionId,
    /// Which events of the append.
    pub numbers: Vec<usize>,
}

/// The parts of an append, by ascending partition: one as a rule.
pub fn parts_of(append: &Append, layout: &Layout) -> Vec<Part> {
    let mut parts: BTreeMap<PartitionId, Vec<usize>> = BTreeMap::new();
    for (number, event) in append.events.iter().enumerate() {
        let home = layout.partition_of(&event.stream);
        parts.entry(home).or_default().push(number);
    }
    let part = |(home, numbers)| Part { home, numbers };
    parts.into_iter().map(part).collect()
}

/// The arguments of one call, by column.
#[derive(Default)]
pub struct Call<'a> {
    locks: Vec<i32>,
    homes: Vec<i32>,
    lasts: Vec<i32>,
    ids: Vec<Uuid>,
    streams: Vec<&'a str>,
    types: Vec<&'a str>,
    schema_versions: Vec<i64>,
    datas: Vec<&'a [u8]>,
    metas: Vec<Option<Vec<u8>>>,
    tag_lists: Vec<Option<String>>,
    condition_lasts: Vec<i32>,
    kinds: Vec<i32>,
    about: Vec<String>,
    places: Vec<i32>,
    counts: Vec<i64>,
    cause_lasts: Vec<i32>,
    cause_partitions: Vec<i32>,
    cause_counts: Vec<i64>,
    /// Only of an append to several partitions.
    numbers: Vec<i32>,
    /// Only of appends that are copied.
    times: Vec<i64>,
}

impl<'a> Call<'a> {
    /// Of these appends, each to a partition.
    pub fn new(appends: &[(PartitionId, &'a Append)], layout: &Layout) -> Self {
        let mut call = Self::default();
        let is_causal = !layout.is_one();
        for &(home, append) in appends {
            call.homes.push(home.0 as i32);
            call.put_events(append.events.iter(), is_causal);
            for (_, check) in checks(append, layout) {
                call.put_check(check);
            }
            call.condition_lasts.push(call.kinds.len() as i32);
            if is_causal {
                for (partition, count) in causes_of(append).iter() {
                    call.cause_partitions.push(partition.0 as i32);
                    call.cause_counts.push(as_count(count));
                }
                call.cause_lasts.push(call.cause_counts.len() as i32);
            }
        }
        call.lock();
        call
    }

    /// Of appends that were recorded elsewhere at these times.
    pub fn recorded(
        appends: &[(PartitionId, &'a Append)],
        times: Vec<i64>,
        layout: &Layout,
    ) -> Self {
        let call = Self::new(appends, layout);
        Self { times, ..call }
    }

    /// Of one append to several partitions, whose parts are `parts`.
    pub fn together(append: &'a Append, parts: &[Part], layout: &Layout) -> Self {
        let mut call = Self::default();
        for (number, part) in parts.iter().enumerate() {
            call.homes.push(part.home.0 as i32);
            call.put_events(
                part.numbers.iter().map(|&event| &append.events[event]),
                true,
            );
            let numbers = part.numbers.iter().map(|&number| number as i32);
            call.numbers.extend(numbers);
            // They are those of the whole append.
            if number == 0 {
                for (_, check) in checks(append, layout) {
                    call.put_check(check);
                }
            }
            call.condition_lasts.push(call.kinds.len() as i32);
            for (partition, count) in causes_of(append).iter() {
                call.cause_partitions.push(partition.0 as i32);
                call.cause_counts.push(as_count(count));
            }
            call.cause_lasts.push(call.cause_counts.len() as i32);
        }
        call.lock();
        call
    }

    fn lock(&mut self) {
        self.locks = self.homes.iter().chain(&self.places).copied().collect();
        self.locks.sort_unstable();
        self.locks.dedup();
    }

    fn put_events(&mut self, events: impl Iterator<Item = &'a NewEvent>, is_causal: bool) {
        for event in events {
            self.ids.push(Uuid::from_u128(event.id.as_u128()));
            self.streams.push(event.stream.as_str());
            self.types.push(event.event_type.as_str());
            self.schema_versions.push(i64::from(event.schema_version));
            self.datas.push(&event.data);
            let meta = event.meta.as_deref();
            self.metas.push(meta.and_then(|it| encoded(it, is_causal)));
            let tags = meta.map(|meta| &meta.tags).filter(|tags| !tags.is_empty());
            self.tag_lists
                .push(tags.map(|tags| list(tags.iter().map(String::as_str))));
        }
        self.lasts.push(self.ids.len() as i32);
    }

    fn put_check(&mut self, check: Check) {
        self.kinds.push(check.kind);
        self.about.push(check.about);
        self.places.push(check.partition.0 as i32);
        self.counts.push(as_count(check.count));
    }

    /// In the order of the function's parameters.
    pub fn values(&self) -> Vec<Value<'_>> {
        let mut values: Vec<Value<'_>> = vec![
            (&self.locks, Type::INT4_ARRAY),
            (&self.homes, Type::INT4_ARRAY),
            (&self.lasts, Type::INT4_ARRAY),
            (&self.ids, Type::UUID_ARRAY),
            (&self.streams, Type::TEXT_ARRAY),
            (&self.types, Type::TEXT_ARRAY),
            (&self.schema_versions, Type::INT8_ARRAY),
            (&self.datas, Type::BYTEA_ARRAY),
            (&self.metas, Type::BYTEA_ARRAY),
            (&self.tag_lists, Type::TEXT_ARRAY),
            (&self.condition_lasts, Type::INT4_ARRAY),
            (&self.kinds, Type::INT4_ARRAY),
            (&self.about, Type::TEXT_ARRAY),
            (&self.places, Type::INT4_ARRAY),
            (&self.counts, Type::INT8_ARRAY),
            (&self.cause_lasts, Type::INT4_ARRAY),
            (&self.cause_partitions, Type::INT4_ARRAY),
            (&self.cause_counts, Type::INT8_ARRAY),
        ];
        if !self.numbers.is_empty() {
            values.push((&self.numbers, Type::INT4_ARRAY));
        }
        if !self.times.is_empty() {
            // None of them has parts elsewhere, as far as the function need know.
            values.push((&None::<Vec<i64>>, Type::INT8_ARRAY));
            values.push((&self.times, Type::INT8_ARRAY));
        }
        values
    }
}

/// A part of a condition that looks at one partition, as the function takes it.
struct Check {
    kind: i32,
    about: String,
    partition: PartitionId,
    count: u64,
}

/// What the conditions of an append check, each with the number of its condition.
fn checks(append: &Append, layout: &Layout) -> Vec<(usize, Check)> {
    let mut checks = Vec::new();
    for (number, condition) in append.conditions.iter().enumerate() {
        let mut put = |kind, about, partition, count| {
            let check = Check {
                kind,
                about,
                partition,
                count,
            };
            checks.push((number, check));
        };
        match condition {
            Condition::Stream(stream, expect) => {
                let (kind, count) = match expect {
                    // It holds, whatever there is.
                    Expect::Any => continue,
                    Expect::Empty => (1, 0),
                    Expect::Exists => (2, 0),
                    Expect::At(version) => (3, *version),
                };
                let about = stream.as_str().to_owned();
                put(kind, about, layout.partition_of(stream), count);
            }
            Condition::NoMatch { query, after } => {
                for (partition, count) in after.iter() {
                    put(5, String::new(), partition, count);
                }
                let items = items_of(query);
                for partition in layout.ids() {
                    put(4, items.clone(), partition, after.get(partition));
                }
            }
        }
    }
    checks
}

/// What the events of an append are said to depend on.
pub fn causes_of(append: &Append) -> Cut {
    let mut causes = Cut::start();
    for event in &append.events {
        if let Some(meta) = &event.meta {
            causes.join(&meta.causes);
        }
    }
    causes
}

/// Metadata as it is kept: of several partitions without the causes, which the database finds
/// out. `None`: it says nothing.
pub fn encoded(meta: &Meta, is_causal: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if is_causal && meta.causes != Cut::start() {
        let mut meta = meta.clone();
        meta.causes = Cut::start();
        encode_meta(&meta, &mut bytes);
    } else {
        encode_meta(meta, &mut bytes);
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// Texts as one, each with U+001F before it. None of them holds a control character.
pub fn list<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    texts.into_iter().fold(String::new(), |mut all, text| {
        all.push('\u{1f}');
        all.push_str(text);
        all
    })
}

/// The items of a query as one text. One that asks for what no tag can be called matches nothing.
fn items_of(query: &Query) -> String {
    let mut all = String::new();
    for item in &query.items {
        if item.tags.iter().any(|tag| tag.contains(char::is_control)) {
            continue;
        }
        all.push('\u{1d}');
        all.push_str(&list(item.types.iter().map(|it| it.as_str())));
        all.push('\u{1e}');
        all.push_str(&list(item.tags.iter().map(String::as_str)));
    }
    all
}

/// As the database counts. More than that has no log.
pub fn as_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn cut_of(counts: &[i64]) -> Cut {
    let mut cut = Cut::start();
    for (partition, &count) in counts.iter().enumerate() {
        cut.set(PartitionId(partition as u32), count as u64);
    }
    cut
}

/// What the function said of each append.
pub fn answers_of(
    appends: &[(PartitionId, &Append)],
    rows: &[Row],
    layout: &Layout,
) -> Result<Vec<Answer>, String> {
    if rows.len() != appends.len() {
        return Err(format!(
            "{} appends were answered by {} rows",
            appends.len(),
            rows.len()
        ));
    }
    let answers = appends.iter().zip(rows).map(|(&(home, append), row)| {
        let said = Said::of(row).map_err(|error| Fault::of(&error).to_string())?;
        said.answer(home, append, layout)
            .ok_or_else(|| "the answer to an append is not understood".to_owned())
    });
    answers.collect()
}

/// What the function said of an append to several partitions.
pub fn answer_together(
    append: &Append,
    parts: &[Part],
    rows: &[Row],
    layout: &Layout,
) -> Result<Answer, String> {
    let not_understood = || "the answer to an append is not understood".to_owned();
    let failed = |error: tokio_postgres::Error| Fault::of(&error).to_string();
    let mut places: Vec<Option<Placed>> = vec![None; append.events.len()];
    let (mut closure, mut repeated) = (causes_of(append), false);
    for row in rows {
        let said = Said::of(row).map_err(failed)?;
        let number: i32 = row.try_get(6).map_err(failed)?;
        let part = parts.get(number as usize).ok_or_else(not_understood)?;
        if said.outcome > 1 {
            let answer = said.answer(part.home, append, layout);
            return answer.ok_or_else(not_understood);
        }
        repeated |= said.outcome == 1;
        closure.join(&cut_of(&said.closure));
        let found = said.offsets.iter().zip(&said.versions);
        for (&event, (&offset, &version)) in part.numbers.iter().zip(found) {
            let position = Position {
                partition: part.home,
                offset: offset as u64,
            };
            closure.join(&Cut::including(position));
            places[event] = Some(Placed {
                position,
                version: version as Version,
            });
        }
    }
    let places: Vec<_> = places.into_iter().flatten().collect();
    if places.len() != append.events.len() {
        return Err(not_understood());
    }
    let mut appended = Appended::new(places, repeated);
    appended.closure = closure;
    Ok(Ok(appended))
}

/// A row of the answer.
struct Said {
    outcome: i32,
    which: usize,
    at: Option<i64>,
    offsets: Vec<i64>,
    versions: Vec<i64>,
    closure: Vec<i64>,
}

impl Said {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            outcome: row.try_get(0)?,
            which: row.try_get::<_, Option<i32>>(1)?.unwrap_or(0) as usize,
            at: row.try_get(2)?,
            offsets: row.try_get::<_, Option<_>>(3)?.unwrap_or_default(),
            versions: row.try_get::<_, Option<_>>(4)?.unwrap_or_default(),
            closure: row.try_get::<_, Option<_>>(5)?.unwrap_or_default(),
        })
    }

    /// `None`: it makes no sense.
    fn answer(&self, home: PartitionId, append: &Append, layout: &Layout) -> Option<Answer> {
        let place = |offset: i64| Position {
            partition: home,
            offset: offset as u64,
        };
        let id = || -> Option<EventId> { Some(append.events.get(self.which)?.id) };
        let number = || Some(checks(append, layout).get(self.which)?.0);
        let position = place(self.at.unwrap_or_default());
        let refused = |rejection: Rejection| Some(Err(AppendError::Rejected(rejection)));
        match self.outcome {
            0 | 1 => {
                let is_whole = self.offsets.len() == append.events.len()
                    && self.versions.len() == append.events.len();
                is_whole.then(|| Ok(self.appended(home, append, !layout.is_one())))
            }
            2 => refused(Rejection::IdTaken {
                id: id()?,
                position,
            }),
            3 => refused(Rejection::PartlyWritten {
                id: id()?,
                position,
            }),
            4 => {
                let (stream, expected): (&StreamId, Expect) =
                    match append.conditions.get(number()?)? {
                        Condition::Stream(stream, expected) => (stream, *expected),
                        Condition::NoMatch { .. } => return None,
                    };
                Some(Err(AppendError::Conflict {
                    stream: stream.clone(),
                    expected,
                    actual: self.at.map(|version| version as Version),
                }))
            }
            5 => {
                let checks = checks(append, layout);
                let partition = checks.get(self.which)?.1.partition;
                let position = Position {
                    partition,
                    ..position
                };
                Some(Err(AppendError::Matched { position }))
            }
            6 => match append.conditions.get(number()?)? {
                Condition::NoMatch { after, .. } => refused(Rejection::CutBeyondHead {
                    after: after.clone(),
                    head: cut_of(&self.closure),
                }),
                Condition::Stream(..) => None,
            },
            7 => {
                let head = cut_of(&self.closure);
                let mut causes = Cut::start();
                for (partition, count) in causes_of(append).iter() {
                    if count > head.get(partition) {
                        causes.set(partition, count);
                    }
                }
                refused(Rejection::FutureCause { causes, head })
            }
            _ => None,
        }
    }

    fn appended(&self, home: PartitionId, append: &Append, is_causal: bool) -> Appended {
        let places = self.offsets.iter().zip(&self.versions);
        let places = places.map(|(&offset, &version)| Placed {
            position: Position {
                partition: home,
                offset: offset as u64,
            },
            version: version as Version,
        });
        let mut appended = Appended::new(places.collect(), self.outcome == 1);
        if is_causal {
            let mut closure = cut_of(&self.closure);
            closure.set(home, 0);
            closure.join(&causes_of(append));
            closure.join(&appended.cut());
            appended.closure = closure;
        }
        appended
    }
}
