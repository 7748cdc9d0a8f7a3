use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use anabranch_model::{Event, EventBatch, EventBatchIntoIter};
use futures_core::Stream;

use crate::error::ReadError;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Waits for all of them; what they give, in their order.
pub fn all_of<'a, T: Send + Unpin + 'a>(
    futures: impl Iterator<Item = BoxFuture<'a, T>>,
) -> BoxFuture<'a, Vec<T>> {
    let mut waiting: Vec<_> = futures.map(Some).collect();
    let mut given: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    Box::pin(poll_fn(move |cx| {
        let mut is_whole = true;
        for (waiting, given) in waiting.iter_mut().zip(&mut given) {
            if let Some(future) = waiting {
                match future.as_mut().poll(cx) {
                    Poll::Ready(it) => {
                        *given = Some(it);
                        *waiting = None;
                    }
                    Poll::Pending => is_whole = false,
                }
            }
        }
        if !is_whole {
            return Poll::Pending;
        }
        Poll::Ready(given.iter_mut().filter_map(Option::take).collect())
    }))
}

/// Where an [`EventStream`] gets its events: what an engine implements.
pub trait BatchSource: Send {
    /// The next events, never an empty batch for long; `None` at the end. After an error
    /// the source has ended.
    fn poll_next_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>>;
}

/// Events as they are read: one at a time, or in batches as the engine has them.
///
/// Holds a bounded buffer. A reader that is slow, or stops, costs the log nothing more.
pub struct EventStream {
    source: Option<Box<dyn BatchSource>>,
    current: Option<EventBatchIntoIter>,
}

impl EventStream {
    /// A stream of what `source` gives.
    pub fn new(source: impl BatchSource + 'static) -> Self {
        Self {
            source: Some(Box::new(source)),
            current: None,
        }
    }

    /// A stream that fails at once.
    pub fn failed(error: ReadError) -> Self {
        struct Failed(Option<ReadError>);
        impl BatchSource for Failed {
            fn poll_next_batch(
                &mut self,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<EventBatch, ReadError>>> {
                Poll::Ready(self.0.take().map(Err))
            }
        }
        Self::new(Failed(Some(error)))
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Event, ReadError>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The next events, as many as the engine has at hand; `None` at the end. The fast way
    /// to read. Events left over from [`EventStream::next`] come first.
    pub async fn next_batch(&mut self) -> Option<Result<EventBatch, ReadError>> {
        if let Some(rest) = self.current.take() {
            let rest: Result<Vec<_>, _> = rest.collect();
            match rest {
                Ok(rest) if rest.is_empty() => {}
                Ok(rest) => return Some(Ok(rest.into())),
                Err(error) => {
                    self.source = None;
                    return Some(Err(malformed(error)));
                }
            }
        }
        poll_fn(|cx| self.poll_batch(cx)).await
    }

    pub(crate) fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<EventBatch, ReadError>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let polled = source.poll_next_batch(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.source = None;
        }
        polled
    }

    #[inline]
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Event, ReadError>>> {
        loop {
            if let Some(batch) = &mut self.current {
                match batch.next() {
                    Some(Ok(event)) => return Poll::Ready(Some(Ok(event))),
                    Some(Err(error)) => {
                        self.current = None;
                        self.source = None;
                        return Poll::Ready(Some(Err(malformed(error))));
                    }
                    None => self.current = None,
                }
            }
            match self.poll_batch(cx) {
                Poll::Ready(Some(Ok(batch))) => self.current = Some(batch.into_iter()),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

pub(crate) fn malformed(error: anabranch_model::record::RecordError) -> ReadError {
    ReadError::Io {
        what: "decoding stored events".to_owned(),
        reason: error.to_string(),
    }
}

impl Stream for EventStream {
    type Item = Result<Event, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx)
    }
}
