"""A log and the services on it, by the address of a server."""

from __future__ import annotations

import secrets
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Union

from . import _reads, _retry, _rpc, lease as leases, session as sessions
from ._http import Transport
from ._reads import Patience, Place, Reader, StreamReader
from ._rpc import Caller
from ._shape import texts
from .errors import AnabranchError, LeaseLost, OtherProtocol
from .lease import Lease
from .log import Appended, Cut, Event, Expect, Filter, NewEvent, NoMatch, Placed, conditions, placed
from .session import Answer, Outcome, Session
from .wire import log as wire
from .wire import registry as registry
from .wire.http import Version

PROTOCOL = 1
"""The version of the protocol that is spoken here. A server that is one version newer or older
works too.
"""


def open(url: str, *, log: Optional[str] = None, timeout: float = 30.0) -> Client:
    """Opens the log, and what is served beside it, at an address such as http://127.0.0.1:7400.

    `log` is the id of the log that is meant; if nothing is said, whichever is there. Every request
    names it from then on, so another log that gets the address later is never taken for it.
    `timeout` is how long anything may take with all its attempts, in seconds.
    """
    transport = Transport(url)
    try:
        return Client(transport, _version(transport, log, timeout), timeout)
    except BaseException:
        transport.close()
        raise


def _version(transport: Transport, log: Optional[str], timeout: float) -> Version:
    """What serves there, if it is what is meant."""

    def once(within: float) -> Version:
        try:
            return Caller(transport, "").version(within)
        except AnabranchError as error:
            error.happened = "no"
            raise

    version = _retry.until_done(timeout, once)
    if log is not None and version.log != log:
        raise _rpc.other_log(log, version.log)
    if abs(version.protocol - PROTOCOL) > 1:
        raise OtherProtocol(
            "other-protocol",
            f"the server speaks version {version.protocol} of the protocol, and this client "
            f"version {PROTOCOL}; use a {'newer' if version.protocol > PROTOCOL else 'older'} client",
        )
    return version


class Client:
    """What `open` gives. Threads may share it."""

    def __init__(self, transport: Transport, version: Version, timeout: float) -> None:
        self._transport = transport
        self._caller = Caller(transport, version.log)
        self.log = version.log
        """The id of the log."""
        self.server = version.version
        """The version of the server's program."""
        self.timeout = timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends its connections."""
        self._transport.close()

    def capabilities(self, timeout: Optional[float] = None) -> wire.Capabilities:
        """What the log can do, and how large the parts of an append may be."""
        request = wire.DescribeRequest(protocol=PROTOCOL)
        answer: wire.DescribeResponse = self._ask("Describe", request, wire.DescribeResponse, timeout)
        if answer.capabilities is None:
            raise _rpc.lacking("it has no capabilities")
        return answer.capabilities

    def append(
        self,
        events: Union[NewEvent, Sequence[NewEvent]],
        *,
        expect: Union[Expect, Mapping[str, Expect], None] = None,
        no_match: Optional[NoMatch] = None,
        timeout: Optional[float] = None,
    ) -> Appended:
        """Appends events, all of them or none; returns when they are durable.

        `expect` says in which state their stream must be, or with a mapping which streams. It is
        repeated while that makes sense: an event is written once, because it has an id. Raises
        `Conflict`, `Matched`, `NotOwner` or another `AnabranchError`.
        """
        return self._append(events, expect, no_match, timeout, "")

    def _append(
        self,
        events: Union[NewEvent, Sequence[NewEvent]],
        expect: Union[Expect, Mapping[str, Expect], None],
        no_match: Optional[NoMatch],
        timeout: Optional[float],
        lease: str,
    ) -> Appended:
        events = [events] if isinstance(events, NewEvent) else list(events)
        for event in events:
            if not isinstance(event, NewEvent):
                raise TypeError(f"what is appended is a NewEvent, or a list of them, and not {event!r}")
        request = wire.AppendRequest(
            events=[event.message() for event in events],
            conditions=conditions(events, expect, no_match),
            lease=lease,
        )
        path = _rpc.LOG + "Append"
        answer = _retry.until_done(
            self.timeout if timeout is None else timeout,
            lambda within: self._caller.call(path, request, wire.AppendResponse, within, changes=True),
        )
        if len(answer.places) != len(events):
            raise _rpc.lacking(f"its places are {len(answer.places)}, of {len(events)} events", "maybe")
        return Appended([placed(place) for place in answer.places], answer.repeated)

    def head(self, timeout: Optional[float] = None) -> Cut:
        """Every durable event there is now, as a cut."""
        answer = self._ask("Head", wire.HeadRequest(), wire.HeadResponse, timeout)
        if answer.head is None:
            raise _rpc.lacking("it has no head")
        return dict(answer.head.counts)

    def find(self, id: str, timeout: Optional[float] = None) -> Optional[Placed]:
        """Where the event with this id stands; None: it was not written, or may not be read."""
        answer = self._ask("Find", wire.FindRequest(id=id), wire.FindResponse, timeout)
        return None if answer.placed is None else placed(answer.placed)

    def read(
        self,
        filter: Filter = Filter(),
        *,
        cut: Optional[Cut] = None,
        backward: bool = False,
        patience: Optional[float] = None,
    ) -> Iterator[Event]:
        """The events there are now, in their order; of two reads at one time each gives all.

        What `cut` includes is passed over. Backward, that is what is read, newest first. It ends with
        `Unreachable` when nothing new has come for `patience` seconds; the client's `timeout`, if
        nothing is said.
        """
        mode: wire.ReadMode = "READ_MODE_BACKWARD" if backward else "READ_MODE_TO_HEAD"
        if backward and cut is None:
            cut = self.head()
        reader = Reader(self._caller, filter, cut, mode, self._patience(patience))
        return (event for event, _ in reader.events())

    def read_stream(
        self,
        stream: str,
        *,
        start: int = 0,
        end: Optional[int] = None,
        backward: bool = False,
        patience: Optional[float] = None,
    ) -> Iterator[Event]:
        """The events of one stream there are now: from version `start` to before `end`. `patience` is
        as that of `read`.
        """
        pace = self._patience(patience)
        return StreamReader(self._caller, stream, start, end, backward, pace).events()

    def follow(
        self,
        filter: Filter = Filter(),
        *,
        cut: Optional[Cut] = None,
        patience: Optional[float] = None,
        idle: float = _reads.IDLE,
    ) -> Iterator[Event]:
        """Events as they come, for ever: first those behind `cut`, then each new one.

        It goes on where it was when the server is restarted: no gap, and no event twice. A server
        that is away for longer than `patience` seconds ends it with `Unreachable`. One that says
        nothing whole for `idle` seconds is asked again: it may have gone without a word.
        """
        return (event for event, _ in self._following(filter, cut, patience, idle).events())

    def consume(
        self,
        function: Callable[[Event], Any],
        filter: Filter = Filter(),
        *,
        place: Place,
        patience: Optional[float] = None,
        idle: float = _reads.IDLE,
        until: Optional[Callable[[], bool]] = None,
    ) -> None:
        """Calls a function for each event, and keeps the place behind it when it has returned.

        Started again, it goes on there; an event whose function did not return comes again. It
        ends when the function raises, or when `until` says so after an event.
        """
        cut = _reads.read_place(self.log, place.load())
        for event, behind in self._following(filter, cut, patience, idle).events():
            function(event)
            place.save(_reads.write_place(self.log, behind))
            if until is not None and until():
                return

    def _following(
        self, filter: Filter, cut: Optional[Cut], patience: Optional[float], idle: float
    ) -> Reader:
        pace = self._patience(patience, idle)
        return Reader(self._caller, filter, cut, "READ_MODE_FOLLOW", pace)

    def _patience(self, patience: Optional[float], idle: Optional[float] = None) -> Patience:
        return Patience(self.timeout if patience is None else patience, idle)

    def session(self, token: Optional[str] = None) -> Session:
        """Commands and queries that see one another; `token` is that of an earlier session."""
        return Session(self._caller, self.timeout, token)

    def send(
        self,
        stream: str,
        command: str,
        data: Any = None,
        *,
        key: Optional[str] = None,
        expect: Optional[Expect] = None,
        traceparent: Optional[str] = None,
        wait: Optional[float] = None,
        timeout: Optional[float] = None,
        token: Optional[str] = None,
    ) -> Outcome:
        """As `Session.send`, in a session of its own that begins with `token`."""
        return self.session(token).send(
            stream,
            command,
            data,
            key=key,
            expect=expect,
            traceparent=traceparent,
            wait=wait,
            timeout=timeout,
        )

    def query(
        self,
        view: str,
        name: str,
        arguments: Optional[Mapping[str, Any]] = None,
        *,
        policy: Optional[str] = None,
        timeout: Optional[float] = None,
        token: Optional[str] = None,
    ) -> Answer:
        """As `Session.query`, in a session of its own; `token` is what it has to see."""
        session = self.session(token)
        return session.query(view, name, arguments, policy=policy, timeout=timeout)

    def register(
        self,
        name: str,
        *,
        owns: Sequence[str] = (),
        address: str = "",
        views: Sequence[str] = (),
        reads: Sequence[str] = (),
        sends: Sequence[str] = (),
        private: Optional[Mapping[str, Sequence[str]]] = None,
        program: str = "",
        version: str = "",
        secret: Optional[str] = None,
        lease_time: float = 10.0,
        on_lost: Optional[Callable[[LeaseLost], None]] = None,
        timeout: Optional[float] = None,
    ) -> Lease:
        """Registers a service: from then on it alone appends to the categories that it owns, by
        its lease.

        `private` names what of that it keeps to itself, with the types of events that others read all
        the same. From then on the client reads and asks as this service, until the lease is released.

        With the `secret` of its lease before it takes over from itself at once; see `kept_secret`.
        `on_lost` is called in a thread of the lease when somebody else has followed. Raises `Held`
        where another service has what is claimed.
        """
        service = registry.Service(
            name=name,
            address=address,
            program=program,
            version=version,
            owns=texts("owns", owns),
            views=texts("views", views),
            reads=texts("reads", reads),
            sends=texts("sends", sends),
            private=[
                registry.Private(category=category, open_types=texts("private", types))
                for category, types in (private or {}).items()
            ],
        )
        # One of our own: a registration whose answer was lost is repeated as the same.
        request = registry.RegisterRequest(
            service=service,
            secret=secret or secrets.token_hex(32),
            lease_ms=int(_retry.seconds("lease_time", lease_time) * 1000),
        )
        path = _rpc.REGISTRY + "RegisterService"

        def once(within: float) -> registry.RegisterResponse:
            return self._caller.call(path, request, registry.RegisterResponse, within, changes=True)

        try:
            answer = _retry.until_done(self.timeout if timeout is None else timeout, once)
        except AnabranchError as error:
            raise leases.held(error) from None
        if answer.lease is None or not answer.lease.token:
            raise _rpc.lacking("it has no lease", "maybe")
        return Lease(self, name, answer.lease, on_lost)

    def services(self, timeout: Optional[float] = None) -> List[registry.Registered]:
        """All services, by name, and how their leases are."""
        path = _rpc.REGISTRY + "List"
        answer = _retry.until_done(
            self.timeout if timeout is None else timeout,
            lambda within: self._caller.call(path, registry.ListRequest(), registry.ListResponse, within),
        )
        return answer.services

    def _ask(self, call: str, request: Any, answer: Any, timeout: Optional[float]) -> Any:
        path = _rpc.LOG + call
        return _retry.until_done(
            self.timeout if timeout is None else timeout,
            lambda within: self._caller.call(path, request, answer, within),
        )
