//! One file: what processes see of it, and what the disk has.
//!
//! `cached` is the page cache, `durable` the platter. A sector in neither `dirty` nor
//! `orphaned` is the same in both, up to the shorter of the two; beyond it, the longer one
//! has zeros. Both are flat, so that reads are one copy, and shared on fork, so that a
//! fork costs nothing until one side writes.

use std::sync::Arc;

use super::crash::Mood;
use super::sector::SECTOR_BYTES;
use super::tally::{Hit, Tally};
use crate::SplitMix64;

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    cached: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Written since the last sync.
    dirty: Sectors,
    /// Dropped by a failed or misdirected sync: the cache is right, the disk is not, and
    /// nothing will write them again.
    orphaned: Sectors,
    /// The lengths that the file took since the last sync, oldest first; of several
    /// growths in a row only the last.
    lengths: Vec<usize>,
    /// Bytes that cannot be read.
    pub(super) bad: Option<(u64, u64)>,
    /// Offset and length of the last writes.
    pub(super) writes: Vec<(u64, u64)>,
}

/// How many of a file's writes are remembered.
const WRITES_MAX: usize = 128;

impl Node {
    /// A file that has been on the disk for long.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self {
            cached: Arc::new(bytes.clone()),
            durable: Arc::new(bytes),
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cached.len()
    }

    pub(super) fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.cached
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: usize) -> usize {
        let Some(rest) = self.cached.get(offset..) else {
            return 0;
        };
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        len
    }

    /// Writes to the page cache.
    pub(super) fn write(&mut self, buf: &[u8], offset: usize) {
        if buf.is_empty() {
            return;
        }
        if self.writes.len() == WRITES_MAX {
            self.writes.remove(0);
        }
        self.writes.push((offset as u64, buf.len() as u64));
        let end = offset + buf.len();
        if end > self.cached.len() {
            self.set_len(end);
        }
        Arc::make_mut(&mut self.cached)[offset..end].copy_from_slice(buf);
        let sectors = sectors_of(offset, end);
        for sector in sectors {
            self.dirty.insert(sector);
            self.orphaned.remove(sector);
        }
    }

    /// Writes past the page cache: the length too is durable at once.
    pub(super) fn write_durable(&mut self, buf: &[u8], offset: usize) {
        self.write(buf, offset);
        if !self.lengths.is_empty() {
            self.settle_length();
        }
        for sector in sectors_of(offset, offset + buf.len()) {
            self.persist(sector);
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        let before = self.cached.len();
        if len == before {
            return;
        }
        Arc::make_mut(&mut self.cached).resize(len, 0);
        if len < before {
            self.dirty.cut(len.div_ceil(SECTOR_BYTES));
            self.orphaned.cut(len.div_ceil(SECTOR_BYTES));
            self.lengths.push(len);
            return;
        }
        let older = match self.lengths.as_slice() {
            [.., older, last] => Some((*older, *last)),
            [last] => Some((self.durable.len(), *last)),
            [] => None,
        };
        match (older, self.lengths.last_mut()) {
            (Some((older, last)), Some(slot)) if last >= older => *slot = len,
            _ => self.lengths.push(len),
        }
    }

    /// Everything written is on the disk, but for what is orphaned.
    pub(super) fn sync(&mut self) {
        self.settle_length();
        let dirty = std::mem::take(&mut self.dirty);
        let durable = Arc::make_mut(&mut self.durable);
        for sector in dirty.iter() {
            copy_sector(&self.cached, durable, sector);
        }
        self.dirty = dirty.emptied();
    }

    /// Some of it is on the disk; the rest stays dirty, or is orphaned when `drop_pages`.
    pub(super) fn sync_in_part(&mut self, rng: &mut SplitMix64, drop_pages: bool) {
        self.settle_length();
        let one_in = 1 + rng.below(4);
        let dirty: Vec<usize> = self.dirty.iter().collect();
        for sector in dirty {
            if one_in > 1 && rng.one_in(one_in) {
                self.persist(sector);
            } else if drop_pages {
                self.dirty.remove(sector);
                self.orphaned.insert(sector);
            }
        }
    }

    /// A sync that puts one run of pages into a wrong place of the file. False, and
    /// nothing done, when there is no room for a mistake.
    pub(super) fn sync_misdirected(&mut self, rng: &mut SplitMix64) -> bool {
        let Some(first) = self.dirty.iter().next() else {
            return false;
        };
        let run = (first..)
            .take_while(|&sector| self.dirty.contains(sector))
            .count();
        let room = self.cached.len() / SECTOR_BYTES;
        if run >= room {
            return false;
        }
        let places = (room - run) as u64;
        let mut wrong = rng.below(places) as usize;
        if wrong >= first {
            wrong += 1;
        }
        self.sync_all_but(first, run);
        let durable = Arc::make_mut(&mut self.durable);
        for i in 0..run {
            let from = (first + i) * SECTOR_BYTES;
            let to = (wrong + i) * SECTOR_BYTES;
            let end = (from + SECTOR_BYTES).min(self.cached.len());
            durable[to..to + end - from].copy_from_slice(&self.cached[from..end]);
            self.orphaned.insert(wrong + i);
        }
        true
    }

    fn sync_all_but(&mut self, first: usize, run: usize) {
        for sector in first..first + run {
            self.dirty.remove(sector);
            self.orphaned.insert(sector);
        }
        self.sync();
    }

    /// The cache forgets what never reached the disk and reads it anew.
    pub(super) fn evict(&mut self) {
        let orphaned = std::mem::take(&mut self.orphaned);
        let cached = Arc::make_mut(&mut self.cached);
        for sector in orphaned.iter() {
            copy_sector(&self.durable, cached, sector);
        }
    }

    /// Turns the file into what a power cut leaves, and tells whether written data is
    /// missing from it. `stale` is what the disk may show where a grown file lost its
    /// data.
    pub(super) fn crash(
        &mut self,
        rng: &mut SplitMix64,
        mood: &Mood,
        stale: Option<&[u8]>,
        tally: &mut Tally,
    ) -> bool {
        if self.dirty.is_empty() && self.orphaned.is_empty() && self.lengths.is_empty() {
            return false;
        }
        let old_len = self.durable.len();
        let shrunk = self.shrunk();
        let (len, sure) = self.crash_length(rng, mood, tally);
        let mut dirty = std::mem::take(&mut self.dirty);
        let durable = Arc::make_mut(&mut self.durable);
        let mut data_lost = len < self.cached.len();
        let mut zeros = false;
        let mut before: Option<(usize, bool)> = None;
        for sector in dirty.iter() {
            let start = sector * SECTOR_BYTES;
            if start >= len {
                break;
            }
            let end = (start + SECTOR_BYTES).min(len).min(self.cached.len());
            let kept = start < sure && mood.keeps(rng);
            let torn = kept && mood.tears(rng);
            if torn {
                tear(rng, &self.cached[start..end], &mut durable[start..end]);
                tally.hit(Hit::SectorTorn);
            } else if kept {
                durable[start..end].copy_from_slice(&self.cached[start..end]);
                tally.hit(Hit::SectorKept);
            } else {
                tally.hit(Hit::SectorLost);
                let end = (start + SECTOR_BYTES).min(len);
                match stale.and_then(|old| old.get(start..end)) {
                    Some(old) if start >= old_len && mood.shows_stale(rng) => {
                        durable[start..end].copy_from_slice(old);
                        tally.hit(Hit::StaleBytes);
                    }
                    _ => zeros |= start >= old_len,
                }
            }
            data_lost |= torn || !kept;
            if before.is_some_and(|(prior, fate)| prior + 1 == sector && fate != kept) {
                tally.hit(Hit::WriteTorn);
            }
            before = Some((sector, kept));
        }
        if zeros {
            tally.hit(Hit::GrownZero);
        }
        if shrunk {
            self.cached = Arc::new(durable.clone());
        } else {
            let cached = Arc::make_mut(&mut self.cached);
            cached.resize(len, 0);
            for sector in dirty.iter().chain(self.orphaned.iter()) {
                copy_sector(durable, cached, sector);
            }
        }
        dirty.clear();
        self.dirty = dirty;
        self.orphaned.clear();
        self.lengths.clear();
        debug_assert_eq!(self.cached, self.durable);
        data_lost
    }

    /// Makes `durable` as long as the power cut leaves it. Returns the length and the
    /// offset from which on no unsynced write can have survived, because the cut it
    /// followed did not.
    fn crash_length(
        &mut self,
        rng: &mut SplitMix64,
        mood: &Mood,
        tally: &mut Tally,
    ) -> (usize, usize) {
        let before = self.durable.len();
        let kept = mood.prefix(rng, self.lengths.len());
        let (done, undone) = self.lengths.split_at(kept);
        let mut len = done.last().copied().unwrap_or(before);
        let prior = match done {
            [.., prior, _] => *prior,
            _ => before,
        };
        if len > prior && rng.one_in(8) {
            // Caught in the midst of growing, at a page.
            let page = 4096;
            len = prior.max((prior + rng.below((len - prior) as u64) as usize) / page * page);
        }
        let mut sure = usize::MAX;
        let mut at = len;
        for &next in undone {
            if next < at {
                sure = sure.min(next);
            }
            at = next;
        }
        if undone.iter().any(|&next| next > len) {
            tally.hit(Hit::GrowthLost);
        }
        let low = done.iter().copied().min().unwrap_or(before);
        let durable = Arc::make_mut(&mut self.durable);
        durable.truncate(low);
        durable.resize(len, 0);
        (len, sure)
    }

    fn shrunk(&self) -> bool {
        let mut at = self.durable.len();
        self.lengths.iter().any(|&next| {
            let shrinks = next < at;
            at = next;
            shrinks
        })
    }

    fn settle_length(&mut self) {
        if self.lengths.is_empty() {
            return;
        }
        let low = self.lengths.iter().copied().min().unwrap_or(0);
        let durable = Arc::make_mut(&mut self.durable);
        durable.truncate(low);
        durable.resize(self.cached.len(), 0);
        self.lengths.clear();
    }

    fn persist(&mut self, sector: usize) {
        let durable = Arc::make_mut(&mut self.durable);
        copy_sector(&self.cached, durable, sector);
        self.dirty.remove(sector);
        self.orphaned.remove(sector);
    }

    /// Changes cache and disk alike, as damage does.
    pub(super) fn damage(&mut self, change: impl Fn(&mut Vec<u8>)) {
        change(Arc::make_mut(&mut self.cached));
        change(Arc::make_mut(&mut self.durable));
        let sectors = self.cached.len().div_ceil(SECTOR_BYTES);
        self.dirty.cut(sectors);
        self.orphaned.cut(sectors);
        for len in &mut self.lengths {
            *len = (*len).min(self.cached.len());
        }
    }
}

/// Part new, part old.
fn tear(rng: &mut SplitMix64, new: &[u8], old: &mut [u8]) {
    let cut = rng.below(new.len() as u64 + 1) as usize;
    match rng.below(3) {
        0 => old[..cut].copy_from_slice(&new[..cut]),
        1 => old[cut..].copy_from_slice(&new[cut..]),
        _ => {
            for (old, new) in old.chunks_mut(8).zip(new.chunks(8)) {
                if rng.one_in(2) {
                    old.copy_from_slice(new);
                }
            }
        }
    }
}

fn sectors_of(start: usize, end: usize) -> std::ops::Range<usize> {
    start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)
}

fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
    let start = sector * SECTOR_BYTES;
    let end = (start + SECTOR_BYTES).min(from.len()).min(to.len());
    if start < end {
        to[start..end].copy_from_slice(&from[start..end]);
    }
}

/// A set of sector numbers, as bits.
#[derive(Debug, Clone, Default)]
struct Sectors {
    words: Vec<u64>,
    count: usize,
}

impl Sectors {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn contains(&self, sector: usize) -> bool {
        self.words
            .get(sector / 64)
            .is_some_and(|word| word & (1 << (sector % 64)) != 0)
    }

    fn insert(&mut self, sector: usize) {
        let word = sector / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (sector % 64);
        self.count += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    fn remove(&mut self, sector: usize) {
        if self.contains(sector) {
            self.words[sector / 64] &= !(1 << (sector % 64));
            self.count -= 1;
        }
    }

    /// Forgets the sectors from this one on.
    fn cut(&mut self, from: usize) {
        let gone: Vec<usize> = self.iter().filter(|&sector| sector >= from).collect();
        for sector in gone {
            self.remove(sector);
        }
    }

    fn clear(&mut self) {
        if self.count > 0 {
            self.words.fill(0);
            self.count = 0;
        }
    }

    fn emptied(mut self) -> Self {
        self.clear();
        self
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = if self.count == 0 {
            &[]
        } else {
            &self.words[..]
        };
        words.iter().enumerate().flat_map(|(i, &word)| {
            std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)))
                .take_while(|&rest| rest != 0)
                .map(move |rest| i * 64 + rest.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_listed_in_order() {
        let mut set = Sectors::default();
        for sector in [200, 0, 63, 64, 5] {
            set.insert(sector);
        }
        set.remove(5);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 200]);
        set.cut(64);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63]);
    }

    /// The invariant that everything else rests on: with no dirty or orphaned sector and no
    /// pending length, cache and disk are the same; and a power cut always leads there.
    #[test]
    fn cache_and_disk_agree_after_every_sync_and_every_crash() {
        for seed in 0..2000 {
            let mut rng = SplitMix64::new(seed);
            let mut node = Node::default();
            for _ in 0..30 {
                let offset = rng.below(8000) as usize;
                match rng.below(8) {
                    0..4 => node.write(&vec![rng.next_u64() as u8; offset % 1500], offset),
                    4 => node.set_len(offset),
                    5 => {
                        node.write_durable(&[7; 512], offset / 512 * 512);
                    }
                    6 => {
                        node.sync();
                        assert_eq!(node.cached, node.durable, "seed {seed}");
                    }
                    _ => {
                        let mood = Mood::draw(&mut rng);
                        node.crash(&mut rng, &mood, None, &mut Tally::new());
                        assert_eq!(node.cached, node.durable, "seed {seed}");
                    }
                }
            }
        }
    }

    #[test]
    fn synced_sectors_survive_every_crash() {
        for seed in 0..2000 {
            let mut rng = SplitMix64::new(seed);
            let mut node = Node::default();
            node.write(&[1; 4096], 0);
            node.sync();
            node.write(&[2; 1024], 1024);
            node.write(&[3; 1024], 4096);
            let mood = Mood::draw(&mut rng);
            node.crash(&mut rng, &mood, None, &mut Tally::new());
            assert!(node.cached[..1024].iter().all(|&b| b == 1), "seed {seed}");
            assert!(
                node.cached[2048..4096].iter().all(|&b| b == 1),
                "seed {seed}"
            );
            assert!(
                node.cached[1024..2048].iter().all(|&b| b == 1 || b == 2),
                "seed {seed}"
            );
        }
    }
}
