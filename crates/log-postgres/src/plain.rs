//! The short way of an append: what the rule of an append asks for is worked out here, from where the
//! partitions ended the last time, and the database only has to find that they still do.
//!
//! A group of appends goes this way if each has conditions on the streams that it writes alone. The function
//! `append_at` of `schema.sql` locks the partitions, and writes all events by one statement if the
//! partitions end where they are believed to, the streams have the versions that are asked for, and
//! no id is there. Else it writes nothing, and the group goes the long way, by the function `append`,
//! which looks at each append by itself. So this way is only quicker, never right by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anabranch_log::{Append, Appended, Condition, Expect, Layout, Placed};
use anabranch_model::{Cut, PartitionId, Position, StreamId, Version};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::call::{Answer, as_count, causes_of, encoded, list};
use crate::fault::Fault;
use crate::pool::{Pool, Value};

/// So many raises of what a partition depends on are kept, so that causes a while ago need no
/// question.
const RAISES_MAX: usize = 4096;

/// What is known of a partition.
struct Known {
    end: u64,
    /// When its last event was recorded, 0 if there is none.
    last_time: u64,
    /// What its events before `since` depend on, by partition.
    before: Vec<u64>,
    since: u64,
    /// What raised that, by offset: the partition, and the count.
    raises: VecDeque<(u64, usize, u64)>,
    /// What all of its events depend on.
    depends_on: Vec<u64>,
}

impl Known {
    /// What its first `count` events depend on; `None`: that is forgotten.
    fn before(&self, count: u64) -> Option<Vec<u64>> {
        if count >= self.end {
            return Some(self.depends_on.clone());
        }
        if count < self.since {
            return None;
        }
        let mut vector = self.before.clone();
        for &(_, other, raised) in self.raises.iter().take_while(|(at, ..)| *at < count) {
            vector[other] = vector[other].max(raised);
        }
        Some(vector)
    }

    fn raise(&mut self, at: u64, other: usize, count: u64) {
        self.depends_on[other] = self.depends_on[other].max(count);
        self.raises.push_back((at, other, count));
        if self.raises.len() > RAISES_MAX
            && let Some((at, other, count)) = self.raises.pop_front()
        {
            self.before[other] = self.before[other].max(count);
            self.since = at + 1;
        }
    }
}

/// What is known of all partitions.
#[derive(Default)]
pub struct Ends(BTreeMap<u32, Known>);

/// Why a group cannot go the short way.
pub enum Not {
    /// This has to be asked for first, and may help.
    Known(BTreeSet<u32>),
    /// It has to go the long way.
    Plain,
}

/// A group of appends as it is to be written.
#[derive(Default)]
pub struct Planned<'a> {
    /// The partitions that are written to, ascending, and where each ends.
    homes: Vec<i32>,
    ends: Vec<i64>,
    /// By event. `numbers` says which append of the group it belongs to.
    event_homes: Vec<i32>,
    offsets: Vec<i64>,
    numbers: Vec<i32>,
    begins: Vec<i64>,
    lengths: Vec<i32>,
    times: Vec<i64>,
    ids: Vec<Uuid>,
    streams: Vec<&'a str>,
    types: Vec<&'a str>,
    schema_versions: Vec<i64>,
    datas: Vec<&'a [u8]>,
    metas: Vec<Option<Vec<u8>>>,
    tag_lists: Vec<Option<String>>,
    deltas: Vec<Option<String>>,
    /// Which version it has to get, if that is asked for.
    expected: Vec<Option<i64>>,
    /// What raises what a partition depends on: it, the offset, the other one and how much of it.
    raises: Vec<(PartitionId, u64, usize, u64)>,
    /// By append: what its events depend on, themselves included.
    closures: Vec<Option<Cut>>,
    least_times: Vec<u64>,
}

impl<'a> Planned<'a> {
    /// The events of an append, which is the group's so manieth, begins here and is recorded then at the
    /// earliest.
    fn put(
        &mut self,
        append: &'a Append,
        home: PartitionId,
        (number, begin, time): (usize, u64, u64),
        delta: Option<String>,
        is_causal: bool,
    ) {
        let mut asked = expected_of(append);
        let mut delta = Some(delta);
        for (offset, event) in (begin..).zip(&append.events) {
            self.event_homes.push(home.0 as i32);
            self.offsets.push(as_count(offset));
            self.numbers.push(number as i32);
            self.begins.push(as_count(begin));
            self.lengths.push(append.events.len() as i32);
            self.times.push(as_count(time));
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
            self.deltas.push(delta.take().flatten());
            self.expected.push(asked.remove(event.stream.as_str()));
        }
    }

    /// In the order of the function's parameters.
    pub fn values(&self) -> Vec<Value<'_>> {
        vec![
            (&self.homes, Type::INT4_ARRAY),
            (&self.ends, Type::INT8_ARRAY),
            (&self.event_homes, Type::INT4_ARRAY),
            (&self.offsets, Type::INT8_ARRAY),
            (&self.numbers, Type::INT4_ARRAY),
            (&self.begins, Type::INT8_ARRAY),
            (&self.lengths, Type::INT4_ARRAY),
            (&self.times, Type::INT8_ARRAY),
            (&self.ids, Type::UUID_ARRAY),
            (&self.streams, Type::TEXT_ARRAY),
            (&self.types, Type::TEXT_ARRAY),
            (&self.schema_versions, Type::INT8_ARRAY),
            (&self.datas, Type::BYTEA_ARRAY),
            (&self.metas, Type::BYTEA_ARRAY),
            (&self.tag_lists, Type::TEXT_ARRAY),
            (&self.deltas, Type::TEXT_ARRAY),
            (&self.expected, Type::INT8_ARRAY),
        ]
    }
}

/// Whether all conditions are about the versions of streams that it writes.
fn is_plain(append: &Append) -> bool {
    let writes = |stream: &StreamId| append.events.iter().any(|event| event.stream == *stream);
    let is_plain = |condition: &Condition| match condition {
        Condition::Stream(_, Expect::Any) => true,
        Condition::Stream(stream, Expect::Empty | Expect::At(_)) => writes(stream),
        Condition::Stream(_, Expect::Exists) | Condition::NoMatch { .. } => false,
    };
    let asked = |condition: &&Condition| !matches!(condition, Condition::Stream(_, Expect::Any));
    let count = append.conditions.iter().filter(asked).count();
    // Two about one stream are for who looks at each.
    append.conditions.iter().all(is_plain) && count == expected_of(append).len()
}

/// By stream, the version that its first event has to get.
fn expected_of(append: &Append) -> BTreeMap<&str, i64> {
    let asked = append
        .conditions
        .iter()
        .filter_map(|condition| match condition {
            Condition::Stream(stream, Expect::Empty) => Some((stream.as_str(), 0)),
            Condition::Stream(stream, Expect::At(version)) => {
                Some((stream.as_str(), as_count(*version).saturating_add(1)))
            }
            Condition::Stream(..) | Condition::NoMatch { .. } => None,
        });
    asked.collect()
}

fn cut_of(vector: &[u64]) -> Cut {
    let mut cut = Cut::start();
    for (partition, &count) in (0..).zip(vector) {
        cut.set(PartitionId(partition), count);
    }
    cut
}

impl Ends {
    /// How these appends, ordered by their partition, are to be written.
    pub fn plan<'a>(
        &self,
        appends: &[(PartitionId, &'a Append)],
        layout: &Layout,
    ) -> Result<Planned<'a>, Not> {
        let is_causal = !layout.is_one();
        let mut lacks = BTreeSet::new();
        for &(home, append) in appends {
            if !is_plain(append) {
                return Err(Not::Plain);
            }
            let causes = is_causal.then(|| causes_of(append));
            let behind = |(partition, count): &(PartitionId, u64)| {
                self.0.get(&partition.0).is_none_or(|it| it.end < *count)
            };
            let causes = causes.iter().flat_map(Cut::iter).filter(behind);
            lacks.extend(causes.map(|(partition, _)| partition.0));
            if !self.0.contains_key(&home.0) {
                lacks.insert(home.0);
            }
        }
        if !lacks.is_empty() {
            return Err(Not::Known(lacks));
        }
        let mut plan = Planned::default();
        let mut at: Option<(PartitionId, u64, u64, Vec<u64>)> = None;
        for (number, &(home, append)) in appends.iter().enumerate() {
            let (end, last_time, depends_on) = match at.take() {
                Some((before, end, time, vector)) if before == home => (end, time, vector),
                _ => {
                    let known = self.0.get(&home.0).ok_or(Not::Plain)?;
                    plan.homes.push(home.0 as i32);
                    plan.ends.push(as_count(known.end));
                    (known.end, known.last_time, known.depends_on.clone())
                }
            };
            let (vector, time) = match is_causal {
                true => self.joined(home, append, &depends_on, last_time + 1)?,
                false => (depends_on.clone(), last_time + 1),
            };
            let mut delta = Vec::new();
            for (other, (&now, &before)) in vector.iter().zip(&depends_on).enumerate() {
                if now > before && other != home.0 as usize {
                    delta.push(format!("{other},{now}"));
                    plan.raises.push((home, end, other, now));
                }
            }
            let delta = (!delta.is_empty()).then(|| format!("{{{}}}", delta.join(",")));
            plan.put(append, home, (number, end, time), delta, is_causal);
            let end = end + append.events.len() as u64;
            let last = Position {
                partition: home,
                offset: end - 1,
            };
            let closure = is_causal.then(|| {
                let mut closure = cut_of(&vector);
                closure.set(home, 0);
                closure.join(&causes_of(append));
                closure.join(&Cut::including(last));
                closure
            });
            plan.closures.push(closure);
            plan.least_times.push(time);
            at = Some((home, end, time, vector));
        }
        Ok(plan)
    }

    /// What the partition depends on with this append, and when that is recorded at the earliest.
    fn joined(
        &self,
        home: PartitionId,
        append: &Append,
        depends_on: &[u64],
        time: u64,
    ) -> Result<(Vec<u64>, u64), Not> {
        let (mut joined, mut time) = (depends_on.to_vec(), time);
        for (partition, count) in causes_of(append).iter() {
            let q = partition.0 as usize;
            if partition == home {
                // Beyond its end is what is not there.
                continue;
            }
            if q >= joined.len() {
                return Err(Not::Plain);
            }
            if count > depends_on[q] {
                let known = self.0.get(&partition.0).ok_or(Not::Plain)?;
                let brings = known.before(count).ok_or(Not::Plain)?;
                for (joined, brings) in joined.iter_mut().zip(brings) {
                    *joined = (*joined).max(brings);
                }
            }
            joined[q] = joined[q].max(count);
        }
        for (q, (&now, &before)) in joined.iter().zip(depends_on).enumerate() {
            if now > before && q != home.0 as usize {
                // That of its last event is no earlier than that of the cause.
                let known = self.0.get(&(q as u32)).filter(|known| known.end >= now);
                time = time.max(
                    known
                        .ok_or_else(|| Not::Known([q as u32].into()))?
                        .last_time
                        + 1,
                );
            }
        }
        Ok((joined, time))
    }

    /// Takes in that a group was written; gives what is to be answered. `None`: what the database said
    /// makes no sense.
    pub fn written(&mut self, plan: &Planned<'_>, said: &[Row]) -> Option<Vec<Answer>> {
        let row = said.first()?;
        let now: i64 = row.try_get(1).ok()?;
        let versions: Vec<i64> = row.try_get(2).ok()?;
        if versions.len() != plan.offsets.len() {
            return None;
        }
        let mut places: Vec<Vec<Placed>> = vec![Vec::new(); plan.closures.len()];
        for (event, version) in versions.into_iter().enumerate() {
            let home = plan.event_homes[event];
            let offset = plan.offsets[event] as u64;
            let number = plan.numbers[event] as usize;
            let position = Position {
                partition: PartitionId(home as u32),
                offset,
            };
            let version = version as Version;
            places[number].push(Placed { position, version });
            let known = self.0.get_mut(&(home as u32))?;
            known.end = offset + 1;
            // As the function reckons.
            known.last_time = plan.least_times[number].max(now as u64 + number as u64);
        }
        for &(home, at, other, count) in &plan.raises {
            self.0.get_mut(&home.0)?.raise(at, other, count);
        }
        let answers = places.into_iter().zip(&plan.closures);
        let answers = answers.map(|(places, closure)| {
            let mut appended = Appended::new(places, false);
            if let Some(closure) = closure {
                appended.closure = closure.clone();
            }
            Ok(appended)
        });
        Some(answers.collect())
    }

    /// Asks how far these partitions go, and what they depend on; gives how far they go.
    pub async fn ask(
        &mut self,
        pool: &Pool,
        layout: &Layout,
        wanted: &BTreeSet<u32>,
    ) -> Result<Vec<(PartitionId, u64)>, Fault> {
        let schema = pool.schema();
        let sql = format!(
            r#"SELECT p.partition, x.ending, x.recorded_at, (
                SELECT array_agg(coalesce((SELECT c.count FROM {schema}.causes c
                        WHERE c.partition = p.partition AND c.other = o.partition
                        ORDER BY c."offset" DESC LIMIT 1), 0) ORDER BY o.partition)
                    FROM {schema}.partitions o)
            FROM {schema}.partitions p LEFT JOIN LATERAL (
                SELECT e."offset" + 1 AS ending, e.recorded_at FROM {schema}.events e
                WHERE e.partition = p.partition ORDER BY e."offset" DESC LIMIT 1) x ON true
            WHERE p.partition = ANY ($1)"#
        );
        let partitions: Vec<i32> = wanted.iter().map(|&it| it as i32).collect();
        let rows = pool.query(&sql, &[(&partitions, Type::INT4_ARRAY)]).await?;
        let mut found = Vec::new();
        for row in rows {
            let said = |error: tokio_postgres::Error| Fault::of(&error);
            let partition: i32 = row.try_get(0).map_err(said)?;
            let end: Option<i64> = row.try_get(1).map_err(said)?;
            let time: Option<i64> = row.try_get(2).map_err(said)?;
            let vector: Vec<i64> = row.try_get(3).map_err(said)?;
            let mut vector: Vec<u64> = vector.into_iter().map(|it| it as u64).collect();
            vector.resize(layout.partitions() as usize, 0);
            let end = end.unwrap_or(0) as u64;
            let known = Known {
                end,
                last_time: time.unwrap_or(0) as u64,
                before: vector.clone(),
                since: end,
                raises: VecDeque::new(),
                depends_on: vector,
            };
            self.0.insert(partition as u32, known);
            found.push((PartitionId(partition as u32), end));
        }
        Ok(found)
    }

    /// These have to be asked for before they are written to again.
    pub fn forget(&mut self, homes: impl Iterator<Item = PartitionId>) {
        for home in homes {
            self.0.remove(&home.0);
        }
    }
}
