//! `GET /views/{name}/{query}`.

use std::time::Duration;

use anabranch_domain::Json;
use anabranch_model::Cut;
use anabranch_runtime::port::Subject;
use anabranch_runtime::view::{Consistency, Policy, Question};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::get;

use crate::answer::{Answer, reply};
use crate::convert;
use crate::owner::owner;
use crate::read::{Names, Parameters, duration, one};
use crate::refusal::{Refusal, TOKEN_HEADER};
use crate::session::{header_of, session_of};
use crate::shared::Shared;

/// The longest that a query waits for its view.
const WAIT_MAX: Duration = Duration::from_secs(60);

const POLICY_HEADER: HeaderName = HeaderName::from_static(anabranch_wire::POLICY_HEADER);
const STALE_HEADER: HeaderName = HeaderName::from_static(anabranch_wire::STALE_HEADER);

pub fn routes() -> Router<Shared> {
    Router::new().route("/views/{name}/{query}", get(ask))
}

async fn ask(
    State(shared): State<Shared>,
    Names((view, query)): Names<(String, String)>,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Answer {
    let mut session = session_of(&shared, &headers).await?;
    let policy = policy_of(&headers, &mut parameters)?;
    let question = question_of(parameters)?;
    let owner = owner(&shared, Subject::View(&view))?;
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
    let mut response = reply(&convert::answer(&answer))?;
    response.headers_mut().insert(TOKEN_HEADER, token);
    if answer.stale {
        let stale = HeaderValue::from_static("true");
        response.headers_mut().insert(STALE_HEADER, stale);
    }
    Ok(response)
}

/// The header says it, else the parameter `policy`.
fn policy_of(headers: &HeaderMap, parameters: &mut Parameters) -> Result<Policy, Refusal> {
    let text = match one(headers, &POLICY_HEADER)? {
        Some(value) => Some(value.to_str().unwrap_or_default().to_owned()),
        None => parameters.take("policy")?,
    };
    let Some(text) = text else {
        return Ok(Policy::default());
    };
    match text.split_once(['=', ':']).unwrap_or((&text, "")) {
        ("wait", "") => Ok(Policy::default()),
        ("wait", wait) => duration("policy", wait, WAIT_MAX).map(Policy::Wait),
        ("fail", "") => Ok(Policy::Fail),
        ("stale", "") => Ok(Policy::AllowStale),
        _ => Err(Refusal::bad_request(
            "bad-parameters",
            format!("policy: {text:?} is not wait=5s, fail or stale"),
        )),
    }
}

/// The query's fields: JSON in the parameter `q`, or every parameter one of them.
fn question_of(mut parameters: Parameters) -> Result<Question, Refusal> {
    let Some(json) = parameters.take("q")? else {
        return Ok(Question::Fields(parameters.0));
    };
    parameters.finish()?;
    Json::new(json)
        .map(Question::Json)
        .map_err(|error| Refusal::bad_request("bad-json", format!("q: {error}")))
}
