"""ICMP messages besides echo and errors: router discovery, timestamps, masks, traceroute, extended echo.

RFC 792, RFC 950, RFC 1256, RFC 1393, RFC 1788, RFC 2521.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from rawkit.wire.field import auto, field, ip4, octets, u8, u16, u32
from rawkit.wire.header import Header
from rawkit.wire.icmp import ICMP, TYPES, ICMPError
from rawkit.wire.record import Record, Records, count


class RouterAddress(Record):
    """A router's address, and how much it is preferred to others (signed; RFC 1256 section 3)."""

    address: ip4 = field("0.0.0.0")
    preference: u32 = 0


class ICMPRouterAdvertisement(ICMP, variant=9):
    """Addresses of a router (RFC 1256 section 3); `lifetime` in s, `entry_len` in 32-bit words."""

    type: u8 = field(9, names=TYPES)
    addresses_n: u8 = auto(count("addresses"))
    entry_len: u8 = 2
    lifetime: u16 = 1800
    addresses: Annotated[Sequence[RouterAddress], Records(RouterAddress)] = ()

    def answers(self, request: Header) -> bool:
        return isinstance(request, ICMPRouterSolicitation)


class ICMPRouterSolicitation(ICMP, variant=10):
    """Asks routers to advertise themselves (RFC 1256 section 3)."""

    type: u8 = field(10, names=TYPES)
    reserved: u32 = 0


class ICMPQuery(ICMP):
    """What questions and their answers share; the type of an answer is the question's plus one."""

    id: u16 = 0
    seq: u16 = 0

    def answers(self, request: Header) -> bool:
        return (
            type(request) is type(self)
            and self.type == request.type + 1
            and (self.id, self.seq) == (request.id, request.seq)
        )

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, ICMPQuery) and (self.id, self.seq) == (original.id, original.seq)

    def summary(self) -> str:
        return f"ICMP {self.type_text()}, id {self.id}, seq {self.seq}"


class ICMPTimestamp(ICMPQuery, variant=(13, 14)):
    """Times in ms since midnight UT: sent, received, sent back (RFC 792)."""

    REQUEST = 13
    REPLY = 14

    type: u8 = field(13, names=TYPES)
    originate: u32 = 0
    receive: u32 = 0
    transmit: u32 = 0


class ICMPInformation(ICMPQuery, variant=(15, 16)):
    """Asks for the network's number (RFC 792; obsolete)."""

    type: u8 = field(15, names=TYPES)


class ICMPAddressMask(ICMPQuery, variant=(17, 18)):
    """Asks for the network's address mask, and tells it (RFC 950 appendix I)."""

    REQUEST = 17
    REPLY = 18

    type: u8 = field(17, names=TYPES)
    mask: ip4 = field("0.0.0.0")


class ICMPTraceroute(ICMP, variant=30):
    """What became of a packet with the traceroute option (RFC 1393); speed in octets/s."""

    type: u8 = field(30, names=TYPES)
    id: u16 = 0
    unused: u16 = 0
    outbound_hops: u16 = 0
    return_hops: u16 = 0
    speed: u32 = 0
    mtu: u32 = 0


class ICMPDomainName(ICMPQuery, variant=(37, 38)):
    """Asks for a host's name (type 37); the answer (38) holds a lifetime in s and names (RFC 1788)."""

    type: u8 = field(37, names=TYPES)
    ttl: u32 | None = field(when=("type", 38))
    names: octets = b""


class ICMPSecurityFailure(ICMPError, variant=40):
    """The quoted packet's security parameters are at fault, at `pointer` (RFC 2521 section 2)."""

    type: u8 = field(40, names=TYPES)
    reserved: u16 = 0
    pointer: u16 = 0
