"""Sweeps: thousands of addresses pinged at once, from one socket, each as often as asked.

Echo requests leave in batches that C fills from a template. An answer is one when its source is an address of
the sweep, its identifier the one drawn for the sweep, and its data begin with the keyed hash of that address
and the sequence number (`rawkit.engine.probe`): no table of what was sent is needed, and nobody who has not
seen a request can make an answer up. Answers that this host lost for lack of buffer space are counted as
that; whom they might have been from is asked again.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Self

from rawkit.addr import MAC, IPAddress, TargetSet, parse_target
from rawkit.clock import Clock, MonotonicClock
from rawkit.engine import PacketSocket, RawIPSocket, compile_filter, realtime_ns
from rawkit.engine.aio import Waits, wait_readable
from rawkit.engine.probe import (
    DAMAGED,
    FILTERED,
    KEY_LEN,
    MAC_LEN,
    OPEN,
    Board,
    ProbePlan,
    ProbeReply,
    Timing,
)
from rawkit.engine.proberun import Inlet, ProbeRun
from rawkit.engine.sockets import close_all, share_by_processor
from rawkit.errors import PermissionDenied
from rawkit.tools.scan import packets
from rawkit.tools.scan.config import PUBLIC_RATE, public_count
from rawkit.tools.scan.icmp import icmp_reason
from rawkit.tools.scan.legs import Leg, plan_legs, refuse_groups
from rawkit.tools.scan.pace import AutoPace, Pace, RatePace
from rawkit.tools.scan.syn import lanes_for, spans
from rawkit.tools.sweepresult import ALIVE as ALIVE
from rawkit.tools.sweepresult import COOKIE_LEN, Tally
from rawkit.tools.sweepresult import UNREACHABLE as UNREACHABLE
from rawkit.tools.sweepresult import SweepConfig as SweepConfig
from rawkit.tools.sweepresult import SweepResult as SweepResult
from rawkit.tools.sweepresult import SweepSummary as SweepSummary
from rawkit.units import parse_duration

if TYPE_CHECKING:
    from rawkit.tools.scan.neighbours import NeighbourFinder

NO_ANSWER = "no answer"
NO_NEIGHBOUR = "no neighbour"
DROPPED_HERE = "unknown: this host dropped answers"

_BUFFER_LEN = 32 << 20  # asked for; the kernel may give less
_ANSWER_LEN = 4096  # what an answer takes of it at most: drivers give each a page
_WINDOW_MAX = 8192
_EXTRA_ROUNDS = 3  # on top of the retries, after drops of our own
_LOOK_FOR_DROPS_EVERY = 1024  # requests
_REFUSED = {
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "no route",
    errno.EACCES: "prohibited by this host's routes",
    errno.EPERM: "prohibited by this host's firewall",
    errno.EINVAL: "not sendable",
}
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}


@dataclass
class _Way:
    """A leg with what it takes to send along it: its template, a sender for each thread."""

    leg: Leg
    template: bytes
    senders: list[PacketSocket | RawIPSocket]
    next_hops: bytes = b""


@dataclass
class _Part:
    """The addresses of a way in a round."""

    way: _Way
    run: ProbeRun
    failed: list[int] = field(default_factory=list)
    """Rows that came to an end otherwise than by an echo reply."""

    @property
    def board(self) -> Board:
        return self.run.board


class Sweep:
    """A sweep: iterate over it (`for`, `async for`) for a `SweepResult` per target and round.

    The sockets are opened when it is made, in the thread's present network namespace, and closed when the
    iteration ends, in `close`, or at the end of a `with` block. `summary` may be read at any time. Without
    CAP_NET_RAW an ICMP datagram socket is used, where that is allowed.

    Raises: `TargetError`, `NoRoute`, `UnknownInterface`; `PermissionDenied` when no kind of socket is
    allowed.
    """

    def __init__(self, config: SweepConfig, clock: Clock | None = None) -> None:
        self._clock = clock or MonotonicClock()
        targets, self.notes = refuse_groups(config.targets)
        self.config = config = replace(config, targets=targets)
        self.socket_kinds: dict[int, str] = {}
        """How each IP version is spoken: "raw" or "datagram" (needs no privilege)."""
        self._tally = Tally()
        self._alive: list[int] = []  # by way: a bit in the octet of each row
        self._seq = 0
        self._closed = False
        self.before_wait: Callable[[], object] = lambda: None
        """Called whenever there is nothing to do but to wait: time to flush what was held back."""
        self._started_ns: int | None = None
        self._ended_ns: int | None = None
        self._key = os.urandom(KEY_LEN)
        self._waits = Waits()
        self._until_ns = 0
        self._last_sent_ns = 0
        self._unwatched = 0  # requests since drops were looked for
        self._timing = Timing()
        self._parts: dict[int, list[_Part]] = {}  # by IP version
        self._receivers: dict[int, list[PacketSocket | RawIPSocket]] = {}
        self._finders: dict[tuple[int, IPAddress], NeighbourFinder] = {}
        self._fill = bytes(COOKIE_LEN) + bytes(i & 0xFF for i in range(COOKIE_LEN, config.size))
        rate = config.rate
        if rate is None and public_count(targets):
            rate = PUBLIC_RATE
        with ExitStack() as stack:
            self._open(stack, lanes_for(targets.count, rate))
            self._stack = stack.pop_all()
        self._pace: Pace = self._make_pace(rate)
        self._running = self._run()

    # ---- opening

    def _make_pace(self, rate: float | None) -> Pace:
        if rate is not None:
            return RatePace(rate)
        buffer_len = min(map(_buffer_len, self._all_receivers()))
        return AutoPace(min(buffer_len // _ANSWER_LEN, _WINDOW_MAX))

    def _open(self, stack: ExitStack, lanes: int) -> None:
        config = self.config
        identifiers: dict[int, int] = {}
        shared: dict[int, RawIPSocket] = {}
        opened: list[PacketSocket | RawIPSocket] = []
        stack.callback(close_all, opened)
        for version in sorted({span.version for span in config.targets.spans}):
            identifiers[version] = int.from_bytes(os.urandom(2), "big")
            receivers: list[PacketSocket] = []
            try:
                for _ in range(lanes):
                    receivers.append(_open_receiver(version, identifiers[version]))
                    opened.append(receivers[-1])
                share_by_processor(receivers)
                self._receivers[version] = [*receivers]
                self.socket_kinds[version] = "raw"
            except PermissionDenied:
                shared[version] = RawIPSocket(
                    version,
                    1 if version == 4 else 58,
                    header_included=False,
                    icmp_datagram=True,
                    interface=config.interface or None,
                    buffer_len=_BUFFER_LEN,
                )
                opened.append(shared[version])
                identifiers[version] = shared[version].icmp_id
                self._receivers[version] = [shared[version]]
                self.socket_kinds[version] = "datagram"
        legs, self._unreachable = plan_legs(config.targets, config.interface, resolve=not shared)
        senders: dict[tuple[object, ...], list[PacketSocket | RawIPSocket]] = {}
        self._ways = []
        for leg in legs:
            version = leg.source.version
            if version in shared:
                ours: list[PacketSocket | RawIPSocket] = [shared[version]]
            else:
                on = leg.ifindex if config.interface or leg.source.is_link_local or leg.link else None
                key = version, on, bool(leg.link)
                if key not in senders:
                    senders[key] = []
                    for _ in range(lanes):
                        senders[key].append(_open_sender(version, on, bool(leg.link)))
                        opened.append(senders[key][-1])
                ours = senders[key]
            self._ways.append(_Way(leg, self._template(leg.source, identifiers[version]), ours))
            if leg.neighbours:
                from rawkit.tools.scan.neighbours import NeighbourFinder

                finder = NeighbourFinder(leg.ifindex, MAC(leg.link[6:12]), leg.source)
                stack.callback(finder.close)
                self._finders[leg.ifindex, leg.source] = finder
        self._alive = [0] * len(self._ways)

    def _template(self, source: IPAddress, identifier: int) -> bytes:
        version = source.version
        echo = packets.echo(identifier, version, self._fill)
        return packets.ip(source, packets.ICMP if version == 4 else packets.ICMPV6, echo, self.config.ttl)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sweep where it is. Closing again does nothing."""
        self._closed = True
        self._waits.end()
        if self._started_ns is not None and self._ended_ns is None:
            self._ended_ns = self._clock.now_ns()
        self._stack.close()

    # ---- driving

    def __iter__(self) -> Iterator[SweepResult]:
        try:
            for event in self._running:
                if self._closed:
                    return
                if event is not None:
                    yield event
                elif self._until_ns:
                    self.before_wait()
                    wait_readable(self._descriptors(), self._until_ns)
        except ValueError:  # of a socket that another thread has closed
            if not self._closed:
                raise
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[SweepResult]:
        import asyncio

        try:
            for event in self._running:
                if self._closed:
                    return
                if event is not None:
                    yield event
                elif not self._until_ns:
                    await asyncio.sleep(0)
                else:
                    self.before_wait()
                    left_ns = max(self._until_ns - self._clock.now_ns(), 0)
                    await self._waits.ready(self._descriptors(), left_ns / 1e9)
        except ValueError:  # of a socket that another thread has closed
            if not self._closed:
                raise
        finally:
            self.close()

    def _descriptors(self) -> list[int]:
        return [receiver.fileno() for receiver in self._all_receivers()]

    def _all_receivers(self) -> Iterator[PacketSocket | RawIPSocket]:
        for same in self._receivers.values():
            yield from same

    def run(self) -> SweepSummary:
        """To the end; results are counted, whatever `report` says."""
        for _ in self:
            pass
        return self.summary

    def _run(self) -> Iterator[SweepResult | None]:
        """Results as they become known, and None where there is nothing to do until `_until_ns`; with that 0,
        others may have a turn, and whoever closed the sweep is heard.
        """
        self._started_ns = self._clock.now_ns()
        for way in self._ways:
            if way.leg.neighbours:
                way.next_hops = self._next_hops(way.leg)
        for seq in range(1, self.config.count + 1):
            next_ns = self._clock.now_ns() + self.config.interval_ns
            self._seq = seq
            for targets, reason in self._unreachable:
                yield from self._without_probes(targets, reason)
            yield from self._round()
            self._tally.rounds += 1
            while seq < self.config.count and self._clock.now_ns() < next_ns:
                for _ in self._receive(late=True):
                    pass
                self._until_ns = next_ns
                yield None
        self._ended_ns = self._clock.now_ns()

    def _next_hops(self, leg: Leg) -> bytes:
        """A row for each address on the link: its MAC address, zeros where nobody has it."""
        config, addresses = self.config, list(TargetSet(sorted(leg.targets.spans)))
        finder = self._finders[leg.ifindex, leg.source]
        found = finder.find(addresses, self._clock, config.rate, config.retries + 1, config.timeout_ns)
        return b"".join(bytes(found[a]) if a in found else bytes(MAC_LEN) for a in addresses)

    def _without_probes(self, targets: TargetSet, reason: str) -> Iterator[SweepResult]:
        self._tally.asked += targets.count
        self._tally.unsent += targets.count
        if UNREACHABLE in self.config.report:
            now_ns = time.time_ns()
            for address in targets:
                yield self._silent(str(address), reason, 0, now_ns)

    def _round(self) -> Iterator[SweepResult | None]:
        config, tally = self.config, self._tally
        self._parts = {version: self._parts_of(version) for version in self._receivers}
        parts = [part for same in self._parts.values() for part in same]
        tally.asked += sum(part.board.rows_n for part in parts)
        tries, extra = config.retries + 1, _EXTRA_ROUNDS
        while True:
            dropped = self._look_for_drops()
            for part in parts:
                yield from self._send(part)
            yield from self._await_answers(parts)
            dropped = self._look_for_drops() - dropped
            left = sum(part.board.left for part in parts)
            if not left:
                break
            if dropped and extra:
                extra -= 1
            elif tries > 1:
                tries -= 1
            else:
                break
            self._pace.restart()
            for part in parts:
                part.board.next_round()
        if dropped:
            tally.uncertain += left
        yield from self._end_round(parts, DROPPED_HERE if dropped else NO_ANSWER)

    def _parts_of(self, version: int) -> list[_Part]:
        ways = [way for way in self._ways if way.leg.source.version == version]
        boards = []
        for way in ways:
            leg = way.leg
            plan = ProbePlan(
                way.template, spans(leg.targets), [self._seq], self._key, leg.link, way.next_hops
            )
            boards.append(Board(plan, plan.probes_n, timing=self._timing, timed=True))
        inlet = Inlet(
            self._receivers[version], boards, self.config.size + 64 if self.config.size < 192 else 512
        )
        runs = (
            ProbeRun(board, way.senders, inlet, self.config.size + 128) for board, way in zip(boards, ways)
        )
        return [_Part(way, run) for way, run in zip(ways, runs)]

    def _send(self, part: _Part) -> Iterator[SweepResult | None]:
        """One request to each that has not answered, and what answers come meanwhile."""
        while not part.run.round_over:
            now_ns = self._clock.now_ns()
            allowed = self._pace.allowed(now_ns)
            if allowed and self._pace.begin():
                self._timing.begin_epoch(realtime_ns())
            self._until_ns = 0 if allowed or part.run.more else self._pace.due_ns()
            yield None
            yield from self._receive(sending=part, allowed=allowed)

    def _await_answers(self, parts: list[_Part]) -> Iterator[SweepResult | None]:
        """Until all have answered, or the time-out has passed and then there was nothing in the socket."""
        while any(part.board.left for part in parts):
            overdue = self._clock.now_ns() >= self._last_sent_ns + self.config.timeout_ns
            before = self._tally.received
            yield from self._receive()
            if overdue and self._tally.received == before:
                return
            self._until_ns = self._last_sent_ns + self.config.timeout_ns
            if not overdue:
                yield None

    def _receive(
        self, late: bool = False, sending: _Part | None = None, allowed: int = 0
    ) -> Iterator[SweepResult]:
        """What has arrived, without waiting. `late`: it comes after its round. So many of `sending` leave."""
        for parts in self._parts.values():
            first = sending if sending in parts else parts[0] if parts else None
            more = first is not None
            while more and first is not None and not self._closed:
                yield from self._step(first, parts, allowed if first is sending else 0, late)
                more, allowed = first.run.more, 0
        timing = self._timing
        self._pace.heard(timing.epoch_answers, timing.timed, timing.rtt_sum_ns, self._clock.now_ns())

    def _step(self, part: _Part, parts: list[_Part], n: int, late: bool) -> Iterator[SweepResult]:
        tally, run = self._tally, part.run
        wanted = self.config.report
        counted = sum(one.board.counted for one in parts)
        replies = run.step(n, (OPEN,) if ALIVE not in wanted or late else ())
        if run.sent:
            self._last_sent_ns = self._clock.now_ns()
            self._pace.sent(run.sent, self._last_sent_ns)
            tally.sent += run.sent
        if run.queue_full and not run.sent:
            self._pace.slow_down()
        self._answered(sum(one.board.counted for one in parts) - counted, late)
        for row, error in run.refused:
            if error.errno not in _REFUSED:
                raise error
            tally.errors += 1
            part.failed.append(row)
            probes = part.board.probes(row)
            tally.unsent += not probes
            if UNREACHABLE in wanted:
                yield self._silent(self._target(part, row), _REFUSED[error.errno], probes, time.time_ns())
        for i, row, reply in replies:
            if reply.state == FILTERED:
                tally.errors += not late
                parts[i].failed.append(row)
            else:
                self._answered(1, late)
                tally.corrupted += reply.state == DAMAGED
            if (UNREACHABLE if reply.state == FILTERED else ALIVE) in wanted and not late:
                yield self._result(parts[i], row, reply)
        self._unwatched += run.sent
        if self._unwatched >= _LOOK_FOR_DROPS_EVERY:
            self._unwatched = 0
            self._look_for_drops()

    def _answered(self, n: int, late: bool) -> None:
        if late:
            self._tally.late += n
        else:
            self._tally.received += n

    def _end_round(self, parts: list[_Part], reason: str) -> Iterator[SweepResult]:
        tally = self._tally
        now_ns = time.time_ns()
        for part in parts:
            board = part.board
            tally.duplicates += board.duplicates
            tally.unsent += sum(1 for _ in board.absent())
            tally.samples.extend(rtt_ns for rtt_ns in board.rtts_ns if rtt_ns >= 0)
            alive = bytearray(board.states.replace(b"\2", b"\0"))
            for row in part.failed:
                alive[row] = 0
            self._alive[self._ways.index(part.way)] |= int.from_bytes(alive, "little")
            if UNREACHABLE not in self.config.report:
                continue
            for row in board.unanswered():
                yield self._silent(self._target(part, row), reason, board.probes(row), now_ns)
            for row in board.absent():
                yield self._silent(self._target(part, row), NO_NEIGHBOUR, 0, now_ns)

    def _look_for_drops(self) -> int:
        """How many answers this host has lost so far; when they have become more, slow down."""
        dropped = sum(receiver.counters().dropped for receiver in self._all_receivers())
        if dropped > self._tally.dropped:
            self._tally.dropped = dropped
            self._pace.slow_down()
        return dropped

    # ---- results

    def _target(self, part: _Part, row: int) -> str:
        return _text(part.board.target(row)[0], part.way.leg)

    def _name(self, address: str) -> str:
        names = self.config.targets.names
        return names.get(ip_address(address), address) if names else address

    def _silent(self, address: str, reason: str, probes: int, time_ns: int) -> SweepResult:
        name = self._name(address)
        return SweepResult(name, address, self._seq, False, reason, None, None, "", probes, False, time_ns)

    def _result(self, part: _Part, row: int, reply: ProbeReply) -> SweepResult:
        leg, board = part.way.leg, part.board
        alive = reply.state != FILTERED
        # Karn's algorithm (RFC 6298 section 3): after a repetition nobody knows which request was answered.
        rtt_ns = board.rtts_ns[row] if alive and board.rtts_ns[row] >= 0 else None
        reason = "" if alive else icmp_reason(leg.source.version, reply.icmp_type, reply.icmp_code)
        address = _text(reply.address, leg)
        return SweepResult(
            self._name(address),
            address,
            self._seq,
            alive,
            reason,
            rtt_ns,
            reply.hop_limit,
            address if alive else _text(reply.reporter, leg),
            board.probes(row),
            reply.state == DAMAGED,
            reply.time_ns,
        )

    @property
    def summary(self) -> SweepSummary:
        """The totals so far."""
        duration_ns = 0
        if self._started_ns is not None:
            duration_ns = (self._ended_ns or self._clock.now_ns()) - self._started_ns
        alive = sum(bits.bit_count() for bits in self._alive)
        return self._tally.summary(self.config.targets.count, alive, duration_ns)


def sweep(
    targets: str | IPAddress | Iterable[str | IPAddress] | TargetSet,
    *,
    count: int = 1,
    interval: float = 1.0,
    timeout: float = 1.0,
    retries: int = 1,
    size: int = 56,
    ttl: int = 64,
    family: int = 0,
    rate: float | None = None,
    interface: str = "",
) -> Sweep:
    """Ping many addresses at once; iterate over the result for what became of each.

    Targets are addresses, prefixes, ranges, host names (see `parse_target`); `interval` and `timeout` are in
    seconds; the rest is as in `SweepConfig`.

        alive = [result.address for result in rawkit.sweep("192.0.2.0/24") if result.alive]

    Raises: as `Sweep`; ValueError for a number that makes no sense.
    """
    if not isinstance(targets, TargetSet):
        texts = [targets] if isinstance(targets, (str, IPv4Address, IPv6Address)) else targets
        targets = parse_target(map(str, texts), family=family)
    return Sweep(
        SweepConfig(
            targets,
            count=count,
            interval_ns=parse_duration(interval),
            timeout_ns=parse_duration(timeout),
            retries=retries,
            size=size,
            ttl=ttl,
            rate=rate,
            interface=interface,
        )
    )


def _text(octets: bytes, leg: Leg) -> str:
    """An address as it is written, with its zone where it needs one."""
    if leg.source.version == 4:
        return socket.inet_ntop(socket.AF_INET, octets[:4])
    text = socket.inet_ntop(socket.AF_INET6, octets)
    return f"{text}%{leg.zone}" if leg.zone and octets[0] == 0xFE else text


def _open_receiver(version: int, identifier: int) -> PacketSocket:
    if version == 4:
        text = f"icmp and (icmp[0]=0 and icmp[4:2]={identifier} or icmp[0]=3 or icmp[0]=11 or icmp[0]=12)"
    else:
        text = f"icmp6 and (ip6[40]=129 and ip6[44:2]={identifier} or ip6[40]<=4)"
    # For one EtherType a packet socket hears only what comes in: over loopback each packet once.
    return PacketSocket(
        None,
        cooked=True,
        bare=True,
        protocol=_ETHERTYPE[version],
        filter=compile_filter(text, 101),
        buffer_len=_BUFFER_LEN,
    )


def _open_sender(version: int, ifindex: int | None, framed: bool) -> PacketSocket | RawIPSocket:
    if framed:
        return PacketSocket(ifindex, protocol=0)
    return RawIPSocket(version, socket.IPPROTO_RAW, interface=ifindex)


def _buffer_len(receiver: PacketSocket | RawIPSocket) -> int:
    """The receive buffer that the kernel gave, by its own accounting."""
    with socket.socket(fileno=os.dup(receiver.fileno())) as same:
        return same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
