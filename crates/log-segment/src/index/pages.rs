//! Checked pages: how index files hold arrays and bytes.
//!
//! A page is 4,096 bytes: 4,092 of content, then a CRC-32C of them mixed with the page's
//! number and the file's salt, so that a page that is damaged, misplaced or from another
//! file is refused.

use std::io;
use std::sync::Arc;

use anabranch_env::File;

use super::error::IndexError;
use crate::format::{PAGE, crc32c, get};

pub(crate) const CONTENT: usize = PAGE - 4;

fn checksum(content: &[u8], page: u32, salt: u32) -> u32 {
    crc32c(content) ^ page.wrapping_mul(0x9e37_79b1) ^ salt
}

/// Collects pages for a file.
pub(crate) struct PageWriter {
    bytes: Vec<u8>,
    salt: u32,
}

impl PageWriter {
    /// A file that begins with one page left free for a header, with room for about
    /// `content` bytes, in the memory of `bytes`.
    pub fn with_room(salt: u32, content: usize, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.reserve(content / CONTENT * PAGE + 16 * PAGE);
        bytes.resize(PAGE, 0);
        Self { bytes, salt }
    }

    fn next_page(&self) -> u32 {
        (self.bytes.len() / PAGE) as u32
    }

    fn page(&mut self, content: &[u8]) {
        let crc_at = self.bytes.len() + CONTENT;
        let number = self.next_page();
        self.bytes.extend_from_slice(content);
        self.bytes.resize(crc_at, 0);
        let crc = checksum(&self.bytes[crc_at - CONTENT..], number, self.salt);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
    }

    /// Writes bytes over as many pages as they need; returns the first page.
    pub fn blob(&mut self, bytes: &[u8]) -> u32 {
        let start = self.next_page();
        for content in bytes.chunks(CONTENT) {
            self.page(content);
        }
        start
    }

    /// Writes entries of `size` bytes that never cross a page; returns the first page.
    pub fn array(&mut self, bytes: &[u8], size: usize) -> u32 {
        let start = self.next_page();
        for content in bytes.chunks(CONTENT / size * size) {
            self.page(content);
        }
        start
    }

    /// As [`PageWriter::array`], of entries that are made as they are written.
    pub fn entries<const SIZE: usize>(&mut self, entries: impl Iterator<Item = [u8; SIZE]>) -> u32 {
        let start = self.next_page();
        let mut content = Vec::with_capacity(CONTENT);
        for entry in entries {
            content.extend_from_slice(&entry);
            if content.len() + SIZE > CONTENT {
                self.page(&content);
                content.clear();
            }
        }
        if !content.is_empty() {
            self.page(&content);
        }
        start
    }

    /// The file, with `header` as its first page.
    pub fn finish(mut self, header: &[u8]) -> Vec<u8> {
        assert!(header.len() <= CONTENT, "the header fits a page");
        self.bytes[..header.len()].copy_from_slice(header);
        let crc = checksum(&self.bytes[..CONTENT], 0, self.salt);
        self.bytes[CONTENT..PAGE].copy_from_slice(&crc.to_le_bytes());
        self.bytes
    }
}

/// Writes pages to a file as they come, for files too large for memory. The header page
/// is written last.
pub(crate) struct PageStream {
    file: Arc<dyn File>,
    salt: u32,
    /// Pages on the disk.
    written: u32,
    pages: Vec<u8>,
    content: Vec<u8>,
}

impl PageStream {
    /// Begins at page 1 of an empty file.
    pub fn new(file: Arc<dyn File>, salt: u32) -> Self {
        Self {
            file,
            salt,
            written: 1,
            pages: Vec::with_capacity(1 << 20),
            content: Vec::with_capacity(CONTENT),
        }
    }

    /// The page that the next entry or blob begins, once [`PageStream::end_section`] ran.
    pub fn next_page(&self) -> u32 {
        self.written + (self.pages.len() / PAGE) as u32
    }

    /// Adds one entry; entries never cross a page.
    pub fn entry(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.content.len() + bytes.len() > CONTENT {
            self.end_section()?;
        }
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    /// Adds bytes over as many pages as they need.
    pub fn blob(&mut self, bytes: &[u8]) -> io::Result<()> {
        for content in bytes.chunks(CONTENT) {
            self.content.extend_from_slice(content);
            self.end_section()?;
        }
        Ok(())
    }

    /// Ends the page begun.
    pub fn end_section(&mut self) -> io::Result<()> {
        if self.content.is_empty() {
            return Ok(());
        }
        self.content.resize(CONTENT, 0);
        let crc = checksum(&self.content, self.next_page(), self.salt);
        self.pages.extend_from_slice(&self.content);
        self.pages.extend_from_slice(&crc.to_le_bytes());
        self.content.clear();
        if self.pages.len() >= 1 << 20 {
            self.write_out()?;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        let offset = u64::from(self.written) * PAGE as u64;
        self.file.write_all_at(&self.pages, offset)?;
        self.written += (self.pages.len() / PAGE) as u32;
        self.pages.clear();
        Ok(())
    }

    /// Writes what is left and the header, and makes all of it durable.
    pub fn finish(mut self, header: &[u8]) -> io::Result<()> {
        assert!(header.len() <= CONTENT, "the header fits a page");
        self.end_section()?;
        self.write_out()?;
        let mut page = header.to_vec();
        page.resize(CONTENT, 0);
        let crc = checksum(&page, 0, self.salt);
        page.extend_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&page, 0)?;
        self.file.sync_data()
    }
}

/// Reads pages of a file and checks them.
#[derive(Clone)]
pub(crate) struct PageReader {
    pub file: Arc<dyn File>,
    pub salt: u32,
}

impl PageReader {
    fn check<'p>(&self, page: &'p [u8], number: u32) -> Result<&'p [u8], IndexError> {
        let content = &page[..CONTENT];
        if get!(u32, page, CONTENT) == checksum(content, number, self.salt) {
            Ok(content)
        } else {
            Err(IndexError::Damaged {
                offset: u64::from(number) * PAGE as u64,
                what: "an index page fails its checksum",
            })
        }
    }

    /// The content of one page.
    pub fn page(&self, number: u32, buf: &mut [u8; PAGE]) -> Result<(), IndexError> {
        self.file
            .read_exact_at(buf, u64::from(number) * PAGE as u64)?;
        self.check(buf, number).map(|_| ())
    }

    /// Bytes `from..from + len` of a blob that begins at page `start`.
    pub fn blob(&self, start: u32, from: usize, len: usize) -> Result<Vec<u8>, IndexError> {
        let (first, last) = (from / CONTENT, (from + len).div_ceil(CONTENT));
        let mut raw = vec![0; (last - first) * PAGE];
        let number = start + first as u32;
        self.file
            .read_exact_at(&mut raw, u64::from(number) * PAGE as u64)?;
        let mut bytes = Vec::with_capacity((last - first) * CONTENT);
        for (i, page) in raw.chunks_exact(PAGE).enumerate() {
            bytes.extend_from_slice(self.check(page, number + i as u32)?);
        }
        let skip = from - first * CONTENT;
        bytes.drain(..skip);
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// A sorted array of fixed-size entries over pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Array {
    pub start: u32,
    pub count: u32,
    pub size: u32,
}

impl Array {
    fn per_page(self) -> u32 {
        CONTENT as u32 / self.size
    }

    /// A cursor that keeps the page it looked at last.
    pub fn cursor(self, pages: PageReader) -> ArrayCursor {
        ArrayCursor {
            array: self,
            pages,
            number: u32::MAX,
            page: Box::new([0; PAGE]),
        }
    }
}

pub(crate) struct ArrayCursor {
    array: Array,
    pages: PageReader,
    number: u32,
    page: Box<[u8; PAGE]>,
}

impl ArrayCursor {
    /// The bytes of entry `index`.
    pub fn get(&mut self, index: u32) -> Result<&[u8], IndexError> {
        let per_page = self.array.per_page();
        let number = self.array.start + index / per_page;
        if number != self.number {
            self.number = u32::MAX;
            self.pages.page(number, &mut self.page)?;
            self.number = number;
        }
        let at = (index % per_page * self.array.size) as usize;
        Ok(&self.page[at..at + self.array.size as usize])
    }

    /// The index of the first entry for which `before` is false. `guess` is where it may
    /// be; a good guess saves pages.
    pub fn partition_point(
        &mut self,
        guess: u32,
        mut before: impl FnMut(&[u8]) -> bool,
    ) -> Result<u32, IndexError> {
        let (mut low, mut high) = (0, self.array.count);
        let mut step = 1;
        let mut at = guess.min(high.saturating_sub(1));
        // Gallop from the guess until the answer is between `low` and `high` …
        while low < high {
            if before(self.get(at)?) {
                low = at + 1;
                if high - low <= step {
                    break;
                }
                if let Some(next) = at.checked_add(step).filter(|&next| next < high) {
                    at = next;
                } else {
                    break;
                }
            } else {
                high = at;
                if high - low <= step {
                    break;
                }
                at = at.saturating_sub(step).max(low);
            }
            step = step.saturating_mul(2);
        }
        // … then halve; first between pages, so that each is read once.
        let per_page = self.array.per_page();
        while low < high {
            let middle = low + (high - low) / 2;
            let page_start = middle - middle % per_page;
            let middle = if page_start > low { page_start } else { middle };
            if before(self.get(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}
