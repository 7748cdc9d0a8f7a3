use std::any::Any;

use anabranch_model::{Cut, Event as StoredEvent, StreamId};

use super::{Host, Scene, Work};
use crate::saga::{Rule, Rules};
use crate::schema::Reader;
use crate::testkit::world::log::causes;
use crate::testkit::world::message::Message;
use crate::view::View;

pub struct ViewHost<V: View> {
    reader: Reader<V::Event>,
    pub store: V::Store,
    /// What it shows.
    pub cut: Cut,
}

impl<V: View<Store: Default>> ViewHost<V> {
    pub fn new() -> Self {
        let mut store = V::Store::default();
        V::set_up(&mut store)
            .unwrap_or_else(|error| panic!("view {} cannot be set up: {error}", V::NAME));
        Self {
            reader: Reader::new().unwrap_or_else(|error| panic!("view {}: {error}", V::NAME)),
            store,
            cut: Cut::start(),
        }
    }
}

impl<V: View<Store: Default + 'static>> Host for ViewHost<V> {
    fn name(&self) -> String {
        format!("view {}", V::NAME)
    }

    fn takes(&self, _: &Message) -> bool {
        false
    }

    fn take(&mut self, _: &Message, _: &Scene<'_>) -> Result<Work, String> {
        Ok(Work::nothing())
    }

    fn listens(&self) -> bool {
        true
    }

    fn ready(&self, event: &StoredEvent, cut: &Cut, rules: Rules) -> bool {
        !rules.keep(Rule::CausalViews) || cut.covers(&causes(event))
    }

    fn consume(&mut self, event: &StoredEvent, _: &Scene<'_>) -> Result<Work, String> {
        if V::CATEGORIES.contains(&event.category()) && self.reader.knows(event.event_type()) {
            let read = self
                .reader
                .read(event.event_type(), event.schema_version, event.data());
            if let Some(own) = read.map_err(|error| error.to_string())? {
                V::handle(&mut self.store, &own, &event.as_ref())
                    .map_err(|error| error.to_string())?;
            }
        }
        self.cut.join(&Cut::including(event.position));
        Ok(Work::nothing())
    }

    fn evict(&mut self, _: &StreamId) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}
