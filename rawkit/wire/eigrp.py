"""Enhanced Interior Gateway Routing Protocol (RFC 7868): a header and TLVs."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any

from rawkit.errors import FieldError
from rawkit.wire.field import (
    Octets,
    Options,
    Size,
    Variable,
    auto,
    field,
    flags32,
    inet_checksum,
    ip4,
    ip6,
    octets,
    size_of,
    u8,
    u16,
    u24,
    u32,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.option import Option
from rawkit.wire.record import Record, Records

OPCODES = {
    1: "update", 2: "request", 3: "query", 4: "reply", 5: "hello", 7: "probe", 10: "SIA query",
    11: "SIA reply",
}  # fmt: skip


class Prefixes(Variable):
    """Prefixes, each a length in bits and the octets that so many bits need.

    Octets from the first length on that no address has are kept, and not shown; so are bits after the prefix.
    """

    def __init__(self, make: Any, size: int) -> None:
        self.make = make
        self.size = size

    def decode(self, octets: bytes) -> tuple[Any, ...]:
        found = []
        at = 0
        while at < len(octets):
            bits = octets[at]
            after = at + 1 + (bits + 7) // 8
            if bits > self.size * 8 or after > len(octets):
                break
            address = octets[at + 1 : after].ljust(self.size, b"\0")
            found.append(self.make((address, bits), strict=False))
            at = after
        return tuple(found)

    def encode(self, value: Any, name: str) -> bytes:
        parts = []
        for item in value:
            try:
                network = self.make(item)
            except ValueError:
                raise FieldError(f"{name}: need prefixes such as 192.0.2.0/24, got {item!r}") from None
            bits = network.prefixlen
            parts.append(bytes([bits]) + network.network_address.packed[: (bits + 7) // 8])
        return b"".join(parts)


class EIGRPTLV(Option, family=True):
    """A TLV (section 6.6): type, length of all of it, value."""

    kind_len = length_at = length_len = 2


class EIGRPParameters(EIGRPTLV, kind=0x0001):
    """Weights of the metric, and the hold time in seconds (section 6.6.1)."""

    k1: u8 = 1
    k2: u8 = 0
    k3: u8 = 1
    k4: u8 = 0
    k5: u8 = 0
    k6: u8 = 0
    hold: u16 = 15


class EIGRPAuthentication(EIGRPTLV, kind=0x0002):
    """Authenticates the packet (section 6.6.2): MD5 (type 2) or SHA-256 (type 3)."""

    type: u16 = field(2, names={2: "MD5", 3: "SHA-256"})
    length: u16 = auto(size_of("digest"))
    key_id: u32 = 0
    seq: u32 = 0
    padding: Annotated[bytes, Octets(8)] = bytes(8)
    digest: octets = field(b"", size=Size("length"))


class PeerAddress(Record):
    """An address behind its length."""

    length: u8 = auto(size_of("address"))
    address: octets = field(b"", size=Size("length"))


class EIGRPSequence(EIGRPTLV, kind=0x0003):
    """Peers that are not to take the next multicast (section 6.6.3)."""

    peers: Annotated[Sequence[PeerAddress], Records(PeerAddress)] = ()


class EIGRPVersion(EIGRPTLV, kind=0x0004):
    """Versions of the sender's software and of its EIGRP (section 6.6.4)."""

    major: u8 = 0
    minor: u8 = 0
    eigrp_major: u8 = 2
    eigrp_minor: u8 = 0


class EIGRPNextMulticast(EIGRPTLV, kind=0x0005):
    """The sequence number of the multicast that `EIGRPSequence` is about (section 6.6.5)."""

    seq: u32 = 0


class EIGRPInternal(EIGRPTLV, kind=0x0102):
    """An IPv4 route from within (section 6.8.2): scaled delay and bandwidth, and destinations."""

    next_hop: ip4 = field("0.0.0.0")
    delay: u32 = 0
    bandwidth: u32 = 0
    mtu: u24 = 1500
    hops: u8 = 0
    reliability: u8 = 255
    load: u8 = 1
    tag: u8 = 0
    flags: u8 = 0
    destinations: Annotated[Sequence[IPv4Network | str], Prefixes(IPv4Network, 4)] = ()


class EIGRPExternal(EIGRPTLV, kind=0x0103):
    """An IPv4 route from another protocol (section 6.8.3)."""

    next_hop: ip4 = field("0.0.0.0")
    router: ip4 = field("0.0.0.0")
    asn: u32 = 0
    tag: u32 = 0
    metric: u32 = 0
    reserved: u16 = 0
    protocol: u8 = 0
    external_flags: u8 = 0
    delay: u32 = 0
    bandwidth: u32 = 0
    mtu: u24 = 1500
    hops: u8 = 0
    reliability: u8 = 255
    load: u8 = 1
    internal_tag: u8 = 0
    flags: u8 = 0
    destinations: Annotated[Sequence[IPv4Network | str], Prefixes(IPv4Network, 4)] = ()


class EIGRPInternal6(EIGRPTLV, kind=0x0402):
    """An IPv6 route from within (section 6.8.4)."""

    next_hop: ip6 = field("::")
    delay: u32 = 0
    bandwidth: u32 = 0
    mtu: u24 = 1500
    hops: u8 = 0
    reliability: u8 = 255
    load: u8 = 1
    tag: u8 = 0
    flags: u8 = 0
    destinations: Annotated[Sequence[IPv6Network | str], Prefixes(IPv6Network, 16)] = ()


class EIGRPExternal6(EIGRPTLV, kind=0x0403):
    """An IPv6 route from another protocol (section 6.8.5)."""

    next_hop: ip6 = field("::")
    router: ip4 = field("0.0.0.0")
    asn: u32 = 0
    tag: u32 = 0
    metric: u32 = 0
    reserved: u16 = 0
    protocol: u8 = 0
    external_flags: u8 = 0
    delay: u32 = 0
    bandwidth: u32 = 0
    mtu: u24 = 1500
    hops: u8 = 0
    reliability: u8 = 255
    load: u8 = 1
    internal_tag: u8 = 0
    flags: u8 = 0
    destinations: Annotated[Sequence[IPv6Network | str], Prefixes(IPv6Network, 16)] = ()


class UnknownEIGRPTLV(EIGRPTLV):
    """A TLV without a class of its own."""

    number: u16
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.number, self.data


EIGRPTLV.unknown = UnknownEIGRPTLV


class EIGRP(Header, over={IPv4: 88, IPv6: 88}):
    """EIGRP header (section 6.5); the TLVs fill the packet."""

    version: u8 = 2
    opcode: u8 = field(5, names=OPCODES)
    checksum: u16 = auto(inet_checksum)
    flags: flags32 = field(0, bits="INIT CR RS EOT")
    seq: u32 = 0
    ack: u32 = 0
    virtual_router: u16 = 0
    asn: u16 = 1
    tlvs: Options[EIGRPTLV] = ()

    def answers(self, request: Header) -> bool:
        """A reliable packet is answered by one that acknowledges it, a query by a reply (section 5.3)."""
        return (
            isinstance(request, EIGRP)
            and (self.virtual_router, self.asn) == (request.virtual_router, request.asn)
            and request.seq != 0
            and self.ack == request.seq
        )

    def summary(self) -> str:
        words = f"EIGRP, {OPCODES.get(self.opcode, f'opcode {self.opcode}')}, AS {self.asn}"
        return words + (f", seq {self.seq}" if self.seq else "") + (f", ack {self.ack}" if self.ack else "")
