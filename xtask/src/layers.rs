//! Which crate may know which.
//!
//! Each crate declares its layer once, in its own manifest:
//!
//! ```toml
//! [package.metadata.anabranch]
//! layer = 4
//! ```
//!
//! Invariants checked here:
//!
//! * A crate depends on crates of strictly lower layers, so crates of one layer do not
//!   know each other and there is no cycle.
//! * Tests may also use the helpers below `testing/`; nothing else below the top does,
//!   because those helpers declare a high layer themselves.
//! * The crates that service authors compile against take nothing from outside but what
//!   [`FRUGAL`] lists, and nothing that does I/O, reads a clock or draws random numbers
//!   reaches them through others either.

use std::process::Command;

use crate::commands::Outcome;
use crate::process::output_of;
use crate::workspace::{DependencyKind, Package, Workspace};

/// The crates that must stay small, and all that each may depend on.
const FRUGAL: [(&str, &[&str]); 3] = [
    ("anabranch-causal-check", &[]),
    (
        "anabranch-model",
        &[
            "blake3",
            "bytes",
            "serde",
            "serde_json",
            "thiserror",
            "uuid",
        ],
    ),
    (
        "anabranch-domain",
        &[
            "anabranch-domain-derive",
            "anabranch-model",
            "bytes",
            "serde",
            "serde_json",
            "thiserror",
            "uuid",
        ],
    ),
];

/// What must not reach a frugal crate, not even through others: runtimes, system calls,
/// clocks, randomness.
const WORLDLY: [&str; 14] = [
    "async-std",
    "chrono",
    "fastrand",
    "getrandom",
    "jiff",
    "libc",
    "mio",
    "nix",
    "rand",
    "rand-core",
    "rustix",
    "socket2",
    "time",
    "tokio",
];

/// `cargo xtask layers`: prints the map, or every arrow that points the wrong way.
pub fn command(workspace: &Workspace) -> Outcome {
    let packages = workspace.packages()?;
    let found = violations(workspace, &packages)?;
    if !found.is_empty() {
        return Err(format!(
            "{}\n\nlayers: {} found",
            found.join("\n"),
            found.len()
        ));
    }
    for package in &packages {
        if let Some(layer) = package.layer {
            println!("{layer:3}  {:28}{}", package.name, package.dir);
        }
    }
    println!("layers: {} crates, every arrow points down", packages.len());
    Ok(())
}

/// Everything wrong with the arrows of a workspace, one sentence each.
pub fn violations(workspace: &Workspace, packages: &[Package]) -> Outcome<Vec<String>> {
    let mut found = wrong_arrows(packages);
    for (name, _) in FRUGAL {
        if packages.iter().any(|package| package.name == name) {
            found.extend(worldly(name, &closure(workspace, name)?));
        }
    }
    Ok(found)
}

fn wrong_arrows(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let Some(layer) = package.layer else {
            found.push(format!(
                "{dir}/Cargo.toml: {name} declares no layer; add [package.metadata.anabranch] with layer = N",
                dir = package.dir,
                name = package.name,
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(target) = packages.iter().find(|p| p.name == dependency.name) else {
                continue;
            };
            let Some(target_layer) = target.layer else {
                continue;
            };
            let helps_tests = dependency.kind == DependencyKind::Dev
                && (target.dir.starts_with("testing/") || target.name == package.name);
            if target_layer >= layer && !helps_tests {
                found.push(format!(
                    "{dir}/Cargo.toml: {name} (layer {layer}) depends on {to} (layer {target_layer}); \
                     an arrow goes only to a lower layer: declare a small trait here and pass the other in from above",
                    dir = package.dir,
                    name = package.name,
                    to = target.name,
                ));
            }
        }
        found.extend(unlisted(package));
    }
    found
}

fn unlisted(package: &Package) -> Vec<String> {
    let Some((_, allowed)) = FRUGAL.iter().find(|(name, _)| *name == package.name) else {
        return Vec::new();
    };
    package
        .dependencies
        .iter()
        .filter(|d| d.kind == DependencyKind::Code && !allowed.contains(&d.name.as_str()))
        .map(|d| {
            format!(
                "{dir}/Cargo.toml: {name} depends on {to}; service authors compile against it, so it may use only {list}",
                dir = package.dir,
                name = package.name,
                to = d.name,
                list = allowed.join(", "),
            )
        })
        .collect()
}

fn worldly(name: &str, closure: &[String]) -> Vec<String> {
    closure
        .iter()
        .filter(|dependency| WORLDLY.contains(&dependency.as_str()))
        .map(|dependency| {
            format!(
                "{name}: {dependency} reaches it through its dependencies; it does no I/O, reads no clock and \
                 draws no random number: switch off the feature that brings it (`cargo tree -p {name} -e normal -i {dependency}`)"
            )
        })
        .collect()
}

/// The names of all packages that a crate's code is built with. Asked of `cargo tree`,
/// which, unlike `cargo metadata`, leaves out features that only other crates switch on.
fn closure(workspace: &Workspace, name: &str) -> Outcome<Vec<String>> {
    let text = output_of(
        Command::new(env!("CARGO"))
            .args(["tree", "--package", name, "--edges", "normal"])
            .args(["--prefix", "none", "--format", "{lib}"])
            .current_dir(&workspace.root),
    )?;
    let mut names: Vec<String> = text
        .lines()
        .map(|line| line.trim().replace('_', "-"))
        .filter(|line| !line.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dir: &str, layer: Option<u64>, code: &[&str], dev: &[&str]) -> Package {
        let of = |names: &[&str], kind| {
            let dependency = |name: &&str| Dependency {
                name: (*name).to_owned(),
                kind,
            };
            names.iter().map(dependency).collect::<Vec<_>>()
        };
        Package {
            name: name.to_owned(),
            dir: dir.to_owned(),
            layer,
            dependencies: [of(code, DependencyKind::Code), of(dev, DependencyKind::Dev)].concat(),
        }
    }

    fn log() -> Package {
        package("log", "crates/log", Some(3), &["bytes"], &[])
    }

    #[test]
    fn this_workspace_keeps_its_layers() {
        let workspace = Workspace::find().unwrap();
        let packages = workspace.packages().unwrap();
        assert!(packages.len() > 5, "only {} crates found", packages.len());
        let found = violations(&workspace, &packages).unwrap();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn an_arrow_up_is_found() {
        let packages = [log(), package("low", "crates/low", Some(1), &["log"], &[])];
        let found = wrong_arrows(&packages);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("low (layer 1) depends on log (layer 3)"),
            "{found:?}"
        );
    }

    #[test]
    fn an_arrow_within_a_layer_is_found() {
        let packages = [
            log(),
            package("peer", "crates/peer", Some(3), &["log"], &[]),
        ];
        assert_eq!(wrong_arrows(&packages).len(), 1);
    }

    #[test]
    fn an_arrow_down_is_fine() {
        let packages = [
            log(),
            package("high", "crates/high", Some(4), &["log"], &[]),
        ];
        assert_eq!(wrong_arrows(&packages), Vec::<String>::new());
    }

    #[test]
    fn tests_may_use_testing_helpers_and_code_may_not() {
        let helper = package("checker", "testing/checker", Some(8), &[], &[]);
        let tests = package("engine", "crates/engine", Some(4), &[], &["checker"]);
        assert_eq!(wrong_arrows(&[helper.clone(), tests]), Vec::<String>::new());
        let code = package("engine", "crates/engine", Some(4), &["checker"], &[]);
        assert_eq!(wrong_arrows(&[helper, code]).len(), 1);
    }

    #[test]
    fn a_test_of_a_low_crate_may_not_reach_up() {
        let packages = [log(), package("low", "crates/low", Some(1), &[], &["log"])];
        assert_eq!(wrong_arrows(&packages).len(), 1);
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        let packages = [package("new", "crates/new", None, &[], &[])];
        assert!(wrong_arrows(&packages)[0].contains("declares no layer"));
    }

    #[test]
    fn a_new_dependency_of_a_frugal_crate_is_found() {
        let packages = [package(
            "anabranch-model",
            "crates/model",
            Some(1),
            &["bytes", "rand"],
            &["proptest"],
        )];
        let found = wrong_arrows(&packages);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("anabranch-model depends on rand"),
            "{found:?}"
        );
    }

    #[test]
    fn a_clock_that_reaches_a_frugal_crate_through_others_is_found() {
        let closure = ["bytes", "getrandom", "uuid"].map(str::to_owned);
        let found = worldly("anabranch-model", &closure);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("getrandom reaches it"), "{found:?}");
    }
}
