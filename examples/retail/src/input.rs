use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

use crate::row::{BadRow, COLUMNS, Row};

/// How the text of a file is written in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// The default.
    Utf8,
    /// One byte for each character, the first 256 of Unicode. Older copies of the data set
    /// are in it, for the sake of a pound sign.
    Latin1,
}

/// Why a run ended early. What was written before is complete lines.
#[derive(Debug, Error)]
pub enum Failure {
    /// The file is not there, or cannot be read.
    #[error("{0}")]
    Input(#[source] io::Error),
    /// What was written went nowhere.
    #[error("cannot write the events: {0}")]
    Output(#[source] io::Error),
    /// A column of the data set is missing.
    #[error("line 1: there is no column {0}; the first line must name the columns {list}", list = COLUMNS.join(","))]
    Column(&'static str),
    /// Not CSV.
    #[error(
        "line {line}: it has {found} values; the first line names {expected} columns (is a quotation mark not closed?)"
    )]
    Width {
        /// Where the row begins.
        line: u64,
        /// How many values it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// Not in the encoding that was said.
    #[error("line {line}: {column} is not UTF-8; if the file is ISO 8859-1, say --latin1")]
    Encoding {
        /// Where the row begins.
        line: u64,
        /// The column.
        column: &'static str,
    },
    /// Not an invoice line.
    #[error("line {line}: {reason}")]
    Row {
        /// Where the row begins.
        line: u64,
        /// What is wrong with it.
        reason: BadRow,
    },
}

/// The rows of a file, or of standard input for `-`, compressed or not.
pub fn rows(path: &Path, encoding: Encoding) -> Result<Rows, Failure> {
    let plain: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(Failure::Input)?)
    };
    Rows::new(plain, encoding)
}

/// Reads one row after another; ends after the first that cannot be read.
pub struct Rows {
    records: Records,
    width: usize,
    /// Where each of [`COLUMNS`] stands in a record.
    places: [usize; 8],
    encoding: Encoding,
    ended: bool,
}

impl Rows {
    /// The rows of `plain`, compressed or not.
    pub fn new(plain: Box<dyn Read>, encoding: Encoding) -> Result<Self, Failure> {
        let mut records = Records::new(plain).map_err(Failure::Input)?;
        let header = match records.next()? {
            Some((_, header)) => header.clone(),
            None => ByteRecord::new(),
        };
        let mut places = [0; 8];
        for (place, column) in places.iter_mut().zip(COLUMNS) {
            *place = header
                .iter()
                .position(|name| name == column.as_bytes())
                .ok_or(Failure::Column(column))?;
        }
        Ok(Self {
            records,
            width: header.len(),
            places,
            encoding,
            ended: false,
        })
    }

    fn read(&mut self) -> Result<Option<Row>, Failure> {
        let Some((line, record)) = self.records.next()? else {
            return Ok(None);
        };
        if record.len() != self.width {
            return Err(Failure::Width {
                line,
                found: record.len(),
                expected: self.width,
            });
        }
        let mut texts: [Cow<'_, str>; 8] = Default::default();
        for ((text, place), column) in texts.iter_mut().zip(self.places).zip(COLUMNS) {
            let bytes = &record[place];
            *text = match self.encoding {
                Encoding::Utf8 => std::str::from_utf8(bytes)
                    .map_err(|_| Failure::Encoding { line, column })?
                    .into(),
                Encoding::Latin1 => bytes.iter().map(|b| char::from(*b)).collect(),
            };
        }
        Row::parse(texts.each_ref().map(|text| &**text))
            .map(Some)
            .map_err(|reason| Failure::Row { line, reason })
    }
}

impl Iterator for Rows {
    type Item = Result<Row, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

/// Records with the line each begins at.
///
/// The CSV reader counts a line when it reads the line feed, which it leaves to the next
/// record when a carriage return stands before it. So it is told that lines end in a line
/// feed alone, and the carriage return is taken off here; then the counts are right
/// whatever ends the lines.
struct Records {
    csv: csv::Reader<Box<dyn Read>>,
    record: ByteRecord,
}

impl Records {
    fn new(plain: Box<dyn Read>) -> io::Result<Self> {
        // The last line may lack its end; an empty line more is no record.
        let input: Box<dyn Read> = Box::new(text_of(plain)?.chain(&b"\n"[..]));
        let csv = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(input);
        Ok(Self {
            csv,
            record: ByteRecord::new(),
        })
    }

    fn next(&mut self) -> Result<Option<(u64, &ByteRecord)>, Failure> {
        loop {
            let read = self.csv.read_byte_record(&mut self.record);
            if !read.map_err(|error| Failure::Input(error.into()))? {
                return Ok(None);
            }
            if let Some(last) = self.record.len().checked_sub(1)
                && let Some(trimmed) = self.record[last].strip_suffix(b"\r")
            {
                let trimmed = trimmed.to_vec();
                self.record.truncate(last);
                self.record.push_field(&trimmed);
            }
            let is_blank = self.record.len() == 1 && self.record[0].is_empty();
            if !is_blank {
                break;
            }
        }
        // Empty lines before the record count as part of it, so count from its end, too.
        let inside = self
            .record
            .as_slice()
            .iter()
            .filter(|b| **b == b'\n')
            .count() as u64;
        let from_end = self.csv.position().line().saturating_sub(1 + inside);
        let from_start = self.record.position().map_or(0, csv::Position::line);
        Ok(Some((from_start.max(from_end), &self.record)))
    }
}

/// The text, without the mark that some programs put before UTF-8. Compressed bytes are
/// told by how they begin, not by the file's name.
fn text_of(plain: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
    const GZIP: &[u8] = b"\x1f\x8b";
    const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
    let (begin, whole) = peeked(plain, GZIP.len())?;
    let unpacked: Box<dyn Read> = if begin == GZIP {
        Box::new(MultiGzDecoder::new(BufReader::new(whole)))
    } else {
        Box::new(whole)
    };
    let (begin, mut whole) = peeked(unpacked, BYTE_ORDER_MARK.len())?;
    if begin == BYTE_ORDER_MARK {
        whole.read_exact(&mut [0; BYTE_ORDER_MARK.len()])?;
    }
    Ok(Box::new(whole))
}

/// The first bytes, and a reader of all of them. A pipe may give less than it is asked
/// for, so this asks until it has enough.
fn peeked(mut from: Box<dyn Read>, len: usize) -> io::Result<(Vec<u8>, impl Read)> {
    let mut begin = Vec::with_capacity(len);
    from.by_ref().take(len as u64).read_to_end(&mut begin)?;
    Ok((begin.clone(), io::Cursor::new(begin).chain(from)))
}
