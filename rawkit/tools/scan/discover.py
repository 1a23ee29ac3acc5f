"""Who is there: hosts found by what they answer, before their ports are asked or instead of that.

On the link, ARP and neighbour discovery tell: who has an address cannot but answer for it. Elsewhere an ICMP
echo request is sent, and to whoever does not answer it a TCP SYN to port 443 and an ACK to port 80, as nmap
does: one of the three passes most firewalls. Any answer by a host itself, also one that refuses, shows that
it is there. Without CAP_NET_RAW, connections to ports 80 and 443 are all that can be tried.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from rawkit.addr import MAC, IPAddress, Span, TargetSet, span_of
from rawkit.clock import Clock, MonotonicClock
from rawkit.errors import NoRoute, PermissionDenied
from rawkit.tools.scan.config import (
    CONNECT,
    NO_ANSWER,
    NO_NEIGHBOUR,
    NO_ROUTE,
    SYN,
    PortResult,
    ScanConfig,
)
from rawkit.tools.scan.legs import Leg, plan_legs, refuse_groups
from rawkit.tools.scan.neighbours import NeighbourFinder
from rawkit.tools.scan.tally import Tally
from rawkit.tools.scan.waiting import Running, Wait

UP, DOWN = "up", "down"

_AT_ONCE = 1 << 16  # addresses


@dataclass(frozen=True, slots=True)
class HostResult:
    """Whether there is a host at an address.

    `state` is UP or DOWN, `reason` what says so: "arp-response", "nd-response", "echo-reply", "syn-ack",
    "rst", "connected", "refused", or, of DOWN, "no-answer", "no neighbour" (nobody on the link has the
    address), "no route", an ICMP error of a router. `ttl` and `rtt_ns` are as in `PortResult`; `mac` is known
    on the link.
    """

    address: IPAddress
    state: str
    reason: str
    ttl: int | None = None
    rtt_ns: int | None = None
    mac: MAC | None = None
    probes: int = 1


@dataclass(frozen=True)
class DiscoverySummary:
    """Totals of a discovery; `complete` when each target is up or down. `fallback` and `notes` are as in
    `ScanSummary`."""

    targets: int
    complete: bool
    up: int
    down: int
    probes: int
    duration_ns: int
    fallback: str = ""
    notes: tuple[str, ...] = ()


class Discovery(Running[HostResult]):
    """A running discovery: an iterator (`for`, `async for`) of a `HostResult` for each target."""

    def __init__(self, config: ScanConfig, clock: Clock | None = None) -> None:
        """Raises: TargetError, as `scan`."""
        targets, self._notes = refuse_groups(config.targets)
        self.config = replace(config, targets=targets)
        self._clock = clock or MonotonicClock()
        self._tally = Tally()
        self._fallback = ""
        self._up = self._down = 0
        self._started_ns = self._clock.now_ns()
        self._ended_ns: int | None = None
        super().__init__(discovering(self.config, self._tally, self._clock, self._fell_back))

    def _fell_back(self, reason: str) -> None:
        self._fallback = reason

    def _took(self, item: HostResult) -> None:
        self._up += item.state == UP
        self._down += item.state == DOWN

    def close(self) -> None:
        if self._ended_ns is None:
            self._ended_ns = self._clock.now_ns()
        super().close()

    @property
    def summary(self) -> DiscoverySummary:
        """The totals so far."""
        targets = self.config.targets.count
        ended_ns = self._clock.now_ns() if self._ended_ns is None else self._ended_ns
        return DiscoverySummary(
            targets=targets,
            complete=self._up + self._down == targets,
            up=self._up,
            down=self._down,
            probes=self._tally.probes,
            duration_ns=ended_ns - self._started_ns,
            fallback=self._fallback,
            notes=self._notes,
        )


def discovering(
    config: ScanConfig, tally: Tally, clock: Clock, fell_back: Callable[[str], object], links: bool = True
) -> Generator[HostResult | Wait]:
    """A result for each target, in the order in which they become known. Ports and kind of the scan do not
    matter. `fell_back` is told why connections have to do.

    Without `links`, targets on a link are taken to be there: who asks them will see.

    Raises: as `scan`.
    """
    for part in _parts(config.targets):
        try:
            legs, unreachable = plan_legs(part, config.interface, resolve=True, alone=False)
        except NoRoute:
            if part.count == config.targets.count:
                raise
            legs, unreachable = [], [(part, NO_ROUTE)]
        for targets, reason in unreachable:
            for address in targets:
                yield HostResult(address, DOWN, reason, probes=0)
        beyond: list[Span] = []
        for leg in legs:
            if not leg.neighbours:
                beyond += leg.targets.spans
            elif links:
                try:
                    finder = NeighbourFinder(leg.ifindex, MAC(leg.link[6:12]), leg.source)
                except PermissionDenied:
                    beyond += leg.targets.spans
                    continue
                with closing(finder):
                    yield from _on_link(leg, finder, config, tally, clock)
            else:
                for address in leg.targets:
                    yield HostResult(address, UP, "on the link", probes=0)
        if beyond:
            yield from _beyond(TargetSet(beyond), config, tally, clock, fell_back)


def _parts(targets: TargetSet) -> Iterator[TargetSet]:
    """The targets, not too many at a time."""
    spans: list[Span] = []
    room = _AT_ONCE
    for span in targets.spans:
        first = span.first
        while first <= span.last:
            last = min(span.last, first + room - 1)
            spans.append(span._replace(first=first, last=last))
            room -= last - first + 1
            first = last + 1
            if not room:
                yield TargetSet(spans)
                spans, room = [], _AT_ONCE
    if spans:
        yield TargetSet(spans)


def _on_link(
    leg: Leg, finder: NeighbourFinder, config: ScanConfig, tally: Tally, clock: Clock
) -> Generator[HostResult | Wait]:
    reason = "arp-response" if leg.source.version == 4 else "nd-response"
    addresses = list(leg.targets)
    steps = finder.steps(addresses, clock, config.effective_rate, config.retries, config.timeout_ns)
    counted = 0
    while True:
        try:
            wait = next(steps)
        except StopIteration as end:
            found: dict[IPAddress, MAC] = end.value
            break
        finally:
            tally.probes += finder.asked - counted
            counted = finder.asked
        yield wait
    for address in addresses:
        mac = found.get(address)
        if mac is None:
            yield HostResult(address, DOWN, NO_NEIGHBOUR, probes=min(config.retries, 2) + 1)
        else:
            yield HostResult(address, UP, reason, mac=mac)


def _beyond(
    targets: TargetSet, config: ScanConfig, tally: Tally, clock: Clock, fell_back: Callable[[str], object]
) -> Generator[HostResult | Wait]:
    """Hosts behind routers, or on this one."""
    from rawkit.tools.scan.kinds import ECHO, KINDS, Kind
    from rawkit.tools.scan.syn import SynScan

    probes: dict[IPAddress, int] = dict.fromkeys(targets, 0)
    reasons: dict[IPAddress, str] = {}

    def heard(results: Iterator[PortResult | Wait]) -> Generator[HostResult | Wait]:
        for result in results:
            if isinstance(result, Wait):
                yield result
                continue
            address = result.address
            if address not in probes:
                continue
            probes[address] += result.probes
            if result.reporter == address:
                yield HostResult(
                    address, UP, result.reason, result.ttl, result.rtt_ns, probes=probes.pop(address)
                )
            elif result.reason != NO_ANSWER:
                reasons[address] = result.reason

    timeout_ns = config.timeout_ns
    ways: Sequence[tuple[Kind, int]] = ((ECHO, 1), (KINDS[SYN], 443), (KINDS["ack"], 80))
    for kind, port in ways:
        if not probes:
            return
        asked = replace(_only(config, TargetSet(map(span_of, probes)), (port,)), timeout_ns=timeout_ns)
        own = Tally()
        try:
            scan = SynScan(asked, own, clock, kind=kind)
        except PermissionDenied as error:
            from rawkit.tools.scan.connect import connect_scan

            fell_back(str(error))
            asked = replace(_only(config, TargetSet(map(span_of, probes)), (80, 443)), kind=CONNECT)
            yield from heard(connect_scan(asked, own, clock))
            tally.probes += own.probes
            break
        try:
            yield from heard(scan.results())
            timeout_ns = min(timeout_ns, scan.patience.wait_ns)  # others are no further away than these
        finally:
            scan.close()
            tally.probes += own.probes
    for address, n in probes.items():
        yield HostResult(address, DOWN, reasons.get(address, NO_ANSWER), probes=n)


def _only(config: ScanConfig, targets: TargetSet, ports: tuple[int, ...]) -> ScanConfig:
    """A scan of these targets' ports, otherwise as it was meant."""
    return ScanConfig(
        targets=targets,
        ports=ports,
        kind=SYN,
        rate=config.rate,
        host_rate=config.host_rate,
        retries=config.retries,
        timeout_ns=config.timeout_ns,
        interface=config.interface,
    )
