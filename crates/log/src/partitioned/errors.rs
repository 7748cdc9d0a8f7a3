//! What goes wrong in a partition, told with the positions of the whole log.

use anabranch_model::{PartitionId, Position};

use crate::error::{AppendError, ReadError, Rejection};

pub(super) fn placed(position: Position, partition: PartitionId) -> Position {
    Position {
        partition,
        ..position
    }
}

pub(super) fn read_error(error: ReadError, partition: PartitionId) -> ReadError {
    match error {
        ReadError::Damaged {
            file,
            offset,
            what,
            first,
            last,
        } => ReadError::Damaged {
            file,
            offset,
            what,
            first: placed(first, partition),
            last: placed(last, partition),
        },
        other => other,
    }
}

pub(super) fn append_error(error: AppendError, partition: PartitionId) -> AppendError {
    match error {
        AppendError::Matched { position } => AppendError::Matched {
            position: placed(position, partition),
        },
        AppendError::Rejected(Rejection::IdTaken { id, position }) => Rejection::IdTaken {
            id,
            position: placed(position, partition),
        }
        .into(),
        AppendError::Rejected(Rejection::PartlyWritten { id, position }) => {
            Rejection::PartlyWritten {
                id,
                position: placed(position, partition),
            }
            .into()
        }
        other => other,
    }
}

/// An append that needs what cannot be read now.
pub(super) fn unavailable(error: ReadError) -> AppendError {
    AppendError::Unavailable {
        reason: error.to_string(),
        retry_after: None,
    }
}
