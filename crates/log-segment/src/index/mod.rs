//! Indexes: from ids, streams and terms to positions.
//!
//! The events of the log's end are indexed in memory ([`ActiveIndex`]); when a segment is
//! full, its index is written to a file beside it ([`SealedIndex`]). Both can be made again
//! from the segment, and are never trusted over it: whoever finds an event through an
//! index checks the event.
//!
//! Within one index an event is named by `rel`: its position minus the index's first.

mod active;
mod bloom;
mod catalog;
mod error;
mod pages;
mod sealed;

use anabranch_model::Filter;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

pub(crate) use active::{ActiveIndex, AppendKeys, index_block};
pub(crate) use catalog::{Merge, Run, Source};
pub(crate) use error::IndexError;
#[cfg(test)]
pub(crate) use sealed::ENTRY_SIZES;
pub(crate) use sealed::{Scratch, SealedIndex, write_index, write_index_in};

/// No event.
pub(crate) const NONE: u32 = u32::MAX;

/// Where a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FramePlace {
    /// Its first event.
    pub rel: u32,
    /// Offset in the segment file, in bytes.
    pub offset: u32,
}

/// What an index knows of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamSpan {
    /// Version of its first event here.
    pub first_version: u64,
    /// Version its next event, after those here, would have.
    pub next_version: u64,
    /// How many events it has here.
    pub count: u32,
}

/// A stream's name as a key: 128 bits of a keyed hash. With a secret key and 10^9 streams
/// two streams share a key with probability below 10^-20.
#[inline]
pub(crate) fn stream_key(hash_key: u64, stream: &str) -> u128 {
    xxh3_128_with_seed(stream.as_bytes(), hash_key)
}

/// What an event can be found by, besides its stream and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term<'a> {
    Category(&'a str),
    Type(&'a str),
    Tag(&'a str),
}

/// A term as a key. Two terms may share one; whoever needs to be sure looks at the event.
#[inline]
pub(crate) fn term_key(hash_key: u64, term: Term<'_>) -> u64 {
    let (kind, text) = match term {
        Term::Category(text) => (1, text),
        Term::Type(text) => (2, text),
        Term::Tag(text) => (3, text),
    };
    xxh3_64_with_seed(text.as_bytes(), hash_key ^ (kind << 56))
}

/// An id as a key: a keyed hash, so that strangers cannot choose ids that share one.
#[inline]
pub(crate) fn id_key(hash_key: u64, id: u128) -> u64 {
    xxh3_64_with_seed(&id.to_be_bytes(), hash_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_share_a_plain_hash_do_not_share_a_key() {
        // Under the hash without a key that was here, all of these had one.
        let ids = (0..1_000_u128).map(|high| {
            let low = (high as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            high << 64 | u128::from(low)
        });
        let keys: std::collections::BTreeSet<u64> = ids.map(|id| id_key(7, id)).collect();
        assert_eq!(keys.len(), 1_000);
        assert_ne!(id_key(7, 1), id_key(8, 1));
    }
}

/// One way to find a superset of the events a filter wants: the union of some postings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    Streams(Vec<u128>),
    Terms(Vec<u64>),
}

/// The ways to find what `filter` wants; none if only reading everything will do.
pub(crate) fn lookups(hash_key: u64, filter: &Filter) -> Vec<Lookup> {
    let mut ways = Vec::new();
    if !filter.streams.is_empty() {
        let mut keys: Vec<_> = filter
            .streams
            .iter()
            .map(|s| stream_key(hash_key, s.as_str()))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        ways.push(Lookup::Streams(keys));
    }
    let mut terms = |keys: Vec<u64>| {
        let mut keys = keys;
        keys.sort_unstable();
        keys.dedup();
        if !keys.is_empty() {
            ways.push(Lookup::Terms(keys));
        }
    };
    let category = |c: &String| term_key(hash_key, Term::Category(c));
    terms(filter.categories.iter().map(category).collect());
    terms(
        filter
            .types
            .iter()
            .map(|t| term_key(hash_key, Term::Type(t.as_str())))
            .collect(),
    );
    for tag in &filter.tags {
        terms(vec![term_key(hash_key, Term::Tag(tag))]);
    }
    ways
}
