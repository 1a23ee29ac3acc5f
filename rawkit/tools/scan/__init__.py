"""Port scans: `scan(targets, ports=...)` yields a `PortResult` per port, and has a `summary`.

A SYN scan sends half-open probes in bulk and needs CAP_NET_RAW, as do the scans with other flags
(`scan.kinds`); a connect scan asks the kernel to connect and needs nothing, nor does a UDP scan. All look at
every port of every target, and again where no answer came. Probes leave in a random order, connections in
that of the ports, for up to 256 hosts in turns.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rawkit.addr import TARGET_LIMIT, IPAddress, Span, TargetSet, parse_ports, parse_target, span_of
from rawkit.clock import Clock, MonotonicClock
from rawkit.errors import PermissionDenied, TargetError
from rawkit.tools.scan.config import AUTO as AUTO
from rawkit.tools.scan.config import BULK_KINDS as BULK_KINDS
from rawkit.tools.scan.config import CLOSED as CLOSED
from rawkit.tools.scan.config import COMMON_PORTS as COMMON_PORTS
from rawkit.tools.scan.config import CONNECT as CONNECT
from rawkit.tools.scan.config import FILTERED as FILTERED
from rawkit.tools.scan.config import KIND_NAMES as KIND_NAMES
from rawkit.tools.scan.config import NO_ANSWER as NO_ANSWER
from rawkit.tools.scan.config import NO_LIMIT as NO_LIMIT
from rawkit.tools.scan.config import NO_NEIGHBOUR as NO_NEIGHBOUR
from rawkit.tools.scan.config import OPEN as OPEN
from rawkit.tools.scan.config import OPEN_FILTERED as OPEN_FILTERED
from rawkit.tools.scan.config import PUBLIC_HOST_RATE as PUBLIC_HOST_RATE
from rawkit.tools.scan.config import PUBLIC_RATE_MAX as PUBLIC_RATE_MAX
from rawkit.tools.scan.config import STATES as STATES
from rawkit.tools.scan.config import SYN as SYN
from rawkit.tools.scan.config import UDP as UDP
from rawkit.tools.scan.config import UNFILTERED as UNFILTERED
from rawkit.tools.scan.config import PortResult as PortResult
from rawkit.tools.scan.config import ScanConfig as ScanConfig
from rawkit.tools.scan.config import ScanSummary as ScanSummary
from rawkit.tools.scan.config import probe_of as probe_of
from rawkit.tools.scan.config import public_count as public_count
from rawkit.tools.scan.tally import Tally
from rawkit.tools.scan.waiting import Running, Wait

if TYPE_CHECKING:
    from rawkit.tools.scan.checkpoint import Checkpoint
    from rawkit.tools.scan.crafted import CraftedScan
    from rawkit.tools.scan.discover import Discovery
    from rawkit.tools.scan.missed import Missed
    from rawkit.tools.scan.probe import Probe
    from rawkit.tools.scan.syn import SynScan

_DISCOVER_TARGETS, _DISCOVER_PORTS = 16, 8  # from which on it saves more than it costs

Targets = str | IPAddress | Iterable[str | IPAddress] | TargetSet


def scan(
    targets: Targets,
    ports: str | Iterable[int] | None = None,
    *,
    kind: str | Probe = AUTO,
    rate: float | None = None,
    retries: int = 2,
    timeout: float = 1.0,
    interface: str = "",
    source_port: int = 0,
    seed: int | None = None,
    shard: tuple[int, int] = (1, 1),
    exclude: Targets | None = None,
    contact: str = "",
    discovery: bool | None = None,
    host_rate: float | None = None,
) -> Scan:
    """Scan TCP or UDP ports: an iterator of `PortResult`, in the order in which they become known.

    `targets` and `exclude` are addresses, prefixes, ranges, host names or lists of them (see
    `rawkit.addr.parse_target`); `ports` is "22,80,100-200", numbers, or None for those that services commonly
    use. `kind` may be a `Probe` of your own. `timeout` is in seconds; the rest is as in `ScanConfig`.

    A SYN scan opens its sockets at once, in the thread's present network namespace; a connect scan opens them
    as it goes on, as does any scan that begins with a discovery, and must be iterated over in the namespace
    it was made in. Closing the result, or iterating to its end, closes them.

    Raises:
        TargetError: targets or ports that make no sense, or are no single hosts (multicast, broadcast).
        ValueError: a number out of range.
        UnknownInterface, NoRoute: there is no such interface, no way to any target.
        PermissionDenied: a SYN scan was asked for without CAP_NET_RAW.
        EngineError: the kernel refused something else, such as the source port.
    """
    timeout_ns = _timeout_ns(timeout)
    name, probe = (kind, probe_of(kind)) if isinstance(kind, str) else (kind.name, kind)
    return Scan(
        ScanConfig(
            targets=_without(targets, exclude),
            ports=_port_list(ports, name, probe),
            kind=name,
            probe=probe,
            rate=rate,
            retries=retries,
            timeout_ns=timeout_ns,
            interface=interface,
            source_port=source_port,
            seed=seed,
            shard=shard,
            contact=contact,
            discovery=discovery,
            host_rate=host_rate,
        )
    )


def find_hosts(
    targets: Targets,
    *,
    rate: float | None = None,
    retries: int = 2,
    timeout: float = 1.0,
    interface: str = "",
    exclude: Targets | None = None,
) -> Discovery:
    """Which hosts are there: an iterator (`for`, `async for`) of a `HostResult` for each target.

    Arguments are as in `scan`; see `scan.discover` for what is asked. Sockets are opened as it goes on, in
    the network namespace of the thread that iterates.

    Raises: TargetError, ValueError, as `scan`.
    """
    from rawkit.tools.scan.discover import Discovery

    return Discovery(
        ScanConfig(
            targets=_without(targets, exclude),
            rate=rate,
            retries=retries,
            timeout_ns=_timeout_ns(timeout),
            interface=interface,
        )
    )


async def ascan(
    targets: Targets, ports: str | Iterable[int] | None = None, **options: Any
) -> AsyncGenerator[PortResult]:
    """As `scan`, for `async for`: host names are looked up, and answers waited for, while the loop goes on.

    Leaving the loop early, or the cancellation of its task, closes the scan. Raises: as `scan`.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    wanted = await loop.run_in_executor(None, _target_set, targets)
    async with aclosing(aiter(scan(wanted, ports, **options))) as results:
        async for result in results:
            yield result


class Scan(Running[PortResult]):
    """A running scan: an iterator of `PortResult`, and a context manager that closes its sockets.

    In a running asyncio loop `async for` does the same as `for`.

    `kind` is the scan that is made. `fallback` says why it is "connect" where a SYN scan
    was wanted first; it is empty otherwise.
    """

    def __init__(
        self,
        config: ScanConfig,
        clock: Clock | None = None,
        checkpoint: Checkpoint | None = None,
        notify: Callable[[str], object] = lambda text: None,
    ) -> None:
        """With a checkpoint, a SYN scan goes on where that says; `summary` then counts all of it. `notify` is
        told, in words, what a scan finds out about its own course, such as how long a UDP scan will take.

        Raises: as `scan`, and `RawkitError` for a checkpoint that cannot be used.
        """
        from rawkit.tools.scan.legs import refuse_groups

        targets, self._notes = refuse_groups(config.targets)
        self.config = replace(config, targets=targets)
        self.kind = SYN if config.kind == AUTO else config.kind
        self.fallback = ""
        self._tally = Tally()
        self._checkpoint = checkpoint
        self._notify = notify
        self._clock = clock or MonotonicClock()
        self._opened: SynScan | CraftedScan | None = None
        self._down = 0
        self.looking = False
        """Whether it is still being found out who is there."""
        discovers = self._discovers()
        if discovers and config.seed is None:  # so that it is known from the beginning
            self.config = replace(self.config, seed=int.from_bytes(os.urandom(8), "big"))
        super().__init__(self._after_discovery() if discovers else self._open(self.config))
        self._started_ns = self._clock.now_ns()
        self._ended_ns: int | None = None

    def _discovers(self) -> bool:
        """Whether to look first who is there."""
        config = self.config
        if self._checkpoint is not None or config.shard != (1, 1):
            return False
        if config.discovery is not None:
            return config.discovery
        enough = config.targets.count >= _DISCOVER_TARGETS and len(config.ports) >= _DISCOVER_PORTS
        return enough and _may_send_packets()

    def _after_discovery(self) -> Generator[PortResult | Wait]:
        from rawkit.tools.scan.discover import UP, discovering

        config = self.config
        links = bool(config.discovery) or self.kind not in BULK_KINDS
        there: list[Span] = []
        self.looking = True
        for item in discovering(config, self._tally, self._clock, lambda reason: None, links):
            if isinstance(item, Wait):
                yield item
            elif item.state == UP:
                there.append(span_of(item.address))
            else:
                self._down += 1
        self.looking = False
        if self._down:
            self._notify(
                f"{len(there)} of {config.targets.count} hosts are there; -Pn scans the others all the same"
            )
        if there:
            yield from self._open(replace(config, targets=TargetSet(there, config.targets.names)))

    def _open(self, config: ScanConfig) -> Generator[PortResult | Wait]:
        probe = config.probe
        if probe is not None:
            from rawkit.tools.scan.crafted import CraftedScan

            self._opened = CraftedScan(config, probe, self._tally, self._clock, self._notify)
            return self._opened.results()
        if self.kind in BULK_KINDS:
            from rawkit.tools.scan.syn import SynScan

            try:
                self._opened = SynScan(config, self._tally, self._clock, self._checkpoint)
                return self._opened.results()
            except PermissionDenied as error:
                if config.kind != AUTO or config.shard != (1, 1) or self._checkpoint is not None:
                    raise
                self.kind = CONNECT
                self.fallback = str(error)
        if self.kind == UDP:
            from rawkit.tools.scan.udp import udp_scan

            return udp_scan(config, self._tally, self._clock, self._notify)
        from rawkit.tools.scan.connect import connect_scan

        return connect_scan(config, self._tally, self._clock)

    def _took(self, item: PortResult) -> None:
        self._tally.states[item.state] += 1

    def close(self) -> None:
        """End the scan where it is. Closing again does nothing."""
        if self._ended_ns is None:
            self._ended_ns = self._clock.now_ns()
        super().close()
        if self._opened is not None:  # a generator that never started closes nothing
            self._opened.close()

    @property
    def seed(self) -> int | None:
        """The order in which probes leave; None where nobody chose it."""
        return getattr(self._opened, "seed", self.config.seed if self.kind in BULK_KINDS else None)

    @property
    def origin(self) -> tuple[str, ...]:
        """The addresses and ports that own packets come from; none where they are the kernel's, or where it
        is still being looked who is there."""
        return self._opened.origin if self._opened is not None else ()

    @property
    def protocol(self) -> str:
        """Whose ports are scanned: "tcp", "udp", or what the probe says."""
        return protocol_of(self.kind, self.config.probe)

    @property
    def summary(self) -> ScanSummary:
        """The totals so far."""
        tally, states = self._tally, self._tally.states
        targets, ports = self.config.targets.count, len(self.config.ports)
        shard, shards = self.config.shard
        ended_ns = self._clock.now_ns() if self._ended_ns is None else self._ended_ns
        complete = states.total() == len(range(shard - 1, (targets - self._down) * ports, shards))
        return ScanSummary(
            kind=self.kind,
            targets=targets,
            ports=ports,
            complete=complete,
            open=states[OPEN],
            closed=states[CLOSED],
            filtered=states[FILTERED],
            unfiltered=states[UNFILTERED],
            open_filtered=states[OPEN_FILTERED],
            probes=tally.probes,
            duplicates=tally.duplicates,
            dropped=tally.dropped,
            refused=tally.refused,
            down=self._down,
            missed=self._missed(complete),
            duration_ns=ended_ns - self._started_ns,
            fallback=self.fallback,
            notes=self._notes,
        )

    def _missed(self, complete: bool) -> Missed | None:
        tally, states = self._tally, self._tally.states
        if self.kind != SYN or not complete or tally.resumed:
            return None
        from rawkit.tools.scan.missed import estimate

        return estimate(tally.found[: tally.rounds], states[OPEN], tally.unanswered)


def _may_send_packets() -> bool:
    from rawkit.engine import PacketSocket

    try:
        PacketSocket(None, protocol=0).close()
    except PermissionDenied:
        return False
    return True


def _timeout_ns(timeout: float) -> int:
    if not 0 < timeout <= 3600:
        raise ValueError(f"timeout of {timeout} s: more than 0, an hour at most")
    return int(timeout * 1e9)


def _without(targets: Targets, exclude: Targets | None) -> TargetSet:
    wanted = _target_set(targets)
    return wanted if exclude is None else wanted.without(_target_set(exclude, limit=NO_LIMIT))


def _target_set(targets: Targets, limit: int = TARGET_LIMIT) -> TargetSet:
    if isinstance(targets, TargetSet):
        return targets
    if isinstance(targets, (str, IPAddress)):
        return parse_target(str(targets), limit=limit)
    return parse_target([str(target) for target in targets], limit=limit)


def common_ports(kind: str, probe: Probe | None) -> tuple[int, ...]:
    """The ports of a scan that names none."""
    if kind == UDP:
        from rawkit.tools.scan.payloads import COMMON_UDP_PORTS

        return COMMON_UDP_PORTS
    return (probe.ports if probe is not None else ()) or COMMON_PORTS


def protocol_of(kind: str, probe: Probe | None) -> str:
    """Whose ports a scan is about: "tcp", "udp", or what the probe says."""
    if probe is not None:
        return probe.protocol
    return "udp" if kind == UDP else "tcp"


def _port_list(ports: str | Iterable[int] | None, kind: str, probe: Probe | None) -> tuple[int, ...]:
    if ports is None:
        return common_ports(kind, probe)
    if isinstance(ports, str):
        return parse_ports(ports, protocol_of(kind, probe))
    found = tuple(dict.fromkeys(ports))
    for port in found:
        if not 0 <= port <= 65535:
            raise TargetError(f"bad port {port}: ports are 0..65535")
    return found
