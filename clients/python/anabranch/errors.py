"""What can go wrong. A program decides on fields, never on words."""

from __future__ import annotations

from typing import Any, Optional

from .wire.http import Happened, Problem, Rejection
from .wire.log import AppendProblem

__all__ = [
    "AnabranchError",
    "BadAnswer",
    "Conflict",
    "Held",
    "LeaseLost",
    "Matched",
    "NotOwner",
    "OtherLog",
    "OtherProtocol",
    "Rejected",
    "Unreachable",
    "VersionMismatch",
]


class AnabranchError(Exception):
    """Something was not done, or nobody knows whether it was."""

    code: str
    """Stable, for programs, for example `conflict`."""

    detail: str
    """What happened and what to do, for people."""

    happened: Happened
    """Whether what was asked for has happened: `no`, `yes`, or `maybe`. After `maybe`, asking
    again with the same ids tells.
    """

    passing: bool
    """Whether asking again with the same ids makes sense. This client has done so until its
    time was over.
    """

    retry_after: Optional[float]
    """When to ask again, in seconds, if the server has said so."""

    status: Optional[int]
    """The status of the answer, if there was one."""

    problem: Optional[Problem]
    """All that the server has said, where it has said it as a problem."""

    token: Optional[str]
    """What the client has been told counts as seen; see `Session`."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        happened: Happened = "no",
        passing: bool = False,
        retry_after: Optional[float] = None,
        status: Optional[int] = None,
        problem: Optional[Problem] = None,
        token: Optional[str] = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.happened = happened
        self.passing = passing
        self.retry_after = retry_after
        self.status = status
        self.problem = problem
        self.token = token

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class Unreachable(AnabranchError):
    """Nobody has answered: the server is away, or the connection broke."""


class BadAnswer(AnabranchError):
    """What answers does not speak the protocol."""


class OtherLog(AnabranchError):
    """The server is about another log than the one that was opened."""


class OtherProtocol(AnabranchError):
    """The server speaks a version of the protocol that this client does not."""


class Conflict(AnabranchError):
    """Not appended: a stream is not in the expected state."""

    stream: str
    actual: Optional[int]
    """The version of its last event; None: it has none, or `untold`."""

    untold: bool
    """Whether how the stream is is not told, because it may not be read by who appends. Then it may be
    another condition of the append that does not hold.
    """


class Matched(AnabranchError):
    """Not appended: an event matches that was not to be there."""


class NotOwner(AnabranchError):
    """Not appended: a category belongs to a service, and this is not its lease."""

    category: str
    owner: str
    """The service; empty: the log itself."""


class Rejected(AnabranchError):
    """The entity has understood the command, and says no."""

    rejection: Rejection


class VersionMismatch(AnabranchError):
    """Not done: the entity is not at the expected version."""

    actual: Optional[int]
    """The version it is at; None: it has no events."""


class Held(AnabranchError):
    """Not registered: another service holds what is claimed."""


class LeaseLost(AnabranchError):
    """The lease has ended and somebody has followed, or it was released."""


def of_problem(problem: Problem, token: Optional[str] = None) -> AnabranchError:
    """The error that a problem of the HTTP doors is."""
    # After `maybe`, the same request tells what has become of it.
    passing = problem.retry_after_ms is not None or problem.happened == "maybe"
    after = problem.retry_after_ms
    said: Any = {
        "happened": problem.happened,
        "passing": passing and problem.happened != "yes",
        "retry_after": None if after is None else after / 1000,
        "status": problem.status,
        "problem": problem,
        "token": token,
    }
    if problem.code == "rejected" and problem.rejection is not None:
        rejected = Rejected(problem.code, problem.detail, **said)
        rejected.rejection = problem.rejection
        return rejected
    if problem.code == "version-mismatch":
        mismatch = VersionMismatch(problem.code, problem.detail, **said)
        mismatch.actual = problem.actual
        return mismatch
    kind = OtherLog if problem.code == "other-log" else AnabranchError
    return kind(problem.code, problem.detail, **said)


def of_append(problem: AppendProblem, status: Optional[int]) -> AnabranchError:
    """The error that the detail of a refused append is."""
    said: Any = {"status": status}
    code, words = problem.code, problem.message
    if problem.conflict is not None:
        conflict = Conflict(code, words, **said)
        conflict.stream, conflict.actual = problem.conflict.stream, problem.conflict.actual
        conflict.untold = problem.conflict.untold
        return conflict
    if problem.matched is not None:
        return Matched(code, words, **said)
    if problem.rejected is not None and problem.rejected.not_owner is not None:
        not_owner = NotOwner(code, words, **said)
        not_owner.category = problem.rejected.not_owner.category
        not_owner.owner = problem.rejected.not_owner.owner
        return not_owner
    if problem.unavailable is not None:
        after = problem.unavailable.retry_after_ms
        said["retry_after"] = None if after is None else after / 1000
        return AnabranchError(code, words, passing=True, **said)
    if problem.unknown is not None:
        return AnabranchError(code, words, happened="maybe", passing=True, **said)
    return AnabranchError(code or "rejected", words, **said)
