//! Servers of other systems, for tests and measurements: found on this machine and run on
//! loopback ports, in directories of their own. Nothing that the machine runs already is
//! touched.

#![expect(
    clippy::disallowed_methods,
    reason = "it looks for programs, at accounts and at the way to a directory"
)]

mod account;
mod pooler;
mod postgres;

use std::path::{Path, PathBuf};

pub use account::Account;
pub use postgres::{Keeps, Postgres, PostgresPrograms};

/// What a function gives: its value, or one message for the person who wants the server.
pub type Outcome<T = ()> = Result<T, String>;

/// Finds a program on the search path or in `places`.
pub fn find(program: &str, places: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin"];
    std::env::split_paths(&path)
        .chain(places.iter().cloned())
        .chain(usual.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

fn told<T>(outcome: std::io::Result<T>, path: &Path) -> Outcome<T> {
    outcome.map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_nowhere_is_not_found() {
        assert_eq!(find("no-such-program-anywhere", &[]), None);
        assert!(find("sh", &["/bin".into()]).is_some());
    }
}
