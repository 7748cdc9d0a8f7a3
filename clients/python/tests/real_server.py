"""A real server for the tests: the program that ANABRANCH_BIN names, on a free port."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
from typing import Any, List, Optional

import anabranch

CLIENTS = pathlib.Path(__file__).resolve().parents[2]
ORDERS = CLIENTS / "conformance/orders.csv"


class RealServer:
    """`serve`, or `demo` with one order."""

    def __init__(self, kind: str) -> None:
        program = os.environ.get("ANABRANCH_BIN")
        if not program:
            raise RuntimeError("say in ANABRANCH_BIN which program to test against")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="anabranch-client-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{self.address}"
        log = str(self.directory / "log")
        self._command: List[str] = [program, kind, "--log", log, "--listen", self.address]
        if kind == "demo":
            self._command += ["--keep", "--provider", "reliable", "--orders", str(ORDERS)]
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        # It takes settings from what begins with ANABRANCH_, and this is none.
        environment = {name: value for name, value in os.environ.items() if name != "ANABRANCH_BIN"}
        output = open(self.directory / "output", "ab")
        with output:
            self._process = subprocess.Popen(
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        for _ in range(60):
            try:
                anabranch.open(self.url, timeout=1).close()
                return
            except anabranch.Unreachable:
                if self._process.poll() is not None:
                    break
        raise RuntimeError(f"the server did not start: {self.output()}")

    def output(self) -> str:
        """What it has printed."""
        return (self.directory / "output").read_text("utf-8", "replace")

    def kill(self) -> None:
        """Ends it at once, as `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kills it, and starts it on the same log and port."""
        self.kill()
        self.start()

    def __enter__(self) -> RealServer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
