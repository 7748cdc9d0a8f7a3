//! A set of services that `anabranch up` keeps.

use super::check::Check;
use crate::up::asked::Standing;

/// How each stands.
pub fn standing(all: &[Standing]) -> Vec<Check> {
    all.iter().map(one).collect()
}

fn one(service: &Standing) -> Check {
    let Standing {
        service: name,
        state,
        restarts,
        last_end,
        waits_for,
        ..
    } = service;
    let end = last_end.as_deref().unwrap_or("it has not ended");
    if !waits_for.is_empty() {
        let what = format!("{name} waits for {}", waits_for.join(", "));
        let remedy = format!("`anabranch service start {}`", waits_for[0]);
        return Check::warning("services", what, remedy);
    }
    match (state.as_str(), restarts) {
        ("ready", 0) => Check::ok("services", format!("{name} is ready")),
        ("ready", restarts) => Check::warning(
            "services",
            format!("{name} is ready, and was started again {restarts} times: {end}"),
            "see what it says where `anabranch up` runs",
        ),
        ("stopped", _) => Check::warning(
            "services",
            format!("{name} was stopped"),
            format!("`anabranch service start {name}`"),
        ),
        (state, _) => Check::fault(
            "services",
            format!("{name} is not ready but {state}: {end}"),
            "see what it says where `anabranch up` runs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::State;

    #[test]
    fn a_service_that_is_not_ready_is_a_fault() {
        let standing = |state: &str, restarts| Standing {
            service: "pricing".to_owned(),
            state: state.to_owned(),
            process: None,
            restarts,
            last_end: Some("exit status: 1".to_owned()),
            waits_for: Vec::new(),
        };
        assert_eq!(one(&standing("ready", 0)).state, State::Ok);
        assert_eq!(one(&standing("ready", 3)).state, State::Warning);
        assert_eq!(one(&standing("stopped", 0)).state, State::Warning);
        let check = one(&standing("starting", 1));
        assert_eq!(check.state, State::Fault);
        assert!(check.what.contains("exit status: 1"), "{}", check.what);
    }
}
