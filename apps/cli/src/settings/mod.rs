//! What the command line, the environment and a file say, and which of them said it.
//!
//! A flag goes before the environment, the environment before the file, and that before the context in
//! use. A context that is named goes before what names it less strongly. Every setting has
//! a name such as `engine.segment_bytes`; its variable is `ANABRANCH_ENGINE__SEGMENT_BYTES`,
//! and `ANABRANCH_…_FILE` names a file that holds the value, for secrets.

#![expect(
    clippy::disallowed_methods,
    reason = "this is about files that the user names"
)]

mod keys;
pub mod units;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

pub use keys::{KEYS, Key};
pub use value::{Origin, Settings};

use crate::contexts::{Contexts, Entry};
use crate::failure::Failure;
use crate::global_args::GlobalArgs;
use crate::output::Form;

const PREFIX: &str = "ANABRANCH_";
const CONFIG_VARIABLE: &str = "ANABRANCH_CONFIG";
const CONTEXT_VARIABLE: &str = "ANABRANCH_CONTEXT";
const CONFIG_FILE: &str = "anabranch.toml";
/// No setting is longer, so a file that is no configuration is not read into memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// They hold no setting, but what this program shows of itself; nothing prints them.
const KEY_VARIABLES: [&str; 2] = ["ANABRANCH_KEY", "ANABRANCH_TOKEN_FILE"];

impl Settings {
    /// Reads the contexts, the file, the environment and the flags, the strongest last.
    pub fn load(
        flags: &GlobalArgs,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        contexts: &Contexts,
    ) -> Result<Self, Failure> {
        let variables = our_variables(environment)?;
        let mut settings = Self::default();
        if let Some((name, entry)) = contexts.in_use() {
            settings.apply_context(name, entry)?;
        }
        if let Some((path, named_by)) = config_file(flags, &variables) {
            settings.apply_file(&path, named_by)?;
        }
        if let Some(name) = variables
            .get(CONTEXT_VARIABLE)
            .filter(|name| !name.is_empty())
        {
            settings.apply_context(name, contexts.named(name)?)?;
        }
        settings.apply_variables(&variables)?;
        if let Some(name) = &flags.context {
            settings.apply_context(name, contexts.named(name)?)?;
        }
        settings.apply_flags(flags)?;
        Ok(settings)
    }

    /// Who set this.
    pub fn origin(&self, key: &Key) -> Origin {
        self.origins
            .get(key.name)
            .cloned()
            .unwrap_or(Origin::Default)
    }

    /// Whether the user has said where the log is.
    pub fn log_is_named(&self) -> bool {
        self.origins.contains_key("log")
    }

    /// Where the log is, if the command line says it. A directory is absolute: wherever that is asked
    /// for later, it is the same.
    pub fn log_flag(&self) -> Option<String> {
        let said = matches!(self.origins.get("log"), Some(Origin::Flag(_)));
        said.then(|| match &self.log {
            anabranch::Address::Directory(dir) => {
                let dir = std::path::absolute(dir).unwrap_or(dir.clone());
                dir.display().to_string()
            }
            elsewhere => elsewhere.to_string(),
        })
    }

    fn apply(&mut self, key: &'static Key, value: &str, origin: Origin) -> Result<(), Failure> {
        (key.apply)(self, value.trim())
            .map_err(|reason| Failure::usage(format!("{} ({origin}): {reason}", key.name)))?;
        // A key is for the place that it was made for.
        let is_elsewhere = key.name == "server" && self.server.is_some();
        if key.name == "log" || is_elsewhere {
            self.key_file = None;
        }
        self.origins.insert(key.name, origin);
        Ok(())
    }

    /// A context says where everything is: what was said of it before counts no more.
    fn apply_context(&mut self, name: &str, entry: &Entry) -> Result<(), Failure> {
        let origin = || Origin::Context(name.to_owned());
        let tls_ca = entry.tls_ca.as_ref();
        let tls_ca = tls_ca.map_or_else(String::new, |file| file.display().to_string());
        for (key, value) in [
            ("log", entry.log.as_str()),
            ("server", ""),
            ("tls_ca", &tls_ca),
        ] {
            if let Some(key) = keys::find(key) {
                self.apply(key, value, origin())?;
            }
        }
        self.key_file.clone_from(&entry.key_file);
        Ok(())
    }

    fn apply_file(&mut self, path: &Path, named_by: NamedBy) -> Result<(), Failure> {
        let name = path.display().to_string();
        let text = match read_small(path) {
            Ok(text) => text,
            Err(error)
                if named_by == NamedBy::Nobody && error.kind() == std::io::ErrorKind::NotFound =>
            {
                return Ok(());
            }
            Err(error) => return Err(Failure::file("read the configuration", &name, &error)),
        };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error
                .span()
                .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            Failure::usage(format!("{name}: line {line}: {}", error.message()))
        })?;
        let mut values = Vec::new();
        flatten("", table, &mut values);
        for (key_name, value) in values {
            let value = value
                .map_err(|kind| Failure::usage(format!("{name}: {key_name} cannot be a {kind}")))?;
            let key = keys::find(&key_name).ok_or_else(|| {
                Failure::usage(format!("{name}: no setting is called {key_name:?}"))
                    .remedy("see all settings with `anabranch config show`")
            })?;
            self.apply(key, &value, Origin::File(path.to_owned()))?;
        }
        Ok(())
    }

    fn apply_variables(&mut self, variables: &BTreeMap<String, String>) -> Result<(), Failure> {
        let mut known = vec![CONFIG_VARIABLE.to_owned(), CONTEXT_VARIABLE.to_owned()];
        for key in KEYS {
            let name = variable_of(key.name);
            let file_name = format!("{name}_FILE");
            match (variables.get(&name), variables.get(&file_name)) {
                (Some(_), Some(_)) => {
                    return Err(Failure::usage(format!(
                        "both {name} and {file_name} are set; unset one of them"
                    )));
                }
                (Some(value), None) => self.apply(key, value, Origin::Variable(name.clone()))?,
                (None, Some(path)) => {
                    let value = read_small(Path::new(path)).map_err(|error| {
                        Failure::file(
                            &format!("read the file that {file_name} names,"),
                            path,
                            &error,
                        )
                    })?;
                    let origin = Origin::VariableFile(file_name.clone(), path.into());
                    self.apply(key, &value, origin)?;
                }
                (None, None) => {}
            }
            known.extend([name, file_name]);
        }
        self.unknown_variables = variables
            .keys()
            .filter(|name| !known.contains(name) && !KEY_VARIABLES.contains(&name.as_str()))
            .cloned()
            .collect();
        Ok(())
    }

    fn apply_flags(&mut self, flags: &GlobalArgs) -> Result<(), Failure> {
        for setting in &flags.set {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                Failure::usage("--set needs KEY=VALUE, for example engine.segment_bytes=64MiB")
            })?;
            let key = keys::find(name.trim()).ok_or_else(|| {
                Failure::usage(format!("--set: no setting is called {name:?}"))
                    .remedy("see all settings with `anabranch config show`")
            })?;
            self.apply(key, value, Origin::Flag("--set"))?;
        }
        for (name, flag, value) in [
            ("log", "--log", flags.log.as_deref()),
            ("tls_ca", "--tls-ca", flags.tls_ca.as_deref()),
            ("durability", "--durability", flags.durability.as_deref()),
            ("output", "--output", flags.output.map(Form::name)),
        ] {
            if let (Some(key), Some(value)) = (keys::find(name), value) {
                self.apply(key, value, Origin::Flag(flag))?;
            }
        }
        Ok(())
    }
}

/// `engine.segment_bytes` is `ANABRANCH_ENGINE__SEGMENT_BYTES`.
pub fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// How we came to a configuration file; one that nobody named may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    User,
    Nobody,
}

fn config_file(
    flags: &GlobalArgs,
    variables: &BTreeMap<String, String>,
) -> Option<(PathBuf, NamedBy)> {
    if let Some(path) = &flags.config {
        return Some((path.clone(), NamedBy::User));
    }
    match variables.get(CONFIG_VARIABLE) {
        // Set to nothing: no file, also not the one in this directory.
        Some(path) if path.is_empty() => None,
        Some(path) => Some((path.into(), NamedBy::User)),
        None => Some((CONFIG_FILE.into(), NamedBy::Nobody)),
    }
}

fn our_variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, Failure> {
    environment
        .into_iter()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(PREFIX).then_some((name, value))
        })
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(Failure::usage(format!("the value of {name} is not UTF-8"))),
        })
        .collect()
}

fn read_small(path: &Path) -> std::io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it has {length} bytes; at most {FILE_BYTES_MAX} are allowed"
        )));
    }
    fs::read_to_string(path)
}

/// The values of a TOML table as text, by dotted name; or the kind that is no value.
fn flatten(
    prefix: &str,
    table: toml::Table,
    out: &mut Vec<(String, Result<String, &'static str>)>,
) {
    for (name, value) in table {
        let name = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        let value = match value {
            toml::Value::Table(table) => {
                flatten(&name, table, out);
                continue;
            }
            toml::Value::String(text) => Ok(text),
            toml::Value::Integer(number) => Ok(number.to_string()),
            other => Err(other.type_str()),
        };
        out.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch::Address;

    fn load(variables: &[(&str, &str)], flags: &GlobalArgs) -> Result<Settings, Failure> {
        let none = (CONFIG_VARIABLE, "");
        let named = variables.iter().any(|(name, _)| *name == CONFIG_VARIABLE);
        let variables = variables.iter().chain((!named).then_some(&none));
        load_with(&Contexts::default(), variables, flags)
    }

    fn load_with<'a>(
        contexts: &Contexts,
        variables: impl IntoIterator<Item = &'a (&'a str, &'a str)>,
        flags: &GlobalArgs,
    ) -> Result<Settings, Failure> {
        let variables = variables.into_iter();
        let variables = variables.map(|(n, v)| (n.into(), v.into()));
        Settings::load(flags, variables, contexts)
    }

    #[test]
    fn a_context_that_is_named_goes_before_what_names_it_less_strongly() {
        let mut contexts = Contexts::default();
        for name in ["used", "variable", "flag"] {
            let entry = Entry {
                log: format!("http://{name}"),
                key_file: Some("k".into()),
                tls_ca: None,
            };
            contexts.put(name, entry).unwrap();
        }
        contexts.choose("used").unwrap();
        let said = |variables: &[(&str, &str)], flags: &GlobalArgs| {
            let settings = load_with(&contexts, variables, flags).unwrap();
            let with_key = settings.key_file.is_some();
            (settings.log.to_string(), with_key)
        };
        let (none, named) = ((CONFIG_VARIABLE, ""), ("ANABRANCH_CONTEXT", "variable"));
        let flags = |context: Option<&str>, log: Option<&str>| GlobalArgs {
            context: context.map(str::to_owned),
            log: log.map(str::to_owned),
            ..GlobalArgs::default()
        };
        let at = |url: &str, with_key| (url.to_owned(), with_key);
        let plain = flags(None, None);
        assert_eq!(said(&[none], &plain), at("http://used", true));
        assert_eq!(said(&[none, named], &plain), at("http://variable", true));
        // The key of a context is not shown elsewhere.
        let log = ("ANABRANCH_LOG", "http://other");
        assert_eq!(said(&[none, named, log], &plain), at("http://other", false));
        let server = ("ANABRANCH_SERVER", "http://other");
        assert_eq!(
            said(&[none, named, server], &plain),
            at("http://variable", false)
        );
        let flag = flags(Some("flag"), None);
        assert_eq!(said(&[none, named, log], &flag), at("http://flag", true));
        let both = flags(Some("flag"), Some("./here"));
        assert_eq!(said(&[none, log], &both), at("./here", false));
        let error = load_with(&contexts, &[none], &flags(Some("nobody"), None)).unwrap_err();
        assert!(error.what.contains("nobody"), "{}", error.what);
    }

    fn key(name: &str) -> &'static Key {
        keys::find(name).unwrap()
    }

    #[test]
    fn a_flag_goes_before_the_environment() {
        let variables = [("ANABRANCH_LOG", "./a"), ("ANABRANCH_OUTPUT", "json")];
        let flags = GlobalArgs {
            log: Some("./b".to_owned()),
            ..GlobalArgs::default()
        };
        let settings = load(&variables, &flags).unwrap();
        assert_eq!(settings.log, Address::Directory("./b".into()));
        assert_eq!(settings.origin(key("log")), Origin::Flag("--log"));
        assert_eq!(settings.form, Form::Json);
        assert_eq!(
            settings.origin(key("output")),
            Origin::Variable("ANABRANCH_OUTPUT".to_owned())
        );
        assert_eq!(settings.origin(key("durability")), Origin::Default);
    }

    #[test]
    fn two_underscores_part_the_levels() {
        let variables = [("ANABRANCH_ENGINE__SEGMENT_BYTES", "64MiB")];
        let settings = load(&variables, &GlobalArgs::default()).unwrap();
        assert_eq!(settings.options.segment_bytes, 64 << 20);
    }

    #[test]
    fn a_wrong_value_names_its_setting_and_its_origin() {
        let variables = [("ANABRANCH_DURABILITY", "maybe")];
        let error = load(&variables, &GlobalArgs::default()).unwrap_err();
        assert!(
            error
                .what
                .starts_with("durability (environment ANABRANCH_DURABILITY): "),
            "{}",
            error.what
        );
    }

    #[test]
    fn a_variable_that_sets_nothing_is_known_as_such() {
        let variables = [("ANABRANCH_DURABLITY", "sync")];
        let settings = load(&variables, &GlobalArgs::default()).unwrap();
        assert_eq!(settings.unknown_variables, ["ANABRANCH_DURABLITY"]);
    }
}
