"""A heap of what will happen, in the order (time, when it was asked for); in virtual time, or real."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from rawkit.errors import LocalProtocolError

FOREVER = 2**63 - 1
"""A time that no run reaches: 292 years."""


class Clockwork:
    """The clock of a simulation, or of a stack, and all that waits for it. Times are integer nanoseconds.

    Two things at one time happen in the order in which they were asked for, so a run never depends on hashes
    or addresses.
    """

    __slots__ = ("_heap", "_serial", "now")

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._serial = 0

    def at(self, time_ns: int, call: Callable[[Any], None], argument: Any = None) -> None:
        """Call `call(argument)` at a time, not before what was asked for earlier for that time.

        Raises:
            LocalProtocolError: the time has passed.
        """
        if time_ns < self.now:
            raise LocalProtocolError(f"{self.now - time_ns} ns in the past, at {self.now} ns")
        self._serial += 1
        heappush(self._heap, (time_ns, self._serial, call, argument))

    def run(self, until_ns: int = FOREVER, stop: Callable[[], bool] | None = None) -> int:
        """Let time pass until nothing is left to do, `until_ns` is reached, or `stop()` is true.

        `stop` is asked after each event. Returns the time: `until_ns` when there was more to do.
        """
        heap = self._heap
        endless = until_ns == FOREVER and stop is None
        while True:  # and not `while heap`, which CPython 3.11 does not specialize
            if not heap:
                break
            if not endless and heap[0][0] > until_ns:
                self.now = until_ns
                break
            self.now, _, call, argument = heappop(heap)
            call(argument)
            if not endless and stop is not None and stop():
                break
        return self.now

    def catch_up(self, now_ns: int) -> None:
        """Real time has come to `now_ns`: call what is due, at that time rather than when it was due."""
        self.now = now_ns
        heap = self._heap
        for _ in range(len(heap)):  # not what is asked for meanwhile, or one that asks for "now" never ends
            if not heap or heap[0][0] > now_ns:
                break
            _, _, call, argument = heappop(heap)
            call(argument)

    @property
    def next_ns(self) -> int | None:
        """When the next thing happens; None when nothing is left to do."""
        return self._heap[0][0] if self._heap else None
