use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Outcome, told};

/// Whom a server runs as: PostgreSQL refuses to be run by root.
pub struct Account {
    ids: Option<(u32, u32)>,
}

impl Account {
    /// The present user; if that is root, the user `postgres`.
    pub fn for_server() -> Outcome<Self> {
        let own = Path::new("/proc/self");
        if told(std::fs::metadata(own), own)?.uid() != 0 {
            return Ok(Self { ids: None });
        }
        let passwd = Path::new("/etc/passwd");
        let users = told(std::fs::read_to_string(passwd), passwd)?;
        let ids = ids_of("postgres", &users).ok_or(
            "it refuses to be run by root, and there is no user postgres; run this as another user",
        )?;
        Ok(Self { ids: Some(ids) })
    }

    /// Opens `dir`, which belongs to the caller, for passing through.
    pub fn let_through(&self, dir: &Path) -> Outcome {
        let Some((uid, _)) = self.ids else {
            return Ok(());
        };
        if told(may_enter(dir, uid), dir)? {
            return Ok(());
        }
        let mode = told(std::fs::metadata(dir), dir)?.permissions().mode();
        let opened = std::fs::Permissions::from_mode(mode | 0o011);
        told(std::fs::set_permissions(dir, opened), dir)
    }

    /// Gives it `dir`; an error if it cannot get there.
    pub fn give(&self, dir: &Path) -> Outcome {
        let Some((uid, _)) = self.ids else {
            return Ok(());
        };
        self.give_file(dir)?;
        match closed_directory(dir, uid) {
            None => Ok(()),
            Some(closed) => Err(format!(
                "it refuses to be run by root, and the user postgres cannot enter {}; \
                 choose a directory below one that all may enter",
                closed.display()
            )),
        }
    }

    /// Gives it `file`, in a directory that it can enter.
    pub fn give_file(&self, file: &Path) -> Outcome {
        match self.ids {
            Some((uid, gid)) => told(chown(file, Some(uid), Some(gid)), file),
            None => Ok(()),
        }
    }

    /// Lets `command` run as this user.
    pub fn set(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
    }

    /// Runs `command` as this user, to its end.
    pub fn run(&self, command: &mut Command, what: &str) -> Outcome {
        self.set(command);
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{what}: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("{what} failed: {said}"))
    }
}

/// The ids of a user and of his group in the text of a passwd file.
fn ids_of(user: &str, passwd: &str) -> Option<(u32, u32)> {
    let line = passwd
        .lines()
        .find(|line| line.split(':').next() == Some(user))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn may_enter(dir: &Path, uid: u32) -> io::Result<bool> {
    let about = std::fs::metadata(dir)?;
    let needed = if about.uid() == uid { 0o100 } else { 0o001 };
    Ok(about.permissions().mode() & needed != 0)
}

/// The first directory on the way to `dir` that this user cannot enter.
fn closed_directory(dir: &Path, uid: u32) -> Option<PathBuf> {
    let mut way: Vec<&Path> = dir.ancestors().collect();
    way.reverse();
    let closed = way
        .into_iter()
        .find(|dir| !may_enter(dir, uid).unwrap_or(false));
    closed.map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_user_are_found() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgres:x:105:113:,,,:/var/lib:/bin/sh\n";
        assert_eq!(ids_of("postgres", passwd), Some((105, 113)));
        assert_eq!(ids_of("post", passwd), None);
    }

    #[test]
    fn a_directory_that_others_cannot_enter_is_named() {
        let name = format!("anabranch-account-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&dir, private).unwrap();
        let inner = dir.join("inner");
        std::fs::create_dir(&inner).unwrap();
        let stranger = u32::MAX - 7;
        let closed = closed_directory(&inner, stranger).unwrap();
        assert!(inner.starts_with(&closed) && closed != Path::new("/"));
        let owner = std::fs::metadata(&inner).unwrap().uid();
        assert_ne!(closed_directory(&inner, owner), Some(dir.clone()));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
