//! Memory that direct writes accept.

const ALIGN: usize = 4096;

/// A growing byte buffer whose data begins at a multiple of 4,096 in memory.
pub(crate) struct AlignedBuf {
    /// `vec[..start]` is slack that brings the data to its alignment.
    vec: Vec<u8>,
    start: usize,
}

impl AlignedBuf {
    pub fn with_capacity(capacity: usize) -> Self {
        let mut vec: Vec<u8> = Vec::with_capacity(capacity + ALIGN);
        let start = vec.as_ptr().align_offset(ALIGN);
        assert!(start < ALIGN, "a byte pointer can be aligned");
        vec.resize(start, 0);
        Self { vec, start }
    }

    pub fn len(&self) -> usize {
        self.vec.len() - self.start
    }

    pub fn clear(&mut self) {
        self.vec.truncate(self.start);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.vec[self.start..]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.vec[self.start..]
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.vec.extend_from_slice(bytes);
    }

    pub fn truncate(&mut self, len: usize) {
        self.vec.truncate(self.start + len);
    }

    /// Appends zeros up to `len` bytes.
    pub fn pad_to(&mut self, len: usize) {
        if len > self.len() {
            self.reserve(len - self.len());
            self.vec.resize(self.start + len, 0);
        }
    }

    /// Lets `write` append at most `max` bytes to the data.
    pub fn append_with(&mut self, max: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.reserve(max);
        let base = self.vec.as_ptr();
        write(&mut self.vec);
        assert_eq!(base, self.vec.as_ptr(), "more was written than reserved");
    }

    fn reserve(&mut self, more: usize) {
        if self.vec.capacity() - self.vec.len() < more {
            let mut grown = Self::with_capacity((self.len() + more).next_power_of_two());
            grown.vec.extend_from_slice(self.bytes());
            *self = grown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_stays_aligned_while_it_grows() {
        let mut buf = AlignedBuf::with_capacity(10);
        for i in 0..2000_u32 {
            buf.extend(&i.to_le_bytes());
            assert_eq!(buf.bytes().as_ptr() as usize % ALIGN, 0);
        }
        assert_eq!(buf.bytes()[4000..4004], 1000_u32.to_le_bytes());
    }
}
