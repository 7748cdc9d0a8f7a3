//! A port that is a channel to somebody who has the port itself, and loses, repeats and delays what it
//! carries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anabranch::log::BoxFuture;
use anabranch::runtime::SendError;
use anabranch::runtime::port::{Port, Problem, Reply, Request};
use tokio::sync::{mpsc, oneshot};

type Answer = Result<Reply, Problem>;

/// A port that is a channel to somebody who has the port itself.
pub struct Channel {
    requests: mpsc::UnboundedSender<(Request, oneshot::Sender<Answer>)>,
    pub faults: Arc<Faults>,
}

/// What has gone wrong on the way.
#[derive(Default)]
pub struct Faults {
    requests: AtomicU64,
    lost_requests: AtomicU64,
    lost_answers: AtomicU64,
    repeated: AtomicU64,
    late: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Channel {
    /// Whoever is behind the other end carries the requests out by `port`.
    pub fn to(port: Arc<dyn Port>) -> Arc<Self> {
        let faults = Arc::new(Faults::default());
        let (requests, mut arriving) = mpsc::unbounded_channel();
        let told = faults.clone();
        tokio::spawn(async move {
            while let Some((request, answer)) = arriving.recv().await {
                tokio::spawn(carry_out(port.clone(), told.clone(), request, answer));
            }
        });
        Arc::new(Self { requests, faults })
    }
}

async fn carry_out(
    port: Arc<dyn Port>,
    faults: Arc<Faults>,
    request: Request,
    answer: oneshot::Sender<Answer>,
) {
    let number = faults.requests.fetch_add(1, Ordering::Relaxed);
    match number % 6 {
        // It does not arrive: the sender's end of the channel sees that nobody answers.
        1 => return count(&faults.lost_requests),
        2 => {
            count(&faults.repeated);
            drop(port.call(request.clone()).await);
        }
        3 => {
            count(&faults.late);
            // Others that were sent later go first.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        _ => {}
    }
    let carried_out = port.call(request).await;
    if number % 6 == 4 {
        return count(&faults.lost_answers);
    }
    // Nobody may wait for it any more.
    drop(answer.send(carried_out));
}

impl Port for Channel {
    fn call(&self, request: Request) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let nobody = || SendError::Unknown {
                reason: "nobody has answered".to_owned(),
            };
            let (answer, answered) = oneshot::channel();
            let sent = self.requests.send((request, answer));
            sent.map_err(|_| nobody())?;
            answered.await.map_err(|_| nobody())?
        })
    }
}

impl Faults {
    /// It was no quiet day.
    pub fn check(&self) {
        for counter in [
            &self.lost_requests,
            &self.lost_answers,
            &self.repeated,
            &self.late,
        ] {
            assert!(counter.load(Ordering::Relaxed) > 0);
        }
    }
}
