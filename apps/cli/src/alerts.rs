//! What services say that a person should know at once, in the form of this program's own lines.

use std::sync::Arc;

use anabranch_shop::shop::Alerts;

use crate::context::Context;
use crate::log_lines::LogForm;
use crate::output::note_of;

/// Who is told; nobody if lines are text, which services write by themselves.
pub fn of(context: &Context) -> Option<Alerts> {
    (context.settings.logs == LogForm::Json).then(|| -> Alerts {
        Arc::new(|alert| {
            let text = format!("WARNING: {}", alert.text);
            note_of(&alert.service, &text, || text.clone());
        })
    })
}
