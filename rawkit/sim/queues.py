"""What waits for a link, how much may wait, and what active queue management drops or marks.

A queue is a value; `bind` gives a direction of a link one of its own. It holds what waits, and not the
packet that is being sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Protocol

from rawkit.transport.chance import chance
from rawkit.units import parse_duration

DROP, EARLY, MARK = "drop", "early", "mark"


class Discipline(Protocol):
    """A queue bound to one direction of a link."""

    at_dequeue: bool
    """Whether it decides again when a packet's turn comes (`leave`)."""

    drops_unmarked: bool
    """Whether what it would mark is dropped if it is not ECN-capable."""

    def arrive(self, now_ns: int, size: int, packets: int, octets: int, wait_ns: int) -> str:
        """Verdict on a packet of `size` octets that finds this much waiting and would wait so long.

        "" takes it, "drop" (full) and "early" do not, "mark" marks it (see `drops_unmarked`).
        """

    def leave(self, now_ns: int, sojourn_ns: int, octets: int) -> str:
        """Verdict on a packet whose turn has come; `octets` wait behind it."""


class Queue(Protocol):
    """How a link queues."""

    def bind(self, key: int) -> Discipline:
        """A discipline with a random stream and a memory of its own."""


@dataclass(frozen=True)
class DropTail:
    """First in, first out; what finds it full is lost. Limits: packets, octets, or time to wait."""

    packets: int | None = None
    octets: int | None = None
    time: str | float | None = None

    at_dequeue = False
    drops_unmarked = False

    def __post_init__(self) -> None:
        limit = None if self.time is None else parse_duration(self.time)
        object.__setattr__(self, "_time_ns", limit)

    def bind(self, key: int) -> Discipline:
        return self

    def arrive(self, now_ns: int, size: int, packets: int, octets: int, wait_ns: int) -> str:
        if self.packets is not None and packets >= self.packets and wait_ns:
            return DROP
        if self.octets is not None and octets + size > self.octets and wait_ns:
            return DROP
        limit = self._time_ns  # type: ignore[attr-defined]
        return DROP if limit is not None and wait_ns > limit else ""

    def leave(self, now_ns: int, sojourn_ns: int, octets: int) -> str:
        return ""


@dataclass(frozen=True)
class EcnThreshold:
    """Marks what finds more than `packets` waiting (DCTCP, RFC 8257 section 3.1); full at `limit` packets."""

    packets: int
    limit: int = 1000

    at_dequeue = False
    drops_unmarked = False  # RFC 8257: only a full queue drops

    def bind(self, key: int) -> Discipline:
        return self

    def arrive(self, now_ns: int, size: int, packets: int, octets: int, wait_ns: int) -> str:
        if packets >= self.limit:
            return DROP
        return MARK if packets >= self.packets else ""

    def leave(self, now_ns: int, sojourn_ns: int, octets: int) -> str:
        return ""


@dataclass(frozen=True)
class Red:
    """Random early detection (Floyd, Jacobson 1993), "gentle": drops or marks by the average queue length.

    Below `low` packets nothing, up to `high` with a probability rising to `most`, up to twice `high` rising
    on to 1. `weight` is that of the average.
    """

    low: float = 5.0
    high: float = 15.0
    most: float = 0.1
    weight: float = 0.002
    limit: int = 100

    def bind(self, key: int) -> Discipline:
        return _RedState(self, key)


class _RedState:
    at_dequeue = False
    drops_unmarked = True

    def __init__(self, model: Red, key: int) -> None:
        self.model, self.key = model, key
        self.average = 0.0
        self._since = -1  # packets since the last drop; -1 below the lower threshold
        self._number = 0

    def arrive(self, now_ns: int, size: int, packets: int, octets: int, wait_ns: int) -> str:
        model = self.model
        self.average += model.weight * (packets - self.average)
        self._number += 1
        if packets >= model.limit:
            self._since = 0
            return DROP
        if self.average < model.low:
            self._since = -1
            return ""
        if self.average < model.high:
            share = model.most * (self.average - model.low) / (model.high - model.low)
        else:
            share = model.most + (1 - model.most) * (self.average - model.high) / model.high
        self._since += 1
        # Spreads the drops: the gaps become uniform instead of geometric (section 7 of the paper).
        probability = share / (1 - self._since * share) if self._since * share < 1 else 1.0
        if chance(self.key, self._number) >= probability:
            return ""
        self._since = 0
        return MARK if self.average < model.high else EARLY

    def leave(self, now_ns: int, sojourn_ns: int, octets: int) -> str:
        return ""


@dataclass(frozen=True)
class CoDel:
    """Controlled delay (RFC 8289): drops at the head once packets wait longer than `target` for
    `interval`.
    """

    target: str | float = "5ms"
    interval: str | float = "100ms"
    limit: int = 1000
    mtu: int = 1500

    def __post_init__(self) -> None:
        object.__setattr__(self, "_times", (parse_duration(self.target), parse_duration(self.interval)))

    def bind(self, key: int) -> Discipline:
        return _CoDelState(self)


class _CoDelState:
    """RFC 8289 section 5, with the names of its pseudo-code."""

    at_dequeue = True
    drops_unmarked = True

    def __init__(self, model: CoDel) -> None:
        self.model = model
        self._target: int
        self._interval: int
        self._target, self._interval = model._times  # type: ignore[attr-defined]
        self._first_above_ns = 0
        self._dropping = False
        self._drop_next_ns = 0
        self._count = self._last_count = 0

    def arrive(self, now_ns: int, size: int, packets: int, octets: int, wait_ns: int) -> str:
        return DROP if packets >= self.model.limit else ""

    def leave(self, now_ns: int, sojourn_ns: int, octets: int) -> str:
        ok_to_drop = self._above(now_ns, sojourn_ns, octets)
        if self._dropping:
            if not ok_to_drop:
                self._dropping = False
            elif now_ns >= self._drop_next_ns:
                self._count += 1
                self._drop_next_ns = self._law(self._drop_next_ns)
                return MARK
        elif ok_to_drop:
            self._dropping = True
            # Section 5.4: if the last dropping state ended a short time ago, start from its rate.
            delta = self._count - self._last_count
            recent = now_ns - self._drop_next_ns < 16 * self._interval
            self._count = delta if delta > 1 and recent else 1
            self._drop_next_ns = self._law(now_ns)
            self._last_count = self._count
            return MARK
        return ""

    def _above(self, now_ns: int, sojourn_ns: int, octets: int) -> bool:
        if sojourn_ns < self._target or octets <= self.model.mtu:
            self._first_above_ns = 0
            return False
        if not self._first_above_ns:
            self._first_above_ns = now_ns + self._interval
            return False
        return now_ns >= self._first_above_ns

    def _law(self, time_ns: int) -> int:
        # interval / sqrt(count), in integers
        return time_ns + self._interval * 10**6 // isqrt(self._count * 10**12)
