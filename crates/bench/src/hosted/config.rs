use std::path::PathBuf;
use std::time::Duration;

use super::shop;
use crate::Durability;

/// What to measure of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct HostedConfig {
    /// What is done.
    pub work: Hosted,
    /// Clients at work at the same time. Each waits for its answer before it goes on.
    pub clients: usize,
    /// Data of one event, in bytes; of sagas the log's alone, for theirs have the size they
    /// have.
    pub size: usize,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// How long each contender is at work, over all rounds.
    pub seconds: Duration,
    /// How many rounds.
    pub rounds: usize,
    /// Where the random numbers of the work begin.
    pub seed: u64,
    /// Below which directory to write. The measurement makes one of its own there.
    pub dir: PathBuf,
    /// Whether that directory stays.
    pub keep: bool,
}

/// What a service does while it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosted {
    /// Commands to this many entities, drawn at random; each records one event.
    Commands {
        /// How many entities.
        entities: u64,
    },
    /// Orders that a saga brings to their end: all lines reserved at the same time, then
    /// paid, shipped and confirmed.
    Sagas(Sagas),
}

/// The work of sagas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sagas {
    /// Lines of an order.
    pub lines: usize,
    /// How many products there are.
    pub products: u32,
    /// Whether a process takes every line of a confirmed order from the shelf.
    pub dispatching: bool,
}

impl Hosted {
    /// The events that one answer of the service stands for.
    pub(super) const fn events_per_answer(self) -> usize {
        match self {
            Self::Commands { .. } => 1,
            Self::Sagas(sagas) => {
                let more = if sagas.dispatching {
                    shop::events_of_dispatching(sagas.lines)
                } else {
                    0
                };
                shop::events_of_saga(sagas.lines) + more
            }
        }
    }
}

impl std::fmt::Display for Hosted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Commands { entities: 1 } => f.write_str("commands to one entity"),
            Self::Commands { entities } => write!(f, "commands to {entities} entities"),
            Self::Sagas(Sagas {
                lines,
                products,
                dispatching,
            }) => {
                write!(f, "sagas of {lines} lines over {products} products")?;
                if *dispatching {
                    f.write_str(" and a process that has every line shipped")?;
                }
                Ok(())
            }
        }
    }
}
