use std::io;

use thiserror::Error;

use crate::format::FORMAT_VERSION;

/// Why an index cannot answer. It can be built again from its segment.
#[derive(Debug, Error)]
pub(crate) enum IndexError {
    #[error("{what}")]
    Damaged { offset: u64, what: &'static str },
    #[error("format version {found} is newer than {FORMAT_VERSION}")]
    Newer { found: u32 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(super) fn damaged<T>(what: &'static str) -> Result<T, IndexError> {
    Err(IndexError::Damaged { offset: 0, what })
}
