//! Views in a database, for a service.

use std::sync::Arc;

use anabranch_domain::View;
use anabranch_log::BoxFuture;
use anabranch_runtime::ServiceBuilder;
use anabranch_runtime::view::{
    Copies, CopyId, StoreError, ViewCode, ViewContext, ViewCopy, ViewSpec, ViewStore,
    ViewStoreFactory,
};

use crate::copy::PostgresCopy;
use crate::database::{Place, blocking};
use crate::store::Postgres;
use crate::writer::Writer;

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
        Arc::new(PostgresViewStore(Arc::new(Place::new(
            &self.address,
            context,
        ))))
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

/// The copies of one view in one database.
struct PostgresViewStore(Arc<Place>);

impl ViewStore<Postgres> for PostgresViewStore {
    fn copies(&self) -> BoxFuture<'_, Result<Copies, StoreError>> {
        let place = self.0.clone();
        Box::pin(blocking(place.view, move || place.copies()))
    }

    fn set_copies(&self, copies: Copies) -> BoxFuture<'_, Result<(), StoreError>> {
        let place = self.0.clone();
        Box::pin(blocking(place.view, move || place.set_copies(copies)))
    }

    fn open(
        &self,
        id: CopyId,
        code: Arc<ViewCode<Postgres>>,
    ) -> BoxFuture<'_, Result<Arc<dyn ViewCopy<Postgres>>, StoreError>> {
        let place = self.0.clone();
        Box::pin(blocking(place.view, move || {
            let writer = Writer::open(place.clone(), id, |rows| code.set_up(rows))?;
            Ok(Arc::new(PostgresCopy::new(place, id, code, writer)) as _)
        }))
    }

    fn remove(&self, id: CopyId) -> BoxFuture<'_, Result<(), StoreError>> {
        let place = self.0.clone();
        Box::pin(blocking(place.view, move || place.remove(id)))
    }
}
