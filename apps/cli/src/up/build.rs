//! What is run of a service.

use super::asked::Deploy;
use super::plan::Declared;

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The program; `anabranch` is this one.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Build {
    /// What is declared.
    pub fn declared(declared: &Declared) -> Self {
        Self {
            program: declared.program.clone(),
            args: declared.args.clone(),
        }
    }

    /// Another build, with what is declared and some more.
    pub fn other(declared: &Declared, deploy: &Deploy) -> Self {
        let args = declared.args.iter().chain(&deploy.args);
        Self {
            program: deploy.program.clone(),
            args: args.cloned().collect(),
        }
    }
}
