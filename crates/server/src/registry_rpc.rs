//! The registry over the network: what `anabranch-rpc` describes, for Connect, gRPC and gRPC-Web.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Act, Verb};
use anabranch_rpc::registry as r;
use anabranch_rpc::registry::__buffa::oneof::find_request::Subject as Sought;
use anabranch_runtime::{Service, Whereabouts, port};
use axum::middleware::from_fn_with_state;
use axum::routing::any_service;
use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};

use crate::calls::{REGISTRY_BYTES_MAX, REGISTRY_PATH};
use crate::policy::{self, Needs, Routes, denied as forbidden};
use crate::reading::tokens;
use crate::registry::{
    About, Denied, Known, Registry, State, Subject, about_of, check_reads, lease_time, token,
};
use crate::rpc;
use crate::seal;
use crate::shared::Shared;

/// What it answers, as a part of the server's routes.
pub fn routes(shared: &Shared) -> Routes {
    let limits = connectrpc::Limits::default()
        .with_max_message_size(REGISTRY_BYTES_MAX)
        .with_max_request_body_size(REGISTRY_BYTES_MAX)
        .with_element_memory_limit(REGISTRY_BYTES_MAX);
    let service = Arc::new(RegistryRpc {
        shared: shared.clone(),
    });
    let router = connectrpc::Router::new().add_service(service);
    let service = connectrpc::ConnectRpcService::new(router).with_limits(limits);
    let whole = from_fn_with_state(shared.clone(), rpc::whole);
    let calls = any_service(service).layer(whole);
    Routes::default().calls(REGISTRY_PATH, METHODS, calls)
}

/// What each call needs. Whoever holds a lease shows its secret beside.
pub const METHODS: &[(&str, Needs)] = &[
    ("RegisterService", Needs::Each(Verb::Append)),
    ("Renew", Needs::Known),
    ("Release", Needs::Known),
    ("Find", Needs::Known),
    ("List", Needs::Known),
    ("Report", Needs::Known),
];

/// The most acts of a report.
const ACTS_MAX: usize = 256;

struct RegistryRpc {
    shared: Shared,
}

impl RegistryRpc {
    /// Does something to its end, whether or not who asked for it waits for the answer: what the
    /// log has taken must not be forgotten here.
    async fn wholly<T, F>(&self, what: impl FnOnce(Arc<Registry>) -> F) -> Result<T, ConnectError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Denied>> + Send + 'static,
    {
        let done = tokio::spawn(what(self.shared.registry.clone())).await;
        let done = done.map_err(|error| ConnectError::internal(error.to_string()))?;
        done.map_err(ConnectError::from)
    }

    /// Refuses what services of this very program have.
    fn check_beside(&self, name: &str, about: &About) -> Result<(), Denied> {
        let fleet = &self.shared.fleet;
        let held = |what: String, by: &str| {
            Err(Denied::Held(format!(
                "{what} belongs to service {by}, which runs in the program that serves the log"
            )))
        };
        check_reads(&fleet.privacy(), name, about)?;
        if fleet.service(name).is_some() {
            return held(format!("the name {name}"), name);
        }
        let owned = about.owns.iter();
        let categories =
            owned.flat_map(|c| [port::Subject::Category(c), port::Subject::Process(c)]);
        let views = about.views.iter().map(|view| port::Subject::View(view));
        for subject in categories.chain(views) {
            let what = match subject {
                port::Subject::View(view) => format!("view {view}"),
                port::Subject::Category(c) | port::Subject::Process(c) => format!("category {c}"),
            };
            if let Some(service) = fleet.home_of(subject) {
                return held(what, &service);
            }
        }
        Ok(())
    }

    /// The service of this very program that has what is sought.
    fn beside(&self, sought: &Subject<'_>) -> Option<Arc<Service>> {
        let fleet = &self.shared.fleet;
        let subjects = match sought {
            Subject::Service(name) => return fleet.service(name),
            Subject::View(view) => vec![port::Subject::View(view)],
            Subject::Category(c) => vec![port::Subject::Category(c), port::Subject::Process(c)],
        };
        let mut found = subjects.into_iter().map(|subject| fleet.find(subject));
        found.find_map(|found| match found {
            Whereabouts::Here(service) => Some(service),
            Whereabouts::Away(_) | Whereabouts::Nowhere { .. } => None,
        })
    }

    /// As if it had registered. It needs no lease: nobody but this program is the server.
    fn registered_beside(&self, service: &Service) -> r::Registered {
        let processes = service.processes().map(|(name, _)| name);
        let owns = service.categories().chain(processes);
        let described = r::Service {
            name: service.name().to_owned(),
            address: self.shared.url.clone(),
            owns: owns.map(str::to_owned).collect(),
            views: service.views().map(|(name, _)| name.to_owned()).collect(),
            private: service.types().kept().into_iter().map(private_to).collect(),
            ..Default::default()
        };
        r::Registered {
            service: buffa::MessageField::some(described),
            state: r::LeaseState::LEASE_STATE_HELD.into(),
            ..Default::default()
        }
    }
}

fn private_to((category, open): (String, BTreeSet<String>)) -> r::Private {
    r::Private {
        category,
        open_types: open.into_iter().collect(),
        ..Default::default()
    }
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn registered(known: Known) -> r::Registered {
    let mut expires_in_ms = 0;
    let mut taken_by = String::new();
    let state = match known.state {
        State::Held(rest) => {
            expires_in_ms = ms(rest);
            r::LeaseState::LEASE_STATE_HELD
        }
        State::Expired => r::LeaseState::LEASE_STATE_EXPIRED,
        State::Released => r::LeaseState::LEASE_STATE_RELEASED,
        State::Taken(by) => {
            taken_by = by;
            r::LeaseState::LEASE_STATE_TAKEN
        }
    };
    let about = known.about;
    let service = r::Service {
        name: known.name,
        address: about.address,
        program: about.program,
        version: about.version,
        owns: about.owns.into_iter().collect(),
        views: about.views.into_iter().collect(),
        reads: about.reads.into_iter().collect(),
        sends: about.sends.into_iter().collect(),
        private: about.private.into_iter().map(private_to).collect(),
        ..Default::default()
    };
    r::Registered {
        service: buffa::MessageField::some(service),
        lease: known.lease,
        state: state.into(),
        expires_in_ms,
        taken_by,
        key: known.key.unwrap_or_default(),
        ..Default::default()
    }
}

#[expect(refining_impl_trait, reason = "nobody else sees what it gives")]
impl r::RegistryService for RegistryRpc {
    async fn register_service(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, r::RegisterRequest>,
    ) -> ServiceResult<r::RegisterResponse> {
        self.shared.check_log(&context)?;
        let message = request.to_owned_message();
        let service = message.service.into_option().unwrap_or_default();
        let (name, about) = about_of(service).map_err(ConnectError::from)?;
        let caller = policy::of(context.extensions());
        for category in &about.owns {
            let may = caller.check(Verb::Append, category);
            may.map_err(|error| forbidden(&error))?;
        }
        let lasts = lease_time(message.lease_ms).map_err(ConnectError::from)?;
        self.check_beside(&name, &about)
            .map_err(ConnectError::from)?;
        let secret = message.secret;
        let registering = async move |registry: Arc<Registry>| {
            let granted = registry.register(&name, &about, &secret, lasts, &caller);
            let granted = granted.await?;
            Ok((name, granted))
        };
        let (name, granted) = self.wholly(registering).await?;
        Response::ok(r::RegisterResponse {
            lease: buffa::MessageField::some(r::Lease {
                token: token(&name, granted.number, &granted.secret),
                secret: granted.secret,
                id: granted.number,
                expires_in_ms: ms(granted.lasts),
                token_key: seal::to_share(&self.shared.seal),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    async fn renew(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, r::RenewRequest>,
    ) -> ServiceResult<r::RenewResponse> {
        self.shared.check_log(&context)?;
        let renewed = self.shared.registry.renew(request.view().lease).await;
        Response::ok(r::RenewResponse {
            expires_in_ms: ms(renewed.map_err(ConnectError::from)?),
            ..Default::default()
        })
    }

    async fn release(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, r::ReleaseRequest>,
    ) -> ServiceResult<r::ReleaseResponse> {
        self.shared.check_log(&context)?;
        let message = request.to_owned_message();
        let releasing = async move |registry: Arc<Registry>| {
            registry.release(&message.lease, message.give_up).await
        };
        self.wholly(releasing).await?;
        Response::ok(r::ReleaseResponse::default())
    }

    async fn find(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, r::FindRequest>,
    ) -> ServiceResult<r::FindResponse> {
        self.shared.check_log(&context)?;
        let message = request.to_owned_message();
        let subject = match &message.subject {
            Some(Sought::Category(category)) => Subject::Category(category),
            Some(Sought::View(view)) => Subject::View(view),
            Some(Sought::Service(service)) => Subject::Service(service),
            None => {
                let words = "say what is looked for: a category, a view or a service";
                return Err(ConnectError::invalid_argument(words));
            }
        };
        let found = match self.beside(&subject) {
            Some(service) => Some(self.registered_beside(&service)),
            None => {
                let found = self.shared.registry.find(subject).await;
                found.map_err(ConnectError::from)?.map(registered)
            }
        };
        Response::ok(r::FindResponse {
            registered: found.map_or(buffa::MessageField::none(), buffa::MessageField::some),
            ..Default::default()
        })
    }

    async fn list(
        &self,
        context: RequestContext,
        _: ServiceRequest<'_, r::ListRequest>,
    ) -> ServiceResult<r::ListResponse> {
        self.shared.check_log(&context)?;
        let all = self
            .shared
            .registry
            .list()
            .await
            .map_err(ConnectError::from)?;
        let beside = self.shared.fleet.services();
        let beside = beside.iter().map(|service| self.registered_beside(service));
        let mut services: Vec<_> = all.into_iter().map(registered).chain(beside).collect();
        let name = |known: &r::Registered| {
            let service = known.service.as_option();
            service.map(|service| service.name.clone())
        };
        services.sort_by_key(name);
        Response::ok(r::ListResponse {
            services,
            ..Default::default()
        })
    }

    async fn report(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, r::ReportRequest>,
    ) -> ServiceResult<r::ReportResponse> {
        self.shared.check_log(&context)?;
        let registry = &self.shared.registry;
        registry.ready().await?;
        let tokens = tokens(context.headers())?;
        let leases = registry.prove(&tokens)?;
        let Some(lease) = leases.first() else {
            let words = "a service reports what was done at it, and shows its lease";
            return Err(ConnectError::invalid_argument(words));
        };
        let Some(audit) = &self.shared.audit else {
            let words = "this server asks nobody who they are, and writes no audit";
            return Err(ConnectError::failed_precondition(words));
        };
        let acts = request.to_owned_message().acts;
        if acts.len() > ACTS_MAX {
            let words = format!("a report has at most {ACTS_MAX} acts");
            return Err(ConnectError::invalid_argument(words));
        }
        let acts = acts.into_iter().map(|said| {
            let act = Act {
                who: said.who,
                did: said.did,
                about: said.about,
                result: said.result,
            };
            (act, said.times)
        });
        if !audit.of_service(&lease.service, acts.collect()) {
            let words = "so many acts wait to be written that there is no room for these; report them again later";
            return Err(ConnectError::resource_exhausted(words));
        }
        Response::ok(r::ReportResponse::default())
    }
}
