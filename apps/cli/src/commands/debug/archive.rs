//! Files in one: a tar archive (POSIX.1-1988, ustar), compressed.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

const BLOCK: usize = 512;

/// Files, which are written into one.
pub struct Archive {
    gzip: GzEncoder<Vec<u8>>,
    modified: u64,
    names: Vec<String>,
}

impl Archive {
    /// An archive whose files were made at this time, in seconds since 1970.
    pub fn new(modified: u64) -> Self {
        Self {
            gzip: GzEncoder::new(Vec::new(), Compression::default()),
            modified,
            names: Vec::new(),
        }
    }

    /// Adds a file. Its name is shorter than a hundred bytes.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.gzip
            .write_all(&header(name, content.len(), self.modified)?)?;
        self.gzip.write_all(content)?;
        let rest = content.len().next_multiple_of(BLOCK) - content.len();
        self.gzip.write_all(&[0; BLOCK][..rest])?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// The bytes, and the names of the files.
    pub fn finish(mut self) -> io::Result<(Vec<u8>, Vec<String>)> {
        self.gzip.write_all(&[0; 2 * BLOCK])?;
        Ok((self.gzip.finish()?, self.names))
    }
}

fn header(name: &str, length: usize, modified: u64) -> io::Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, room: usize, text: &str| {
        if text.len() >= room {
            return Err(io::Error::other(format!(
                "{text} does not fit into an archive"
            )));
        }
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
        Ok(())
    };
    put(0, 100, name)?;
    put(100, 8, "0000600")?;
    put(108, 8, "0000000")?;
    put(116, 8, "0000000")?;
    put(124, 12, &format!("{length:011o}"))?;
    put(136, 12, &format!("{modified:011o}"))?;
    // The sum is taken with spaces in its own place.
    put(148, 9, "        ")?;
    put(156, 2, "0")?;
    put(257, 6, "ustar")?;
    put(263, 3, "00")?;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_its_length_and_its_sum() {
        let header = header("a/b.txt", 9, 0o17).unwrap();
        assert!(header.starts_with(b"a/b.txt\0"));
        assert_eq!(&header[124..136], b"00000000011\0");
        assert_eq!(&header[257..265], b"ustar\x0000");
        assert!(super::header(&"x".repeat(100), 0, 0).is_err());
    }
}
