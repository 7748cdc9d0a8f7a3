//! Why a port does not do what it is asked, as a problem and back.

use std::time::Duration;

use anabranch_domain::CommandError;
use anabranch_log::Expect;
use anabranch_model::{CommandId, StreamId};
use anabranch_runtime::SendError;
use anabranch_runtime::port;
use anabranch_runtime::view::{QueryError, StoreError};
use anabranch_wire::{Happened, Problem, ProblemParts};

use crate::convert;

/// When to try again, where nothing better is known.
const AGAIN: Duration = Duration::from_secs(1);

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Why a command or an answer was not acknowledged.
pub fn of_send(error: &SendError) -> Problem {
    let status = match error {
        SendError::Rejected(_) => 422,
        SendError::VersionMismatch { .. } => 412,
        SendError::Overloaded { .. } => 429,
        SendError::Expired
        | SendError::Parked { .. }
        | SendError::Contended { .. }
        | SendError::Unavailable { .. } => 503,
        SendError::Panicked { .. } => 500,
        SendError::Invalid(_) | SendError::Malformed(_) => 400,
        SendError::IdTaken { .. } => 409,
        SendError::NotHosted { .. } => 404,
        SendError::Unknown { .. } => 504,
    };
    let mut problem = Problem::new(status, error.code(), error.to_string());
    if !error.did_not_happen() {
        problem.happened = Happened::Maybe;
    }
    if error.is_passing() {
        problem.retry_after_ms = Some(milliseconds(AGAIN));
    }
    match error {
        SendError::Rejected(rejection) => {
            problem.detail.clone_from(&rejection.message);
            problem.rejection = Some(convert::rejection(rejection));
        }
        SendError::VersionMismatch { actual, .. } => problem.actual = *actual,
        SendError::Overloaded { retry_after, .. }
        | SendError::Unavailable {
            retry_after: Some(retry_after),
            ..
        } => problem.retry_after_ms = Some(milliseconds(*retry_after)),
        SendError::IdTaken { id, .. } => problem.command = Some(id.to_string()),
        _ => {}
    }
    let parts = parts_of_send(error);
    problem.parts = (parts != ProblemParts::default()).then_some(parts);
    problem
}

fn parts_of_send(error: &SendError) -> ProblemParts {
    let mut parts = ProblemParts::default();
    match error {
        SendError::Rejected(_) | SendError::Expired | SendError::Invalid(_) => {}
        SendError::VersionMismatch {
            stream, expected, ..
        } => {
            parts.stream = Some(stream.to_string());
            parts.expected = Some(convert::expected(*expected));
        }
        SendError::Overloaded { waiting, .. } => parts.count = Some(*waiting as u64),
        SendError::Parked { stream, reason } | SendError::Panicked { stream, reason } => {
            parts.stream = Some(stream.to_string());
            parts.reason = Some(reason.clone());
        }
        SendError::Malformed(CommandError::Malformed { name, reason }) => {
            parts.name = Some(name.clone());
            parts.reason = Some(reason.clone());
        }
        SendError::Malformed(CommandError::Receiver(_)) => {}
        SendError::IdTaken { stream, .. } => parts.stream = Some(stream.clone()),
        SendError::NotHosted { category, known } => {
            parts.name = Some(category.clone());
            parts.known = Some(known.clone());
        }
        SendError::Contended { stream, attempts } => {
            parts.stream = Some(stream.to_string());
            parts.count = Some(u64::from(*attempts));
        }
        SendError::Unavailable { reason, .. } | SendError::Unknown { reason } => {
            parts.reason = Some(reason.clone());
        }
    }
    parts
}

/// Why a query has no answer.
pub fn of_query(error: &QueryError) -> Problem {
    let (status, code) = match error {
        QueryError::NotReached { .. } => (503, "not-reached"),
        QueryError::BeyondHead { .. } => (400, "token-beyond-head"),
        QueryError::Building { .. } => (503, "building"),
        QueryError::Unknown(_) => (404, "unknown-query"),
        QueryError::Malformed { .. } => (400, "malformed"),
        QueryError::Failed { .. } => (500, "query-failed"),
        QueryError::Store(_) => (503, "store"),
    };
    let mut problem = Problem::new(status, code, error.to_string());
    if status == 503 {
        problem.retry_after_ms = Some(milliseconds(AGAIN));
    }
    let mut parts = ProblemParts::default();
    match error {
        QueryError::NotReached {
            view,
            have,
            need,
            stopped,
        } => {
            parts.name = Some(view.clone());
            parts.have = Some(convert::cut(have));
            parts.need = Some(convert::cut(need));
            parts.reason.clone_from(stopped);
        }
        QueryError::BeyondHead { seen, head } => {
            parts.have = Some(convert::cut(head));
            parts.need = Some(convert::cut(seen));
        }
        QueryError::Building { view, percent } => {
            parts.name = Some(view.clone());
            parts.count = Some(u64::from(*percent));
        }
        QueryError::Unknown(_) => {}
        QueryError::Malformed { query, reason } | QueryError::Failed { query, reason } => {
            parts.name = Some(query.clone());
            parts.reason = Some(reason.clone());
        }
        QueryError::Store(StoreError { of, reason }) => {
            parts.name = Some(of.clone());
            parts.reason = Some(reason.clone());
        }
    }
    problem.parts = (parts != ProblemParts::default()).then_some(parts);
    problem
}

/// Whatever a port says.
pub fn of(problem: &port::Problem) -> Problem {
    match problem {
        port::Problem::Send(error) => of_send(error),
        port::Problem::Query(error) => of_query(error),
        port::Problem::Strange => {
            let mut strange = Problem::new(500, "internal", problem.to_string());
            strange.happened = Happened::Maybe;
            strange
        }
    }
}

/// The error that another service has said a problem for. What is not known, or comes from before
/// the service, says by itself whether it may have happened.
pub fn send_error(problem: &Problem) -> SendError {
    known_send_error(problem).unwrap_or_else(|| other(problem))
}

fn known_send_error(problem: &Problem) -> Option<SendError> {
    let parts = problem.parts.clone().unwrap_or_default();
    let stream = || StreamId::new(parts.stream.as_deref()?).ok();
    Some(match &*problem.code {
        "rejected" => SendError::Rejected(convert::rejection_of(problem.rejection.as_ref()?).ok()?),
        "version-mismatch" => SendError::VersionMismatch {
            stream: stream()?,
            expected: parts.expected.map_or(Expect::Any, convert::expect_of),
            actual: problem.actual,
        },
        "overloaded" => SendError::Overloaded {
            waiting: parts.count.unwrap_or_default() as usize,
            retry_after: retry_after(problem).unwrap_or(AGAIN),
        },
        "expired" => SendError::Expired,
        "parked" => SendError::Parked {
            stream: stream()?,
            reason: parts.reason?,
        },
        "panicked" => SendError::Panicked {
            stream: stream()?,
            reason: parts.reason?,
        },
        "invalid" => SendError::Invalid(problem.detail.clone()),
        "malformed" => SendError::Malformed(CommandError::Malformed {
            name: parts.name?,
            reason: parts.reason?,
        }),
        "id-taken" => SendError::IdTaken {
            id: problem.command.as_deref()?.parse::<CommandId>().ok()?,
            stream: parts.stream?,
        },
        "not-hosted" => SendError::NotHosted {
            category: parts.name?,
            known: parts.known?,
        },
        "contended" => SendError::Contended {
            stream: stream()?,
            attempts: u32::try_from(parts.count?).ok()?,
        },
        "unavailable" => SendError::Unavailable {
            reason: parts.reason?,
            retry_after: retry_after(problem),
        },
        "unknown" => SendError::Unknown {
            reason: parts.reason?,
        },
        _ => return None,
    })
}

fn other(problem: &Problem) -> SendError {
    let reason = format!("{} ({})", problem.detail, problem.code);
    match (problem.happened, problem.retry_after_ms) {
        (Happened::Maybe | Happened::Yes, _) => SendError::Unknown { reason },
        (Happened::No, Some(_)) => SendError::Unavailable {
            reason,
            retry_after: retry_after(problem),
        },
        // Asked again it would be refused again.
        (Happened::No, None) => SendError::Invalid(reason),
    }
}

fn retry_after(problem: &Problem) -> Option<Duration> {
    problem.retry_after_ms.map(Duration::from_millis)
}

/// The error that another service has said a problem of a query for.
pub fn query_problem(problem: &Problem) -> port::Problem {
    match known_query_error(problem) {
        Some(error) => error.into(),
        None => send_error(problem).into(),
    }
}

fn known_query_error(problem: &Problem) -> Option<QueryError> {
    let parts = problem.parts.clone().unwrap_or_default();
    let cut = |counts: Option<_>| convert::cut_of(&counts?).ok();
    Some(match &*problem.code {
        "not-reached" => QueryError::NotReached {
            view: parts.name?,
            have: cut(parts.have)?,
            need: cut(parts.need)?,
            stopped: parts.reason,
        },
        "token-beyond-head" => QueryError::BeyondHead {
            seen: cut(parts.need)?,
            head: cut(parts.have)?,
        },
        "building" => QueryError::Building {
            view: parts.name?,
            percent: u8::try_from(parts.count?).ok()?,
        },
        "unknown-query" => QueryError::Unknown(problem.detail.clone()),
        "malformed" => QueryError::Malformed {
            query: parts.name?,
            reason: parts.reason?,
        },
        "query-failed" => QueryError::Failed {
            query: parts.name?,
            reason: parts.reason?,
        },
        "store" => QueryError::Store(StoreError {
            of: parts.name?,
            reason: parts.reason?,
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use anabranch_domain::{Json, Rejection};
    use anabranch_model::Cut;

    use super::*;

    fn stream() -> StreamId {
        StreamId::of("order", "1").unwrap()
    }

    fn reason() -> String {
        "the reason".to_owned()
    }

    #[test]
    fn every_reason_why_a_command_is_not_acknowledged_comes_over_as_it_is() {
        let stream = stream();
        let mut rejection = Rejection::new("no", "not now").with_data(Json::new("[1]").unwrap());
        rejection.try_again = true;
        for error in [
            SendError::Rejected(rejection),
            SendError::VersionMismatch {
                stream: stream.clone(),
                expected: Expect::At(3),
                actual: Some(5),
            },
            SendError::Overloaded {
                waiting: 7,
                retry_after: Duration::from_millis(20),
            },
            SendError::Expired,
            SendError::Parked {
                stream: stream.clone(),
                reason: reason(),
            },
            SendError::Panicked {
                stream: stream.clone(),
                reason: reason(),
            },
            SendError::Invalid("too large".to_owned()),
            SendError::Malformed(CommandError::Malformed {
                name: "Place".to_owned(),
                reason: reason(),
            }),
            SendError::IdTaken {
                id: CommandId::from_u128(5),
                stream: "order/2".to_owned(),
            },
            SendError::NotHosted {
                category: "x".to_owned(),
                known: "a, b".to_owned(),
            },
            SendError::Contended {
                stream,
                attempts: 8,
            },
            SendError::Unavailable {
                reason: reason(),
                retry_after: Some(Duration::from_millis(100)),
            },
            SendError::Unknown { reason: reason() },
        ] {
            let problem = of_send(&error);
            let text = serde_json::to_string(&problem).unwrap();
            let read: Problem = serde_json::from_str(&text).unwrap();
            assert_eq!(send_error(&read), error, "{text}");
        }
    }

    #[test]
    fn every_reason_why_a_query_has_no_answer_comes_over_as_it_is() {
        let view = || "orders".to_owned();
        for error in [
            QueryError::NotReached {
                view: view(),
                have: Cut::at(3),
                need: Cut::at(5),
                stopped: Some(reason()),
            },
            QueryError::BeyondHead {
                seen: Cut::at(9),
                head: Cut::start(),
            },
            QueryError::Building {
                view: view(),
                percent: 40,
            },
            QueryError::Unknown("no such query".to_owned()),
            QueryError::Malformed {
                query: view(),
                reason: reason(),
            },
            QueryError::Failed {
                query: view(),
                reason: reason(),
            },
            QueryError::Store(StoreError::new("orders", "it is full")),
        ] {
            let problem = of_query(&error);
            let text = serde_json::to_string(&problem).unwrap();
            let read: Problem = serde_json::from_str(&text).unwrap();
            assert_eq!(query_problem(&read), port::Problem::Query(error), "{text}");
        }
    }

    #[test]
    fn a_problem_that_is_not_known_says_whether_it_may_have_happened() {
        let mut problem = Problem::new(500, "of-tomorrow", "strange");
        assert!(send_error(&problem).did_not_happen());
        assert!(!send_error(&problem).is_passing());
        problem.retry_after_ms = Some(5);
        assert!(send_error(&problem).is_passing());
        problem.happened = Happened::Maybe;
        assert!(!send_error(&problem).did_not_happen());
    }
}
