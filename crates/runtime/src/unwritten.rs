//! Tells of categories that somebody reads and nobody writes: most often one of the two names
//! is mistyped, and a view of it would be caught up and empty for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::Cut;
use anabranch_domain::types::ReaderTypes;
use anabranch_log::{Log, ReadMode};
use anabranch_model::Filter;

use crate::delivery::{Dispatcher, Here as _};
use crate::diagnostics::Diagnostics;
use crate::hosted::Hosted;
use crate::time::Time;

/// Whether a service of the fleet has this category.
pub type Owned = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// How long services that stand side by side have to come.
const COMING: Duration = Duration::from_secs(5);

/// What is looked at once a service has started.
pub struct Unwritten {
    pub log: Arc<dyn Log>,
    pub time: Time,
    pub diagnostics: Arc<Diagnostics>,
    pub readers: Vec<ReaderTypes>,
    /// What the service itself writes, and publishes.
    pub written: BTreeSet<String>,
    pub owned_beside: Option<Owned>,
}

impl Unwritten {
    /// Tells of what nobody writes; nobody waits for it.
    pub fn tell(self, dispatcher: &Dispatcher, hosted: Arc<Hosted>) {
        let suspects: Vec<_> = self
            .readers
            .iter()
            .flat_map(|reader| {
                let who = format!("{} {}", reader.what, reader.name);
                let categories = reader.categories.iter();
                categories.map(move |category| (who.clone(), category.clone()))
            })
            .filter(|(_, category)| !category.starts_with('$') && !hosted.owns(category))
            .filter(|(_, category)| !self.written.contains(category))
            .collect();
        if suspects.is_empty() {
            return;
        }
        let here: Vec<_> = hosted.entities.keys().copied().collect();
        let here = here.join(", ");
        dispatcher.spawn(async move {
            if self.owned_beside.is_some() {
                self.time.sleep(COMING).await;
            }
            for (who, category) in suspects {
                if self.is_unwritten(&category).await {
                    let text = format!(
                        "{who} reads the category {category:?}, of which there is no event, and \
                         no service here has entities of it; is the name right? Categories of \
                         this service: {here}"
                    );
                    self.diagnostics.alert(self.time.now(), text);
                }
            }
        });
    }

    async fn is_unwritten(&self, category: &str) -> bool {
        if self
            .owned_beside
            .as_ref()
            .is_some_and(|owned| owned(category))
        {
            return false;
        }
        let filter = Filter::category(category);
        let mut read = self.log.read(&Cut::start(), filter, ReadMode::ToHead);
        // A log that cannot be read is told of by whoever reads it.
        read.next().await.is_none()
    }
}
