"""What a link does to packets besides carrying them: lose, damage, repeat, delay, overtake.

A model is a value. A link gives it a key of its own with `bind`, and what comes back judges each packet by
its number on that link and direction: randomness is a function of (seed, link, direction, model, number), so
a model that is added or taken away leaves the fates that others deal as they were.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Protocol

from rawkit.transport.chance import chance, draw
from rawkit.units import parse_duration

if TYPE_CHECKING:
    from rawkit.sim.link import Datagram


class Verdict:
    """What is to happen to one packet; models add to it."""

    __slots__ = ("behind", "copies_ns", "delay_ns", "drop", "flips")

    def __init__(self) -> None:
        self.drop = ""
        """Why it is lost; "" when it is not."""
        self.flips: list[int] = []
        """Bits of the IP packet to invert, counted from its first."""
        self.copies_ns: list[int] = []
        """Copies to send, each so long after the original."""
        self.delay_ns = 0
        """What is added to the propagation delay, for this packet only: others may overtake it."""
        self.behind = 0
        """How many later packets overtake it."""


class Judge(Protocol):
    """A model bound to one direction of a link."""

    def judge(self, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        """Add to the verdict on the packet that is the `number`-th (from 0) offered here."""


class Model(Protocol):
    """Something that can happen to packets."""

    def bind(self, key: int) -> Judge:
        """The model with a random stream and a memory of its own."""


def _check(what: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
    if not low <= value <= high:
        raise ValueError(f"{what} must be between {low:g} and {high:g}, got {value}")


class _Stateless:
    """A model whose verdicts depend on the packet's number alone, so that it is bound by adding the key."""

    def bind(self, key: int) -> Judge:
        return _Bound(self, key)

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        raise NotImplementedError


@dataclass(slots=True)
class _Bound:
    model: _Stateless
    key: int

    def judge(self, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        self.model.deal(self.key, number, now_ns, datagram, verdict)


@dataclass(frozen=True)
class Bernoulli(_Stateless):
    """Each packet is lost with probability `p`, whatever happened to others."""

    p: float

    def __post_init__(self) -> None:
        _check("a probability", self.p)

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        if chance(key, number) < self.p:
            verdict.drop = "loss"


@dataclass(frozen=True)
class GilbertElliott:
    """Losses in bursts (Gilbert 1960, Elliott 1963): a good and a bad state, of which each packet sees one.

    `p` is the probability of going from good to bad before a packet, `r` that of going back; a packet gets
    through with probability `k` in the good state and `h` in the bad one. With the defaults the share of
    packets lost is p / (p + r), and bursts are 1 / r packets long on average.
    """

    p: float
    r: float
    h: float = 0.0
    k: float = 1.0

    def __post_init__(self) -> None:
        for value in (self.p, self.r, self.h, self.k):
            _check("a probability", value)

    def bind(self, key: int) -> Judge:
        return _GilbertElliottState(self, key)


class _GilbertElliottState:
    __slots__ = ("bad", "key", "model")

    def __init__(self, model: GilbertElliott, key: int) -> None:
        self.model, self.key, self.bad = model, key, False

    def judge(self, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        model = self.model
        step = chance(self.key, 2 * number)
        self.bad = step >= model.r if self.bad else step < model.p
        if chance(self.key, 2 * number + 1) >= (model.h if self.bad else model.k):
            verdict.drop = "loss in a burst" if self.bad else "loss"


@dataclass(frozen=True)
class Periodic(_Stateless):
    """Every `n`-th packet is lost: those with the numbers n - 1, 2n - 1, ..."""

    n: int

    def __post_init__(self) -> None:
        _check("a period", self.n, 1, 2**63)

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        if number % self.n == self.n - 1:
            verdict.drop = "loss"


@dataclass(frozen=True)
class Burst(_Stateless):
    """The last `length` of every `every` packets are lost."""

    every: int
    length: int

    def __post_init__(self) -> None:
        _check("a burst's length", self.length, 1, self.every)

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        if number % self.every >= self.every - self.length:
            verdict.drop = "loss in a burst"


@dataclass(frozen=True)
class Numbers(_Stateless):
    """The packets with these numbers (from 0) are lost."""

    numbers: frozenset[int]

    def __init__(self, numbers: Iterable[int]) -> None:
        object.__setattr__(self, "numbers", frozenset(numbers))

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        if number in self.numbers:
            verdict.drop = "loss"


@dataclass(frozen=True)
class Blackhole(_Stateless):
    """Everything is lost from one time to another (durations from the start, as "2s")."""

    start: str | float
    end: str | float

    def __post_init__(self) -> None:
        object.__setattr__(self, "_span", (parse_duration(self.start), parse_duration(self.end)))

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        start_ns, end_ns = self._span  # type: ignore[attr-defined]
        if start_ns <= now_ns < end_ns:
            verdict.drop = "blackhole"


@dataclass(frozen=True)
class Corrupt(_Stateless):
    """Bits are inverted: one bit of a packet with probability `p`, or each bit with the error rate `ber`."""

    p: float = 0.0
    ber: float = 0.0

    def __post_init__(self) -> None:
        _check("a probability", self.p)
        _check("a bit error rate", self.ber, 0, 0.5)

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        bits = datagram.size * 8
        own = draw(key, number)  # a stream of its own for each packet
        if self.p and chance(own, 0) < self.p:
            verdict.flips.append(draw(own, 1) * bits >> 64)
        if self.ber:
            at, position = -1, 2
            while True:  # from one error to the next: the gap is geometric
                at += 1 + int(log(1.0 - chance(own, position)) / log(1.0 - self.ber))
                if at >= bits:
                    break
                verdict.flips.append(at)
                position += 1


@dataclass(frozen=True)
class Duplicate(_Stateless):
    """A copy follows with probability `p`, `gap` later."""

    p: float
    gap: str | float = 0

    def __post_init__(self) -> None:
        _check("a probability", self.p)
        object.__setattr__(self, "_gap_ns", parse_duration(self.gap))

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        if chance(key, number) < self.p:
            verdict.copies_ns.append(self._gap_ns)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Reorder(_Stateless):
    """With probability `p` a packet lets `by_packets` later ones overtake, or comes `by_time` late.

    One that nobody overtakes is kept for 100 ms at most (`link.HOLD_NS`).
    """

    p: float
    by_packets: int = 0
    by_time: str | float = 0

    def __post_init__(self) -> None:
        _check("a probability", self.p)
        object.__setattr__(self, "_time_ns", parse_duration(self.by_time))
        if (self.by_packets > 0) == (self._time_ns > 0):  # type: ignore[attr-defined]
            raise ValueError("reordering needs one of by_packets= and by_time=")

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        if chance(key, number) < self.p:
            verdict.behind = max(verdict.behind, self.by_packets)
            verdict.delay_ns += self._time_ns  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Jitter(_Stateless):
    """A random extra delay, uniform between 0 and `most`; packets overtake each other by it."""

    most: str | float

    def __post_init__(self) -> None:
        object.__setattr__(self, "_most_ns", parse_duration(self.most))

    def deal(self, key: int, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        verdict.delay_ns += draw(key, number) * (self._most_ns + 1) >> 64  # type: ignore[attr-defined]
