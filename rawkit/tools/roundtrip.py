"""How long an answer took, from stamps of two clocks of which one may be set in between."""

from __future__ import annotations

import time
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
