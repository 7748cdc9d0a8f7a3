//! Who may take a name that a service had.

use std::collections::BTreeSet;

use anabranch_access::{Caller, Verb};

use super::denied::Denied;
use super::table::{Table, Wanted};

/// Refuses who would take over what another one has registered: with the name comes what it owns, and what
/// it keeps to itself, also when nobody owns that any more. Whoever registered it last may, by the same key, and
/// whoever may append to all of that.
///
/// It is asked of the table by which the service is registered then: that is written on the condition that the
/// name's stream is as the table says.
pub fn check_name(table: &Table, wanted: &Wanted<'_>) -> Result<(), Denied> {
    let Wanted { name, caller, .. } = *wanted;
    let Caller::Known(principal) = caller else {
        return Ok(());
    };
    let Some(known) = table.service(name) else {
        return Ok(());
    };
    if known.key.as_deref() == Some(&*principal.key) {
        return Ok(());
    }
    let mut all: BTreeSet<_> = table.privacy().kept_by(name).collect();
    // Another one may have claimed some.
    let owned = known.about.owns.iter().map(String::as_str);
    all.extend(owned.filter(|category| table.owner_of(category) == Some(name)));
    for category in all {
        if let Err(forbidden) = caller.check(Verb::Append, category) {
            return Err(Denied::Private(format!(
                "service {name} was registered last by another key, and has {category}: {forbidden}; nothing was changed"
            )));
        }
    }
    Ok(())
}
