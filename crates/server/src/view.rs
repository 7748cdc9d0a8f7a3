//! `GET /views/{name}/{query}`.

use std::sync::Arc;
use std::time::Duration;

use anabranch_domain::Json;
use anabranch_model::Cut;
use anabranch_runtime::Service;
use anabranch_runtime::view::{Consistency, Policy, Question};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::problem::Problem;
use crate::read::{Names, Parameters, duration};
use crate::server::Shared;
use crate::token::{POLICY_HEADER, STALE_HEADER, TOKEN_HEADER, header_of, session_of};

/// The longest that a query waits for its view.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub fn routes() -> Router<Shared> {
    Router::new().route("/views/{name}/{query}", get(ask))
}

async fn ask(
    State(shared): State<Shared>,
    Names((view, query)): Names<(String, String)>,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut session = session_of(&shared, &headers).await?;
    let policy = policy_of(&headers, &mut parameters)?;
    let question = question_of(parameters)?;
    let owner = owner(&shared, &view)?;
    let consistency = Consistency {
        seen: session.seen().clone(),
        policy,
    };
    let answer = owner
        .query_json(&view, &query, question, consistency)
        .await?;
    // What is not there was observed too.
    session.read(&answer.cut, &Cut::start());
    let token = header_of(&shared, &session)?;
    let body =
        serde_json::to_string(&answer).map_err(|error| Problem::internal(error.to_string()))?;
    let content_type = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut response = (content_type, body).into_response();
    response.headers_mut().insert(TOKEN_HEADER, token);
    if answer.stale {
        let stale = HeaderValue::from_static("true");
        response.headers_mut().insert(STALE_HEADER, stale);
    }
    Ok(response)
}

/// The service that has a view, if it is here.
pub fn owner(shared: &Shared, view: &str) -> Result<Arc<Service>, Problem> {
    if let Some(owner) = shared.fleet.owner_of_view(view) {
        return Ok(owner);
    }
    if let Some(home) = shared.fleet.home_of_view(view) {
        return Err(Problem::unavailable(format!(
            "service {home}, which has view {view:?}, is away; try again"
        )));
    }
    let services = shared.fleet.services();
    let mut known: Vec<_> = services
        .iter()
        .flat_map(|service| service.views().map(|(name, _)| name))
        .collect();
    known.sort_unstable();
    Err(Problem::not_found(
        "unknown-view",
        format!(
            "no service has a view {view:?}; known: {}",
            known.join(", ")
        ),
    ))
}

/// The header says it, else the parameter `policy`.
fn policy_of(headers: &HeaderMap, parameters: &mut Parameters) -> Result<Policy, Problem> {
    let text = match headers.get(POLICY_HEADER) {
        Some(value) => Some(value.to_str().unwrap_or_default().to_owned()),
        None => parameters.take("policy"),
    };
    let Some(text) = text else {
        return Ok(Policy::default());
    };
    match text.split_once(['=', ':']).unwrap_or((&text, "")) {
        ("wait", "") => Ok(Policy::default()),
        ("wait", wait) => duration("policy", wait, WAIT_MAX).map(Policy::Wait),
        ("fail", "") => Ok(Policy::Fail),
        ("stale", "") => Ok(Policy::AllowStale),
        _ => Err(Problem::bad_request(
            "bad-parameters",
            format!("policy: {text:?} is not wait=5s, fail or stale"),
        )),
    }
}

/// The query's fields: JSON in the parameter `q`, or every parameter one of them.
fn question_of(mut parameters: Parameters) -> Result<Question, Problem> {
    let Some(json) = parameters.take("q") else {
        return Ok(Question::Fields(parameters.0));
    };
    parameters.finish()?;
    Json::new(json)
        .map(Question::Json)
        .map_err(|error| Problem::bad_request("bad-json", format!("q: {error}")))
}
