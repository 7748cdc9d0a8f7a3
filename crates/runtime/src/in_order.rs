use anabranch_model::{Cut, EventBatch};

/// Checks that a forward read leaves nothing out and gives everything in order, as far as that
/// can be seen: what a view or a process passes over once, it never sees again.
pub struct InOrder(Cut);

impl InOrder {
    /// For a read from `from`.
    pub fn from(from: &Cut) -> Self {
        Self(from.clone())
    }

    /// How far what was checked goes.
    pub fn reached(&self) -> &Cut {
        &self.0
    }

    /// Checks the next batch of the read; an error says what is wrong with it.
    pub fn check(&mut self, batch: &EventBatch) -> Result<(), String> {
        if let Some(position) = batch.first_out_of_order() {
            return Err(format!(
                "the log gives the event at {position} out of order"
            ));
        }
        let Some(reach) = batch.reach() else {
            for event in batch.iter().flatten().take(1) {
                if self.0.includes(event.position) {
                    let position = event.position;
                    return Err(format!(
                        "the log gives the event at {position} out of order"
                    ));
                }
            }
            for event in batch.iter().flatten() {
                self.0.join(&Cut::including(event.position));
            }
            return Ok(());
        };
        for (partition, offsets) in reach.parts() {
            let (due, begins) = (self.0.get(partition), offsets.start);
            if due != begins {
                let (wrong, end) = match due < begins {
                    true => ("leaves out", begins),
                    false => ("repeats", due),
                };
                let begin = due.min(begins);
                return Err(format!(
                    "the log {wrong} positions {begin} to {} of partition {}",
                    end - 1,
                    partition.0
                ));
            }
        }
        reach.pass(&mut self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anabranch_model::{PartitionId, Reach};

    use super::*;

    fn run(from: u64, to: u64) -> EventBatch {
        let reach = Reach::of(PartitionId(0), from..to);
        EventBatch::of_run(Vec::new(), reach, Vec::new())
    }

    #[test]
    fn a_read_with_a_gap_or_a_repeat_is_refused() {
        let mut read = InOrder::from(&Cut::at(3));
        assert_eq!(read.check(&run(3, 5)), Ok(()));
        let gap = read.check(&run(7, 9)).unwrap_err();
        assert_eq!(gap, "the log leaves out positions 5 to 6 of partition 0");
        let repeat = read.check(&run(4, 9)).unwrap_err();
        assert_eq!(repeat, "the log repeats positions 4 to 4 of partition 0");
        assert_eq!(read.check(&run(5, 9)), Ok(()));
    }
}
