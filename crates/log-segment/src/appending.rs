//! How appends come to be part of a commit group: one by one, or many at once.

use std::sync::Arc;
use std::task::{Context, Poll};

use anabranch_log::{Append, AppendError, Appended, Placed, Rejection, all_of};
use anabranch_model::Position;

use crate::group::{Prepared, Step};
use crate::sync::{Completion, Outcome, lock};
use crate::writer::{RETRY_AFTER, Writer};

type Answer = Result<Appended, AppendError>;

/// So many appends are placed at the most before others get the sequencer's lock.
const PLACED_AT_ONCE: usize = 256;

impl Writer {
    pub async fn append(&self, append: Append) -> Answer {
        append
            .check(&self.options.limits)
            .map_err(Rejection::from)?;
        let mut prepared = Prepared::new(&self.store, &append);
        let mut ticket = None;
        loop {
            let step = self
                .sequencer()
                .sequence(&append, &mut prepared, &self.spares);
            match step {
                Step::Placed { completion, places } => {
                    self.drive(1).await;
                    return written(&completion, places).await;
                }
                Step::Repeated(positions) => {
                    let found = positions.into_iter().enumerate().collect::<Vec<_>>();
                    return Ok(Appended::new(self.confirm_written(&append, &found)?, true));
                }
                Step::PartlyWritten(found) => {
                    self.confirm_written(&append, &found)?;
                    let (i, position) = found[0];
                    return Err(Rejection::PartlyWritten {
                        id: append.events[i].id,
                        position: Position::at(position),
                    }
                    .into());
                }
                Step::Lookup => self.ask_sealed(&append, &mut prepared)?,
                Step::WaitFor(completion) => {
                    self.drive(1).await;
                    let settled = self.in_time(&mut ticket, |cx| completion.poll_settled(cx));
                    if let Err(reason) = settled.await {
                        // The same append, perhaps, may yet reach the disk.
                        return Err(AppendError::Unknown { reason });
                    }
                }
                Step::Full => {
                    self.drive(1).await;
                    let space = |cx: &mut Context<'_>| {
                        self.space.register(cx);
                        if lock(&self.sequencer).is_full() {
                            Poll::Pending
                        } else {
                            Poll::Ready(())
                        }
                    };
                    if let Err(reason) = self.in_time(&mut ticket, space).await {
                        return Err(AppendError::Unavailable {
                            reason,
                            retry_after: Some(RETRY_AFTER),
                        });
                    }
                }
                Step::Refused(error) => return Err(error),
            }
        }
    }

    /// As [`Writer::append`] for each of them: they are placed under one lock, and the group that they
    /// join is rung for once.
    pub async fn append_all(&self, mut appends: Vec<Append>) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = appends.iter().map(|_| None).collect();
        let mut placed = Vec::with_capacity(appends.len());
        let mut later = Vec::new();
        let mut prepared = Vec::with_capacity(appends.len());
        for (append, answer) in appends.iter().zip(&mut answers) {
            let checked = append.check(&self.options.limits).map_err(Rejection::from);
            *answer = checked.err().map(|rejection| Err(rejection.into()));
            prepared.push(match answer {
                None => Some(Prepared::new(&self.store, append)),
                Some(_) => None,
            });
        }
        let mut at = 0;
        while at < appends.len() {
            let asks_sealed = self.place_some(
                &appends,
                &mut prepared,
                &mut at,
                &mut placed,
                |at, refused| match refused {
                    Some(error) => answers[at] = Some(Err(error)),
                    None => later.push(at),
                },
            );
            if asks_sealed
                && let Some(prepared) = &mut prepared[at]
                && let Err(error) = self.ask_sealed(&appends[at], prepared)
            {
                answers[at] = Some(Err(error));
                at += 1;
            }
        }
        if !placed.is_empty() {
            self.drive(placed.len()).await;
        }
        for (at, completion, places) in placed {
            answers[at] = Some(written(&completion, places).await);
        }
        // What waits for something else than the group it would join does so by itself.
        let waiting = later.iter().map(|&at| std::mem::take(&mut appends[at]));
        let waiting = waiting.map(|append| Box::pin(self.append(append)) as _);
        let found = all_of(waiting.collect::<Vec<_>>().into_iter()).await;
        for (at, answer) in later.into_iter().zip(found) {
            answers[at] = Some(answer);
        }
        answers.into_iter().flatten().collect()
    }

    /// Places appends from `at` on, which it moves, under one lock. Whether the one that it stands at now
    /// needs to know first what the sealed indexes say. `otherwise` is told of those that are not
    /// placed, and why if they are refused.
    fn place_some(
        &self,
        appends: &[Append],
        prepared: &mut [Option<Prepared>],
        at: &mut usize,
        placed: &mut Vec<(usize, Arc<Completion>, Vec<Placed>)>,
        mut otherwise: impl FnMut(usize, Option<AppendError>),
    ) -> bool {
        let until = (*at + PLACED_AT_ONCE).min(appends.len());
        let mut sequencer = self.sequencer();
        while *at < until {
            if let Some(prepared) = &mut prepared[*at] {
                match sequencer.sequence(&appends[*at], prepared, &self.spares) {
                    Step::Placed { completion, places } => placed.push((*at, completion, places)),
                    Step::Refused(error) => otherwise(*at, Some(error)),
                    Step::Lookup => return true,
                    Step::Repeated(_) | Step::PartlyWritten(_) | Step::WaitFor(_) | Step::Full => {
                        otherwise(*at, None)
                    }
                }
            }
            *at += 1;
        }
        false
    }
}

/// Waits for what became of the group that an append was placed in.
async fn written(completion: &Completion, places: Vec<Placed>) -> Answer {
    let (outcome, reason) = completion.wait().await;
    match outcome {
        Outcome::Durable => Ok(Appended::new(places, false)),
        Outcome::NotWritten => Err(AppendError::Unavailable {
            reason,
            retry_after: Some(RETRY_AFTER),
        }),
        Outcome::Unknown | Outcome::TimedOut => Err(AppendError::Unknown { reason }),
    }
}
