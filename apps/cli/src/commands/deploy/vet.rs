//! What a build would break is looked at before it is rolled out.

use std::path::Path;
use std::sync::Arc;

use anabranch::Address;
use anabranch::access::{KEY_FILE_VARIABLE, Key};
use anabranch::log::Log;
use anabranch::remote::{self, RemoteLog};
use anabranch::runtime::Time;
use anabranch::tls::{CA_VARIABLE, Trust};
use anabranch_runtime::registry;

use super::report::{breaks, own, show};
use crate::commands::schema::{parse_types, read_types, unreadable};
use crate::commands::service::kept;
use crate::commands::up;
use crate::context::Context;
use crate::credential;
use crate::database::{self, Use};
use crate::failure::{Exit, Failure, Outcome};
use crate::logs;
use crate::output::note;
use crate::up::asked::{Asked, Deploy};
use crate::up::build::Build;
use crate::up::plan::Declared;
use crate::up::printed;

/// Where a program is told to find the log, if no argument says it.
const LOG_VARIABLE: &str = "ANABRANCH_LOG";

/// Refuses a build that would break somebody, and says whom. `up` is the file that `anabranch up` runs, if
/// it is named, and `types` that of the build's types.
pub async fn vet(
    deploy: &Deploy,
    (up, types): (Option<&Path>, Option<&Path>),
    context: &Context,
) -> Outcome {
    let (control, _) = kept::ask(up, &Asked::Status, context).await?;
    let plan = up::read(&control.with_extension(""))?;
    let service = &deploy.service;
    let Some(declared) = plan.services.get(service) else {
        // Whoever keeps the services says which there are.
        return Ok(());
    };
    let (types, place) = match types {
        Some(file) => (read_types(file)?, file.display().to_string()),
        None if declared.print_types.is_empty() => {
            note("note: nobody has looked at what this would break; --types FILE names its types");
            return Ok(());
        }
        None => {
            let build = Build::other(declared, deploy);
            let text = printed::types(declared, &build, &Time::of(&context.env)).await;
            let text = text.map_err(|why| {
                let what = format!("the new build does not print its types: {why}");
                let failure = Failure::new(Exit::Failed, "bad-types", what);
                let safe = failure.safe("nothing was rolled out");
                safe.remedy("name a file of them with --types, or roll it out with --force")
            })?;
            let place = "what the new build prints".to_owned();
            (parse_types(&text, &place)?, place)
        }
    };
    let types = own(types, service, &place)?;
    let Some(log) = log_of(declared, deploy, context)? else {
        note(
            "note: nobody has looked at what this would break: neither the service's arguments nor its `env` name a log; --log does",
        );
        return Ok(());
    };
    let rollout = registry::check_rollout(&types, &*log).await;
    let rollout = rollout.map_err(unreadable)?;
    let Some(failure) = breaks(&rollout) else {
        return Ok(());
    };
    show(&rollout, context.settings.form)?;
    Err(failure
        .remedy("mend it, or roll it out all the same with --force")
        .into())
}

/// The log that is named; else the one that the service is told to use. None: nothing says which that is, and
/// another one would say nothing of it.
fn log_of(
    declared: &Declared,
    deploy: &Deploy,
    context: &Context,
) -> Result<Option<Arc<dyn Log>>, Failure> {
    if context.settings.log_is_named() {
        return Ok(Some(logs::open_read_only(context)?.log));
    }
    Ok(match told(declared, deploy) {
        Some(Address::Server(url)) => {
            let log = RemoteLog::open(&url, options(declared, context)?)?;
            Some(Arc::new(log))
        }
        Some(Address::Directory(dir)) => {
            Some(logs::read_only_at(&declared.dir.join(dir), context)?)
        }
        Some(Address::Database(database)) => {
            Some(database::open(&database, Use::Read, None, context)?.log)
        }
        Some(Address::Memory) | None => None,
    })
}

/// The log that the new build is told to use: what is said last counts, and arguments before the environment.
fn told(declared: &Declared, deploy: &Deploy) -> Option<Address> {
    let args = Build::other(declared, deploy).args;
    let mut named = None;
    let mut rest = args.iter().map(String::as_str);
    while let Some(arg) = rest.next() {
        match arg.strip_prefix("--log") {
            Some("") => named = rest.next(),
            Some(value) => named = value.strip_prefix('=').or(named),
            None => {}
        }
    }
    let of_env = declared.env.get(LOG_VARIABLE).map(String::as_str);
    named.or(of_env).filter(|log| !log.is_empty())?.parse().ok()
}

/// What is shown to the log's server, and whose certificates are believed.
fn options(declared: &Declared, context: &Context) -> Result<remote::Options, Failure> {
    let file = |name: &str| {
        let file = declared.env.get(name).filter(|file| !file.is_empty())?;
        Some(declared.dir.join(file))
    };
    let wrong = |code, what: String| Failure::new(Exit::Usage, code, what);
    let mut options = remote::Options::default();
    // That of whoever rolls out, if there is one: a service need not see what the others read.
    options.key = match (credential::find(context)?, file(KEY_FILE_VARIABLE)) {
        (Some(key), _) => Some(key),
        (None, Some(file)) => {
            let key = Key::read(&context.env, &file);
            Some(key.map_err(|error| wrong("bad-key", error.to_string()))?)
        }
        (None, None) => None,
    };
    options.trust = match file(CA_VARIABLE) {
        Some(file) => {
            let trust = Trust::of_file(&context.env, &file);
            Some(trust.map_err(|error| wrong("bad-ca", error.to_string()))?)
        }
        None => credential::trust(context)?,
    };
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::plan::Plan;

    /// The log that a service is told to use by this of its table, and by arguments of the deploy.
    fn told_by(table: &str, args: &[&str]) -> Option<String> {
        let text = format!("[service.shop]\nprogram = \"shop\"\n{table}");
        let plan = Plan::parse(&text, Path::new("/")).unwrap();
        let deploy = Deploy {
            service: "shop".to_owned(),
            program: "shop-2".to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        };
        told(&plan.services["shop"], &deploy).map(|log| log.to_string())
    }

    #[test]
    fn the_log_is_the_one_that_the_service_is_told_to_use_in_whatever_way() {
        let env = "env = { ANABRANCH_LOG = \"./of-env\" }";
        for (table, args, log) in [
            ("args = [\"--log\", \"./a\"]", &[][..], Some("./a")),
            ("args = [\"--log=./a\", \"--x\"]", &[], Some("./a")),
            ("args = [\"--log\", \"./a\"]", &["--log=./b"], Some("./b")),
            ("", &["--log", "./b"], Some("./b")),
            (env, &[], Some("./of-env")),
            (env, &["--log", "./b"], Some("./b")),
            ("args = [\"--logs\", \"./a\", \"--log\"]", &[], None),
            ("", &[], None),
        ] {
            assert_eq!(told_by(table, args).as_deref(), log, "{table} {args:?}");
        }
    }
}
