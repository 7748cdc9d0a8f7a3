//! Reads: each is a task that asks for one chunk after another, and waits while its reader does.

use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_log::{
    BatchSource, Dependency, EventStream, Order, ReadError, ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventBatch, Filter, PartitionId, StreamId};
use tokio::runtime::Handle;
use tokio::sync::OwnedRwLockReadGuard;
use tokio::sync::{mpsc, watch};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::call::list;
use crate::fault::Fault;
use crate::heads::{Heads, Known};
use crate::holds::Holds;
use crate::pool::{Pool, Value};
use crate::rows::{COLUMNS, Stored, block, events};

/// How many chunks wait for a slow reader.
const CHUNKS_MAX: usize = 1;
/// The most events of a chunk, and about how many bytes. An append stays whole.
const CHUNK_EVENTS: i64 = 1_000;
const CHUNK_BYTES: i64 = 512 << 10;

pub type Item = Result<EventBatch, ReadError>;

/// What the reader takes from.
pub struct Given(pub mpsc::Receiver<Option<Item>>);

impl BatchSource for Given {
    fn poll_next_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.poll_recv(cx).map(|item| match item {
            Some(item) => item,
            // The thread ends with the log.
            None => Some(Err(ReadError::Closed)),
        })
    }
}

/// Why a read ends before its end.
pub enum Ended {
    Failed(ReadError),
    /// The reader has gone.
    Unheard,
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault.of_read())
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

/// Where a task puts what it has read.
pub type To = mpsc::Sender<Option<Item>>;

pub async fn give(to: &To, batch: EventBatch) -> Result<(), Ended> {
    let given = to.send(Some(Ok(batch))).await;
    given.map_err(|_| Ended::Unheard)
}

/// A stream of what `task` gives.
pub fn stream<F>(handle: &Handle, task: impl FnOnce(To) -> F) -> EventStream
where
    F: Future<Output = Result<(), Ended>> + Send + 'static,
{
    let (to, given) = mpsc::channel(CHUNKS_MAX);
    let work = task(to.clone());
    handle.spawn(async move {
        let ended = tokio::select! {
            ended = work => ended,
            () = to.closed() => return,
        };
        let last = match ended {
            Ok(()) => None,
            Err(Ended::Failed(error)) => Some(Err(error)),
            Err(Ended::Unheard) => return,
        };
        // Nobody may be there any more to hear it.
        drop(to.send(last).await);
    });
    EventStream::new(Given(given))
}

/// Refuses a cut beyond the head.
pub fn check_cut(from: &Cut, head: &Cut) -> Result<(), ReadError> {
    match head.covers(from) {
        true => Ok(()),
        false => Err(ReadError::CutBeyondHead {
            from: from.clone(),
            head: head.clone(),
        }),
    }
}

/// While it is there, what is appended later waits.
pub type Begins = Option<OwnedRwLockReadGuard<()>>;

/// Reads the only partition.
pub async fn all(
    (pool, heads): (Arc<Pool>, Arc<Heads>),
    from: Cut,
    filter: Filter,
    mode: ReadMode,
    begins: Begins,
    to: To,
) -> Result<(), Ended> {
    let head = heads.ask(&pool).await?;
    drop(begins);
    check_cut(&from, &head)?;
    heads.reach(&head);
    let partition = PartitionId(0);
    let mut lane = Lane::new(pool, partition, from.get(partition), filter);
    match mode {
        ReadMode::Backward => lane.backward(&to).await,
        ReadMode::ToHead => lane.forward(head.get(partition), &to).await,
        ReadMode::Follow => lane.follow(heads.follow(), &to).await,
    }
}

/// A read of one partition.
pub struct Lane {
    pool: Arc<Pool>,
    partition: PartitionId,
    at: u64,
    /// The lists of the filter, each as one text.
    lists: [String; 4],
    /// What the database does not look at: the filter has headers.
    rest: Option<Arc<Filter>>,
    /// What it does look at.
    condition: String,
    /// Who is told what the events depend on in other partitions, before they are given.
    learn: Option<Learn>,
    pub holds: Option<Arc<dyn Holds>>,
}

type Learn = Box<dyn Fn(Vec<Dependency>) + Send + Sync>;

impl Lane {
    pub fn new(pool: Arc<Pool>, partition: PartitionId, at: u64, filter: Filter) -> Self {
        let lists = [
            list(filter.categories.iter().map(String::as_str)),
            list(filter.types.iter().map(|it| it.as_str())),
            list(filter.streams.iter().map(StreamId::as_str)),
            list(filter.tags.iter().map(String::as_str)),
        ];
        let tests = [
            "category = ANY (",
            "event_type = ANY (",
            "stream = ANY (",
            "tags @> (",
        ];
        let mut condition = r#"partition = $5 AND "offset" >= $1 AND "offset" < $2"#.to_owned();
        for (index, (list, test)) in lists.iter().zip(tests).enumerate() {
            if !list.is_empty() {
                let parameter = 6 + index;
                condition +=
                    &format!(" AND {test}(string_to_array(${parameter}, U&'\\001F'))[2:])");
            }
        }
        let rest = (!filter.headers.is_empty()).then(|| Arc::new(filter));
        Self {
            pool,
            partition,
            at,
            lists,
            rest,
            condition,
            learn: None,
            holds: None,
        }
    }

    /// Has `learn` told what the events depend on in other partitions, before they are given.
    pub fn learn(&mut self, learn: impl Fn(Vec<Dependency>) + Send + Sync + 'static) {
        self.learn = Some(Box::new(learn));
    }

    /// Tells what the events before `end` depend on, those too that the filter hides.
    async fn tell(&self, end: u64) -> Result<(), Fault> {
        let Some(learn) = &self.learn else {
            return Ok(());
        };
        let sql = format!(
            r#"SELECT "offset", other, count FROM {}.causes
            WHERE partition + 0 = $1 AND "offset" >= $2 AND "offset" < $3 ORDER BY "offset""#,
            self.pool.schema()
        );
        let partition = self.partition.0 as i32;
        let (from, to) = (self.at as i64, end as i64);
        let values: [Value<'_>; 3] = [
            (&partition, Type::INT4),
            (&from, Type::INT8),
            (&to, Type::INT8),
        ];
        let mut news = Vec::new();
        for row in self.pool.query(&sql, &values).await? {
            let said = |error: tokio_postgres::Error| Fault::of(&error);
            news.push(Dependency {
                offset: row.try_get::<_, i64>(0).map_err(said)? as u64,
                partition: PartitionId(row.try_get::<_, i32>(1).map_err(said)? as u32),
                count: row.try_get::<_, i64>(2).map_err(said)? as u64,
            });
        }
        learn(news);
        Ok(())
    }

    /// Rows with offsets in `from..to`, a chunk of them; whether there may be more.
    async fn rows(
        &self,
        range: (u64, u64),
        order: Order,
        room: (i64, i64),
    ) -> Result<(Vec<Row>, bool), Fault> {
        let partition = self.partition.0 as i32;
        let mut more: Vec<Value<'_>> = vec![(&partition, Type::INT4)];
        more.extend(
            self.lists
                .iter()
                .map(|it| -> Value<'_> { (it, Type::TEXT) }),
        );
        chunk(
            &self.pool,
            (r#""offset""#, &self.condition),
            order,
            (range, room),
            &more,
        )
        .await
    }

    /// Gives what stands before `until`, which is where an append ends.
    pub async fn forward(&mut self, until: u64, to: &To) -> Result<(), Ended> {
        while self.at < until {
            let allowed = until.min(self.allowed().await);
            let batch = self.next(allowed).await?;
            if let Some(holds) = &self.holds {
                holds.took(self.partition, self.at);
            }
            give(to, batch).await?;
        }
        Ok(())
    }

    /// Waits until something more may be given, and says up to where.
    async fn allowed(&self) -> u64 {
        let Some(holds) = &self.holds else {
            return u64::MAX;
        };
        std::future::poll_fn(|cx| match holds.limit(self.partition, cx) {
            limit if limit > self.at => Poll::Ready(limit),
            _ => Poll::Pending,
        })
        .await
    }

    /// Gives what there is and what comes.
    pub async fn follow(
        &mut self,
        mut known: watch::Receiver<Known>,
        to: &To,
    ) -> Result<(), Ended> {
        loop {
            let end = {
                let known = known.borrow_and_update();
                known.check()?;
                known.ends[self.partition.0 as usize]
            };
            if end > self.at {
                self.forward(end, to).await?;
            } else if known.changed().await.is_err() {
                return Err(ReadError::Closed.into());
            }
        }
    }

    /// The next chunk, of whole appends.
    async fn next(&mut self, until: u64) -> Result<EventBatch, Ended> {
        let room = (CHUNK_EVENTS, CHUNK_BYTES);
        let (mut rows, is_cut) = self.rows((self.at, until), Order::Forward, room).await?;
        let mut end = until;
        let last = rows.last().map(stored).transpose()?;
        if let (true, Some(last)) = (is_cut, last) {
            let (append, append_end) = (last.append, last.append_end);
            let next = last.position.offset + 1;
            let whole = rows.iter().map(|row| Ok(stored(row)?.append != append));
            let whole: Result<Vec<bool>, Fault> = whole.collect();
            let whole = whole?.into_iter().filter(|is_whole| *is_whole).count();
            end = append_end;
            if next < append_end && whole > 0 {
                rows.truncate(whole);
                end = append;
            } else if next < append_end {
                let all = (i64::MAX, i64::MAX);
                let (others, _) = self.rows((next, append_end), Order::Forward, all).await?;
                rows.extend(others);
            }
        }
        self.tell(end).await?;
        let stored: Result<Vec<_>, _> = rows.iter().map(stored).collect();
        let batch = block(&stored?, self.partition, self.at..end, self.rest.clone());
        self.at = end;
        Ok(batch)
    }

    /// Gives what stands before the place of the read, newest first.
    pub async fn backward(&mut self, to: &To) -> Result<(), Ended> {
        let room = (CHUNK_EVENTS, CHUNK_BYTES);
        loop {
            let (rows, is_cut) = self.rows((0, self.at), Order::Backward, room).await?;
            let stored: Result<Vec<_>, _> = rows.iter().map(stored).collect();
            let stored = stored?;
            let given: Vec<_> = events(&stored, self.rest.as_deref()).collect();
            if !given.is_empty() {
                give(to, given.into()).await?;
            }
            match stored.last() {
                Some(last) if is_cut => self.at = last.position.offset,
                _ => return Ok(()),
            }
        }
    }
}

fn stored(row: &Row) -> Result<Stored<'_>, Fault> {
    Stored::of(row).map_err(|error| Fault::of(&error))
}

/// A chunk of the rows whose `key` is in a range and that fit `condition`, whose values are
/// numbered from 5 on; whether there may be more.
async fn chunk(
    pool: &Pool,
    (key, condition): (&str, &str),
    order: Order,
    (range, room): ((u64, u64), (i64, i64)),
    more: &[Value<'_>],
) -> Result<(Vec<Row>, bool), Fault> {
    let schema = pool.schema();
    let direction = match order {
        Order::Forward => "ASC",
        Order::Backward => "DESC",
    };
    let sql = format!(
        r#"SELECT {COLUMNS}, rows FROM (
            SELECT *, count(*) OVER () AS rows, sum(size) OVER (ORDER BY {key} {direction}) - size AS before
            FROM (SELECT {COLUMNS}, octet_length(data) + coalesce(octet_length(meta), 0) + 200 AS size
                FROM {schema}.events WHERE {condition} ORDER BY {key} {direction} LIMIT $3) AS found) AS summed
        WHERE before < $4 ORDER BY {key} {direction}"#
    );
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (from, to) = (number(range.0), number(range.1));
    let mut values: Vec<Value<'_>> = vec![
        (&from, Type::INT8),
        (&to, Type::INT8),
        (&room.0, Type::INT8),
        (&room.1, Type::INT8),
    ];
    values.extend_from_slice(more);
    let rows = pool.query(&sql, &values).await?;
    let found = match rows.first() {
        None => 0,
        Some(row) => row
            .try_get::<_, i64>("rows")
            .map_err(|error| Fault::of(&error))?,
    };
    let is_cut = found >= room.0 || (rows.len() as i64) < found;
    Ok((rows, is_cut))
}

/// Reads one stream.
pub async fn of_stream(
    pool: Arc<Pool>,
    stream: StreamId,
    range: VersionRange,
    order: Order,
    to: To,
) -> Result<(), Ended> {
    let schema = pool.schema();
    let sql = format!(
        "SELECT version FROM {schema}.events WHERE stream = $1 ORDER BY version DESC LIMIT 1"
    );
    let name: Value<'_> = (&stream.as_str(), Type::TEXT);
    let last = pool.query(&sql, &[name]).await?;
    let last = last.first().map(|row| row.try_get::<_, i64>(0)).transpose();
    let last = last.map_err(|error| Fault::of(&error))?;
    let end = last.map_or(0, |last| last as u64 + 1);
    let (mut from, mut until) = (range.0.start, range.0.end.min(end));
    let condition = "stream = $5 AND version >= $1 AND version < $2";
    while from < until {
        let bounds = ((from, until), (CHUNK_EVENTS, CHUNK_BYTES));
        let name: Value<'_> = (&stream.as_str(), Type::TEXT);
        let (rows, _) = chunk(&pool, ("version", condition), order, bounds, &[name]).await?;
        let stored: Result<Vec<_>, _> = rows.iter().map(stored).collect();
        let given: Vec<_> = events(&stored?, None).collect();
        match (order, given.last()) {
            (_, None) => return Ok(()),
            (Order::Forward, Some(last)) => from = last.version + 1,
            (Order::Backward, Some(last)) => until = last.version,
        }
        give(&to, given.into()).await?;
    }
    Ok(())
}
