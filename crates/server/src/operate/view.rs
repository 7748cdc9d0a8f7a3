use anabranch_domain::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde_json::json;

use super::{Answer, reply};
use crate::problem::Problem;
use crate::read::{Names, Parameters};
use crate::server::Shared;
use crate::view::owner;

pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/views", get(list))
        .route("/views/{name}", get(show))
        .route("/views/{name}/{verb}", post(mend))
}

async fn list(State(shared): State<Shared>) -> Answer {
    let mut all = Vec::new();
    for service in shared.fleet.services() {
        for (_, view) in service.views() {
            all.push(json!({"service": service.name(), "view": view.status().await}));
        }
    }
    reply(&all)
}

async fn show(State(shared): State<Shared>, Names(name): Names<String>) -> Answer {
    let owner = owner(&shared, &name)?;
    let status = owner.view(&name)?.status().await;
    reply(&json!({"service": owner.name(), "view": status}))
}

async fn mend(
    State(shared): State<Shared>,
    Names((name, verb)): Names<(String, String)>,
    mut parameters: Parameters,
) -> Answer {
    let stream = parameters.take("stream");
    parameters.finish()?;
    let owner = owner(&shared, &name)?;
    let view = owner.view(&name)?;
    let copy = match (verb.as_str(), stream) {
        ("rebuild", None) => Some(view.rebuild().await?),
        ("back-out", None) => Some(view.back_out().await?),
        ("skip", stream) => view.skip(stream).await.map(|()| None)?,
        ("retry", stream) => view.retry(stream).await.map(|()| None)?,
        ("rebuild" | "back-out", Some(_)) => {
            return Err(Problem::bad_request(
                "bad-parameters",
                format!("{verb} is about the whole view, not about a stream"),
            ));
        }
        _ => {
            return Err(Problem::not_found(
                "no-such-path",
                format!("a view takes rebuild, back-out, skip and retry, not {verb:?}"),
            ));
        }
    };
    let copy = Json::of(&copy).map_err(|error| Problem::internal(error.to_string()))?;
    reply(&json!({"view": name, "done": verb, "copy": copy}))
}
