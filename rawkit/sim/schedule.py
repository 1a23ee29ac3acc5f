"""Packet-fate schedules: which packets of a run meet with what, as data.

A schedule is a set of faults. Written out it is a line such as "drop 4, drop 5, delay 7 by 10ms", which
`Schedule.parse` reads back; so a counterexample fits a bug report, a test and a file of golden results.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rawkit.errors import LocalProtocolError
from rawkit.sim.models import Verdict
from rawkit.units import parse_duration
from rawkit.wire.header import Header

if TYPE_CHECKING:
    from rawkit.sim.link import Datagram, Link

Action = Literal["drop", "delay", "duplicate", "corrupt", "swap"]
ACTIONS: tuple[Action, ...] = ("drop", "delay", "swap", "duplicate", "corrupt")
"""From the simplest to the least simple, which is the order in which counterexamples are simplified."""

_WORDS = re.compile(
    r"(?P<action>drop|delay|duplicate|corrupt|swap)"
    r"(?: (?P<sender>[^\s,>]*[^\s,>\d][^\s,>]*)(?: (?P<flag>[A-Z]+))?)?"
    r"(?: (?P<n>\d+))?(?: by (?P<by>\S+))?(?: bit (?P<bit>\d+))?"
    r"(?: from (?P<start>\S+) to (?P<end>\S+))?"
)


def _duration(ns: int) -> str:
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns and ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns}ns"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one packet: the `n`-th (from 0) of all that are transmitted.

    With `sender`, a host's name, only its packets are counted; with `flag` too, only those whose header has
    that flag. `amount` is how late (ns) a delayed packet comes, or which bit of the transport octets is
    inverted. A swapped packet changes places with the next one of its direction, or with `amount` comes
    behind so many. With `span` (ns, ns) it is every packet of that time.
    """

    action: Action
    n: int = 0
    sender: str = ""
    flag: str = ""
    amount: int = 0
    span: tuple[int, int] | None = None

    def __str__(self) -> str:
        words = [self.action, self.sender, self.flag]
        if not self.span:
            words.append(str(self.n))
        if self.action == "delay":
            words.append(f"by {_duration(self.amount)}")
        if self.action == "swap" and self.amount:
            words.append(f"by {self.amount}")
        if self.action == "corrupt":
            words.append(f"bit {self.amount}")
        if self.span:
            words.append(f"from {_duration(self.span[0])} to {_duration(self.span[1])}")
        return " ".join(word for word in words if word)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that `str` wrote.

        Raises:
            LocalProtocolError: it makes no sense.
        """
        match = _WORDS.fullmatch(text.strip())
        if match is None or (match["n"] is None) == (match["start"] is None):
            expected = "'drop 4', 'delay a SYN 0 by 10ms', 'drop b from 1s to 2s'"
            raise LocalProtocolError(f"bad fault {text!r}: expected something like {expected}")
        action: Action = match["action"]  # type: ignore[assignment]
        by = match["by"]
        if (action == "delay" and not by) or (by and action not in ("delay", "swap")):
            raise LocalProtocolError(f"bad fault {text!r}: 'by' goes with delay, and with swap")
        if (match["bit"] and action != "corrupt") or (by and action == "swap" and not by.isdecimal()):
            raise LocalProtocolError(f"bad fault {text!r}: 'bit' goes with corrupt, a number with swap")
        amount = parse_duration(by) if action == "delay" else int(by or match["bit"] or 0)
        span = (parse_duration(match["start"]), parse_duration(match["end"])) if match["start"] else None
        return cls(action, int(match["n"] or 0), match["sender"] or "", match["flag"] or "", amount, span)

    @property
    def overtaken(self) -> int:
        """How many packets overtake a swapped one."""
        return max(self.amount, 1)

    @property
    def weight(self) -> tuple[int, str, str, int, int]:
        """What counterexamples are simplified by: the action, whom it concerns, how early, how much."""
        return ACTIONS.index(self.action), self.sender, self.flag, self.n, self.amount


@dataclass(frozen=True, slots=True)
class Schedule:
    """Faults, in order; equal ones once."""

    faults: tuple[Fault, ...] = ()

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        unique = sorted(set(faults), key=lambda fault: (fault.n, fault.weight))
        object.__setattr__(self, "faults", tuple(unique))

    @classmethod
    def drops(cls, numbers: Iterable[int]) -> Schedule:
        """The schedule that drops these transmissions."""
        return cls(Fault("drop", n) for n in numbers)

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule that `str` wrote; "no faults" and "" are the empty one.

        Raises:
            LocalProtocolError: a fault that makes no sense.
        """
        if text.strip() in ("", "no faults"):
            return cls()
        return cls(Fault.parse(part) for part in text.split(","))

    def __str__(self) -> str:
        return ", ".join(map(str, self.faults)) or "no faults"

    def __len__(self) -> int:
        return len(self.faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    def attach(self, link: Link, header: type[Header] | None = None) -> None:
        """Let a link follow this schedule; `header` is needed for faults that name a flag.

        Raises:
            LocalProtocolError: a flag that the header does not have.
        """
        if not self.faults:
            return
        counts: Counter[tuple[str, str]] = Counter()
        flags = {}
        for name in {fault.flag for fault in self.faults} - {""}:
            if header is None or not isinstance(getattr(header, name, None), int):
                raise LocalProtocolError(f"the header has no flag {name}")
            flags[name] = getattr(header, name)
        for direction in link:
            direction.add_judge(_Follower(self, direction.source.name, counts, header, flags))


class _Follower:
    """Judges by a schedule; both directions of a link share the counts."""

    def __init__(
        self,
        schedule: Schedule,
        sender: str,
        counts: Counter[tuple[str, str]],
        header: type[Header] | None,
        flags: dict[str, int],
    ) -> None:
        self.sender, self.counts, self.header, self.flags = sender, counts, header, flags
        self.spans = [f for f in schedule.faults if f.span and f.sender in ("", sender)]
        self.by_place: dict[tuple[str, str, int], list[Fault]] = {}
        for fault in schedule.faults:
            if not fault.span:
                self.by_place.setdefault((fault.sender, fault.flag, fault.n), []).append(fault)

    def judge(self, number: int, now_ns: int, datagram: Datagram, verdict: Verdict) -> None:
        counts, sender = self.counts, self.sender
        places = [("", ""), (sender, "")]
        if self.flags and self.header is not None:
            parsed, _, _ = self.header._parse(datagram.octets, 0, len(datagram.octets))
            value = getattr(parsed, self.header.roles["flags"][1].name)
            places += [(sender, name) for name, bit in self.flags.items() if value & bit]
        for place in places:
            for fault in self.by_place.get((*place, counts[place]), ()):
                self._apply(fault, datagram, verdict)
            counts[place] += 1
        for fault in self.spans:
            if fault.span and fault.span[0] <= now_ns < fault.span[1]:
                self._apply(fault, datagram, verdict)

    @staticmethod
    def _apply(fault: Fault, datagram: Datagram, verdict: Verdict) -> None:
        if fault.action == "drop":
            verdict.drop = str(fault)
        elif fault.action == "delay":
            verdict.delay_ns += fault.amount
        elif fault.action == "duplicate":
            verdict.copies_ns.append(0)
        elif fault.action == "swap":
            verdict.behind = max(verdict.behind, fault.overtaken)
        else:
            below = datagram.size - len(datagram.octets)
            verdict.flips.append(below * 8 + fault.amount % (len(datagram.octets) * 8))
