"""UDP scans: requests that servers answer, and ICMP errors for ports that nobody listens on; no privilege.

A datagram to an open port that its server does not understand has no answer, so silence has to be told apart
from an error that was not sent: most hosts limit those, Linux to one a second towards each other host. A host
that sent some errors and then fewer than it was asked for is taken to be such a one. The time between its
errors is measured, and from then on its ports are asked one after the other, when the next error is due: what
is silent then is silent by itself.
"""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from rawkit.addr import IPAddress
from rawkit.clock import Clock
from rawkit.engine import realtime_ns
from rawkit.engine.errorqueue import Datagram, DatagramSocket
from rawkit.errors import EngineError
from rawkit.tools.scan.config import (
    CLOSED,
    FILTERED,
    NO_ANSWER,
    NO_ROUTE,
    OPEN,
    OPEN_FILTERED,
    PortResult,
    ScanConfig,
)
from rawkit.tools.scan.icmp import icmp_reason
from rawkit.tools.scan.pace import Patience, RatePace
from rawkit.tools.scan.payloads import payload
from rawkit.tools.scan.tally import Tally
from rawkit.tools.scan.waiting import Wait

_RATE = 1000.0  # probes per second, unless one is given; Linux sends as many errors to all together
_FLOOD_NS = 50_000_000  # between probes while the limit is being measured
_FLOOD_MIN_NS = 2_000_000
_QUIET_NS = 2_500_000_000  # without any error, however often it was asked: no limit is as low
_GAPS_N = 3  # that the time between errors is measured from
_ASKED_MIN = 3  # probes, in one of them
_EARLY, _LATE = 0.97, 1.05  # of that time: from then on errors are asked for, and missed
_WAIT_MIN_NS = 20_000_000


@dataclass(slots=True)
class _Port:
    """A port that has not answered."""

    number: int
    probes: int = 0
    sent_ns: int = 0
    silences: int = 0  # when an error could have been sent


@dataclass(slots=True)
class _Host:
    address: IPAddress
    ports: dict[int, _Port]  # without an answer
    errors: int = 0
    limited: bool = False  # it seems to send fewer errors than it is asked for
    limit: _Limit | None = None


@dataclass(slots=True)
class _Limit:
    """How a host that limits its errors is asked. `gap_ns` is the time between those, 0 while not known."""

    turns: deque[_Port]
    began_ns: int
    due_ns: int
    gap_ns: int = 0
    last_ns: int = 0  # when the last error came
    asked_n: int = 0  # since then
    gaps_ns: list[int] = field(default_factory=list)
    asked: _Port | None = None  # the one whose answer is awaited
    asked_ns: int = 0
    told: bool = False

    def error(self, now_ns: int) -> None:
        # Where most probes have an error, the host has some left over, or there is no limit.
        if self.last_ns and self.asked_n >= _ASKED_MIN:
            self.gaps_ns.append(now_ns - self.last_ns)
        if not self.gap_ns and len(self.gaps_ns) >= _GAPS_N:
            self.gap_ns = max(self.gaps_ns)  # others may be shorter by what was left over
        self.last_ns, self.asked_n, self.asked = now_ns, 0, None
        if self.gap_ns:
            self.due_ns = now_ns + int(_EARLY * self.gap_ns)


def udp_scan(
    config: ScanConfig, tally: Tally, clock: Clock, notify: Callable[[str], object]
) -> Generator[PortResult | Wait]:
    """Results in the order in which they become known. `notify` is told of hosts whose limit takes long.

    Raises: EngineError when the source port is taken, or the kernel refuses to open a socket.
    """
    versions = sorted({span.version for span in config.targets.spans})
    sockets = {version: DatagramSocket(version, config.source_port, config.interface) for version in versions}
    try:
        yield from _Scan(config, tally, clock, notify, sockets).results()
    finally:
        for sock in sockets.values():
            sock.close()


class _Scan:
    def __init__(
        self,
        config: ScanConfig,
        tally: Tally,
        clock: Clock,
        notify: Callable[[str], object],
        sockets: dict[int, DatagramSocket],
    ) -> None:
        self._config, self._tally, self._clock, self._notify = config, tally, clock, notify
        self._sockets = sockets
        self._pace = RatePace(config.rate or min(config.effective_rate or _RATE, _RATE))
        self._patience = Patience(config.timeout_ns)
        self._hosts = {a: _Host(a, {port: _Port(port) for port in config.ports}) for a in config.targets}
        self._random = random.Random(config.seed)

    def results(self) -> Generator[PortResult | Wait]:
        rounds = self._config.retries + 1
        for _ in range(rounds):
            asked = [host for host in self._hosts.values() if not host.limited]
            before = {host.address: host.errors for host in asked}
            todo = [(host, port) for host in asked for port in host.ports.values()]
            self._random.shuffle(todo)
            yield from self._round(todo)
            for (
                host
            ) in asked:  # silent for want of errors, if it sent some, but to fewer than it did not answer
                host.limited = 0 < host.errors - before[host.address] < len(host.ports)
        limited = [host for host in self._hosts.values() if host.ports and host.limited]
        yield from self._ask_slowly(limited)
        for host in self._hosts.values():
            for port in host.ports.values():
                yield PortResult(
                    host.address, port.number, OPEN_FILTERED, NO_ANSWER, probes=port.probes, protocol="udp"
                )

    def _round(self, todo: list[tuple[_Host, _Port]]) -> Generator[PortResult | Wait]:
        """Ask all once, and wait for answers."""
        last_ns = self._clock.now_ns()
        at = 0
        while at < len(todo) or any(port.number in host.ports for host, port in todo):
            now_ns = self._clock.now_ns()
            if at < len(todo):
                for host, port in todo[at : at + self._pace.allowed(now_ns)]:
                    at += 1
                    if port.number in host.ports:
                        yield from self._ask(host, port, now_ns)
                        self._pace.sent(1, now_ns)
                        last_ns = now_ns
                until_ns = self._pace.due_ns()
            else:
                until_ns = last_ns + self._patience.wait_ns
                if now_ns >= until_ns:
                    break
            yield from self._hear(until_ns)

    def _ask(self, host: _Host, port: _Port, now_ns: int) -> Generator[PortResult | Wait]:
        sent_ns = realtime_ns()
        try:
            octets = payload(port.number, port.probes, self._config.contact.encode())
            self._sockets[host.address.version].send(host.address, port.number, octets)
        except EngineError as error:
            if error.errno == errno.EAGAIN:
                return
            reason = NO_ROUTE if error.errno == errno.ENETUNREACH else "not sendable"
            self._tally.refused += 1
            del host.ports[port.number]
            yield PortResult(host.address, port.number, FILTERED, reason, probes=port.probes, protocol="udp")
            return
        port.probes += 1
        port.sent_ns = sent_ns
        self._tally.probes += 1

    def _hear(self, until_ns: int) -> Generator[PortResult | Wait]:
        """What comes up to a moment, or at once when that has passed."""
        descriptors = tuple(sock.fileno() for sock in self._sockets.values())
        yield Wait(descriptors, max(0, until_ns - self._clock.now_ns()) / 1e9)
        for sock in self._sockets.values():
            for datagram in sock.arrivals():
                yield from self._judge(datagram)

    def _judge(self, datagram: Datagram) -> Generator[PortResult | Wait]:
        host = self._hosts.get(datagram.address)
        port = host.ports.get(datagram.port) if host else None
        if host is None or port is None:
            self._tally.duplicates += host is not None
            return
        state, reason, rtt_ns = OPEN, "udp-response", datagram.time_ns - port.sent_ns
        if datagram.icmp is not None:
            version = datagram.address.version
            closed = datagram.icmp == ((3, 3) if version == 4 else (1, 4))
            # RFC 1122 section 3.2.2.1: only the host itself knows of its ports.
            state = CLOSED if closed and datagram.reporter == datagram.address else FILTERED
            reason = icmp_reason(version, *datagram.icmp)
            host.errors += 1
            if host.limit:
                host.limit.error(self._clock.now_ns())
        elif host.limit and host.limit.asked is port:
            host.limit.asked = None
        if rtt_ns >= 0 and port.probes == 1:
            self._patience.seen(rtt_ns)
        del host.ports[datagram.port]
        yield PortResult(
            datagram.address,
            datagram.port,
            state,
            reason,
            datagram.hop_limit,
            datagram.reporter,
            rtt_ns if port.probes == 1 and rtt_ns >= 0 else None,
            port.probes,
            "udp",
        )

    def _ask_slowly(self, hosts: list[_Host]) -> Generator[PortResult | Wait]:
        """Settle the ports of hosts that limit their errors, all hosts at the same time."""
        now_ns = self._clock.now_ns()
        for host in hosts:
            host.limit = _Limit(deque(host.ports.values()), now_ns, now_ns)
        while hosts:
            now_ns = self._clock.now_ns()
            due_ns = now_ns + self._config.timeout_ns
            for host in list(hosts):
                assert host.limit is not None
                if now_ns >= host.limit.due_ns:
                    yield from self._turn(host, host.limit, now_ns)
                if not host.limit.turns:
                    hosts.remove(host)
                due_ns = min(due_ns, host.limit.due_ns)
            yield from self._hear(due_ns)

    def _turn(self, host: _Host, limit: _Limit, now_ns: int) -> Generator[PortResult | Wait]:
        """Ask the next of a host's ports."""
        enough = self._config.retries + 1
        if limit.asked is not None and limit.asked_ns - limit.last_ns > _LATE * limit.gap_ns:
            limit.asked.silences += 1
            limit.turns.rotate(-1)
        while limit.turns and (limit.turns[0].number not in host.ports or limit.turns[0].silences >= enough):
            limit.turns.popleft()
        if not limit.turns:
            return
        quiet = not limit.gap_ns and now_ns - max(limit.last_ns, limit.began_ns) > _QUIET_NS
        if quiet and all(port.probes >= enough for port in limit.turns):
            limit.turns.clear()  # there are no more errors to come
            return
        port = limit.turns[0]
        yield from self._ask(host, port, now_ns)
        limit.asked_n += 1
        if limit.gap_ns:
            limit.asked, limit.asked_ns = port, now_ns
            limit.due_ns = now_ns + max(2 * self._patience.slowest_ns, _WAIT_MIN_NS)
            if not limit.told:
                limit.told = True
                n = len(host.ports)
                seconds = limit.gap_ns / 1e9
                self._notify(
                    f"{host.address} sends an ICMP error every {seconds:.2g} s: its other {n} ports take "
                    f"up to {n * seconds:.0f} s"
                )
        else:
            limit.turns.rotate(-1)
            limit.due_ns = now_ns + min(max(10**9 // len(limit.turns), _FLOOD_MIN_NS), _FLOOD_NS)
