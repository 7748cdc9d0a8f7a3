//! The heads of streams whose latest events are in sealed parts: a cache.

use hashbrown::HashTable;

const SHARDS: usize = 256;
/// What an entry costs, with the room a growing table keeps free.
const ENTRY_BYTES: usize = 40;

/// Stream key → the version its next event gets.
///
/// A cache of two generations: when the young one is full it becomes the old one, and the
/// old one is forgotten. Forgetting is safe, the sealed indexes know. In shards, so that a
/// growing table never holds up an append for long.
pub(crate) struct Heads {
    young: Generation,
    old: Generation,
    generation_max: usize,
    /// Whether every stream that is not here is new.
    complete: bool,
}

struct Generation {
    shards: Vec<HashTable<Entry>>,
    count: usize,
}

/// 24 bytes: a `u128` would be padded to 32.
struct Entry {
    key: [u64; 2],
    next_version: u64,
}

fn halves(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

impl Generation {
    fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            count: 0,
        }
    }

    fn shard(key: u128) -> usize {
        (key >> 64) as usize % SHARDS
    }

    fn get(&self, key: u128) -> Option<u64> {
        let key_halves = halves(key);
        self.shards[Self::shard(key)]
            .find(key as u64, |e| e.key == key_halves)
            .map(|e| e.next_version)
    }

    fn insert(&mut self, key: u128, next_version: u64) {
        let key_halves = halves(key);
        let shard = &mut self.shards[Self::shard(key)];
        match shard.find_mut(key as u64, |e| e.key == key_halves) {
            Some(entry) => entry.next_version = next_version,
            None => {
                let entry = Entry {
                    key: key_halves,
                    next_version,
                };
                shard.insert_unique(key as u64, entry, |e| e.key[0]);
                self.count += 1;
            }
        }
    }
}

impl Heads {
    /// An empty cache that takes about `memory` bytes at most. `complete`: the log has no
    /// sealed part yet.
    pub fn new(memory: usize, complete: bool) -> Self {
        Self {
            young: Generation::new(),
            old: Generation::new(),
            generation_max: (memory / ENTRY_BYTES / 2).max(1024),
            complete,
        }
    }

    /// `Some(None)`: there is no such stream. `None`: not known here.
    pub fn get(&mut self, key: u128) -> Option<Option<u64>> {
        if let Some(next) = self.young.get(key) {
            return Some(Some(next));
        }
        if let Some(next) = self.old.get(key) {
            if !self.complete {
                // Kept in use: carried over to the young generation.
                self.insert(key, next);
            }
            return Some(Some(next));
        }
        self.complete.then_some(None)
    }

    /// What was known of a stream stays if it is newer: whoever looked a head up beside a
    /// seal may come with it late, and what is sealed is never taken back.
    pub fn insert(&mut self, key: u128, next_version: u64) {
        let known = self.young.get(key).max(self.old.get(key));
        let next_version = next_version.max(known.unwrap_or(0));
        if self.young.count >= self.generation_max {
            self.complete &= self.old.count == 0;
            self.old = std::mem::replace(&mut self.young, Generation::new());
        }
        self.young.insert(key, next_version);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young = Generation::new();
        self.old = Generation::new();
        self.complete = false;
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.young.count + self.old.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u128) -> u128 {
        i.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    #[test]
    fn a_complete_cache_knows_which_streams_are_new() {
        let mut heads = Heads::new(1 << 20, true);
        heads.insert(key(1), 5);
        assert_eq!(heads.get(key(1)), Some(Some(5)));
        assert_eq!(heads.get(key(2)), Some(None));
    }

    #[test]
    fn an_older_head_that_comes_late_does_not_replace_a_newer_one() {
        let mut heads = Heads::new(0, true);
        heads.insert(key(1), 7);
        heads.insert(key(1), 5);
        assert_eq!(heads.get(key(1)), Some(Some(7)));
        for i in 2..1_500 {
            heads.insert(key(i), 1);
        }
        heads.insert(key(1), 5);
        assert_eq!(
            heads.get(key(1)),
            Some(Some(7)),
            "from the older generation"
        );
    }

    #[test]
    fn memory_stays_bounded_and_the_newest_are_kept() {
        let mut heads = Heads::new(0, true);
        for i in 0..100_000 {
            heads.insert(key(i), i as u64);
        }
        assert!(heads.count() <= 2048);
        assert_eq!(heads.get(key(99_999)), Some(Some(99_999)));
        assert_eq!(heads.get(key(0)), None, "forgotten is not the same as new");
    }
}
