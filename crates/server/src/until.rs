//! What goes on for as long as the server does.

use std::convert::Infallible;
use std::future::Future;

use futures_util::future::{Either, select};
use tokio::sync::watch;

/// Does this, which has no end of its own, until the server stops.
pub async fn until_stopped(
    mut stopping: watch::Receiver<bool>,
    work: impl Future<Output = Infallible> + Send,
) {
    let stopped = Box::pin(async move {
        // It cannot be told any more when the server has gone already.
        drop(stopping.wait_for(|is_stopping| *is_stopping).await);
    });
    match select(stopped, Box::pin(work)).await {
        Either::Left(((), _)) => {}
        Either::Right((never, _)) => match never {},
    }
}
