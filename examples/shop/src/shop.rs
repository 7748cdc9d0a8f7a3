//! The shop: its services side by side on one log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anabranch::domain::types::{ProgramTypes, ServiceTypes};
use anabranch::domain::{Entity as _, Saga as _};
use anabranch::env::Env;
use anabranch::log::{Log, MemoryLog};
use anabranch::runtime::snapshot::{MemorySnapshots, SnapshotStore};
use anabranch::runtime::{Alert, Fleet, Service, ServiceBuilder, StartError, Time};

use crate::orders::Order;
use crate::payments::{Charging, Payment};
use crate::pricing::Price;
use crate::provider::ProviderClient;
use crate::shipping::Shipment;
use crate::stock::Stock;
use crate::{checkout, customers, orders, payments, pricing, quoting, shipping, stock, storefront};

/// The names of the services, in the order in which they are started.
pub const SERVICES: [&str; 8] = [
    "orders",
    "stock",
    "payments",
    "shipping",
    "pricing",
    "customers",
    "storefront",
    "checkout",
];

/// What the services of a shop have in common. Each could be a program of its own; here they
/// are side by side in one, and any of them can be killed and started again.
pub struct Shop {
    /// The machine.
    pub env: Env,
    /// Clocks and sleep.
    pub time: Time,
    /// Where all facts are.
    pub log: Arc<dyn Log>,
    /// Where states are kept, so that not every event is read again after a start.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// The directory of the views that are files.
    pub views: PathBuf,
    /// Who moves the money.
    pub provider: ProviderClient,
    /// The services that run.
    pub fleet: Arc<Fleet>,
    /// Who is told of what a person should know at once; if nobody, it is a line on the standard error.
    pub alerts: Option<Alerts>,
    /// Which build of pricing it is.
    pub pricing: Build,
}

/// Which build of a service that has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Build {
    /// The first one.
    #[default]
    First,
    /// One whose own events have another form.
    Second,
    /// One that breaks those who read what it publishes.
    Careless,
}

/// Is told what a person should know at once.
pub type Alerts = Arc<dyn Fn(&Alert) + Send + Sync>;

impl Shop {
    /// Starts every service.
    pub async fn open(&self) -> Result<(), StartError> {
        for name in SERVICES {
            self.start(name).await?;
        }
        Ok(())
    }

    /// Starts the service of this name; one that runs is ended as a crash would end it.
    pub async fn start(&self, name: &'static str) -> Result<Arc<Service>, StartError> {
        self.fleet.kill(name);
        Ok(self.fleet.join(self.builder(name).start().await?))
    }

    /// The types of events that the shop writes and reads. Nothing is started.
    pub fn types(env: Env) -> ProgramTypes {
        let types = |name: &&'static str| Self::types_of_build(env.clone(), name, Build::First);
        ProgramTypes(SERVICES.iter().map(types).collect())
    }

    /// The types of events that this build of a service writes and reads. Nothing is started.
    pub fn types_of_build(env: Env, name: &'static str, build: Build) -> ServiceTypes {
        let nowhere = Self {
            time: Time::of(&env),
            log: Arc::new(MemoryLog::new(env.clone())),
            snapshots: Arc::new(MemorySnapshots::new()),
            views: PathBuf::new(),
            provider: ProviderClient::new(SocketAddr::from(([127, 0, 0, 1], 0))),
            fleet: Arc::new(Fleet::new()),
            alerts: None,
            pricing: build,
            env,
        };
        nowhere.types_of(name)
    }

    /// The types of events that the service of this name writes and reads. Nothing is started.
    pub fn types_of(&self, name: &'static str) -> ServiceTypes {
        self.builder(name).types().clone()
    }

    /// The categories of other services that the processes and sagas of the service of this name send
    /// to.
    pub fn sends_of(name: &str) -> &'static [&'static str] {
        match name {
            "orders" => &[Price::CATEGORY],
            "stock" | "payments" | "shipping" | "pricing" => &[],
            "checkout" => &[
                Order::CATEGORY,
                Stock::CATEGORY,
                Payment::CATEGORY,
                Shipment::CATEGORY,
                Charging::NAME,
            ],
            _ => &[],
        }
    }

    fn builder(&self, name: &'static str) -> ServiceBuilder {
        let builder = Service::builder(name, self.log.clone(), self.time.clone())
            .beside(&self.fleet)
            .snapshots(self.snapshots.clone());
        let builder = match self.alerts.clone() {
            Some(alerts) => builder.alerts(move |alert| alerts(alert)),
            None => builder,
        };
        match name {
            "orders" => quoting::service(orders::service(builder)),
            "stock" => stock::service(builder),
            "payments" => payments::service(builder, &self.provider),
            "shipping" => shipping::service(builder),
            "pricing" => match self.pricing {
                Build::First => pricing::service(builder),
                Build::Second => pricing::next::service(builder),
                Build::Careless => pricing::careless::service(builder),
            },
            "customers" => customers::service(builder, self.env.disk.clone(), &self.views),
            "checkout" => checkout::service(builder),
            _ => storefront::service(builder),
        }
    }
}
