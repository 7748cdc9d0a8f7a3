//! What a service may say of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anabranch_model::StreamId;
use anabranch_rpc::registry as r;
use axum::http::Uri;

use super::denied::Denied;
use super::fact::About;
use crate::host::is_loopback;

/// How long a lease lasts if nothing is said, and may last at least and at most.
const LEASE: Duration = Duration::from_secs(10);
const LEASE_LEAST: Duration = Duration::from_millis(500);
const LEASE_MOST: Duration = Duration::from_secs(300);

/// The longest name, program, version and address, in bytes.
const TEXT_BYTES_MAX: usize = 200;
/// The most categories that a service owns, and the most names in each other list.
const OWNS_MAX: usize = 64;
const NAMES_MAX: usize = 256;

/// The name of a service, and the rest of what it says of itself.
pub fn about_of(message: r::Service) -> Result<(String, About), Denied> {
    let name = message.name;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if name.is_empty() || name.len() > TEXT_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(malformed(format!(
            "the name of a service has one to {TEXT_BYTES_MAX} of the characters A-Z a-z 0-9 . _ : -"
        )));
    }
    let about = About {
        address: address(&message.address)?,
        program: text("program", message.program)?,
        version: text("version", message.version)?,
        owns: categories("owns", message.owns, OWNS_MAX)?,
        views: names("views", message.views)?,
        reads: categories("reads", message.reads, NAMES_MAX)?,
        sends: categories("sends", message.sends, NAMES_MAX)?,
        private: private(message.private)?,
    };
    if let Some(category) = about.private.keys().find(|c| !about.owns.contains(*c)) {
        return Err(malformed(format!(
            "private names {category}, which is not in owns: a service keeps to itself what it owns"
        )));
    }
    Ok((name, about))
}

/// What it keeps to itself.
fn private(list: Vec<r::Private>) -> Result<BTreeMap<String, BTreeSet<String>>, Denied> {
    let mut all = BTreeMap::new();
    for r::Private {
        category,
        open_types,
        ..
    } in list
    {
        let named = categories("private", vec![category], OWNS_MAX)?;
        let open = names("the open types of private", open_types)?;
        all.extend(named.into_iter().map(|category| (category, open.clone())));
    }
    Ok(all)
}

/// How long a lease is to last.
pub fn lease_time(ms: u64) -> Result<Duration, Denied> {
    if ms == 0 {
        return Ok(LEASE);
    }
    let time = Duration::from_millis(ms);
    if (LEASE_LEAST..=LEASE_MOST).contains(&time) {
        return Ok(time);
    }
    Err(malformed(format!(
        "a lease lasts {} to {} ms, not {ms}",
        LEASE_LEAST.as_millis(),
        LEASE_MOST.as_millis()
    )))
}

fn malformed(what: String) -> Denied {
    Denied::Malformed(format!("{what}; nothing was changed"))
}

/// Where a service is: on this machine, or anywhere if what is said there is encrypted.
fn address(text: &str) -> Result<String, Denied> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let is_good = |uri: &Uri| {
        let host = uri.host().unwrap_or_default();
        let is_safe = match uri.scheme_str() {
            Some("http") => is_loopback(host),
            Some("https") => !host.is_empty(),
            _ => false,
        };
        is_safe
            && uri.port_u16().is_some()
            && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    };
    let uri = text.parse::<Uri>().ok();
    match uri.filter(|uri| text.len() <= TEXT_BYTES_MAX && is_good(uri)) {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err(malformed(
            "the address of a service is one of this machine, such as http://127.0.0.1:4077, or one with https://"
                .to_owned(),
        )),
    }
}

fn text(what: &str, text: String) -> Result<String, Denied> {
    if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(malformed(format!(
            "the {what} of a service has at most {TEXT_BYTES_MAX} bytes and no control characters"
        )));
    }
    Ok(text)
}

fn names(what: &str, list: Vec<String>) -> Result<BTreeSet<String>, Denied> {
    check_count(what, &list, NAMES_MAX)?;
    let named = list.into_iter().map(|name| match text("name", name) {
        Ok(name) if name.is_empty() => Err(malformed(format!("a name in {what} is empty"))),
        checked => checked,
    });
    named.collect()
}

fn categories(what: &str, list: Vec<String>, max: usize) -> Result<BTreeSet<String>, Denied> {
    check_count(what, &list, max)?;
    let checked = list.into_iter().map(|category| {
        let stream = StreamId::of(&category, "key");
        let stream = stream.map_err(|error| malformed(format!("in {what}: {error}")))?;
        if stream.category() != category || category.len() > TEXT_BYTES_MAX {
            return Err(malformed(format!(
                "in {what}: a category has no slash and at most {TEXT_BYTES_MAX} bytes"
            )));
        }
        Ok(category)
    });
    checked.collect()
}

fn check_count(what: &str, list: &[String], max: usize) -> Result<(), Denied> {
    if list.len() > max {
        return Err(malformed(format!(
            "{what} names {} things; at most {max} are allowed",
            list.len()
        )));
    }
    Ok(())
}
