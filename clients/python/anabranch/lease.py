"""A category of one's own: registering, the lease, and what is appended by it."""

from __future__ import annotations

import os
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Sequence, Union

from . import _retry, _rpc
from .errors import AnabranchError, Conflict, Held, LeaseLost
from .log import Appended, Expect, Kind, NewEvent, NoMatch
from .wire import registry as wire

if TYPE_CHECKING:
    from .client import Client


def kept_secret(path: "str | os.PathLike[str]") -> str:
    """The secret in a file that the owner alone can read; made if it is not there. With it a
    service that was killed takes over from itself at once.
    """
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        pass
    fresh = f"{os.fspath(path)}.new"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        made = secrets.token_hex(32)
        file.write(made)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    return made


class Lease:
    """A lease that is held. A thread renews it until it is released or lost."""

    def __init__(
        self,
        client: Client,
        name: str,
        message: wire.Lease,
        on_lost: Optional[Callable[[LeaseLost], None]],
    ) -> None:
        self._client = client
        self.name = name
        self.secret = message.secret
        """What the service registers by the next time. Keep it to yourself."""
        self.number = message.id
        """Larger with each lease of the service."""
        self._token = message.token
        client._caller.leases.append(message.token)
        self._on_lost = on_lost
        self._lost: Optional[LeaseLost] = None
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._renew, args=(message.expires_in_ms / 1000,), name=f"lease-{name}", daemon=True
        )
        self._thread.start()

    @property
    def lost(self) -> Optional[LeaseLost]:
        """Why it is lost for good; None: it is not. End the program then, or register again."""
        return self._lost

    def append(
        self,
        events: Union[NewEvent, Sequence[NewEvent]],
        *,
        expect: Union[Expect, Mapping[str, Expect], None] = None,
        no_match: Optional[NoMatch] = None,
        timeout: Optional[float] = None,
    ) -> Appended:
        """As `Client.append`, by this lease."""
        if self._lost is not None:
            raise self._lost
        return self._client._append(events, expect, no_match, timeout, self._token)

    def declare(self, category: str, kinds: Sequence[Kind]) -> None:
        """Says in the log what the events of a category look like, if that was not said last. So
        `anabranch schema check` knows, and can tell what a change would break.
        """
        stream = f"$schema/{category}"
        data = {"service": self.name, "kinds": [vars(kind) for kind in kinds]}
        until = time.monotonic() + self._client.timeout
        while True:
            last = next(self._client.read_stream(stream, backward=True), None)
            if last is not None and last.data == data:
                return
            event = NewEvent(
                stream, "$TypesRegistered", data, source=self.name, correlation_id=stream
            )
            try:
                self.append(event, expect="empty" if last is None else last.version)
                return
            except Conflict:
                # Somebody was first: what they have said may be the same.
                if time.monotonic() >= until:
                    raise

    def release(self, give_up: bool = False) -> None:
        """Ends it, so that whoever follows need not wait. With `give_up` what it owned has no
        owner from then on. From then on the client reads as this service no more; one that is lost
        has to be released for that too.
        """
        self._end_thread()
        if self._lost is not None:
            self._show_no_more()
            return
        request = wire.ReleaseRequest(lease=self._token, give_up=give_up)
        caller = self._client._caller
        path = _rpc.REGISTRY + "Release"
        _retry.until_done(
            self._client.timeout,
            lambda within: caller.call(path, request, wire.ReleaseResponse, within, changes=True),
        )
        self._lost = LeaseLost("lease-released", f"the lease of {self.name} was released")
        self._show_no_more()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()

    def _show_no_more(self) -> None:
        shown = self._client._caller.leases
        if self._token in shown:
            shown.remove(self._token)

    def _end_thread(self) -> None:
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _renew(self, lasts: float) -> None:
        caller = self._client._caller
        request = wire.RenewRequest(lease=self._token)
        wait = _between(lasts / 3)
        while not self._stop.wait(wait):
            within = min(max(lasts / 3, 0.2), _retry.ATTEMPT_MOST)
            try:
                renewed = caller.call(_rpc.REGISTRY + "Renew", request, wire.RenewResponse, within)
            except AnabranchError as error:
                if error.code in ("failed-precondition", "permission-denied", "not-found", "other-log"):
                    self._lose(error)
                    return
                # Not now. It lasts on, and may even live again after its end.
                wait = _between(min(lasts / 10, 1.0))
                continue
            lasts = renewed.expires_in_ms / 1000
            wait = _between(lasts / 3)

    def _lose(self, error: AnabranchError) -> None:
        self._lost = LeaseLost("lease-lost", f"the lease of {self.name} is lost: {error.detail}")
        if self._on_lost is not None:
            self._on_lost(self._lost)


def _between(seconds: float) -> float:
    """How long it is until the lease is renewed again, whatever the server says of how long it lasts."""
    return min(max(seconds, 0.2), 600.0)


def held(error: AnabranchError) -> AnabranchError:
    """The same error, by its own name if another service holds what was claimed."""
    if error.code != "already-exists":
        return error
    return Held("held", error.detail, status=error.status)
