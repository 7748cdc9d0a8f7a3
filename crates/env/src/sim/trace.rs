/// A running hash of everything that was asked of a disk. Not for keeping out enemies:
/// for noticing that two runs of one seed differ.
#[derive(Debug, Clone)]
pub(super) struct Trace(u64);

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

impl Trace {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed ^ PRIME)
    }

    pub(super) fn value(&self) -> u64 {
        self.0
    }

    pub(super) fn number(&mut self, n: u64) {
        let mixed = (self.0 ^ n).wrapping_mul(PRIME);
        self.0 = mixed ^ (mixed >> 32);
    }

    /// Four lanes, so that large writes cost little.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap_or([0; 8]));
        let mut lanes = [1u64, 2, 3, 4];
        let mut blocks = bytes.chunks_exact(32);
        for block in &mut blocks {
            for (lane, part) in lanes.iter_mut().zip(block.chunks_exact(8)) {
                *lane = (*lane ^ word(part)).wrapping_mul(PRIME).rotate_left(29);
            }
        }
        for lane in lanes {
            self.number(lane);
        }
        for &byte in blocks.remainder() {
            self.number(u64::from(byte));
        }
        self.number(bytes.len() as u64);
    }
}
