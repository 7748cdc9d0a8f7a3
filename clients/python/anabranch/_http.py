"""Requests over HTTP, by the standard library; what went wrong says whether it may have happened."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional
from urllib.parse import urlsplit

from .errors import BadAnswer, Unreachable
from .wire.http import Happened

ANSWER_BYTES_MAX = 64 << 20
"""The largest answer that is taken in. A server sends no larger one."""

_IDLE_MAX = 8
_CHUNK = 1 << 16

_WAIT_MOST = 1e6
"""The longest that a socket is told to wait, in seconds. It takes no number beyond all measure."""


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> Optional[str]:
        """The header of this name, in lower case."""
        return self.headers.get(name)

    @property
    def media_type(self) -> str:
        """What the body is."""
        return media_type(self.headers)


def media_type(headers: Mapping[str, str]) -> str:
    """The media type that headers name, without its parameters."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


def parse(body: bytes, happened: Happened = "no", status: Optional[int] = None) -> Any:
    """A body as JSON. Whole numbers are exact, however large."""

    def no_number(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    try:
        return json.loads(body.decode("utf-8"), parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        start = body[:80].decode("utf-8", "replace")
        raise BadAnswer(
            "bad-answer",
            f"the answer is no JSON ({error}); it begins with {start!r}. Is this an Anabranch server?",
            happened=happened,
            status=status,
        ) from None


def compose(value: Any) -> bytes:
    """JSON, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8"
    )


def _headers(message: http.client.HTTPMessage) -> Dict[str, str]:
    return {name.lower(): value for name, value in message.items()}


class _Raw(io.RawIOBase):
    """What comes over a socket, until the moment that its line names."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._source = line.sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        """What comes next, if it comes in time."""
        self._line.hurry()
        return self._source.readinto(buffer)

    def close(self) -> None:
        """Ends it."""
        if not self.closed:
            self._source.close()
        super().close()


class _Line:
    """A socket on which everything together ends at a moment. The time limit of a socket alone begins
    again with each byte, so whoever drips would hold a caller for ever.
    """

    def __init__(self, sock: socket.socket, until: float) -> None:
        self.sock = sock
        self.until = until

    def hurry(self) -> None:
        """Gives the socket the time that is left; raises where there is none."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise socket.timeout("the time for the answer is over")
        self.sock.settimeout(min(left, _WAIT_MOST))

    # What the standard library asks of a socket.

    def sendall(self, data: Any) -> None:
        """Sends all of it."""
        rest = memoryview(data)
        while rest:
            self.hurry()
            rest = rest[self.sock.send(rest) :]

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """What comes, as a file."""
        return io.BufferedReader(_Raw(self))

    def close(self) -> None:
        """Ends it."""
        self.sock.close()


class _Connection(http.client.HTTPConnection):
    """A connection of the standard library over a line."""

    def __init__(self, host: str, port: int, line: _Line, default_port: int) -> None:
        super().__init__(host, port)
        # It stands in the header `host` if it is another one.
        self.default_port = default_port
        self.line = line
        self.sock = line


class Transport:
    """Connections to one server. Threads may share it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        rest = (parts.query, parts.fragment, parts.username)
        is_plain = parts.path in ("", "/") and not any(rest)
        if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
            raise ValueError(f"{url!r} is no address of a server such as http://127.0.0.1:7400")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._tls: Optional[ssl.SSLContext] = None
        self._default_port = http.client.HTTP_PORT
        if parts.scheme == "https":
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
            self._default_port = http.client.HTTPS_PORT
        self._host, self._port = parts.hostname, parts.port or self._default_port
        self._lock = threading.Lock()
        self._idle: List[_Connection] = []

    def close(self) -> None:
        """Ends the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, within: float
    ) -> Answer:
        """Sends a request and takes in its answer, or raises `Unreachable` or `BadAnswer`. All of it
        together takes `within` seconds at most.
        """
        until = time.monotonic() + within
        connection = self._take() or self._fresh(until)
        with self._asking(connection):
            return self._once(connection, method, path, headers, body, until)

    def stream(
        self, path: str, headers: Mapping[str, str], body: bytes, within: float
    ) -> Stream:
        """Sends a request whose answer goes on. It has begun within so many seconds; how long the parts
        may take is said to the stream.
        """
        connection = self._fresh(time.monotonic() + within)
        with self._asking(connection):
            connection.request("POST", path, body, dict(headers))
            response = connection.getresponse()
        return Stream(self, connection, response)

    def _take(self) -> Optional[_Connection]:
        """A connection that waits here, if the server has not ended it meanwhile."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if _is_quiet(connection.line.sock):
                return connection
            connection.close()

    def _fresh(self, until: float) -> _Connection:
        try:
            sock = self._dial(until)
        except OSError as error:
            # Nothing was sent.
            raise Unreachable(
                "unreachable", f"{self.url} cannot be reached: {error}", passing=True
            ) from error
        return _Connection(self._host, self._port, _Line(sock, until), self._default_port)

    def _dial(self, until: float) -> socket.socket:
        """A connection to the first of the host's addresses that answers; all of them together have
        until that moment. How long the system may look for the addresses is its own to say.
        """
        failed = OSError(f"{self._host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._host, self._port, 0, socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                line = _Line(sock, until)
                line.hurry()
                sock.connect(address)
                _stay_awake(sock)
                if self._tls is None:
                    return sock
                line.hurry()
                return self._tls.wrap_socket(sock, server_hostname=self._host)
            except OSError as error:
                sock.close()
                failed = error
        raise failed

    def _once(
        self,
        connection: _Connection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        until: float,
    ) -> Answer:
        connection.line.until = until
        connection.request(method, path, body or None, dict(headers))
        response = connection.getresponse()
        taken = bytearray()
        while True:
            chunk = response.read1(_CHUNK)
            if not chunk:
                break
            taken += chunk
            if len(taken) > ANSWER_BYTES_MAX:
                connection.close()
                raise BadAnswer(
                    "bad-answer",
                    f"the answer is larger than {ANSWER_BYTES_MAX} bytes",
                    happened="maybe",
                    status=response.status,
                )
        if response.length:
            raise http.client.IncompleteRead(bytes(taken), response.length)
        # Said outright: otherwise an older Python takes the answer for one that goes on.
        response.close()
        answer = Answer(response.status, _headers(response.msg), bytes(taken))
        if response.will_close:
            connection.close()
        else:
            self._give_back(connection)
        return answer

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if len(self._idle) < _IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    @contextmanager
    def _asking(self, connection: _Connection) -> Iterator[None]:
        """Ends the connection if what is asked over it fails, and says how in our words."""
        try:
            yield
        except (OSError, http.client.IncompleteRead, http.client.RemoteDisconnected) as error:
            connection.close()
            raise self._broken(error) from error
        except http.client.HTTPException as error:
            connection.close()
            raise self._strange(error) from error
        except BaseException:
            connection.close()
            raise

    def _broken(self, error: Exception) -> Unreachable:
        words = str(error) or type(error).__name__
        return Unreachable(
            "unreachable",
            f"the connection to {self.url} broke before the answer: {words}",
            happened="maybe",
            passing=True,
        )

    def _strange(self, error: Exception) -> BadAnswer:
        return BadAnswer(
            "bad-answer",
            f"what answers at {self.url} is no HTTP: {type(error).__name__} {str(error)[:80]}",
            happened="maybe",
        )


class Stream:
    """An answer that goes on."""

    def __init__(
        self,
        transport: Transport,
        connection: _Connection,
        response: http.client.HTTPResponse,
    ) -> None:
        self._transport = transport
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers = _headers(response.msg)

    def allow(self, seconds: float) -> None:
        """All that is read from now on has so much time together."""
        self._connection.line.until = time.monotonic() + seconds

    def read(self, count: int) -> bytes:
        """So many bytes, or fewer at the end; raises `Unreachable` when it breaks."""
        taken = bytearray()
        try:
            while len(taken) < count:
                chunk = self._response.read(min(count - len(taken), _CHUNK))
                if not chunk:
                    break
                taken += chunk
        except (OSError, http.client.HTTPException) as error:
            raise self._transport._broken(error) from error
        return bytes(taken)

    def close(self) -> None:
        """Ends it."""
        self._response.close()
        self._connection.close()


def _is_quiet(sock: socket.socket) -> bool:
    """Whether nothing has come that nobody asked for, such as the end."""
    if isinstance(sock, ssl.SSLSocket):
        return True
    sock.settimeout(0)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _stay_awake(sock: socket.socket) -> None:
    """Notices within a minute or so that the other side is gone without a word."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
