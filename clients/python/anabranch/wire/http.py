"""What clients ask by HTTP.

Made by clients/generate.py from
docs/openapi.json: change that, and run it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Literal, Optional, get_args

from .. import _shape as s

Happened = Literal[
    "no",
    "maybe",
    "yes",
]
"""Whether what was asked for has happened though there is no good answer."""

SagaOutcome = Literal[
    "completed",
    "compensated",
]
"""In which way a saga has ended."""


@dataclass(frozen=True)
class AppendedEvent(s.Record):
    """Where an event stands that was sent."""

    id: str = s.part("id", s.text(), required=True)
    """Its id in the log, a UUID: of a CloudEvent of another producer it follows from source and
    id.
    """

    position: str = s.part("position", s.text(), required=True)
    """Where it stands in the log, as partition:offset."""

    stream: str = s.part("stream", s.text(), required=True)
    """Its stream, as category/key."""

    version: int = s.part("version", s.uint64(), required=True)
    """Its number in the stream, from 0."""

    repeated: bool = s.part("repeated", s.boolean())
    """Whether it was there before."""


@dataclass(frozen=True)
class CommandBody(s.Record):
    """A command as one body. With `?type=…` in the address the body is the data alone."""

    type: str = s.part("type", s.text(), required=True)
    """What is asked for, for example `PlaceOrder`."""

    data: Optional[Any] = s.part("data", s.optional(s.raw()))
    """What the command holds."""


@dataclass(frozen=True)
class CommandOutcome(s.Record):
    """What has become of a command."""

    command: str = s.part("command", s.text(), required=True)
    """The command's id."""

    stream: str = s.part("stream", s.text(), required=True)
    """The entity or saga, as category/key."""

    ended: Optional[SagaEnded] = s.part("ended", s.optional(s.ref(lambda: SagaEnded)))
    """How the saga that has taken it has ended, if the client wanted to wait for that and it has.
    """

    events: List[RecordedEvent] = s.part("events", s.many(s.ref(lambda: RecordedEvent)))
    """What it recorded."""

    repeated: bool = s.part("repeated", s.boolean())
    """Whether it had been done before, and this is the first outcome."""

    taken: bool = s.part("taken", s.boolean())
    """Whether a saga has taken it: it is durable, and what follows from it is done later. An
    entity has done it when it answers.
    """

    version: Optional[int] = s.part("version", s.optional(s.uint64()))
    """The version of the entity's last event; `null` if it has none."""


@dataclass(frozen=True)
class EventsAppended(s.Record):
    """CloudEvents that are in the log now."""

    events: List[AppendedEvent] = s.part("events", s.many(s.ref(lambda: AppendedEvent)), required=True)
    """Each of them, in the order in which they came."""


@dataclass(frozen=True)
class ListOutcome(s.Record):
    """What has become of several commands that were sent together: all of them took effect."""

    list: str = s.part("list", s.text(), required=True)
    """The id of the list."""

    outcomes: List[CommandOutcome] = s.part("outcomes", s.many(s.ref(lambda: CommandOutcome)), required=True)
    """What has become of each, in their order."""


@dataclass(frozen=True)
class ListedCommand(s.Record):
    """One of several commands that are sent together."""

    to: str = s.part("to", s.text(), required=True)
    """The entity, as category/key."""

    type: str = s.part("type", s.text(), required=True)
    """What is asked for, for example `Withdraw`."""

    data: Optional[Any] = s.part("data", s.optional(s.raw()))
    """What the command holds."""

    expect: Optional[Any] = s.part("expect", s.optional(s.raw()))
    """The state that the entity is expected to be in; any, if it is not given."""


@dataclass(frozen=True)
class Problem(s.Record):
    """Why a request was not done, as RFC 9457 has it."""

    code: str = s.part("code", s.text(), required=True)
    """Stable, for programs, for example `version-mismatch`."""

    happened: Happened = s.part("happened", s.choice(*get_args(Happened)), required=True)
    """Whether what was asked for has happened though there is no good answer."""

    status: int = s.part("status", s.uint32(), required=True)
    """The status of the answer."""

    actual: Optional[int] = s.part("actual", s.optional(s.uint64()))
    """With `version-mismatch`: the version of the entity's last event; absent if it has none."""

    command: Optional[str] = s.part("command", s.optional(s.text()))
    """The command's id, by which sending it again tells what has become of it."""

    detail: str = s.part("detail", s.text())
    """What happened and what to do, for people."""

    log: Optional[str] = s.part("log", s.optional(s.text()))
    """With `other-log`: the id of the log that this server is about."""

    parts: Optional[ProblemParts] = s.part("parts", s.optional(s.ref(lambda: ProblemParts)))
    """What `detail` is made of."""

    rejection: Optional[Rejection] = s.part("rejection", s.optional(s.ref(lambda: Rejection)))
    """The entity's or saga's own "no"."""

    retry_after_ms: Optional[int] = s.part("retry_after_ms", s.optional(s.uint64()))
    """When to try again, in milliseconds, if that makes sense."""

    title: str = s.part("title", s.text())
    """The code in words."""

    type: str = s.part("type", s.text())
    """`urn:anabranch:problem:` and the code."""


@dataclass(frozen=True)
class ProblemParts(s.Record):
    """What the words of a problem are made of, so that a service that asks another can say the
    problem as its own. Which of them are there depends on the code.
    """

    count: Optional[int] = s.part("count", s.optional(s.uint64()))
    """How many: commands that wait, attempts, percent."""

    expected: Optional[Any] = s.part("expected", s.optional(s.raw()))
    """The state that was expected."""

    have: Optional[Dict[str, int]] = s.part("have", s.optional(s.table(s.text(), s.uint64())))
    """How far a view or the log is: how many events of each partition."""

    known: Optional[str] = s.part("known", s.optional(s.text()))
    """What there is instead."""

    name: Optional[str] = s.part("name", s.optional(s.text()))
    """The category, view, query or command that it is about."""

    need: Optional[Dict[str, int]] = s.part("need", s.optional(s.table(s.text(), s.uint64())))
    """How far it has to be."""

    reason: Optional[str] = s.part("reason", s.optional(s.text()))
    """The cause alone."""

    stream: Optional[str] = s.part("stream", s.optional(s.text()))
    """The stream that it is about, as category/key."""


@dataclass(frozen=True)
class QueryAnswer(s.Record):
    """A view's answer, from one unchanging state of it."""

    cut: Dict[str, int] = s.part("cut", s.table(s.text(), s.uint64()), required=True)
    """How far into the log the answer reaches: how many events of each partition."""

    stale: bool = s.part("stale", s.boolean(), required=True)
    """Whether the answer lacks something that the client has seen."""

    value: Any = s.part("value", s.raw(), required=True)
    """What was asked for."""


@dataclass(frozen=True)
class RecordedEvent(s.Record):
    """An event that a command has recorded."""

    data: Any = s.part("data", s.raw(), required=True)
    """Its data."""

    position: str = s.part("position", s.text(), required=True)
    """Where it stands in the log, as partition:offset."""

    schema_version: int = s.part("schema_version", s.uint32(), required=True)
    """The version of the data's form."""

    type: str = s.part("type", s.text(), required=True)
    """What happened, for example `OrderPlaced`."""

    version: int = s.part("version", s.uint64(), required=True)
    """Its number in the stream, from 0."""


@dataclass(frozen=True)
class Rejection(s.Record):
    """A business "no": the command was understood and is not allowed now."""

    code: str = s.part("code", s.text(), required=True)
    """For programs: the service's own code, for example `out-of-stock`."""

    message: str = s.part("message", s.text(), required=True)
    """For people: what is in the way."""

    data: Optional[Any] = s.part("data", s.optional(s.raw()))
    """Details for programs."""

    try_again: bool = s.part("try_again", s.boolean())
    """Whether the same command may be allowed a little later."""


@dataclass(frozen=True)
class SagaEnded(s.Record):
    """How a saga has ended."""

    outcome: SagaOutcome = s.part("outcome", s.choice(*get_args(SagaOutcome)), required=True)
    """In which of two ways."""

    reason: Optional[str] = s.part("reason", s.optional(s.text()))
    """Why it went back, if it did."""


@dataclass(frozen=True)
class Version(s.Record):
    """What serves."""

    log: str = s.part("log", s.text(), required=True)
    """The name of the log that is served."""

    protocol: int = s.part("protocol", s.uint32(), required=True)
    """The version of the log's protocol over the network."""

    version: str = s.part("version", s.text(), required=True)
    """The version of the program."""
