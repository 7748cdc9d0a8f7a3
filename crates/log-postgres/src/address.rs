//! Where a database is, and which log of it is meant.

use std::time::Duration;

use anabranch_log::OpenError;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was sent may stay unanswered by the other machine before the connection counts
/// as lost.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The schema of a log whose address names none.
const SCHEMA: &str = "anabranch";
/// The longest name that PostgreSQL keeps whole, in bytes.
const NAME_LEN_MAX: usize = 63;

const FORM: &str = "the address of a log in PostgreSQL has the form \
    postgres://user@host:port/database?schema=anabranch";

/// What of its durability is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The server has to say that what it has acknowledged survives a power cut.
    Sync,
    /// Nothing: the address says `durability=unchecked`.
    Unchecked,
}

/// Where a log is, and how to get in.
#[derive(Clone)]
pub struct Address {
    /// For the client.
    pub config: Config,
    /// The schema, in quotes.
    pub schema: String,
    /// What is checked.
    pub durability: Durability,
    /// For people: without the password.
    pub shown: String,
}

fn invalid(why: impl std::fmt::Display) -> OpenError {
    OpenError::Invalid(format!("{FORM}: {why}"))
}

impl Address {
    /// Reads it. The error holds no password.
    pub fn parse(text: &str) -> Result<Self, OpenError> {
        if !(text.starts_with("postgres://") || text.starts_with("postgresql://")) {
            return Err(invalid("it begins with something else"));
        }
        let (place, parameters) = text.split_once('?').unwrap_or((text, ""));
        let mut schema = SCHEMA.to_owned();
        let mut durability = Durability::Sync;
        let mut others = Vec::new();
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            match parameter.split_once('=') {
                Some(("schema", name)) => schema = checked_schema(name)?,
                Some(("durability", "sync")) => durability = Durability::Sync,
                Some(("durability", "unchecked")) => durability = Durability::Unchecked,
                Some(("durability", other)) => {
                    return Err(invalid(format!(
                        "durability={other} is neither sync nor unchecked"
                    )));
                }
                Some(("sslmode", mode @ ("require" | "verify-ca" | "verify-full"))) => {
                    return Err(invalid(format!(
                        "it asks for sslmode={mode}, and connections to PostgreSQL are not \
                         encrypted yet: use a network that you trust or a tunnel that ends on \
                         this machine, and say sslmode=disable"
                    )));
                }
                _ => others.push(parameter),
            }
        }
        let mut plain = place.to_owned();
        if !others.is_empty() {
            plain.push('?');
            plain.push_str(&others.join("&"));
        }
        let mut config = plain.parse::<Config>().map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            invalid(why.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(invalid("it names no host"));
        }
        if config.get_application_name().is_none() {
            config.application_name("anabranch log");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE_MAX);
            config.keepalives_idle(SILENCE_MAX / 2);
            config.keepalives_interval(SILENCE_MAX / 6);
            config.keepalives_retries(3);
        }
        let mut shown = shown(&config);
        if schema != SCHEMA {
            shown = format!("{shown}?schema={schema}");
        }
        Ok(Self {
            config,
            schema: format!("\"{schema}\""),
            durability,
            shown,
        })
    }
}

fn checked_schema(name: &str) -> Result<String, OpenError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_good = !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && name.chars().all(is_plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        // PostgreSQL keeps these for itself.
        && !name.starts_with("pg_");
    match is_good {
        true => Ok(name.to_owned()),
        false => Err(invalid(format!(
            "{name:?} cannot be the schema of a log: use small letters, digits and '_', with a \
             letter first"
        ))),
    }
}

fn shown(config: &Config) -> String {
    let user = config.get_user();
    let user = user.map_or(String::new(), |user| format!("{user}@"));
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(index, host)| {
        let host = match host {
            Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let port = ports.get(index).or(ports.first()).unwrap_or(&5432);
        format!("{host}:{port}")
    });
    let hosts: Vec<String> = hosts.collect();
    let database = config.get_dbname().unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let text = "postgres://ann:s%20cret@db.example:5433/shop?schema=other&durability=unchecked";
        let address = Address::parse(text).unwrap();
        assert_eq!(
            address.shown,
            "postgres://ann@db.example:5433/shop?schema=other"
        );
        assert_eq!(address.schema, "\"other\"");
        assert_eq!(address.durability, Durability::Unchecked);
        assert_eq!(address.config.get_password(), Some(&b"s cret"[..]));
        let address = Address::parse("postgresql://ann@db/shop?sslmode=disable").unwrap();
        assert_eq!(address.shown, "postgres://ann@db:5432/shop");
        assert_eq!(address.schema, "\"anabranch\"");
        assert_eq!(address.durability, Durability::Sync);
    }

    #[test]
    fn what_cannot_be_the_address_of_a_log_is_refused_without_its_password() {
        for text in [
            "",
            "nats://x",
            "postgres://ann:secret@/shop",
            "postgres://ann:secret@db:port/shop",
            "postgres://ann:secret@db/shop?schema=",
            "postgres://ann:secret@db/shop?schema=a\"b",
            "postgres://ann:secret@db/shop?schema=pg_log",
            "postgres://ann:secret@db/shop?durability=some",
            "postgres://ann:secret@db/shop?sslmode=require",
            "postgres://ann:secret@db/shop?what=1",
        ] {
            let error = Address::parse(text).err().unwrap().to_string();
            assert!(
                error.contains("postgres://user@host:port/database"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
