//! What an operator looks at and mends.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /operate/services` | the services, and what each owns |
//! | `GET /operate/registry` | the services that have registered at the log, and how their leases are |
//! | `POST /operate/registry/{name}/forget` | lets what a service owned that is gone have no owner |
//! | `GET /operate/log/files[/{name}?handle=H&from=N&length=N]` | the files of the log, and bytes of one |
//! | `GET /operate/types` | the types of events that they write and read |
//! | `GET /operate/diagnostics?service=NAME` | what went wrong and was worked around |
//! | `GET /operate/circuits` | how the third parties are doing |
//! | `GET /operate/entity/{category}/{key}?at=V` | an entity's state, now or after an event |
//! | `GET /operate/history/{category}/{key}?from=V&limit=N` | its events |
//! | `GET /operate/parked` | entities that take no commands, and why |
//! | `POST /operate/unpark/{category}/{key}` | lets one take commands again |
//! | `GET /operate/views[/{name}]` | how far the views are |
//! | `POST /operate/views/{name}/{rebuild,back-out,skip,retry}` | mends one; `stream=…` names a stream that was set aside |
//! | `GET /operate/processes[/{name}]` | processes and sagas, and the instances of one |
//! | `POST /operate/processes/{name}/{skip,retry}` | passes over the event that one cannot consume, or consumes it again |
//! | `GET /operate/instance/{name}/{key}` | one instance |
//! | `POST /operate/retry/{name}/{key}` | tries a parked instance again |
//! | `POST /operate/abort/{name}/{key}` | lets a saga go back: `{"why":…}` |
//! | `POST /operate/resume/{name}/{key}` | goes on with a parked step: `{"step":…,"by":{"who":…,"why":…}}` |
//! | `POST /operate/settle/{name}/{key}` | says what became of a step: `{"step":…,"as":…,"by":{"who":…,"why":…}}` |
//! | `GET /operate/dead-letters[/{id}]` | what could not be delivered |
//! | `POST /operate/dead-letters/retry` | delivers many again: `{"all":true}`, `{"from":…}` or `{"reason":…}`, with `"dry_run":true` |
//! | `POST /operate/dead-letters/{id}/retry` | delivers one again, with other data: `{"data":…}` |
//! | `POST /operate/dead-letters/{id}/discard` | gives one up: `{"why":…}` |

mod entity;
mod files;
mod letter;
mod process;
mod service;
mod view;

use crate::policy::Routes;

/// With what is registered at the log, if the log is served here.
pub fn routes(has_log: bool) -> Routes {
    let of_log = match has_log {
        true => service::routes_of_log().merge(files::routes()),
        false => Routes::default(),
    };
    of_log
        .merge(service::routes())
        .merge(entity::routes())
        .merge(view::routes())
        .merge(process::routes())
        .merge(letter::routes())
}
