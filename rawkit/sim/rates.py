"""How long a packet is on the wire: constant rates, rates that change, delivery traces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Protocol

from rawkit.errors import LocalProtocolError
from rawkit.transport.clockwork import FOREVER
from rawkit.units import parse_rate

_PER_OCTET = 8 * 10**9  # bits per second times nanoseconds


class Serializer(Protocol):
    """Says when packets that are sent one after the other have left."""

    octet_ns: int | None
    """What each octet takes, where that is a whole number at all times, so that nobody need ask `finish`."""

    def finish(self, start_ns: int, size: int) -> int:
        """When `size` octets have left that begin at `start_ns`, which is never before the last result."""


class Constant:
    """So many bits of IP packets per second; exact, because what is left of a division is carried over."""

    __slots__ = ("_end_ns", "_left", "octet_ns", "rate_bps")

    def __init__(self, rate_bps: int) -> None:
        self.rate_bps = rate_bps
        self.octet_ns = None if _PER_OCTET % rate_bps else _PER_OCTET // rate_bps
        self._end_ns = -1
        self._left = 0  # of a nanosecond, in units of 1 / rate_bps

    def finish(self, start_ns: int, size: int) -> int:
        left = self._left if start_ns == self._end_ns else 0
        whole, self._left = divmod(size * _PER_OCTET + left, self.rate_bps)
        self._end_ns = start_ns + whole
        return self._end_ns


class Stepwise:
    """A rate that changes at certain times; 0 suspends the link, None is infinitely fast."""

    octet_ns: int | None = None

    def __init__(self, steps: Iterable[tuple[int, int | None]]) -> None:
        self._steps = sorted(steps, key=lambda step: step[0])
        self._times = [time_ns for time_ns, _ in self._steps]

    def finish(self, start_ns: int, size: int) -> int:
        todo, at = size * _PER_OCTET, start_ns
        index = max(bisect_right(self._times, at) - 1, 0)
        while True:
            rate = self._steps[index][1]
            index += 1
            until = self._times[index] if index < len(self._times) else FOREVER
            if rate is None or todo <= (until - at) * rate:
                return at if rate is None else at - (-todo // rate)
            if until == FOREVER:
                return FOREVER  # suspended for good
            todo -= (until - at) * rate
            at = until


class Mahimahi:
    """A delivery trace of Mahimahi: each number is a millisecond in which 1500 octets may leave.

    After the last millisecond it begins again. Small packets share an opportunity, large ones take several;
    one of which nothing has been used by its millisecond is lost.
    """

    OCTETS = 1500
    octet_ns: int | None = None

    def __init__(self, milliseconds: Sequence[int]) -> None:
        if not milliseconds or milliseconds[-1] < 1 or list(milliseconds) != sorted(milliseconds):
            raise LocalProtocolError("a delivery trace needs rising milliseconds, the last at least 1")
        self.at_ms = list(milliseconds)
        self._left = 0  # octets of the opportunity in use
        self._next = 0  # the first opportunity not used, counted through all rounds

    @classmethod
    def parse(cls, text: str) -> Mahimahi:
        """From the text of a trace file: a number a line.

        Raises:
            LocalProtocolError: a line that is no number, or numbers that do not rise.
        """
        lines = [line.strip() for line in text.splitlines()]
        bad = next((line for line in lines if line and not line.isdigit()), None)
        if bad is not None:
            raise LocalProtocolError(f"a delivery trace has a whole number on each line, not {bad!r}")
        return cls([int(line) for line in lines if line])

    def _time_ns(self, opportunity: int) -> int:
        rounds, index = divmod(opportunity, len(self.at_ms))
        return (rounds * self.at_ms[-1] + self.at_ms[index]) * 10**6

    def finish(self, start_ns: int, size: int) -> int:
        if self._next and self._left and self._time_ns(self._next - 1) < start_ns:
            self._left = 0  # its millisecond has passed
        while self._left < size:
            if self._time_ns(self._next) < start_ns:
                rounds = max(start_ns // 10**6 // self.at_ms[-1] - 1, 0)
                self._next = max(self._next, rounds * len(self.at_ms))
                while self._time_ns(self._next) < start_ns:
                    self._next += 1
            self._left += self.OCTETS
            self._next += 1
        self._left -= size
        return max(self._time_ns(self._next - 1), start_ns)


def serializer(
    rate: str | float | Mahimahi | None, changes: Iterable[tuple[int, str | float | None]]
) -> Serializer | None:
    """What serializes at a rate, with changes of it at times in ns; None for a link without a rate."""
    if isinstance(rate, Mahimahi):
        return Mahimahi(rate.at_ms)  # one in use remembers where it is
    steps = [(0, rate), *changes]
    if len(steps) == 1:
        return None if rate is None else Constant(parse_rate(rate))
    return Stepwise((at, value if value in (None, 0) else parse_rate(value)) for at, value in steps)  # type: ignore[misc]
