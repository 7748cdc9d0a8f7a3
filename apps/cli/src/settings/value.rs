//! The values of all settings, and who set each.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anabranch::Address;
use anabranch::segment::Options;

use crate::log_lines::LogForm;
use crate::output::Form;

/// Everything that can be set, with where each value came from.
#[derive(Debug)]
pub struct Settings {
    /// Where the log is.
    pub log: Address,
    /// Where the program is that runs the services; `None`: it is found by the log.
    pub server: Option<String>,
    /// The CA that servers have to be certified by; `None`: whom this machine believes.
    pub tls_ca: Option<PathBuf>,
    /// The certificate that a server here shows.
    pub tls_cert: Option<PathBuf>,
    /// The file of its private key.
    pub tls_key: Option<PathBuf>,
    /// The file of the key to show, if a context has named it.
    pub key_file: Option<PathBuf>,
    /// The form of what is printed.
    pub form: Form,
    /// Where spans and figures are sent; `None`: nowhere.
    pub otlp: Option<String>,
    /// The form of what is said beside that, on the standard error.
    pub logs: LogForm,
    /// How an embedded log behaves.
    pub options: Options,
    /// What was set; a setting that is not here has its default.
    pub(super) origins: BTreeMap<&'static str, Origin>,
    /// Variables with our prefix that set nothing.
    pub unknown_variables: Vec<String>,
}

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A context of this name.
    Context(String),
    /// A configuration file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// A file that a variable of the environment names.
    VariableFile(String, PathBuf),
    /// The command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Context(name) => write!(f, "context {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::VariableFile(name, path) => {
                write!(f, "environment {name}, file {}", path.display())
            }
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log: Address::Directory("./.anabranch/log".into()),
            server: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            key_file: None,
            form: Form::Text,
            otlp: None,
            logs: LogForm::Text,
            options: Options::default(),
            origins: BTreeMap::new(),
            unknown_variables: Vec::new(),
        }
    }
}
