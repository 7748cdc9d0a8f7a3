//! The bytes of segment files and of the mark file. `docs/formats/segment.md` tells the
//! same for people; the tests below hold both to one set of numbers.
//!
//! All integers are little-endian.

use std::cmp::Ordering;

use anabranch_model::BlockEntry;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The newest version of the formats in this file.
pub(crate) const FORMAT_VERSION: u32 = 2;
/// What the mark of a directory says whose partitions have the log's files.
const PARTITIONS_VERSION: u32 = 3;
/// The unit that headers and mark slots fill.
pub(crate) const PAGE: usize = 4096;
/// Where the frames of a segment begin, after two copies of its header.
pub(crate) const DATA_START: u64 = 2 * PAGE as u64;
/// The fixed part of a frame.
pub(crate) const FRAME_HEADER: usize = 48;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: usize = 8;

const SEGMENT_MAGIC: &[u8; 8] = b"ANABSEG\0";
const MARK_MAGIC: &[u8; 8] = b"ANABMRK\0";
const FRAME_MAGIC: u16 = 0xa7bf;

/// CRC-32C of `bytes`.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    ::crc32c::crc32c(bytes)
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
    #[error("format version {found} is older than {known}; `anabranch log upgrade` reads it")]
    Older { found: u32, known: u32 },
    #[error(
        "it has field {0}, which must be understood and is not known here; use a newer program"
    )]
    Field(u64),
}

fn damaged(what: impl Into<String>) -> FormatError {
    FormatError::Damaged(what.into())
}

/// Set in the number of an optional field that a reader must understand: one that does not
/// know it must not go on. Other fields that it does not know it passes over.
const MUST_KNOW: u64 = 0x40;

/// Looks through optional fields, each a number, a length and a value, both in LEB128. None
/// are known here yet.
pub(crate) fn check_fields(mut bytes: &[u8]) -> Result<(), FormatError> {
    fn number(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    let cut = || damaged("an optional field is cut short");
    while !bytes.is_empty() {
        let field = number(&mut bytes).ok_or_else(cut)?;
        let len = number(&mut bytes).ok_or_else(cut)?;
        let len = usize::try_from(len).map_err(|_| cut())?;
        bytes = bytes.get(len..).ok_or_else(cut)?;
        if field & MUST_KNOW != 0 {
            return Err(FormatError::Field(field));
        }
    }
    Ok(())
}

/// Where the optional fields of a segment header begin: a length of two bytes, and fields.
const HEADER_FIELDS: usize = 80;

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
        open_page(page, SEGMENT_MAGIC, "segment header", FORMAT_VERSION)?;
        let len = usize::from(get!(u16, page, HEADER_FIELDS));
        let fields = page[..PAGE - 4].get(HEADER_FIELDS + 2..HEADER_FIELDS + 2 + len);
        check_fields(fields.ok_or_else(|| damaged("its optional fields are cut short"))?)?;
        Ok(Self::read(page))
    }

    /// As [`SegmentHeader::decode`], of an older version of the format.
    pub fn decode_version(page: &[u8], version: u32) -> Result<Self, FormatError> {
        open_page(page, SEGMENT_MAGIC, "segment header", version)?;
        Ok(Self::read(page))
    }

    fn read(page: &[u8]) -> Self {
        Self {
            identity: LogIdentity::decode(page),
            segment_id: get!(u64, page, 40),
            first: get!(u64, page, 48),
            capacity: get!(u64, page, 56),
            created_at: get!(u64, page, 64),
            previous: get!(u64, page, 72),
        }
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

    /// The file in the place of a mark where a log has several partitions, each with a mark of its
    /// own: a program that knows of one partition only refuses it as newer, and makes no log there.
    pub fn guard(identity: LogIdentity) -> Vec<u8> {
        let mut page = Self {
            identity,
            sequence: 0,
            epoch: 0,
            durable: 0,
            segment_id: 0,
            offset: 0,
            clean: false,
        }
        .encode();
        page[8..12].copy_from_slice(&PARTITIONS_VERSION.to_le_bytes());
        seal_page(&mut page);
        page.repeat(2)
    }

    pub fn decode(page: &[u8]) -> Result<Self, FormatError> {
        Self::decode_version(page, FORMAT_VERSION)
    }

    /// As [`Mark::decode`], of this version of the format.
    pub fn decode_version(page: &[u8], version: u32) -> Result<Self, FormatError> {
        open_page(page, MARK_MAGIC, "mark", version)?;
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

fn open_page(page: &[u8], magic: &[u8; 8], what: &str, known: u32) -> Result<(), FormatError> {
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
    match found.cmp(&known) {
        Ordering::Less => Err(FormatError::Older { found, known }),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(FormatError::Newer { found, known }),
    }
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
    /// Bytes of optional fields behind the body.
    pub fields_len: u32,
}

/// Where a frame stands, and in which log: its checksum is bound to both. Without the log's
/// key nobody can write bytes into a payload that pass for a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub segment_id: u64,
    /// Offset in the segment file, in bytes.
    pub offset: u64,
    /// [`LogIdentity::hash_key`].
    pub hash_key: u64,
}

impl Spot {
    /// What the checksum of a frame here is combined with.
    #[inline]
    fn secret(&self) -> u32 {
        let mut place = [0; 16];
        place[..8].copy_from_slice(&self.segment_id.to_le_bytes());
        place[8..].copy_from_slice(&self.offset.to_le_bytes());
        xxh3_64_with_seed(&place, self.hash_key) as u32
    }
}

impl FrameHeader {
    /// The body of the frame that has these bytes.
    pub fn body<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[FRAME_HEADER..FRAME_HEADER + self.body_len as usize]
    }

    /// The bytes of the frame without the padding.
    pub fn unpadded_len(&self) -> usize {
        FRAME_HEADER + self.body_len as usize + self.fields_len as usize
    }

    /// The bytes a frame takes, padding included.
    pub fn frame_len(&self) -> usize {
        self.unpadded_len().next_multiple_of(FRAME_ALIGN)
    }

    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    pub fn entry(&self, frame_start: usize) -> BlockEntry {
        BlockEntry {
            first: self.first,
            append: self.first,
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

/// Fills in the header of the frame whose body, and optional fields, stand in
/// `frame[FRAME_HEADER..]`. `frame` ends before the padding.
pub(crate) fn seal_frame(frame: &mut [u8], header: &FrameHeader, spot: Spot) {
    frame[4..6].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    frame[6..8].copy_from_slice(&header.count.to_le_bytes());
    frame[8..12].copy_from_slice(&header.body_len.to_le_bytes());
    frame[12..16].copy_from_slice(&(header.segment_id as u32).to_le_bytes());
    frame[16..24].copy_from_slice(&header.first.to_le_bytes());
    frame[24..32].copy_from_slice(&header.durable.to_le_bytes());
    frame[32..40].copy_from_slice(&header.recorded_at.to_le_bytes());
    frame[40..44].copy_from_slice(&header.fields_len.to_le_bytes());
    frame[44..48].fill(0);
    let crc = crc32c(&frame[4..]) ^ spot.secret();
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

/// Looks at the frame that begins at `bytes[0]` and stands at `spot`. `room` is how many
/// bytes the segment has from here on.
#[inline]
pub(crate) fn frame_at(bytes: &[u8], room: u64, spot: Spot, check: bool) -> FrameAt {
    let segment_id = spot.segment_id;
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
        fields_len: get!(u32, bytes_head, 40),
    };
    let len = header.unpadded_len();
    if len as u64 > room || header.count == 0 {
        return FrameAt::Bad("the frame's length or count is out of bounds");
    }
    if bytes.len() < len {
        return FrameAt::Short(len);
    }
    if check && get!(u32, bytes_head, 0) != crc32c(&bytes[4..len]) ^ spot.secret() {
        return FrameAt::Bad("the frame fails its checksum");
    }
    if header.durable > header.first {
        return FrameAt::Bad("the frame says that events after it were on the disk before it");
    }
    if get!(u32, bytes_head, 44) != 0
        || check_fields(&bytes[len - header.fields_len as usize..len]).is_err()
    {
        return FrameAt::Bad("the frame has a field that must be understood and is not known here");
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
    fn a_newer_or_older_format_is_told_apart_from_damage() {
        let mut page = header().encode()[..PAGE].to_vec();
        page[8] = 3;
        seal_page(&mut page);
        let newer = FormatError::Newer { found: 3, known: 2 };
        assert_eq!(SegmentHeader::decode(&page), Err(newer));
        page[8] = 1;
        seal_page(&mut page);
        let older = FormatError::Older { found: 1, known: 2 };
        assert_eq!(SegmentHeader::decode(&page), Err(older));
        assert_eq!(SegmentHeader::decode_version(&page, 1), Ok(header()));
    }

    #[test]
    fn an_unknown_field_is_passed_over_unless_it_must_be_understood() {
        let with_field = |number: u8| {
            let mut page = header().encode()[..PAGE].to_vec();
            page[80..85].copy_from_slice(&[3, 0, number, 1, 7]);
            seal_page(&mut page);
            SegmentHeader::decode(&page)
        };
        assert_eq!(with_field(5), Ok(header()));
        assert_eq!(with_field(0x45), Err(FormatError::Field(0x45)));

        let frame = |number: u8| {
            let header = FrameHeader {
                fields_len: 3,
                ..frame_header()
            };
            let mut frame = vec![0; FRAME_HEADER];
            frame.extend_from_slice(b"hello");
            frame.extend_from_slice(&[number, 1, 7]);
            seal_frame(&mut frame, &header, SPOT);
            (frame_at(&frame, 100, SPOT, true), header)
        };
        let (read, header) = frame(5);
        assert_eq!(read, FrameAt::Frame(header));
        assert!(matches!(frame(0x45).0, FrameAt::Bad(_)));
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

    const SPOT: Spot = Spot {
        segment_id: 3,
        offset: DATA_START,
        hash_key: 9,
    };

    fn frame_header() -> FrameHeader {
        FrameHeader {
            segment_id: 3,
            first: 10,
            count: 1,
            body_len: 5,
            durable: 9,
            recorded_at: 1,
            fields_len: 0,
        }
    }

    #[test]
    fn a_frame_is_bound_to_its_segment_and_its_bytes() {
        let header = frame_header();
        let mut frame = vec![0; FRAME_HEADER];
        frame.extend_from_slice(b"hello");
        seal_frame(&mut frame, &header, SPOT);
        let at = |bytes: &[u8], room, spot| frame_at(bytes, room, spot, true);
        assert_eq!(at(&frame, 100, SPOT), FrameAt::Frame(header));
        for spot in [
            Spot {
                segment_id: 4,
                ..SPOT
            },
            Spot {
                offset: DATA_START + 8,
                ..SPOT
            },
            Spot {
                hash_key: 8,
                ..SPOT
            },
        ] {
            assert!(matches!(at(&frame, 100, spot), FrameAt::Bad(_)));
        }
        assert_eq!(at(&frame[..49], 100, SPOT), FrameAt::Short(53));
        assert!(matches!(at(&frame, 52, SPOT), FrameAt::Bad(_)));
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let seen = at(&flipped, 100, SPOT);
            assert!(!matches!(seen, FrameAt::Frame(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_that_says_that_later_events_were_durable_is_none() {
        let header = FrameHeader {
            durable: 11,
            ..frame_header()
        };
        let mut frame = vec![0; FRAME_HEADER];
        frame.extend_from_slice(b"hello");
        seal_frame(&mut frame, &header, SPOT);
        assert!(matches!(frame_at(&frame, 100, SPOT, true), FrameAt::Bad(_)));
    }
}
