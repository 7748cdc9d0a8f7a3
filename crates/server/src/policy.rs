//! What each request needs. A route is declared together with it, so there is none without.

use std::convert::Infallible;

use anabranch_access::{Caller, Forbidden, Verb};
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{RequestExt as _, Router};
use connectrpc::ConnectError;

use crate::calls::refuse_call;
use crate::refusal::Refusal;
use crate::shared::Shared;

/// What a caller has to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing, and no key is asked for.
    Public,
    /// Nothing but to have shown a key.
    Known,
    /// To do this to what the path names by this parameter.
    Path(Verb, &'static str),
    /// To do this to what has this name.
    Of(Verb, &'static str),
    /// To do this to something. To what, stands in the request: whoever carries it out checks each.
    Each(Verb),
    /// What its method needs, a call of one that is not here, to have shown a key.
    Call(&'static [(&'static str, Needs)]),
}

/// To do something to everything there is.
pub const ALL: &str = "*";

/// By which parameter the path of a call names its method.
const METHOD: &str = "method";

/// One route, and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub method: &'static str,
    pub path: String,
    pub needs: Needs,
}

/// Routes, each with what it needs.
#[derive(Default)]
pub struct Routes {
    router: Router<Shared>,
    rules: Vec<Rule>,
}

impl Routes {
    /// What stands at a path.
    pub fn get<H, T>(self, path: &str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        let layer = from_fn_with_state(needs, enforce);
        self.route("GET", path, needs, get(handler).route_layer(layer))
    }

    /// What is sent to a path.
    pub fn post<H, T>(self, path: &str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Shared>,
        T: 'static,
    {
        let layer = from_fn_with_state(needs, enforce);
        self.route("POST", path, needs, post(handler).route_layer(layer))
    }

    /// The calls of a service, whose paths begin so.
    pub fn calls(
        self,
        paths: &str,
        methods: &'static [(&'static str, Needs)],
        service: MethodRouter<Shared, Infallible>,
    ) -> Self {
        let path = format!("{paths}{{{METHOD}}}");
        let needs = Needs::Call(methods);
        let service = service.layer(from_fn_with_state(needs, enforce));
        self.route("POST", &path, needs, service)
    }

    fn route(
        mut self,
        method: &'static str,
        path: &str,
        needs: Needs,
        answers: MethodRouter<Shared, Infallible>,
    ) -> Self {
        self.rules.push(Rule {
            method,
            path: path.to_owned(),
            needs,
        });
        self.router = self.router.route(path, answers);
        self
    }

    /// These and those.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.rules.extend(other.rules);
        self
    }

    /// These, and those below a path.
    #[must_use]
    pub fn nest(mut self, path: &str, other: Self) -> Self {
        self.router = self.router.nest(path, other.router);
        let below = other.rules.into_iter().map(|rule| Rule {
            path: format!("{path}{}", rule.path),
            ..rule
        });
        self.rules.extend(below);
        self
    }

    /// What answers, and what each route of it needs.
    pub fn finish(self) -> (Router<Shared>, Vec<Rule>) {
        (self.router, self.rules)
    }
}

async fn enforce(State(needs): State<Needs>, mut request: Request, next: Next) -> Response {
    // Without a word of who calls it is nobody.
    let caller = of(request.extensions());
    if caller.is_anybody() {
        return next.run(request).await;
    }
    let parameters = request.extract_parts::<RawPathParams>().await;
    let named = |wanted: &str| {
        let parameters = parameters.as_ref().ok()?;
        let mut found = parameters.iter().filter(|(name, _)| *name == wanted);
        found.next().map(|(_, value)| value.to_owned())
    };
    match check(needs, &caller, &named) {
        Ok(()) => next.run(request).await,
        Err(forbidden) if matches!(needs, Needs::Call(_)) => {
            refuse_call(request.headers(), &denied(&forbidden))
        }
        Err(forbidden) => Refusal::from(forbidden).into_response(),
    }
}

fn check(
    needs: Needs,
    caller: &Caller,
    named: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Forbidden> {
    match needs {
        Needs::Public => Ok(()),
        Needs::Known => caller.check_known(),
        Needs::Of(verb, name) => caller.check(verb, name),
        Needs::Each(verb) => caller.check_some(verb),
        // What has no name that can be read has none that is allowed.
        Needs::Path(verb, name) => caller.check(verb, &named(name).unwrap_or_default()),
        Needs::Call(methods) => {
            let method = named(METHOD).unwrap_or_default();
            let known = methods.iter().find(|(name, _)| *name == method);
            let needs = known.map_or(Needs::Known, |(_, needs)| *needs);
            check(needs, caller, &|_| None)
        }
    }
}

impl From<Forbidden> for Refusal {
    fn from(forbidden: Forbidden) -> Self {
        let detail = format!("{forbidden}; nothing was changed");
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }
}

/// The same for a call.
pub fn denied(forbidden: &Forbidden) -> ConnectError {
    ConnectError::permission_denied(format!("{forbidden}; nothing was changed"))
}

/// Who sends a request.
pub struct By(pub Caller);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(of(&parts.extensions)))
    }
}

/// Who sends a request; nobody, if nothing says it.
pub fn of(extensions: &axum::http::Extensions) -> Caller {
    extensions.get().cloned().unwrap_or(Caller::Nobody)
}
