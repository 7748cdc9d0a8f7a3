"""Calls of the log and the registry, by the Connect protocol with JSON.

Source: the Connect protocol, https://connectrpc.com/docs/protocol.
"""

from __future__ import annotations

import struct
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Protocol, Type, TypeVar

from . import _http
from ._http import Answer, Stream, Transport
from ._shape import Misshapen, Record
from .errors import AnabranchError, BadAnswer, OtherLog, Unreachable, of_append, of_problem
from .wire.http import Happened, Problem, Version
from .wire.log import AppendProblem

LOG = "/anabranch.log.v1.LogService/"
REGISTRY = "/anabranch.registry.v1.RegistryService/"
LOG_HEADER = "anabranch-log"
LEASE_HEADER = "anabranch-lease"
PROBLEM_JSON = "application/problem+json"

_ENVELOPE = struct.Struct(">BI")
_COMPRESSED, _END = 1, 2

# By these codes alone a call may have taken effect: see the description of the log's calls.
_MAYBE = ("unknown", "deadline_exceeded")
_PASSING = (*_MAYBE, "unavailable", "aborted")

R = TypeVar("R", bound=Record)


class Pace(Protocol):
    """How long a call whose answers go on is waited for."""

    def begin(self) -> float:
        """A call is made: in how many seconds its answer must have begun."""

    def answered(self) -> None:
        """The answer has begun."""

    def next(self) -> float:
        """In how many seconds the next message must have come whole."""


class Caller:
    """Calls at one server, each meant for one log."""

    def __init__(self, transport: Transport, log: str) -> None:
        self.transport = transport
        self.log = log
        self.leases: List[str] = []
        """The tokens of the leases that are held: what is asked for is shown to these services."""

    def headers(self) -> Dict[str, str]:
        """What goes along with every request."""
        return {LOG_HEADER: self.log} if self.log else {}

    def asking(self) -> Dict[str, str]:
        """What goes along with every request that changes nothing."""
        shown = ", ".join(self.leases)
        return {**self.headers(), **({LEASE_HEADER: shown} if shown else {})}

    def call(
        self, path: str, request: Record, answer: Type[R], within: float, changes: bool = False
    ) -> R:
        """One call; `changes` says whether it changes anything."""
        headers = {
            **(self.headers() if changes else self.asking()),
            "content-type": "application/json",
            "connect-protocol-version": "1",
            "connect-timeout-ms": str(max(int(within * 1000), 1)),
        }
        body = _http.compose(request.write())
        until = time.monotonic() + within
        try:
            got = self.transport.ask("POST", path, headers, body, within)
            if got.status != 200:
                raise self.refused(got)
            check_media_type(got.headers, "application/json", got.status)
            return read(answer, got.body, "maybe" if changes else "no")
        except AnabranchError as error:
            if not changes:
                error.happened = "no"
            raise self._named(error, until) from None

    def stream(self, path: str, request: Record, answer: Type[R], pace: Pace) -> Iterator[R]:
        """A call whose answers go on until the server ends it in order."""
        headers = {
            **self.asking(),
            "content-type": "application/connect+json",
            "connect-protocol-version": "1",
        }
        body = _http.compose(request.write())
        within = pace.begin()
        until = time.monotonic() + within
        stream: Optional[Stream] = None
        try:
            stream = self.transport.stream(path, headers, _ENVELOPE.pack(0, len(body)) + body, within)
            if stream.status != 200:
                content = stream.read(1 << 20)
                raise self.refused(Answer(stream.status, stream.headers, content))
            check_media_type(stream.headers, "application/connect+json", stream.status)
            pace.answered()
            for content in self._messages(stream, pace):
                yield read(answer, content)
        except AnabranchError as error:
            error.happened = "no"
            raise self._named(error, until) from None
        finally:
            if stream is not None:
                stream.close()

    def version(self, within: float) -> Version:
        """What serves."""
        got = self.transport.ask("GET", "/version", {}, b"", within)
        if got.status != 200:
            raise self.refused(got)
        check_media_type(got.headers, "application/json", got.status)
        return read(Version, got.body)

    def _named(self, error: AnabranchError, until: float) -> AnabranchError:
        """The same error, by its own name if it is that the server is about another log: calls
        say that in words alone. Where there is no time left to ask, it stays as it is.
        """
        if error.code != "failed-precondition" or not self.log:
            return error
        try:
            found = self.version(until - time.monotonic()).log
        except AnabranchError:
            return error
        return error if found == self.log else other_log(self.log, found)

    def _messages(self, stream: Stream, pace: Pace) -> Iterator[bytes]:
        while True:
            stream.allow(pace.next())
            head = stream.read(_ENVELOPE.size)
            if len(head) < _ENVELOPE.size:
                raise cut_off(self.transport.url)
            flags, length = _ENVELOPE.unpack(head)
            if flags & _COMPRESSED or flags & ~(_COMPRESSED | _END):
                raise BadAnswer("bad-answer", f"a message has the flags {flags:#x}, which nobody asked for")
            if length > _http.ANSWER_BYTES_MAX:
                raise BadAnswer(
                    "bad-answer",
                    f"a message is said to have {length} bytes; at most {_http.ANSWER_BYTES_MAX} are taken in",
                )
            content = stream.read(length)
            if len(content) < length:
                raise cut_off(self.transport.url)
            if flags & _END:
                end = _http.parse(content)
                error = end.get("error") if isinstance(end, dict) else None
                if error is not None:
                    raise self._error(error, None, content)
                return
            yield content

    def refused(self, answer: Answer) -> AnabranchError:
        """The error that an answer without success is."""
        if answer.media_type == PROBLEM_JSON:
            return problem_of(answer)
        if answer.media_type == "application/json":
            parsed = _http.parse(answer.body, "maybe", answer.status)
            if isinstance(parsed, dict) and isinstance(parsed.get("code"), str):
                return self._error(parsed, answer.status, answer.body)
        return foreign(answer)

    def _error(self, error: Mapping[str, Any], status: Optional[int], body: bytes) -> AnabranchError:
        code = error.get("code")
        words = error.get("message") or "the server gives no reason"
        if not isinstance(code, str) or not isinstance(words, str):
            return BadAnswer("bad-answer", f"an error without a code: {body[:80]!r}", happened="maybe")
        details = error.get("details")
        for detail in details if isinstance(details, list) else []:
            if isinstance(detail, dict) and detail.get("type") == "anabranch.log.v1.AppendProblem":
                if isinstance(detail.get("debug"), dict):
                    try:
                        return of_append(AppendProblem.read(detail["debug"]), status)
                    except Misshapen:
                        break
        happened: Happened = "maybe" if code in _MAYBE else "no"
        return AnabranchError(
            code.replace("_", "-"),
            words,
            happened=happened,
            passing=code in _PASSING,
            status=status,
        )


def read(record: Type[R], body: bytes, happened: Happened = "no") -> R:
    """A body as a record."""
    try:
        return record.read(_http.parse(body, happened))
    except Misshapen as error:
        raise BadAnswer("bad-answer", f"the answer is not understood: {error}", happened=happened) from None


def check_media_type(headers: Mapping[str, str], wanted: str, status: int) -> None:
    """Refuses an answer that is something else."""
    found = _http.media_type(headers)
    if found != wanted:
        raise BadAnswer(
            "bad-answer",
            f"the answer is {found or 'of no type'} and not {wanted}. Is this an Anabranch server?",
            happened="maybe",
            status=status,
        )


def lacking(what: str, happened: Happened = "no") -> BadAnswer:
    """An answer without what it is there for. Many a server answers everything with an empty object."""
    return BadAnswer("bad-answer", f"the answer is not understood: {what}", happened=happened)


def problem_of(answer: Answer) -> AnabranchError:
    """The error that a problem document is."""
    return of_problem(read(Problem, answer.body, "maybe"), answer.header("anabranch-token"))


def foreign(answer: Answer) -> AnabranchError:
    """The error that somebody between here and the server gives, such as a proxy."""
    after: Optional[float] = None
    said = answer.header("retry-after")
    if said is not None and said.isascii() and said.isdigit():
        after = float(said)
    start = answer.body[:80].decode("utf-8", "replace")
    passing = answer.status in (408, 429, 502, 503, 504)
    code = "unavailable" if passing else "bad-answer"
    kind = AnabranchError if passing else BadAnswer
    return kind(
        code,
        f"status {answer.status} without a problem of Anabranch; it begins with {start!r}",
        # Whoever says so may have asked the server before.
        happened="no" if answer.status == 429 else "maybe",
        passing=passing,
        retry_after=after,
        status=answer.status,
    )


def cut_off(url: str) -> Unreachable:
    """An answer that ends before its end."""
    return Unreachable(
        "unreachable", f"the answer of {url} was cut off", happened="maybe", passing=True
    )


def other_log(meant: str, found: str) -> OtherLog:
    """The server is about another log."""
    return OtherLog(
        "other-log",
        f"the log {meant} is meant, and the server is about {found}; nothing was changed",
    )
