"""Scans with packets that a `Probe` makes: sent over raw IP sockets, answers heard by packet sockets.

The kernel finds the way of each packet. The port they come from is held, for TCP and for UDP, by sockets that
nobody reads, so that no connection of this host gets it meanwhile.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from hashlib import blake2b
from ipaddress import ip_address

from rawkit.addr import IPAddress
from rawkit.clock import Clock
from rawkit.engine import FrameBatch, PacketSocket, RawIPSocket
from rawkit.errors import EngineError
from rawkit.tools.departure import IPPROTO_RAW
from rawkit.tools.scan.asking import Asking, Heard
from rawkit.tools.scan.config import PortResult, ScanConfig
from rawkit.tools.scan.legs import Leg, plan_legs
from rawkit.tools.scan.probe import Probe, ProbeTarget
from rawkit.tools.scan.syn import origin, reserve_port
from rawkit.tools.scan.tally import Tally
from rawkit.tools.scan.waiting import Wait
from rawkit.wire.icmp import ICMPError
from rawkit.wire.icmpv6 import ICMPv6Error
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet

_RECEIVED_N = 256
_SNAPLEN = 1024
_BUFFER_LEN = 4 << 20
_KEY_LEN = 16
_HOLD_TRIES = 20


class CraftedScan:
    """A scan with a probe and its sockets, opened in the thread's present network namespace.

    Raises, when made, PermissionDenied without CAP_NET_RAW, EngineError when the source port is taken,
    NoRoute when no target can be reached.
    """

    def __init__(
        self, config: ScanConfig, probe: Probe, tally: Tally, clock: Clock, notify: Callable[[str], object]
    ) -> None:
        versions = sorted({span.version for span in config.targets.spans})
        with ExitStack() as stack:
            source_port = hold_ports(stack, config.source_port)
            receivers = {v: stack.enter_context(_open_receiver(v, probe, source_port)) for v in versions}
            legs, _ = plan_legs(config.targets, config.interface, resolve=False)
            self.origin = origin(legs, source_port)
            requests = Requests(probe, legs, source_port, config.contact)
            carriers = {}
            for version, receiver in receivers.items():
                senders = {
                    ifindex: stack.enter_context(RawIPSocket(version, IPPROTO_RAW, interface=ifindex))
                    for ifindex in {
                        _bound(leg, config.interface) for leg in legs if leg.source.version == version
                    }
                }
                carriers[version] = _Packets(requests, config.interface, receiver, senders)
            self._stack = stack.pop_all()
        self._asking = Asking(config, tally, clock, notify, carriers)

    def close(self) -> None:
        self._stack.close()

    def results(self) -> Generator[PortResult | Wait]:
        """Results in the order in which they become known."""
        try:
            yield from self._asking.results()
        finally:
            self.close()


class Requests:
    """The packets of a scan with a probe."""

    def __init__(self, probe: Probe, legs: list[Leg], source_port: int, contact: str) -> None:
        self.probe, self._legs, self._source_port, self._contact = probe, legs, source_port, contact
        self._key = os.urandom(_KEY_LEN)

    def leg(self, address: IPAddress) -> Leg | None:
        """The way to a target, None if there is none."""
        return next((leg for leg in self._legs if address in leg.targets), None)

    def packet(self, address: IPAddress, port: int, leg: Leg) -> Packet:
        """What a port of a target is asked."""
        about = address.packed + port.to_bytes(2, "big")
        token = int.from_bytes(blake2b(about, key=self._key, digest_size=8).digest(), "big")
        to = ProbeTarget(address, port, leg.source, self._source_port, token, self._contact)
        return self.probe.request(to)


class _Packets:
    """The packets of one IP version."""

    def __init__(
        self,
        requests: Requests,
        interface: str,
        receiver: PacketSocket,
        senders: dict[int | None, RawIPSocket],
    ) -> None:
        self._requests, self._interface = requests, interface
        self._receiver, self._senders = receiver, senders
        self._inbox = FrameBatch(_RECEIVED_N, _RECEIVED_N * _SNAPLEN)
        self._zoned: dict[bytes, IPAddress] = {}  # those asked that have a zone, which packets do not say
        self.protocol = requests.probe.protocol
        self.silent = requests.probe.silent
        self.exact = requests.probe.exact

    def fileno(self) -> int:
        return self._receiver.fileno()

    def ask(self, address: IPAddress, port: int, attempt: int) -> None:
        leg = self._requests.leg(address)
        if leg is None:
            raise EngineError(errno.ENETUNREACH, "send", str(address))
        if getattr(address, "scope_id", None):
            self._zoned[address.packed] = address
        octets = bytes(self._requests.packet(address, port, leg))
        self._senders[_bound(leg, self._interface)].send(octets)

    def arrivals(self) -> Iterator[Heard]:
        while self._receiver.receive(self._inbox, 0):
            for place, octets in zip(self._inbox.places(), self._inbox):
                if heard := self._read(octets, place[0]):
                    yield heard

    def _read(self, octets: bytes, time_ns: int) -> Heard | None:
        packet = Packet.parse(octets, IPv4 if octets[0] >> 4 == 4 else IPv6)
        layers = packet.layers
        ip = layers[0] if layers else None
        if not isinstance(ip, (IPv4, IPv6)):
            return None
        quoting = next((i for i, layer in enumerate(layers) if layer.quotes), None)
        about = layers if quoting is None else layers[quoting + 1 :]
        if not about or not isinstance(about[0], (IPv4, IPv6)):
            return None
        packed = (ip.src if quoting is None else about[0].dst).packed
        address = self._zoned.get(packed) or ip_address(packed)
        probe = self._requests.probe
        port = probe.port_of(about, packet.payload, quoting is not None)
        leg = self._requests.leg(address)
        if port is None or leg is None:
            return None
        if not probe.is_answer(packet, self._requests.packet(address, port, leg)):
            return None
        reporter, error = address, None if quoting is None else layers[quoting]
        if isinstance(error, (ICMPError, ICMPv6Error)):
            if ip.src.packed != packed:
                reporter = ip_address(ip.src.packed)
            state, reason = probe.verdict_of_error(ip.version, error.type, error.code, reporter is address)
        else:
            state, reason = probe.verdict(packet)
        hop_limit = ip.ttl if isinstance(ip, IPv4) else ip.hop_limit
        return Heard(address, port, state, reason, reporter, hop_limit, time_ns, error is not None)


def hold_ports(stack: ExitStack, port: int) -> int:
    """Hold a port (0: any that is free) for TCP and UDP until the stack ends; gives its number.

    Raises EngineError when it is taken.
    """
    for left in range(_HOLD_TRIES - 1, -1, -1):
        guard, number = reserve_port(port)
        try:
            udp = socket.socket(guard.family, socket.SOCK_DGRAM)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # nobody reads it
            udp.bind(("", number))
        except OSError as error:
            guard.close()
            if port or not left:
                raise EngineError(error.errno or errno.EIO, "reserve source port", str(number)) from None
            continue
        stack.enter_context(guard)
        stack.enter_context(udp)
        return number
    raise AssertionError("unreachable")


def _open_receiver(version: int, probe: Probe, source_port: int) -> PacketSocket:
    ip = "ip" if version == 4 else "ip6"
    icmp = "icmp" if version == 4 else "icmp6"
    answers = probe.filter.format(port=source_port, ip=ip)
    # For one EtherType a packet socket hears only what comes in: over loopback each packet once.
    return PacketSocket(
        None,
        cooked=True,
        protocol=0x0800 if version == 4 else 0x86DD,
        filter=f"{icmp} or ({answers})",
        buffer_len=_BUFFER_LEN,
    )


def _bound(leg: Leg, interface: str) -> int | None:
    """The interface that packets have to be told: link-local addresses say nothing without theirs."""
    return leg.ifindex if interface or leg.source.is_link_local else None
