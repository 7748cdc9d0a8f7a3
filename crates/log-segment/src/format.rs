//! The bytes of segment files and of the mark file. `docs/formats/segment.md` tells the
//! same for people; the tests below hold both to one set of numbers.
//!
//! All integers are little-endian.

use anabranch_model::BlockEntry;
use thiserror::Error;

/// The newest version of the formats in this file.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The unit that headers and mark slots fill.
pub(crate) const PAGE: usize = 4096;
/// Where the frames of a segment begin, after two copies of its header.
pub(crate) const DATA_START: u64 = 2 * PAGE as u64;
/// The fixed part of a frame.
pub(crate) const FRAME_HEADER: usize = 40;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;

const SEGMENT_MAGIC: &[u8; 8] = b"ANABSEG\0";
const MARK_MAGIC: &[u8; 8] = b"ANABMRK\0";
const FRAME_MAGIC: u16 = 0xa7bf;

/// CRC-32C of `bytes`.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Reads a little-endian integer at a fixed place of a buffer that is long enough.
macro_rules! get {
    ($t:ty, $bytes:expr, $at:expr) => {{
        let mut raw = [0; size_of::<$t>()];
        raw.copy_from_slice(&$bytes[$at..$at + size_of::<$t>()]);
        <$t>::from_le_bytes(raw)
    }};
}
pub(crate) use get;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum FormatError {
    #[error("{0}")]
    Damaged(String),
    #[error("format version {found} is newer than {known}")]
    Newer { found: u32, known: u32 },
}

fn damaged(what: impl Into<String>) -> FormatError {
    FormatError::Damaged(what.into())
}

/// What a log is, written into every segment header and mark slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogIdentity {
    /// Drawn when the log was made.
    pub log_id: u128,
    /// Seed of the hashes in the indexes; secret enough to keep strangers from making
    /// names that collide.
    pub hash_key: u64,
}

/// Every page that says which log it belongs to says it at the same place.
impl LogIdentity {
    fn encode(&self, page: &mut [u8]) {
        page[16..32].copy_from_slice(&self.log_id.to_le_bytes());
        page[32..40].copy_from_slice(&self.hash_key.to_le_bytes());
    }

    pub fn decode(page: &[u8]) -> Self {
        Self {
            log_id: get!(u128, page, 16),
            hash_key: get!(u64, page, 32),
        }
    }
}

/// The head of a segment file, stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub identity: LogIdentity,
    /// Number of the segment; also its file name. Grows; may skip.
    pub segment_id: u64,
    /// The position of its first event.
    pub first: u64,
    /// Length of the file, in bytes.
    pub capacity: u64,
    /// When it was made: microseconds since 1970.
    pub created_at: u64,
    /// The segment that holds the events before `first`; 0 if there is none, or none that
    /// is known.
    pub previous: u64,
}

impl SegmentHeader {
    /// Both copies, ready to be written at offset 0.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[0..8].copy_from_slice(SEGMENT_MAGIC);
        page[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        self.identity.encode(&mut page);
        page[40..48].copy_from_slice(&self.segment_id.to_le_bytes());
        page[48..56].copy_from_slice(&self.first.to_le_bytes());
        page[56..64].copy_from_slice(&self.capacity.to_le_bytes());
        page[64..72].copy_from_slice(&self.created_at.to_le_bytes());
        page[72..80].copy_from_slice(&self.previous.to_le_bytes());
        seal_page(&mut page);
        page.repeat(2)
    }

    /// One copy, from its page.
    pub fn decode(page: &[u8]) -> Result<Self, FormatError> {
        open_page(page, SEGMENT_MAGIC, "segment header")?;
        Ok(Self {
            identity: LogIdentity::decode(page),
            segment_id: get!(u64, page, 40),
            first: get!(u64, page, 48),
            capacity: get!(u64, page, 56),
            created_at: get!(u64, page, 64),
            previous: get!(u64, page, 72),
        })
    }
}

/// The durable mark: how far the log was known to be on the disk, kept in a file of its
/// own in two slots that are written in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub identity: LogIdentity,
    /// Grows with each mark; the greater of two slots counts. Its parity is its slot.
    pub sequence: u64,
    /// Grows with each opening for writing.
    pub epoch: u64,
    /// Every event before this position was on the disk.
    pub durable: u64,
    /// The segment that `durable` ends in.
    pub segment_id: u64,
    /// Where in that segment it ends, in bytes.
    pub offset: u64,
    /// Whether the log was closed in order, with nothing written after `offset`.
    pub clean: bool,
}

impl Mark {
    /// Where this mark's slot begins.
    pub fn slot_offset(&self) -> u64 {
        (self.sequence % 2) * PAGE as u64
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        page[0..8].copy_from_slice(MARK_MAGIC);
        page[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        page[12] = u8::from(self.clean);
        self.identity.encode(&mut page);
        page[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        page[48..56].copy_from_slice(&self.epoch.to_le_bytes());
        page[56..64].copy_from_slice(&self.durable.to_le_bytes());
        page[64..72].copy_from_slice(&self.segment_id.to_le_bytes());
        page[72..80].copy_from_slice(&self.offset.to_le_bytes());
        seal_page(&mut page);
        page
    }

    pub fn decode(page: &[u8]) -> Result<Self, FormatError> {
        open_page(page, MARK_MAGIC, "mark")?;
        Ok(Self {
            identity: LogIdentity::decode(page),
            sequence: get!(u64, page, 40),
            epoch: get!(u64, page, 48),
            durable: get!(u64, page, 56),
            segment_id: get!(u64, page, 64),
            offset: get!(u64, page, 72),
            clean: page[12] == 1,
        })
    }
}

/// What the writer tells readers in other processes: how far the log may be read. Kept in
/// a small file that is written after each commit and never synced, so it counts only
/// while a writer holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Live {
    /// The writer's [`Mark::epoch`].
    pub epoch: u64,
    pub published: u64,
}

impl Live {
    pub const BYTES: usize = 20;

    fn checksum(bytes: &[u8], identity: LogIdentity) -> u32 {
        crc32c(&bytes[..16]) ^ identity.log_id as u32
    }

    pub fn encode(&self, identity: LogIdentity) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..8].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.published.to_le_bytes());
        let crc = Self::checksum(&bytes, identity);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8], identity: LogIdentity) -> Option<Self> {
        let whole =
            bytes.len() == Self::BYTES && get!(u32, bytes, 16) == Self::checksum(bytes, identity);
        whole.then(|| Self {
            epoch: get!(u64, bytes, 0),
            published: get!(u64, bytes, 8),
        })
    }
}

/// Writes the checksum into the last four bytes of a page.
fn seal_page(page: &mut [u8]) {
    let crc = crc32c(&page[..PAGE - 4]);
    page[PAGE - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn open_page(page: &[u8], magic: &[u8; 8], what: &str) -> Result<(), FormatError> {
    if page.len() != PAGE {
        return Err(damaged(format!("{what} is cut short")));
    }
    if &page[0..8] != magic {
        return Err(damaged(format!("{what} has no magic number")));
    }
    if get!(u32, page, PAGE - 4) != crc32c(&page[..PAGE - 4]) {
        return Err(damaged(format!("{what} fails its checksum")));
    }
    let found = get!(u32, page, 8);
    if found > FORMAT_VERSION {
        return Err(FormatError::Newer {
            found,
            known: FORMAT_VERSION,
        });
    }
    Ok(())
}

/// The fixed part of a frame: one atomic batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub segment_id: u64,
    /// Position of the first event.
    pub first: u64,
    pub count: u16,
    pub body_len: u32,
    /// Every event before this position was on the disk when the frame was written.
    pub durable: u64,
    pub recorded_at: u64,
}

impl FrameHeader {
    /// The bytes a frame takes, padding included.
    pub fn frame_len(&self) -> usize {
        frame_len(self.body_len as usize)
    }

    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    pub fn entry(&self, frame_start: usize) -> BlockEntry {
        BlockEntry {
            first: self.first,
            count: u32::from(self.count),
            recorded_at: self.recorded_at,
            start: (frame_start + FRAME_HEADER) as u32,
            len: self.body_len,
        }
    }
}

/// The bytes a frame with a body of this length takes, padding included.
pub(crate) fn frame_len(body_len: usize) -> usize {
    (FRAME_HEADER + body_len).next_multiple_of(FRAME_ALIGN)
}

/// Fills in the header of the frame whose body stands in `frame[FRAME_HEADER..]`.
/// `frame` ends with the body, before the padding.
pub(crate) fn seal_frame(frame: &mut [u8], header: &FrameHeader) {
    frame[4..6].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    frame[6..8].copy_from_slice(&header.count.to_le_bytes());
    frame[8..12].copy_from_slice(&header.body_len.to_le_bytes());
    frame[12..16].copy_from_slice(&(header.segment_id as u32).to_le_bytes());
    frame[16..24].copy_from_slice(&header.first.to_le_bytes());
    frame[24..32].copy_from_slice(&header.durable.to_le_bytes());
    frame[32..40].copy_from_slice(&header.recorded_at.to_le_bytes());
    let crc = crc32c(&frame[4..]);
    frame[0..4].copy_from_slice(&crc.to_le_bytes());
}

/// What stands where a frame may begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FrameAt {
    /// A whole frame that passes its checksum.
    Frame(FrameHeader),
    /// The bytes given end before the frame does; it needs this many.
    Short(usize),
    /// No frame, and why.
    Bad(&'static str),
}

/// Looks at the frame that begins at `bytes[0]` in segment `segment_id`. `room` is how
/// many bytes the segment has from here on.
#[inline]
pub(crate) fn frame_at(bytes: &[u8], room: u64, segment_id: u64, check: bool) -> FrameAt {
    if bytes.len() < FRAME_HEADER {
        return if room < FRAME_HEADER as u64 {
            FrameAt::Bad("the segment ends here")
        } else {
            FrameAt::Short(FRAME_HEADER)
        };
    }
    let bytes_head = &bytes[..FRAME_HEADER];
    if get!(u16, bytes_head, 4) != FRAME_MAGIC {
        return FrameAt::Bad("no frame begins here");
    }
    if get!(u32, bytes_head, 12) != segment_id as u32 {
        return FrameAt::Bad("the frame belongs to another segment");
    }
    let header = FrameHeader {
        segment_id,
        first: get!(u64, bytes_head, 16),
        count: get!(u16, bytes_head, 6),
        body_len: get!(u32, bytes_head, 8),
        durable: get!(u64, bytes_head, 24),
        recorded_at: get!(u64, bytes_head, 32),
    };
    let len = FRAME_HEADER + header.body_len as usize;
    if len as u64 > room || header.count == 0 {
        return FrameAt::Bad("the frame's length or count is out of bounds");
    }
    if bytes.len() < len {
        return FrameAt::Short(len);
    }
    if check && get!(u32, bytes_head, 0) != crc32c(&bytes[4..len]) {
        return FrameAt::Bad("the frame fails its checksum");
    }
    FrameAt::Frame(header)
}

/// Offset of the first place in `bytes`, at a multiple of [`FRAME_ALIGN`], where a frame
/// header seems to begin. The caller checks it.
pub(crate) fn find_frame_magic(bytes: &[u8]) -> Option<usize> {
    bytes
        .chunks_exact(FRAME_ALIGN)
        .position(|chunk| chunk[4..6] == FRAME_MAGIC.to_le_bytes())
        .map(|index| index * FRAME_ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            identity: LogIdentity {
                log_id: 7,
                hash_key: 9,
            },
            segment_id: 3,
            first: 42,
            capacity: 1 << 20,
            created_at: 1,
            previous: 9,
        }
    }

    #[test]
    fn a_segment_header_reads_back_from_either_copy() {
        let bytes = header().encode();
        assert_eq!(bytes.len() as u64, DATA_START);
        assert_eq!(SegmentHeader::decode(&bytes[..PAGE]), Ok(header()));
        assert_eq!(SegmentHeader::decode(&bytes[PAGE..]), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_of_a_header_page_is_seen() {
        let page = header().encode()[..PAGE].to_vec();
        for bit in 0..PAGE * 8 {
            let mut flipped = page.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let mut page = header().encode()[..PAGE].to_vec();
        page[8] = 2;
        seal_page(&mut page);
        assert_eq!(
            SegmentHeader::decode(&page),
            Err(FormatError::Newer { found: 2, known: 1 })
        );
    }

    #[test]
    fn a_mark_reads_back() {
        let mark = Mark {
            identity: header().identity,
            sequence: 5,
            epoch: 2,
            durable: 100,
            segment_id: 3,
            offset: 8192,
            clean: true,
        };
        assert_eq!(Mark::decode(&mark.encode()), Ok(mark));
        assert_eq!(mark.slot_offset(), 4096);
    }

    #[test]
    fn a_frame_is_bound_to_its_segment_and_its_bytes() {
        let header = FrameHeader {
            segment_id: 3,
            first: 10,
            count: 1,
            body_len: 5,
            durable: 9,
            recorded_at: 1,
        };
        let mut frame = vec![0; FRAME_HEADER];
        frame.extend_from_slice(b"hello");
        seal_frame(&mut frame, &header);
        assert_eq!(frame_at(&frame, 100, 3, true), FrameAt::Frame(header));
        assert!(matches!(frame_at(&frame, 100, 4, true), FrameAt::Bad(_)));
        assert_eq!(frame_at(&frame[..41], 100, 3, true), FrameAt::Short(45));
        assert!(matches!(frame_at(&frame, 44, 3, true), FrameAt::Bad(_)));
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let seen = frame_at(&flipped, 100, 3, true);
            assert!(!matches!(seen, FrameAt::Frame(_)), "bit {bit}");
        }
    }
}
