"""Ping by other means than echo requests: TCP ports, UDP ports, and the link (ARP, neighbour discovery).

Each round is an exchange (`tools.exchange`) of one packet for each target: what answers what is decided by
the headers themselves, ICMP errors included, and both ends are stamped by the kernel. An answer is whatever
shows that the host is there: a SYN-ACK as well as a RST, a datagram as well as "port unreachable".
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import ClassVar, Protocol, Self

from rawkit.addr import MAC, IPAddress, Resolver
from rawkit.errors import NoRoute, TargetError
from rawkit.tools.exchange import Answer, Exchange, ExchangeConfig, ExchangeEvent, Sent
from rawkit.tools.ping import resolve_targets
from rawkit.tools.pinger import PingConfig, PingEvent
from rawkit.tools.pingresult import PingError, PingReply, PingSummary, PingTarget, PingTimeout, Tally
from rawkit.tools.scan.syn import reserve_port
from rawkit.wire import (
    ARP,
    ICMP,
    MSS,
    TCP,
    UDP,
    Ether,
    ICMPv6,
    IPv4,
    IPv6,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Packet,
    SourceLinkAddress,
)

_SLICE_S = 0.1
_RATE = 1000.0  # requests of one round to several targets, per second


class Probes(Protocol):
    """What is sent, and how an answer is read."""

    def packet(self, address: IPAddress, seq: int) -> Packet:
        """The request."""
        ...

    def detail(self, address: IPAddress, answer: Packet) -> str | None:
        """What an answer says of the target, in a word; None for an ICMP error about the way there."""
        ...

    def close(self) -> None: ...


def _ip(address: IPAddress, config: PingConfig) -> IPv4 | IPv6:
    if isinstance(address, IPv6Address):
        return IPv6(dst=address, hop_limit=config.ttl, traffic_class=config.tos)
    return IPv4(dst=address, ttl=config.ttl, dscp=config.tos >> 2, ecn=config.tos & 3)


class TCPProbes:
    """A SYN to a port, from a port that is held so that the kernel resets what opens (RFC 9293)."""

    _mss: ClassVar = {4: 1460, 6: 1440}

    def __init__(self, port: int, config: PingConfig) -> None:
        self._port, self._config = port, config
        self._guard, self._sport = reserve_port()

    def packet(self, address: IPAddress, seq: int) -> Packet:
        options = [MSS(self._mss[address.version])]
        tcp = TCP(sport=self._sport, dport=self._port, seq=secrets.randbits(32), flags="S", options=options)
        return _ip(address, self._config) / tcp

    def detail(self, address: IPAddress, answer: Packet) -> str | None:
        tcp = answer.get(TCP)
        if tcp is None or ICMP in answer or ICMPv6 in answer:
            return None
        return f"port {self._port} {'closed' if tcp.flags & TCP.RST else 'open'}"

    def close(self) -> None:
        self._guard.close()


class UDPProbes:
    """A datagram to a port, from a port that is held; `size` octets that differ each time."""

    def __init__(self, port: int, config: PingConfig) -> None:
        self._port, self._config = port, config
        self._guard = _hold_udp()
        self._sport = self._guard.getsockname()[1]

    def packet(self, address: IPAddress, seq: int) -> Packet:
        udp = UDP(sport=self._sport, dport=self._port)
        return _ip(address, self._config) / udp / os.urandom(self._config.size)

    def detail(self, address: IPAddress, answer: Packet) -> str | None:
        error = answer.get(ICMP) or answer.get(ICMPv6)
        if error is None:
            return f"port {self._port} answers"
        by_target = _source(answer) == str(address).partition("%")[0]
        closed = (3, 3) if address.version == 4 else (1, 4)
        return f"port {self._port} closed" if by_target and (error.type, error.code) == closed else None

    def close(self) -> None:
        self._guard.close()


class LinkProbes:
    """Who has the address: ARP (RFC 826), neighbour solicitations (RFC 4861 section 7.2.2).

    Raises, when a packet is made: TargetError for an address that is not on a link of this host.
    """

    def __init__(self, config: PingConfig) -> None:
        self._interface = config.interface

    def packet(self, address: IPAddress, seq: int) -> Packet:
        from rawkit import net

        way = net.route(address, via=self._interface or None)
        link = net.interface(way.ifindex)
        if way.next_hop is not None or link.loopback or link.mac is None:
            raise TargetError(f"bad target {address}: it is not a neighbour on an Ethernet link")
        if way.source is None:
            raise NoRoute(f"no route to {address}: {way.interface} has no IPv{address.version} address")
        if not isinstance(address, IPv6Address):
            return Ether(src=link.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(
                sender_mac=link.mac, sender_ip=way.source.packed, target_ip=address
            )
        # The solicited-node multicast address (RFC 4291 section 2.7.1), its MAC address (RFC 2464 section 7).
        group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(address) & 0xFFFFFF)
        return (
            Ether(src=link.mac, dst=MAC(b"\x33\x33" + group.packed[-4:]))
            / IPv6(src=IPv6Address(int(way.source)), dst=group, hop_limit=255)
            / NeighbourSolicitation(
                target=IPv6Address(int(address)), options=[SourceLinkAddress(address=link.mac)]
            )
        )

    def interface_of(self, address: IPAddress) -> str:
        """The interface that leads to an address."""
        from rawkit import net

        return net.route(address, via=self._interface or None).interface

    def detail(self, address: IPAddress, answer: Packet) -> str | None:
        arp = answer.get(ARP)
        return f"is at {answer[Ether].src if arp is None else arp.sender_mac}"

    def close(self) -> None:
        pass


@dataclass(slots=True)
class _Round:
    seq: int
    interface: str | None
    rows: list[int]


class ProbePing:
    """A ping by TCP, UDP or ARP: iterate over it, `for` or `async for`, for replies, timeouts and errors.

    `kind` is "tcp", "udp" (both want a port) or "arp", which of IPv6 is neighbour discovery. Rounds begin
    `interval_ns` apart, or later, when the one before is over. Needs CAP_NET_RAW.

    Raises: ValueError for a kind or port that is none; `TargetError`, `NoRoute`, `UnknownInterface`,
    `PermissionDenied`, when made or with the first round.
    """

    def __init__(
        self,
        targets: str | IPAddress | Iterable[str | IPAddress],
        kind: str,
        port: int | None = None,
        config: PingConfig | None = None,
        *,
        resolve: Resolver | None = None,
    ) -> None:
        self.config = config or PingConfig()
        if kind not in ("tcp", "udp", "arp"):
            raise ValueError(f"kind {kind!r}: must be tcp, udp or arp")
        if (kind == "arp") != (port is None):
            raise ValueError(f"port {port}: {kind} {'has no ports' if kind == 'arp' else 'needs one'}")
        if port is not None and not 0 <= port <= 65535:
            raise ValueError(f"port {port}: must be 0..65535")
        self.targets = resolve_targets(targets, self.config, resolve)
        self.kind = kind
        self._tallies = [Tally() for _ in self.targets]
        self._session: Exchange | None = None
        self._closed = False
        self._stack = ExitStack()
        self._probes: Probes
        if port is None:
            self._probes = LinkProbes(self.config)
        else:
            self._probes = (TCPProbes if kind == "tcp" else UDPProbes)(port, self.config)
        self._stack.callback(self._probes.close)
        self._wait_until_ns = 0
        self.socket_kinds = {target.address.version: "raw" for target in self.targets}
        """How each IP version is spoken."""

    @property
    def summaries(self) -> list[PingSummary]:
        """The totals so far, one for each target."""
        now_ns = time.monotonic_ns()
        return [tally.summary(target, now_ns) for target, tally in zip(self.targets, self._tallies)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets; an iteration that is under way ends. May be called twice."""
        self._closed = True
        if self._session is not None:
            self._session.close()
        self._stack.close()

    def __iter__(self) -> Iterator[PingEvent]:
        try:
            for step in self._rounds():
                with self._open(step) as session:
                    for happened in session:
                        yield from self._event(step, happened)
                        if self._closed:
                            return
                while not self._closed and (left_ns := self._wait_until_ns - time.monotonic_ns()) > 0:
                    time.sleep(min(left_ns / 1e9, _SLICE_S))
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[PingEvent]:
        import asyncio

        try:
            for step in self._rounds():
                with self._open(step) as session:
                    async for happened in session:
                        for event in self._event(step, happened):
                            yield event
                        if self._closed:
                            return
                left_ns = self._wait_until_ns - time.monotonic_ns()
                await asyncio.sleep(max(left_ns, 0) / 1e9)
        finally:
            self.close()

    def _rounds(self) -> Iterator[_Round]:
        """Each round, one exchange for each interface that has to be named."""
        config = self.config
        ways: dict[str | None, list[int]] = {}
        for row, target in enumerate(self.targets):
            name = config.interface or None
            if isinstance(self._probes, LinkProbes):
                name = self._probes.interface_of(target.address)
            ways.setdefault(name, []).append(row)
        start_ns = time.monotonic_ns()
        end_ns = start_ns + config.deadline_ns if config.deadline_ns else None
        seq = 0
        while config.count is None or seq < config.count:
            seq += 1
            last = seq == config.count
            next_ns = time.monotonic_ns() + config.interval_ns
            for n, (name, rows) in enumerate(ways.items()):
                self._wait_until_ns = next_ns if n == len(ways) - 1 and not last else 0
                yield _Round(seq, name, rows)
            if self._closed or (end_ns is not None and time.monotonic_ns() >= end_ns):
                return

    def _open(self, step: _Round) -> Exchange:
        packets = []
        for row in step.rows:
            packets.append(self._probes.packet(self.targets[row].address, step.seq))
            tally = self._tallies[row]
            if tally.first_ns is None:
                tally.first_ns = time.monotonic_ns()
        config = ExchangeConfig(self.config.timeout_ns, rate=_RATE if len(packets) > 1 else None)
        self._session = Exchange(packets, config, interface=step.interface)
        return self._session

    def _event(self, step: _Round, happened: ExchangeEvent) -> Iterator[PingEvent]:
        number = happened.number if isinstance(happened, Answer) else happened.outcome.number
        row, seq = step.rows[number], step.seq
        target, tally = self.targets[row], self._tallies[row]
        if isinstance(happened, Sent):
            tally.sent += 1
        elif isinstance(happened, Answer):
            yield self._answer(target, tally, seq, happened)
        elif (error := happened.outcome.error) is not None:
            tally.sent += not happened.outcome.sent_ns
            tally.errors += 1
            tally.silent()
            text = os.strerror(error.errno or 0).lower()
            yield PingError(target.name, str(target.address), seq, "", None, None, text, time.time_ns())
        else:
            tally.silent()
            yield PingTimeout(target.name, str(target.address), seq, self.config.timeout_ns, time.time_ns())

    def _answer(self, target: PingTarget, tally: Tally, seq: int, answer: Answer) -> PingReply | PingError:
        address = str(target.address)
        detail = self._probes.detail(target.address, answer)
        error = answer.get(ICMP) or answer.get(ICMPv6)
        if detail is None and error is not None and NeighbourAdvertisement not in answer:
            tally.errors += 1
            tally.silent()
            reporter, text = _source(answer), error.type_text()
            return PingError(
                target.name, address, seq, reporter, error.type, error.code, text, answer.time_ns
            )
        if answer.duplicate:
            tally.duplicates += 1
        else:
            tally.add(answer.rtt_ns)
            tally.answered(seq, answer.late)
        return PingReply(
            target.name,
            address,
            seq,
            answer.rtt_ns,
            _hop_limit(answer),
            len(bytes(answer)),
            answer.time_ns,
            answer.stamp,
            answer.tx_stamp,
            duplicate=answer.duplicate,
            late=answer.late,
            detail=detail or "",
        )


def _source(packet: Packet) -> str:
    ip = packet.get(IPv4) or packet.get(IPv6)
    return "" if ip is None else str(ip.src)


def _hop_limit(packet: Packet) -> int:
    if ip := packet.get(IPv4):
        return int(ip.ttl)
    ip6 = packet.get(IPv6)
    return 0 if ip6 is None else int(ip6.hop_limit)


def _hold_udp() -> socket.socket:
    """A UDP socket on any free port, of both IP versions where the kernel has both."""
    try:
        guard = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError:
        guard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if guard.family == socket.AF_INET6:
            guard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        guard.bind(("", 0))
        return guard
    except BaseException:
        guard.close()
        raise
