"""A link: two directions, each a pipeline that every packet goes through in this order.

    mtu check -> fate (loss, duplication, corruption) -> queue (limit, AQM, ECN) -> serializer
              -> propagation (delay, jitter, reordering) -> delivery

A packet's way through it is worked out when it is offered: a first-in-first-out queue at a rate that is known
for all times has no surprises. So a packet costs one event. Only a discipline that decides at the head of
the queue (CoDel) is run packet by packet.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappush
from typing import TYPE_CHECKING, Any

from rawkit.errors import LocalProtocolError
from rawkit.sim.models import Judge, Model, Verdict
from rawkit.sim.queues import DROP, MARK, DropTail, Queue
from rawkit.sim.rates import Mahimahi, serializer
from rawkit.transport.chance import draw, stream_key
from rawkit.transport.clockwork import FOREVER, Clockwork
from rawkit.units import parse_duration, parse_rate

if TYPE_CHECKING:
    from rawkit.sim.network import Node
    from rawkit.transport.trace import Trace

HOLD_NS = 100 * 10**6
"""How long a packet that others are to overtake waits for them at most."""


class Datagram:
    """A packet under way: transport octets, and what the IP header around them says."""

    __slots__ = ("dst", "ecn", "number", "octets", "port", "size", "src")

    def __init__(
        self, octets: bytes, size: int, src: Node, dst: Node, port: int, ecn: int, number: int
    ) -> None:
        self.octets = octets
        self.size = size
        """Octets of the IP packet."""
        self.src = src
        self.dst = dst
        self.port = port
        """Which of the endpoints at the ends it belongs to."""
        self.ecn = ecn
        self.number = number
        """Counts the packets of the whole run; a copy has the number of its original."""

    @property
    def facts(self) -> tuple[int, str, str, bytes, int]:
        """What a trace says of it."""
        return self.number, self.src.address, self.dst.address, self.octets, self.ecn

    def copy(self) -> Datagram:
        return Datagram(self.octets, self.size, self.src, self.dst, self.port, self.ecn, self.number)


@dataclass(frozen=True)
class LinkSpec:
    """What a link does, as a value. Rates count bits of IP packets, plus `frame_octets` for each of them.

    `models` are applied in their order; what one loses is not seen by the next.
    """

    rate: str | float | Mahimahi | None = None
    """Bits per second ("10Mbit/s"), a delivery trace, or None: infinitely fast."""
    delay: str | float = 0
    """Propagation, one way."""
    queue: Queue = field(default_factory=DropTail)
    models: tuple[Model, ...] = ()
    mtu: int = 1500
    jitter: str | float = 0
    """A random delay between 0 and this, that keeps packets in order (`models.Jitter` does not)."""
    changes: tuple[tuple[str | float, dict[str, Any]], ...] = ()
    """Times, and what is different from then on: `rate` (0 suspends the link) and `delay`."""
    frame_octets: int = 0

    @property
    def constant_rate_bps(self) -> int | None:
        """Its rate, where it has one that does not change."""
        if not isinstance(self.rate, (str, int, float)) or any(
            "rate" in change for _, change in self.changes
        ):
            return None
        return parse_rate(self.rate)

    def at(self, time: str | float, **change: Any) -> LinkSpec:
        """The same link, on which `rate` or `delay` changes at a time.

        Raises:
            TypeError: another attribute than those two.
        """
        if not change.keys() <= {"rate", "delay"}:
            raise TypeError(f"rate and delay can change, not {', '.join(change.keys() - {'rate', 'delay'})}")
        return replace(self, changes=(*self.changes, (time, change)))


@dataclass(eq=False, slots=True)
class _Held:
    behind: int  # how many are still to overtake it
    datagram: Datagram


def keyed(models: Iterable[Model], seed: int, direction: str) -> Iterator[tuple[Model, int]]:
    """Models with the keys of their random numbers on a direction "a>b"."""
    # The k-th model of a kind has a stream of its own, whatever other kinds stand beside it.
    seen: Counter[str] = Counter()
    for model in models:
        name = type(model).__name__
        yield model, stream_key(seed, direction, name, seen[name])
        seen[name] += 1


class Direction:
    """One direction of a link."""

    def __init__(
        self, clock: Clockwork, spec: LinkSpec, source: Node, target: Node, seed: int, trace: Trace | None
    ) -> None:
        self.clock, self.spec = clock, spec
        self.source, self.target = source, target
        self.name = f"{source.name}>{target.name}"
        self.trace = trace
        self._counts: Counter[str] = Counter()
        self.delivered = 0
        """Packets that came out, copies too."""
        self._judges = [model.bind(key) for model, key in keyed(spec.models, seed, self.name)]
        self._mtu, self._frame_octets = spec.mtu, spec.frame_octets
        self._queue = spec.queue.bind(stream_key(seed, self.name, "queue"))
        changes = [(parse_duration(at), change) for at, change in spec.changes]
        self._serial = serializer(spec.rate, [(at, c["rate"]) for at, c in changes if "rate" in c])
        self._octet_ns = 0 if self._serial is None else self._serial.octet_ns
        # The most frequent queue, by packets alone, is looked after in `send`; where nothing waits, none is.
        limit = spec.queue.packets if isinstance(spec.queue, DropTail) else None
        self._counted = spec.queue == DropTail(limit) or (self._serial is None and not self._queue.at_dequeue)
        self._most = limit
        self._delays: list[tuple[int, int]] = sorted(
            [
                (0, parse_duration(spec.delay)),
                *((at, parse_duration(c["delay"])) for at, c in changes if "delay" in c),
            ]
        )
        self._jitter_ns, self._jitter_key = parse_duration(spec.jitter), stream_key(seed, self.name, "jitter")
        self._delay_ns = self._delays[0][1]
        self._steady = len(self._delays) == 1 and not self._jitter_ns
        # Under way where nothing reorders: only the first is on the clock's heap, which so stays small.
        self._arriving: deque[tuple[int, int, Callable[[Any], None], Any]] = deque()
        self._arrive = self._deliver_first  # bound once
        # Where nothing can delay or reorder packets, they simply arrive.
        self._plain = self._steady and not spec.models
        self._number = self._jittered = 0
        self._busy_ns = 0  # when the wire is free
        self._last_ns = 0  # when the last packet in order arrives
        self._turns: deque[int] = deque()  # when the turn comes of what waits, where it is only counted
        self._waiting: deque[tuple[int, int]] = deque()  # (when its turn comes, size), first-in-first-out
        self._waiting_octets = 0
        self._line: deque[tuple[int, Datagram, Verdict | None]] = deque()  # for disciplines that decide there
        self._serving = False
        self._held: list[_Held] = []

    def add_judge(self, judge: Judge) -> None:
        """Let one more judge decide, before the models of the link."""
        self._judges.insert(0, judge)
        self._plain = False

    @property
    def counts(self) -> Counter[str]:
        """Packets by what became of them: "delivered", "duplicated", "corrupted", "marked", or why they
        were lost.
        """
        return self._counts + Counter(delivered=self.delivered)

    def send(self, datagram: Datagram, is_copy: bool = False) -> None:
        """Offer a packet to the link; the copy of one is not judged again."""
        # One function down to delivery, for this is what most packets cost: queue, serializer, propagation.
        verdict = None
        if not is_copy:
            self._number += 1
            if datagram.size > self._mtu:
                self._lose(datagram, "too large")
                return
            if self._judges:
                verdict = self._judge(datagram)
                if verdict is None:
                    return
        clock, start = self.clock, self._busy_ns
        now = clock.now
        if start < now:
            start = now
        if not self._counted:
            if self._queue.at_dequeue:
                self._join_line(datagram, verdict)
                return
            if not self._admit(datagram, now, start):
                return
        elif start > now and self._most is not None:
            turns = self._turns
            if len(turns) >= self._most:
                while turns and turns[0] <= now:
                    turns.popleft()
                if len(turns) >= self._most:
                    self._lose(datagram, "queue full")
                    return
            turns.append(start)
        octets = datagram.size + self._frame_octets
        if self._octet_ns is not None:
            end = start + octets * self._octet_ns
        else:
            end = self._serial.finish(start, octets)  # type: ignore[union-attr]
        self._busy_ns = end
        if end >= FOREVER:
            return  # suspended for good
        if not self._plain:
            self._propagate(end, datagram, verdict)
            return
        clock._serial = serial = clock._serial + 1
        event = (end + self._delay_ns, serial, self._arrive, datagram)
        if not self._arriving:
            heappush(clock._heap, event)
        self._arriving.append(event)

    def _judge(self, datagram: Datagram) -> Verdict | None:
        """What the models say of a packet; None when it is lost."""
        now, verdict = self.clock.now, Verdict()
        for judge in self._judges:
            judge.judge(self._number - 1, now, datagram, verdict)
            if verdict.drop:
                self._lose(datagram, verdict.drop)
                return None
        for gap_ns in verdict.copies_ns:
            self._counts["duplicated"] += 1
            copy = datagram.copy()
            if self.trace is not None:
                self.trace.add(now, "duplicate", self.name, *copy.facts)
            self.clock.at(now + gap_ns, self._send_copy, copy)
        if verdict.flips and not self._damage(datagram, verdict.flips):
            return None
        return verdict

    def _send_copy(self, datagram: Datagram) -> None:
        self.send(datagram, True)

    def _damage(self, datagram: Datagram, flips: list[int]) -> bool:
        self._counts["corrupted"] += 1
        first = (datagram.size - len(datagram.octets)) * 8
        if min(flips) < first:
            self._lose(datagram, "damaged IP header")  # whose own checksum gives it away
            return False
        octets = bytearray(datagram.octets)
        for bit in flips:
            octets[(bit - first) >> 3] ^= 0x80 >> (bit - first & 7)
        datagram.octets = bytes(octets)
        if self.trace is not None:
            self.trace.add(self.clock.now, "corrupt", self.name, *datagram.facts, ", ".join(map(str, flips)))
        return True

    # ---- queue and serializer ---------------------------------------------------------------------

    def _admit(self, datagram: Datagram, now: int, start: int) -> bool:
        """Whether the queue takes a packet, whose turn would come at `start`."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            self._waiting_octets -= waiting.popleft()[1]
        said = self._queue.arrive(now, datagram.size, len(waiting), self._waiting_octets, start - now)
        if said and not self._heed(said, datagram):
            return False
        if start > now:
            waiting.append((start, datagram.size))
            self._waiting_octets += datagram.size
        return True

    def _heed(self, said: str, datagram: Datagram) -> bool:
        """Whether the packet goes on after the queue's verdict."""
        if said == MARK and datagram.ecn:
            datagram.ecn = 3
            self._counts["marked"] += 1
            return True
        if said == DROP or self._queue.drops_unmarked:
            self._lose(datagram, "queue full" if said == DROP else "queue management")
            return False
        return True

    def _join_line(self, datagram: Datagram, verdict: Verdict | None) -> None:
        waits = int(self._serving)  # how long, only its turn tells
        said = self._queue.arrive(self.clock.now, datagram.size, len(self._line), self._waiting_octets, waits)
        if said and not self._heed(said, datagram):
            return
        self._line.append((self.clock.now, datagram, verdict))
        self._waiting_octets += datagram.size
        if not self._serving:
            self._serve(None)

    def _serve(self, _: Any) -> None:
        self._serving = False
        while self._line:
            since, datagram, verdict = self._line.popleft()
            self._waiting_octets -= datagram.size
            said = self._queue.leave(self.clock.now, self.clock.now - since, self._waiting_octets)
            if said and not self._heed(said, datagram):
                continue
            end = self.clock.now
            if self._serial is not None:
                end = self._serial.finish(end, datagram.size + self._frame_octets)
            if end < FOREVER:
                self._serving = True
                self._propagate(end, datagram, verdict)
                self.clock.at(end, self._serve)
            return

    # ---- propagation ------------------------------------------------------------------------------

    def _propagate(self, leaves_ns: int, datagram: Datagram, verdict: Verdict | None) -> None:
        if self._steady:
            arrives = leaves_ns + self._delay_ns
        else:
            arrives = leaves_ns + next(delay for at, delay in reversed(self._delays) if at <= leaves_ns)
            if self._jitter_ns:
                self._jittered += 1
                arrives += draw(self._jitter_key, self._jittered) * (self._jitter_ns + 1) >> 64
            if arrives < self._last_ns:
                arrives = self._last_ns  # this link keeps order, unless a model says otherwise
        if verdict is not None and (verdict.delay_ns or verdict.behind):
            if verdict.behind:
                entry = _Held(verdict.behind, datagram)
                self._held.append(entry)
                self.clock.at(arrives + verdict.delay_ns + HOLD_NS, self._release, entry)
            else:
                self.clock.at(arrives + verdict.delay_ns, self._deliver, datagram)
            return
        self._last_ns = arrives
        self.clock.at(arrives, self._deliver, datagram)
        if self._held:
            for entry in list(self._held):
                entry.behind -= 1
                if not entry.behind:
                    self.clock.at(arrives, self._release, entry)

    def _release(self, entry: _Held) -> None:
        if entry in self._held:
            self._held.remove(entry)
            self._deliver(entry.datagram)

    def _deliver_first(self, datagram: Datagram) -> None:
        arriving = self._arriving
        arriving.popleft()
        if arriving:
            heappush(self.clock._heap, arriving[0])
        self.delivered += 1
        self.target.receive(datagram)

    def _deliver(self, datagram: Datagram) -> None:
        self.delivered += 1
        self.target.receive(datagram)

    def _lose(self, datagram: Datagram, reason: str) -> None:
        self._counts[reason] += 1
        if self.trace is not None:
            self.trace.add(self.clock.now, "drop", self.name, *datagram.facts, reason)
        if reason == "too large":
            datagram.src.too_large(datagram, self._mtu)

    @property
    def offered(self) -> int:
        """How many packets were offered."""
        return self._number


class Link:
    """Two directions between two nodes."""

    def __init__(self, forth: Direction, back: Direction) -> None:
        self.forth = forth
        self.back = back

    def __iter__(self) -> Iterator[Direction]:
        return iter((self.forth, self.back))


def check_name(name: str) -> str:
    """A node's name, which stands in "a>b".

    Raises:
        LocalProtocolError: an empty one, or one with spaces or ">".
    """
    if not name or ">" in name or any(map(str.isspace, name)):
        raise LocalProtocolError(f"bad name for a node: {name!r}")
    return name
