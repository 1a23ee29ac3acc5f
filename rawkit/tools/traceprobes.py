"""The probes of trace: packets of one flow that routers treat alike, and that tell themselves apart.

A router that spreads traffic over several paths looks at addresses, protocol and the first four octets behind
the IP header: ports, or type, code and checksum. Within a flow all of those stay as they are (Augustin and
others, "Avoiding traceroute anomalies with Paris traceroute", 2006), and IPv6's flow label too. What differs
is where an ICMP error still quotes it: each probe carries a mark of 16 bits in the first eight octets or in
IPv4's identification, and a token of 32 bits that nobody can guess.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar

from rawkit.addr import IPAddress
from rawkit.wire.header import Header
from rawkit.wire.icmp import ICMPEcho
from rawkit.wire.icmpv6 import ICMPv6Echo
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet
from rawkit.wire.sctp import SCTP, SCTPInit
from rawkit.wire.tcp import MSS, TCP
from rawkit.wire.udp import UDP

MARKS_N = 65534
"""Probes that can be told apart at a time: marks are 1..65534, which are no special value anywhere."""

TOKEN_LEN = 4
_NO_MARK = 0x10000  # tokens beyond those of the marks serve other purposes
_FLOW_LABELS_N = (1 << 20) - 1  # 0 says that there is none
_IP_LEN = {4: 20, 6: 40}


class TraceProbes(ABC):
    """The probes of a session.

    `idents` has what tells its flows apart: a source port for each, or an ICMP identifier. `key` is 16
    octets that nobody can guess.
    """

    protocols: ClassVar[tuple[int, int]]
    """Numbers of the protocol over IPv4 and over IPv6."""

    default_port: ClassVar[int] = 0
    upper_min: ClassVar[int]
    """Octets that follow the IP header at least."""

    sized: ClassVar[bool] = True
    """Whether a probe may be made longer than that."""

    def __init__(
        self, source: IPAddress, target: IPAddress, idents: Sequence[int], port: int, key: bytes
    ) -> None:
        self.version = target.version
        self.protocol = self.protocols[target.version == 6]
        self.idents = idents
        self.port = port
        self._source = source.packed
        self._target = target.packed
        self._key = key
        self._flow_label = int.from_bytes(self.token(_NO_MARK)[:3], "big")

    @classmethod
    def size_min(cls, version: int) -> int:
        """Octets of the shortest probe, IP header included."""
        return _IP_LEN[version] + cls.upper_min

    def token(self, mark: int) -> bytes:
        """The token of a probe: never all zeros."""
        octets = blake2b(mark.to_bytes(4, "big"), digest_size=TOKEN_LEN, key=self._key).digest()
        return octets if any(octets) else b"\0\0\0\1"

    def octets(self, flow: int, mark: int, hop_limit: int, size: int) -> bytes:
        """The probe: an IP packet of `size` octets, or `size_min` if that is more; not to be fragmented."""
        length = max(size - _IP_LEN[self.version], self.upper_min)
        return bytes(self._ip(flow, mark, hop_limit) / self._upper(flow, mark, length))

    def _ip(self, flow: int, mark: int, hop_limit: int) -> Header:
        if self.version == 4:
            return IPv4(
                src=self._source,
                dst=self._target,
                id=mark,
                flags=IPv4.DF,
                ttl=hop_limit,
            )
        return IPv6(
            src=self._source,
            dst=self._target,
            flow_label=(self._flow_label + flow) % _FLOW_LABELS_N + 1,
            hop_limit=hop_limit,
        )

    @abstractmethod
    def _upper(self, flow: int, mark: int, length: int) -> Packet:
        """What follows the IP header."""

    @abstractmethod
    def quoted(self, ip_id: int, upper: bytes) -> tuple[int, tuple[int, ...], bytes] | None:
        """Flow, what may be the mark, and the token, of the probe that an error quotes, as far as it does.

        `upper` is what is left of it behind its IP header (8 octets at least), `ip_id` 0 where there is none.
        None: no probe of this session.
        """

    tokens_return: ClassVar[bool] = True
    """Whether every answer of a target has a token in it."""

    @abstractmethod
    def answered(self, upper: bytes) -> tuple[int, bytes, str] | None:
        """Flow and token of the probe that the target answers with this, and what that is, in words."""

    def _flow(self, ident: bytes) -> int:
        return self.idents.index(int.from_bytes(ident, "big"))

    def _is_between(self, here: bytes, there: bytes) -> bool:
        """Whether these are a flow's port and the target's."""
        return int.from_bytes(here, "big") in self.idents and int.from_bytes(there, "big") == self.port


class _BalancedProbes(TraceProbes):
    """Probes whose checksum is chosen: two octets behind the token make it come out."""

    upper_min = 8 + TOKEN_LEN + 2
    checksum_at: ClassVar[int]

    def octets(self, flow: int, mark: int, hop_limit: int, size: int) -> bytes:
        octets = bytearray(super().octets(flow, mark, hop_limit, size))
        at = _IP_LEN[self.version]
        field = slice(at + self.checksum_at, at + self.checksum_at + 2)
        wanted = self._checksum(flow, mark)
        # A checksum is the complement of a sum: the balance makes that larger by as much as the checksum has
        # to become smaller, in ones' complement (RFC 1071).
        balance = (int.from_bytes(octets[field], "big") - wanted) % 0xFFFF
        octets[at + self.upper_min - 2 : at + self.upper_min] = balance.to_bytes(2, "big")
        octets[field] = wanted.to_bytes(2, "big")
        return bytes(octets)

    def _payload(self, mark: int, length: int) -> bytes:
        return self.token(mark) + bytes(length - 8 - TOKEN_LEN)

    @abstractmethod
    def _checksum(self, flow: int, mark: int) -> int:
        """The checksum that a probe is to have, 1..65534."""


class ICMPProbes(_BalancedProbes):
    """Echo requests: identifier and checksum are the flow's, the sequence number is the probe's mark."""

    protocols = (1, 58)
    checksum_at = 2

    def _upper(self, flow: int, mark: int, length: int) -> Packet:
        kind = ICMPEcho if self.version == 4 else ICMPv6Echo
        return kind(id=self.idents[flow], seq=mark) / self._payload(mark, length)

    def _checksum(self, flow: int, mark: int) -> int:
        return 1 + int.from_bytes(self.token(_NO_MARK + flow)[:2], "big") % MARKS_N

    def quoted(self, ip_id: int, upper: bytes) -> tuple[int, tuple[int, ...], bytes] | None:
        if upper[0] != (8 if self.version == 4 else 128) or not self._is_ours(upper):
            return None
        return self._flow(upper[4:6]), (int.from_bytes(upper[6:8], "big"),), upper[8 : 8 + TOKEN_LEN]

    def answered(self, upper: bytes) -> tuple[int, bytes, str] | None:
        if upper[0] != (0 if self.version == 4 else 129) or not self._is_ours(upper):
            return None
        return self._flow(upper[4:6]), upper[8 : 8 + TOKEN_LEN], "echo reply"

    def _is_ours(self, upper: bytes) -> bool:
        return int.from_bytes(upper[4:6], "big") in self.idents


class UDPProbes(_BalancedProbes):
    """Datagrams: the ports are the flow's, the checksum is the probe's mark."""

    protocols = (17, 17)
    default_port = 33434
    checksum_at = 6
    tokens_return = False  # but in an echo

    def _upper(self, flow: int, mark: int, length: int) -> Packet:
        return UDP(sport=self.idents[flow], dport=self.port) / self._payload(mark, length)

    def _checksum(self, flow: int, mark: int) -> int:
        return mark

    def payload(self, flow: int, mark: int, size: int) -> bytes:
        """What a socket is given to send, which puts headers with a checksum of its own before it."""
        return self.octets(flow, mark, 1, size)[_IP_LEN[self.version] + 8 :]

    def quoted(self, ip_id: int, upper: bytes) -> tuple[int, tuple[int, ...], bytes] | None:
        if not self._is_between(upper[:2], upper[2:4]):
            return None
        # An address translator on the way changes the checksum, but not the identification.
        marks = ip_id, int.from_bytes(upper[6:8], "big")
        return self._flow(upper[:2]), marks, upper[8 : 8 + TOKEN_LEN]

    def answered(self, upper: bytes) -> tuple[int, bytes, str] | None:
        if not self._is_between(upper[2:4], upper[:2]):
            return None
        return self._flow(upper[2:4]), upper[8 : 8 + TOKEN_LEN], "UDP"


class TCPProbes(TraceProbes):
    """SYN segments: the ports are the flow's, the sequence number the probe's token."""

    protocols = (6, 6)
    default_port = 80
    upper_min = 24
    sized = False

    def _upper(self, flow: int, mark: int, length: int) -> Packet:
        seq = int.from_bytes(self.token(mark), "big")
        return Packet(
            [TCP(sport=self.idents[flow], dport=self.port, seq=seq, flags="S", options=[MSS(1460)])]
        )

    def quoted(self, ip_id: int, upper: bytes) -> tuple[int, tuple[int, ...], bytes] | None:
        if not self._is_between(upper[:2], upper[2:4]):
            return None
        return self._flow(upper[:2]), (ip_id,), upper[4:8]

    def answered(self, upper: bytes) -> tuple[int, bytes, str] | None:
        if len(upper) < 20 or not self._is_between(upper[2:4], upper[:2]):
            return None
        token = (int.from_bytes(upper[8:12], "big") - 1 & 0xFFFFFFFF).to_bytes(TOKEN_LEN, "big")
        return self._flow(upper[2:4]), token, "RST" if upper[13] & TCP.RST else "SYN-ACK"


class SCTPProbes(TraceProbes):
    """INIT chunks: the ports are the flow's, the initiate tag the probe's token."""

    protocols = (132, 132)
    default_port = 80
    upper_min = 12 + 20
    sized = False

    def _upper(self, flow: int, mark: int, length: int) -> Packet:
        tag = int.from_bytes(self.token(mark), "big")
        return Packet([SCTP(sport=self.idents[flow], dport=self.port, chunks=[SCTPInit(tag=tag, tsn=tag)])])

    def quoted(self, ip_id: int, upper: bytes) -> tuple[int, tuple[int, ...], bytes] | None:
        if not self._is_between(upper[:2], upper[2:4]):
            return None
        return self._flow(upper[:2]), (ip_id,), upper[16:20]

    def answered(self, upper: bytes) -> tuple[int, bytes, str] | None:
        if len(upper) < 13 or not self._is_between(upper[2:4], upper[:2]):
            return None
        return (
            self._flow(upper[2:4]),
            upper[4:8],
            {2: "INIT-ACK", 6: "ABORT"}.get(upper[12], f"SCTP chunk {upper[12]}"),
        )


METHODS: dict[str, type[TraceProbes]] = {
    "icmp": ICMPProbes,
    "udp": UDPProbes,
    "tcp": TCPProbes,
    "sctp": SCTPProbes,
}
