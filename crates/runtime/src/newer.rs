//! What the log says of events that are newer than this program.

use std::sync::Arc;

use anabranch_domain::Newer;
use anabranch_log::{Log, ReadError};

use crate::registry::{self, RegistryError};

/// What came of a look.
pub struct News {
    /// Whether something is new: an event that could not be read may be one that can.
    pub is_news: bool,
    /// What services have said and nobody here understands; it was passed over.
    pub unreadable: Vec<RegistryError>,
}

/// What is known of newer events, and the log that knows more.
#[derive(Clone)]
pub struct NewerTypes {
    log: Arc<dyn Log>,
    /// What the readers of a service are taught.
    pub known: Arc<Newer>,
}

impl NewerTypes {
    /// Nothing is known yet.
    pub fn new(log: Arc<dyn Log>) -> Self {
        let known = Arc::default();
        Self { log, known }
    }

    /// Looks what services have said.
    pub async fn look(&self) -> Result<News, ReadError> {
        let (said, unreadable) = registry::readable(&*self.log).await?;
        let mut is_news = false;
        for (category, said) in said.registered {
            let all = said.into_iter().map(|said| said.downcasts);
            let all = all.reduce(|older, newer| older.and(newer));
            is_news |= self.known.learn(&category, all.unwrap_or_default());
        }
        Ok(News {
            is_news,
            unreadable,
        })
    }
}
