//! `GET /views/{name}/{query}`.

use std::time::Duration;

use anabranch_access::Verb;
use anabranch_domain::Json;
use anabranch_model::Cut;
use anabranch_peer::convert::shown;
use anabranch_runtime::port::{Ask, Subject};
use anabranch_runtime::view::{Consistency, Policy, Question};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::answer::{Answer, reply};
use crate::owner::{Reached, reach};
use crate::policy::{Needs, Routes};
use crate::read::{Names, Parameters, duration, one};
use crate::refusal::{Refusal, TOKEN_HEADER};
use crate::session::{header_of, session_of};
use crate::shared::Shared;

/// The longest that a query waits for its view.
const WAIT_MAX: Duration = Duration::from_secs(60);

const POLICY_HEADER: HeaderName = HeaderName::from_static(anabranch_wire::POLICY_HEADER);
const STALE_HEADER: HeaderName = HeaderName::from_static(anabranch_wire::STALE_HEADER);

pub fn routes() -> Routes {
    let needs = Needs::Path(Verb::Query, "name");
    Routes::default().get("/views/{name}/{query}", needs, ask)
}

async fn ask(
    State(shared): State<Shared>,
    Names((view, query)): Names<(String, String)>,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Answer {
    let mut session = session_of(&shared, &headers).await?;
    let reached = reach(&shared, Subject::View(&view))?;
    // Which fields a query of another process has, that one knows.
    let fields = match &reached {
        Reached::Here(owner) => owner.view(&view).ok().and_then(|view| view.fields(&query)),
        Reached::Elsewhere(_) => None,
    };
    let fields = fields.unwrap_or_default();
    let policy = policy_of(&headers, &mut parameters, fields)?;
    let question = question_of(parameters, fields)?;
    let consistency = Consistency {
        seen: session.seen().clone(),
        policy,
    };
    let answer = match reached {
        Reached::Here(owner) => {
            let asked = owner.query_json(&view, &query, question, consistency);
            asked.await?
        }
        Reached::Elsewhere(port) => {
            let ask = Ask {
                view,
                query,
                question,
                consistency,
            };
            port.ask(ask).await?
        }
    };
    // What is not there was observed too.
    session.read(&answer.cut, &Cut::start());
    let token = header_of(&shared, &session)?;
    let mut response = reply(&shown(&answer))?;
    response.headers_mut().insert(TOKEN_HEADER, token);
    if answer.stale {
        let stale = HeaderValue::from_static("true");
        response.headers_mut().insert(STALE_HEADER, stale);
    }
    Ok(response)
}

/// The header says it, else the parameter `policy`; the header alone where that is a field of
/// the query's own.
fn policy_of(
    headers: &HeaderMap,
    parameters: &mut Parameters,
    fields: &[&str],
) -> Result<Policy, Refusal> {
    let text = match one(headers, &POLICY_HEADER)? {
        Some(value) => Some(value.to_str().unwrap_or_default().to_owned()),
        None if fields.contains(&"policy") => None,
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

/// The query's fields: JSON in the parameter `q`, or every parameter one of them. Of a query
/// that has a field `q` they are the parameters, unless `q` is the only one and is an object.
fn question_of(mut parameters: Parameters, fields: &[&str]) -> Result<Question, Refusal> {
    let is_object = |(name, text): &(String, String)| {
        name == "q" && text.trim_start().starts_with('{') && Json::new(text.as_str()).is_ok()
    };
    let is_json = matches!(&parameters.0[..], [only] if is_object(only));
    if fields.contains(&"q") && !is_json {
        return Ok(Question::Fields(parameters.0));
    }
    let Some(json) = parameters.take("q")? else {
        return Ok(Question::Fields(parameters.0));
    };
    parameters.finish()?;
    Json::new(json)
        .map(Question::Json)
        .map_err(|error| Refusal::bad_request("bad-json", format!("q: {error}")))
}
