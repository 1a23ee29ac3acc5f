"""Internet Protocol version 4 (RFC 791)."""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import Struct
from typing import Any

from rawkit.wire.ethernet import Ether
from rawkit.wire.field import (
    AUTO,
    Options,
    auto,
    field,
    flags3,
    header_words,
    inet_checksum,
    ip4,
    octets,
    total_length,
    u2,
    u4,
    u6,
    u8,
    u13,
    u16,
    upper_number,
)
from rawkit.wire.header import Header
from rawkit.wire.option import Option
from rawkit.wire.record import ip4s, u32s

PROTOCOLS = {
    1: "ICMP", 2: "IGMP", 4: "IPv4", 6: "TCP", 17: "UDP", 33: "DCCP", 41: "IPv6", 47: "GRE", 50: "ESP",
    51: "AH", 58: "ICMPv6", 59: "no next header", 89: "OSPF", 132: "SCTP", 136: "UDP-Lite",
    253: "experimental", 254: "experimental",
}  # fmt: skip


_PSEUDO, _LONG_PSEUDO = Struct(">HH").pack, Struct(">HI").pack


class IPv4Option(Option, family=True):
    """An option of the IPv4 header (RFC 791 section 3.1): type, length, data."""

    singles = frozenset({0, 1})
    end = 0
    pad_to = 4


class IPNoOperation(IPv4Option, kind=1):
    """Aligns the option after it."""


class RouterAlert(IPv4Option, kind=148):
    """Asks routers to look at the packet (RFC 2113)."""

    value: u16 = 0


class RecordRoute(IPv4Option, kind=7):
    """Routers write their addresses here; `pointer` counts octets from the option's start, the first is 4."""

    pointer: u8 = 4
    route: ip4s = ()


class SourceRoute(IPv4Option):
    """Routers on the way to the destination; `pointer` says which is next."""

    pointer: u8 = 4
    route: ip4s = ()


class LooseSourceRoute(SourceRoute, kind=131):
    """A route that may pass other routers between those named."""


class StrictSourceRoute(SourceRoute, kind=137):
    """A route that goes from one router named straight to the next."""


class InternetTimestamp(IPv4Option, kind=68):
    """Routers write the time here, in ms since midnight UT; see `entries`.

    `pointer` counts octets from the option's start, the first entry is at 5; `overflow` counts routers that
    found no room. `flag` says what an entry is: a time (0), address and time (1), or address and time of
    routers that were named beforehand (3).
    """

    pointer: u8 = 5
    overflow: u4 = 0
    flag: u4 = field(0, names={0: "times", 1: "addresses and times", 3: "addresses named beforehand"})
    words: u32s = ()

    @property
    def entries(self) -> tuple[tuple[IPv4Address | None, int], ...]:
        """Address, None where entries have none, and time."""
        words = tuple(self.words)
        if self.flag == 0:
            return tuple((None, time) for time in words)
        return tuple((IPv4Address(address), time) for address, time in zip(words[::2], words[1::2]))


class Security(IPv4Option, kind=130):
    """Basic security option (RFC 1108 section 2): classification level and protection authorities."""

    level: u8 = field(
        0xAB, names={0x3D: "top secret", 0x5A: "secret", 0x96: "confidential", 0xAB: "unclassified"}
    )
    authorities: octets = b""


class ExtendedSecurity(IPv4Option, kind=133):
    """Extended security option (RFC 1108 section 3)."""

    format: u8 = 0
    info: octets = b""


class StreamID(IPv4Option, kind=136):
    """SATNET stream identifier (RFC 791 section 3.1; obsolete)."""

    value: u16 = 0


class UnknownIPv4Option(IPv4Option):
    """An option without a class of its own."""

    type: u8
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.type, self.data


IPv4Option.unknown = UnknownIPv4Option


class IPv4(Header, over={Ether: 0x0800}, linktype=228):
    """IPv4 header. A source left at `AUTO` is chosen when the packet is sent; unsent it is 0.0.0.0."""

    common = True
    is_network = True
    label = "IP"
    no_upper = 253  # for experimentation and testing (RFC 3692)
    opaque_when = "fragment_offset"  # only the first fragment starts with the upper header

    version: u4 = 4
    ihl: u4 = auto(header_words)
    dscp: u6 = 0
    ecn: u2 = 0
    total_length: u16 = auto(total_length)
    id: u16 = 0
    flags: flags3 = field(0, bits="MF DF EVIL")
    fragment_offset: u13 = 0
    ttl: u8 = 64
    protocol: u8 = auto(upper_number, names=PROTOCOLS)
    checksum: u16 = auto(inet_checksum, payload=False)
    src: ip4 = AUTO
    dst: ip4 = field("0.0.0.0")
    options: Options[IPv4Option] = ()

    @property
    def is_fragment(self) -> bool:
        return bool(self.flags & IPv4.MF or self.fragment_offset)

    def pseudo_header(self, protocol: int, length: int) -> bytes:
        """RFC 768, RFC 9293 section 3.1. The destination is the last one of a source route."""
        source: bytes = self._src  # type: ignore[attr-defined]
        if source is AUTO:
            source = bytes(4)
        target: bytes = self._dst  # type: ignore[attr-defined]
        if self._options:  # type: ignore[attr-defined]
            target = self._final_destination().packed
        # A length that no field can hold is left to whoever sums over it.
        return source + target + (_PSEUDO if length < 65536 else _LONG_PSEUDO)(protocol, length)

    def _final_destination(self) -> IPv4Address:
        for option in self.options:
            if isinstance(option, SourceRoute) and 4 <= option.pointer <= 4 * len(option.route):
                return IPv4Address(option.route[-1])
        return self.dst

    def answers(self, request: Header) -> bool:
        return isinstance(request, IPv4) and is_reply(self, request)

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, IPv4) and self.dst == original.dst and original.src in (AUTO, self.src)

    def summary(self) -> str:
        if not self.is_fragment:
            return ""
        return f"frag {self.id} offset {self.fragment_offset * 8}{'+' if self.flags & IPv4.MF else ''}"


IPv4.register(over={IPv4: 4})  # RFC 2003


def is_reply(reply: Any, request: Any) -> bool:
    """Whether the addresses of two IP headers are those of a question and its answer."""
    asked_one = not (request.dst.is_multicast or request.dst == BROADCAST)
    return (not asked_one or reply.src == request.dst) and request.src in (AUTO, reply.dst)


BROADCAST = IPv4Address("255.255.255.255")
