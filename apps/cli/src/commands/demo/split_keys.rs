//! A key for each service of a shop in processes of its own: by it a service may do what it has declared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anabranch::access::{Key, KeyAdded, KeyFact, Scopes};
use anabranch::domain::types::ServiceTypes;
use anabranch::log::Log;
use anabranch_server::read_keys;
use anabranch_shop::shop::{Build, SERVICES, Shop};

use crate::commands::key;
use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::serving::DoorArgs;

/// What the platform keeps of a service that runs, and what its server has to know.
const PLATFORM: [&str; 6] = [
    "operate:$schema",
    "operate:$readers",
    "operate:$settled",
    "operate:$flow",
    "operate:$access",
    "operate:metrics",
];

/// Clients ask the others through it, so it hands on what they send.
const GATEWAY: &str = "storefront";

/// Where the key of a service is, whose directory is in this one.
pub fn file_of(services: &Path, name: &str) -> PathBuf {
    services.join(name).join("service.key")
}

/// Gives each service a key, before the log is served: in a file that its owner alone may read. One that has a
/// good key already keeps it.
pub async fn give(services: &Path, doors: &DoorArgs, build: Build, context: &Context) -> Outcome {
    let opened = logs::open_here(context)?;
    doors.first_key(&opened.log, context).await?;
    let types = |name: &&'static str| Shop::types_of_build(context.env.clone(), name, build);
    let all: Vec<_> = SERVICES.iter().map(types).collect();
    for own in &all {
        let scopes = scopes(own, &all);
        let scopes = Scopes::parse(scopes.iter().map(String::as_str));
        let scopes = scopes.map_err(|error| failed(&error.to_string()))?;
        give_one(&own.service, scopes, services, &opened.log, context).await?;
    }
    Ok(opened.close()?)
}

async fn give_one(
    name: &str,
    scopes: Scopes,
    services: &Path,
    log: &Arc<dyn Log>,
    context: &Context,
) -> Outcome {
    let env = &context.env;
    let path = file_of(services, name);
    let file = |error: &std::io::Error| Failure::file("write", &path.display().to_string(), error);
    if env.disk.exists(&path).map_err(|error| file(&error))? {
        if let Ok(key) = Key::read(env, &path)
            && let Some(known) = read_keys(log).await?.find(key.id())
        {
            let is_good = !known.is_revoked && known.expires_at.is_none();
            if is_good && known.principal.scopes == scopes {
                return Ok(());
            }
            key::say(log, key.id(), &KeyFact::Revoked, env).await?;
        }
        env.disk.remove(&path).map_err(|error| file(&error))?;
    }
    let dir = services.join(name);
    env.disk.create_dir(&dir).map_err(|error| file(&error))?;
    let key = Key::generate(&*env.rng);
    key::write(env, &path, &key).map_err(|error| file(&error))?;
    let added = KeyFact::Added(KeyAdded {
        name: format!("service {name}"),
        hash: key.hash().to_string(),
        scopes,
        expires_at: None,
    });
    key::say(log, key.id(), &added, env).await
}

/// What a service may do: read and write what is its own, read what it listens to, send what it sends, and
/// hear how that ends.
fn scopes(own: &ServiceTypes, all: &[ServiceTypes]) -> BTreeSet<String> {
    let entities = own.entities.iter().map(|entity| &entity.category);
    let owns: BTreeSet<&str> = entities.chain(&own.journals).map(String::as_str).collect();
    let mut may: BTreeSet<String> = PLATFORM.map(str::to_owned).into();
    for category in &owns {
        may.insert(format!("append:{category}"));
    }
    let sends = Shop::sends_of(&own.service).iter().copied();
    let listened = own.readers.iter().flat_map(|reader| &reader.categories);
    let read = listened.map(String::as_str).chain(owns.iter().copied());
    may.extend(read.chain(sends.clone()).map(|name| format!("read:{name}")));
    may.extend(sends.map(|name| format!("command:{name}")));
    // Whoever is sent something answers, to the journal that has recorded it.
    let asks = |other: &&ServiceTypes| {
        let mut sends = Shop::sends_of(&other.service).iter();
        sends.any(|category| owns.contains(category))
    };
    let answered = all.iter().filter(asks).flat_map(|other| &other.journals);
    may.extend(answered.map(|journal| format!("command:{journal}")));
    if own.service == GATEWAY {
        may.extend(["command:*", "query:*", "read:checkout"].map(str::to_owned));
    }
    may
}

fn failed(what: &str) -> Failure {
    Failure::new(Exit::Failed, "key", what.to_owned())
}

#[cfg(test)]
mod tests {
    use anabranch::env::Env;

    use super::*;

    fn of(name: &str) -> BTreeSet<String> {
        let types = |name: &&'static str| Shop::types_of_build(Env::os(), name, Build::First);
        let all: Vec<_> = SERVICES.iter().map(types).collect();
        let own = all.iter().find(|one| one.service == name).unwrap();
        scopes(own, &all)
    }

    #[test]
    fn a_service_may_what_it_has_declared_and_no_more() {
        let stock = of("stock");
        for may in [
            "append:stock",
            "read:stock",
            "read:shipment",
            "command:checkout",
        ] {
            assert!(stock.contains(may), "{may}: {stock:?}");
        }
        for may in [
            "append:order",
            "read:payment",
            "command:order",
            "command:*",
            "*:*",
        ] {
            assert!(!stock.contains(may), "{may}: {stock:?}");
        }
        let customers = of("customers");
        let acts = customers.iter().any(|scope| scope.starts_with("append:"));
        assert!(!acts, "{customers:?}");
        assert!(of("checkout").contains("command:payment"));
    }
}
