"""A server that does with each request what a case says, good or bad."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any, Dict, List, Optional

LOG = "aaaaaaaaaaaaaaaa"

DRIP_EVERY = 0.02
DRIP_MOST = 30.0
"""Whoever is patient for so many seconds has failed its case."""


class Request:
    """A request as it came."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.path = lines[0].split(" ")[:2]
        pairs = (line.split(":", 1) for line in lines[1:] if line)
        self.headers = {name.strip().lower(): value.strip() for name, value in pairs}
        self.body = body

    def json(self) -> Any:
        """Its body; that of a call with messages is in an envelope."""
        is_stream = self.headers.get("content-type") == "application/connect+json"
        return json.loads(self.body[5:] if is_stream else self.body)


class ScriptedServer:
    """Answers as `answers` say, the last one for ever."""

    def __init__(self, case: Dict[str, Any]) -> None:
        self._answers: List[Any] = list(case.get("answers", []))
        self._versions: List[str] = list(case.get("versions", [LOG]))
        self._version: Optional[Any] = case.get("version")
        self.requests: List[Request] = []
        self._lock = threading.Lock()
        self._open: List[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends it and its connections."""
        self._listener.close()
        with self._lock:
            for connection in self._open:
                connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            while self._one(connection):
                pass
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        except OSError:
            connection.close()

    def _one(self, connection: socket.socket) -> bool:
        """One request; whether the connection stays for another."""
        taken = b""
        while b"\r\n\r\n" not in taken:
            chunk = connection.recv(65536)
            if not chunk:
                return False
            taken += chunk
        head, body = taken.split(b"\r\n\r\n", 1)
        request = Request(head, body)
        while len(request.body) < int(request.headers.get("content-length", "0")):
            request.body += connection.recv(65536)
        if request.path == "/version":
            return self._send(connection, {"status": 200, "json": self._next_version()})
        with self._lock:
            self.requests.append(request)
            answer = self._answers[0]
            if len(self._answers) > 1:
                self._answers.pop(0)
        return self._send(connection, answer)

    def _next_version(self) -> Any:
        with self._lock:
            log = self._versions[0]
            if len(self._versions) > 1:
                self._versions.pop(0)
        return self._version or {"version": "0.1.0", "protocol": 1, "log": log}

    def _send(self, connection: socket.socket, answer: Dict[str, Any]) -> bool:
        if "raw" in answer:
            connection.sendall(answer["raw"].encode("latin-1"))
            until = time.monotonic() + DRIP_MOST
            while "drip" in answer and time.monotonic() < until:
                connection.sendall(answer["drip"].encode("latin-1"))
                time.sleep(DRIP_EVERY)
        elif "hang" in answer:
            # Until the other side has had enough.
            connection.recv(1)
        elif "endless" in answer:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
            while True:
                connection.sendall(b" " * 65536)
        elif "envelopes" in answer:
            self._send_stream(connection, answer)
        elif "status" in answer:
            return self._send_whole(connection, answer)
        return False

    def _send_whole(self, connection: socket.socket, answer: Dict[str, Any]) -> bool:
        if "repeat" in answer:
            body = answer["repeat"]["text"].encode() * answer["repeat"]["times"]
        else:
            body = text_of(answer)
        headers = {"content-type": "application/json", **answer.get("headers", {})}
        headers["content-length"] = str(len(body))
        connection.sendall(head(answer["status"], headers))
        cut = answer.get("cut", 0)
        connection.sendall(body[: len(body) - cut])
        return not cut

    def _send_stream(self, connection: socket.socket, answer: Dict[str, Any]) -> None:
        body = b""
        for envelope in answer["envelopes"]:
            content = text_of(envelope)
            length = envelope.get("length", len(content))
            body += bytes([envelope.get("flags", 0)]) + length.to_bytes(4, "big") + content
        cut = answer.get("cut", 0)
        body = body[: len(body) - cut]
        headers = {"content-type": "application/connect+json", "transfer-encoding": "chunked"}
        connection.sendall(head(200, headers))
        # A chunk of nothing would be the end.
        if body:
            connection.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        if answer.get("then") == "hang":
            connection.recv(1)
        elif not cut or answer.get("then") == "end":
            connection.sendall(b"0\r\n\r\n")


def head(status: int, headers: Dict[str, str]) -> bytes:
    """The head of an answer."""
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def text_of(part: Dict[str, Any]) -> bytes:
    """The content of an answer or of a message."""
    if "json" in part:
        return json.dumps(part["json"]).encode("utf-8")
    return str(part.get("text", "")).encode("utf-8")
