"""ICMP version 6 (RFC 4443): echo and errors; neighbour discovery (RFC 4861)."""

from __future__ import annotations

from rawkit.wire.field import (
    Options,
    auto,
    field,
    flags3,
    flags8,
    inet_checksum,
    ip6,
    mac,
    octets,
    u8,
    u16,
    u29,
    u32,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.option import Option

TYPES = {
    1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request",
    129: "echo reply", 130: "multicast listener query", 131: "multicast listener report",
    132: "multicast listener done", 133: "router solicitation", 134: "router advertisement",
    135: "neighbour solicitation", 136: "neighbour advertisement", 137: "redirect",
    143: "multicast listener report v2", 160: "extended echo request", 161: "extended echo reply",
}  # fmt: skip

UNREACHABLE_CODES = {
    0: "no route", 1: "communication prohibited", 2: "beyond scope", 3: "address unreachable",
    4: "port unreachable", 5: "source address failed policy", 6: "route rejected",
}  # fmt: skip


class ICMPv6(Header, over={IPv6: 58}):
    """The part common to all ICMPv6 messages; types with a class of their own are parsed as that class."""

    discriminator = "type"

    type: u8 = field(128, names=TYPES)
    code: u8 = 0
    checksum: u16 = auto(inet_checksum, pseudo_header=True)

    def type_text(self) -> str:
        """The type (and for errors the code) in words."""
        if self.type == 1 and self.code in UNREACHABLE_CODES:
            return UNREACHABLE_CODES[self.code]
        return TYPES.get(self.type, f"type {self.type}") + (f" code {self.code}" if self.code else "")

    def summary(self) -> str:
        return f"ICMP6, {self.type_text()}"


class ICMPv6Echo(ICMPv6, variant=(128, 129)):
    """Echo request (type 128) or reply (type 129)."""

    REQUEST = 128
    REPLY = 129

    id: u16 = 0
    seq: u16 = 0

    def answers(self, request: Header) -> bool:
        return (
            isinstance(request, ICMPv6Echo)
            and (request.type, self.type) == (128, 129)
            and (self.id, self.seq) == (request.id, request.seq)
        )

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, ICMPv6Echo) and (self.id, self.seq) == (original.id, original.seq)

    def summary(self) -> str:
        return f"ICMP6, {self.type_text()}, id {self.id}, seq {self.seq}"


class ICMPv6Error(ICMPv6):
    """What the errors share: as much of the packet that caused the message as fits follows."""

    quotes = True
    followed_by = IPv6


class ICMPv6Unreachable(ICMPv6Error, variant=1):
    """Destination unreachable (RFC 4443 section 3.1); `length` is RFC 4884's."""

    type: u8 = field(1, names=TYPES)
    length: u8 = 0
    unused: u8 = 0
    unused2: u16 = 0


class ICMPv6PacketTooBig(ICMPv6Error, variant=2):
    """The packet exceeds the MTU of the next link (section 3.2)."""

    type: u8 = field(2, names=TYPES)
    mtu: u32 = 0

    def summary(self) -> str:
        return f"ICMP6, {self.type_text()}, mtu {self.mtu}"


class ICMPv6TimeExceeded(ICMPv6Error, variant=3):
    """The hop limit ran out (code 0), or fragments were missing for too long (code 1; section 3.3)."""

    type: u8 = field(3, names=TYPES)
    length: u8 = 0
    unused: u8 = 0
    unused2: u16 = 0


class ICMPv6ParameterProblem(ICMPv6Error, variant=4):
    """The octet at `pointer` of the quoted packet is at fault (section 3.4)."""

    type: u8 = field(4, names=TYPES)
    pointer: u32 = 0


class NDOption(Option, family=True):
    """A neighbour discovery option (RFC 4861 section 4.6): type, length in units of 8 octets, data."""

    length_unit = 8


class SourceLinkAddress(NDOption, kind=1):
    """The sender's link-layer address."""

    address: mac = field("00:00:00:00:00:00")


class TargetLinkAddress(NDOption, kind=2):
    """The target's link-layer address."""

    address: mac = field("00:00:00:00:00:00")


class PrefixInformation(NDOption, kind=3):
    """A prefix that is on the link (flag L), or may form addresses (flag A); lifetimes in seconds."""

    prefix_len: u8 = 64
    flags: flags8 = field(0xC0, bits="R1 R2 R3 R4 R5 ROUTER A L")
    valid_lifetime: u32 = 0
    preferred_lifetime: u32 = 0
    reserved: u32 = 0
    prefix: ip6 = field("::")


class LinkMTU(NDOption, kind=5):
    """The MTU for the link."""

    reserved: u16 = 0
    mtu: u32 = 1500


class UnknownNDOption(NDOption):
    """An option without a class of its own."""

    number: u8
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.number, self.data


NDOption.unknown = UnknownNDOption


class RouterSolicitation(ICMPv6, variant=133):
    """Asks routers to advertise themselves at once (RFC 4861 section 4.1)."""

    type: u8 = field(133, names=TYPES)
    reserved: u32 = 0
    options: Options[NDOption] = ()


class RouterAdvertisement(ICMPv6, variant=134):
    """A router's presence and parameters (RFC 4861 section 4.2); lifetime in s, times in ms."""

    type: u8 = field(134, names=TYPES)
    hop_limit: u8 = 64
    flags: flags8 = field(0, bits="R1 R2 PROXY PRF0 PRF1 HOME OTHER MANAGED")
    lifetime: u16 = 0
    reachable_time: u32 = 0
    retrans_timer: u32 = 0
    options: Options[NDOption] = ()


class NeighbourSolicitation(ICMPv6, variant=135):
    """Asks for the link-layer address of `target` (RFC 4861 section 4.3)."""

    type: u8 = field(135, names=TYPES)
    reserved: u32 = 0
    target: ip6 = field("::")
    options: Options[NDOption] = ()

    def summary(self) -> str:
        return f"ICMP6, {self.type_text()}, who has {self.target}"


class NeighbourAdvertisement(ICMPv6, variant=136):
    """Tells the link-layer address of `target` (RFC 4861 section 4.4)."""

    type: u8 = field(136, names=TYPES)
    flags: flags3 = field(0, bits="OVERRIDE SOLICITED ROUTER")
    reserved: u29 = 0
    target: ip6 = field("::")
    options: Options[NDOption] = ()

    def answers(self, request: Header) -> bool:
        return isinstance(request, NeighbourSolicitation) and self.target == request.target

    def summary(self) -> str:
        return f"ICMP6, {self.type_text()}, tgt is {self.target}"


class Redirect(ICMPv6, variant=137):
    """A better first hop, `target`, for `destination` (RFC 4861 section 4.5)."""

    type: u8 = field(137, names=TYPES)
    reserved: u32 = 0
    target: ip6 = field("::")
    destination: ip6 = field("::")
    options: Options[NDOption] = ()
