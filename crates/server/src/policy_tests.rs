//! Every route, asked by everybody: the table of what each needs is the one that the routes are made of.

use std::sync::Arc;

use anabranch_access::{Doors, Key, KeyAdded, KeyFact, Scopes, Verb};
use anabranch_env::Env;
use anabranch_log::{Log, MemoryLog};
use anabranch_model::EventId;
use anabranch_runtime::{Fleet, Time};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use crate::keys::{Keys, key_append};
use crate::policy::{Needs, Rule};
use crate::server::Server;
use crate::{health_rpc, registry_rpc, rpc};

/// Who may do one thing to everything, by that; and who may do nothing.
async fn roles(env: &Env, log: &Arc<dyn Log>) -> Vec<(Option<Verb>, Key)> {
    let mut roles = Vec::new();
    for role in Verb::ALL.into_iter().map(Some).chain([None]) {
        let key = Key::generate(&*env.rng);
        let scopes = role.map(|verb| format!("{}:*", verb.name()));
        let fact = KeyFact::Added(KeyAdded {
            name: "a role".to_owned(),
            hash: key.hash().to_string(),
            scopes: Scopes::parse(scopes.as_deref()).unwrap(),
            expires_at: None,
        });
        let id = EventId::v7(1, env.rng.next_u128());
        let append = key_append(id, key.id(), &fact).unwrap();
        log.append(append).await.unwrap();
        roles.push((role, key));
    }
    roles
}

/// Takes two verbs, to operate a category and to read it; a role has one.
const HISTORY: &str = "/operate/history/";

/// Written out, and not asked of what it checks.
fn may(role: Option<Verb>, needs: Needs) -> bool {
    match needs {
        Needs::Public | Needs::Known => true,
        Needs::Path(verb, _) | Needs::Of(verb, _) => role == Some(verb),
        Needs::Each(Verb::Read) => matches!(role, Some(Verb::Read | Verb::Operate)),
        Needs::Each(Verb::Append) => {
            matches!(role, Some(Verb::Append | Verb::Operate | Verb::Admin))
        }
        Needs::Each(verb) => role == Some(verb),
        Needs::Call(_) => unreachable!("each of its methods is asked"),
    }
}

/// The code of the answer, if it is a refusal by who asks.
async fn refused(routes: &Router, method: &str, path: &str, key: Option<&Key>) -> Option<String> {
    refused_with(routes, method, path, key, "{}".to_owned()).await
}

async fn refused_with(
    routes: &Router,
    method: &str,
    path: &str,
    key: Option<&Key>,
    body: String,
) -> Option<String> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "127.0.0.1:1")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, key.bearer());
    }
    let request = request.body(Body::from(body)).unwrap();
    let answer = TowerToHyperService::new(routes.clone()).call(request).await;
    let answer = answer.unwrap();
    if ![401, 403].contains(&answer.status().as_u16()) {
        return None;
    }
    let body = Limited::new(answer.into_body(), 1 << 20).collect().await;
    let body = body.unwrap().to_bytes();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let code = json["code"].as_str().unwrap().to_owned();
    ["unauthenticated", "forbidden", "permission_denied"]
        .contains(&code.as_str())
        .then_some(code)
}

/// Each request that the rules know, and what it needs.
fn requests(rules: Vec<Rule>) -> Vec<(&'static str, String, Needs)> {
    let mut requests = Vec::new();
    for rule in rules {
        if let Needs::Call(methods) = rule.needs {
            for (method, needs) in methods {
                let path = rule.path.replace("{method}", method);
                requests.push((rule.method, path, *needs));
            }
            continue;
        }
        let parts = rule
            .path
            .split('/')
            .map(|part| match part.starts_with('{') {
                true => "x",
                false => part,
            });
        let path = parts.collect::<Vec<_>>().join("/");
        requests.push((rule.method, path, rule.needs));
    }
    requests
}

#[tokio::test]
async fn every_route_lets_in_who_may_and_refuses_everybody_else() {
    let env = Env::os();
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(env.clone()));
    let roles = roles(&env, &log).await;
    let time = Time::of(&env);
    let doors = Doors {
        auth: true,
        insecure: false,
    };
    let server = Server::new(Arc::new(Fleet::new()), log.clone(), time.clone()).doors(doors);
    let keys = Keys::load(log, None, time).await.unwrap();
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let (routes, rules) = server.for_tests(keys, stopping);
    let requests = requests(rules);
    assert!(requests.len() > 50, "{}", requests.len());
    let public: Vec<_> = requests
        .iter()
        .filter(|(_, _, needs)| *needs == Needs::Public)
        .map(|(_, path, _)| path.as_str())
        .collect();
    assert_eq!(public, ["/livez"]);
    for (method, path, needs) in requests {
        let stranger = refused(&routes, method, &path, None).await;
        let is_open = needs == Needs::Public;
        assert_eq!(stranger.is_none(), is_open, "{method} {path}: {stranger:?}");
        for (role, key) in &roles {
            let refused = refused(&routes, method, &path, Some(key)).await;
            let expected = may(*role, needs) && !path.starts_with(HISTORY);
            assert_eq!(
                refused.is_none(),
                expected,
                "{role:?} {method} {path}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn each_command_of_a_list_needs_to_be_allowed() {
    let env = Env::os();
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(env.clone()));
    let key = Key::generate(&*env.rng);
    let fact = KeyFact::Added(KeyAdded {
        name: "a till".to_owned(),
        hash: key.hash().to_string(),
        scopes: Scopes::parse(["command:till"]).unwrap(),
        expires_at: None,
    });
    let id = EventId::v7(1, env.rng.next_u128());
    let append = key_append(id, key.id(), &fact).unwrap();
    log.append(append).await.unwrap();
    let time = Time::of(&env);
    let doors = Doors {
        auth: true,
        insecure: false,
    };
    let server = Server::new(Arc::new(Fleet::new()), log.clone(), time.clone()).doors(doors);
    let keys = Keys::load(log, None, time).await.unwrap();
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let (routes, _) = server.for_tests(keys, stopping);
    let one = |to: &str| format!(r#"{{"to":"{to}","type":"Add"}}"#);
    let lists = [
        (format!("[{}]", one("till/1")), false),
        (format!("[{},{}]", one("till/1"), one("till/2")), false),
        (format!("[{},{}]", one("till/1"), one("safe/1")), true),
        (format!("[{},{}]", one("safe/1"), one("till/1")), true),
    ];
    for (list, is_refused) in lists {
        let refused = refused_with(&routes, "POST", "/commands", Some(&key), list.clone()).await;
        assert_eq!(refused.is_some(), is_refused, "{list}: {refused:?}");
    }
}

#[test]
fn every_call_of_the_protocol_has_what_it_needs() {
    let protocols = [
        (
            include_str!("../../rpc/proto/anabranch/log/v1/log.proto"),
            rpc::METHODS,
        ),
        (
            include_str!("../../rpc/proto/anabranch/registry/v1/registry.proto"),
            registry_rpc::METHODS,
        ),
        (
            include_str!("../../rpc/proto/grpc/health/v1/health.proto"),
            health_rpc::METHODS,
        ),
    ];
    for (proto, methods) in protocols {
        let lines = proto.lines().map(str::trim);
        let calls = lines.filter_map(|line| line.strip_prefix("rpc ")?.split('(').next());
        let mut calls: Vec<_> = calls.map(str::trim).collect();
        let mut known: Vec<_> = methods.iter().map(|(name, _)| *name).collect();
        calls.sort_unstable();
        known.sort_unstable();
        assert_eq!(calls, known);
    }
}
