"""What takes a transport protocol's packets to another host: the interface, and what its kinds share."""

from __future__ import annotations

import errno
import os
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple, Self, TypeAlias

from rawkit.engine.namespace import Namespace
from rawkit.errors import EngineError, TargetError
from rawkit.transport.events import Path
from rawkit.wire import checksum
from rawkit.wire.icmp import TYPES, UNREACHABLE_CODES
from rawkit.wire.icmpv6 import TYPES as TYPES_6
from rawkit.wire.icmpv6 import UNREACHABLE_CODES as UNREACHABLE_CODES_6
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6

IPAddress: TypeAlias = IPv4Address | IPv6Address

AT_ONCE = 256
"""Packets taken from a carrier before timers are looked at again."""
BUFFER_LEN = 4 << 20
"""Octets of receive buffer: what 30 ms of a gigabit per second need."""
KNOWN_MAX = 4096
"""Addresses remembered for speed. Anybody can make more up: then all are forgotten."""

_MTU_OF = {
    4: (socket.IPPROTO_IP, 14),
    6: (socket.IPPROTO_IPV6, 24),
}  # IP_MTU, IPV6_MTU: of a connected socket
LEAST_MTU = {4: 552, 6: 1280}
"""No ICMP error takes a path below this: what Linux believes of IPv4 routers, and RFC 8200 section 5."""


REFUSALS = ("port unreachable", "protocol unreachable", "parameter problem, code 1")
"""ICMP errors that mean: nobody is there (RFC 1122 section 4.2.3.9)."""


class Flow(NamedTuple):
    """Which exchange a packet belongs to, seen from here. Ports are 0 where the carrier has none."""

    local: str
    local_port: int
    remote: str
    remote_port: int


class Trouble(NamedTuple):
    """Packets of a flow do not get through: an ICMP error about one, or the kernel's refusal to send it."""

    flow: Flow
    quoted: bytes
    """The beginning of the packet that it is about, from the transport header on; maybe nothing."""
    reason: str
    mtu: int = 0
    """What the path takes, where that is the trouble."""


class Carrier(ABC):
    """Takes packets of one protocol to other hosts and brings theirs, many at a time, and never waits.

    It belongs to the network namespace of the thread that made it, wherever it is used. `local` is the
    address it has, "" for all of this host's. Close it when done; it is a context manager.
    """

    name: str
    """What it is called in reports: raw, udp, tun, packet."""
    version: int
    """4 or 6."""
    has_ports = False
    """Whether flows have the carrier's own ports (UDP), so that the protocol needs none."""
    header_len: int
    """Octets in front of the transport header, from the IP header on."""

    def __init__(self, local: str, version: int | None, number: int) -> None:
        address = ip_address(local) if local else None
        if address is not None and version not in (None, address.version):
            raise TargetError(f"{local} is no address of IPv{version}")
        self.version = address.version if address else version or 4
        self.local = "" if address is None or address.is_unspecified else str(address)
        self.number = number
        """The IP protocol number of packets."""
        self.lost: Counter[str] = Counter()
        """Packets that were lost in this host, by reason: none of them is a loss of the network."""
        self.troubles: list[Trouble] = []
        """What went wrong since somebody looked; whoever looks empties it."""
        self.at_close: list[Callable[[], None]] = []
        """What to do before the descriptors are closed: whoever waits on them stops."""
        self._namespace = Namespace.current()
        self._inode = os.fstat(self._namespace.fileno()).st_ino

    @abstractmethod
    def descriptors(self) -> list[int]:
        """What to wait on: one that is readable has something for `receive`."""

    @abstractmethod
    def receive(self) -> list[tuple[bytes, Flow, int]]:
        """What has come, `AT_ONCE` packets or so: transport header and payload, flow, ECN codepoint."""

    @abstractmethod
    def send(self, octets: bytes, path: Path, ecn: int) -> None:
        """Send a packet, not later than the next `flush`."""

    @abstractmethod
    def flush(self) -> None:
        """Send what waits."""

    @abstractmethod
    def count_overflow(self) -> None:
        """Bring `lost["overflow"]` up to date: packets that came while the socket's buffer was full."""

    silence: str
    """What keeps the kernel from answering in the endpoints' place."""

    def claim(self, port: int) -> bool:
        """Keep the kernel silent about a local port of the protocol; False where that is somebody else's.

        Only protocols that the kernel has itself need that. Claims are counted.
        """
        return True

    def release(self, port: int) -> None:
        """Take one claim back."""
        return

    @abstractmethod
    def forget(self, path: Path) -> None:
        """The path is not used any more."""

    def close(self) -> None:
        """Let go of everything. Closing twice is harmless."""
        while self.at_close:
            self.at_close.pop()()
        self._close()

    def _close(self) -> None:
        self._namespace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- paths ------------------------------------------------------------------------------------

    def path(self, flow: Flow) -> Path:
        """The path of a flow, of which `local` may be missing.

        Raises:
            EngineError: there is no way to the other address.
            TargetError: it is no address, or one of the other family.
        """
        try:
            address = ip_address(flow.remote)
        except ValueError:
            raise TargetError(f"{flow.remote!r} is no address") from None
        if address.version != self.version:
            raise TargetError(f"{flow.remote} is no address of IPv{self.version}, which this carrier is for")
        source, mtu = self._way(address, flow.local or self.local)
        return Path(
            source,
            str(address),
            mtu,
            self.header_len,
            ip_header(source, str(address), self.number),
            ip_header(str(address), source, self.number),
            flow.local_port,
            flow.remote_port,
        )

    def _way(self, remote: IPAddress, local: str) -> tuple[str, int]:
        """The address that packets to another leave from, and the MTU on the way, as far as the kernel knows.

        It takes some microseconds: a datagram socket is connected, and nothing is sent.
        """
        family = socket.AF_INET if remote.version == 4 else socket.AF_INET6
        try:
            with self._at_home(), socket.socket(family, socket.SOCK_DGRAM) as sock:
                if local:
                    sock.bind((local, 0))
                sock.connect((str(remote), 9))
                return sock.getsockname()[0], sock.getsockopt(*_MTU_OF[remote.version])
        except OSError as error:
            raise EngineError(error.errno or errno.EIO, "find a way", f"to {remote}") from None

    def way_mtu(self, path: Path) -> int:
        """The MTU that the kernel knows now for where a path leads; the path's own where there is no way."""
        try:
            return self._way(ip_address(path.remote), path.local)[1]
        except EngineError:
            return path.mtu

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        """In the namespace that the carrier belongs to."""
        if os.stat("/proc/thread-self/ns/net").st_ino == self._inode:
            yield
        else:
            with self._namespace.enter():
                yield


def ip_header(src: str, dst: str, number: int, **fields: Any) -> IPv4 | IPv6:
    """An IP header between two addresses, of whichever family those are."""
    if ":" in src:
        return IPv6(src=src, dst=dst, next_header=number, **fields)
    return IPv4(src=src, dst=dst, protocol=number, **fields)


def set_buffer(sock: socket.socket, *, sending: bool, octets: int) -> None:
    """The socket's buffer in one direction: beyond the system's limit with CAP_NET_ADMIN, else up to it."""
    forced, usual = (
        (32, socket.SO_SNDBUF) if sending else (33, socket.SO_RCVBUF)
    )  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, octets)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, usual, octets)


# ---- ICMP errors -----------------------------------------------------------------------------------


def trouble_of(version: int, kind: int, code: int, info: int, flow: Flow, quoted: bytes) -> Trouble | None:
    """What an ICMP error of this type and code says; None where it is no error. `info` is its MTU field."""
    if version == 4:
        if kind == 3 and code == 4:
            return Trouble(flow, quoted, UNREACHABLE_CODES[4], max(info, LEAST_MTU[4]))
        if kind not in (3, 11, 12):
            return None
        names, types = UNREACHABLE_CODES if kind == 3 else {}, TYPES
    else:
        if kind == 2:
            return Trouble(flow, quoted, TYPES_6[2], max(info, LEAST_MTU[6]))
        if not 1 <= kind <= 4:
            return None
        names, types = UNREACHABLE_CODES_6 if kind == 1 else {}, TYPES_6
    return Trouble(flow, quoted, names.get(code) or f"{types[kind]}, code {code}")


def read_icmp(packet: bytes, number: int) -> Trouble | None:
    """What an IP packet with an ICMP error says of a packet of protocol `number`; None when it does not.

    Whatever the octets are, it does not raise.
    """
    if packet[0] >> 4 == 4:
        at = (packet[0] & 15) * 4
        quote = packet[at + 8 :]
        if len(quote) < 20 or quote[0] >> 4 != 4 or quote[9] != number:
            return None
        src, dst, rest = quote[12:16], quote[16:20], quote[(quote[0] & 15) * 4 :]
        info = int.from_bytes(packet[at + 6 : at + 8], "big")
        version = 4
    else:
        at = 40
        quote = packet[at + 8 :]
        if len(quote) < 40 or quote[0] >> 4 != 6 or quote[6] != number:
            return None
        src, dst, rest = quote[8:24], quote[24:40], quote[40:]
        info = int.from_bytes(packet[at + 4 : at + 8], "big")
        version = 6
    flow = Flow(str(ip_address(src)), 0, str(ip_address(dst)), 0)
    return trouble_of(version, packet[at], packet[at + 1], info, flow, rest)


_SUM_AT = {socket.IPPROTO_TCP: 16, socket.IPPROTO_UDP: 6}


def finished(octets: bytes, addresses: bytes, number: int) -> bytes:
    """A TCP segment or UDP datagram with its checksum filled in, where that was left to a network card.

    So packets come that have met none: of this host, its containers and virtual machines. Their checksum is
    that of the pseudo-header alone, not complemented. `addresses` are source and destination.
    """
    at = _SUM_AT[number]
    half = len(addresses) // 2
    pseudo = checksum.pseudo_header(addresses[:half], addresses[half:], number, len(octets))
    if len(octets) < at + 2 or int.from_bytes(octets[at : at + 2], "big") != pseudo:
        return octets
    value = 0xFFFF ^ checksum.add(0, octets) or 0xFFFF  # 0 means "none" (RFC 768)
    return octets[:at] + value.to_bytes(2, "big") + octets[at + 2 :]


class Pairs:
    """Flows without ports by the addresses in received IP headers, which cost much to write out."""

    def __init__(self) -> None:
        self._known: dict[bytes, Flow] = {}

    def flow(self, addresses: bytes) -> Flow:
        """The flow of a packet with this source and destination."""
        found = self._known.get(addresses)
        if found is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            half = len(addresses) // 2
            remote, local = str(ip_address(addresses[:half])), str(ip_address(addresses[half:]))
            found = self._known[addresses] = Flow(local, 0, remote, 0)
        return found


class Heads:
    """The octets of IP headers in front of packets, by path and ECN codepoint."""

    def __init__(self, make: Callable[[Path, int], bytes]) -> None:
        self._make = make
        self._known: dict[Path, dict[int, bytes]] = {}

    def head(self, path: Path, ecn: int) -> bytes:
        """The header, made when it is first wanted."""
        of_path = self._known.get(path)
        if of_path is None:
            of_path = self._known[path] = {}
        head = of_path.get(ecn)
        if head is None:
            head = of_path[ecn] = self._make(path, ecn)
        return head

    def forget(self, path: Path) -> None:
        """The path is not used any more."""
        self._known.pop(path, None)
