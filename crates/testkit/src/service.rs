use std::sync::Arc;

use anabranch_domain::{Effect, Entity, Process, Saga, View};
use anabranch_runtime::ServiceBuilder;
use anabranch_runtime::view::ViewSpec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::provider::Provider;
use crate::sky::Sky;

type Declare = Box<dyn Fn(ServiceBuilder, &Arc<Sky>) -> ServiceBuilder>;

/// A service: the entities, views, processes, sagas and effects that it owns. It crashes and
/// starts again as a whole, as often as the test likes.
pub struct Service {
    pub(crate) name: String,
    parts: Vec<Declare>,
}

impl Service {
    /// A service that owns nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            parts: Vec::new(),
        }
    }

    /// What the service declares in production, with all options: the same function serves
    /// here. It is called at every start. Views must be in memory: files and databases have a
    /// time of their own.
    #[must_use]
    pub fn declared_by(self, declare: impl Fn(ServiceBuilder) -> ServiceBuilder + 'static) -> Self {
        self.part(move |builder, _| declare(builder))
    }

    /// It owns these entities.
    #[must_use]
    pub fn entity<E: Entity>(self) -> Self {
        self.part(|builder, _| builder.entity::<E>())
    }

    /// It owns this view, whose store is a value in memory.
    #[must_use]
    pub fn view<V: View>(self) -> Self
    where
        V::Store: Default + Serialize + DeserializeOwned + Send + Sync,
    {
        self.part(|builder, _| builder.view(ViewSpec::<V>::new()))
    }

    /// It owns this process.
    #[must_use]
    pub fn process<P: Process>(self) -> Self {
        self.part(|builder, _| builder.process::<P>())
    }

    /// It owns this saga.
    #[must_use]
    pub fn saga<S: Saga>(self) -> Self {
        self.part(|builder, _| builder.saga::<S>())
    }

    /// It calls this third party.
    #[must_use]
    pub fn effect<F: Effect>(self, provider: &Provider<F>) -> Self {
        let provider = provider.clone();
        self.part(move |builder, sky| provider.declare(builder, sky))
    }

    fn part(
        mut self,
        declare: impl Fn(ServiceBuilder, &Arc<Sky>) -> ServiceBuilder + 'static,
    ) -> Self {
        self.parts.push(Box::new(declare));
        self
    }

    pub(crate) fn declare(&self, builder: ServiceBuilder, sky: &Arc<Sky>) -> ServiceBuilder {
        self.parts
            .iter()
            .fold(builder, |builder, part| part(builder, sky))
    }
}
