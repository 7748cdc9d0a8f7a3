//! The simulated disk as engines see it: every call of [`Disk`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{SimDisk, Verdict, done, errno, lock, missing, normal, place, power_cut};
use super::fault::{Calls, FaultKind};
use super::file::SimFile;
use super::tally::Hit;
use super::tree::{Entry, NodeRef, Place};
use crate::{Disk, DiskLock, DiskStats, File, OpenMode};

/// How much may still be written to a disk without a capacity, in bytes.
const ENDLESS_BYTES: u64 = 1 << 50;

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let place = place(path)?;
        let mut state = self.state();
        let call = match mode {
            OpenMode::Create => Calls::CREATE,
            _ => Calls::OPEN,
        };
        let cut = state.begin_entry(&self.clock, call, &place.1)?;
        let node = if mode == OpenMode::Create {
            let entries = state.tree.entries(&place.0).ok_or_else(|| missing(path))?;
            if entries.contains_key(&place.1) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let node = NodeRef::default();
            if !cut || state.rng.one_in(2) {
                state.tree.put(place.clone(), Entry::File(node.clone()));
            }
            node
        } else {
            let node = state.tree.file(&place).ok_or_else(|| missing(path))?;
            node.clone()
        };
        done(cut)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            process: state.process,
            node,
            name: place.1,
            mode,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut state = self.state();
        let name = path.file_name().and_then(|name| name.to_str());
        let cut = state.begin_entry(&self.clock, Calls::CREATE_DIR, name.unwrap_or(""))?;
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for dir in ancestors {
            if state.tree.entries(dir).is_some() {
                continue;
            }
            if cut && state.rng.one_in(2) {
                break;
            }
            let place = place(dir)?;
            if state.tree.file(&place).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.tree.put(place, Entry::Dir);
        }
        done(cut)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let path = normal(dir);
        let mut state = self.state();
        state.begin_entry(&self.clock, Calls::LOOK, "")?;
        let entries = state.tree.entries(&path).ok_or_else(|| missing(dir))?;
        let files = entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::File(_)));
        Ok(files.map(|(name, _)| name.clone()).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.begin_entry(&self.clock, Calls::LOOK, "")?;
        let path = normal(path);
        Ok(state.tree.entries(&path).is_some()
            || place(&path).is_ok_and(|place| state.tree.file(&place).is_some()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (place(from)?, place(to)?);
        let mut state = self.state();
        let cut = state.begin_entry(&self.clock, Calls::RENAME, &source.1)?;
        let node = state.tree.file(&source).ok_or_else(|| missing(from))?;
        let node = node.clone();
        let entries = state.tree.entries(&target.0).ok_or_else(|| missing(to))?;
        if let Some(Entry::Dir) = entries.get(&target.1) {
            return Err(errno(libc::EISDIR));
        }
        if source != target && (!cut || state.rng.one_in(2)) {
            if let Some(replaced) = state.tree.file(&target).cloned() {
                state.forget(&replaced);
            }
            state.tree.rename(source, target, node);
        }
        done(cut)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let place = place(path)?;
        let mut state = self.state();
        let cut = state.begin_entry(&self.clock, Calls::REMOVE, &place.1)?;
        let node = state.tree.file(&place).ok_or_else(|| missing(path))?;
        let node = node.clone();
        if !cut || state.rng.one_in(2) {
            state.forget(&node);
            state.tree.remove(place);
        }
        done(cut)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let path = normal(dir);
        let mut state = self.state();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or("");
        let verdict = state.begin(&self.clock, Calls::SYNC_DIR, name, (0, 0))?;
        state.stats.syncs += 1;
        match verdict {
            Verdict::Proceed => {}
            Verdict::Cut => return Err(power_cut()),
            Verdict::Fail(FaultKind::Lying) => {
                state.tally.hit(Hit::LyingSync);
                return Ok(());
            }
            Verdict::Fail(kind) => {
                if let Some(error) = state.refuse(kind, Hit::SyncError) {
                    return Err(error);
                }
            }
        }
        if state.tree.entries(&path).is_none() {
            return Err(missing(dir));
        }
        state.tree.sync(&path);
        Ok(())
    }

    fn lock(&self, path: &Path, note: &str) -> io::Result<Result<Box<dyn DiskLock>, String>> {
        let place = place(path)?;
        let mut state = self.state();
        let cut = state.begin_entry(&self.clock, Calls::LOCK, &place.1)?;
        if state.tree.entries(&place.0).is_none() {
            return Err(missing(path));
        }
        if let Some((_, holder)) = state.locks.get(&place) {
            return Ok(Err(holder.clone()));
        }
        let node = match state.tree.file(&place) {
            Some(node) => node.clone(),
            None => {
                let node = NodeRef::default();
                state.tree.put(place.clone(), Entry::File(node.clone()));
                node
            }
        };
        lock(&node).set_len(0);
        lock(&node).write(note.as_bytes(), 0);
        done(cut)?;
        state.locks_taken += 1;
        let ticket = state.locks_taken;
        state.locks.insert(place.clone(), (ticket, note.to_owned()));
        Ok(Ok(Box::new(SimLock {
            disk: self.clone(),
            place,
            ticket,
        })))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let place = place(path)?;
        let mut state = self.state();
        state.begin_entry(&self.clock, Calls::LOOK, &place.1)?;
        Ok(state.locks.contains_key(&place))
    }

    fn is_world_writable(&self, _: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.begin_entry(&self.clock, Calls::LOOK, "")?;
        Ok(false)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.begin_entry(&self.clock, Calls::LOOK, "")?;
        Ok(state.room(ENDLESS_BYTES))
    }

    fn stats(&self) -> DiskStats {
        self.state().stats
    }
}

struct SimLock {
    disk: SimDisk,
    place: Place,
    ticket: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        // The lock may long be another process's: after a kill, say.
        if state
            .locks
            .get(&self.place)
            .is_some_and(|(ticket, _)| *ticket == self.ticket)
        {
            state.locks.remove(&self.place);
        }
    }
}
