//! Maps whose order is the same in every run.

use std::hash::{BuildHasher, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A hash map with a fixed hasher: its order depends on what is in it, and on nothing else.
pub type HashMap<K, V> = hashbrown::HashMap<K, V, FixedHash>;

/// Makes hashers that give the same numbers in every run.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedHash;

/// XXH3 over each part, seeded with the hash of what came before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Xxh3(u64);

impl BuildHasher for FixedHash {
    type Hasher = Xxh3;

    fn build_hasher(&self) -> Xxh3 {
        Xxh3::default()
    }
}

impl Hasher for Xxh3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = self.0.rotate_left(8) ^ u64::from(byte);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
