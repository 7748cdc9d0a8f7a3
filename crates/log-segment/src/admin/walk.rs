//! Reads the frames of a segment one after another, from a file that may be damaged.

use std::io;
use std::ops::Range;

use anabranch_env::File;

use crate::format::{
    FRAME_ALIGN, FRAME_HEADER, FrameAt, FrameHeader, PAGE, Spot, find_frame_magic, frame_at,
};
use crate::reading::read_readable;

const CHUNK: usize = 1 << 20;

/// What stands at a place of a segment.
pub(super) enum Look<'b> {
    /// A frame that passes its checksum: its header, its bytes without the padding, and
    /// the padding.
    Frame(FrameHeader, &'b [u8], &'b [u8]),
    /// No frame, and why.
    Bad(String),
}

/// A segment's bytes, read ahead.
pub(super) struct Frames<'a> {
    file: &'a dyn File,
    segment_id: u64,
    hash_key: u64,
    /// Bytes the file has.
    len: u64,
    buf: Vec<u8>,
    /// Where in the file `buf` begins.
    base: u64,
}

impl<'a> Frames<'a> {
    pub fn new(file: &'a dyn File, segment_id: u64, hash_key: u64, len: u64) -> Self {
        Self {
            file,
            segment_id,
            hash_key,
            len,
            buf: Vec::new(),
            base: 0,
        }
    }

    /// Makes `buf` hold `want` bytes from `offset` on, or as many as can be read; gives
    /// the error that kept it from more.
    fn fill(&mut self, offset: u64, want: usize) -> Option<io::Error> {
        let have = self.base..self.base + self.buf.len() as u64;
        let end = (offset + want as u64).min(self.len);
        if have.contains(&offset) && end <= have.end || offset >= self.len {
            return None;
        }
        let room = usize::try_from(self.len - offset).unwrap_or(usize::MAX);
        self.buf.resize(want.max(CHUNK).min(room), 0);
        self.base = offset;
        let (len, error) = read_readable(self.file, &mut self.buf, offset);
        self.buf.truncate(len);
        error
    }

    /// The bytes in `range` of what was read.
    fn held(&self, range: Range<u64>) -> &[u8] {
        let at = |offset: u64| {
            let at = offset.saturating_sub(self.base) as usize;
            at.min(self.buf.len())
        };
        &self.buf[at(range.start)..at(range.end)]
    }

    /// What stands at `offset`.
    pub fn look(&mut self, offset: u64) -> Look<'_> {
        let room = self.len.saturating_sub(offset);
        let spot = Spot {
            segment_id: self.segment_id,
            offset,
            hash_key: self.hash_key,
        };
        let mut want = FRAME_HEADER;
        let mut refused = None;
        loop {
            if let Some(error) = self.fill(offset, want) {
                refused = Some(error);
            }
            let bytes = self.held(offset..self.len);
            match frame_at(bytes, room, spot, true) {
                FrameAt::Short(needed) if needed > want && refused.is_none() => want = needed,
                FrameAt::Short(_) => {
                    return Look::Bad(refused.map_or_else(
                        || "the file ends inside a frame".to_owned(),
                        |error| format!("the disk says: {error}"),
                    ));
                }
                FrameAt::Bad(why) => return Look::Bad(why.to_owned()),
                FrameAt::Frame(header) => {
                    let end = offset + header.unpadded_len() as u64;
                    let padded = offset + header.frame_len() as u64;
                    self.fill(offset, header.frame_len());
                    return Look::Frame(header, self.held(offset..end), self.held(end..padded));
                }
            }
        }
    }

    /// The first good frame behind `offset` that `wanted` takes.
    pub fn search(
        &mut self,
        offset: u64,
        wanted: impl Fn(&FrameHeader) -> bool,
    ) -> Option<(u64, FrameHeader)> {
        let mut at = (offset + 1).next_multiple_of(FRAME_ALIGN as u64);
        while at < self.len {
            if self.fill(at, FRAME_HEADER).is_some() && self.held(at..self.len).len() < FRAME_ALIGN
            {
                at = (at + 1).next_multiple_of(PAGE as u64);
                continue;
            }
            let Some(found) = find_frame_magic(self.held(at..self.len)) else {
                let held = self.held(at..self.len).len().max(FRAME_ALIGN) as u64;
                at += held / FRAME_ALIGN as u64 * FRAME_ALIGN as u64;
                continue;
            };
            at += found as u64;
            if let Look::Frame(header, ..) = self.look(at)
                && wanted(&header)
            {
                return Some((at, header));
            }
            at += FRAME_ALIGN as u64;
        }
        None
    }

    /// Where to go on behind damage at `offset`: the first good frame that `wanted` takes,
    /// unless the one behind it comes before it in position. Then the disk wrote the first
    /// one to a wrong place.
    pub fn resume(
        &mut self,
        offset: u64,
        wanted: impl Fn(&FrameHeader) -> bool,
    ) -> Option<(u64, FrameHeader)> {
        let mut found = self.search(offset, &wanted)?;
        loop {
            let end = found.0 + found.1.frame_len() as u64;
            match self.search(end - 1, &wanted) {
                Some(next) if next.1.first < found.1.first => found = next,
                _ => return Some(found),
            }
        }
    }

    /// Where in `from..to` the first byte stands that is not zero; gives an unreadable
    /// place too.
    pub fn first_nonzero(&mut self, from: u64, to: u64) -> Option<u64> {
        let mut at = from;
        let to = to.min(self.len);
        while at < to {
            self.fill(at, (to - at).min(CHUNK as u64) as usize);
            let held = self.held(at..to);
            if held.is_empty() {
                return Some(at);
            }
            if let Some(found) = held.iter().position(|&b| b != 0) {
                return Some(at + found as u64);
            }
            at += held.len() as u64;
        }
        None
    }
}
