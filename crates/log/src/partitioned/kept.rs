//! A file that keeps a partition's index of deltas, so that opening the log reads no history.
//! It can be made again from the events, and is never trusted over them: it is not synced, and
//! counts only up to the last mark that the partition's events agree with.
//!
//! It is a row of entries of 24 bytes, all numbers little-endian:
//!
//! | bytes | an entry | a mark |
//! | --- | --- | --- |
//! | 0..8 | offset of the event | so many events are indexed by what stands before |
//! | 8..16 | how many events it depends on | the last half of the id of the last of them |
//! | 16..20 | of which partition | `ff ff ff ff` |
//! | 20..24 | checksum of the bytes before | the same |

use std::io;
use std::sync::Arc;

use anabranch_env::File;
use anabranch_model::{EventId, PartitionId, content_hash};

const ENTRY_BYTES: usize = 24;
const MARK: u32 = u32::MAX;
/// So many events come between two marks at the most, as long as all goes well.
const MARK_EVERY: u64 = 4_096;
/// So many entries are read at once.
const READ_ENTRIES: usize = 4_096;

/// The event at `offset` depends on the first `count` events of `partition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub offset: u64,
    pub partition: PartitionId,
    pub count: u64,
}

/// See the module's text.
pub(super) struct Kept {
    file: Arc<dyn File>,
    /// So many bytes of it count.
    len: u64,
    /// What is not written yet.
    buffer: Vec<u8>,
    marked_to: u64,
}

/// So many events are indexed, the last of which has this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub known_to: u64,
    id: u64,
}

impl Mark {
    pub fn new(known_to: u64, id: EventId) -> Self {
        Self {
            known_to,
            id: id.as_u128() as u64,
        }
    }
}

impl Kept {
    /// What `file` has up to its last mark.
    pub fn load(file: Arc<dyn File>) -> io::Result<(Self, Vec<Entry>, Option<Mark>)> {
        let (mut entries, mut mark, mut at) = (Vec::new(), None, 0_u64);
        let (mut counted, mut len) = (0, 0);
        let end = file.len()?;
        'read: while at < end {
            let room = (READ_ENTRIES * ENTRY_BYTES) as u64;
            let bytes = (end - at).min(room) as usize / ENTRY_BYTES * ENTRY_BYTES;
            if bytes == 0 {
                break;
            }
            let mut chunk = vec![0; bytes];
            file.read_exact_at(&mut chunk, at)?;
            for entry in chunk.as_chunks::<ENTRY_BYTES>().0 {
                let Some((offset, count, partition)) = decode(entry) else {
                    break 'read;
                };
                at += ENTRY_BYTES as u64;
                if partition == MARK {
                    (counted, len) = (entries.len(), at);
                    mark = Some(Mark {
                        known_to: offset,
                        id: count,
                    });
                } else {
                    entries.push(Entry {
                        offset,
                        partition: PartitionId(partition),
                        count,
                    });
                }
            }
        }
        entries.truncate(counted);
        file.set_len(len)?;
        let kept = Self {
            file,
            len,
            buffer: Vec::new(),
            marked_to: mark.map_or(0, |mark| mark.known_to),
        };
        Ok((kept, entries, mark))
    }

    /// Forgets everything that was kept.
    pub fn begin_again(&mut self) -> io::Result<()> {
        (self.len, self.marked_to) = (0, 0);
        self.file.set_len(0)
    }

    pub fn put(&mut self, entry: Entry) {
        let encoded = encode(entry.offset, entry.count, entry.partition.0);
        self.buffer.extend_from_slice(&encoded);
    }

    pub fn is_due(&self, known_to: u64) -> bool {
        known_to - self.marked_to >= MARK_EVERY
    }

    /// Writes what was put, and that the index goes so far.
    pub fn write(&mut self, mark: Mark) -> io::Result<()> {
        if mark.known_to == self.marked_to {
            return Ok(());
        }
        let encoded = encode(mark.known_to, mark.id, MARK);
        self.buffer.extend_from_slice(&encoded);
        self.file.write_all_at(&self.buffer, self.len)?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        self.marked_to = mark.known_to;
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    (content_hash([bytes]) as u32).to_le_bytes()
}

fn encode(offset: u64, count: u64, partition: u32) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..16].copy_from_slice(&count.to_le_bytes());
    bytes[16..20].copy_from_slice(&partition.to_le_bytes());
    let sum = checksum(&bytes[..20]);
    bytes[20..].copy_from_slice(&sum);
    bytes
}

fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<(u64, u64, u32)> {
    let number = |from: usize| bytes.get(from..from + 8)?.try_into().ok();
    let offset = u64::from_le_bytes(number(0)?);
    let count = u64::from_le_bytes(number(8)?);
    let partition = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?);
    (bytes[20..] == checksum(&bytes[..20])).then_some((offset, count, partition))
}
