use anabranch_access::Verb;
use anabranch_runtime::Service;
use anabranch_runtime::port::Subject;
use anabranch_runtime::view::AnyView;
use anabranch_wire as wire;
use axum::extract::State;

use crate::answer::{Answer, reply};
use crate::convert;
use crate::owner::owner;
use crate::policy::{ALL, Needs, Routes};
use crate::read::{Names, Parameters};
use crate::refusal::Refusal;
use crate::shared::Shared;

pub fn routes() -> Routes {
    Routes::default()
        .get("/views", Needs::Of(Verb::Operate, ALL), list)
        .get("/views/{name}", Needs::Path(Verb::Operate, "name"), show)
        .post(
            "/views/{name}/{verb}",
            Needs::Path(Verb::Operate, "name"),
            mend,
        )
}

async fn list(State(shared): State<Shared>) -> Answer {
    let mut all = Vec::new();
    for service in shared.fleet.services() {
        for (_, view) in service.views() {
            all.push(shown(&service, &**view).await);
        }
    }
    reply(&all)
}

async fn show(State(shared): State<Shared>, Names(name): Names<String>) -> Answer {
    let owner = owner(&shared, Subject::View(&name))?;
    reply(&shown(&owner, &**owner.view(&name)?).await)
}

async fn shown(service: &Service, view: &dyn AnyView) -> wire::ServiceView {
    wire::ServiceView {
        service: service.name().to_owned(),
        view: convert::view(&view.status().await),
    }
}

async fn mend(
    State(shared): State<Shared>,
    Names((name, verb)): Names<(String, String)>,
    mut parameters: Parameters,
) -> Answer {
    let stream = parameters.take("stream")?;
    parameters.finish()?;
    let owner = owner(&shared, Subject::View(&name))?;
    let view = owner.view(&name)?;
    let copy = match (verb.as_str(), stream) {
        ("rebuild", None) => Some(view.rebuild().await?),
        ("back-out", None) => Some(view.back_out().await?),
        ("skip", stream) => view.skip(stream).await.map(|()| None)?,
        ("retry", stream) => view.retry(stream).await.map(|()| None)?,
        ("rebuild" | "back-out", Some(_)) => {
            return Err(Refusal::bad_request(
                "bad-parameters",
                format!("{verb} is about the whole view, not about a stream"),
            ));
        }
        _ => {
            return Err(Refusal::not_found(
                "no-such-path",
                format!("a view takes rebuild, back-out, skip and retry, not {verb:?}"),
            ));
        }
    };
    reply(&wire::ViewDone {
        view: name,
        done: verb,
        copy: copy.map(convert::copy_id),
    })
}
