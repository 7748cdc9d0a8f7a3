use anabranch_access::Verb;
use anabranch_domain::StreamId;
use anabranch_domain::saga::SagaCommand;
use anabranch_runtime::port::Subject;
use anabranch_runtime::view::OperateError;
use anabranch_runtime::{InstanceStatus, ProcessHost, Service};
use anabranch_wire as wire;
use axum::extract::State;

use crate::answer::{Answer, reply};
use crate::convert;
use crate::owner::owner;
use crate::policy::{ALL, Needs, Routes};
use crate::read::{Content, Names, Parameters, Stream};
use crate::refusal::Refusal;
use crate::shared::Shared;

pub fn routes() -> Routes {
    Routes::default()
        .get("/processes", Needs::Of(Verb::Operate, ALL), list)
        .get(
            "/processes/{name}",
            Needs::Path(Verb::Operate, "name"),
            instances,
        )
        .post(
            "/processes/{name}/{verb}",
            Needs::Path(Verb::Operate, "name"),
            mend,
        )
        .get(
            "/instance/{name}/{*key}",
            Needs::Path(Verb::Operate, "name"),
            show,
        )
        .post(
            "/retry/{name}/{*key}",
            Needs::Path(Verb::Operate, "name"),
            retry,
        )
        .post(
            "/abort/{name}/{*key}",
            Needs::Path(Verb::Operate, "name"),
            abort,
        )
        .post(
            "/resume/{name}/{*key}",
            Needs::Path(Verb::Operate, "name"),
            resume,
        )
        .post(
            "/settle/{name}/{*key}",
            Needs::Path(Verb::Operate, "name"),
            settle,
        )
}

fn summary(
    service: &Service,
    process: &ProcessHost,
    instances: &[InstanceStatus],
) -> wire::Process {
    let instances: Vec<_> = instances.iter().map(convert::instance).collect();
    let needs_person =
        |instance: &&wire::Instance| instance.parked.is_some() || instance.needs_person;
    let letters = service.dead_letters().into_iter();
    let letters = letters
        .filter(|letter| letter.from.category() == process.name())
        .count();
    let stopped = process.stopped();
    let need_a_person =
        instances.iter().filter(needs_person).count() + letters + usize::from(stopped.is_some());
    wire::Process {
        name: process.name().to_owned(),
        service: service.name().to_owned(),
        stopped,
        consumed: convert::cut(&process.consumed()),
        lag_events: convert::behind(&service.head(), &process.consumed()),
        open: instances.iter().filter(|instance| !instance.ended).count() as u64,
        retrying: instances
            .iter()
            .filter(|instance| !needs_person(instance) && instance.retrying)
            .count() as u64,
        need_a_person: need_a_person as u64,
        dead_letters: letters as u64,
        instances,
    }
}

async fn list(State(shared): State<Shared>) -> Answer {
    let mut all = Vec::new();
    for service in shared.fleet.services() {
        for (_, process) in service.processes() {
            all.push(wire::Process {
                instances: Vec::new(),
                ..summary(&service, process, &process.list().await)
            });
        }
    }
    reply(&all)
}

/// The most instances that have ended and are listed at a time.
const ENDED_MAX: u64 = 1000;

async fn instances(
    State(shared): State<Shared>,
    Names(name): Names<String>,
    mut parameters: Parameters,
) -> Answer {
    let ended = parameters.take_number("ended")?;
    parameters.finish()?;
    let owner = owner(&shared, Subject::Process(&name))?;
    let process = owner.process(&name)?;
    let mut answer = summary(&owner, process, &process.list().await);
    if let Some(ended) = ended {
        let listed = process.ended(ended.min(ENDED_MAX) as usize).await;
        let listed = listed.map_err(|reason| Refusal::unavailable(format!("the log: {reason}")))?;
        answer.instances = listed.iter().map(convert::instance).collect();
    }
    reply(&answer)
}

async fn mend(
    State(shared): State<Shared>,
    Names((name, verb)): Names<(String, String)>,
) -> Answer {
    let owner = owner(&shared, Subject::Process(&name))?;
    let process = owner.process(&name)?;
    let done = match verb.as_str() {
        "skip" => process.skip().await.map_err(OperateError::from)?,
        "retry" => process.consume_again(),
        _ => {
            return Err(Refusal::not_found(
                "no-such-path",
                format!("a process takes skip and retry, not {verb:?}"),
            ));
        }
    };
    if done {
        return reply(&wire::ProcessDone {
            process: name,
            done: verb,
        });
    }
    Err(Refusal::not_now(format!(
        "{name} has not stopped before an event"
    )))
}

async fn show(State(shared): State<Shared>, Stream(stream): Stream) -> Answer {
    let owner = owner(&shared, Subject::Process(stream.category()))?;
    let status = owner.process(stream.category())?.show(stream.clone()).await;
    let is_there = status.parked.is_some()
        || status
            .description
            .as_ref()
            .is_none_or(|described| described.length > 0);
    if is_there {
        let under_way = convert::deliveries(owner.sent_by(&stream), &owner.circuits());
        let letters = owner.dead_letters().into_iter();
        let letters = letters.filter(|letter| letter.from == stream);
        return reply(&wire::Instance {
            under_way,
            letters: letters.map(|letter| convert::letter(&letter)).collect(),
            ..convert::instance(&status)
        });
    }
    Err(Refusal::not_found(
        "not-found",
        format!("{stream} has no journal"),
    ))
}

async fn retry(State(shared): State<Shared>, Stream(stream): Stream) -> Answer {
    let owner = owner(&shared, Subject::Process(stream.category()))?;
    if owner
        .process(stream.category())?
        .retry(stream.clone())
        .await
    {
        return done(&stream, "retry");
    }
    Err(Refusal::not_now(format!("{stream} is not parked")))
}

async fn abort(State(shared): State<Shared>, Stream(stream): Stream, content: Content) -> Answer {
    let wire::Why { why } = content.parse()?;
    if why.is_empty() {
        return Err(Refusal::bad_request(
            "bad-body",
            "say why, as {\"why\":…}: it is kept in the saga's journal",
        ));
    }
    let owner = owner(&shared, Subject::Process(stream.category()))?;
    let command = SagaCommand::AbortSaga { why };
    owner.command_saga(stream.clone(), &command, None).await?;
    done(&stream, "abort")
}

async fn resume(State(shared): State<Shared>, Stream(stream): Stream, content: Content) -> Answer {
    let body: Option<wire::ResumeStep> = content.parse()?;
    let Some(wire::ResumeStep { step, by }) = body else {
        return Err(Refusal::bad_request(
            "bad-body",
            "say which step and who says so, as {\"step\":…,\"by\":{\"who\":…,\"why\":…}}",
        ));
    };
    let owner = owner(&shared, Subject::Process(stream.category()))?;
    let command = SagaCommand::ResumeStep {
        step: convert::step(&step)?,
        by: convert::operator(by),
    };
    owner.command_saga(stream.clone(), &command, None).await?;
    done(&stream, "resume")
}

async fn settle(State(shared): State<Shared>, Stream(stream): Stream, content: Content) -> Answer {
    let body: Option<wire::SettleStep> = content.parse()?;
    let Some(wire::SettleStep {
        step,
        settlement,
        by,
    }) = body
    else {
        return Err(Refusal::bad_request(
            "bad-body",
            "say which step, what is so, and who says so, as {\"step\":…,\"as\":{\"Done\":RESULT}, \
             {\"Refused\":{\"code\":…,\"message\":…}} or \"Undone\",\"by\":{\"who\":…,\"why\":…}}",
        ));
    };
    let owner = owner(&shared, Subject::Process(stream.category()))?;
    let command = SagaCommand::SettleStep {
        step: convert::step(&step)?,
        settlement: convert::settlement(settlement)?,
        by: convert::operator(by),
    };
    owner.command_saga(stream.clone(), &command, None).await?;
    done(&stream, "settle")
}

fn done(stream: &StreamId, done: &str) -> Answer {
    reply(&wire::StreamDone {
        stream: stream.to_string(),
        done: done.to_owned(),
    })
}
