//! Numbers and runs of bytes, as records are made of them.

use thiserror::Error;

/// Bytes that are no record. Checksums keep damaged bytes from getting here, so this
/// tells of a writer that is wrong or hostile.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed event record: {0}")]
pub struct RecordError(pub &'static str);

crate::debug_is_words!(RecordError);

/// Appends a number: seven bits in a byte, the lowest first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a run of bytes behind its length.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads them one after another.
pub struct Cursor<'a> {
    /// What is read.
    pub bytes: &'a [u8],
    /// Where it goes on.
    pub at: usize,
}

impl<'a> Cursor<'a> {
    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, RecordError> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or(RecordError("it ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    /// A number, as [`put_varint`] writes it.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, RecordError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(RecordError("a number is too long"))
    }

    /// So many bytes.
    #[inline]
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], RecordError> {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| self.at.checked_add(len))
            .ok_or(RecordError("a length is too large"))?;
        let run = self
            .bytes
            .get(self.at..end)
            .ok_or(RecordError("it ends early"))?;
        self.at = end;
        Ok(run)
    }

    /// A run of bytes, as [`put_bytes`] writes it.
    #[inline]
    pub fn run(&mut self) -> Result<&'a [u8], RecordError> {
        let len = self.varint()?;
        self.take(len)
    }

    /// The same, if it is text.
    #[inline]
    pub fn text(&mut self) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.run()?).map_err(|_| RecordError("a name is not UTF-8"))
    }
}
