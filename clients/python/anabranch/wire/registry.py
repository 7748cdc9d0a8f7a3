"""The JSON forms of the calls of the registry.

Made by clients/generate.py from
crates/rpc/proto/anabranch/registry/v1/registry.proto: change that, and run it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Literal, Optional, get_args

from .. import _shape as s

LeaseState = Literal[
    "LEASE_STATE_UNSPECIFIED",
    "LEASE_STATE_HELD",
    "LEASE_STATE_EXPIRED",
    "LEASE_STATE_RELEASED",
    "LEASE_STATE_TAKEN",
]


@dataclass(frozen=True)
class Act(s.Record):
    """Something that matters to security."""

    who: str = s.part("who", s.text())
    """Who, in words."""

    did: str = s.part("did", s.text())
    """What they did, and to what."""

    about: str = s.part("about", s.text())

    result: str = s.part("result", s.text())
    """What came of it: `allowed`, `refused`, or a status."""

    times: int = s.part("times", s.quoted64())
    """How many times, at about this time; 0 means 1."""


@dataclass(frozen=True)
class FindRequest(s.Record):
    """FindRequest of the protocol."""

    category: Optional[str] = s.part("category", s.optional(s.text()))

    view: Optional[str] = s.part("view", s.optional(s.text()))

    service: Optional[str] = s.part("service", s.optional(s.text()))


@dataclass(frozen=True)
class FindResponse(s.Record):
    """FindResponse of the protocol."""

    registered: Optional[Registered] = s.part("registered", s.optional(s.ref(lambda: Registered)))
    """Absent: no service has registered it."""


@dataclass(frozen=True)
class Lease(s.Record):
    """Who has it acts for the service. Keep it to yourself."""

    token: str = s.part("token", s.text())
    """What proves it: it goes with each append, and is what is renewed and released."""

    secret: str = s.part("secret", s.text())
    """The secret alone, for the next time that the service registers."""

    id: int = s.part("id", s.quoted64())
    """Larger with each lease of the service."""

    expires_in_ms: int = s.part("expiresInMs", s.quoted64())
    """In milliseconds, unless it is renewed."""

    token_key: str = s.part("tokenKey", s.text())
    """What tokens of this log are sealed with, 64 digits of hexadecimal: a service that seals with
    it gives tokens that every other one takes. Empty: the server has nothing to share.
    """


@dataclass(frozen=True)
class ListRequest(s.Record):
    """ListRequest of the protocol."""


@dataclass(frozen=True)
class ListResponse(s.Record):
    """ListResponse of the protocol."""

    services: List[Registered] = s.part("services", s.many(s.ref(lambda: Registered)))


@dataclass(frozen=True)
class Private(s.Record):
    """A category that a service keeps to itself."""

    category: str = s.part("category", s.text())

    open_types: List[str] = s.part("openTypes", s.many(s.text()))
    """The types of its events that others may read all the same."""


@dataclass(frozen=True)
class RegisterRequest(s.Record):
    """RegisterRequest of the protocol."""

    service: Optional[Service] = s.part("service", s.optional(s.ref(lambda: Service)))

    secret: str = s.part("secret", s.text())
    """The secret of the new lease, of 32 to 128 of the characters A-Z a-z 0-9 . _ - ; empty: the
    server makes one. The one of the lease before: takes over from it at once.
    """

    lease_ms: int = s.part("leaseMs", s.quoted64())
    """How long the lease lasts if it is not renewed, in milliseconds: 500 to 300000; 0: 10000."""


@dataclass(frozen=True)
class RegisterResponse(s.Record):
    """RegisterResponse of the protocol."""

    lease: Optional[Lease] = s.part("lease", s.optional(s.ref(lambda: Lease)))


@dataclass(frozen=True)
class Registered(s.Record):
    """A service that has registered, and how its lease is."""

    service: Optional[Service] = s.part("service", s.optional(s.ref(lambda: Service)))

    lease: int = s.part("lease", s.quoted64())
    """The id of its newest lease."""

    state: LeaseState = s.part("state", s.choice(*get_args(LeaseState)))

    expires_in_ms: int = s.part("expiresInMs", s.quoted64())
    """How long the lease lasts yet, in milliseconds, if it is held."""

    taken_by: str = s.part("takenBy", s.text())
    """The service that has taken over from it, if one has."""

    key: str = s.part("key", s.text())
    """The id of the key by which it has registered; empty: callers are not asked for one."""


@dataclass(frozen=True)
class ReleaseRequest(s.Record):
    """ReleaseRequest of the protocol."""

    lease: str = s.part("lease", s.text())
    """Its token."""

    give_up: bool = s.part("giveUp", s.boolean())
    """Whether what it owned is to have no owner from now on. Otherwise it stays the service's, and
    nobody appends to it until the service, or another one that claims it, registers.
    """


@dataclass(frozen=True)
class ReleaseResponse(s.Record):
    """ReleaseResponse of the protocol."""


@dataclass(frozen=True)
class RenewRequest(s.Record):
    """RenewRequest of the protocol."""

    lease: str = s.part("lease", s.text())
    """Its token."""


@dataclass(frozen=True)
class RenewResponse(s.Record):
    """RenewResponse of the protocol."""

    expires_in_ms: int = s.part("expiresInMs", s.quoted64())


@dataclass(frozen=True)
class ReportRequest(s.Record):
    """ReportRequest of the protocol."""

    acts: List[Act] = s.part("acts", s.many(s.ref(lambda: Act)))
    """At most 256."""


@dataclass(frozen=True)
class ReportResponse(s.Record):
    """ReportResponse of the protocol."""


@dataclass(frozen=True)
class Service(s.Record):
    """A service, as it describes itself."""

    name: str = s.part("name", s.text())
    """One to 200 of the characters A-Z a-z 0-9 . _ : -"""

    address: str = s.part("address", s.text())
    """Where it is asked, such as `http://127.0.0.1:4077`; empty: it is not to be asked."""

    program: str = s.part("program", s.text())
    """The program that runs it, and its version, for people."""

    version: str = s.part("version", s.text())

    owns: List[str] = s.part("owns", s.many(s.text()))
    """The categories that it alone appends to: its entities, and the journals of its processes and
    sagas.
    """

    views: List[str] = s.part("views", s.many(s.text()))
    """The views that it answers."""

    reads: List[str] = s.part("reads", s.many(s.text()))
    """The categories of other services that it follows."""

    sends: List[str] = s.part("sends", s.many(s.text()))
    """The categories of other services that it sends commands to."""

    private: List[Private] = s.part("private", s.many(s.ref(lambda: Private)))
    """Of the categories that it owns, those that it keeps to itself: who shows its lease reads
    them, operators do, and nobody else. It stays so while the service is away.
    """
