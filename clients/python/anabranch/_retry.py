"""Asking again, for as long as that makes sense."""

from __future__ import annotations

import math
import random
import time
from typing import Any, Callable, TypeVar

from .errors import AnabranchError
from .wire.http import Happened

T = TypeVar("T")

FIRST = 0.05
MOST = 2.0
LEAST = 0.25
"""An attempt that has less time, in seconds, is not made: it would only hide why the last one
failed.
"""

ATTEMPT_MOST = 10.0
"""The longest that one attempt waits for its answer, in seconds."""


def seconds(name: str, value: Any) -> float:
    """A time that a caller has named. What is no number would never be over."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise TypeError(f"{name} is a number of seconds, and not {value!r}")
    return float(value)


def least(timeout: float) -> float:
    """How long an attempt takes at least that is worth making, of so long a time."""
    return min(LEAST, timeout / 4)


class Again:
    """How long to wait before the next attempt: twice as long each time, not all at once."""

    def __init__(self) -> None:
        self._next = FIRST

    def reset(self) -> None:
        """Somebody has answered."""
        self._next = FIRST

    def pause(self) -> float:
        """Seconds to wait, if nobody says otherwise."""
        wait = self._next * random.uniform(0.75, 1.25)
        self._next = min(self._next * 2, MOST)
        return wait

    def wait(self, error: AnabranchError) -> float:
        """Seconds to wait after this error."""
        wait = self.pause()
        return wait if error.retry_after is None else max(error.retry_after, FIRST)


def until_done(timeout: float, once: Callable[[float], T]) -> T:
    """Calls `once` with the seconds it may take, again while the error is a passing one.

    What it asks for has an id of its own, so a repeat is safe, and a good answer or a clear
    refusal also says what has become of the attempts before. If the time ends first, the last
    error is raised; it says `maybe` if any attempt may have been done.
    """
    deadline = time.monotonic() + seconds("timeout", timeout)
    again = Again()
    may_have: Happened = "no"
    while True:
        left = max(deadline - time.monotonic(), 0.001)
        try:
            return once(min(left, ATTEMPT_MOST))
        except AnabranchError as error:
            if error.happened == "maybe":
                may_have = "maybe"
            if not error.passing:
                raise
            wait = again.wait(error)
            if time.monotonic() + wait + least(timeout) >= deadline:
                error.happened = may_have
                raise
            time.sleep(wait)
