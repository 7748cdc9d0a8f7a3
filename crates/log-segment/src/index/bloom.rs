//! A blocked Bloom filter: one cache line a key. Source: Putze, Sanders, Singler,
//! "Cache-, Hash- and Space-Efficient Bloom Filters", WEA 2007.

use std::sync::RwLock;

use super::error::IndexError;
use crate::sync::{read, write};

/// Bits a key gets: about one false answer in a hundred.
const BITS_PER_KEY: usize = 12;
const WORDS: usize = 8;

/// Says "not here" for sure and "here" with few mistakes.
pub(crate) struct Bloom {
    words: Vec<u64>,
}

impl Bloom {
    pub fn with_keys(count: usize) -> Self {
        let lines = (count * BITS_PER_KEY).div_ceil(512).max(1);
        Self {
            words: vec![0; lines * WORDS],
        }
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(WORDS * 8) {
            return None;
        }
        let words = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect();
        Some(Self { words })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    pub fn memory(&self) -> usize {
        self.words.len() * 8
    }

    fn line(&self, key: u64) -> usize {
        let lines = self.words.len() / WORDS;
        ((u128::from(key) * lines as u128) >> 64) as usize * WORDS
    }

    /// Six bits of one line, from bits of the key that do not choose the line.
    fn probes(key: u64) -> impl Iterator<Item = (usize, u64)> {
        let mut bits = key.wrapping_mul(0xa076_1d64_78bd_642f);
        (0..6).map(move |_| {
            let bit = bits & 511;
            bits >>= 9;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    pub fn insert(&mut self, key: u64) {
        let line = self.line(key);
        for (word, mask) in Self::probes(key) {
            self.words[line + word] |= mask;
        }
    }

    pub fn may_contain(&self, key: u64) -> bool {
        let line = self.line(key);
        Self::probes(key).all(|(word, mask)| self.words[line + word] & mask != 0)
    }
}

/// A filter that is read from its file when first used, and given up when memory is
/// short: then every key may be there.
#[derive(Default)]
pub(crate) struct LazyBloom(RwLock<Held>);

#[derive(Default)]
enum Held {
    #[default]
    NotYet,
    Loaded(Bloom),
    GivenUp,
}

impl LazyBloom {
    /// Whether `key` may be there; `load` gives the filter's bytes.
    pub fn may_contain(
        &self,
        key: u64,
        load: impl FnOnce() -> Result<Vec<u8>, IndexError>,
    ) -> Result<bool, IndexError> {
        match &*read(&self.0) {
            Held::Loaded(bloom) => return Ok(bloom.may_contain(key)),
            Held::GivenUp => return Ok(true),
            Held::NotYet => {}
        }
        let Some(bloom) = Bloom::from_bytes(&load()?) else {
            return Err(IndexError::Damaged {
                offset: 0,
                what: "a filter has the wrong length",
            });
        };
        let may = bloom.may_contain(key);
        *write(&self.0) = Held::Loaded(bloom);
        Ok(may)
    }

    /// Bytes held in memory.
    pub fn memory(&self) -> usize {
        match &*read(&self.0) {
            Held::Loaded(bloom) => bloom.memory(),
            _ => 0,
        }
    }

    /// Gives the memory back for good.
    pub fn give_up(&self) {
        *write(&self.0) = Held::GivenUp;
    }
}

#[cfg(test)]
mod tests {
    use super::super::id_key;
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others() {
        let mut bloom = Bloom::with_keys(10_000);
        for i in 0..10_000 {
            bloom.insert(id_key(7, i));
        }
        let bloom = Bloom::from_bytes(&bloom.to_bytes()).unwrap();
        assert!((0..10_000).all(|i| bloom.may_contain(id_key(7, i))));
        let wrong = (10_000..110_000)
            .filter(|&i| bloom.may_contain(id_key(7, i)))
            .count();
        assert!(wrong < 2_500, "{wrong} of 100,000 foreign keys were let in");
    }
}
