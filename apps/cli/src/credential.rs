//! What this program shows to servers that ask who calls, and which servers it believes.

use std::path::Path;

use anabranch::Address;
use anabranch::access::{FIRST_KEY_FILE, Key};
use anabranch::tls::{CA_VARIABLE, Trust};

use crate::context::Context;
use crate::failure::{Exit, Failure};

/// The key of the context that says where the log is; or the one that `ANABRANCH_TOKEN_FILE` or `ANABRANCH_KEY` gives; or else, when the log is a directory of
/// whoever runs this, the first key of that log. A key is never an argument: everybody on the machine
/// could see it.
pub fn find(context: &Context) -> Result<Option<Key>, Failure> {
    let dir = match &context.settings.log {
        Address::Directory(dir) => Some(dir.as_path()),
        Address::Server(_) | Address::Memory | Address::Database(_) => None,
    };
    beside(dir, context)
}

/// The same for a program that serves the log in this directory.
pub fn beside(dir: Option<&Path>, context: &Context) -> Result<Option<Key>, Failure> {
    let given = given(context)?;
    if let Some(file) = &context.settings.key_file {
        let key = Key::read(&context.env, file).map_err(|error| {
            Failure::new(Exit::Usage, "bad-key", error.to_string()).safe("nothing was asked for")
        })?;
        return Ok(Some(key));
    }
    let Some(dir) = dir.filter(|_| given.is_none()) else {
        return Ok(given);
    };
    // Whoever may not read the file asks without a key, and is told if one is needed.
    Ok(Key::read(&context.env, &dir.join(FIRST_KEY_FILE)).ok())
}

/// The key that `ANABRANCH_TOKEN_FILE` or `ANABRANCH_KEY` gives, for a program that is named by its address
/// alone.
pub fn given(context: &Context) -> Result<Option<Key>, Failure> {
    Key::from_env(&context.env).map_err(|error| {
        Failure::new(Exit::Usage, "bad-key", error.to_string()).safe("nothing was asked for")
    })
}

/// Whose certificates are believed: the CA that the settings name. `None`: whom this machine believes,
/// which is looked up when it is needed.
pub fn trust(context: &Context) -> Result<Option<Trust>, Failure> {
    let set = || std::env::var_os(CA_VARIABLE).is_some_and(|file| !file.is_empty());
    let trust = match &context.settings.tls_ca {
        Some(file) => Trust::of_file(&context.env, file),
        // A context that names no CA has set aside the one of the environment.
        None if set() => Trust::of_machine_if_any(&context.env),
        None => return Ok(None),
    };
    let trust = trust.map_err(|error| {
        Failure::new(Exit::Usage, "bad-ca", error.to_string()).safe("nothing was asked for")
    })?;
    Ok(Some(trust))
}
