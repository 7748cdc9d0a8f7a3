//! Each decoder of bytes that come from a disk or a socket, as a function of any bytes.
//!
//! None may panic, whatever the bytes are; where a checksum stands before the bytes, none may
//! take them for another value either. `cargo fuzz run -s none TARGET corpus/TARGET` searches,
//! with `--features libfuzzer`; `cargo test` drives the same functions over the corpus and
//! mutations of it, with a fixed seed and in bounded time, which is what continuous integration
//! does.

#![forbid(unsafe_code)]

mod calls;
mod corpus;
mod files;
mod kept;
mod served;
mod texts;

pub use calls::{call, peer_line, shown};
pub use corpus::corpus;
pub use files::{backup_files, log_files};
pub use kept::{checkpoint, process_journal, registry, saga_journal, snapshot};
pub use served::{http, live};
pub use texts::{import_line, json_text, names, record, token, wire};

/// A decoder, given any bytes.
pub type Target = fn(&[u8]);

/// Every target by its name, with how many mutations of its corpus a test tries.
pub const TARGETS: [(&str, Target, usize); 18] = [
    ("record", record, 20_000),
    ("token", token, 20_000),
    ("json_text", json_text, 20_000),
    ("names", names, 20_000),
    ("log_files", log_files, 60),
    ("backup_files", backup_files, 60),
    ("snapshot", snapshot, 3_000),
    ("checkpoint", checkpoint, 3_000),
    ("registry", registry, 3_000),
    ("saga_journal", saga_journal, 10_000),
    ("process_journal", process_journal, 10_000),
    ("wire", wire, 5_000),
    ("import_line", import_line, 20_000),
    ("http", http, 3_000),
    ("live", live, 1_000),
    ("call", call, 20_000),
    ("peer_line", peer_line, 20_000),
    ("shown", shown, 3_000),
];
