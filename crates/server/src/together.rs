//! `POST /commands`: commands to several entities of a service, of which all take effect or none.

use std::sync::Arc;

use anabranch_access::Verb;
use anabranch_domain::{CommandId, Json, StreamId};
use anabranch_log::Expect;
use anabranch_runtime::port::Subject;
use anabranch_runtime::{
    Accepted, EntityCommand, SendOptions, Service, TOGETHER_MAX, TogetherError,
};
use anabranch_wire::{CommandOutcome, Expected, ListOutcome, ListedCommand};
use axum::extract::State;
use axum::http::HeaderMap;

use crate::allowed;
use crate::answer::{Answer, reply};
use crate::causes;
use crate::command::{TIMEOUT_MAX, depends, id_of, refused, traceparent};
use crate::convert;
use crate::owner::{Reached, reach};
use crate::policy::{By, Needs, Routes};
use crate::read::{Content, Parameters, duration};
use crate::refusal::{Refusal, TOKEN_HEADER};
use crate::session::{header_of, session_of};
use crate::shared::Shared;

pub fn routes() -> Routes {
    Routes::default().post("/commands", Needs::Each(Verb::Command), send)
}

async fn send(
    State(shared): State<Shared>,
    By(caller): By,
    mut parameters: Parameters,
    headers: HeaderMap,
    content: Content,
) -> Answer {
    let timeout = parameters.take("timeout")?;
    let timeout = timeout.map(|text| duration("timeout", &text, TIMEOUT_MAX));
    let timeout = timeout.transpose()?;
    parameters.finish()?;
    let commands = listed(&content)?;
    for command in &commands {
        allowed::command(&shared, &caller, command.to.category())?;
    }
    let id = id_of(&shared, &headers)?;
    let mut session = session_of(&shared, &headers).await?;
    let named = causes::named(&shared, &headers).await?;
    let owner = owner_of_all(&shared, &commands)?;
    let reached = Reached::Here(owner.clone());
    let causes = depends(&reached, commands[0].to.category(), named, &session);
    let options = SendOptions {
        id: Some(id),
        timeout,
        traceparent: traceparent(&headers),
        causes,
        ..SendOptions::default()
    };
    let done = match owner.together_with(&commands, options).await {
        Ok(done) => done,
        Err(TogetherError { command, error }) => {
            let mut refusal = refused(&shared, id, error, session).await?;
            if let Some(number) = command {
                refusal.problem.detail = about(number, &commands[number], &refusal.problem.detail);
            }
            return Err(refusal);
        }
    };
    for accepted in &done {
        session.wrote(&accepted.token);
    }
    let outcomes = commands.iter().zip(&done).enumerate();
    let outcomes = outcomes.map(|(number, (command, accepted))| {
        outcome(EntityCommand::id_in(id, number), &command.to, accepted)
    });
    let mut response = reply(&ListOutcome {
        list: id.to_string(),
        outcomes: outcomes.collect::<Result<_, _>>()?,
    })?;
    let token = header_of(&shared, &session)?;
    response.headers_mut().insert(TOKEN_HEADER, token);
    Ok(response)
}

fn outcome(
    id: CommandId,
    stream: &StreamId,
    accepted: &Accepted,
) -> Result<CommandOutcome, Refusal> {
    Ok(CommandOutcome {
        stream: stream.to_string(),
        command: id.to_string(),
        taken: false,
        version: accepted.version,
        repeated: accepted.repeated,
        events: convert::events(accepted)?,
        ended: None,
    })
}

/// Which of the commands something is about.
fn about(number: usize, command: &EntityCommand, what: &str) -> String {
    let (name, to) = (&command.name, &command.to);
    format!(
        "command {} ({name} to {to}): {what}; none took effect",
        number + 1
    )
}

fn bad(what: impl Into<String>) -> Refusal {
    Refusal::bad_request("bad-commands", what)
}

/// The commands of the body.
fn listed(content: &Content) -> Result<Vec<EntityCommand>, Refusal> {
    let form = "the body is a list of commands, such as \
                [{\"to\":\"account/a\",\"type\":\"Withdraw\",\"data\":{\"amount\":5}}]";
    let body = content.json()?.ok_or_else(|| bad(form))?;
    let items: Vec<Json> = body.parse().map_err(|_| bad(form))?;
    if items.is_empty() || items.len() > TOGETHER_MAX {
        let count = items.len();
        return Err(bad(format!(
            "the list has {count} commands; 1 to {TOGETHER_MAX} are sent together"
        )));
    }
    let command = |(number, item): (usize, &Json)| {
        let wrong = |what: String| bad(format!("command {}: {what}", number + 1));
        let listed: ListedCommand = item.parse().map_err(|error| wrong(error.to_string()))?;
        let to = StreamId::new(&listed.to).map_err(|error| wrong(error.to_string()))?;
        let data = listed.data.as_ref().map(convert::json).transpose()?;
        let nothing = || Json::new("{}").map_err(|error| Refusal::internal(error.to_string()));
        Ok(EntityCommand {
            to,
            name: listed.name,
            data: data.map_or_else(nothing, Ok)?,
            expect: listed.expect.map(|expected| match expected {
                Expected::Any => Expect::Any,
                Expected::Empty => Expect::Empty,
                Expected::Exists => Expect::Exists,
                Expected::At(version) => Expect::At(version),
            }),
        })
    };
    items.iter().enumerate().map(command).collect()
}

/// The one service that has all of the entities.
fn owner_of_all(shared: &Shared, commands: &[EntityCommand]) -> Result<Arc<Service>, Refusal> {
    let mut owner: Option<Arc<Service>> = None;
    for (number, command) in commands.iter().enumerate() {
        let wrong = |code: &'static str, what: String| {
            Refusal::bad_request(code, about(number, command, &what))
        };
        let category = command.to.category();
        let service = match reach(shared, Subject::Category(category))? {
            Reached::Here(service) => service,
            Reached::Elsewhere(_) => {
                let what = format!(
                    "no service of this process has entities of category {category}; send the list to the one that has"
                );
                return Err(wrong("not-here", what));
            }
        };
        let Ok(entity) = service.any_entity(category) else {
            let what = format!("{category} is a saga; a list is for entities");
            return Err(wrong("not-an-entity", what));
        };
        let known = entity.commands();
        if !known.is_empty() && !known.contains(&command.name.as_str()) {
            let known = known.join(", ");
            let what = format!("category {category} has no such command; known: {known}");
            return Err(wrong("unknown-command", what));
        }
        match &owner {
            Some(first) if first.name() != service.name() => {
                let what = format!(
                    "it is service {}'s, and the first is {}'s; what goes over services is a saga",
                    service.name(),
                    first.name()
                );
                return Err(wrong("several-services", what));
            }
            _ => owner = Some(service),
        }
    }
    owner.ok_or_else(|| bad("the list has no commands"))
}
