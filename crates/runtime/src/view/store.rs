//! Where the rows of a view are kept: what a store of your own implements.

use std::sync::Arc;

use anabranch_log::{BoxFuture, Log};
use anabranch_model::EventBatch;

use super::{Copies, CopyId, Intake, PoisonEvent, Progress, StoreError, ViewCode};
use crate::diagnostics::Diagnostics;
use crate::snapshot::SnapshotStore;
use crate::time::Time;

/// Looks at the rows and at how far they are, both of one moment.
pub type Look<S> = Box<dyn FnOnce(&S, &Progress) + Send>;

/// One set of rows, with the cut that it stands at.
///
/// Rows and [`Progress`] change together, in one transaction. [`Intake::apply`] takes events in
/// by [`ViewCode::take_in`], and stops before the append that has an event which cannot be taken
/// in ([`EventBatch::append_start`]). Whoever looks after [`Intake::advance`] sees progress that
/// covers its cut.
pub trait ViewCopy<S>: Intake {
    /// Which one.
    fn id(&self) -> CopyId;

    /// Takes in what was set aside of one stream, by [`ViewCode::take_back`]. All of it or
    /// nothing; `Some` names the event that still cannot be taken in.
    fn apply_parked(
        &self,
        stream: String,
        events: EventBatch,
    ) -> BoxFuture<'_, Result<Option<PoisonEvent>, StoreError>>;

    /// Runs a query's code on rows that nobody changes meanwhile.
    fn look(&self, look: Look<S>) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Where the copies of one view are kept.
///
/// The rows are of type `S`, which is the `Store` of the views that can be kept here. The suite
/// in `view::conformance` (feature `conformance`) checks an implementation.
pub trait ViewStore<S>: Send + Sync + 'static {
    /// Which copies there are; [`Copies::default`] in a store that is new.
    fn copies(&self) -> BoxFuture<'_, Result<Copies, StoreError>>;

    /// Says which copies there are from now on.
    fn set_copies(&self, copies: Copies) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Opens a copy; makes an empty one, with [`ViewCode::set_up`], if there is none.
    fn open(
        &self,
        id: CopyId,
        code: Arc<ViewCode<S>>,
    ) -> BoxFuture<'_, Result<Arc<dyn ViewCopy<S>>, StoreError>>;

    /// Throws a copy away; nothing happens if there is none.
    fn remove(&self, id: CopyId) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Makes the store of a view when its service starts: what
/// [`ServiceBuilder::view_on`](crate::ServiceBuilder::view_on) takes.
pub trait ViewStoreFactory<S>: Send + 'static {
    /// The store of the view that `context` names. Touches neither disk nor network: that is
    /// for [`ViewStore::copies`], which comes first.
    fn store(&self, context: &ViewContext) -> Arc<dyn ViewStore<S>>;
}

/// What a view's store may need to know of the service.
#[derive(Clone)]
#[non_exhaustive]
pub struct ViewContext {
    /// The service's name.
    pub service: String,
    /// The view's name, unique in the service.
    pub view: &'static str,
    /// The service's log: rows that are not kept can be read again.
    pub log: Arc<dyn Log>,
    /// The service's clock.
    pub time: Time,
    /// Where operators look for what went wrong.
    pub diagnostics: Arc<Diagnostics>,
    /// Where the service keeps what saves reading its events again.
    pub snapshots: Arc<dyn SnapshotStore>,
}
