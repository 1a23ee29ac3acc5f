"""Trace without I/O: which probe to send when, which one a packet answers, and the path that follows.

Probes with every hop limit that may matter are on their way at once: up to `ahead` hops beyond the last hop
of which something is known. When the target has answered, nothing is sent beyond it; what was is left out.

Routers limit how many ICMP errors they send. As long as nothing is known of a flow's hop, a probe that goes
unanswered is therefore sent again, a timeout later, where other flows were answered: there, silence is a lost
packet or a limit, and no policy. So it is where only silence lies between the hop and the target, whose own
limit it may be.

How long to wait is seen from what answers: hops that probes of the same flow got past are given ten of the
slowest round trips, and 300 ms at least; those beyond the last answer, and those whose silence may be a
limit, the whole timeout.

Unprivileged, of what an error quotes only the payload is known, and some routers quote none. Such an error
is credited when only one probe of its flow is on its way; therefore, once there was one that could not be,
what is sent again goes alone.
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import islice
from typing import Literal

from rawkit.addr import IPAddress
from rawkit.errors import EngineError
from rawkit.tools.exchanger import HOLD_NS
from rawkit.tools.roundtrip import Moment, Spread, round_trip
from rawkit.tools.scan.pace import RatePace
from rawkit.tools.traceprobes import MARKS_N, TOKEN_LEN, TraceProbes
from rawkit.tools.tracequote import extensions, quotation
from rawkit.tools.traceresult import (
    Kind,
    TraceAnswer,
    TraceConfig,
    TraceError,
    TraceHop,
    TraceNode,
    TracePath,
    TraceSent,
    TraceTimeout,
)
from rawkit.wire.header import Header
from rawkit.wire.icmp import ICMP
from rawkit.wire.icmpext import extension_of
from rawkit.wire.icmpv6 import ICMPv6
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet
from rawkit.wire.sctp import SCTP
from rawkit.wire.tcp import TCP
from rawkit.wire.udp import UDP

_IPV6_MTU = 1280

# Where a router does not say what fits (RFC 1191 section 7).
_PLATEAUS = (32000, 17914, 8166, 4352, 2002, 1492, 1280, 1006, 508, 296, 68)


_TRIPS, _SOON_MIN_NS = 10, 300_000_000
"""What a hop is given that others got past: ten of the slowest round trips, as by traceroute; no less."""

_NEVER = Moment(0, 0)


@dataclass(slots=True)
class _Probe:
    flow: int
    hop: int
    round: int
    attempt: int
    size: int
    mark: int
    token: bytes
    moment: Moment = _NEVER
    departed_ns: int | None = None
    refused_ns: int = 0
    state: Literal["waiting", "answered", "lost", "done"] = "waiting"


@dataclass(slots=True)
class _Flow:
    """What is known of a flow. `distance` is the hop at which it ends."""

    size: int
    distance: int | None = None
    reached: bool = False
    unmatched: int = 0
    seen: dict[int, Counter[str]] = field(default_factory=dict)
    decided: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class _Hop:
    sent: int = 0
    received: int = 0
    lost: int = 0
    nodes: dict[str, _Node] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    latest: TraceAnswer
    flows: set[int] = field(default_factory=set)
    spread: Spread = field(default_factory=Spread)
    size: int = 0


class Tracer:
    """The probes of one session, and what became of them."""

    def __init__(
        self, target: IPAddress, probes: TraceProbes, config: TraceConfig, size: int | None = None
    ) -> None:
        """`size` is that of the first probes (None: as the config says, 1500 octets where it is tried)."""
        self.target = target
        self.config = config
        self._probes = probes
        start = size or config.start_size(target.version, 1500)
        # An IPv6 link takes no less (RFC 8200 section 5).
        self._size_min = _IPV6_MTU if config.mtu and target.version == 6 else probes.size_min(target.version)
        self._flows = [_Flow(max(start, self._size_min)) for _ in range(config.flows)]
        self._hops: dict[int, _Hop] = {}
        self._sent: dict[int, _Probe] = {}
        self._by_mark: dict[int, int] = {}
        self._by_token: dict[bytes, int] = {}
        self._number = 0
        self._pace = RatePace(config.rate)
        self._waiting: deque[tuple[int, int]] = deque()  # since when, which probe
        self._slowest_ns = 0  # round trip
        self._in_line: deque[_Probe] = deque()  # what was chosen before, and goes first
        self._next = (1, config.first_hop, 0)  # round, hop and flow of the next new probe
        self._round_ns = 0
        self._front = config.first_hop - 1  # the last hop of which something is known
        self._hold_ns = 0

    # ---- sending

    def due_ns(self) -> int | None:
        waiting = self._waiting
        while waiting and self._sent_state(waiting[0][1]) != "waiting":
            waiting.popleft()
        times = []
        if waiting:
            times.append(waiting[0][0] + self._wait_ns(waiting[0][1]))
            soon = (
                since_ns for since_ns, n in waiting if self._sent_state(n) == "waiting" and self._is_passed(n)
            )
            times += [since_ns + self._soon_ns for since_ns in islice(soon, 1)]
        if self._in_line:
            if not self._is_blocked(self._in_line[0]):
                times.append(max(self._hold_ns, self._pace.due_ns()))
        elif (place := self._place()) is not None:
            start_ns = self._round_ns if place[1:] == (self.config.first_hop, 0) else 0
            if place[1] <= self._front + self.config.ahead:
                times.append(max(self._hold_ns, self._pace.due_ns(), start_ns))
        return min(times, default=None)

    @property
    def _soon_ns(self) -> int:
        """How long to wait for a hop, of which there are answers from beyond: it would be heard by then."""
        return min(self.config.timeout_ns, max(_TRIPS * self._slowest_ns, _SOON_MIN_NS))

    def _is_passed(self, number: int) -> bool:
        """Whether a probe is for a hop that others of its flow have got past, or for the target.

        Not where it would be repeated because of a limit: that takes its time.
        """
        probe = self._sent[number]
        flow = self._flows[probe.flow]
        passed = flow.distance is not None or probe.hop < max(flow.seen, default=0)
        return passed and not (probe.attempt <= self.config.retries and self._may_be_limited(probe))

    def _wait_ns(self, number: int) -> int:
        return self._soon_ns if self._is_passed(number) else self.config.timeout_ns

    def _sent_state(self, number: int) -> str:
        probe = self._sent.get(number)
        return "done" if probe is None else probe.state

    def _place(self) -> tuple[int, int, int] | None:
        """Round, hop and flow of the next new probe, None when all have been sent."""
        config = self.config
        round, hop, flow = self._next
        while True:
            if config.count is not None and round > config.count:
                self._next = round, hop, flow
                return None
            if flow == config.flows:
                hop, flow = hop + 1, 0
            elif hop > self.last_hop:
                round, hop, flow = round + 1, config.first_hop, 0
            elif self._is_beyond(flow, hop):
                flow += 1
            else:
                self._next = round, hop, flow
                return self._next

    def _is_beyond(self, flow: int, hop: int) -> bool:
        distance = self._flows[flow].distance
        return distance is not None and hop > distance

    @property
    def last_hop(self) -> int:
        """Where the longest flow ends, as far as is known."""
        distances = [flow.distance for flow in self._flows if flow.distance is not None]
        return max(distances) if len(distances) == len(self._flows) else self.config.max_hops

    def next(self, now_ns: int, at_most: int) -> list[int]:
        if now_ns < self._hold_ns:
            return []
        at_most = min(at_most, self._pace.allowed(now_ns))
        numbers: list[int] = []
        while len(numbers) < at_most and (probe := self._choose(now_ns)) is not None:
            numbers.append(self._enter(probe))
            if self._flows[probe.flow].unmatched:
                break  # the next one may have to wait for this
        self._pace.sent(len(numbers), now_ns)
        return numbers

    def _choose(self, now_ns: int) -> _Probe | None:
        while self._in_line:
            if self._is_blocked(self._in_line[0]):
                return None
            probe = self._in_line.popleft()
            if not self._is_beyond(probe.flow, probe.hop):
                return probe
        place = self._place()
        if place is None or place[1] > self._front + self.config.ahead:
            return None
        round, hop, flow = place
        if (hop, flow) == (self.config.first_hop, 0):
            if now_ns < self._round_ns:
                return None
            # After a pause (the process was stopped) what was missed is not caught up with.
            due_ns = self._round_ns if now_ns - self._round_ns < self.config.interval_ns else now_ns
            self._round_ns = due_ns + self.config.interval_ns
        self._next = round, hop, flow + 1
        return self._probe(flow, hop, round, 1)

    def _is_blocked(self, probe: _Probe) -> bool:
        """Whether it has to wait until it is alone, because errors do not tell which probe they are about."""
        return self._flows[probe.flow].unmatched > 0 and bool(self._waiting_of(probe.flow))

    def _probe(self, flow: int, hop: int, round: int, attempt: int) -> _Probe:
        return _Probe(flow, hop, round, attempt, self._flows[flow].size, 0, b"")

    def _enter(self, probe: _Probe) -> int:
        """Number a probe that is about to be sent, and let go of the one that had its mark before."""
        number = self._number
        self._number += 1
        probe.mark = 1 + number % MARKS_N
        probe.token = self._probes.token(probe.mark)
        before = self._by_mark.get(probe.mark)
        if before is not None:
            self._sent.pop(before, None)
        self._by_mark[probe.mark] = number
        self._by_token[probe.token] = number
        self._sent[number] = probe
        return number

    def octets(self, number: int) -> bytes:
        probe = self._sent[number]
        return self._probes.octets(probe.flow, probe.mark, probe.hop, probe.size)

    def sent(self, number: int, moment: Moment) -> TraceSent:
        probe = self._sent[number]
        probe.moment = moment
        self._hops.setdefault(probe.hop, _Hop()).sent += 1
        self._waiting.append((moment.monotonic_ns, number))
        return TraceSent(
            probe.flow + 1, probe.hop, probe.round, probe.attempt, probe.size, moment.realtime_ns
        )

    def departed(self, number: int, attempt: int, time_ns: int) -> None:
        """The kernel's own stamp on a probe."""
        probe = self._sent.get(number)
        # A stamp from before it was sent is another packet's, or the clock was set.
        if probe is not None and time_ns >= probe.moment.realtime_ns:
            probe.departed_ns = time_ns

    def refused(self, numbers: Sequence[int], error: EngineError, now_ns: int) -> Iterator[TraceError]:
        """Queues are full: these are tried again for as long as an answer would be waited for."""
        self._hold_ns = now_ns + HOLD_NS
        again = []
        for number in numbers:
            probe = self._sent[number]
            probe.refused_ns = probe.refused_ns or now_ns
            if now_ns - probe.refused_ns < self.config.timeout_ns:
                again.append(self._sent.pop(number))
            else:
                yield self.failed(number, error, now_ns)
        self._in_line.extendleft(reversed(again))

    def failed(self, number: int, error: EngineError, now_ns: int) -> TraceError:
        probe = self._sent[number]
        probe.state = "done"
        if error.errno != errno.EMSGSIZE or not self._shrink(probe, 0):
            self._decide(probe)
        return TraceError(probe.flow + 1, probe.hop, probe.round, probe.attempt, str(error))

    def _decide(self, probe: _Probe) -> None:
        """There is nothing more to come of a probe and those that stand in for it."""
        self._flows[probe.flow].decided[probe.hop] += 1
        self._front = max(self._front, probe.hop)

    # ---- receiving

    def received(
        self, octets: bytes, linktype: int, seen: Moment, stamp_ns: int | None
    ) -> TraceAnswer | None:
        version = octets[0] >> 4 if octets else 0
        if version != self.target.version:
            return None
        packet = Packet.parse(octets, IPv4 if version == 4 else IPv6)
        for header, at in zip(packet.layers, packet.offsets):
            if header.quotes:
                return self._error(packet, header, octets, at, seen, stamp_ns)
            if isinstance(header, (ICMP, ICMPv6, UDP, TCP, SCTP)):
                return self._answer(packet, octets[at:], seen, stamp_ns)
        return None

    def _error(
        self, packet: Packet, error: Header, octets: bytes, at: int, seen: Moment, stamp_ns: int | None
    ) -> TraceAnswer | None:
        assert isinstance(error, (ICMP, ICMPv6))
        quoted = quotation(octets[at + 8 :])
        if quoted is None or quoted[:3] != (self.target.version, self._probes.protocol, self.target.packed):
            return None
        found = self._probes.quoted(*quoted[3:])
        if found is None:
            return None
        flow, marks, token = found
        if len(token) == TOKEN_LEN:
            number = self._by_token.get(token)
        else:
            number = next((self._by_mark[mark] for mark in marks if mark in self._by_mark), None)
            if number is None:
                waiting = self._waiting_of(flow)
                number = waiting[0] if len(waiting) == 1 else None
                self._flows[flow].unmatched += number is None
        kind: Kind = "unreachable"
        if isinstance(error, ICMP):
            mtu = getattr(error, "mtu", None) if (error.type, error.code) == (3, 4) else None
            exceeded = (error.type, error.code) == (11, 0)
        else:
            mtu = getattr(error, "mtu", None) if error.type == 2 else None
            exceeded = (error.type, error.code) == (3, 0)
        if mtu is not None:
            kind = "too big"
        elif exceeded:
            kind = "hop"
        elif _source(packet) == self.target:
            kind = "target"
        return self._credit(
            number, packet, kind, error.type_text(), (error.type, error.code), mtu, seen, stamp_ns
        )

    def _answer(self, packet: Packet, upper: bytes, seen: Moment, stamp_ns: int | None) -> TraceAnswer | None:
        found = self._probes.answered(upper) if len(upper) >= 8 and _source(packet) == self.target else None
        if found is None:
            return None
        flow, token, text = found
        number = self._by_token.get(token)
        if number is None and self._probes.tokens_return:
            return None
        if number is None:
            # The target says something of its own. It was reached by the probe with the highest hop limit, if
            # by any.
            number = max(self._waiting_of(flow), key=lambda n: self._sent[n].hop, default=None)
        return self._credit(number, packet, "target", text, None, None, seen, stamp_ns)

    def _waiting_of(self, flow: int) -> list[int]:
        """The numbers of a flow's probes that may still be answered in time."""
        return [
            number
            for _, number in self._waiting
            if self._sent_state(number) == "waiting" and self._sent[number].flow == flow
        ]

    def _credit(
        self,
        number: int | None,
        packet: Packet,
        kind: Kind,
        text: str,
        icmp: tuple[int, int] | None,
        mtu: int | None,
        seen: Moment,
        stamp_ns: int | None,
    ) -> TraceAnswer | None:
        probe = self._sent.get(number) if number is not None else None
        if probe is None or self._is_beyond(probe.flow, probe.hop):
            return None
        trip = round_trip(probe.moment, seen, stamp_ns, probe.departed_ns)
        mpls, interfaces = extensions(extension_of(packet))
        ip = packet.layers[0]
        answer = TraceAnswer(
            flow=probe.flow + 1,
            hop=probe.hop,
            round=probe.round,
            attempt=probe.attempt,
            address=str(_source(packet)),
            kind=kind,
            text=text,
            icmp_type=icmp[0] if icmp else None,
            icmp_code=icmp[1] if icmp else None,
            rtt_ns=trip.rtt_ns,
            ttl=ip.ttl if isinstance(ip, IPv4) else ip.hop_limit if isinstance(ip, IPv6) else 0,
            size=probe.size,
            time_ns=seen.realtime_ns if stamp_ns is None else stamp_ns,
            rx_stamp=trip.stamp,
            tx_stamp=trip.tx_stamp,
            mtu=mtu,
            mpls=mpls,
            interfaces=interfaces,
            duplicate=probe.state in ("answered", "done"),
            late=probe.state == "lost",
        )
        if not answer.duplicate:
            self._take(probe, answer)
        return answer

    def _take(self, probe: _Probe, answer: TraceAnswer) -> None:
        hop, flow = self._hops[probe.hop], self._flows[probe.flow]
        if answer.kind == "too big" and self._shrink(probe, answer.mtu or 0):
            if probe.state == "lost":
                hop.lost -= 1
            probe.state = "done"
            hop.sent -= 1
            return
        if probe.state == "lost":
            hop.lost -= 1
        else:
            self._decide(probe)
        probe.state = "answered"
        hop.received += 1
        node = hop.nodes.get(answer.address)
        if node is None:
            node = hop.nodes[answer.address] = _Node(answer)
        node.latest = answer
        node.flows.add(answer.flow)
        node.spread.add(answer.rtt_ns)
        self._slowest_ns = max(self._slowest_ns, answer.rtt_ns)
        node.size = max(node.size, probe.size)
        flow.seen.setdefault(probe.hop, Counter())[answer.address] += 1
        if answer.kind != "hop" and (flow.distance is None or probe.hop < flow.distance):
            flow.distance = probe.hop
            flow.reached = answer.kind == "target"
            for number in self._waiting_of(probe.flow):
                if self._sent[number].hop > probe.hop:  # nobody waits for these any more
                    self._sent[number].state = "done"

    def _shrink(self, probe: _Probe, mtu: int) -> bool:
        """Send it again as large as fits; False where it cannot become smaller."""
        if not self.config.mtu:
            return False
        if not self._size_min <= mtu < probe.size:
            mtu = next((size for size in _PLATEAUS if size < probe.size), 0)
        if mtu < self._size_min:
            return False
        flow = self._flows[probe.flow]
        flow.size = min(flow.size, mtu)
        self._in_line.append(self._probe(probe.flow, probe.hop, probe.round, probe.attempt))
        return True

    # ---- giving up

    def expired(self, now: Moment) -> list[TraceTimeout]:
        events: list[TraceTimeout] = []
        kept: list[tuple[int, int]] = []
        while self._waiting and self._waiting[0][0] + self._soon_ns <= now.monotonic_ns:
            since_ns, number = self._waiting.popleft()
            if self._sent_state(number) != "waiting":
                continue
            wait_ns = self._wait_ns(number)
            if since_ns + wait_ns > now.monotonic_ns:
                kept.append((since_ns, number))
                continue
            probe = self._sent[number]
            probe.state = "lost"
            self._hops[probe.hop].lost += 1
            again = True
            if probe.attempt <= self.config.retries and self._may_be_limited(probe):
                self._in_line.append(self._probe(probe.flow, probe.hop, probe.round, probe.attempt + 1))
            elif not (self._may_be_too_big(probe) and self._shrink(probe, 0)):
                again = False
                self._decide(probe)
            if not self._is_beyond(probe.flow, probe.hop):
                events.append(
                    TraceTimeout(probe.flow + 1, probe.hop, probe.round, probe.attempt, wait_ns, again)
                )
        self._waiting.extendleft(reversed(kept))
        return events

    def _may_be_too_big(self, probe: _Probe) -> bool:
        """Whether a router may have dropped it without saying that it is too big for the next link.

        Then nothing further away answers either (a black hole, RFC 2923 section 2.1).
        """
        flow = self._flows[probe.flow]
        return flow.distance is None and not any(hop >= probe.hop for hop in flow.seen)

    def _may_be_limited(self, probe: _Probe) -> bool:
        """Whether silence may be a limit of the hop's, or of the target's in its place; or it was no silence,
        but an answer that did not tell what it answers.
        """
        flow = self._flows[probe.flow]
        distance = flow.distance
        if probe.hop in flow.seen or self._is_beyond(probe.flow, probe.hop):
            return False
        if self._hops[probe.hop].received or (flow.unmatched and probe.round == 1):
            return True
        return distance is not None and not any(
            self._hops[hop].received for hop in range(probe.hop, distance) if hop in self._hops
        )

    # ---- what is known

    @property
    def unmatched(self) -> int:
        """ICMP errors that quote too little to tell which probe they are about."""
        return sum(flow.unmatched for flow in self._flows)

    def is_complete(self, hop: int) -> bool:
        """Whether nothing more is to come of the probes with this hop limit."""
        return all(
            self._is_beyond(number, hop) or flow.decided[hop] == self.config.count
            for number, flow in enumerate(self._flows)
        )

    def hops(self) -> list[TraceHop]:
        """The hops so far, up to where the longest flow ends, or to the last that was probed."""
        last = min(self.last_hop, max(self._hops, default=0))
        return [self.hop(hop) for hop in range(self.config.first_hop, last + 1)]

    def hop(self, hop: int) -> TraceHop:
        """What is known of one hop."""
        known = self._hops.get(hop, _Hop())
        decided = known.received + known.lost
        nodes = sorted(known.nodes.values(), key=lambda node: -node.spread.n)
        return TraceHop(
            hop,
            known.sent,
            known.received,
            known.lost,
            known.lost / decided if decided else 0.0,
            tuple(self._node(node) for node in nodes),
        )

    def _node(self, node: _Node) -> TraceNode:
        latest, spread = node.latest, node.spread
        return TraceNode(
            latest.address,
            tuple(sorted(node.flows)),
            latest.kind,
            latest.text,
            spread.n,
            spread.last,
            spread.min,
            spread.mean,
            spread.max,
            spread.deviation,
            spread.jitter,
            latest.ttl,
            node.size if self.config.mtu else None,
            latest.mpls,
            latest.interfaces,
        )

    def paths(self) -> list[TracePath]:
        """The way of each flow so far; where it changed, the address that answered most often at each hop."""
        found = []
        for number, flow in enumerate(self._flows):
            last = flow.distance or max(flow.seen, default=self.config.first_hop - 1)
            addresses = tuple(
                flow.seen[hop].most_common(1)[0][0] if hop in flow.seen else None
                for hop in range(self.config.first_hop, last + 1)
            )
            found.append(
                TracePath(
                    number + 1,
                    self._probes.idents[number],
                    self.config.first_hop,
                    addresses,
                    flow.reached,
                    flow.size if self.config.mtu and flow.reached else None,
                )
            )
        return found


def _source(packet: Packet) -> IPAddress:
    ip = packet.layers[0]
    assert isinstance(ip, (IPv4, IPv6))
    return ip_address(str(ip.src))
