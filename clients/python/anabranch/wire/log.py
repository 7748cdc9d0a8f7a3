"""The JSON forms of the calls of a log.

Made by clients/generate.py from
crates/rpc/proto/anabranch/log/v1/log.proto: change that, and run it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Literal, Optional, get_args

from .. import _shape as s

ReadMode = Literal[
    "READ_MODE_UNSPECIFIED",
    "READ_MODE_TO_HEAD",
    "READ_MODE_FOLLOW",
    "READ_MODE_BACKWARD",
]
"""How far, and which way, to read."""

Scope = Literal[
    "SCOPE_UNSPECIFIED",
    "SCOPE_STREAM",
    "SCOPE_PARTITION",
    "SCOPE_LOG",
]
"""How far an append may reach."""


@dataclass(frozen=True)
class Apart(s.Record):
    """Two streams that one append names and that stand in different partitions."""

    first: str = s.part("first", s.text())

    first_in: int = s.part("firstIn", s.uint32())

    second: str = s.part("second", s.text())

    second_in: int = s.part("secondIn", s.uint32())


@dataclass(frozen=True)
class AppendProblem(s.Record):
    """Why an append was not acknowledged."""

    message: str = s.part("message", s.text())
    """In words, and what to do."""

    conflict: Optional[Conflict] = s.part("conflict", s.optional(s.ref(lambda: Conflict)))

    matched: Optional[Position] = s.part("matched", s.optional(s.ref(lambda: Position)))

    rejected: Optional[Rejected] = s.part("rejected", s.optional(s.ref(lambda: Rejected)))

    unavailable: Optional[Unavailable] = s.part("unavailable", s.optional(s.ref(lambda: Unavailable)))

    unknown: Optional[str] = s.part("unknown", s.optional(s.text()))
    """It may have been written: repeat it with the same ids to find out. In words, why."""

    code: str = s.part("code", s.text())
    """A stable word for it, such as `conflict` or `not-owner`."""


@dataclass(frozen=True)
class AppendRequest(s.Record):
    """AppendRequest of the protocol."""

    events: List[NewEvent] = s.part("events", s.many(s.ref(lambda: NewEvent)))

    conditions: List[Condition] = s.part("conditions", s.many(s.ref(lambda: Condition)))

    lease: str = s.part("lease", s.text())
    """The token of the lease of the service that appends, as `anabranch.registry.v1` has given it.
    A category that has an owner takes no append without it. In `AppendMany`, see `leases`.
    """


@dataclass(frozen=True)
class AppendResponse(s.Record):
    """AppendResponse of the protocol."""

    places: List[Placed] = s.part("places", s.many(s.ref(lambda: Placed)))
    """Where the events stand, one for each, in order."""

    repeated: bool = s.part("repeated", s.boolean())
    """Whether an earlier append with the same ids had written them."""

    closure: Optional[Cut] = s.part("closure", s.optional(s.ref(lambda: Cut)))
    """A cut that includes the events and everything that they depend on, in every partition.
    Absent: what the places include.
    """


@dataclass(frozen=True)
class BeyondHead(s.Record):
    """A cut that names events that do not exist yet."""

    cut: Optional[Cut] = s.part("cut", s.optional(s.ref(lambda: Cut)))

    head: Optional[Cut] = s.part("head", s.optional(s.ref(lambda: Cut)))


@dataclass(frozen=True)
class Capabilities(s.Record):
    """What a log can do."""

    engine: str = s.part("engine", s.text())

    partitions: int = s.part("partitions", s.uint32())

    batches: Scope = s.part("batches", s.choice(*get_args(Scope)))
    """How far a batch may reach and still be atomic."""

    total_order: bool = s.part("totalOrder", s.boolean())

    backward_reads: bool = s.part("backwardReads", s.boolean())

    survives_restart: bool = s.part("survivesRestart", s.boolean())

    survives_power_cut: bool = s.part("survivesPowerCut", s.boolean())

    limits: Optional[Limits] = s.part("limits", s.optional(s.ref(lambda: Limits)))

    conditions: Scope = s.part("conditions", s.choice(*get_args(Scope)))
    """Which streams a condition may name, beside those that the batch writes."""

    no_match: Scope = s.part("noMatch", s.choice(*get_args(Scope)))
    """How far an append may look for what matches a query. Unspecified: it cannot."""


@dataclass(frozen=True)
class Condition(s.Record):
    """Something that must hold for an append to be written."""

    stream: Optional[StreamCondition] = s.part("stream", s.optional(s.ref(lambda: StreamCondition)))

    no_match: Optional[NoMatch] = s.part("noMatch", s.optional(s.ref(lambda: NoMatch)))


@dataclass(frozen=True)
class Conflict(s.Record):
    """Did not happen: a stream is not in the expected state."""

    stream: str = s.part("stream", s.text())

    expected: Optional[Expect] = s.part("expected", s.optional(s.ref(lambda: Expect)))

    actual: Optional[int] = s.part("actual", s.optional(s.quoted64()))
    """Its last version; absent: it is empty, or `untold`."""

    untold: bool = s.part("untold", s.boolean())
    """Who appends may not read the stream, so it is not told how that is, nor which condition of
    the append it is that does not hold.
    """


@dataclass(frozen=True)
class Cut(s.Record):
    """A set of prefixes: for each partition, how many of its first events are included."""

    counts: Dict[int, int] = s.part("counts", s.table(s.uint32(), s.quoted64()))


@dataclass(frozen=True)
class Damaged(s.Record):
    """Stored bytes are damaged."""

    file: str = s.part("file", s.text())

    offset: int = s.part("offset", s.quoted64())

    what: str = s.part("what", s.text())

    first: Optional[Position] = s.part("first", s.optional(s.ref(lambda: Position)))
    """The first and the last event that cannot be read."""

    last: Optional[Position] = s.part("last", s.optional(s.ref(lambda: Position)))


@dataclass(frozen=True)
class DescribeRequest(s.Record):
    """DescribeRequest of the protocol."""

    protocol: int = s.part("protocol", s.uint32())
    """The newest version of this protocol that the client speaks; 0: any."""


@dataclass(frozen=True)
class DescribeResponse(s.Record):
    """DescribeResponse of the protocol."""

    protocol: int = s.part("protocol", s.uint32())
    """The version of the protocol that is spoken; see the request."""

    server: str = s.part("server", s.text())
    """The version of the server's program."""

    log: str = s.part("log", s.text())
    """The log's name: the same for as long as the log exists."""

    capabilities: Optional[Capabilities] = s.part("capabilities", s.optional(s.ref(lambda: Capabilities)))

    layout: Optional[Layout] = s.part("layout", s.optional(s.ref(lambda: Layout)))
    """Absent: the log has one partition."""


@dataclass(frozen=True)
class Event(s.Record):
    """A stored event."""

    position: Optional[Position] = s.part("position", s.optional(s.ref(lambda: Position)))

    version: int = s.part("version", s.quoted64())

    recorded_at_us: int = s.part("recordedAtUs", s.quoted64())
    """When the log recorded it: microseconds since 1970, UTC. Information only."""

    id: str = s.part("id", s.text())

    stream: str = s.part("stream", s.text())

    type: str = s.part("type", s.text())

    schema_version: int = s.part("schemaVersion", s.uint32())

    data: Optional[bytes] = s.part("data", s.optional(s.octets()))

    text: Optional[str] = s.part("text", s.optional(s.text()))
    """What is JSON comes as text."""

    meta: Optional[Meta] = s.part("meta", s.optional(s.ref(lambda: Meta)))


@dataclass(frozen=True)
class Expect(s.Record):
    """The state that a stream is expected to be in."""

    any: Optional[bool] = s.part("any", s.optional(s.boolean()))
    """Any state. Its value says nothing, as those of the next two."""

    empty: Optional[bool] = s.part("empty", s.optional(s.boolean()))
    """No events yet."""

    exists: Optional[bool] = s.part("exists", s.optional(s.boolean()))
    """At least one event."""

    at: Optional[int] = s.part("at", s.optional(s.quoted64()))
    """The last event has this version."""


@dataclass(frozen=True)
class Filter(s.Record):
    """Which events are wanted. What is empty wants everything; of categories, types and streams
    one must fit, of headers and tags all must.
    """

    categories: List[str] = s.part("categories", s.many(s.text()))

    types: List[str] = s.part("types", s.many(s.text()))

    streams: List[str] = s.part("streams", s.many(s.text()))

    headers: List[Header] = s.part("headers", s.many(s.ref(lambda: Header)))

    tags: List[str] = s.part("tags", s.many(s.text()))


@dataclass(frozen=True)
class FindRequest(s.Record):
    """FindRequest of the protocol."""

    id: str = s.part("id", s.text())


@dataclass(frozen=True)
class FindResponse(s.Record):
    """FindResponse of the protocol."""

    placed: Optional[Placed] = s.part("placed", s.optional(s.ref(lambda: Placed)))
    """Absent: it was not written, or who asks may not read it."""


@dataclass(frozen=True)
class Group(s.Record):
    """Categories that share some partitions."""

    name: str = s.part("name", s.text())

    categories: List[str] = s.part("categories", s.many(s.text()))

    count: int = s.part("count", s.uint32())
    """How many partitions it has."""


@dataclass(frozen=True)
class HeadRequest(s.Record):
    """HeadRequest of the protocol."""


@dataclass(frozen=True)
class HeadResponse(s.Record):
    """HeadResponse of the protocol."""

    head: Optional[Cut] = s.part("head", s.optional(s.ref(lambda: Cut)))


@dataclass(frozen=True)
class Header(s.Record):
    """Header of the protocol."""

    name: str = s.part("name", s.text())

    value: str = s.part("value", s.text())


@dataclass(frozen=True)
class Io(s.Record):
    """The disk or the network refused."""

    what: str = s.part("what", s.text())

    reason: str = s.part("reason", s.text())


@dataclass(frozen=True)
class Layout(s.Record):
    """Which partition each stream stands in. Either there is one, which has every stream, or
    partition 0 has those of the platform, the partitions of the groups follow in their order,
    and those of the rest come last. docs/guide/partitions.md says how a key picks one of a
    group's.
    """

    groups: List[Group] = s.part("groups", s.many(s.ref(lambda: Group)))

    rest: int = s.part("rest", s.uint32())
    """How many partitions have the streams that no group names; 0: there is one partition."""


@dataclass(frozen=True)
class Limits(s.Record):
    """How large the parts of an append may be."""

    data_bytes_max: int = s.part("dataBytesMax", s.quoted64())

    headers_bytes_max: int = s.part("headersBytesMax", s.quoted64())

    batch_bytes_max: int = s.part("batchBytesMax", s.quoted64())

    batch_events_max: int = s.part("batchEventsMax", s.quoted64())

    tags_max: int = s.part("tagsMax", s.quoted64())

    conditions_max: int = s.part("conditionsMax", s.quoted64())


@dataclass(frozen=True)
class Meta(s.Record):
    """What an event may carry beside its data."""

    content_type: Optional[str] = s.part("contentType", s.optional(s.text()))
    """Media type of the data; absent: application/json."""

    source: Optional[str] = s.part("source", s.optional(s.text()))
    """The service that wrote it."""

    causation_id: Optional[str] = s.part("causationId", s.optional(s.text()))
    """Id of the command or event that caused it."""

    correlation_id: Optional[str] = s.part("correlationId", s.optional(s.text()))
    """Id of the whole story it belongs to."""

    traceparent: Optional[str] = s.part("traceparent", s.optional(s.text()))
    """W3C trace context."""

    tags: List[str] = s.part("tags", s.many(s.text()))

    headers: Dict[str, str] = s.part("headers", s.table(s.text(), s.text()))

    causes: Optional[Cut] = s.part("causes", s.optional(s.ref(lambda: Cut)))


@dataclass(frozen=True)
class NewEvent(s.Record):
    """An event to append."""

    id: str = s.part("id", s.text())
    """A UUID: unique for ever, and what makes an append safe to repeat."""

    stream: str = s.part("stream", s.text())
    """As `category/key`."""

    type: str = s.part("type", s.text())

    schema_version: int = s.part("schemaVersion", s.uint32())
    """From 1; 0 means 1."""

    data: Optional[bytes] = s.part("data", s.optional(s.octets()))
    """Any bytes."""

    text: Optional[str] = s.part("text", s.optional(s.text()))
    """The same for text, such as JSON."""

    meta: Optional[Meta] = s.part("meta", s.optional(s.ref(lambda: Meta)))


@dataclass(frozen=True)
class NoMatch(s.Record):
    """No event that `after` does not include matches any of `items`."""

    items: List[QueryItem] = s.part("items", s.many(s.ref(lambda: QueryItem)))

    after: Optional[Cut] = s.part("after", s.optional(s.ref(lambda: Cut)))


@dataclass(frozen=True)
class NotOwner(s.Record):
    """A category belongs to a service, and the append does not come with its lease."""

    category: str = s.part("category", s.text())

    owner: str = s.part("owner", s.text())
    """The service; empty: the log itself."""

    why: str = s.part("why", s.text())
    """In words, and what to do."""


@dataclass(frozen=True)
class Packed(s.Record):
    """Events as a log stores them: smaller than as messages, and quicker to write and to read.
    They come in runs of events with consecutive offsets that one append has written; each of
    the lists has one entry for each run.
    """

    partition: int = s.part("partition", s.uint32())

    records: bytes = s.part("records", s.octets())
    """The records of all runs, one run after another, as docs/formats/segment.md has them below
    "Record".
    """

    lengths: List[int] = s.part("lengths", s.many(s.uint32()))
    """The bytes of each."""

    firsts: List[int] = s.part("firsts", s.many(s.quoted64()))
    """The offset of its first event."""

    counts: List[int] = s.part("counts", s.many(s.uint32()))

    recorded_at_us: List[int] = s.part("recordedAtUs", s.many(s.quoted64()))
    """When it was recorded: microseconds since 1970, UTC."""


@dataclass(frozen=True)
class Placed(s.Record):
    """Where an event stands in the log and in its stream."""

    position: Optional[Position] = s.part("position", s.optional(s.ref(lambda: Position)))

    version: int = s.part("version", s.quoted64())


@dataclass(frozen=True)
class Position(s.Record):
    """Where an event stands in the log."""

    partition: int = s.part("partition", s.uint32())

    offset: int = s.part("offset", s.quoted64())


@dataclass(frozen=True)
class QueryItem(s.Record):
    """The type is one of these (none: any), and all of these tags are present."""

    types: List[str] = s.part("types", s.many(s.text()))

    tags: List[str] = s.part("tags", s.many(s.text()))


@dataclass(frozen=True)
class Reach(s.Record):
    """Part of a partition."""

    partition: int = s.part("partition", s.uint32())

    from_: int = s.part("from", s.quoted64())
    """From this offset …"""

    to: int = s.part("to", s.quoted64())
    """… to before this one."""


@dataclass(frozen=True)
class ReadProblem(s.Record):
    """Why events cannot be read."""

    message: str = s.part("message", s.text())
    """In words, and what to do."""

    damaged: Optional[Damaged] = s.part("damaged", s.optional(s.ref(lambda: Damaged)))

    io: Optional[Io] = s.part("io", s.optional(s.ref(lambda: Io)))

    cut_beyond_head: Optional[BeyondHead] = s.part("cutBeyondHead", s.optional(s.ref(lambda: BeyondHead)))

    unsupported: Optional[str] = s.part("unsupported", s.optional(s.text()))
    """What the log cannot do."""

    invalid: Optional[str] = s.part("invalid", s.optional(s.text()))
    """The read asks for what the log does not have; in words."""

    closed: Optional[bool] = s.part("closed", s.optional(s.boolean()))
    """The log was closed."""


@dataclass(frozen=True)
class ReadRequest(s.Record):
    """ReadRequest of the protocol."""

    from_: Optional[Cut] = s.part("from", s.optional(s.ref(lambda: Cut)))
    """What is passed over; absent: nothing. Backward: what is read."""

    filter: Optional[Filter] = s.part("filter", s.optional(s.ref(lambda: Filter)))

    mode: ReadMode = s.part("mode", s.choice(*get_args(ReadMode)))

    packed: bool = s.part("packed", s.boolean())
    """Whether events may come as `Packed`."""

    reach_only: bool = s.part("reachOnly", s.boolean())
    """Whether events need not come where the log says their reach: for who wants to know how far
    it goes.
    """


@dataclass(frozen=True)
class ReadResponse(s.Record):
    """Events, in the order of the read."""

    events: List[Event] = s.part("events", s.many(s.ref(lambda: Event)))

    reach: Optional[Reach] = s.part("reach", s.optional(s.ref(lambda: Reach)))
    """The part of a partition that the events stand for, if the log says so: whoever has taken
    them in has seen everything there that passes the filter.
    """

    appends: List[int] = s.part("appends", s.many(s.quoted64()))
    """The first offset of each append among the events, ascending; only with a reach."""

    until: Optional[Cut] = s.part("until", s.optional(s.ref(lambda: Cut)))
    """In the first message of a read to the head, and of a stream: where that is. What is read
    ends there.
    """

    problem: Optional[ReadProblem] = s.part("problem", s.optional(s.ref(lambda: ReadProblem)))
    """In the last message of a read that failed; the events given before stay valid."""

    packed: Optional[Packed] = s.part("packed", s.optional(s.ref(lambda: Packed)))
    """Events in another form, for who has asked for it; then `events` is empty."""

    together: List[ReadResponse] = s.part("together", s.many(s.ref(lambda: ReadResponse)))
    """Events of several partitions that came into the log together: a message for each partition,
    with its reach, and none of its own here. Who takes them in takes in all, or none.
    """


@dataclass(frozen=True)
class ReadStreamRequest(s.Record):
    """ReadStreamRequest of the protocol."""

    stream: str = s.part("stream", s.text())

    from_: int = s.part("from", s.quoted64())
    """The first version."""

    to: Optional[int] = s.part("to", s.optional(s.quoted64()))
    """Behind the last version; absent: all there are."""

    backward: bool = s.part("backward", s.boolean())

    packed: bool = s.part("packed", s.boolean())
    """Whether events may come as `Packed`."""


@dataclass(frozen=True)
class Rejected(s.Record):
    """Did not happen and never will."""

    id_taken: Optional[TakenId] = s.part("idTaken", s.optional(s.ref(lambda: TakenId)))

    partly_written: Optional[TakenId] = s.part("partlyWritten", s.optional(s.ref(lambda: TakenId)))

    cut_beyond_head: Optional[BeyondHead] = s.part("cutBeyondHead", s.optional(s.ref(lambda: BeyondHead)))

    unsupported: Optional[str] = s.part("unsupported", s.optional(s.text()))
    """What the log cannot do."""

    read_only: Optional[bool] = s.part("readOnly", s.optional(s.boolean()))

    malformed: Optional[str] = s.part("malformed", s.optional(s.text()))
    """Too large or malformed; in words."""

    repeated_id: Optional[RepeatedId] = s.part("repeatedId", s.optional(s.ref(lambda: RepeatedId)))
    """One id twice in one batch."""

    not_owner: Optional[NotOwner] = s.part("notOwner", s.optional(s.ref(lambda: NotOwner)))
    """A category belongs to a service, and the append does not come with its lease."""

    future_cause: Optional[BeyondHead] = s.part("futureCause", s.optional(s.ref(lambda: BeyondHead)))
    """Causes that are not in the log."""

    apart: Optional[Apart] = s.part("apart", s.optional(s.ref(lambda: Apart)))
    """Streams of several partitions."""


@dataclass(frozen=True)
class RepeatedId(s.Record):
    """Two events of a batch, from 0, that have one id."""

    first: int = s.part("first", s.quoted64())

    second: int = s.part("second", s.quoted64())


@dataclass(frozen=True)
class StreamCondition(s.Record):
    """A stream is in this state."""

    stream: str = s.part("stream", s.text())

    expect: Optional[Expect] = s.part("expect", s.optional(s.ref(lambda: Expect)))


@dataclass(frozen=True)
class TakenId(s.Record):
    """An id that was written before."""

    id: str = s.part("id", s.text())

    position: Optional[Position] = s.part("position", s.optional(s.ref(lambda: Position)))
    """Absent: who appends may not read the event that has it."""


@dataclass(frozen=True)
class Unavailable(s.Record):
    """Did not happen; it may later."""

    reason: str = s.part("reason", s.text())

    retry_after_ms: Optional[int] = s.part("retryAfterMs", s.optional(s.quoted64()))
    """When to try again, if known."""
