"""Commands and queries, and what a client has written and seen."""

from __future__ import annotations

import re
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional
from urllib.parse import quote, urlencode

from . import _http, _retry, _rpc
from ._rpc import Caller
from .errors import AnabranchError
from .log import Cut, Expect, checked_state
from .wire.http import CommandOutcome, QueryAnswer, RecordedEvent, SagaEnded

TOKEN = "anabranch-token"
# How long one attempt waits for the end of a saga, in seconds.
_SAGA_MOST = 8


@dataclass(frozen=True)
class Outcome:
    """What has become of a command."""

    stream: str
    command: str
    """Its id."""

    taken: bool
    """Whether a saga has taken it: it is durable, and what follows from it is done later. An
    entity has done it when it answers.
    """

    version: Optional[int]
    """The version of the entity's last event; None: it has none."""

    repeated: bool
    """Whether it had been done before, and this is the first outcome."""

    events: List[RecordedEvent]
    ended: Optional[SagaEnded]
    """How the saga that has taken it has ended, if that was waited for, and it has."""

    token: Optional[str]
    """What the client has now written and seen: a query with it sees this."""


@dataclass(frozen=True)
class Answer:
    """A view's answer, from one unchanging state of it."""

    value: Any
    cut: Cut
    """How far into the log it reaches."""

    stale: bool
    """Whether it lacks something that the client has seen, which it has allowed."""

    token: Optional[str]


class Session:
    """One client's commands and queries, one after the other: each sees what came before.

    Threads may share it; then one waits for the other. Who handles requests of many people has a
    session for each of them, and keeps its `token` with them.
    """

    def __init__(self, caller: Caller, timeout: float, token: Optional[str] = None) -> None:
        self._caller = caller
        self._timeout = timeout
        self._lock = threading.Lock()
        self.token = token

    def send(
        self,
        stream: str,
        command: str,
        data: Any = None,
        *,
        key: Optional[str] = None,
        expect: Optional[Expect] = None,
        traceparent: Optional[str] = None,
        causes: Optional[str] = None,
        wait: Optional[float] = None,
        timeout: Optional[float] = None,
    ) -> Outcome:
        """Sends a command to an entity, `category/key`, and waits until it is done. A saga has only
        taken it then; `wait` says for how many seconds its end is waited for.

        `key` names the command: sending it again with the same one gives the first outcome. If
        nothing is said, a new one is made and kept over all attempts. `expect` is the version
        that the entity must be at, `empty` or `exists`. `causes` are what the command depends on,
        positions and tokens such as `3:17, TOKEN`, or `root`; if nothing is said, what the session
        has seen. `timeout` is in seconds.
        """
        with self._lock:
            try:
                outcome = send(
                    self._caller,
                    stream,
                    command,
                    data,
                    key=key,
                    expect=expect,
                    traceparent=traceparent,
                    causes=causes,
                    wait=wait,
                    timeout=self._timeout if timeout is None else timeout,
                    token=self.token,
                )
            except AnabranchError as error:
                self.token = error.token or self.token
                raise
            self.token = outcome.token or self.token
            return outcome

    def catch_up(self, *, timeout: Optional[float] = None) -> None:
        """Everything that is in the log now counts as seen: what it asks from now on has it. So a
        view shows what was read or appended beside the session.
        """
        with self._lock:
            timeout = self._timeout if timeout is None else timeout
            self.token = head_token(self._caller, timeout)

    def query(
        self,
        view: str,
        name: str,
        arguments: Optional[Mapping[str, Any]] = None,
        *,
        policy: Optional[str] = None,
        timeout: Optional[float] = None,
    ) -> Answer:
        """Asks a view. `policy` says what it does while it is behind: `wait=5s`, `fail` or
        `stale`.
        """
        with self._lock:
            answer = query(
                self._caller,
                view,
                name,
                arguments,
                policy=policy,
                timeout=self._timeout if timeout is None else timeout,
                token=self.token,
            )
            self.token = answer.token or self.token
            return answer


def send(
    caller: Caller,
    stream: str,
    command: str,
    data: Any,
    *,
    key: Optional[str],
    expect: Optional[Expect],
    traceparent: Optional[str],
    causes: Optional[str],
    wait: Optional[float],
    timeout: float,
    token: Optional[str],
) -> Outcome:
    """Sends a command, again with the same key while that makes sense."""
    category, slash, rest = stream.partition("/")
    if not (category and slash and rest):
        raise ValueError(f"{stream!r} is no stream: it is written category/key")
    path = f"/commands/{_part(category)}/{_part(rest)}?"
    headers = {
        **caller.headers(),
        "content-type": "application/json",
        "idempotency-key": _header("an idempotency key", str(uuid.uuid4()) if key is None else key),
        **_token(token),
    }
    if expect is not None and checked_state(expect) != "any":
        name = "if-none-match" if expect == "empty" else "if-match"
        headers[name] = "*" if expect in ("empty", "exists") else f'"{int(expect)}"'
    if traceparent is not None:
        headers["traceparent"] = _header("a traceparent", traceparent)
    if causes is not None:
        headers["anabranch-causes"] = _header("causes", causes)
    body = _http.compose({} if data is None else data)
    deadline = time.monotonic() + (0 if wait is None else _retry.seconds("wait", wait))
    waited = False
    again = _retry.Again()

    def once(within: float) -> Outcome:
        nonlocal waited
        # The server says in time that it does not know; a while is kept for that to arrive.
        within_server = within - min(1.0, within / 4)
        wait_ms = max(int(within_server * 1000), 1)
        address = path + urlencode({"type": command, "timeout": f"{wait_ms}ms"})
        if wait is not None:
            left = deadline - time.monotonic()
            headers["prefer"] = f"wait={max(1, min(int(left), _SAGA_MOST, int(within_server)))}"
        got = caller.transport.ask("POST", address, headers, body, within)
        if got.status not in (200, 202):
            raise caller.refused(got)
        _rpc.check_media_type(got.headers, "application/json", got.status)
        # A server that does not wait is not asked again.
        waited = got.header("preference-applied") is not None
        outcome = _rpc.read(CommandOutcome, got.body, "maybe")
        return Outcome(
            stream=outcome.stream,
            command=outcome.command,
            taken=outcome.taken,
            version=outcome.version,
            repeated=outcome.repeated,
            events=outcome.events,
            ended=outcome.ended,
            token=got.header(TOKEN),
        )

    while True:
        outcome = _retry.until_done(timeout, once)
        is_over = not outcome.taken or outcome.ended is not None or not waited
        left = deadline - time.monotonic()
        if is_over or left <= 0:
            return outcome
        # A server that waits for less than it was asked to is not asked without a pause.
        time.sleep(min(again.pause(), left))


def query(
    caller: Caller,
    view: str,
    name: str,
    arguments: Optional[Mapping[str, Any]],
    *,
    policy: Optional[str],
    timeout: float,
    token: Optional[str],
) -> Answer:
    """Asks a view, again while that makes sense."""
    fields = _http.compose(dict(arguments or {})).decode("utf-8")
    path = f"/views/{_part(view)}/{_part(name)}?{urlencode({'q': fields})}"
    headers = {**caller.asking(), **_token(token)}
    if policy is not None:
        headers["anabranch-policy"] = _header("a policy", policy)

    def once(within: float) -> Answer:
        try:
            got = caller.transport.ask("GET", path, headers, b"", within)
            if got.status != 200:
                raise caller.refused(got)
            _rpc.check_media_type(got.headers, "application/json", got.status)
            answer = _rpc.read(QueryAnswer, got.body)
        except AnabranchError as error:
            # A query changes nothing.
            error.happened = "no"
            raise
        return Answer(
            value=answer.value,
            cut={int(partition): count for partition, count in answer.cut.items()},
            stale=answer.stale,
            token=got.header(TOKEN),
        )

    return _retry.until_done(timeout, once)


def head_token(caller: Caller, timeout: float) -> str:
    """What has seen everything that is in the log now."""

    def once(within: float) -> str:
        try:
            path = "/events?from=head&until=head"
            got = caller.transport.ask("GET", path, caller.asking(), b"", within)
            if got.status != 200:
                raise caller.refused(got)
            _rpc.check_media_type(got.headers, "text/event-stream", got.status)
            found = re.search(rb"^id: ?([\x20-\x7e]+)$", got.body, re.M)
            if found is None:
                raise _rpc.cut_off(caller.transport.url)
            return found[1].decode("ascii")
        except AnabranchError as error:
            error.happened = "no"
            raise

    return _retry.until_done(timeout, once)


def _part(text: str) -> str:
    """A part of a path. A slash in it is escaped too, so it stays one."""
    return quote(text, safe="")


def _token(token: Optional[str]) -> Mapping[str, str]:
    return {} if token is None else {TOKEN: _header("a token", token)}


def _header(what: str, value: str) -> str:
    if not value or not value.isascii() or not value.isprintable():
        raise ValueError(f"{what} is printable ASCII, not {value!r}")
    return value
