//! What is declared: services, what each needs, and how it is known to be ready.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::settings::units::parse_duration;

/// Services that are supervised together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// By name.
    pub services: BTreeMap<String, Declared>,
    /// How long a service may take to end when it is asked to.
    pub stop_within: Duration,
}

/// One service, as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The program; `anabranch` is the one that reads this.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Who must be ready before it is started.
    pub needs: Vec<String>,
    /// How it is known to be ready.
    pub ready: Ready,
    /// How long it may take to get ready before it is started again.
    pub ready_within: Duration,
    /// With which arguments besides its program prints its types; none: it does not.
    pub print_types: Vec<String>,
    /// What is set in its environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub dir: PathBuf,
}

/// How a service is known to be ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// As soon as it runs.
    AtOnce,
    /// When this address answers.
    Url(String),
    /// When it has said in this directory where it serves, and answers there.
    Directory(PathBuf),
}

/// How long a service may take to end, if nothing is said.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How long it may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    env: BTreeMap<String, String>,
    stop_within: Option<String>,
    #[serde(default)]
    service: BTreeMap<String, Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    program: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    needs: Vec<String>,
    ready: Option<String>,
    ready_within: Option<String>,
    #[serde(default)]
    print_types: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    dir: Option<PathBuf>,
}

impl Plan {
    /// Reads what is declared in `text`; paths there are seen from `dir`. The error says all that is
    /// wrong.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, Vec<String>> {
        let file: File = toml::from_str(text).map_err(|error| vec![error.to_string()])?;
        let mut wrong = Vec::new();
        let mut duration = |what: &str, text: Option<String>, usual| match text {
            None => usual,
            Some(text) => parse_duration(&text).unwrap_or_else(|error| {
                wrong.push(format!("{what}: {error}"));
                usual
            }),
        };
        let stop_within = duration("stop_within", file.stop_within, STOP_WITHIN);
        let mut services = BTreeMap::new();
        for (name, table) in file.service {
            let what = format!("service.{name}.ready_within");
            let ready_within = duration(&what, table.ready_within, READY_WITHIN);
            let mut env = file.env.clone();
            env.extend(table.env);
            let declared = Declared {
                program: table.program,
                args: table.args,
                needs: table.needs,
                ready: match table.ready {
                    None => Ready::AtOnce,
                    Some(url) if is_address(&url) => Ready::Url(url),
                    Some(path) => Ready::Directory(dir.join(path)),
                },
                ready_within,
                print_types: table.print_types,
                env,
                dir: table
                    .dir
                    .map_or_else(|| dir.to_owned(), |path| dir.join(path)),
            };
            services.insert(name, declared);
        }
        let plan = Self {
            services,
            stop_within,
        };
        wrong.extend(plan.wrong());
        if wrong.is_empty() {
            Ok(plan)
        } else {
            Err(wrong)
        }
    }

    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.services.is_empty() {
            wrong.push("no service is declared; a table [service.NAME] declares one".to_owned());
        }
        for (name, declared) in &self.services {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(is_plain) {
                wrong.push(format!(
                    "service {name:?}: a name has letters, digits, -, _ and . only"
                ));
            }
            if declared.program.is_empty() {
                wrong.push(format!("service {name}: program is empty"));
            }
            for need in &declared.needs {
                if !self.services.contains_key(need) {
                    wrong.push(format!(
                        "service {name} needs {need:?}, which is not declared"
                    ));
                }
            }
        }
        if wrong.is_empty()
            && let Err(circle) = self.order()
        {
            wrong.push(format!(
                "these need one another in a circle: {}",
                circle.join(", ")
            ));
        }
        wrong
    }

    /// The services, each behind what it needs; or those that need one another in a circle.
    pub fn order(&self) -> Result<Vec<&str>, Vec<String>> {
        let mut order = Vec::new();
        let mut done: BTreeSet<&str> = BTreeSet::new();
        while order.len() < self.services.len() {
            let before = order.len();
            for (name, declared) in &self.services {
                let is_next = !done.contains(name.as_str())
                    && declared
                        .needs
                        .iter()
                        .all(|need| done.contains(need.as_str()));
                if is_next {
                    done.insert(name);
                    order.push(name.as_str());
                }
            }
            if order.len() == before {
                let rest = self.services.keys();
                let rest = rest.filter(|name| !done.contains(name.as_str()));
                return Err(rest.cloned().collect());
            }
        }
        Ok(order)
    }
}

fn is_address(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Plan, Vec<String>> {
        Plan::parse(text, Path::new("/shop"))
    }

    #[test]
    fn what_is_needed_comes_first() {
        let plan = parse(
            "[service.a]\nprogram = \"x\"\nneeds = [\"c\"]\n\
             [service.b]\nprogram = \"x\"\nneeds = [\"a\"]\n\
             [service.c]\nprogram = \"x\"\nready = \"./c\"\ndir = \"sub\"\n",
        )
        .unwrap();
        assert_eq!(plan.order(), Ok(vec!["c", "a", "b"]));
        let c = &plan.services["c"];
        assert_eq!(c.ready, Ready::Directory("/shop/./c".into()));
        assert_eq!(c.dir, Path::new("/shop/sub"));
        assert_eq!(plan.services["a"].ready, Ready::AtOnce);
    }

    #[test]
    fn what_holds_for_all_may_be_said_otherwise_by_one() {
        let plan = parse(
            "[env]\nA = \"1\"\nB = \"2\"\n[service.a]\nprogram = \"x\"\nenv = { B = \"3\" }\n",
        )
        .unwrap();
        let env: Vec<_> = plan.services["a"].env.iter().collect();
        let text = |text: &str| text.to_owned();
        assert_eq!(env, [(&text("A"), &text("1")), (&text("B"), &text("3"))]);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let wrong = parse(
            "stop_within = \"soon\"\n[service.a]\nprogram = \"\"\nneeds = [\"z\"]\n\
             [service.\"b c\"]\nprogram = \"x\"\n",
        )
        .unwrap_err()
        .join("\n");
        for part in ["stop_within", "program is empty", "\"z\"", "\"b c\""] {
            assert!(wrong.contains(part), "{part}: {wrong}");
        }
        let nothing = parse("").unwrap_err().join("\n");
        assert!(nothing.contains("no service is declared"), "{nothing}");
        let unknown = parse("[service.a]\nprogram = \"x\"\nneed = []\n").unwrap_err();
        assert!(unknown[0].contains("need"), "{unknown:?}");
    }

    #[test]
    fn a_circle_is_named() {
        let wrong = parse(
            "[service.a]\nprogram = \"x\"\nneeds = [\"b\"]\n\
             [service.b]\nprogram = \"x\"\nneeds = [\"a\"]\n\
             [service.c]\nprogram = \"x\"\n",
        );
        let circle = "these need one another in a circle: a, b".to_owned();
        assert_eq!(wrong, Err(vec![circle]));
    }
}
