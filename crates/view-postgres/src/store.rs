//! What a view's code sees of PostgreSQL.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anabranch_domain::HandleError;
use bytes::{Bytes, BytesMut};
use futures_util::future::join;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Config, Error, Row, Statement};

use crate::line::{Fault, Line};

/// What a view in PostgreSQL writes to, and what its queries read from: `type Store = Postgres`.
///
/// While events are taken in, everything written goes into the transaction that also moves the
/// view's position. Statements are prepared once. Names without a schema mean the tables of
/// this copy of the view, which has a schema of its own.
///
/// A statement that the server refuses ends the transaction, as always in PostgreSQL: do not
/// try it and look at the error, say `ON CONFLICT` instead.
pub struct Postgres(RefCell<Session>);

struct Session {
    line: Line,
    statements: BTreeMap<String, Prepared>,
    /// What was sent and has not been answered, oldest first.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The first thing that went wrong in this transaction.
    fault: Option<Fault>,
    pace: Pace,
    encoded: BytesMut,
}

#[derive(Clone)]
struct Prepared {
    sql: Arc<str>,
    statement: Statement,
}

struct Waiting {
    sql: Arc<str>,
    bytes: usize,
    answer: Pin<Box<dyn Future<Output = Result<u64, Error>> + Send>>,
}

/// When [`Postgres::execute`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As soon as the statement is on its way.
    Ahead,
    /// When the statement is done: an error shows where it arose.
    StepByStep,
}

/// The most statements on their way; then those in excess of half are waited for, so that the
/// server always has something to do.
const WAITING_MAX: usize = 512;
/// The most bytes of parameters on their way.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// The most statements that stay prepared. A view that makes its statements up as it goes
/// would fill the server otherwise.
const STATEMENTS_MAX: usize = 256;

impl Postgres {
    /// Connects; runs `set_up`, which has no answer.
    pub(crate) fn open(config: &Config, set_up: &str) -> Result<Self, Fault> {
        let mut session = Session {
            line: Line::open(config)?,
            statements: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            fault: None,
            pace: Pace::StepByStep,
            encoded: BytesMut::new(),
        };
        session.run(set_up)?;
        Ok(Self(RefCell::new(session)))
    }

    /// Runs statements without parameters, for example `CREATE TABLE`.
    pub fn run(&self, sql: &str) -> Result<(), HandleError> {
        Ok(self.0.borrow_mut().run(sql)?)
    }

    /// Runs one statement whose outcome nobody looks at: it is on its way when this returns,
    /// and many may be. If the server refuses it, the event's transaction fails, and the event
    /// is named.
    pub fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<(), HandleError> {
        self.0.borrow_mut().execute(sql, params)
    }

    /// Runs one statement and waits; returns how many rows it has changed.
    pub fn changed(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, HandleError> {
        let session = &mut *self.0.borrow_mut();
        let prepared = session.prepared(sql)?;
        let values = session.values(&prepared.statement, params)?;
        let client = session.line.client().clone();
        let changing = async move { client.execute_raw(&prepared.statement, values).await };
        Ok(session.ask(Some(sql), changing)?)
    }

    /// The first row of a query, if there is one. `read` takes columns with
    /// [`Row::try_get`].
    pub fn one<T>(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        read: impl FnOnce(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, HandleError> {
        let rows = self.rows(sql, params)?;
        Ok(rows.first().map(read).transpose()?)
    }

    /// Every row of a query. `read` takes columns with [`Row::try_get`].
    pub fn all<T>(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        read: impl FnMut(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, HandleError> {
        let rows = self.rows(sql, params)?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, HandleError> {
        // Not held while `read` runs, which may ask again.
        let session = &mut *self.0.borrow_mut();
        session.rows(sql, params)
    }

    /// Begins a transaction with `begin` and reads the first row of `first`, both in one go.
    pub(crate) fn begin<T>(
        &self,
        begin: &str,
        first: &str,
        pace: Pace,
        read: impl FnOnce(&Row) -> Result<T, Error>,
    ) -> Result<Option<T>, Fault> {
        let session = &mut *self.0.borrow_mut();
        session.fault = None;
        session.pace = pace;
        let prepared = session.prepared(first)?;
        let client = session.line.client().clone();
        let both = async move {
            let row = client.query_opt(&prepared.statement, &[]);
            let (begun, row) = join(client.batch_execute(begin), row).await;
            begun.and(row)
        };
        let row = session.ask(Some(first), both)?;
        row.map(|row| read(&row))
            .transpose()
            .map_err(|error| Fault::Server(error.to_string()))
    }

    /// Waits for everything that is on its way. The first fault of the transaction, if any.
    pub(crate) fn settled(&self) -> Result<(), Fault> {
        let session = &mut *self.0.borrow_mut();
        session.settle(0);
        session.checked()
    }

    /// Ends the transaction: all of it is kept, or the fault says why not. After
    /// [`Fault::Lost`] it may have been kept.
    pub(crate) fn commit(&self) -> Result<(), Fault> {
        let session = &mut *self.0.borrow_mut();
        // Sent behind what is on its way: if any of that fails, the server keeps nothing.
        session.run("COMMIT")
    }

    /// Ends the transaction: nothing of it is kept.
    pub(crate) fn roll_back(&self) -> Result<(), Fault> {
        let session = &mut *self.0.borrow_mut();
        session.settle(0);
        session.fault = None;
        session.run("ROLLBACK")
    }
}

impl Session {
    fn checked(&self) -> Result<(), Fault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn run(&mut self, sql: &str) -> Result<(), Fault> {
        let client = self.line.client().clone();
        self.ask(Some(sql), async move { client.batch_execute(sql).await })
    }

    fn execute(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<(), HandleError> {
        self.checked()?;
        let prepared = self.prepared(sql)?;
        let values = self.values(&prepared.statement, params)?;
        let bytes = values.iter().map(Value::len).sum();
        let client = self.line.client().clone();
        let Prepared { sql, statement } = prepared;
        let answer = Box::pin(async move { client.execute_raw(&statement, values).await });
        self.send(Waiting { sql, bytes, answer });
        let is_full = self.waiting.len() > WAITING_MAX || self.waiting_bytes > WAITING_BYTES_MAX;
        match self.pace {
            Pace::StepByStep => self.settle(0),
            Pace::Ahead if is_full => self.settle(WAITING_MAX / 2),
            Pace::Ahead => {}
        }
        Ok(self.checked()?)
    }

    fn send(&mut self, mut waiting: Waiting) {
        // The first poll sends it; its answer is waited for later.
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = waiting.answer.as_mut().poll(&mut nobody) {
            waiting.answer = Box::pin(ready(answer));
        }
        self.waiting_bytes += waiting.bytes;
        self.waiting.push_back(waiting);
    }

    fn rows(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, HandleError> {
        let prepared = self.prepared(sql)?;
        // Says how many there have to be, and of which type.
        let values = self.values(&prepared.statement, params)?;
        let client = self.line.client().clone();
        let asked = async move {
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            client.query(&prepared.statement, &values).await
        };
        Ok(self.ask(Some(sql), asked)?)
    }

    fn prepared(&mut self, sql: &str) -> Result<Prepared, Fault> {
        if let Some(prepared) = self.statements.get(sql) {
            return Ok(prepared.clone());
        }
        let client = self.line.client().clone();
        let statement = self.ask(Some(sql), async move { client.prepare(sql).await })?;
        let prepared = Prepared {
            sql: sql.into(),
            statement,
        };
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), prepared.clone());
        Ok(prepared)
    }

    /// The parameters as they travel.
    fn values(
        &mut self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Value>, HandleError> {
        let types = statement.params();
        if types.len() != params.len() {
            return Err(format!(
                "a statement with {} parameters was given {}",
                types.len(),
                params.len()
            )
            .into());
        }
        let mut values = Vec::with_capacity(params.len());
        for (param, of) in params.iter().zip(types) {
            let is_null = param.to_sql_checked(of, &mut self.encoded)?;
            let bytes = self.encoded.split().freeze();
            values.push(Value {
                bytes: matches!(is_null, IsNull::No).then_some(bytes),
                format: param.encode_format(of),
            });
        }
        Ok(values)
    }

    /// Sends a request behind what is on its way, and waits for all of it.
    fn ask<T>(
        &mut self,
        sql: Option<&str>,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        self.checked()?;
        let mut request = pin!(request);
        let mut nobody = Context::from_waker(Waker::noop());
        let sent = request.as_mut().poll(&mut nobody);
        self.settle(0);
        let answer = match sent {
            Poll::Ready(answer) => answer,
            Poll::Pending => self.line.wait(request),
        };
        // What failed before is the cause of what failed now.
        self.checked()?;
        answer.map_err(|error| {
            let fault = self.fault_of(&error, sql);
            self.fault = Some(fault.clone());
            fault
        })
    }

    /// Waits until at most so many statements are on their way.
    fn settle(&mut self, most: usize) {
        let (line, waiting) = (&mut self.line, &mut self.waiting);
        let bytes = &mut self.waiting_bytes;
        let mut failed = None;
        line.wait(poll_fn(|cx| {
            while waiting.len() > most
                && let Some(oldest) = waiting.front_mut()
            {
                let Poll::Ready(answer) = oldest.answer.as_mut().poll(cx) else {
                    return Poll::Pending;
                };
                *bytes -= oldest.bytes;
                if let Err(error) = answer
                    && failed.is_none()
                {
                    failed = Some((error, oldest.sql.clone()));
                }
                waiting.pop_front();
            }
            Poll::Ready(())
        }));
        if let Some((error, sql)) = failed
            && self.fault.is_none()
        {
            self.fault = Some(self.fault_of(&error, Some(&sql)));
        }
    }

    fn fault_of(&self, error: &Error, sql: Option<&str>) -> Fault {
        match self.line.end() {
            // Why the connection has ended says more than that it has.
            Some(end) if error.as_db_error().is_none() => Fault::Lost(end.to_owned()),
            _ => Fault::of(error, sql),
        }
    }
}

/// A parameter in the form in which it travels.
#[derive(Debug)]
struct Value {
    bytes: Option<Bytes>,
    format: Format,
}

impl Value {
    fn len(&self) -> usize {
        self.bytes.as_ref().map_or(0, Bytes::len)
    }
}

impl ToSql for Value {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, HandleError> {
        Ok(match &self.bytes {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        // The value it was made of was asked.
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        self.format
    }

    to_sql_checked!();
}
