"""SYN scans, and those with other flags: probes sent in bulk, answers recognised by a keyed hash.

Probes go out in batches, by a packet socket where all have the same next hop, else by a raw IP socket.
Answers come in by a packet socket per IP version that hears every interface, loopback included, behind a
kernel filter for the scan's own source port and for ICMP. That port is held by a TCP socket that is bound
and never listens: no connection of this host gets it meanwhile, and the kernel, which knows nothing of the
probes, answers each SYN-ACK with a RST. That RST closes the half-open connection on the target.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from rawkit.addr import MAC, IPAddress, Span, TargetSet
from rawkit.clock import Clock
from rawkit.engine import PacketSocket, RawIPSocket, realtime_ns
from rawkit.engine.probe import CLOSED as REPLY_CLOSED
from rawkit.engine.probe import KEY_LEN, MAC_LEN, Board, ProbePlan, ProbeReply
from rawkit.engine.probe import OPEN as REPLY_OPEN
from rawkit.engine.proberun import Inlet, ProbeRun
from rawkit.engine.sockets import close_all, share_by_processor
from rawkit.errors import EngineError
from rawkit.tools.scan import packets
from rawkit.tools.scan.config import (
    AUTO,
    FILTERED,
    NO_ANSWER,
    NO_NEIGHBOUR,
    NO_ROUTE,
    OPEN,
    SYN,
    PortResult,
    ScanConfig,
)
from rawkit.tools.scan.icmp import icmp_reason
from rawkit.tools.scan.kinds import KINDS, Kind
from rawkit.tools.scan.legs import Leg, plan_legs
from rawkit.tools.scan.missed import expected_more
from rawkit.tools.scan.pace import AutoPace, Pace, Patience, RatePace
from rawkit.tools.scan.tally import Tally
from rawkit.tools.scan.waiting import Wait

if TYPE_CHECKING:
    from rawkit.tools.scan.checkpoint import Checkpoint
    from rawkit.tools.scan.neighbours import NeighbourFinder

_PROBES_MAX = 1 << 20  # kept track of at once: 10 MiB
_NEIGHBOURS_MAX = 1 << 16  # looked for at once
_PROBE_LEN = 128  # with its link header, at most
_SNAPLEN = 256  # all that is looked at in an answer, extension headers and quoted packet included
_BUFFER_LEN = 32 << 20  # asked for; the kernel may give less
_ANSWER_LEN = 4096  # what an answer takes of it at most: drivers give each a page
_WINDOW_MAX = 8192
_MISSED_MAX = 0.0005  # of all answers: as long as more are expected, there are further rounds
_LANES_MIN = 4096  # probes for which a second processor is worth its while
_LOOK_FOR_DROPS_EVERY = 1024  # probes
_EXTRA_ROUNDS = 3  # on top of the retries, after drops of our own

_ETHERTYPE = {4: 0x0800, 6: 0x86DD}

_REFUSALS = {
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: NO_ROUTE,
    errno.EACCES: "prohibited by this host's routes",
    errno.EPERM: "prohibited by this host's firewall",
    errno.EINVAL: "not sendable",
}


class _Part(NamedTuple):
    """Targets of one leg that are scanned together; `addresses` where each has a next hop of its own."""

    leg: Leg
    targets: TargetSet
    addresses: Sequence[IPAddress] = ()


class SynScan:
    """A SYN scan with its sockets, opened in the thread's present network namespace.

    Raises, when made, PermissionDenied without CAP_NET_RAW, EngineError when `source_port` is taken, NoRoute
    when no target can be reached.
    """

    def __init__(
        self,
        config: ScanConfig,
        tally: Tally,
        clock: Clock,
        checkpoint: Checkpoint | None = None,
        kind: Kind | None = None,
    ) -> None:
        """`kind` may be one that has no name."""
        self._config = config
        self._tally = tally
        self._clock = clock
        self._key = os.urandom(KEY_LEN)
        self.seed = int.from_bytes(os.urandom(8), "big") if config.seed is None else config.seed
        self._kind = kind or KINDS[SYN if config.kind == AUTO else config.kind]
        self._checkpoint = checkpoint
        self._before = checkpoint.load(config) if checkpoint is not None else None
        if self._before is not None:
            self.seed = self._before.seed
            tally.states.update(self._before.counts)
            tally.resumed = True
        self.patience = Patience(config.timeout_ns)
        self._stack = ExitStack()
        with ExitStack() as stack:
            guard, self._sport = reserve_port(config.source_port)
            stack.enter_context(guard)
            opened: list[PacketSocket | RawIPSocket] = []
            stack.callback(close_all, opened)
            # Receivers first: without permission nothing is looked up or asked on the network.
            lanes = lanes_for(config.targets.count * len(config.ports), config.rate)
            self._receivers: dict[int, list[PacketSocket]] = {}
            for version in sorted({span.version for span in config.targets.spans}):
                self._receivers[version] = []
                for _ in range(lanes):
                    self._receivers[version].append(_open_receiver(version, self._sport))
                    opened.append(self._receivers[version][-1])
                share_by_processor(self._receivers[version])
            self._legs, self._unreachable = plan_legs(config.targets, config.interface, resolve=True)
            self.origin = origin(self._legs, self._sport)
            self._senders: dict[tuple[object, ...], list[PacketSocket | RawIPSocket]] = {}
            for leg in self._legs:
                key = _sender_key(leg, config.interface)
                if key not in self._senders:
                    self._senders[key] = []
                    for _ in range(lanes):
                        self._senders[key].append(_open_sender(leg, config.interface))
                        opened.append(self._senders[key][-1])
            self._finders: dict[tuple[int, IPAddress], NeighbourFinder] = {}
            for leg in self._legs:
                if leg.neighbours:
                    from rawkit.tools.scan.neighbours import NeighbourFinder

                    finder = NeighbourFinder(leg.ifindex, MAC(leg.link[6:12]), leg.source)
                    stack.callback(finder.close)
                    self._finders[leg.ifindex, leg.source] = finder
            self._stack = stack.pop_all()
        self._pace = self._make_pace(config.targets)

    def _make_pace(self, targets: TargetSet) -> Pace:
        limit = self._config.limit(targets)
        if self._config.rate is not None and limit is not None:
            return RatePace(limit)
        buffer_len = min(_buffer_len(one) for same in self._receivers.values() for one in same)
        return AutoPace(min(buffer_len // _ANSWER_LEN, _WINDOW_MAX), limit)

    def close(self) -> None:
        self._stack.close()

    def results(self) -> Generator[PortResult | Wait]:
        """Results in the order in which they become known; unanswered probes at the end of their board."""
        try:
            base = 0
            for targets, reason in self._unreachable:
                if self._before is None:
                    yield from self._without_probes(targets, reason, base)
                base += targets.count * len(self._config.ports)
            for number, part in enumerate(self._parts()):
                yield from self._scan(part, number, base)
                base += part.targets.count * len(self._config.ports)
            if self._checkpoint is not None:
                self._checkpoint.remove()
        finally:
            self.close()

    def _without_probes(self, targets: TargetSet, reason: str, base: int) -> Generator[PortResult | Wait]:
        ports = self._config.ports
        for index in _share(self._config.shard, base, targets.count * len(ports)):
            address, port = targets[index // len(ports)], ports[index % len(ports)]
            yield PortResult(address, port, FILTERED, reason, probes=0)

    def _parts(self) -> Iterator[_Part]:
        for leg in self._legs:
            if not leg.neighbours:
                yield _Part(leg, leg.targets)
                continue
            rest = iter(TargetSet(sorted(leg.targets.spans)))
            while addresses := list(islice(rest, _NEIGHBOURS_MAX)):
                spans = [Span(a.version, int(a), int(a), leg.zone) for a in addresses]
                yield _Part(leg, TargetSet(spans), addresses)

    def _next_hops(self, leg: Leg, addresses: Sequence[IPAddress]) -> Generator[Wait, None, bytes]:
        """A row for each address on the link: its MAC address, zeros where nobody has it."""
        config = self._config
        finder = self._finders[leg.ifindex, leg.source]
        found = yield from finder.steps(
            addresses, self._clock, config.effective_rate, config.retries, config.timeout_ns
        )
        return b"".join(bytes(found[a]) if a in found else bytes(MAC_LEN) for a in addresses)

    def _scan(self, part: _Part, number: int, base: int) -> Generator[PortResult | Wait]:
        """All ports of a part's targets, or what this shard has of them."""
        before, leg = self._before, part.leg
        if before is not None and number < before.part:
            return
        plan = ProbePlan(
            template(leg.source, self._sport, self._kind),
            spans(part.targets),
            sorted(self._config.ports),
            self._key,
            leg.link,
            (yield from self._next_hops(leg, part.addresses)) if leg.neighbours else b"",
            self.seed,
        )
        self._pace = self._make_pace(part.targets)
        for board in boards(plan, self._config.shard, base):
            if before is not None and number == before.part:
                if board.first < before.first:
                    continue
                if board.first == before.first:
                    board.resume(before.states, before.round, before.cursor)
            yield from self._fill(leg, board, number)
            self._tally.duplicates += board.duplicates

    def _save(self, run: ProbeRun, number: int, now_ns: int) -> None:
        checkpoint = self._checkpoint
        if checkpoint is None or not checkpoint.is_due(now_ns):
            return
        from rawkit.tools.scan.checkpoint import Progress

        board = run.board
        progress = Progress(
            self.seed, number, board.first, board.round, run.cursor, board.states, dict(self._tally.states)
        )
        checkpoint.save(self._config, progress, now_ns)

    def _fill(self, leg: Leg, board: Board, number: int) -> Generator[PortResult | Wait]:
        """The probes of a board, in rounds until all are answered or none are left."""
        receivers = self._receivers[leg.source.version]
        descriptors = tuple(receiver.fileno() for receiver in receivers)
        pace, clock, tally, patience = self._pace, self._clock, self._tally, self.patience
        timing = board.timing
        senders = self._senders[_sender_key(leg, self._config.interface)]
        run = ProbeRun(board, senders, Inlet(receivers, [board], _SNAPLEN), _PROBE_LEN)
        count_only = () if self._config.report_closed or self._kind.by_window else (REPLY_CLOSED,)
        rounds = self._config.retries + 1
        extra = _EXTRA_ROUNDS
        unwatched = 0  # probes since drops were looked for
        overdue = False  # the wait for answers has passed, and then there were none in the socket
        last_sent_ns = clock.now_ns()
        found = [0] * (board.round + 1)
        pace.restart()

        while board.left:
            now_ns = clock.now_ns()
            self._save(run, number, now_ns)
            allowed = 0
            wait_until_ns = last_sent_ns + patience.wait_ns
            if not run.round_over:
                allowed = pace.allowed(now_ns)
                wait_until_ns = pace.due_ns()
                if allowed and pace.begin():
                    timing.begin_epoch(realtime_ns())
            elif overdue:
                overdue = False
                dropped = self._dropped_more()
                if dropped and extra:
                    extra -= 1
                elif board.round + 1 >= rounds and not (
                    board.round + 1 < rounds + self._config.retries
                    and expected_more(found) > _MISSED_MAX * sum(found)
                ):
                    break
                pace.restart()
                board.next_round()
                found.append(0)
                continue

            busy = allowed or run.more
            yield Wait(descriptors, 0.0 if busy else max(0, wait_until_ns - now_ns) / 1e9)
            counted, timed = board.counted, timing.timed
            replies = run.step(allowed, count_only)
            known = len(replies) + board.counted - counted
            if run.sent:
                last_sent_ns = clock.now_ns()
                pace.sent(run.sent, last_sent_ns)
                tally.probes += run.sent
            if run.queue_full and not run.sent:  # later
                self._pace.slow_down()
            for row, error in run.refused:
                if error.errno not in _REFUSALS:
                    raise error
                tally.refused += 1
                address, port = self._target(leg, board, row)
                yield PortResult(address, port, FILTERED, _REFUSALS[error.errno], probes=board.probes(row))
            tally.states[self._kind.reset] += board.counted - counted
            patience.seen(timing.slowest_ns, timing.timed - timed)
            found[-1] += known
            for _, row, reply in replies:
                yield self._result(leg, reply, board.probes(row), board.sent_ns(row))
            pace.heard(timing.epoch_answers, timing.timed, timing.rtt_sum_ns, clock.now_ns())
            overdue = run.round_over and not known and now_ns >= last_sent_ns + patience.wait_ns
            unwatched += run.sent
            if unwatched >= _LOOK_FOR_DROPS_EVERY:
                unwatched = 0
                self._dropped_more()

        tally.found = [a + b for a, b in zip_longest(tally.found, found, fillvalue=0)]
        tally.unanswered += board.left
        if board.left:
            tally.rounds = min(tally.rounds or len(found), len(found))
        for row in board.unanswered():
            address, port = self._target(leg, board, row)
            yield PortResult(address, port, self._kind.silent, NO_ANSWER, probes=board.probes(row))
        for row in board.absent():
            address, port = self._target(leg, board, row)
            yield PortResult(address, port, FILTERED, NO_NEIGHBOUR, probes=0)

    def _dropped_more(self) -> bool:
        """Whether the receivers lost answers since the last time; if so, slow down."""
        dropped = sum(one.counters().dropped for same in self._receivers.values() for one in same)
        if dropped <= self._tally.dropped:
            return False
        self._tally.dropped = dropped
        self._pace.slow_down()
        return True

    def _target(self, leg: Leg, board: Board, row: int) -> tuple[IPAddress, int]:
        octets, port = board.target(row)
        return _address(octets, leg), port

    def _result(self, leg: Leg, reply: ProbeReply, probes: int, sent_ns: int) -> PortResult:
        address = _address(reply.address, leg)
        # Karn's algorithm (RFC 6298 section 3): after a repetition nobody knows which probe was answered.
        rtt_ns: int | None = reply.time_ns - sent_ns
        if probes != 1 or rtt_ns is None or rtt_ns < 0:  # negative: somebody set the clock
            rtt_ns = None
        reporter = address
        if reply.state == REPLY_OPEN:
            state, reason = OPEN, self._kind.answer
        elif reply.state == REPLY_CLOSED:
            state, reason = self._kind.of_reset(reply.window), "rst"
        else:
            version = leg.source.version
            state, reason = FILTERED, icmp_reason(version, reply.icmp_type, reply.icmp_code)
            reporter = _address(reply.reporter, leg, zone="")
        return PortResult(
            address, reply.port, state, reason, reply.hop_limit, reporter, rtt_ns, probes, answers=1
        )


def lanes_for(probes_n: int, rate: float | None) -> int:
    """From how many threads so many probes are to leave: two where there are two processors for them."""
    return 2 if rate is None and probes_n >= _LANES_MIN and len(os.sched_getaffinity(0)) > 1 else 1


def boards(plan: ProbePlan, shard: tuple[int, int], base: int) -> Iterator[Board]:
    """The probes of a plan that are a shard's, in boards that are to be done one after the other.

    `base` is how many probes of the whole scan come before the plan's.
    """
    share = _share(shard, base, plan.probes_n)
    for start in range(0, len(share), _PROBES_MAX):
        rows = share[start : start + _PROBES_MAX]
        yield Board(plan, len(rows), rows.start, rows.step)


def _share(shard: tuple[int, int], base: int, n: int) -> range:
    """Which of n positions, the first of which is number `base` of the whole scan, are a shard's."""
    number, shards = shard
    return range((number - 1 - base) % shards, n, shards)


def template(source: IPAddress, sport: int, kind: Kind = KINDS[SYN]) -> bytes:
    """The probe: an IP packet with a TCP header from `source` and `sport` to nowhere yet; of an echo request
    that is the identifier.

    It is the IPv4 identification, too: any will do for packets so short that nobody cuts them up, and the
    kernel would take time to choose one for each that leaves by a raw IP socket.
    """
    if kind.echo:
        protocol = packets.ICMP if source.version == 4 else packets.ICMPV6
        upper = packets.echo(sport, source.version)
    else:
        protocol, upper = packets.TCP, packets.tcp(sport, kind.flags, source.version)
    return packets.ip(source, protocol, upper, identification=sport)


def spans(targets: TargetSet) -> list[tuple[bytes, int]]:
    """Targets of one IP version as `ProbePlan` has them."""
    return [
        (span.first.to_bytes(4 if span.version == 4 else 16, "big"), span.last - span.first + 1)
        for span in sorted(targets.spans)
    ]


def origin(legs: Sequence[Leg], source_port: int) -> tuple[str, ...]:
    """Where probes come from: "192.0.2.1 port 40000"."""
    return tuple(dict.fromkeys(f"{leg.source} port {source_port}" for leg in legs))


def reserve_port(port: int = 0) -> tuple[socket.socket, int]:
    """A TCP socket that holds a source port (0: any free one) on all addresses, and the port.

    It is bound and does not listen, so to anybody who connects to it the port is closed.

    Raises EngineError when the port is taken.
    """
    try:
        return _hold(socket.AF_INET6, "::", port)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise EngineError(error.errno or 0, "reserve source port", str(port)) from None
    try:
        return _hold(socket.AF_INET, "0.0.0.0", port)  # a kernel without IPv6
    except OSError as error:
        raise EngineError(error.errno or 0, "reserve source port", str(port)) from None


def _hold(family: socket.AddressFamily, address: str, port: int) -> tuple[socket.socket, int]:
    guard = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            guard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        guard.bind((address, port))
        return guard, int(guard.getsockname()[1])
    except BaseException:
        guard.close()
        raise


def _open_receiver(version: int, sport: int) -> PacketSocket:
    filter = packets.answers(sport, version, _SNAPLEN)
    # For one EtherType a packet socket hears only what comes in: over loopback each packet once.
    return PacketSocket(
        None, cooked=True, bare=True, protocol=_ETHERTYPE[version], filter=filter, buffer_len=_BUFFER_LEN
    )


def _sender_key(leg: Leg, interface: str) -> tuple[object, ...]:
    if leg.link:
        return ("frames", leg.ifindex)
    if interface or leg.source.is_link_local:
        return (leg.source.version, leg.ifindex)
    return (leg.source.version,)


def _open_sender(leg: Leg, interface: str) -> PacketSocket | RawIPSocket:
    if leg.link:
        return PacketSocket(leg.ifindex, protocol=0)
    # Link-local addresses say nothing without their interface.
    on = leg.ifindex if interface or leg.source.is_link_local else None
    return RawIPSocket(leg.source.version, socket.IPPROTO_RAW, interface=on)


def _buffer_len(receiver: PacketSocket) -> int:
    """The receive buffer that the kernel gave, by its own accounting."""
    with socket.socket(fileno=os.dup(receiver.fileno())) as same:
        return same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _address(octets: bytes, leg: Leg, zone: str | None = None) -> IPAddress:
    return _address_of(octets, leg.source.version, leg.zone if zone is None else zone)


@lru_cache(maxsize=4096)
def _address_of(octets: bytes, version: int, zone: str) -> IPAddress:
    if version == 4:
        return IPv4Address(octets[:4])
    address = IPv6Address(octets)
    return IPv6Address(f"{address}%{zone}") if zone else address
