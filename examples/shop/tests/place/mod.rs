//! A shop of a test's own.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use anabranch::env::Env;
use anabranch::log::{Log, MemoryLog};
use anabranch::runtime::snapshot::MemorySnapshots;
use anabranch::runtime::{Fleet, Time};
use anabranch_shop::provider::{self, Mood, ProviderClient};
use anabranch_shop::shop::{Build, Shop};

/// A shop whose files go with it.
pub struct Place {
    pub shop: Arc<Shop>,
    dir: PathBuf,
}

impl Place {
    pub async fn open(name: &str, mood: Mood, log: Arc<dyn Log>) -> Self {
        let env = Env::os();
        let time = Time::of(&env);
        let dir =
            std::env::temp_dir().join(format!("anabranch-shop-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(provider::serve(listener, mood, time.clone()));
        let shop = Arc::new(Shop {
            time,
            log,
            snapshots: Arc::new(MemorySnapshots::new()),
            views: dir.clone(),
            provider: ProviderClient::new(address),
            fleet: Arc::new(Fleet::new()),
            alerts: None,
            pricing: Build::First,
            env,
        });
        shop.open().await.unwrap();
        Self { shop, dir }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed stays with the system's temporary files.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// A log in memory.
pub fn memory() -> Arc<dyn Log> {
    Arc::new(MemoryLog::new(Env::os()))
}
