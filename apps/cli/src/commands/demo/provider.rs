//! The payment provider of the demo, which is a third party: it is in the demo's own process.

use std::net::{Ipv4Addr, SocketAddr};

use anabranch::runtime::Time;
use anabranch_shop::provider::{self, Mood};
use tokio::net::TcpListener;

use super::args::Provider;
use crate::failure::{Exit, Failure};
use crate::output::note;

/// Where the provider is; started if it is one of the demo's own.
pub async fn address(provider: Provider, time: &Time) -> Result<SocketAddr, Failure> {
    match provider {
        Provider::Ours(mood) => start(mood, time).await,
        Provider::At(address) => Ok(address),
    }
}

/// Starts the payment provider on a free port of this machine.
async fn start(mood: Mood, time: &Time) -> Result<SocketAddr, Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("the payment provider cannot be started: {error}");
        Failure::new(Exit::Failed, "provider", what)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let time = time.clone();
    tokio::spawn(async move {
        if let Err(error) = provider::serve(listener, mood, time).await {
            note(&format!("the payment provider has ended: {error}"));
        }
    });
    Ok(address)
}
