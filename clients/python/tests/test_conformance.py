"""The conformance cases that all clients share, against a real server."""

from __future__ import annotations

import json
import unittest
from typing import Any, Dict

import anabranch

from .real_server import CLIENTS, RealServer
from .steps import Steps


def load(name: str) -> Dict[str, Any]:
    """A file of cases."""
    found: Dict[str, Any] = json.loads((CLIENTS / "conformance" / name).read_text("utf-8"))
    return found


class Conformance(unittest.TestCase):
    """One server for all cases of a file."""

    kind = ""
    server: RealServer

    @classmethod
    def setUpClass(cls) -> None:

        cls.server = RealServer(cls.kind)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.__exit__()

    def carry_out(self, case: Dict[str, Any]) -> None:
        with anabranch.open(self.server.url) as client:
            steps = Steps(client, self.server.restart)
            for step in case["steps"]:
                steps.run(step)


def made(name: str, file: str) -> type:
    """A class with a test for each case of a file."""
    cases = load(file)
    parts: Dict[str, Any] = {"kind": cases["server"]}
    for case in cases["cases"]:

        def test(self: Conformance, case: Dict[str, Any] = case) -> None:
            self.carry_out(case)

        test.__doc__ = case["name"]
        sentence = "".join(c if c.isalnum() else "_" for c in case["name"].lower())
        parts[f"test_{sentence}"] = test
    return type(name, (Conformance,), parts)


Log = made("Log", "log.json")
Owning = made("Owning", "owning.json")
Shop = made("Shop", "shop.json")
del Conformance


if __name__ == "__main__":
    unittest.main()
