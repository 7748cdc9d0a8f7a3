//! Where a database is, and what is called how in it.

use std::time::Duration;

use anabranch_model::content_hash;
use anabranch_runtime::view::CopyId;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was sent may stay unanswered by the other machine before the connection
/// counts as lost: nobody waits for ever for a machine that was switched off.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Where a database is and how to get in.
#[derive(Clone)]
pub struct Address {
    /// For the client.
    pub config: Config,
    /// For people: without the password.
    pub shown: String,
}

impl Address {
    /// Reads `postgres://user:password@host:port/database`. The error tells what to change and
    /// holds no password.
    pub fn parse(text: &str, service: &str) -> Result<Self, String> {
        const FORM: &str = "an address has the form postgres://user@host:port/database";
        let is_address = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if !is_address {
            return Err(FORM.to_owned());
        }
        if let Some(mode) = needs_tls(text) {
            return Err(format!(
                "the address asks for sslmode={mode}, and connections to PostgreSQL are not \
                 encrypted yet: use a network that you trust or a tunnel that ends on this \
                 machine, and say sslmode=disable"
            ));
        }
        let parsed = text.parse::<Config>();
        let mut config = parsed.map_err(|error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            format!("{FORM}: {}", why.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(format!("{FORM}: it names no host"));
        }
        if config.get_application_name().is_none() {
            config.application_name(format!("anabranch {service}"));
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
        let shown = shown(&config);
        Ok(Self { config, shown })
    }
}

/// The value of `sslmode` if it forbids a connection that is not encrypted.
fn needs_tls(text: &str) -> Option<&str> {
    let (_, options) = text.split_once('?')?;
    let modes = options
        .split('&')
        .filter_map(|option| option.strip_prefix("sslmode="));
    modes
        .into_iter()
        .find(|mode| ["require", "verify-ca", "verify-full"].contains(mode))
}

fn shown(config: &Config) -> String {
    let user = config
        .get_user()
        .map_or(String::new(), |user| format!("{user}@"));
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let host = match host {
                Host::Tcp(host) => host.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            };
            let port = ports.get(index).or(ports.first()).unwrap_or(&5432);
            format!("{host}:{port}")
        })
        .collect();
    let database = config.get_dbname().unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

/// The longest name that PostgreSQL keeps whole, in bytes.
const NAME_LEN_MAX: usize = 63;

/// The schema of a copy: readable, and another one for each service, view and copy.
pub fn schema(service: &str, view: &str, id: CopyId) -> String {
    let plain = |name: &str| -> String {
        let plain = |c: char| match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => c,
            _ => '_',
        };
        name.chars().map(plain).collect()
    };
    let (service_plain, view_plain) = (plain(service), plain(view));
    let suffix = format!("_v{}_g{}", id.version, id.generation);
    let readable = format!("{service_plain}__{view_plain}");
    let is_same = service_plain == service && view_plain == view;
    let is_safe = is_same
        && readable.matches("__").count() == 1
        && readable.starts_with(|c: char| c.is_ascii_alphabetic())
        // PostgreSQL keeps these for itself.
        && !readable.starts_with("pg_");
    if is_safe && readable.len() + suffix.len() <= NAME_LEN_MAX {
        return readable + &suffix;
    }
    let hash = content_hash([service.as_bytes(), view.as_bytes()]) as u64;
    let mut name = format!("view_{readable}");
    // One byte per character: nothing else is left in it.
    name.truncate(NAME_LEN_MAX - suffix.len() - 17);
    format!("{name}_{hash:016x}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPY: CopyId = CopyId {
        version: 3,
        generation: 12,
    };

    #[test]
    fn an_address_is_shown_without_its_password() {
        let text = "postgres://ann:s%20cret@db.example:5433/shop?sslmode=disable";
        let address = Address::parse(text, "orders").unwrap();
        assert_eq!(address.shown, "postgres://ann@db.example:5433/shop");
        assert_eq!(address.config.get_password(), Some(&b"s cret"[..]));
        assert_eq!(
            address.config.get_application_name(),
            Some("anabranch orders")
        );
        let address = Address::parse("postgres://ann@db/shop", "orders").unwrap();
        assert_eq!(address.shown, "postgres://ann@db:5432/shop");
    }

    #[test]
    fn an_address_that_asks_for_encryption_is_refused() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let text = format!("postgres://ann@db/shop?connect_timeout=3&sslmode={mode}");
            let error = Address::parse(&text, "orders").err().unwrap();
            assert!(error.contains("not encrypted yet"), "{error}");
            assert!(error.contains(mode), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_told_the_form() {
        for text in [
            "",
            "nats://x",
            "postgres:ann",
            "postgres://ann@/shop",
            "postgres://ann:secret@db:port/shop",
        ] {
            let error = Address::parse(text, "orders").err().unwrap();
            assert!(
                error.contains("postgres://user@host:port/database"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_schema_is_readable_and_differs_for_different_names() {
        assert_eq!(
            schema("shop", "order_list", COPY),
            "shop__order_list_v3_g12"
        );
        let long = "x".repeat(100);
        let names = [
            ("shop", "order_list"),
            ("shop", "order-list"),
            ("shop", "Order_list"),
            ("shop_", "_order_list"),
            ("shop__order", "list"),
            ("shop", "order__list"),
            ("pg_shop", "a"),
            ("1shop", "a"),
            ("", "a"),
            (&long, "a"),
            (&long, "b"),
            ("bücher", "a"),
        ];
        let mut schemas: Vec<_> = names
            .iter()
            .map(|(service, view)| schema(service, view, COPY))
            .collect();
        for schema in &schemas {
            assert!(schema.len() <= NAME_LEN_MAX, "{schema}");
            assert!(
                schema.starts_with(|c: char| c.is_ascii_lowercase()),
                "{schema}"
            );
            assert!(!schema.starts_with("pg_"), "{schema}");
        }
        schemas.sort();
        schemas.dedup();
        assert_eq!(schemas.len(), names.len());
    }
}
