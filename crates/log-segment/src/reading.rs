//! Reading bytes and frames from files of which some pages may be unreadable.

use std::io;
use std::path::Path;

use anabranch_env::File;
use anabranch_log::ReadError;

use crate::format::{FrameAt, Spot, frame_at};

/// Reads until `buf` is full or the file ends; returns how many bytes.
pub(crate) fn read_up_to(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while len < buf.len() {
        match file.read_at(&mut buf[len..], offset + len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(len)
}

/// Reads as many bytes as can be read before the end of the file or the first unreadable
/// page.
pub(crate) fn read_readable(
    file: &dyn File,
    buf: &mut [u8],
    offset: u64,
) -> (usize, Option<io::Error>) {
    if let Ok(len) = read_up_to(file, buf, offset) {
        return (len, None);
    }
    const PAGE: u64 = 4096;
    let mut len = 0;
    while len < buf.len() {
        let at = offset + len as u64;
        let step = (PAGE - at % PAGE) as usize;
        let step = step.min(buf.len() - len);
        match read_up_to(file, &mut buf[len..len + step], at) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) => return (len, Some(error)),
        }
    }
    (len, None)
}

/// The frame at `spot`, if it is whole.
pub(crate) fn read_frame(
    file: &dyn File,
    capacity: u64,
    spot: Spot,
) -> Option<crate::format::FrameHeader> {
    let room = capacity.checked_sub(spot.offset)?;
    let mut buf = vec![0; 1024];
    loop {
        let len = read_up_to(file, &mut buf, spot.offset).ok()?;
        match frame_at(&buf[..len], room, spot, true) {
            FrameAt::Frame(header) => return Some(header),
            FrameAt::Short(needed) if needed > buf.len() => buf.resize(needed, 0),
            _ => return None,
        }
    }
}

pub(crate) fn io_error(path: &Path, error: &io::Error) -> ReadError {
    ReadError::Io {
        what: format!("reading {}", path.display()),
        reason: error.to_string(),
    }
}
