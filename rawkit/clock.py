"""Where time comes from: `Clock`, the machine's monotonic clock, and one that tests move by hand.

All times are integer nanoseconds since an arbitrary start; only differences mean anything.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a driver needs to know about time."""

    def now_ns(self) -> int:
        """The time now, in nanoseconds. Never goes backwards."""
        ...

    def sleep_until(self, due_ns: int) -> None:
        """Return once `now_ns()` has reached `due_ns`; at once when it already has."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC: stands still for nobody, and setting the wall clock does not move it."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until(self, due_ns: int) -> None:
        # The float handed to time.sleep loses nanoseconds, so it may come back a little early.
        while (remaining_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(remaining_ns / 1e9)


class FakeClock:
    """A clock that moves only when told to, so that tests with timers neither wait nor race."""

    __slots__ = ("_now_ns",)

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, by_ns: int) -> None:
        """Move on by `by_ns` nanoseconds. Raises ValueError for a step backwards."""
        if by_ns < 0:
            raise ValueError(f"a clock does not go backwards (asked for {by_ns} ns)")
        self._now_ns += by_ns

    def sleep_until(self, due_ns: int) -> None:
        """Jump to `due_ns`, unless it has passed."""
        self._now_ns = max(self._now_ns, due_ns)
