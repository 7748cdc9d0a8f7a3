//! Positions and cuts.

use anabranch_log::Placed;
use anabranch_model::{Cut, PartitionId, Position};
use buffa::{Inline, MessageField};

use crate::made::protocol as p;
use crate::malformed::Malformed;

/// A cut as a message.
pub fn cut_to(cut: &Cut) -> p::Cut {
    p::Cut {
        counts: cut.iter().map(|(part, count)| (part.0, count)).collect(),
        ..Default::default()
    }
}

/// The cut that a message means.
pub fn cut_of(message: &p::Cut) -> Cut {
    let mut cut = Cut::start();
    for (&partition, &count) in &message.counts {
        cut.set(PartitionId(partition), count);
    }
    cut
}

pub(crate) fn some_cut(message: &Set<p::Cut>) -> Cut {
    message.as_option().map(cut_of).unwrap_or_default()
}

/// A position as a message.
pub fn position_to(position: Position) -> p::Position {
    p::Position {
        partition: position.partition.0,
        offset: position.offset,
        ..Default::default()
    }
}

/// The position that a message means.
pub fn position_of(message: &p::Position) -> Position {
    Position {
        partition: PartitionId(message.partition),
        offset: message.offset,
    }
}

pub(crate) type Set<T> = MessageField<T, Inline<T>>;

pub(crate) fn some_position(message: &Set<p::Position>) -> Result<Position, Malformed> {
    let position = message.as_option().map(position_of);
    position.ok_or_else(|| Malformed::new("a position is missing"))
}

/// Where an event stands, as a message.
pub fn placed_to(placed: Placed) -> p::Placed {
    p::Placed {
        position: MessageField::some(position_to(placed.position)),
        version: placed.version,
        ..Default::default()
    }
}

/// Where an event stands, as a message says.
pub fn placed_of(message: &p::Placed) -> Result<Placed, Malformed> {
    Ok(Placed {
        position: some_position(&message.position)?,
        version: message.version,
    })
}
