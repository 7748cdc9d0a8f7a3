//! Open files of a simulated disk.

use std::io;
use std::path::Path;
use std::sync::MutexGuard;

use super::disk::{SimDisk, State, Verdict, done, errno, lock, power_cut};
use super::fault::{Calls, FaultKind};
use super::sector::SECTOR_BYTES;
use super::tally::Hit;
use super::tree::NodeRef;
use crate::{File, OpenMode};

/// Offset and length of direct transfers are multiples of this, in bytes.
const DIRECT_BYTES: u64 = 4096;

pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) process: u64,
    pub(super) node: NodeRef,
    pub(super) name: String,
    pub(super) mode: OpenMode,
}

impl SimFile {
    fn begin(
        &self,
        call: Calls,
        offset: u64,
        len: u64,
    ) -> io::Result<(MutexGuard<'_, State>, Verdict)> {
        let mut state = self.disk.state();
        if self.process != state.process {
            return Err(io::Error::other(
                "the process that opened this file has ended",
            ));
        }
        let verdict = state.begin(&self.disk.clock, call, &self.name, (offset, len))?;
        Ok((state, verdict))
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.mode {
            OpenMode::Read => Err(errno(libc::EBADF)),
            _ => Ok(()),
        }
    }

    fn check_aligned(&self, offset: u64, len: usize) -> io::Result<()> {
        let aligned = |n: u64| n.is_multiple_of(DIRECT_BYTES);
        if self.unit() > 1 && !(aligned(offset) && aligned(len as u64)) {
            return Err(errno(libc::EINVAL));
        }
        Ok(())
    }

    /// How much of a short transfer of `len` bytes is done; all of it when it is too small
    /// to be short.
    fn shortened(&self, state: &mut State, len: usize) -> usize {
        let unit = self.unit();
        let units = len / unit;
        if units < 2 {
            return len;
        }
        unit * (1 + state.rng.below(units as u64 - 1) as usize)
    }

    /// How many of `len` bytes at `offset` the disk has room for: at least one, or ENOSPC.
    fn fitting(&self, state: &mut State, len: usize, offset: u64) -> io::Result<usize> {
        let now = lock(&self.node).len() as u64;
        let growth = (offset + len as u64).saturating_sub(now);
        let missing = (growth - state.room(growth)) as usize;
        if missing == 0 {
            return Ok(len);
        }
        state.tally.hit(Hit::Full);
        let unit = self.unit();
        match len.saturating_sub(missing) / unit * unit {
            0 => Err(errno(libc::ENOSPC)),
            fits => Ok(fits),
        }
    }

    /// Does some of a write that fails, and gives its error.
    fn write_in_part(
        &self,
        state: &mut State,
        verdict: Verdict,
        buf: &[u8],
        offset: u64,
    ) -> io::Error {
        let mut node = lock(&self.node);
        let direct = self.mode == OpenMode::WriteDirect;
        let at = offset as usize;
        if verdict == Verdict::Cut {
            // What reached the disk is decided sector by sector when the power is cut. Of
            // a killed process's buffered write the first part may be in the cache.
            let whole = direct || !state.rng.one_in(3);
            let len = if whole {
                buf.len()
            } else {
                self.shortened(state, buf.len())
            };
            node.write(&buf[..len], at);
            return power_cut();
        }
        if direct {
            state.tally.hit(Hit::DirectError);
            let keep = 1 + state.rng.below(4);
            for (i, sector) in buf.chunks(SECTOR_BYTES).enumerate() {
                if keep > 1 && state.rng.one_in(keep) {
                    node.write_durable(sector, at + i * SECTOR_BYTES);
                }
            }
        } else {
            state.tally.hit(Hit::WriteError);
            let part = state.rng.below(buf.len() as u64 + 1) as usize;
            node.write(&buf[..part], at);
        }
        errno(libc::EIO)
    }

    /// Puts a direct write into a wrong place of the file. False, and nothing done, when
    /// there is no room for a mistake.
    fn write_elsewhere(&self, state: &mut State, buf: &[u8], offset: u64) -> bool {
        let mut node = lock(&self.node);
        let room = (node.len() as u64).saturating_sub(buf.len() as u64) / DIRECT_BYTES;
        if room == 0 {
            return false;
        }
        let mut wrong = state.rng.below(room) * DIRECT_BYTES;
        if wrong >= offset {
            wrong += DIRECT_BYTES;
        }
        state.tally.hit(Hit::Misdirected);
        node.write_durable(buf, wrong as usize);
        true
    }

    /// What a partial transfer is a multiple of, in bytes.
    fn unit(&self) -> usize {
        match self.mode {
            OpenMode::WriteDirect | OpenMode::WriteDirectUnsynced => DIRECT_BYTES as usize,
            _ => 1,
        }
    }
}

impl File for SimFile {
    /// Costs nothing and never fails: it is no call that a fault can strike.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.disk.names(path, &self.node)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_aligned(offset, buf.len())?;
        let (mut state, verdict) = self.begin(Calls::READ, offset, buf.len() as u64)?;
        let mut len = buf.len();
        if let Verdict::Fail(kind) = verdict {
            if let Some(error) = state.refuse(kind, Hit::ReadError) {
                return Err(error);
            }
            if kind == FaultKind::Short {
                len = self.shortened(&mut state, len);
                if len < buf.len() {
                    state.tally.hit(Hit::ShortRead);
                }
            }
        }
        let node = lock(&self.node);
        if let Some((start, end)) = node.bad
            && offset < end
            && start < offset + len as u64
        {
            state.tally.hit(Hit::BadSector);
            return Err(errno(libc::EIO));
        }
        Ok(node.read(&mut buf[..len], offset as usize))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable()?;
        self.check_aligned(offset, buf.len())?;
        let direct = self.mode == OpenMode::WriteDirect;
        let call = if direct { Calls::DIRECT } else { Calls::WRITE };
        let (mut state, verdict) = self.begin(call, offset, buf.len() as u64)?;
        state.trace.bytes(buf);
        let mut buf = &buf[..self.fitting(&mut state, buf.len(), offset)?];
        match verdict {
            Verdict::Proceed => {}
            Verdict::Cut | Verdict::Fail(FaultKind::Io) => {
                return Err(self.write_in_part(&mut state, verdict, buf, offset));
            }
            Verdict::Fail(FaultKind::Short) => {
                let len = self.shortened(&mut state, buf.len());
                if len < buf.len() {
                    state.tally.hit(Hit::ShortWrite);
                    buf = &buf[..len];
                }
            }
            Verdict::Fail(FaultKind::Misdirected) if direct => {
                if self.write_elsewhere(&mut state, buf, offset) {
                    return Ok(buf.len());
                }
            }
            Verdict::Fail(kind) => {
                if let Some(error) = state.refuse(kind, Hit::WriteError) {
                    return Err(error);
                }
            }
        }
        let mut node = lock(&self.node);
        if direct {
            node.write_durable(buf, offset as usize);
            state.stats.syncs += 1;
        } else {
            node.write(buf, offset as usize);
        }
        state.stats.writes += 1;
        state.stats.bytes_written += buf.len() as u64;
        Ok(buf.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut state, verdict) = self.begin(Calls::SYNC, 0, 0)?;
        state.stats.syncs += 1;
        let state = &mut *state;
        let mut node = lock(&self.node);
        match verdict {
            Verdict::Proceed => {}
            Verdict::Cut => return Err(power_cut()),
            Verdict::Fail(FaultKind::Lying) => {
                state.tally.hit(Hit::LyingSync);
                return Ok(());
            }
            Verdict::Fail(FaultKind::Io) => {
                state.tally.hit(Hit::SyncError);
                node.sync_in_part(&mut state.rng, false);
                return Err(errno(libc::EIO));
            }
            Verdict::Fail(FaultKind::LostPages) => {
                state.tally.hit(Hit::LostPages);
                node.sync_in_part(&mut state.rng, true);
                return Err(errno(libc::EIO));
            }
            Verdict::Fail(FaultKind::Misdirected) => {
                if node.sync_misdirected(&mut state.rng) {
                    state.tally.hit(Hit::Misdirected);
                    return Ok(());
                }
            }
            Verdict::Fail(kind) => {
                if let Some(error) = state.refuse(kind, Hit::SyncError) {
                    return Err(error);
                }
            }
        }
        node.sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let (mut state, verdict) = self.begin(Calls::LOOK, 0, 0)?;
        if let Verdict::Fail(kind) = verdict
            && let Some(error) = state.refuse(kind, Hit::OtherError)
        {
            return Err(error);
        }
        Ok(lock(&self.node).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let (mut state, verdict) = self.begin(Calls::SET_LEN, len, 0)?;
        if let Verdict::Fail(kind) = verdict
            && let Some(error) = state.refuse(kind, Hit::OtherError)
        {
            return Err(error);
        }
        let growth = len.saturating_sub(lock(&self.node).len() as u64);
        if state.room(growth) < growth {
            state.tally.hit(Hit::Full);
            return Err(errno(libc::ENOSPC));
        }
        let cut = verdict == Verdict::Cut;
        if !cut || state.rng.one_in(2) {
            lock(&self.node).set_len(len as usize);
        }
        done(cut)
    }
}
