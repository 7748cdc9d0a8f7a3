//! A log whose appends fail at random.

use std::sync::{Arc, Mutex, PoisonError};

use anabranch_env::SplitMix64;
use anabranch_log::{
    Append, AppendError, Appended, BoxFuture, Capabilities, EventStream, Log, Order, ReadError,
    ReadMode, VersionRange,
};
use anabranch_model::{Cut, EventId, Filter, StreamId};

/// A log between the services and the engine: some appends are not done, of some the answer
/// is lost.
pub struct Flaky {
    inner: Arc<dyn Log>,
    /// One append in so many; 0: none.
    one_in: u64,
    /// Whether it writes what goes to a target twice now and then.
    sabotage: bool,
    rng: Mutex<SplitMix64>,
}

impl Flaky {
    pub fn new(inner: Arc<dyn Log>, one_in: u64, sabotage: bool, seed: u64) -> Self {
        Self {
            inner,
            one_in,
            sabotage,
            rng: Mutex::new(SplitMix64::new(seed)),
        }
    }

    async fn twice(&self, append: &Append) -> Result<(), AppendError> {
        let id = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            rng.one_in(4).then(|| rng.next_u64())
        };
        if let (Some(id), Some(event)) = (id, append.events.first())
            && event.stream.category() == "target"
        {
            let mut again = event.clone();
            again.id = EventId::from_u128(id.into());
            self.inner.append(Append::event(again)).await?;
        }
        Ok(())
    }

    fn draw(&self) -> u64 {
        if self.one_in == 0 {
            return u64::MAX;
        }
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        if rng.one_in(self.one_in) {
            rng.below(3)
        } else {
            u64::MAX
        }
    }
}

impl Log for Flaky {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        let unknown = || AppendError::Unknown {
            reason: "the answer was lost".to_owned(),
        };
        Box::pin(async move {
            match self.draw() {
                0 => Err(AppendError::Unavailable {
                    reason: "no room".to_owned(),
                    retry_after: None,
                }),
                1 => Err(unknown()),
                2 => {
                    // A refusal is definite; only what was written may get lost.
                    self.inner.append(append).await?;
                    Err(unknown())
                }
                _ if self.sabotage => {
                    let appended = self.inner.append(append.clone()).await?;
                    self.twice(&append).await?;
                    Ok(appended)
                }
                _ => self.inner.append(append).await,
            }
        })
    }

    fn read_stream(&self, stream: &StreamId, range: VersionRange, order: Order) -> EventStream {
        self.inner.read_stream(stream, range, order)
    }

    fn read(&self, from: &Cut, filter: Filter, mode: ReadMode) -> EventStream {
        self.inner.read(from, filter, mode)
    }

    fn find(
        &self,
        id: anabranch_model::EventId,
    ) -> BoxFuture<'_, Result<Option<anabranch_log::Placed>, ReadError>> {
        self.inner.find(id)
    }

    fn head(&self) -> BoxFuture<'_, Result<Cut, ReadError>> {
        self.inner.head()
    }
}
