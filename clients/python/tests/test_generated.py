"""The types that go over the wire are those of the server's contracts."""

from __future__ import annotations

import subprocess
import sys
import unittest

from .real_server import CLIENTS


class Generated(unittest.TestCase):
    def test_making_the_types_again_changes_nothing(self) -> None:
        done = subprocess.run(
            [sys.executable, str(CLIENTS / "generate.py"), "--check"],
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
