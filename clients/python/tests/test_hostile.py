"""The conformance cases against a server that does what the case says."""

from __future__ import annotations

import time
import unittest
from typing import Any, Dict

import anabranch

from .scripted_server import ScriptedServer
from .steps import Steps, compare, said
from .test_conformance import load


class Hostile(unittest.TestCase):
    def carry_out(self, case: Dict[str, Any]) -> None:
        server = ScriptedServer(case)
        began = time.monotonic()
        try:
            client = anabranch.open(server.url, timeout=10)
        except anabranch.AnabranchError as error:
            compare(case["opens"], said(error), "what open raised")
            return
        finally:
            if "opens" in case:
                server.close()
        try:
            with client:
                self.assertNotIn("opens", case)
                steps = Steps(client, server.close)
                for step in case["steps"]:
                    steps.run(step)
        finally:
            server.close()
        self.check(case.get("seen", {}), server, time.monotonic() - began)

    def check(self, seen: Dict[str, Any], server: ScriptedServer, seconds: float) -> None:
        requests = server.requests
        self.assertGreaterEqual(len(requests), seen.get("requests_min", 0))
        self.assertLessEqual(len(requests), seen.get("requests_max", len(requests)))
        self.assertEqual(len(requests), seen.get("requests", len(requests)))
        self.assertGreaterEqual(seconds, seen.get("seconds_min", 0))
        self.assertLess(seconds, seen.get("seconds_max", 60))
        for name in seen.get("same", []):
            values = {request.headers.get(name) for request in requests}
            self.assertEqual(len(values), 1, values)
            self.assertNotEqual(values, {None})
        if seen.get("same_body"):
            self.assertEqual(len({request.body for request in requests}), 1)
        for request, pattern in zip(requests, seen.get("bodies", [])):
            compare(pattern, request.json(), "a request's body")
        for request, pattern in zip(requests, seen.get("headers", [])):
            compare(pattern, {name: request.headers.get(name) for name in pattern}, "headers")


for number, each in enumerate(load("hostile.json")["cases"]):

    def test(self: Hostile, case: Dict[str, Any] = each) -> None:
        self.carry_out(case)

    test.__doc__ = each["name"]
    sentence = "".join(c if c.isalnum() else "_" for c in each["name"].lower())
    setattr(Hostile, f"test_{sentence}", test)


if __name__ == "__main__":
    unittest.main()
