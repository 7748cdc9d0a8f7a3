//! Reads the *Online Retail* data set: rows of invoices, as real as they look.

#![expect(
    clippy::disallowed_methods,
    reason = "it reads the file that the user names"
)]

/// Rows as events.
pub mod event;
/// Rows from files.
pub mod input;
/// One row.
pub mod row;

/// The first day of the data set as CSV, 1 December 2010: 3,108 lines. Daqing Chen, 2015, DOI
/// 10.24432/C5BW33, CC BY 4.0.
pub const FIRST_DAY: &[u8] = include_bytes!("../data/first-day.csv");
