//! What of many events a caller may append.

use anabranch_access::{AUDIT, CATEGORY, Caller, Forbidden, Verb};
use anabranch_model::NewEvent;

use crate::shared::Shared;

/// Refuses an append, unless each of its events may be appended. Where nobody is asked who they are, nobody
/// makes keys: they would be good later. What is refused is written down, and what is appended to categories
/// of the platform.
pub fn append(shared: &Shared, caller: &Caller, events: &[NewEvent]) -> Result<(), Forbidden> {
    for event in events {
        let category = event.stream.category();
        let checked = match caller {
            Caller::Anybody if [AUDIT, CATEGORY].contains(&category) => {
                Caller::Nobody.check(Verb::Append, category)
            }
            caller => caller.check(Verb::Append, category),
        };
        checked.map_err(|forbidden| refused(shared, caller, forbidden))?;
    }
    let Some(audit) = &shared.audit else {
        return Ok(());
    };
    let of_platform = |event: &&NewEvent| event.stream.category().starts_with('$');
    for event in events.iter().filter(of_platform) {
        let did = format!("append {}", event.event_type.as_str());
        audit.tell(caller.name(), &did, event.stream.as_str(), "allowed");
    }
    Ok(())
}

/// Refuses a command that is one of several, unless its category may be commanded.
pub fn command(shared: &Shared, caller: &Caller, category: &str) -> Result<(), Forbidden> {
    let checked = caller.check(Verb::Command, category);
    checked.map_err(|forbidden| refused(shared, caller, forbidden))
}

fn refused(shared: &Shared, caller: &Caller, forbidden: Forbidden) -> Forbidden {
    if let Some(audit) = &shared.audit {
        audit.refused(caller.name(), forbidden.verb.name(), &forbidden.name);
    }
    forbidden
}
