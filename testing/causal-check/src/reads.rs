//! Whose write each read saw, and what is wrong with a read already by itself.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{History, Operation, Place, Transaction};

/// A read that no order of the transactions explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRead {
    /// The transaction that read.
    pub place: Place,
    /// The read, as it is written, for example `x==1`.
    pub read: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a read by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nobody has written the value (thin-air read).
    ThinAir,
    /// A transaction wrote the value that did not commit (aborted read).
    Aborted {
        /// The one that wrote it.
        writer: Place,
    },
    /// The transaction that wrote it has overwritten it before it committed (intermediate read).
    Intermediate {
        /// The one that wrote it.
        writer: Place,
        /// What it wrote last.
        last: u64,
    },
    /// The transaction writes the value only later (future read).
    Future,
    /// The transaction had written something else before (not my own write).
    NotOwnWrite {
        /// What it wrote last before the read.
        own: u64,
    },
    /// The transaction had read something else before (non-repeatable read).
    NonRepeatable {
        /// What it read before; `None` if nothing was there.
        before: Option<u64>,
    },
}

impl fmt::Display for BadRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} reads {}", self.place, self.read)?;
        match &self.fault {
            Fault::ThinAir => write!(f, ", which nobody has written (thin-air read)"),
            Fault::Aborted { writer } => {
                write!(
                    f,
                    ", which {writer} wrote without committing (aborted read)"
                )
            }
            Fault::Intermediate { writer, last } => write!(
                f,
                ", which {writer} wrote and then overwrote with {last} (intermediate read)"
            ),
            Fault::Future => write!(f, ", which it writes only later (future read)"),
            Fault::NotOwnWrite { own } => {
                write!(
                    f,
                    ", though it has itself written {own} before (not its own write)"
                )
            }
            Fault::NonRepeatable {
                before: Some(value),
            } => {
                write!(
                    f,
                    ", though it has read {value} before (non-repeatable read)"
                )
            }
            Fault::NonRepeatable { before: None } => write!(
                f,
                ", though nothing was there when it read it before (non-repeatable read)"
            ),
        }
    }
}

/// A committed transaction, as far as the others see it.
#[derive(Debug, Clone)]
pub struct Node {
    pub place: Place,
    /// Index of its session.
    pub session: usize,
    /// What it wrote last to each variable.
    pub writes: BTreeMap<usize, u64>,
    /// What it read of others.
    pub reads: BTreeMap<usize, Read>,
}

/// What a transaction read of a variable, before it wrote it itself.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub value: Option<u64>,
    /// The transaction that wrote it; none if nobody had.
    pub writer: Option<usize>,
}

/// Who wrote a value.
struct Written<'a> {
    /// The index of the transaction among those that committed.
    node: Option<usize>,
    transaction: &'a Transaction,
}

/// The committed transactions, those of a session side by side and in order.
pub fn resolve(history: &History) -> Result<Vec<Node>, BadRead> {
    let mut written = BTreeMap::new();
    let mut count = 0;
    for transaction in history.sessions.iter().flatten() {
        let node = transaction.committed.then_some(count);
        count += usize::from(transaction.committed);
        for operation in &transaction.operations {
            if let Operation::Write { variable, value } = *operation {
                written.insert((variable, value), Written { node, transaction });
            }
        }
    }
    let mut nodes = Vec::with_capacity(count);
    for (session, transactions) in history.sessions.iter().enumerate() {
        for transaction in transactions.iter().filter(|one| one.committed) {
            nodes.push(
                Resolver {
                    history,
                    written: &written,
                    transaction,
                }
                .node(session)?,
            );
        }
    }
    Ok(nodes)
}

/// Goes through one transaction.
struct Resolver<'a> {
    history: &'a History,
    written: &'a BTreeMap<(usize, u64), Written<'a>>,
    transaction: &'a Transaction,
}

impl Resolver<'_> {
    fn node(&self, session: usize) -> Result<Node, BadRead> {
        let mut node = Node {
            place: self.transaction.place,
            session,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
        };
        for operation in &self.transaction.operations {
            match *operation {
                Operation::Write { variable, value } => {
                    node.writes.insert(variable, value);
                }
                Operation::Read { variable, value } => {
                    let read = self
                        .read(&node, variable, value)
                        .map_err(|fault| self.bad(variable, value, fault))?;
                    if let Some(read) = read {
                        node.reads.insert(variable, read);
                    }
                }
            }
        }
        Ok(node)
    }

    /// Whose write it saw; `None` if it saw the transaction's own.
    fn read(
        &self,
        node: &Node,
        variable: usize,
        value: Option<u64>,
    ) -> Result<Option<Read>, Fault> {
        let own = node.writes.get(&variable).copied();
        if let Some(own) = own
            && value == Some(own)
        {
            return Ok(None);
        }
        let writer = match value {
            None => None,
            Some(value) => {
                let written = self.written.get(&(variable, value)).ok_or(Fault::ThinAir)?;
                self.check_writer(written, variable, value, own)?;
                written.node
            }
        };
        if let Some(own) = own {
            return Err(Fault::NotOwnWrite { own });
        }
        match node.reads.get(&variable) {
            Some(before) if before.value != value => Err(Fault::NonRepeatable {
                before: before.value,
            }),
            _ => Ok(Some(Read { value, writer })),
        }
    }

    fn check_writer(
        &self,
        written: &Written<'_>,
        variable: usize,
        value: u64,
        own: Option<u64>,
    ) -> Result<(), Fault> {
        let writer = written.transaction.place;
        if std::ptr::eq(written.transaction, self.transaction) {
            // Its own, and not what it wrote last: overwritten, or not yet written.
            let write = Operation::Write { variable, value };
            let mut earlier = self.transaction.operations.iter().take_while(|one| {
                !matches!(one, Operation::Read { variable: of, value: read } if *of == variable && *read == Some(value))
            });
            return match own {
                Some(own) if earlier.any(|one| *one == write) => Err(Fault::NotOwnWrite { own }),
                _ => Err(Fault::Future),
            };
        }
        if written.node.is_none() {
            return Err(Fault::Aborted { writer });
        }
        let last = written
            .transaction
            .operations
            .iter()
            .rev()
            .find_map(|one| match *one {
                Operation::Write {
                    variable: of,
                    value,
                } if of == variable => Some(value),
                _ => None,
            });
        match last {
            Some(last) if last != value => Err(Fault::Intermediate { writer, last }),
            _ => Ok(()),
        }
    }

    fn bad(&self, variable: usize, value: Option<u64>, fault: Fault) -> BadRead {
        BadRead {
            place: self.transaction.place,
            read: shown(&self.history.variables[variable], value),
            fault,
        }
    }
}

/// A read as it is written.
pub fn shown(variable: &str, value: Option<u64>) -> String {
    match value {
        Some(value) => format!("{variable}=={value}"),
        None => format!("{variable}==?"),
    }
}
