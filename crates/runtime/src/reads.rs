//! What a service has read.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_model::Cut;

use crate::consumer::ConsumerHost;
use crate::view::AnyView;

/// What a service reads.
pub struct Reads {
    pub views: BTreeMap<&'static str, Arc<dyn AnyView>>,
    pub consumers: BTreeMap<&'static str, Arc<ConsumerHost>>,
}

impl Reads {
    /// What the service has read: what its views show, and what its consumers were given.
    pub fn seen(&self) -> Cut {
        let mut seen = Cut::start();
        for view in self.views.values() {
            seen.join(&view.seen());
        }
        for consumer in self.consumers.values() {
            seen.join(&consumer.seen());
        }
        seen
    }
}
