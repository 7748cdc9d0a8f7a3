//! Files of lines that the user names, plain or compressed, read with bounded memory.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files that the user names"
)]

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Cursor, Read};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use crate::failure::Failure;

const BUFFER_BYTES: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file of lines.
pub struct Input {
    /// Its name for messages.
    pub name: String,
    /// Its length on the disk, if it is a file.
    pub total: Option<u64>,
    /// Whether somebody may be writing it as we read: a pipe or a terminal.
    pub is_live: bool,
    done: Arc<AtomicU64>,
    reader: BufReader<Box<dyn Read + Send>>,
    line_number: u64,
}

/// Why there is no next line.
#[derive(Debug)]
pub enum LineFault {
    /// The line is longer than any event may be. Only this many bytes of it were read.
    TooLong(usize),
    /// The file cannot be read on.
    Io(io::Error),
}

impl Input {
    /// Opens the file `name`, or stdin if it is `-`. Says by its first bytes whether it is
    /// compressed.
    pub fn open(name: &str) -> Result<Self, Failure> {
        let fail = |error| Failure::file("read", name, &error);
        let file = match name {
            "-" => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            _ => File::open(Path::new(name)),
        }
        .map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        let done = Arc::new(AtomicU64::new(0));
        let source = Counting {
            source: file,
            done: done.clone(),
        };
        Ok(Self {
            name: name.to_owned(),
            total: metadata.is_file().then_some(metadata.len()),
            is_live: !metadata.is_file(),
            done,
            reader: decompress(source).map_err(fail)?,
            line_number: 0,
        })
    }

    /// How many bytes of the file were read, before decompression.
    pub fn done(&self) -> Arc<AtomicU64> {
        self.done.clone()
    }

    /// The number of the line that was read last, from 1.
    pub fn line_number(&self) -> u64 {
        self.line_number
    }

    /// Whether the next line is not wholly at hand, so that reading it may wait.
    pub fn may_wait(&self) -> bool {
        !self.reader.buffer().contains(&b'\n')
    }

    /// Reads the next line that is not blank into `line`, without its line break. False at
    /// the end.
    pub fn next_line(&mut self, line: &mut Vec<u8>, bytes_max: usize) -> Result<bool, LineFault> {
        loop {
            line.clear();
            let limit = bytes_max as u64 + 2;
            let read = (&mut self.reader).take(limit).read_until(b'\n', line);
            self.line_number += 1;
            let read = read.map_err(LineFault::Io)?;
            if read == 0 {
                return Ok(false);
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.len() > bytes_max {
                return Err(LineFault::TooLong(bytes_max));
            }
            if self.line_number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(true);
            }
        }
    }
}

fn decompress(
    mut source: impl Read + Send + 'static,
) -> io::Result<BufReader<Box<dyn Read + Send>>> {
    let mut magic = Vec::new();
    (&mut source)
        .take(GZIP_MAGIC.len() as u64)
        .read_to_end(&mut magic)?;
    let is_compressed = magic == GZIP_MAGIC;
    let whole = Cursor::new(magic).chain(source);
    let plain: Box<dyn Read + Send> = if is_compressed {
        let buffered = BufReader::with_capacity(BUFFER_BYTES, whole);
        Box::new(MultiGzDecoder::new(buffered))
    } else {
        Box::new(whole)
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, plain))
}

/// Counts what is read.
struct Counting<R> {
    source: R,
    done: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buf)?;
        self.done.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &'static [u8]) -> Input {
        Input {
            name: "test".to_owned(),
            total: None,
            is_live: false,
            done: Arc::default(),
            reader: decompress(bytes).unwrap(),
            line_number: 0,
        }
    }

    fn lines(bytes: &'static [u8]) -> Vec<(u64, String)> {
        let (mut input, mut line, mut all) = (input(bytes), Vec::new(), Vec::new());
        while input.next_line(&mut line, 10).unwrap() {
            all.push((
                input.line_number(),
                String::from_utf8(line.clone()).unwrap(),
            ));
        }
        all
    }

    #[test]
    fn lines_may_end_in_any_way() {
        let expected = [(1, "a".to_owned()), (4, "b".to_owned())];
        assert_eq!(lines(b"\xef\xbb\xbfa\r\n\r\n \t\nb"), expected);
        assert_eq!(lines(b"a\n\n\nb\n"), expected);
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\x1f"), [(1, "\x1f".to_owned())]);
    }

    #[test]
    fn a_line_that_is_too_long_is_not_kept() {
        assert_eq!(lines(b"0123456789\n").len(), 1);
        assert_eq!(lines(b"0123456789\r\n").len(), 1);
        let mut line = Vec::new();
        let result = input(&[b'x'; 1 << 20]).next_line(&mut line, 10);
        assert!(matches!(result, Err(LineFault::TooLong(10))));
        assert!(line.len() <= 12);
    }
}
