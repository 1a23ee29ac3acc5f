"""Internet Control Message Protocol (RFC 792): echo, errors, redirect."""

from __future__ import annotations

from rawkit.wire.field import auto, field, inet_checksum, ip4, u8, u16, u32
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6

TYPES = {
    0: "echo reply", 3: "unreachable", 4: "source quench", 5: "redirect", 8: "echo request",
    9: "router advertisement", 10: "router solicitation", 11: "time exceeded", 12: "parameter problem",
    13: "timestamp request", 14: "timestamp reply", 15: "information request", 16: "information reply",
    17: "address mask request", 18: "address mask reply", 30: "traceroute", 37: "domain name request",
    38: "domain name reply", 40: "security failure", 42: "extended echo request", 43: "extended echo reply",
}  # fmt: skip

UNREACHABLE_CODES = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
    4: "fragmentation needed", 5: "source route failed", 6: "network unknown", 7: "host unknown",
    8: "source isolated", 9: "network prohibited", 10: "host prohibited", 11: "network unreachable for TOS",
    12: "host unreachable for TOS", 13: "communication prohibited", 14: "host precedence violation",
    15: "precedence cutoff",
}  # fmt: skip


class ICMP(Header, over={IPv4: 1}):
    """The part common to all ICMP messages; types with a class of their own are parsed as that class."""

    discriminator = "type"

    type: u8 = field(0, names=TYPES)
    code: u8 = 0
    checksum: u16 = auto(inet_checksum)

    def type_text(self) -> str:
        """The type (and for errors the code) in words."""
        if self.type == 3 and self.code in UNREACHABLE_CODES:
            return UNREACHABLE_CODES[self.code]
        return TYPES.get(self.type, f"type {self.type}") + (f" code {self.code}" if self.code else "")

    def summary(self) -> str:
        return f"ICMP {self.type_text()}"


ICMP.register(over={IPv6: 1})  # what AH over IPv4 shares its numbers with


class ICMPEcho(ICMP, variant=(8, 0)):
    """Echo request (type 8) or reply (type 0)."""

    REQUEST = 8
    REPLY = 0

    type: u8 = field(8, names=TYPES)
    id: u16 = 0
    seq: u16 = 0

    def answers(self, request: Header) -> bool:
        return (
            isinstance(request, ICMPEcho)
            and (request.type, self.type) == (8, 0)
            and (self.id, self.seq) == (request.id, request.seq)
        )

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, ICMPEcho) and (self.id, self.seq) == (original.id, original.seq)

    def summary(self) -> str:
        return f"ICMP {self.type_text()}, id {self.id}, seq {self.seq}"


class ICMPError(ICMP):
    """What the errors share: the beginning of the packet that caused the message follows."""

    quotes = True
    followed_by = IPv4


class ICMPUnreachable(ICMPError, variant=3):
    """Destination unreachable; `mtu` is the next hop's with code 4 (RFC 1191 section 4).

    `length`, if not 0, is that of the quoted packet in 32-bit words; extensions follow it (RFC 4884).
    """

    type: u8 = field(3, names=TYPES)
    unused: u8 = 0
    length: u8 = 0
    mtu: u16 = 0


class ICMPTimeExceeded(ICMPError, variant=11):
    """The TTL ran out on the way (code 0), or fragments were missing for too long (code 1)."""

    type: u8 = field(11, names=TYPES)
    unused: u8 = 0
    length: u8 = 0
    unused2: u16 = 0


class ICMPRedirect(ICMPError, variant=5):
    """A better first hop for the quoted packet's destination."""

    type: u8 = field(5, names=TYPES)
    gateway: ip4 = field("0.0.0.0")

    def summary(self) -> str:
        return f"ICMP redirect to {self.gateway}"


class ICMPParameterProblem(ICMPError, variant=12):
    """The octet at `pointer` of the quoted packet is at fault; `length` is RFC 4884's."""

    type: u8 = field(12, names=TYPES)
    pointer: u8 = 0
    length: u8 = 0
    unused: u16 = 0


class ICMPSourceQuench(ICMPError, variant=4):
    """Deprecated by RFC 6633."""

    type: u8 = field(4, names=TYPES)
    unused: u32 = 0
