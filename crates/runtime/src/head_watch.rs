//! Tells everybody in the service how far the log goes.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anabranch_log::{Log, ReadError};
use anabranch_model::Cut;
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::diagnostics::Diagnostics;
use crate::time::Time;

/// How long to wait before the log is followed again after it could not be.
const REST: Duration = Duration::from_secs(1);

/// The head of the log, as one task of the service sees it. Whoever reads with a filter waits
/// here for news, and learns so how far there was nothing for him.
pub struct HeadWatch {
    log: Arc<dyn Log>,
    head: watch::Receiver<Cut>,
    task: JoinHandle<()>,
}

/// The head_watches of several services: those on one log share one.
#[derive(Default)]
pub struct HeadWatches(Mutex<Vec<Weak<HeadWatch>>>);

impl HeadWatches {
    /// The head_watch of this log, started if there is none.
    pub fn of(
        &self,
        log: &Arc<dyn Log>,
        time: Time,
        diagnostics: Arc<Diagnostics>,
    ) -> Arc<HeadWatch> {
        let mut head_watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        head_watches.retain(|head_watch| head_watch.strong_count() > 0);
        let mut alive = head_watches.iter().filter_map(Weak::upgrade);
        if let Some(head_watch) = alive.find(|head_watch| Arc::ptr_eq(&head_watch.log, log)) {
            return head_watch;
        }
        let head_watch = Arc::new(HeadWatch::start(log.clone(), time, diagnostics));
        head_watches.push(Arc::downgrade(&head_watch));
        head_watch
    }
}

impl HeadWatch {
    /// Starts to follow the log.
    pub fn start(log: Arc<dyn Log>, time: Time, diagnostics: Arc<Diagnostics>) -> Self {
        let (sender, head) = watch::channel(Cut::start());
        let followed = log.clone();
        let task = tokio::spawn(async move {
            let log = followed;
            loop {
                match follow(&log, &sender).await {
                    Err(ReadError::Closed) => return,
                    Err(error) => diagnostics.add(
                        time.now(),
                        format!("the log cannot be followed, trying again: {error}"),
                    ),
                    Ok(()) => {}
                }
                time.sleep(REST).await;
            }
        });
        Self { log, head, task }
    }

    /// Whether this log is known to have come so far.
    pub fn has_seen(&self, log: &Arc<dyn Log>, cut: &Cut) -> bool {
        Arc::ptr_eq(&self.log, log) && self.head.borrow().covers(cut)
    }

    /// The head, and its news.
    pub fn head(&self) -> watch::Receiver<Cut> {
        self.head.clone()
    }
}

impl Drop for HeadWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(log: &Arc<dyn Log>, sender: &watch::Sender<Cut>) -> Result<(), ReadError> {
    let mut head = log.head().await?;
    let mut news = log.watch(&head);
    sender.send_replace(head.clone());
    while let Some(batch) = news.next_batch().await {
        let mut batch = batch?;
        loop {
            match batch.reach() {
                Some(reach) => reach.pass(&mut head),
                None => head = log.head().await?,
            }
            // Of all that is there already is told once.
            match news.next_batch().now_or_never() {
                Some(Some(next)) => batch = next?,
                Some(None) | None => break,
            }
        }
        sender.send_if_modified(|known| {
            let has_news = *known != head;
            if has_news {
                known.clone_from(&head);
            }
            has_news
        });
    }
    Ok(())
}
