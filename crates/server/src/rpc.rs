//! The log over the network: what `anabranch-rpc` describes, for Connect, gRPC and gRPC-Web.

use std::sync::Arc;

use anabranch_access::Verb;
use anabranch_log::{
    AppendError, EventStream, Order, ReadError, ReadMode, Rejection, VersionRange,
};
use anabranch_model::{Cut, EventBatch, Filter, Limits};
use anabranch_rpc::protocol as p;
use anabranch_rpc::{
    Malformed, PROTOCOL, append_error_to, append_of, appended_to, capabilities_to, check_json,
    cut_of, cut_to, filter_of, id_of, join_steps, layout_to, message_bytes_max, mode_of, placed_to,
    reach_to, read_error_to, step_bytes, step_to, stream_of,
};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response as Answered};
use axum::routing::any_service;
use connectrpc::{
    ConnectError, ErrorCode, ErrorDetail, InboundStream, RequestContext, Response, Router,
    ServiceRequest, ServiceResult, ServiceStream,
};
use futures_util::future::{Either, select};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::allowed;
use crate::appender::Appender;
use crate::calls::{LOG_PATH, REGISTRY_BYTES_MAX, REGISTRY_PATH, refuse_call};
use crate::many::Many;
use crate::policy::{self, Needs, Routes, denied};
use crate::read::{collected, in_time};
use crate::reading::{Reader, Sight};
use crate::registry::{Registry, Shown};
use crate::seal::log_name;
use crate::session::no_partition;
use crate::shared::{Held, Shared};

/// What it answers, as a part of the server's routes.
pub fn routes(shared: &Shared) -> Routes {
    let largest = message_bytes_max(&shared.limits);
    let limits = connectrpc::Limits::default()
        .with_max_message_size(largest)
        .with_max_request_body_size(largest)
        .with_element_memory_limit(largest);
    let service = Arc::new(LogRpc {
        shared: shared.clone(),
    });
    let router = Router::new().add_service(service);
    let service = connectrpc::ConnectRpcService::new(router).with_limits(limits);
    let calls = any_service(service).layer(from_fn_with_state(shared.clone(), whole));
    Routes::default().calls(LOG_PATH, METHODS, calls)
}

/// What each call needs.
pub const METHODS: &[(&str, Needs)] = &[
    ("Describe", Needs::Known),
    ("Append", Needs::Each(Verb::Append)),
    // Each append of it gets an answer of its own.
    ("AppendMany", Needs::Known),
    ("Read", Needs::Each(Verb::Read)),
    ("ReadStream", Needs::Each(Verb::Read)),
    // Where an event stands, of those that the caller may read.
    ("Find", Needs::Known),
    // How far the log is.
    ("Head", Needs::Known),
];

/// Waits for the whole request of a call that has one, for as long as a body may take: who sends
/// half of it holds nobody up. What comes as JSON is looked at before it is taken for a message. The
/// one call that goes on for as long as its client likes is [`Many`], which takes in a message at a
/// time.
pub async fn whole(State(shared): State<Shared>, request: Request, next: Next) -> Answered {
    let path = request.uri().path().to_owned();
    let is_json = is_json(request.headers());
    if path.ends_with("/AppendMany") {
        if is_json {
            let what = "AppendMany takes no JSON; send protobuf, or append by Append";
            return refuse_call(request.headers(), &ConnectError::unimplemented(what));
        }
        return next.run(request).await;
    }
    let max = if path.starts_with(REGISTRY_PATH) {
        REGISTRY_BYTES_MAX
    } else {
        message_bytes_max(&shared.limits)
    };
    let (parts, body) = request.into_parts();
    let held = Held::of(&parts.extensions);
    let body = match in_time(&shared, collected(body, held, &shared, max)).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    if is_json && let Err(error) = check_messages(&path, &parts.headers, &body, &shared.limits) {
        return refuse_call(&parts.headers, &malformed(error));
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn content_type(headers: &HeaderMap) -> &str {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

fn is_json(headers: &HeaderMap) -> bool {
    content_type(headers).to_ascii_lowercase().ends_with("json")
}

/// The parts of a message besides its events and conditions, and those within one.
const PARTS_MAX: usize = 10_000;
const PARTS_WITHIN: usize = 8;

/// Looks at each message of a body that is JSON.
fn check_messages(
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    limits: &Limits,
) -> Result<(), Malformed> {
    let parts = limits
        .batch_events_max
        .saturating_add(limits.conditions_max);
    let parts = parts.saturating_mul(PARTS_WITHIN).saturating_add(PARTS_MAX);
    if content_type(headers).eq_ignore_ascii_case("application/json") {
        return check_json(path, body, parts);
    }
    // Each message has its length before it. What is no such body is refused by who takes it.
    let mut rest = body;
    while let Some((&[_, a, b, c, d], behind)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some((message, behind)) = behind.split_at_checked(length) else {
            break;
        };
        check_json(path, message, parts)?;
        rest = behind;
    }
    Ok(())
}

struct LogRpc {
    shared: Shared,
}

impl LogRpc {
    /// Who owns what. An append without knowing it could be anybody's.
    async fn registry(&self) -> Result<&Arc<Registry>, ConnectError> {
        let registry = &self.shared.registry;
        let ready = registry.ready().await;
        ready.map_err(|error| {
            ConnectError::unavailable(format!("{error}; nothing was changed, try again"))
        })?;
        Ok(registry)
    }

    /// A cut that a request names. What it says of a partition that is not there the log refuses, unless
    /// that is nothing.
    fn cut_of_request(&self, cut: &p::Cut) -> Result<Cut, ConnectError> {
        let partitions = self.shared.log.capabilities().partitions;
        let nothing = |(partition, count): &(&u32, &u64)| **partition >= partitions && **count == 0;
        match cut.counts.iter().find(nothing) {
            None => Ok(cut_of(cut)),
            Some((&partition, _)) => Err(ConnectError::out_of_range(no_partition(
                partition, partitions,
            ))),
        }
    }

    /// Gives the events of a read; before them where it ends, if that is known.
    fn events(
        &self,
        reader: Reader,
        events: EventStream,
        until: Option<Cut>,
        form: EventForm,
    ) -> ServiceResult<ServiceStream<p::ReadResponse>> {
        let room = self
            .shared
            .lanes
            .calls_of_readers
            .clone()
            .try_acquire_owned();
        let room = room.map_err(|_| {
            ConnectError::resource_exhausted(
                "as many readers read the log as this server has room for; try again later",
            )
        })?;
        let first = until.map(|until| {
            Ok(p::ReadResponse {
                until: buffa::MessageField::some(cut_to(&until)),
                ..Default::default()
            })
        });
        let reading = Reading {
            shared: self.shared.clone(),
            reader,
            events,
            form,
            ahead: None,
            _room: room,
            stopping: self.shared.stopping.clone(),
        };
        let steps = futures_util::stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.step().await? {
                Ok(message) => {
                    let is_last = message.problem.is_set();
                    Some((Ok(message), (!is_last).then_some(reading)))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        Response::ok(Box::pin(futures_util::stream::iter(first).chain(steps)))
    }
}

/// A read under way.
struct Reading {
    shared: Shared,
    reader: Reader,
    events: EventStream,
    form: EventForm,
    /// What was read already, and did not go with what came before it.
    ahead: Option<Taken>,
    /// Counts it among the readers.
    _room: OwnedSemaphorePermit,
    stopping: watch::Receiver<bool>,
}

/// How events may go.
#[derive(Clone, Copy)]
struct EventForm {
    packed: bool,
    /// Not at all, where the log says what they stand for.
    reach_only: bool,
}

/// What was read next; `None`: nothing comes after it.
type Taken = Option<Result<p::ReadResponse, ReadError>>;

/// What is at hand goes in one message, until it has so many bytes of events.
const STEP_BYTES: usize = 64 << 10;

/// The most batches of the log that one message stands for.
const STEP_BATCHES: usize = 32;

impl Reading {
    /// The next message; `None` at the end.
    async fn step(&mut self) -> Option<Result<p::ReadResponse, ConnectError>> {
        let taken = match self.ahead.take() {
            Some(taken) => taken,
            None => {
                let next = Box::pin(self.events.next_batch());
                // Whoever follows a server that stops comes again elsewhere.
                let stopped = Box::pin(self.stopping.wait_for(|is_stopping| *is_stopping));
                let next = match select(next, stopped).await {
                    Either::Left((next, _)) => next,
                    Either::Right(_) => {
                        let error = ConnectError::unavailable("the server stops; ask again");
                        return Some(Err(error));
                    }
                };
                self.message_of(next)
            }
        };
        let mut message = match taken? {
            Ok(message) => message,
            Err(error) => return Some(Ok(failed(&error))),
        };
        if let Some(gone) = self.reader.gone(&self.shared) {
            return Some(Err(gone.into()));
        }
        // What is left out has no bytes, and is work.
        let mut left = STEP_BATCHES;
        while left > 0
            && step_bytes(&message) < STEP_BYTES
            && let Some(next) = self.events.next_batch().now_or_never()
        {
            left -= 1;
            match self.message_of(next) {
                Some(Ok(next)) => {
                    if let Some(next) = join_steps(&mut message, next) {
                        self.ahead = Some(Some(Ok(next)));
                        break;
                    }
                }
                ended => {
                    self.ahead = Some(ended);
                    break;
                }
            }
        }
        if left == 0 {
            // Others have their turn, and whoever reads may have gone.
            tokio::task::yield_now().await;
        }
        Some(Ok(message))
    }

    fn message_of(&self, next: Option<Result<EventBatch, ReadError>>) -> Taken {
        let step = |batch: EventBatch| {
            let reach = self.form.reach_only.then(|| reach_to(&batch)).flatten();
            if let Some(message) = reach {
                return Ok(message);
            }
            let batch = self.reader.of_batch(batch, &Sight::now(&self.shared))?;
            step_to(&batch, self.form.packed).map_err(|error| unreadable(&error))
        };
        Some(next?.and_then(step))
    }
}

fn failed(error: &ReadError) -> p::ReadResponse {
    p::ReadResponse {
        problem: buffa::MessageField::some(read_error_to(error)),
        ..Default::default()
    }
}

fn unreadable(error: &anabranch_model::record::RecordError) -> ReadError {
    ReadError::Io {
        what: "decoding stored events".to_owned(),
        reason: error.to_string(),
    }
}

fn malformed(error: Malformed) -> ConnectError {
    ConnectError::invalid_argument(format!("{error}; nothing was changed"))
}

fn append_failed(error: &AppendError) -> ConnectError {
    let code = match error {
        AppendError::Conflict { .. } | AppendError::Untold { .. } | AppendError::Matched { .. } => {
            ErrorCode::FailedPrecondition
        }
        AppendError::Rejected(
            Rejection::IdTaken { .. }
            | Rejection::IdUntold { .. }
            | Rejection::PartlyWritten { .. },
        ) => ErrorCode::AlreadyExists,
        AppendError::Rejected(Rejection::Unsupported(_)) => ErrorCode::Unimplemented,
        AppendError::Rejected(Rejection::NotOwner { .. }) => ErrorCode::PermissionDenied,
        AppendError::Rejected(Rejection::CutBeyondHead { .. } | Rejection::FutureCause { .. }) => {
            ErrorCode::OutOfRange
        }
        AppendError::Rejected(_) => ErrorCode::InvalidArgument,
        AppendError::Unavailable { .. } => ErrorCode::Unavailable,
        AppendError::Unknown { .. } => ErrorCode::Unknown,
    };
    let problem = append_error_to(error);
    let mut detail = ErrorDetail::from_message("anabranch.log.v1.AppendProblem", &problem);
    // The same for who reads JSON.
    detail.debug = serde_json::to_value(&problem).ok();
    ConnectError::new(code, error.to_string()).with_detail(detail)
}

fn read_failed(error: &ReadError) -> ConnectError {
    let code = match error {
        ReadError::Damaged { .. } | ReadError::HistoryChanged { .. } => ErrorCode::DataLoss,
        ReadError::Io { .. } | ReadError::Unavailable(_) | ReadError::Closed => {
            ErrorCode::Unavailable
        }
        ReadError::CutBeyondHead { .. } => ErrorCode::OutOfRange,
        ReadError::Unsupported(_) => ErrorCode::Unimplemented,
        ReadError::Invalid(_) => ErrorCode::InvalidArgument,
    };
    ConnectError::new(code, error.to_string())
}

#[expect(refining_impl_trait, reason = "nobody else sees what it gives")]
impl p::LogService for LogRpc {
    async fn describe(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, p::DescribeRequest>,
    ) -> ServiceResult<p::DescribeResponse> {
        self.shared.check_log(&context)?;
        let spoken = request.view().protocol;
        if spoken != 0 && spoken.saturating_add(1) < PROTOCOL {
            return Err(ConnectError::unimplemented(format!(
                "the client speaks version {spoken} of the protocol, and this server versions {} to {PROTOCOL}; use a newer client",
                PROTOCOL - 1
            )));
        }
        Response::ok(p::DescribeResponse {
            protocol: if spoken == 0 {
                PROTOCOL
            } else {
                spoken.min(PROTOCOL)
            },
            server: env!("CARGO_PKG_VERSION").to_owned(),
            log: log_name(&self.shared.seal),
            capabilities: buffa::MessageField::some(capabilities_to(
                &self.shared.log.capabilities(),
            )),
            layout: layout_to(&self.shared.log.layout()).into(),
            ..Default::default()
        })
    }

    async fn append(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, p::AppendRequest>,
    ) -> ServiceResult<p::AppendResponse> {
        self.shared.check_log(&context)?;
        let mut message = request.to_owned_message();
        let shown = match std::mem::take(&mut message.lease) {
            none if none.is_empty() => Shown::default(),
            token => self.registry().await?.show(&[token]),
        };
        let append = append_of(message).map_err(malformed)?;
        let caller = policy::of(context.extensions());
        allowed::append(&self.shared, &caller, &append.events).map_err(|error| denied(&error))?;
        self.registry().await?;
        let appender = Appender::new(caller, shown);
        let append = appender.check(&self.shared, append)?;
        // Whoever goes away leaves an append that is done or not done, as always.
        let appended = appender.append(&self.shared, append).await;
        let appended = appended.map_err(|error| append_failed(&error))?;
        Response::ok(appended_to(&appended))
    }

    async fn append_many(
        &self,
        context: RequestContext,
        requests: InboundStream<p::AppendManyRequest>,
    ) -> ServiceResult<ServiceStream<p::AppendManyResponse>> {
        self.shared.check_log(&context)?;
        let registry = self.registry().await?.clone();
        let caller = policy::of(context.extensions());
        Response::ok(Box::pin(Many::new(
            self.shared.clone(),
            caller,
            registry,
            requests,
        )))
    }

    async fn read(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, p::ReadRequest>,
    ) -> ServiceResult<ServiceStream<p::ReadResponse>> {
        self.shared.check_log(&context)?;
        let request = request.to_owned_message();
        let mode = mode_of(request.mode).map_err(malformed)?;
        let filter = request.filter.into_option().map(filter_of).transpose();
        let filter = filter.map_err(malformed)?.unwrap_or_default();
        let caller = policy::of(context.extensions());
        if request.reach_only && !filter.is_all() {
            return Err(ConnectError::invalid_argument(
                "reach_only is of the whole log: name nothing in the filter",
            ));
        }
        let mut reader = Reader::of(&self.shared, caller, context.headers(), &filter).await?;
        let filter = reader.asks(filter, &Sight::now(&self.shared));
        let from = match (request.from.as_option(), mode) {
            (Some(cut), _) => self.cut_of_request(cut)?,
            (None, ReadMode::Backward) => {
                let head = self.shared.log.head().await;
                head.map_err(|error| read_failed(&error))?
            }
            (None, _) => Cut::start(),
        };
        let until = match mode {
            ReadMode::ToHead => {
                let head = self.shared.log.head().await;
                Some(head.map_err(|error| read_failed(&error))?)
            }
            ReadMode::Follow | ReadMode::Backward => None,
        };
        let events = self.shared.log.read(&from, filter, mode);
        let form = EventForm {
            packed: request.packed,
            reach_only: request.reach_only,
        };
        self.events(reader, events, until, form)
    }

    async fn read_stream(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, p::ReadStreamRequest>,
    ) -> ServiceResult<ServiceStream<p::ReadResponse>> {
        self.shared.check_log(&context)?;
        let request = request.to_owned_message();
        let stream = stream_of(&request.stream).map_err(malformed)?;
        let caller = policy::of(context.extensions());
        let filter = Filter::stream(stream.clone());
        let reader = Reader::of(&self.shared, caller, context.headers(), &filter).await?;
        let range = VersionRange(request.from..request.to.unwrap_or(u64::MAX));
        let order = if request.backward {
            Order::Backward
        } else {
            Order::Forward
        };
        // Said at once, so that a reader whose connection breaks ends there as well.
        let head = self.shared.log.head().await;
        let head = head.map_err(|error| read_failed(&error))?;
        let events = self.shared.log.read_stream(&stream, range, order);
        let form = EventForm {
            packed: request.packed,
            reach_only: false,
        };
        self.events(reader, events, Some(head), form)
    }

    async fn find(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, p::FindRequest>,
    ) -> ServiceResult<p::FindResponse> {
        self.shared.check_log(&context)?;
        let id = id_of(request.view().id).map_err(malformed)?;
        let caller = policy::of(context.extensions());
        let reader = Reader::of(&self.shared, caller, context.headers(), &Filter::all()).await?;
        let found = self.shared.log.find(id).await;
        let mut found = found.map_err(|error| read_failed(&error))?;
        if let Some(placed) = found {
            let seen = reader.sees_at(&self.shared, placed.position).await;
            if !seen.map_err(|error| read_failed(&error))? {
                found = None;
            }
        }
        Response::ok(p::FindResponse {
            placed: found
                .map(placed_to)
                .map_or(buffa::MessageField::none(), buffa::MessageField::some),
            ..Default::default()
        })
    }

    async fn head(
        &self,
        context: RequestContext,
        _: ServiceRequest<'_, p::HeadRequest>,
    ) -> ServiceResult<p::HeadResponse> {
        self.shared.check_log(&context)?;
        let head = self.shared.log.head().await;
        let head = head.map_err(|error| read_failed(&error))?;
        Response::ok(p::HeadResponse {
            head: buffa::MessageField::some(cut_to(&head)),
            ..Default::default()
        })
    }
}
