//! Views in PostgreSQL: a schema for each copy, with the rows and how far they are.
//!
//! The row of `anabranch_progress` in that schema is the fence. Every transaction locks it
//! first, reads how far the rows are, and moves it with what it writes. So a transaction whose
//! end nobody has heard of is found done or not done, and of two runtimes that write to one
//! copy the second finds what the first has done.
//!
//! All of it runs on threads that may block, each with a connection of its own: the code of a
//! view is not async.

mod address;
mod copy;
mod database;
mod line;
mod store;
mod writer;

use std::sync::Arc;

use anabranch_domain::View;
use anabranch_runtime::ServiceBuilder;
use anabranch_runtime::view::{ViewContext, ViewSpec, ViewStore, ViewStoreFactory};

use database::PostgresViewStore;

pub use store::Postgres;
pub use tokio_postgres;

/// Keeps views in PostgreSQL: for [`ServiceBuilder::view_on`].
#[derive(Clone)]
pub struct PostgresViews {
    address: String,
}

impl PostgresViews {
    /// In the database at an address of the form
    /// `postgres://user:password@host:port/database`. One that is no such address fails the
    /// service's start.
    pub fn at(address: impl Into<String>) -> Self {
        let address = address.into();
        Self { address }
    }
}

impl ViewStoreFactory<Postgres> for PostgresViews {
    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<Postgres>> {
        Arc::new(PostgresViewStore::new(&self.address, context))
    }
}

/// Views in PostgreSQL, for a service.
pub trait InPostgres {
    /// Hosts this view in PostgreSQL, at an address of the form
    /// `postgres://user:password@host:port/database`. Each copy of the view has a schema there;
    /// connections are not encrypted. A server that cannot be reached fails the start; one that
    /// is lost later is tried again and again.
    #[must_use]
    fn view_in_postgres<V: View<Store = Postgres>>(
        self,
        spec: ViewSpec<V>,
        address: impl Into<String>,
    ) -> Self;
}

impl InPostgres for ServiceBuilder {
    fn view_in_postgres<V: View<Store = Postgres>>(
        self,
        spec: ViewSpec<V>,
        address: impl Into<String>,
    ) -> Self {
        self.view_on(spec, PostgresViews::at(address))
    }
}
