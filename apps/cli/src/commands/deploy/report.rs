//! What a build would break, for people and programs.

use anabranch::domain::types::{ProgramTypes, Rollout, ServiceTypes};
use serde_json::json;

use crate::commands::log::text::counted;
use crate::commands::schema::print_breaks;
use crate::event_text::clean;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Form, Output};

/// Prints what a build would break, and how each reader goes on.
pub fn show(rollout: &Rollout, form: Form) -> Outcome {
    let mut out = Output::stdout();
    match form {
        Form::Text => print(rollout, &mut out)?,
        Form::Json | Form::Jsonl => out.line(&json!(rollout).to_string())?,
    }
    out.flush()
}

/// That it would break somebody, if it would.
pub fn breaks(rollout: &Rollout) -> Option<Failure> {
    let breaks = rollout.report.breaks.len() as u64;
    let what = format!("{} would break somebody", counted(breaks, "change"));
    let failure = Failure::new(Exit::Failed, "breaks", what).safe("nothing was rolled out");
    (breaks > 0).then_some(failure)
}

/// The types of one service, of those that `place` describes.
pub fn own(all: ProgramTypes, service: &str, place: &str) -> Result<ServiceTypes, Failure> {
    let names: Vec<_> = all.0.iter().map(|one| one.service.clone()).collect();
    let own = all.0.into_iter().find(|one| one.service == service);
    own.ok_or_else(|| {
        let names = names.join(", ");
        let what = format!("{place} does not describe service {service:?}, but {names}");
        Failure::new(Exit::NotFound, "no-such-service", what).safe("nothing was compared")
    })
}

fn print(rollout: &Rollout, out: &mut Output) -> Outcome {
    print_breaks(&rollout.report, out)?;
    let report = &rollout.report;
    out.line(&format!(
        "compared: {} of {} in the log, {} running",
        counted(report.kinds, "kind"),
        counted(report.events, "event"),
        counted(rollout.sagas, "saga instance"),
    ))?;
    for reader in &rollout.readers {
        let (name, service) = (clean(&reader.reader), clean(&reader.service));
        let reads = clean(&reader.categories.join(", "));
        let how = match (reader.breaks, reader.by_downcast.as_slice()) {
            (true, _) => "would break".to_owned(),
            (false, []) => "goes on".to_owned(),
            (false, all) => format!("goes on, reads {} by a downcast", clean(&all.join(", "))),
        };
        out.line(&format!("{name} of service {service} reads {reads}: {how}"))?;
    }
    if report.breaks.is_empty() {
        out.line(&format!("{} may be rolled out", clean(&rollout.service)))?;
    }
    Ok(())
}
