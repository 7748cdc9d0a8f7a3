//! The newest events in memory, for those who follow.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Context;

use anabranch_model::{Block, BlockEntry, PartitionId};

use crate::sync::{WakerSet, lock};

/// Blocks of the commit groups published last. A follower that falls behind them reads
/// the disk, as everybody else.
#[derive(Default)]
pub(crate) struct Tail {
    /// How much of the log's end is kept while somebody follows, in bytes.
    pub bytes_max: usize,
    followers: AtomicUsize,
    blocks: Mutex<Blocks>,
    waiting: WakerSet,
}

#[derive(Default)]
struct Blocks {
    queue: VecDeque<Arc<Block>>,
    bytes: usize,
}

impl Tail {
    pub fn enter(&self) {
        self.followers.fetch_add(1, Ordering::AcqRel);
    }

    pub fn leave(&self) {
        if self.followers.fetch_sub(1, Ordering::AcqRel) == 1 {
            *lock(&self.blocks) = Blocks::default();
            // Where nothing is published any more, nobody else would let go of those who waited.
            self.waiting.wake_all();
        }
    }

    pub fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Acquire) > 0
    }

    /// Keeps a published group.
    pub fn push(&self, bytes: &[u8], entries: &[BlockEntry]) {
        let block = Arc::new(Block {
            bytes: bytes.to_vec().into(),
            entries: entries.to_vec(),
            partition: PartitionId(0),
        });
        let mut blocks = lock(&self.blocks);
        blocks.bytes += block.bytes.len();
        blocks.queue.push_back(block);
        while blocks.bytes > self.bytes_max && blocks.queue.len() > 1 {
            if let Some(old) = blocks.queue.pop_front() {
                blocks.bytes -= old.bytes.len();
            }
        }
    }

    /// The kept block that holds `position`, if any.
    pub fn find(&self, position: u64) -> Option<Arc<Block>> {
        let blocks = lock(&self.blocks);
        let after = blocks
            .queue
            .partition_point(|block| block.entries.first().is_some_and(|e| e.first <= position));
        let block = blocks.queue.get(after.checked_sub(1)?)?;
        let last = block.entries.last()?;
        (position < last.first + u64::from(last.count)).then(|| block.clone())
    }

    /// Wakes the task at the next publication. Look at the position again after calling.
    pub fn register(&self, cx: &Context<'_>) {
        self.waiting.register(cx);
    }

    pub fn wake(&self) {
        self.waiting.wake_all();
    }
}
