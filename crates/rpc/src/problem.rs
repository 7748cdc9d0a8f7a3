//! What can go wrong.

use std::time::Duration;

use anabranch_log::{AppendError, ReadError, Rejection};
use anabranch_model::{LimitError, PartitionId};
use buffa::MessageField;

use crate::append::{expect_of, expect_to};
use crate::event::{id_of, stream_of};
use crate::made::protocol as p;
use crate::made::protocol::__buffa::oneof;
use crate::malformed::Malformed;
use crate::names::kept;
use crate::places::{Set, cut_to, position_of, position_to, some_cut, some_position};

/// Why an append was not acknowledged, as a message.
pub fn append_error_to(error: &AppendError) -> p::AppendProblem {
    use oneof::append_problem::Problem;

    let problem: Problem = match error {
        AppendError::Conflict {
            stream,
            expected,
            actual,
        } => p::Conflict {
            stream: stream.as_str().to_owned(),
            expected: MessageField::some(expect_to(*expected)),
            actual: *actual,
            ..Default::default()
        }
        .into(),
        AppendError::Untold { stream, expected } => p::Conflict {
            stream: stream.as_str().to_owned(),
            expected: MessageField::some(expect_to(*expected)),
            untold: true,
            ..Default::default()
        }
        .into(),
        AppendError::Matched { position } => position_to(*position).into(),
        AppendError::Rejected(rejection) => rejection_to(rejection).into(),
        AppendError::Unavailable {
            reason,
            retry_after,
        } => p::Unavailable {
            reason: reason.clone(),
            retry_after_ms: retry_after.map(|after| after.as_millis() as u64),
            ..Default::default()
        }
        .into(),
        AppendError::Unknown { reason } => Problem::Unknown(reason.clone()),
    };
    p::AppendProblem {
        message: error.to_string(),
        problem: Some(problem),
        code: error.code().to_owned(),
        ..Default::default()
    }
}

/// Why an append was not acknowledged, as a message says. What cannot be read is unknown: it may
/// have happened.
pub fn append_error_of(message: p::AppendProblem) -> AppendError {
    let words = message.message;
    let read = append_problem_of(message.problem);
    read.unwrap_or_else(|error| AppendError::Unknown {
        reason: format!("the server's answer cannot be read ({error}): {words}"),
    })
}

fn append_problem_of(
    problem: Option<oneof::append_problem::Problem>,
) -> Result<AppendError, Malformed> {
    use oneof::append_problem::Problem;

    Ok(match problem {
        Some(Problem::Conflict(conflict)) => {
            let expected = conflict.expected.as_option();
            let expected = expected.ok_or_else(|| Malformed::new("it expected nothing"))?;
            let (stream, expected) = (stream_of(&conflict.stream)?, expect_of(expected)?);
            match conflict.untold {
                true => AppendError::Untold { stream, expected },
                false => AppendError::Conflict {
                    stream,
                    expected,
                    actual: conflict.actual,
                },
            }
        }
        Some(Problem::Matched(position)) => AppendError::Matched {
            position: position_of(&position),
        },
        Some(Problem::Rejected(rejected)) => AppendError::Rejected(rejection_of(*rejected)?),
        Some(Problem::Unavailable(unavailable)) => AppendError::Unavailable {
            reason: unavailable.reason,
            retry_after: unavailable.retry_after_ms.map(Duration::from_millis),
        },
        Some(Problem::Unknown(reason)) => AppendError::Unknown { reason },
        None => return Err(Malformed::new("it names no problem that is known here")),
    })
}

fn rejection_to(rejection: &Rejection) -> p::Rejected {
    use oneof::rejected::Reason;

    let taken = |id: &anabranch_model::EventId, position: Option<anabranch_model::Position>| {
        let position = position.map(position_to);
        Box::new(p::TakenId {
            id: id.to_string(),
            position: position.map_or(MessageField::none(), MessageField::some),
            ..Default::default()
        })
    };
    let reason = match rejection {
        Rejection::IdTaken { id, position } => Reason::IdTaken(taken(id, Some(*position))),
        Rejection::IdUntold { id } => Reason::IdTaken(taken(id, None)),
        Rejection::PartlyWritten { id, position } => {
            Reason::PartlyWritten(taken(id, Some(*position)))
        }
        Rejection::CutBeyondHead { after, head } => {
            Reason::CutBeyondHead(Box::new(beyond_to(after, head)))
        }
        Rejection::FutureCause { causes, head } => {
            Reason::FutureCause(Box::new(beyond_to(causes, head)))
        }
        Rejection::Apart {
            first,
            first_in,
            second,
            second_in,
        } => Reason::Apart(Box::new(p::Apart {
            first: first.to_string(),
            first_in: first_in.0,
            second: second.to_string(),
            second_in: second_in.0,
            ..Default::default()
        })),
        Rejection::Unsupported(what) => Reason::Unsupported((*what).to_owned()),
        Rejection::ReadOnly => Reason::ReadOnly(true),
        Rejection::Limit(LimitError::RepeatedId { first, second }) => {
            Reason::RepeatedId(Box::new(p::RepeatedId {
                first: *first as u64,
                second: *second as u64,
                ..Default::default()
            }))
        }
        Rejection::NotOwner {
            category,
            owner,
            why,
        } => Reason::NotOwner(Box::new(p::NotOwner {
            category: category.clone(),
            owner: owner.clone(),
            why: why.clone(),
            ..Default::default()
        })),
        Rejection::Limit(_) | Rejection::Name(_) | Rejection::Other(_) => {
            Reason::Malformed(rejection.to_string())
        }
    };
    p::Rejected {
        reason: Some(reason),
        ..Default::default()
    }
}

fn rejection_of(message: p::Rejected) -> Result<Rejection, Malformed> {
    use oneof::rejected::Reason;

    let taken = |taken: &p::TakenId| Ok((id_of(&taken.id)?, some_position(&taken.position)?));
    Ok(match message.reason {
        Some(Reason::IdTaken(at)) if at.position.is_unset() => {
            Rejection::IdUntold { id: id_of(&at.id)? }
        }
        Some(Reason::IdTaken(at)) => {
            let (id, position) = taken(&at)?;
            Rejection::IdTaken { id, position }
        }
        Some(Reason::PartlyWritten(at)) => {
            let (id, position) = taken(&at)?;
            Rejection::PartlyWritten { id, position }
        }
        Some(Reason::CutBeyondHead(beyond)) => Rejection::CutBeyondHead {
            after: some_cut(&beyond.cut),
            head: some_cut(&beyond.head),
        },
        Some(Reason::FutureCause(beyond)) => Rejection::FutureCause {
            causes: some_cut(&beyond.cut),
            head: some_cut(&beyond.head),
        },
        Some(Reason::Apart(apart)) => Rejection::Apart {
            first: stream_of(&apart.first)?,
            first_in: PartitionId(apart.first_in),
            second: stream_of(&apart.second)?,
            second_in: PartitionId(apart.second_in),
        },
        Some(Reason::Unsupported(what)) => Rejection::Unsupported(kept(&what)),
        Some(Reason::ReadOnly(_)) => Rejection::ReadOnly,
        Some(Reason::RepeatedId(repeated)) => Rejection::Limit(LimitError::RepeatedId {
            first: repeated.first as usize,
            second: repeated.second as usize,
        }),
        Some(Reason::NotOwner(not)) => Rejection::NotOwner {
            category: not.category,
            owner: not.owner,
            why: not.why,
        },
        Some(Reason::Malformed(words)) => Rejection::Other(words),
        None => Rejection::Other("for a reason that is not known here".to_owned()),
    })
}

/// Why events could not be read, as a message.
pub fn read_error_to(error: &ReadError) -> p::ReadProblem {
    use oneof::read_problem::Problem;

    let problem: Problem = match error {
        ReadError::Damaged {
            file,
            offset,
            what,
            first,
            last,
        } => p::Damaged {
            file: file.clone(),
            offset: *offset,
            what: what.clone(),
            first: MessageField::some(position_to(*first)),
            last: MessageField::some(position_to(*last)),
            ..Default::default()
        }
        .into(),
        ReadError::Io { what, reason } => p::Io {
            what: what.clone(),
            reason: reason.clone(),
            ..Default::default()
        }
        .into(),
        ReadError::Unavailable(reason) => p::Io {
            what: "asking the server".to_owned(),
            reason: reason.clone(),
            ..Default::default()
        }
        .into(),
        ReadError::CutBeyondHead { from, head } => beyond_to(from, head).into(),
        ReadError::Unsupported(what) => Problem::Unsupported((*what).to_owned()),
        ReadError::Invalid(words) => Problem::Invalid(words.clone()),
        // Readers find that out for themselves.
        ReadError::HistoryChanged { .. } => Problem::Invalid(error.to_string()),
        ReadError::Closed => Problem::Closed(true),
    };
    p::ReadProblem {
        message: error.to_string(),
        problem: Some(problem),
        ..Default::default()
    }
}

/// Why events could not be read, as a message says.
pub fn read_error_of(message: p::ReadProblem) -> ReadError {
    use oneof::read_problem::Problem;

    let strange = |reason: String| ReadError::Io {
        what: "reading from the server".to_owned(),
        reason,
    };
    let place = |position: &Set<p::Position>| some_position(position);
    match message.problem {
        Some(Problem::Damaged(damaged)) => match (place(&damaged.first), place(&damaged.last)) {
            (Ok(first), Ok(last)) => ReadError::Damaged {
                file: damaged.file,
                offset: damaged.offset,
                what: damaged.what,
                first,
                last,
            },
            _ => strange(message.message),
        },
        Some(Problem::Io(io)) => ReadError::Io {
            what: io.what,
            reason: io.reason,
        },
        Some(Problem::CutBeyondHead(beyond)) => ReadError::CutBeyondHead {
            from: some_cut(&beyond.cut),
            head: some_cut(&beyond.head),
        },
        Some(Problem::Unsupported(what)) => ReadError::Unsupported(kept(&what)),
        Some(Problem::Invalid(words)) => ReadError::Invalid(words),
        Some(Problem::Closed(_)) => ReadError::Closed,
        None => strange(message.message),
    }
}

fn beyond_to(cut: &anabranch_model::Cut, head: &anabranch_model::Cut) -> p::BeyondHead {
    p::BeyondHead {
        cut: MessageField::some(cut_to(cut)),
        head: MessageField::some(cut_to(head)),
        ..Default::default()
    }
}
