"""The programs of the README, as they stand there, against a real server."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import time
import unittest
from typing import List

import anabranch

from .real_server import CLIENTS, RealServer

PROGRAMS = re.findall(
    r"^```python\n(.*?)^```$", (CLIENTS / "python/README.md").read_text("utf-8"), re.M | re.S
)
ORDER, FOLLOW, WRITE = PROGRAMS


def run(program: str, *arguments: str) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=CLIENTS / "python",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Readme(unittest.TestCase):
    def test_an_order_is_placed_seen_in_a_view_and_ends(self) -> None:
        with RealServer("demo") as server:
            printed = run(ORDER, server.url, "readme-1").splitlines()
            self.assertEqual(printed[0], "placed at version 0")
            self.assertRegex(printed[1], "^in the view it is [a-z]")
            self.assertEqual(printed[2], "it ended with OrderConfirmed")
            self.assertEqual(printed[3], "in the view it is confirmed")

    def test_every_event_is_printed_once_through_killed_servers_and_programs(self) -> None:
        with RealServer("demo") as server:
            place = server.directory / "place"
            log = server.directory / "printed"
            for number in ("a", "b"):
                with open(log, "ab") as out:
                    following = subprocess.Popen(
                        [sys.executable, "-c", FOLLOW, server.url, str(place)],
                        cwd=CLIENTS / "python",
                        stdout=out,
                    )
                try:
                    run(ORDER, server.url, f"readme-{number}1")
                    server.restart()
                    run(ORDER, server.url, f"readme-{number}2")
                    with anabranch.open(server.url) as client:
                        expected = [str(event.position) for event in client.read()]
                    self.assertEqual(expected, self.printed(log, len(expected)))
                finally:
                    # Between two events, as it waits.
                    following.kill()
                    following.wait()

    def printed(self, path: pathlib.Path, count: int) -> List[str]:
        """The positions in a file, when there are so many or after a while."""
        found: List[str] = []
        for _ in range(200):
            found = [line.split()[0] for line in path.read_text("utf-8").splitlines()]
            if len(found) >= count:
                # What is there twice would come at once.
                time.sleep(0.2)
                return [line.split()[0] for line in path.read_text("utf-8").splitlines()][:count]
            time.sleep(0.05)
        return found

    def test_events_are_written_by_whom_they_may_be(self) -> None:
        with RealServer("serve") as server:
            printed = run(WRITE, server.url).splitlines()
            self.assertEqual(printed, ["['hello']", "it belongs to bookings"])


if __name__ == "__main__":
    unittest.main()
