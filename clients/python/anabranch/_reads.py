"""Reads that go on where they were when the connection breaks: no gap, and no event twice."""

from __future__ import annotations

import json
import os
import time
from typing import Iterator, List, Optional, Protocol, Tuple

from . import _retry, _rpc
from ._rpc import Caller
from .errors import AnabranchError, Unreachable
from .log import Cut, Event, Filter, checked_cut
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


class Patience:
    """How long a reader waits, when it asks again, and when its patience is at its end.

    That is so when nothing new has come for as long as the patience is, however much the server says.
    Who follows is content with a server that is there and has nothing to say.
    """

    # A call that went on for so long was answered, even if there was nothing to say, in seconds.
    ANSWERED = 5.0

    def __init__(self, patience: float, idle: Optional[float] = None) -> None:
        self._again = _retry.Again()
        self._patience = _retry.seconds("patience", patience)
        # None: nobody follows.
        self._idle = None if idle is None else _retry.seconds("idle", idle)
        # Since when something new is waited for; None: it is not. What the reader's caller does
        # with an event is its own time.
        self._since: Optional[float] = None
        self._began = 0.0
        self._is_answered = False

    def begin(self) -> float:
        """A call is made: in how many seconds its answer must have begun."""
        self._began = time.monotonic()
        self._is_answered = False
        if self._since is None:
            self._since = self._began
        left = self._left()
        # Who follows with little patience would otherwise call a server away that is slow.
        return min(left if self._idle is None else max(left, 1.0), _retry.ATTEMPT_MOST)

    def answered(self) -> None:
        """The answer has begun."""
        self._is_answered = True

    def next(self) -> float:
        """In how many seconds the next message must have come whole."""
        return self._left() if self._idle is None else self._idle

    def came(self, is_new: bool) -> None:
        """A message has come, with something new in it or without."""
        if is_new:
            self._again.reset()
            self._since = None
        elif self._idle is None and self._left() <= 0:
            raise Unreachable("unreachable", "the server answers and gives nothing new", passing=True)

    def wait_or_raise(self, error: AnabranchError) -> None:
        """Waits before the next call, if there is to be one."""
        if not error.passing:
            raise error
        if self._idle is not None and self._is_answered:
            now = time.monotonic()
            has_lasted = now - self._began >= min(self.ANSWERED, self._idle)
            if has_lasted:
                self._again.reset()
            if has_lasted or self._since == self._began:
                # It was there until now.
                self._since = now
        wait = self._again.wait(error)
        if wait + _retry.least(self._patience) >= self._left():
            raise error
        time.sleep(wait)

    def _left(self) -> float:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return self._since + self._patience - now


class Reader:
    """A read of all streams, and where it is."""

    def __init__(
        self,
        caller: Caller,
        filter: Filter,
        cut: Optional[Cut],
        mode: wire.ReadMode,
        pace: Patience,
    ) -> None:
        self._caller = caller
        self._filter = filter.message()
        self._mode = mode
        self._pace = pace
        self._until: Optional[Cut] = None
        # What is behind the events that were given.
        self.cut: Cut = {} if cut is None else checked_cut(cut)

    def events(self) -> Iterator[Tuple[Event, Cut]]:
        """Each event, and the place behind it."""
        while True:
            try:
                for message in self._ask():
                    yield from self._take(message)
                return
            except AnabranchError as error:
                self._pace.wait_or_raise(error)

    def _ask(self) -> Iterator[wire.ReadResponse]:
        request = wire.ReadRequest(
            from_=wire.Cut(counts=dict(self.cut)), filter=self._filter, mode=self._mode
        )
        return self._caller.stream(_rpc.LOG + "Read", request, wire.ReadResponse, self._pace)

    def _take(self, message: wire.ReadResponse) -> Iterator[Tuple[Event, Cut]]:
        if message.problem is not None:
            raise read_failed(message.problem)
        is_new = False
        if message.until is not None and self._until is None:
            self._until = dict(message.until.counts)
            is_new = True
        for part in parts_of(message):
            for event in self._take_part(part):
                is_new = True
                yield event, dict(self.cut)
            is_new = self._reached(part) or is_new
        self._pace.came(is_new)

    def _take_part(self, part: wire.ReadResponse) -> Iterator[Event]:
        is_backward = self._mode == "READ_MODE_BACKWARD"
        for event in map(Event.of, part.events):
            partition, offset = event.position.partition, event.position.offset
            if self._until is not None and offset >= self._until.get(partition, 0):
                continue
            count = self.cut.get(partition, 0)
            if offset >= count if is_backward else offset < count:
                # It was given before. No server of ours does so.
                continue
            self.cut[partition] = offset if is_backward else offset + 1
            self._pace.came(True)
            yield event

    def _reached(self, part: wire.ReadResponse) -> bool:
        """Goes on to where the log says that this part reaches; whether that is further than before."""
        if part.reach is None or self._mode == "READ_MODE_BACKWARD":
            return False
        partition, to = part.reach.partition, part.reach.to
        if to <= self.cut.get(partition, 0):
            return False
        self.cut[partition] = to
        return True


def parts_of(message: wire.ReadResponse) -> List[wire.ReadResponse]:
    """The message itself, or one for each partition of events that came together."""
    return message.together or [message]


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
        self, caller: Caller, stream: str, start: int, end: Optional[int], backward: bool, pace: Patience
    ) -> None:
        self._caller = caller
        self._stream = stream
        self._start, self._end = start, end
        self._backward = backward
        self._pace = pace

    def events(self) -> Iterator[Event]:
        """Each event."""
        while True:
            try:
                for message in self._ask():
                    yield from self._take(message)
                return
            except AnabranchError as error:
                self._pace.wait_or_raise(error)

    def _take(self, message: wire.ReadResponse) -> Iterator[Event]:
        if message.problem is not None:
            raise read_failed(message.problem)
        is_new = False
        for event in (Event.of(event) for part in parts_of(message) for event in part.events):
            version = event.version
            if version < self._start or (self._end is not None and version >= self._end):
                # It was given before, or was not asked for. No server of ours does so.
                continue
            if self._backward:
                self._end = version
            else:
                self._start = version + 1
            self._pace.came(True)
            is_new = True
            yield event
        self._pace.came(is_new)

    def _ask(self) -> Iterator[wire.ReadResponse]:
        request = wire.ReadStreamRequest(
            stream=self._stream, from_=self._start, to=self._end, backward=self._backward
        )
        return self._caller.stream(_rpc.LOG + "ReadStream", request, wire.ReadResponse, self._pace)
