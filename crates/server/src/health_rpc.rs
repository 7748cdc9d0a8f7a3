//! The health of the server for clients of gRPC: `grpc.health.v1`, as their tools and load
//! balancers ask for it.

use std::sync::Arc;

use anabranch_rpc::health as h;
use axum::middleware::from_fn_with_state;
use axum::routing::any_service;
use connectrpc::{
    ConnectError, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream,
};
use futures_util::StreamExt as _;

use crate::calls::HEALTH_PATH;
use crate::health::readiness;
use crate::policy::{Needs, Routes};
use crate::shared::Shared;
use crate::{calls, rpc};

use h::health_check_response::ServingStatus;

/// The largest message.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// What it answers, as a part of the server's routes.
pub fn routes(shared: &Shared, has_log: bool) -> Routes {
    let limits = connectrpc::Limits::default()
        .with_max_message_size(MESSAGE_BYTES_MAX)
        .with_max_request_body_size(MESSAGE_BYTES_MAX)
        .with_element_memory_limit(MESSAGE_BYTES_MAX);
    let service = Arc::new(HealthRpc {
        shared: shared.clone(),
        has_log,
    });
    let router = connectrpc::Router::new().add_service(service);
    let service = connectrpc::ConnectRpcService::new(router).with_limits(limits);
    let whole = from_fn_with_state(shared.clone(), rpc::whole);
    let calls = any_service(service).layer(whole);
    Routes::default().calls(HEALTH_PATH, METHODS, calls)
}

/// What each call needs.
pub const METHODS: &[(&str, Needs)] = &[("Check", Needs::Known), ("Watch", Needs::Known)];

struct HealthRpc {
    shared: Shared,
    has_log: bool,
}

impl HealthRpc {
    /// Whether there is such a service here: the server as a whole, one that answers calls, or one
    /// that runs here.
    fn has(&self, service: &str) -> bool {
        match service {
            "" => true,
            calls::LOG | calls::REGISTRY => self.has_log,
            other => other == calls::HEALTH || self.shared.fleet.service(other).is_some(),
        }
    }
}

async fn status(shared: &Shared) -> ServingStatus {
    let checks = readiness(shared).await;
    if checks.iter().all(|(_, check)| check.is_ok()) {
        ServingStatus::SERVING
    } else {
        ServingStatus::NOT_SERVING
    }
}

fn response(status: ServingStatus) -> h::HealthCheckResponse {
    h::HealthCheckResponse {
        status: status.into(),
        ..Default::default()
    }
}

#[expect(refining_impl_trait, reason = "nobody else sees what it gives")]
impl h::Health for HealthRpc {
    async fn check(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, h::HealthCheckRequest>,
    ) -> ServiceResult<h::HealthCheckResponse> {
        let service = request.view().service;
        if !self.has(service) {
            return Err(ConnectError::not_found(format!(
                "there is no service {service:?} here"
            )));
        }
        Response::ok(response(status(&self.shared).await))
    }

    async fn watch(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, h::HealthCheckRequest>,
    ) -> ServiceResult<ServiceStream<h::HealthCheckResponse>> {
        let first = match self.has(request.view().service) {
            true => status(&self.shared).await,
            false => ServingStatus::SERVICE_UNKNOWN,
        };
        let mut stopping = self.shared.stopping.clone();
        let last = futures_util::stream::once(async move {
            // It cannot be told any more when the server has gone already.
            drop(stopping.wait_for(|is_stopping| *is_stopping).await);
            Ok(response(ServingStatus::NOT_SERVING))
        });
        let first = futures_util::stream::iter([Ok(response(first))]);
        Response::ok(Box::pin(first.chain(last)))
    }
}
