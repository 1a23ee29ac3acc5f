"""How long an answer took, from stamps of two clocks of which one may be set in between."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

STEP_NS = 1_000_000
"""Readings of the two clocks may be this far apart (the process was interrupted between them)."""


class Moment(NamedTuple):
    """One moment on both clocks: nanoseconds since 1970, and of the monotonic clock."""

    realtime_ns: int
    monotonic_ns: int

    @classmethod
    def now(cls) -> Moment:
        # The real time last: it is what the kernel's stamps are compared with.
        monotonic_ns = time.monotonic_ns()
        return cls(time.time_ns(), monotonic_ns)

    def at(self, realtime_ns: int) -> Moment:
        """An earlier moment, or this one where the real time was set back in between."""
        earlier_ns = max(self.realtime_ns - realtime_ns, 0)
        return Moment(realtime_ns, self.monotonic_ns - earlier_ns)


class RoundTrip(NamedTuple):
    """A round-trip time in nanoseconds, never negative, and who stamped its two ends: "kernel" or "user".

    `stamp` is the arrival's, `tx_stamp` the departure's.
    """

    rtt_ns: int
    stamp: str
    tx_stamp: str = "user"


def round_trip(
    sent: Moment, seen: Moment, kernel_ns: int | None, departed_ns: int | None = None
) -> RoundTrip:
    """The time between `sent`, taken right before sending, and the answer's arrival.

    `kernel_ns` is the kernel's stamp on the answer (CLOCK_REALTIME), None without one; `seen` was taken after
    the answer had been received; `departed_ns` is the kernel's stamp on what was sent, if there is one. The
    kernel's stamps leave out how long this process took to send and to wake up, but the real time may be set
    at any moment: where it jumped, the monotonic clock's difference counts.
    """
    user_ns = max(seen.monotonic_ns - sent.monotonic_ns, 0)
    if kernel_ns is None:
        return RoundTrip(user_ns, "user")
    jump_ns = (seen.realtime_ns - seen.monotonic_ns) - (sent.realtime_ns - sent.monotonic_ns)
    if abs(jump_ns) > STEP_NS:
        return RoundTrip(user_ns, "user")
    for start_ns, stamp in ((departed_ns, "kernel"), (sent.realtime_ns, "user")):
        if start_ns is not None and 0 <= kernel_ns - start_ns <= user_ns + STEP_NS:
            return RoundTrip(kernel_ns - start_ns, "kernel", stamp)
    return RoundTrip(user_ns, "user")


@dataclass(slots=True)
class Spread:
    """Running figures of a series of times, all in one unit, 0 before there are any."""

    n: int = 0
    last: int = 0
    min: int = 0
    max: int = 0
    _sum: int = 0
    _sum_squares: int = 0
    _sum_steps: int = 0

    def add(self, value: int) -> None:
        """Count one more."""
        if self.n:
            self._sum_steps += abs(value - self.last)
        self.min = min(self.min, value) if self.n else value
        self.max = max(self.max, value)
        self._sum += value
        self._sum_squares += value * value
        self.last = value
        self.n += 1

    @property
    def mean(self) -> int:
        return round(self._sum / self.n) if self.n else 0

    @property
    def deviation(self) -> int:
        """The standard deviation."""
        return round(sqrt((self.n * self._sum_squares - self._sum**2) / self.n**2)) if self.n else 0

    @property
    def jitter(self) -> int:
        """The mean difference from one value to the next."""
        return round(self._sum_steps / (self.n - 1)) if self.n > 1 else 0
