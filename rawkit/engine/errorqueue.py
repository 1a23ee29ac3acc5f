"""UDP sockets that hear the ICMP errors about what they sent, without any capability (ip(7), IP_RECVERR)."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Self

from rawkit.errors import EngineError
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.udp import UDP

_ICMP, _ICMPV6, _UDP = 1, 58, 17

# <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>; Python has no names for most of them.
_IP_TTL, _IP_MTU_DISCOVER, _IP_RECVERR, _IP_RECVTTL, _IP_RECVERR_RFC4884 = 2, 10, 11, 12, 26
_IPV6_MTU_DISCOVER, _IPV6_RECVERR, _IPV6_RECVERR_RFC4884, _IPV6_DONTFRAG = 23, 25, 31, 62
_PMTUDISC_PROBE = 3  # "don't fragment", whatever the kernel believes of the path
_SO_TIMESTAMPNS = 35

_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
_ERROR = struct.Struct("=IBBBxIHBx")  # struct sock_extended_err, with struct sock_ee_rfc4884 as its data
_EXTENSION_INVALID = 1
_TIMESPEC = struct.Struct("@ll")

# What the kernel makes of ICMP errors (icmp_err_convert, icmpv6_err_convert); it tells of them at the next
# call, whatever that does.
NEWS = {
    errno.EACCES,
    errno.ECONNREFUSED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EMSGSIZE,
    errno.ENETUNREACH,
    errno.ENONET,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPROTO,
}

_NEWS_MAX = 16  # such errors in a row


class Arrival(NamedTuple):
    """An IP packet as it came, and the kernel's stamp on it (nanoseconds since 1970)."""

    octets: bytes
    time_ns: int | None


class _Held:
    """A socket that is closed with its owner."""

    _socket: socket.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. Closing twice is harmless."""
        self._socket.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.fileno() < 0

    def fileno(self) -> int:
        """The descriptor, for select and poll: it is readable (an error) as long as something waits."""
        return self._socket.fileno()

    def _insist(self, send: Callable[[], object], target: IPv4Address | IPv6Address) -> None:
        """Send, again as long as it may be earlier datagrams that the kernel complains of.

        Each of these is told only once, but others may come meanwhile; the error queue has them all.
        """
        for _ in range(_NEWS_MAX):
            try:
                send()
                return
            except OSError as error:
                failed = error
                if error.errno not in NEWS:
                    break
        raise EngineError(failed.errno or errno.EIO, "send", f"UDP to {target}")


class ErrorQueueSocket(_Held):
    """A UDP socket connected to one address and port.

    What it hears are datagrams from there, and ICMP errors about its own; each is rebuilt as the IP packet
    that it was, with checksums of 0, because the kernel keeps parts of it only. Of what an error quotes there
    are the addresses, the ports, and as much payload as the sender of the error has put in. Extensions follow
    that where there are any (Linux 5.9).

    Raises:
        EngineError: there is no way to the address.
    """

    def __init__(self, target: IPv4Address | IPv6Address, port: int, ifindex: int = 0) -> None:
        self.target = target
        self.target_port = port
        self._v4 = target.version == 4
        self._socket = socket.socket(
            socket.AF_INET if self._v4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        level = socket.IPPROTO_IP if self._v4 else socket.IPPROTO_IPV6
        self._level = level
        try:
            if self._v4:
                options = [(_IP_RECVERR, 1), (_IP_RECVTTL, 1), (_IP_MTU_DISCOVER, _PMTUDISC_PROBE)]
            else:
                options = [
                    (_IPV6_RECVERR, 1),
                    (socket.IPV6_RECVHOPLIMIT, 1),
                    (_IPV6_MTU_DISCOVER, _PMTUDISC_PROBE),
                    (_IPV6_DONTFRAG, 1),
                ]
            for option, value in options:
                self._socket.setsockopt(level, option, value)
            with suppress(OSError):  # an older kernel: errors come without their extensions
                self._socket.setsockopt(level, _IP_RECVERR_RFC4884 if self._v4 else _IPV6_RECVERR_RFC4884, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            where = (str(target).partition("%")[0], port)
            self._socket.connect(where if self._v4 else (*where, 0, ifindex))
        except OSError as error:
            self._socket.close()
            raise EngineError(error.errno or errno.EIO, "open UDP socket", f"the way to {target}") from None
        host, self.port = self._socket.getsockname()[:2]
        self.source = ip_address(host.partition("%")[0])
        """The address and the port it sends from."""

    def send(self, payload: bytes, hop_limit: int) -> None:
        """Send a datagram; it is never fragmented.

        Raises:
            EngineError: EMSGSIZE longer than the interface's MTU; EAGAIN the send buffer is full; others.
        """
        kind = _IP_TTL if self._v4 else socket.IPV6_HOPLIMIT
        control = [(self._level, kind, struct.pack("=i", hop_limit))]
        self._insist(lambda: self._socket.sendmsg([payload], control), self.target)

    def arrivals(self) -> Iterator[Arrival]:
        """What has come, errors first; does not wait."""
        for flags in (socket.MSG_ERRQUEUE, 0):
            while not self.closed:
                try:
                    octets, control, _, _ = self._socket.recvmsg(65536, 512, flags)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in NEWS:
                        continue
                    raise EngineError(error.errno or errno.EIO, "receive", f"UDP to {self.target}") from None
                facts = {(level, kind): data for level, kind, data in control}
                packet = self._error(octets, facts) if flags else self._datagram(octets, facts)
                if packet is not None:
                    stamp = facts.get((socket.SOL_SOCKET, _SO_TIMESTAMPNS))
                    time_ns = None
                    if stamp is not None:
                        seconds, fraction = _TIMESPEC.unpack(stamp)
                        time_ns = seconds * 1_000_000_000 + fraction
                    yield Arrival(packet, time_ns)

    def _hop_limit(self, facts: dict[tuple[int, int], bytes]) -> int:
        data = facts.get((self._level, _IP_TTL if self._v4 else socket.IPV6_HOPLIMIT))
        return struct.unpack("=i", data)[0] & 0xFF if data else 0

    def _datagram(self, payload: bytes, facts: dict[tuple[int, int], bytes]) -> bytes:
        upper = UDP(sport=self.target_port, dport=self.port, checksum=0) / payload
        return self._ip(self.target.packed, self.source.packed, _UDP, bytes(upper), self._hop_limit(facts))

    def _error(self, quoted: bytes, facts: dict[tuple[int, int], bytes]) -> bytes | None:
        data = facts.get((self._level, _IP_RECVERR if self._v4 else _IPV6_RECVERR), b"")
        address = (
            slice(_ERROR.size + 4, _ERROR.size + 8) if self._v4 else slice(_ERROR.size + 8, _ERROR.size + 24)
        )
        if len(data) < address.stop:
            return None
        _, origin, kind, code, info, extension_at, flags = _ERROR.unpack_from(data)
        if origin != (_ORIGIN_ICMP if self._v4 else _ORIGIN_ICMP6):
            return None  # the kernel's own, which the call that met it has already raised
        udp = bytes(UDP(sport=self.port, dport=self.target_port, length=8 + len(quoted), checksum=0))
        original = self._ip(self.source.packed, self.target.packed, _UDP, udp + quoted, 0)
        length = 0
        if extension_at and not flags & _EXTENSION_INVALID:
            # Where the extension begins, in the unit of the error's length (RFC 4884 sections 4.1 to 4.5).
            length = (len(original) - len(quoted) + extension_at) // (4 if self._v4 else 8)
        if self._v4:
            rest = struct.pack(">BBH", 0, length, info if (kind, code) == (3, 4) else 0)
        elif kind == 2:
            rest = struct.pack(">I", info)
        else:
            rest = struct.pack(">BxH", length, 0)
        message = bytes((kind, code, 0, 0)) + rest + original
        protocol = _ICMP if self._v4 else _ICMPV6
        return self._ip(data[address], self.source.packed, protocol, message, self._hop_limit(facts))

    def _ip(self, src: bytes, dst: bytes, protocol: int, upper: bytes, hop_limit: int) -> bytes:
        if self._v4:
            return bytes(IPv4(src=src, dst=dst, protocol=protocol, ttl=hop_limit) / upper)
        return bytes(IPv6(src=src, dst=dst, next_header=protocol, hop_limit=hop_limit) / upper)


class Datagram(NamedTuple):
    """What a `DatagramSocket` heard: from or about which address and port, from whom.

    `icmp` is type and code of an ICMP error, None for a datagram. `hop_limit` is that of what came, `time_ns`
    the kernel's stamp on it (nanoseconds since 1970).
    """

    address: IPv4Address | IPv6Address
    port: int
    reporter: IPv4Address | IPv6Address
    payload: bytes
    icmp: tuple[int, int] | None
    hop_limit: int
    time_ns: int


class DatagramSocket(_Held):
    """A UDP socket that sends to many targets, hears their answers and the ICMP errors about what it sent.

    Raises:
        EngineError: the kernel refused, such as an interface that is not there.
    """

    def __init__(self, version: int, port: int = 0, interface: str = "") -> None:
        self._v4 = version == 4
        self._level = socket.IPPROTO_IP if self._v4 else socket.IPPROTO_IPV6
        family = socket.AF_INET if self._v4 else socket.AF_INET6
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if self._v4:
                options = [(_IP_RECVERR, 1), (_IP_RECVTTL, 1)]
            else:
                options = [(_IPV6_RECVERR, 1), (socket.IPV6_RECVHOPLIMIT, 1), (socket.IPV6_V6ONLY, 1)]
            for option, value in options:
                self._socket.setsockopt(self._level, option, value)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            if interface:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            self._socket.bind(("0.0.0.0" if self._v4 else "::", port))
        except OSError as error:
            self._socket.close()
            raise EngineError(error.errno or errno.EIO, "open UDP socket", interface or str(port)) from None

    def send(self, address: IPv4Address | IPv6Address, port: int, payload: bytes) -> None:
        """Send a datagram.

        Raises:
            EngineError: there is no way to the address; EAGAIN the send buffer is full; others.
        """
        host, _, zone = str(address).partition("%")
        scope = (int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)) if zone else 0
        where = (host, port) if self._v4 else (host, port, 0, scope)
        self._insist(lambda: self._socket.sendto(payload, where), address)

    def arrivals(self) -> Iterator[Datagram]:
        """What has come, errors first; does not wait."""
        for flags in (socket.MSG_ERRQUEUE, 0):
            while True:
                try:
                    payload, control, _, name = self._socket.recvmsg(65536, 512, flags)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in NEWS:
                        continue
                    raise EngineError(error.errno or errno.EIO, "receive", "UDP") from None
                facts = {(level, kind): data for level, kind, data in control}
                address = reporter = ip_address(name[0])
                icmp = None
                if flags:
                    data = facts.get((self._level, _IP_RECVERR if self._v4 else _IPV6_RECVERR), b"")
                    # Where the address is in sockaddr_in, sockaddr_in6.
                    start, end = (4, 8) if self._v4 else (8, 24)
                    if len(data) < _ERROR.size + end:
                        continue
                    _, origin, kind, code, _, _, _ = _ERROR.unpack_from(data)
                    if origin != (_ORIGIN_ICMP if self._v4 else _ORIGIN_ICMP6):
                        continue
                    icmp = kind, code
                    reporter = ip_address(data[_ERROR.size + start : _ERROR.size + end])
                hops = facts.get((self._level, _IP_TTL if self._v4 else socket.IPV6_HOPLIMIT))
                seconds, fraction = _TIMESPEC.unpack(facts[socket.SOL_SOCKET, _SO_TIMESTAMPNS])
                yield Datagram(
                    address,
                    name[1],
                    reporter,
                    payload,
                    icmp,
                    struct.unpack("=i", hops)[0] & 0xFF if hops else 0,
                    seconds * 1_000_000_000 + fraction,
                )
