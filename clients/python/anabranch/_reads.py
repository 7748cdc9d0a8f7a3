"""Reads that go on where they were when the connection breaks: no gap, and no event twice."""

from __future__ import annotations

import json
import os
import time
from typing import Iterator, Optional, Protocol, Tuple

from . import _retry, _rpc
from ._rpc import Caller
from .errors import AnabranchError
from .log import Cut, Event, Filter
from .wire import log as wire

IDLE = 60.0
"""How long a server may say nothing before a reader asks again, in seconds."""


class Place(Protocol):
    """Keeps a place of a reader. Anything with these two methods will do."""

    def load(self) -> Optional[str]:
        """The text that was saved last; None: nothing was."""

    def save(self, text: str) -> None:
        """Keeps a text; when it returns, `load` gives it, also after a crash."""


class FilePlace:
    """A place in a file, replaced as a whole."""

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        self._path = os.fspath(path)

    def load(self) -> Optional[str]:
        """What the file holds."""
        try:
            with open(self._path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def save(self, text: str) -> None:
        """Writes it beside, and renames."""
        fresh = f"{self._path}.new"
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)


def write_place(log: str, cut: Cut) -> str:
    """A place as a text. All clients write it alike."""
    counts = {str(partition): str(count) for partition, count in sorted(cut.items())}
    return json.dumps({"log": log, "cut": counts}, separators=(",", ":"))


def read_place(log: str, text: Optional[str]) -> Cut:
    """The place that a text says; raises if it is one in another log."""
    if text is None:
        return {}
    try:
        parsed = json.loads(text)
        found, counts = parsed["log"], parsed["cut"]
        cut = {int(partition): int(count) for partition, count in counts.items()}
        if not isinstance(found, str) or any(number < 0 for item in cut.items() for number in item):
            raise ValueError("not a place")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AnabranchError(
            "bad-place",
            f"what was kept is no place: {text[:80]!r}; remove it to read everything again",
        ) from None
    if found != log:
        raise AnabranchError(
            "other-log",
            f"the place is one in the log {found}, and this is {log}; remove it to read everything again",
        )
    return cut


class _Again:
    """When a reader asks again, and when its patience is at its end."""

    # A call that went on for so long was answered, even if there was nothing to say, in seconds.
    ANSWERED = 5.0

    def __init__(self, patience: float, idle: float) -> None:
        self._again = _retry.Again()
        self._patience = patience
        self._idle = idle
        self._failing: Optional[float] = None
        self._began = 0.0

    def begin(self) -> None:
        """A call is made."""
        self._began = time.monotonic()

    def answered(self) -> None:
        """The server has said something."""
        self._again.reset()
        self._failing = None

    def wait_or_raise(self, error: AnabranchError) -> None:
        """Waits before the next call, if there is to be one."""
        if not error.passing:
            raise error
        now = time.monotonic()
        if now - self._began > min(self.ANSWERED, self._idle):
            self.answered()
        if self._failing is None:
            self._failing = now
        wait = self._again.wait(error)
        if now + wait - self._failing > self._patience:
            raise error
        time.sleep(wait)


class Reader:
    """A read of all streams, and where it is."""

    def __init__(
        self,
        caller: Caller,
        filter: Filter,
        cut: Optional[Cut],
        mode: wire.ReadMode,
        patience: float,
        idle: float = IDLE,
    ) -> None:
        self._caller = caller
        self._idle = idle
        self._filter = filter.message()
        self._mode = mode
        self._patience = patience
        self._until: Optional[Cut] = None
        # What is behind the events that were given; None: a backward read begins at the head.
        self.cut: Optional[Cut] = None if cut is None else dict(cut)
        if cut is None and mode != "READ_MODE_BACKWARD":
            self.cut = {}

    def events(self) -> Iterator[Tuple[Event, Cut]]:
        """Each event, and the place behind it."""
        again = _Again(self._patience, self._idle)
        while True:
            again.begin()
            try:
                for message in self._ask():
                    again.answered()
                    yield from self._take(message)
                return
            except AnabranchError as error:
                again.wait_or_raise(error)

    def _ask(self) -> Iterator[wire.ReadResponse]:
        request = wire.ReadRequest(
            from_=None if self.cut is None else wire.Cut(counts=dict(self.cut)),
            filter=self._filter,
            mode=self._mode,
        )
        within = _retry.ATTEMPT_MOST
        path = _rpc.LOG + "Read"
        return self._caller.stream(path, request, wire.ReadResponse, within, self._idle)

    def _take(self, message: wire.ReadResponse) -> Iterator[Tuple[Event, Cut]]:
        if message.problem is not None:
            raise read_failed(message.problem)
        if message.until is not None and self._until is None:
            self._until = dict(message.until.counts)
        is_backward = self._mode == "READ_MODE_BACKWARD"
        cut = {} if self.cut is None else self.cut
        for event in map(Event.of, message.events):
            part, offset = event.position.partition, event.position.offset
            if self._until is not None and offset >= self._until.get(part, 0):
                continue
            if not is_backward and offset < cut.get(part, 0):
                # It was given before. No server of ours does so.
                continue
            cut[part] = offset if is_backward else max(cut.get(part, 0), offset + 1)
            self.cut = cut
            yield event, dict(cut)
        if message.reach is not None and not is_backward:
            part = message.reach.partition
            cut[part] = max(cut.get(part, 0), message.reach.to)
            self.cut = cut


def read_failed(problem: wire.ReadProblem) -> AnabranchError:
    """Why events cannot be read."""
    words = problem.message
    if problem.closed:
        # The server ends; it, or another, is asked again.
        return AnabranchError("unavailable", words, passing=True)
    if problem.damaged is not None:
        return AnabranchError("damaged", words)
    if problem.cut_beyond_head is not None:
        return AnabranchError("out-of-range", words)
    if problem.unsupported is not None:
        return AnabranchError("unimplemented", words)
    if problem.invalid is not None:
        return AnabranchError("invalid-argument", words)
    return AnabranchError("unavailable", words)


class StreamReader:
    """A read of one stream, and where it is."""

    def __init__(
        self, caller: Caller, stream: str, start: int, end: Optional[int], backward: bool, patience: float
    ) -> None:
        self._caller = caller
        self._stream = stream
        self._start, self._end = start, end
        self._backward = backward
        self._patience = patience

    def events(self) -> Iterator[Event]:
        """Each event."""
        again = _Again(self._patience, IDLE)
        while True:
            again.begin()
            try:
                for message in self._ask():
                    again.answered()
                    if message.problem is not None:
                        raise read_failed(message.problem)
                    for event in map(Event.of, message.events):
                        if self._backward:
                            self._end = event.version
                        else:
                            self._start = event.version + 1
                        yield event
                return
            except AnabranchError as error:
                again.wait_or_raise(error)

    def _ask(self) -> Iterator[wire.ReadResponse]:
        request = wire.ReadStreamRequest(
            stream=self._stream, from_=self._start, to=self._end, backward=self._backward
        )
        within = _retry.ATTEMPT_MOST
        return self._caller.stream(_rpc.LOG + "ReadStream", request, wire.ReadResponse, within, IDLE)
