//! Who may take a name that a service had.

use std::collections::BTreeSet;

use anabranch_access::{Caller, Verb};

use super::denied::Denied;
use super::registrar::{Registry, Subject};

impl Registry {
    /// Refuses who would take over what another one has registered: with the name comes what it owns, and what
    /// it keeps to itself, also when nobody owns that any more. Whoever registered it last may, by the same key, and
    /// whoever may append to all of that.
    pub async fn check_name(&self, name: &str, caller: &Caller) -> Result<(), Denied> {
        let Caller::Known(principal) = caller else {
            return Ok(());
        };
        let Some(known) = self.find(Subject::Service(name)).await? else {
            return Ok(());
        };
        if known.key.as_deref() == Some(&*principal.key) {
            return Ok(());
        }
        let privacy = self.privacy();
        let mut all: BTreeSet<_> = privacy.kept_by(name).map(str::to_owned).collect();
        for category in known.about.owns {
            let owner = self.find(Subject::Category(&category)).await?;
            // Another one may have claimed it.
            if owner.is_some_and(|owner| owner.name == name) {
                all.insert(category);
            }
        }
        for category in all {
            if let Err(forbidden) = caller.check(Verb::Append, &category) {
                return Err(Denied::Private(format!(
                    "service {name} was registered last by another key, and has {category}: {forbidden}; nothing was changed"
                )));
            }
        }
        Ok(())
    }
}
