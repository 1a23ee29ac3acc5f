"""Ping: echo requests (RFC 792, RFC 4443 section 4) to one or many hosts, and what comes back.

`ping()` makes a `Ping` session from plain arguments; the session drives a `Pinger`, which decides, over raw
or ICMP datagram sockets.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from rawkit.addr import IPAddress, Resolver, parse_target
from rawkit.engine.aio import Waits, wait_readable
from rawkit.engine.batch import KERNEL_TIME, FrameBatch
from rawkit.engine.sockets import RawIPSocket
from rawkit.engine.stamps import TransmitStamps
from rawkit.errors import EngineError, PermissionDenied, TargetError, UnknownInterface
from rawkit.tools.pinger import COOKIE_LEN as COOKIE_LEN
from rawkit.tools.pinger import FRAGMENT, is_group
from rawkit.tools.pinger import MAX_SIZE as MAX_SIZE
from rawkit.tools.pinger import PingConfig as PingConfig
from rawkit.tools.pinger import Pinger as Pinger
from rawkit.tools.pinger import PingError as PingError
from rawkit.tools.pinger import PingEvent as PingEvent
from rawkit.tools.pinger import PingReply as PingReply
from rawkit.tools.pinger import PingSummary as PingSummary
from rawkit.tools.pinger import PingTarget as PingTarget
from rawkit.tools.pinger import PingTimeout as PingTimeout
from rawkit.tools.pinger import Probe as Probe
from rawkit.tools.roundtrip import Moment
from rawkit.units import parse_duration

MAX_TARGETS = 4096
"""Addresses of one session at most."""

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23  # <linux/in.h>, <linux/in6.h>

SEND_TIMEOUT = 0.01
"""Seconds to wait where the socket's buffer or the device's queue is full."""


class Ping:
    """A session: iterate over it for replies, timeouts and errors as they happen.

        session = ping(["192.0.2.1", "2001:db8::1"], count=3)
        for event in session:
            ...
        session.summaries

    In a running asyncio loop `async for` does the same. The sockets are opened when it is made, and closed
    when the iteration ends, in `close`, or at the end of a `with` block. `summaries` may be read at any time,
    also after the iteration was broken off.

    Raises: `TargetError`; `PermissionDenied` when neither raw nor ICMP datagram sockets are allowed;
    `UnknownInterface`.
    """

    def __init__(
        self,
        targets: str | IPAddress | Iterable[str | IPAddress],
        config: PingConfig | None = None,
        *,
        resolve: Resolver | None = None,
    ) -> None:
        self.config = config or PingConfig()
        self.targets = resolve_targets(targets, self.config, resolve)
        self._sockets: dict[int, tuple[RawIPSocket, bool]] = {}
        self._out = FrameBatch(1, 2 * 65536)
        self._in = FrameBatch(64, 64 * 2048 + 65536)
        self._waits = Waits()
        self._end_ns = 0
        try:
            for version in sorted({target.address.version for target in self.targets}):
                self._sockets[version] = open_icmp(version, self.config.interface)
            for sock_version, (sock, _) in self._sockets.items():
                set_options(sock_version, sock, self.config)
            self._scopes = [scope_index(target.address) for target in self.targets]
        except BaseException:
            self.close()
            raise
        self.socket_kinds = {
            version: "datagram" if datagram else "raw" for version, (_, datagram) in self._sockets.items()
        }
        """How each IP version is spoken: "raw" or "datagram" (needs no privilege)."""
        # The error queue of ICMP datagram sockets is for errors.
        self._stamps: dict[int, TransmitStamps[Probe]] = {
            version: TransmitStamps(sock.fileno(), sock.name)
            for version, (sock, datagram) in self._sockets.items()
            if not datagram
        }
        self._pinger = Pinger(
            self.targets,
            self.config,
            {
                version: sock.icmp_id if datagram else int.from_bytes(os.urandom(2), "big")
                for version, (sock, datagram) in self._sockets.items()
            },
            os.urandom(COOKIE_LEN),
        )

    @property
    def summaries(self) -> list[PingSummary]:
        """The totals so far, one for each target."""
        return self._pinger.summaries()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets; an iteration that is under way ends. May be called twice."""
        self._waits.end()
        for sock, _ in self._sockets.values():
            sock.close()
        self._sockets = {}

    def __iter__(self) -> Iterator[PingEvent]:
        try:
            while self._sockets and self._goes_on():
                yield from self._step()
                if descriptors := self._descriptors():
                    wait_readable(descriptors, self._due_ns())
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[PingEvent]:
        try:
            while self._sockets and self._goes_on():
                for event in self._step():
                    yield event
                if descriptors := self._descriptors():
                    left_ns = self._due_ns() - time.monotonic_ns()
                    await self._waits.ready(descriptors, max(left_ns, 0) / 1e9)
        finally:
            self.close()

    def _goes_on(self) -> bool:
        if self.config.deadline_ns and not self._end_ns:
            self._end_ns = time.monotonic_ns() + self.config.deadline_ns
        over = self._end_ns and time.monotonic_ns() >= self._end_ns
        return not over and self._pinger.due_ns() is not None

    def _due_ns(self) -> int:
        """When there is something to do next."""
        due_ns = self._pinger.due_ns() or 0
        return min(due_ns, self._end_ns) if self._end_ns else due_ns

    def _descriptors(self) -> list[int]:
        return [sock.fileno() for sock, _ in self._sockets.values()]

    def _step(self) -> Iterator[PingEvent]:
        """Do all there is to do now, without waiting."""
        if (probe := self._pinger.next_probe(time.monotonic_ns())) is not None:
            error = self._send(probe)
            if error is not None:
                yield error
        # What is overdue now and not among what has arrived did not come in time. A later moment would count
        # answers as lost that came while this process, or who takes the events, was busy.
        now = Moment.now()
        for version, (sock, _) in list(self._sockets.items()):
            yield from self._receive(version, sock)
        self._count_drops()
        yield from self._pinger.expired(now)

    def _send(self, probe: Probe) -> PingError | None:
        version = self.targets[probe.index].address.version
        sock, _ = self._sockets[version]
        # Everything is ready before the clock is read: what happens between that and the system call would
        # count as time on the way.
        out = self._out
        out.clear()
        out.append(probe.octets)
        out.handle.frames[0].ifindex = self._scopes[probe.index]
        moment = Moment.now()
        stamps = self._stamps.get(version)
        try:
            if sock.send_batch(out, timeout=SEND_TIMEOUT) == 0:
                return self._pinger.failed(probe, moment, "the socket's send buffer stayed full")
        except EngineError as error:
            if stamps is not None:
                stamps.refused()
            return self._pinger.failed(probe, moment, _reason(error))
        if stamps is not None:
            stamps.sent(probe)
        self._count_drops()
        self._pinger.sent(probe, moment)
        return None

    def _count_drops(self) -> None:
        self._pinger.dropped = sum(sock.counters().dropped for sock, _ in self._sockets.values())

    def _receive(self, version: int, sock: RawIPSocket) -> Iterator[PingEvent]:
        """Events from all that has arrived."""
        batch = self._in
        while self._sockets:
            n = sock.receive(batch, 0)
            if version in self._stamps:
                # Before what they answer: a request's stamp was there first.
                for probe, time_ns in self._stamps[version].take():
                    self._pinger.departed(probe, time_ns)
            seen = Moment.now()
            # Copied first: whoever gets an event may do anything before the next one is asked for.
            for record, packet in list(zip(batch.records(), batch)) if n else ():
                stamp = record.time_ns if record.flags & KERNEL_TIME else None
                # This process may have woken up long after the packet came, and after others should have.
                yield from self._pinger.expired(seen if stamp is None else seen.at(stamp))
                event = self._pinger.received(packet, seen, stamp)
                if event is not None:
                    yield event
            if n < batch.capacity:
                return


def ping(
    targets: str | IPAddress | Iterable[str | IPAddress],
    *,
    count: int | None = None,
    interval: float = 1.0,
    timeout: float = 1.0,
    size: int = 56,
    ttl: int = 64,
    family: int = 0,
    interface: str = "",
    broadcast: bool = False,
    adaptive: bool = False,
    deadline: float | None = None,
) -> Ping:
    """Send echo requests to one or several targets; iterate over the result for what happens.

    Targets are addresses, host names, and everything else `parse_target` takes. `interval`,
    `timeout` and `deadline` are in seconds; the rest is as in `PingConfig`.

        for event in rawkit.ping(["192.0.2.1", "2001:db8::1"], count=3):
            print(event)

    Raises: as `Ping`; ValueError for a number that makes no sense.
    """
    config = PingConfig(
        count=count,
        interval_ns=parse_duration(interval),
        timeout_ns=parse_duration(timeout),
        size=size,
        ttl=ttl,
        family=family,
        interface=interface,
        broadcast=broadcast,
        adaptive=adaptive,
        deadline_ns=parse_duration(deadline) if deadline is not None else 0,
    )
    return Ping(targets, config)


def resolve_targets(
    targets: str | IPAddress | Iterable[str | IPAddress], config: PingConfig, resolve: Resolver | None = None
) -> tuple[PingTarget, ...]:
    """The addresses to ask, each once, in the order they were named.

    Raises: `TargetError` for a target that is none, or is no single host.
    """
    texts = [targets] if isinstance(targets, (str, IPv4Address, IPv6Address)) else list(targets)
    found: dict[bytes, PingTarget] = {}
    for text in map(str, texts):
        limit = MAX_TARGETS - len(found)
        chosen = parse_target(text, family=config.family, limit=limit, resolve=resolve)
        for address in chosen:
            if is_group(address) and not config.broadcast:
                raise TargetError(
                    f"bad target {text!r}: {address} stands for many hosts; ping asks single ones, "
                    "unless told that this is meant (-b, broadcast=True)"
                )
            if address.is_unspecified:
                raise TargetError(f"bad target {text!r}: {address} is no host's address")
            if config.size > MAX_SIZE[address.version]:
                raise TargetError(
                    f"bad target {text!r}: {config.size} octets of payload do not fit IPv{address.version}, "
                    f"at most {MAX_SIZE[address.version]} do"
                )
            found.setdefault(address.packed, PingTarget(chosen.names.get(address, str(address)), address))
    if not found:
        raise TargetError("no targets given")
    if config.broadcast and len(found) > 1:
        raise TargetError(f"{len(found)} targets: of those that stand for many hosts, one at a time is asked")
    return tuple(found.values())


def set_options(version: int, sock: RawIPSocket, config: PingConfig) -> None:
    """What is a matter of the socket: broadcasts, and whether requests may be fragmented."""
    with socket.socket(fileno=os.dup(sock.fileno())) as same:
        if config.broadcast:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if config.fragment and version == 4:
            same.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, FRAGMENT[config.fragment])
        elif config.fragment:
            same.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, FRAGMENT[config.fragment])


def scope_index(address: IPAddress) -> int:
    """The number of the interface that a link-local address names ("fe80::1%veth0"), 0 without one."""
    zone = address.scope_id if isinstance(address, IPv6Address) else None
    if not zone:
        return 0
    try:
        return int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    except OSError:
        raise UnknownInterface(f"{address}: there is no interface named {zone!r}") from None


def open_icmp(version: int, interface: str) -> tuple[RawIPSocket, bool]:
    """A socket for ICMP or ICMPv6, and whether it is an ICMP datagram socket: raw where that is allowed."""
    protocol = 1 if version == 4 else 58
    open_socket = partial(RawIPSocket, version, protocol, interface=interface or None, header_included=False)
    try:
        return open_socket(), False
    except PermissionDenied:
        return open_socket(icmp_datagram=True), True  # when this is refused too, the error tells of both ways


def _reason(error: EngineError) -> str:
    """Why a request could not be sent, in words."""
    text = os.strerror(error.errno or errno.EIO).lower()
    if error.errno == errno.EPERM:
        return f"{text}: a packet filter of this host refuses it"
    if error.errno == errno.EACCES:
        return f"{text}: a broadcast address, or prohibited by the routing table"
    return text
