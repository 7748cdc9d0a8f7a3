"""Events and what is said of them: to append, stored, and wanted."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, List, Literal, Mapping, Optional, Sequence, Union

from . import _http
from ._shape import mapping, texts
from .wire import log as wire

Cut = Dict[int, int]
"""A set of prefixes: for each partition, how many of its first events are included."""

Expect = Union[int, Literal["any", "empty", "exists"]]
"""The state that a stream is expected to be in; a number: the version of its last event."""


@dataclass(frozen=True, order=True)
class Position:
    """Where an event stands in the log."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class Placed:
    """Where an event stands in the log and in its stream."""

    position: Position
    version: int


@dataclass(frozen=True)
class Appended:
    """What an append has done."""

    places: List[Placed]
    """Where the events stand, one for each, in order."""

    repeated: bool
    """Whether an earlier append with the same ids had written them."""


@dataclass
class NewEvent:
    """An event to append. Its id is made once, so appending the same event again is safe."""

    stream: str
    """As `category/key`."""

    type: str
    """What has happened, for example `OrderPlaced`."""

    data: Any = None
    """A JSON value; bytes if it is something else, which `content_type` then names."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """A UUID: unique for ever."""

    schema_version: int = 1
    content_type: Optional[str] = None
    """The media type of the data; None: application/json."""

    source: Optional[str] = None
    """The service that writes it."""

    correlation_id: Optional[str] = None
    causation_id: Optional[str] = None
    traceparent: Optional[str] = None
    tags: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def message(self) -> wire.NewEvent:
        """What the log takes."""
        said: Dict[str, Any] = {}
        if isinstance(self.data, (bytes, bytearray)):
            said["data"] = bytes(self.data)
        else:
            said["text"] = _http.compose(self.data).decode("utf-8")
        meta = wire.Meta(
            content_type=self.content_type,
            source=self.source,
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
            traceparent=self.traceparent,
            tags=texts("tags", self.tags),
            headers=mapping("headers", self.headers, str),
        )
        return wire.NewEvent(
            id=self.id,
            stream=self.stream,
            type=self.type,
            schema_version=self.schema_version,
            meta=None if meta == wire.Meta() else meta,
            **said,
        )


@dataclass(frozen=True)
class Kind:
    """A type of events, as `Lease.declare` tells it."""

    name: str
    version: int = 1
    """The schema version."""

    shape: Any = "unknown"
    """What the data looks like, as `anabranch schema types` prints it: `text`, `bool`,
    `{"unsigned": 64}`, `{"list": …}`, `{"fields": {"total": {"shape": …, "required": true}}}`.
    """


@dataclass(frozen=True)
class Event:
    """A stored event."""

    position: Position
    version: int
    """Its number in its stream, from 0."""

    recorded_at_us: int
    """When the log recorded it: microseconds since 1970, UTC. Information only."""

    id: str
    stream: str
    type: str
    schema_version: int
    content: bytes
    """Its data as it was appended, byte for byte."""

    meta: wire.Meta

    @property
    def category(self) -> str:
        """What stands before the first slash of its stream."""
        return self.stream.split("/", 1)[0]

    @property
    def key(self) -> str:
        """What stands behind it."""
        return self.stream.split("/", 1)[1]

    @property
    def data(self) -> Any:
        """Its data as a JSON value; None if there is none. Whole numbers are exact. Raises a
        `ValueError` where it is no JSON: see `meta.content_type`.
        """
        return json.loads(self.content) if self.content else None

    @staticmethod
    def of(message: wire.Event) -> Event:
        """The event that a message means."""
        return Event(
            position=_position(message.position),
            version=message.version,
            recorded_at_us=message.recorded_at_us,
            id=message.id,
            stream=message.stream,
            type=message.type,
            schema_version=message.schema_version,
            content=message.data or (message.text or "").encode("utf-8"),
            meta=message.meta or wire.Meta(),
        )


@dataclass(frozen=True)
class Filter:
    """Which events are wanted. What is empty wants everything; of categories, types and streams
    one must fit, of headers and tags all must.
    """

    categories: Sequence[str] = ()
    types: Sequence[str] = ()
    streams: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()

    def message(self) -> wire.Filter:
        """What the log takes."""
        headers = mapping("headers", self.headers, str)
        return wire.Filter(
            categories=texts("categories", self.categories),
            types=texts("types", self.types),
            streams=texts("streams", self.streams),
            headers=[wire.Header(name=name, value=value) for name, value in headers.items()],
            tags=texts("tags", self.tags),
        )


@dataclass(frozen=True)
class Match:
    """The type is one of these (none: any), and all of these tags are present."""

    types: Sequence[str] = ()
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class NoMatch:
    """No event that `after` does not include matches any of `items`."""

    items: Sequence[Match]
    after: Cut


def conditions(
    events: Sequence[NewEvent],
    expect: Union[Expect, Mapping[str, Expect], None],
    no_match: Optional[NoMatch],
) -> List[wire.Condition]:
    """What must hold for an append to be written."""
    if expect is None:
        expect = {}
    elif not isinstance(expect, Mapping):
        streams = {event.stream for event in events}
        if len(streams) > 1:
            raise ValueError("the events are of several streams: say what is expected of which, {stream: …}")
        expect = {stream: expect for stream in streams}
    made = [
        wire.Condition(stream=wire.StreamCondition(stream=stream, expect=_expect(state)))
        for stream, state in expect.items()
    ]
    if no_match is not None:
        items = [
            wire.QueryItem(types=texts("types", item.types), tags=texts("tags", item.tags))
            for item in no_match.items
        ]
        after = wire.Cut(counts=checked_cut(no_match.after))
        made.append(wire.Condition(no_match=wire.NoMatch(items=items, after=after)))
    return made


def checked_cut(cut: Cut) -> Cut:
    """The same cut. What names its partitions otherwise would be taken for one that has none."""
    counts = mapping("a cut", cut, int)
    if any(count < 0 for count in counts.values()):
        raise ValueError(f"a cut has counts from 0, and not {cut!r}")
    return counts


def checked_state(state: Expect) -> Expect:
    """The same state, if it is one. A misspelt one would otherwise be another, or none."""
    is_version = isinstance(state, int) and not isinstance(state, bool) and state >= 0
    if is_version or state in ("any", "empty", "exists"):
        return state
    raise ValueError(f"{state!r} is no state to expect: a version, any, empty or exists")


def _expect(state: Expect) -> wire.Expect:
    state = checked_state(state)
    if isinstance(state, int):
        return wire.Expect(at=state)
    return wire.Expect(**{state: True})


def _position(message: Optional[wire.Position]) -> Position:
    message = message or wire.Position()
    return Position(message.partition, message.offset)


def placed(message: wire.Placed) -> Placed:
    """Where an event stands."""
    return Placed(_position(message.position), message.version)
