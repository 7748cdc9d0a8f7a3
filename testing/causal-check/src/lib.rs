//! Judges histories of transactions from outside: whether they are causally consistent.
//!
//! A history is what clients wrote and read, transaction by transaction and session by session,
//! in the text form of `dbcop`: [`History`]. [`check`] says whether some order of all transactions
//! explains every read, such that each transaction sees all that comes before it by sessions and
//! reads, and of two writes of a variable that it sees the later one. That is *transactional
//! causal consistency*; the rule is that of Biswas and Enea, "On the complexity of checking
//! transactional consistency", 2019, definition 3.5, with the variables that nobody has written
//! yet as written before everything.
//!
//! The order is one for all readers. So two of them that see two writes in opposite orders are
//! refused, though neither write comes before the other. A long fork, a write skew and two
//! transactions that overwrite the same value are consistent.
//!
//! This crate depends on nothing, so that what it judges cannot share a mistake with it.
//!
//! ```
//! use anabranch_causal_check::{History, check};
//!
//! let history: History = "[ring:=1]\n[found:=1]\n---\n[found==1 ring==?]\n".parse()?;
//! let violation = check(&history).expect_err("the comment is seen without what it is about");
//! assert!(violation.to_string().contains("line 4 reads ring==?"));
//! # Ok::<(), anabranch_causal_check::TextError>(())
//! ```

mod bits;
mod check;
mod explain;
mod graph;
mod history;
mod reads;
mod text;

pub use check::{Summary, check};
pub use explain::{Step, Violation, Why};
pub use history::{History, Operation, Place, Transaction};
pub use reads::{BadRead, Fault};
pub use text::TextError;
