"""Trace: the routers between here and a target, over one path or several.

`trace()` makes a `Trace` session from plain arguments; the session drives a `Tracer`, which decides, over raw
IP sockets, or without privilege over UDP or ICMP datagram sockets.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from rawkit.addr import IPAddress, Resolver, parse_target
from rawkit.bulk.answerfilter import answer_filter
from rawkit.engine.batch import FrameBatch
from rawkit.engine.errorqueue import ErrorQueueSocket
from rawkit.engine.interface import LINKTYPE_RAW
from rawkit.engine.sockets import RawIPSocket
from rawkit.errors import EngineError, PermissionDenied, TargetError
from rawkit.net import interface as find_interface
from rawkit.net import route
from rawkit.tools.departure import Departure, prepare
from rawkit.tools.lanes import Core, Event, Lane, Session
from rawkit.tools.ping import scope_index
from rawkit.tools.roundtrip import Moment
from rawkit.tools.tracegraph import TraceGraph, path_graph
from rawkit.tools.traceprobes import METHODS, TraceProbes
from rawkit.tools.tracer import Tracer
from rawkit.tools.traceresult import TraceAnswer as TraceAnswer
from rawkit.tools.traceresult import TraceConfig as TraceConfig
from rawkit.tools.traceresult import TraceError as TraceError
from rawkit.tools.traceresult import TraceEvent as TraceEvent
from rawkit.tools.traceresult import TraceHop as TraceHop
from rawkit.tools.traceresult import TraceNode as TraceNode
from rawkit.tools.traceresult import TracePath as TracePath
from rawkit.tools.traceresult import TraceSent as TraceSent
from rawkit.tools.traceresult import TraceTimeout as TraceTimeout
from rawkit.units import parse_duration
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6

_KEY_LEN = 16
_PORTS_FIRST, _PORTS_N = 32768, 28232  # ip(7), ip_local_port_range
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}


class Trace(Session[TraceEvent]):
    """A session: iterate over it for what happens, as it happens.

        session = trace("192.0.2.1", flows=8)
        for event in session:
            ...
        session.hops(), session.paths()

    `async for` does the same in a running asyncio loop. Its sockets are opened when it is made, and closed
    when the iteration ends, in `close`, or at the end of a `with` block. What is known may be asked at any
    time, also after the iteration was broken off.

    Raises: `TargetError`; `NoRoute`; `UnknownInterface`; `PermissionDenied` when no kind of socket that the
    method can use is allowed.
    """

    def __init__(
        self,
        target: str | IPAddress,
        config: TraceConfig | None = None,
        *,
        resolve: Resolver | None = None,
    ) -> None:
        super().__init__()
        self.config = config = config or TraceConfig()
        self.name, self.target = resolve_target(target, config, resolve)
        """What the user called the target, and its address."""
        version = self.target.version
        ifindex = scope_index(self.target)
        interface = config.interface or (socket.if_indextoname(ifindex) if ifindex else None)
        sample = prepare(
            IPv4(dst=self.target.packed) if version == 4 else IPv6(dst=self.target.packed), interface
        )
        self.port = config.port or METHODS[config.method].default_port
        """The target's port, 0 for ICMP."""
        ip = sample.packet.layers[0]
        assert isinstance(ip, (IPv4, IPv6))
        self.source: IPAddress = ip.src
        """The address that the probes come from."""
        mtu = find_interface(route(self.target, interface).ifindex).mtu if config.mtu else 0
        self.size = config.start_size(version, mtu)
        """Octets of the first probes, IP header included."""
        with ExitStack() as stack:
            try:
                probes = self._open_raw(sample, stack)
                self.socket_kind = "raw"
                """How probes are sent: "raw", or "datagram" (unprivileged)."""
            except PermissionDenied:
                stack.close()
                probes = self._open_datagram(sample, stack)
                self.socket_kind = "datagram"
            self._tracer = Tracer(self.target, probes, config, self.size)
            self._opened = stack.pop_all()

    def _probes(self, idents: Sequence[int]) -> TraceProbes:
        method = METHODS[self.config.method]
        return method(self.source, self.target, idents, self.port, os.urandom(_KEY_LEN))

    def _open_raw(self, sample: Departure, stack: ExitStack) -> TraceProbes:
        flows = self.config.flows
        # Source ports from the range that a Linux host takes its own from, or identifiers.
        first = _PORTS_FIRST + int.from_bytes(os.urandom(2), "big") % (_PORTS_N - flows)
        probes = self._probes(range(first, first + flows))
        version = self.target.version
        requests = [probes.octets(flow, 1, 1, 0) for flow in range(flows)]
        filter = answer_filter(requests, version)
        lane = Lane(sample, stack, self.size, _ETHERTYPES[version], filter)
        if self.config.mtu:
            lane.ignore_path_mtu()
        self._lanes[None] = lane
        return probes

    def _open_datagram(self, sample: Departure, stack: ExitStack) -> TraceProbes:
        config, version = self.config, self.target.version
        if config.method == "udp":
            sockets = {}
            for _ in range(config.flows):
                sock = stack.enter_context(ErrorQueueSocket(self.target, self.port, sample.ifindex))
                sockets[sock.port] = sock
            self._lanes[None] = _DatagramLane(sockets)
            return self._probes(list(sockets))
        if config.method != "icmp" or config.flows > 1:
            raise _denied(config)
        echoer = RawIPSocket(
            version,
            1 if version == 4 else 58,
            icmp_datagram=True,
            header_included=False,
            interface=config.interface or None,
        )
        lane = Lane(sample, stack, self.size, own=echoer)
        if config.mtu:
            lane.ignore_path_mtu()
        self._lanes[None] = lane
        return self._probes([echoer.icmp_id])

    def _start(self) -> Tracer:
        return self._tracer

    def _lane_of(self, number: int) -> Hashable:
        return None

    def __iter__(self) -> Iterator[TraceEvent]:
        try:
            yield from super().__iter__()
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[TraceEvent]:
        try:
            async for event in super().__aiter__():
                yield event
        finally:
            self.close()

    # ---- what is known

    def hops(self) -> list[TraceHop]:
        """The hops so far, up to where the longest flow ends."""
        return self._tracer.hops()

    def hop(self, hop: int) -> TraceHop:
        """What is known of one hop."""
        return self._tracer.hop(hop)

    def is_complete(self, hop: int) -> bool:
        """Whether nothing more is to come of a hop, of those up to `last_hop`."""
        return self._tracer.is_complete(hop)

    @property
    def last_hop(self) -> int:
        """Where the longest flow ends, `max_hops` as long as one has not ended."""
        return self._tracer.last_hop

    def paths(self) -> list[TracePath]:
        """The way of each flow so far."""
        return self._tracer.paths()

    def graph(self) -> TraceGraph:
        """All paths so far as one graph, which draws itself: `to_svg`, `to_dot`."""
        return path_graph(str(self.source), self.paths(), self.hops())

    @property
    def reached(self) -> bool:
        """Whether the target has answered."""
        return any(path.reached for path in self.paths())

    @property
    def unmatched(self) -> int:
        """ICMP errors about our probes that quote too little to tell which one they are about."""
        return self._tracer.unmatched


def trace(
    target: str | IPAddress,
    *,
    method: str = "udp",
    port: int | None = None,
    flows: int = 1,
    first_hop: int = 1,
    max_hops: int = 30,
    count: int | None = 3,
    interval: float = 0.0,
    timeout: float = 2.0,
    retries: int = 2,
    rate: float = 1000.0,
    ahead: int = 8,
    size: int | None = None,
    mtu: bool = False,
    family: int = 0,
    interface: str = "",
) -> Trace:
    """Find the routers between here and a target; iterate over the result for what happens.

    `interval` and `timeout` are in seconds; the rest is as in `TraceConfig`.

        session = rawkit.trace("192.0.2.1", flows=8)
        for event in session:
            print(event)
        print(session.paths())

    Raises: as `Trace`; ValueError for a number that makes no sense.
    """
    config = TraceConfig(
        method=method,
        port=port,
        flows=flows,
        first_hop=first_hop,
        max_hops=max_hops,
        count=count,
        interval_ns=parse_duration(interval),
        timeout_ns=parse_duration(timeout),
        retries=retries,
        rate=rate,
        ahead=ahead,
        size=size,
        mtu=mtu,
        family=family,
        interface=interface,
    )
    return Trace(target, config)


async def atrace(target: str | IPAddress, **options: Any) -> AsyncIterator[TraceEvent]:
    """As `trace`, for `async for`: names are looked up, and answers waited for, while the loop goes on.

    `options` are the keyword arguments of `trace`.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    with await loop.run_in_executor(None, partial(trace, target, **options)) as session:
        async for event in session:
            yield event


def resolve_target(
    target: str | IPAddress, config: TraceConfig, resolve: Resolver | None = None
) -> tuple[str, IPAddress]:
    """What the user called the target, and its address.

    Raises: `TargetError` for a target that is none, or is no single host.
    """
    text = str(target)
    chosen = parse_target(text, family=config.family, resolve=resolve)
    if len(chosen) != 1:
        raise TargetError(f"bad target {text!r}: it stands for {len(chosen)} addresses; trace asks one")
    address = chosen[0]
    if address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise TargetError(f"bad target {text!r}: {address} stands for many hosts; trace asks one")
    if address.is_unspecified:
        raise TargetError(f"bad target {text!r}: {address} is no host's address")
    smallest = METHODS[config.method].size_min(address.version)
    if config.size is not None and config.size < smallest:
        raise TargetError(
            f"bad target {text!r}: probes over IPv{address.version} have at least {smallest} octets, "
            f"not {config.size}"
        )
    return chosen.names.get(address, str(address)), address


def _denied(config: TraceConfig) -> PermissionDenied:
    what = "several flows of ICMP" if config.method == "icmp" else f"{config.method.upper()} probes"
    return PermissionDenied(
        errno.EPERM,
        "send probes",
        hint=f"{what} need CAP_NET_RAW: run as root, or give the program cap_net_raw with setcap; "
        "UDP probes do without",
    )


class _DatagramLane:
    """A UDP socket for each flow, and the ICMP errors from their queues."""

    def __init__(self, sockets: Mapping[int, ErrorQueueSocket]) -> None:
        """`sockets` by the port they send from."""
        self._sockets = sockets

    def descriptors(self) -> list[int]:
        return [sock.fileno() for sock in self._sockets.values() if not sock.closed]

    def dropped(self) -> int:
        return 0  # the kernel does not say

    def forget(self, batch: FrameBatch) -> None:
        for sock in self._sockets.values():
            for _ in sock.arrivals():
                pass

    def send(self, core: Core[Event], numbers: Sequence[int]) -> Iterator[Event]:
        events: list[Event] = []
        for i, number in enumerate(numbers):
            octets = core.octets(number)
            at, hop_limit = (20, octets[8]) if octets[0] >> 4 == 4 else (40, octets[7])
            sock = self._sockets[int.from_bytes(octets[at : at + 2], "big")]
            moment = Moment.now()
            try:
                sock.send(octets[at + 8 :], hop_limit)
            except EngineError as error:
                if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                    events += core.refused(numbers[i:], error, moment.monotonic_ns)
                    break
                events.append(core.failed(number, error, moment.monotonic_ns))
            else:
                events.append(core.sent(number, moment))
        yield from events

    def receive(self, core: Core[Event], batch: FrameBatch) -> Generator[Event, None, bool]:
        for sock in self._sockets.values():
            for octets, stamp_ns in sock.arrivals():
                seen = Moment.now()
                yield from core.expired(seen if stamp_ns is None else seen.at(stamp_ns))
                event = core.received(octets, LINKTYPE_RAW, seen, stamp_ns)
                if event is not None:
                    yield event
        return False
