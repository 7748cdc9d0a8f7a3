use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use anabranch_log::{Append, Appended, BoxFuture, EventStream, Log, MemoryLog};
use anabranch_model::{Cut, Filter};

use crate::wrong::{Answer, Bug, Lazy, Reads, caught};

#[test]
fn writing_half_of_an_append_that_is_dropped_is_caught() {
    struct Half;
    impl Bug for Half {
        fn append_later<'a>(&'a self, log: &'a MemoryLog, append: Append) -> BoxFuture<'a, Answer> {
            Box::pin(async move {
                let Append {
                    conditions,
                    mut events,
                } = append;
                if events.len() < 2 {
                    return log.append(Append { conditions, events }).await;
                }
                let second = events.split_off(events.len() / 2);
                let first = log.append(Append { conditions, events }).await?;
                let mut polled = false;
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    match std::mem::replace(&mut polled, true) {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    }
                })
                .await;
                let second = log.append(Append::events(second)).await?;
                Ok(Appended::new(
                    [first.places, second.places].concat(),
                    first.repeated && second.repeated,
                ))
            })
        }
    }
    caught(
        || Half,
        &[
            "cancelling::an_append_dropped_after_its_first_poll_is_done_or_not_done",
            "cancelling::appends_dropped_under_load_are_whole_or_absent",
        ],
    );
}

#[test]
fn losing_an_event_when_a_read_is_dropped_is_caught() {
    // Gives a waiting reader's place up, and begins after the next event.
    let bug = || {
        Reads(|log: &MemoryLog, from: &Cut, filter: Filter, mode| {
            let mut inner = log.read(from, filter, mode);
            let mut waited = false;
            EventStream::new(Lazy(move |cx: &mut Context<'_>| {
                let polled = pin!(inner.next_batch()).poll(cx);
                match polled {
                    Poll::Ready(Some(Ok(_))) if std::mem::take(&mut waited) => {
                        pin!(inner.next_batch()).poll(cx)
                    }
                    other => {
                        waited = other.is_pending();
                        other
                    }
                }
            }))
        })
    };
    caught(
        bug,
        &["cancelling::a_read_dropped_while_it_waits_loses_no_event"],
    );
}
