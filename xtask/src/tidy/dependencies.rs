//! Where other people's crates come from, and under which licences.
//!
//! `deny.toml` holds the rules for `cargo deny`, which also knows security advisories. It
//! is not on every machine, so the two rules that need no network are checked here too,
//! with the licences that `deny.toml` allows.

use std::process::Command;

use serde_json::Value;

use super::finding::Finding;
use crate::commands::Outcome;
use crate::process::output_of;
use crate::workspace::Workspace;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
const RULES: &str = "deny.toml";

/// Every dependency that breaks a rule.
pub fn check(workspace: &Workspace) -> Outcome<Vec<Finding>> {
    let allowed = allowed_licences(&workspace.read(RULES)?);
    let metadata = workspace.metadata(&["--locked", "--filter-platform", &host()?])?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    Ok(packages
        .flat_map(|package| judge(package, &allowed))
        .collect())
}

fn host() -> Outcome<String> {
    let text = output_of(Command::new("rustc").arg("-vV"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}

/// The quoted words of the `allow` list below `[licenses]`.
fn allowed_licences(rules: &str) -> Vec<String> {
    let section = rules.split("[licenses]").nth(1).unwrap_or_default();
    let list = section.split("allow = [").nth(1).unwrap_or_default();
    let list = list.split(']').next().unwrap_or_default();
    let words = list.split('"').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

fn judge(package: &Value, allowed: &[String]) -> Vec<Finding> {
    let name = package["name"].as_str().unwrap_or("?");
    let mut found = Vec::new();
    // A crate of the workspace has no source.
    if let Some(source) = package["source"].as_str()
        && source != REGISTRY
    {
        found.push(Finding::whole(
            "Cargo.toml",
            format!("{name} comes from {source}: use a release from the registry"),
        ));
    }
    let licence = package["license"].as_str().unwrap_or("");
    if !is_allowed(licence, allowed) {
        found.push(Finding::whole(
            "Cargo.toml",
            format!(
                "{name} has the licence {licence:?}: use another crate, or allow it in {RULES} with a reason"
            ),
        ));
    }
    found
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is the old way of
/// writing `OR`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    !words.is_empty() && any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = all_of(words, allowed);
    while let Some((&"OR", rest)) = words.split_first() {
        *words = rest;
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while let Some((&"AND", rest)) = words.split_first() {
        *words = rest;
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &[String]) -> bool {
    let Some((first, rest)) = words.split_first() else {
        return false;
    };
    *words = rest;
    if *first == "(" {
        let met = any_of(words, allowed);
        return match words.split_first() {
            Some((&")", rest)) => {
                *words = rest;
                met
            }
            _ => false,
        };
    }
    let mut licence = (*first).to_owned();
    if let [with, exception, rest @ ..] = *words
        && *with == "WITH"
    {
        licence = format!("{first} WITH {exception}");
        *words = rest;
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn allowed() -> Vec<String> {
        allowed_licences("[licenses]\n# why\nallow = [\n    \"MIT\",\n    \"Zlib\",\n]\n[bans]\n")
    }

    #[test]
    fn expressions_follow_spdx() {
        for met in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(GPL-3.0 OR Zlib) AND MIT",
        ] {
            assert!(is_allowed(met, &allowed()), "{met} was refused");
        }
        for unmet in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT WITH X",
            "(MIT",
            "MIT MIT",
        ] {
            assert!(!is_allowed(unmet, &allowed()), "{unmet} was accepted");
        }
    }

    #[test]
    fn a_crate_from_elsewhere_is_found() {
        let git = json!({"name": "x", "license": "MIT", "source": "git+https://example.com/x"});
        assert_eq!(judge(&git, &allowed()).len(), 1);
        let registry = json!({"name": "x", "license": "MIT", "source": REGISTRY});
        assert!(judge(&registry, &allowed()).is_empty());
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_found() {
        let package = json!({"name": "x", "license": "GPL-3.0", "source": REGISTRY});
        assert_eq!(judge(&package, &allowed()).len(), 1);
        let silent = json!({"name": "x", "license": null, "source": REGISTRY});
        assert_eq!(judge(&silent, &allowed()).len(), 1);
    }
}
