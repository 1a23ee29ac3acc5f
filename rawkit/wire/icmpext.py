"""Extension structures of ICMP messages (RFC 4884, RFC 4950, RFC 5837) and extended echo (RFC 8335).

In an error message the structure follows the quoted packet, behind as many octets as the error's `length`
tells: `extension_of` finds it, `extended` makes such a message. In an extended echo it follows the header.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from rawkit.errors import HeaderError
from rawkit.wire import checksum as _checksum
from rawkit.wire.field import (
    Rule,
    Size,
    auto,
    field,
    header_length,
    inet_checksum,
    ip4,
    ip6,
    octets,
    present,
    size_of,
    u1,
    u2,
    u3,
    u4,
    u7,
    u8,
    u12,
    u16,
    u20,
    u32,
)
from rawkit.wire.header import Header
from rawkit.wire.icmp import ICMP
from rawkit.wire.icmp import TYPES as TYPES4
from rawkit.wire.icmpv6 import TYPES as TYPES6
from rawkit.wire.icmpv6 import ICMPv6, ICMPv6Error
from rawkit.wire.packet import Packet
from rawkit.wire.record import Record, Records

_QUOTED_MIN = 128
"""Octets of the quoted packet in front of an extension structure at least (RFC 4884 section 5.1)."""


class ExtensionObject(Record):
    """What all objects start with (RFC 4884 section 8); `length` counts all octets of the object."""

    length: u16 = 0
    class_num: u8 = 0


class LabelEntry(Record):
    """One entry of a label stack (RFC 3032 section 2.1)."""

    label_value: u20 = 0
    traffic_class: u3 = 0
    bottom: u1 = 0
    ttl: u8 = 0


class UnknownObject(ExtensionObject):
    """An object of a class without a class here."""

    length: u16 = auto(header_length(1))
    class_num: u8 = 255
    ctype: u8 = 0
    data: octets = b""


class MPLSStack(ExtensionObject):
    """The label stack with which the packet arrived (RFC 4950 section 4)."""

    length: u16 = auto(header_length(1))
    class_num: u8 = 1
    ctype: u8 = 1
    labels: Annotated[Sequence[LabelEntry], Records(LabelEntry)] = ()


class InterfaceInformation(ExtensionObject):
    """An interface the packet touched (RFC 5837 section 4); what is not given is left out.

    `name` is filled up with zeros to a multiple of 4 octets together with the octet before it.
    """

    length: u16 = auto(header_length(1))
    class_num: u8 = 2
    role: u2 = field(
        0,
        names={0: "incoming IP interface", 1: "sub-IP component", 2: "outgoing IP interface", 3: "next hop"},
    )
    reserved: u2 = 0
    has_ifindex: u1 = auto(present("ifindex"))
    has_address: u1 = auto(present("address4", "address6"))
    has_name: u1 = auto(present("name"))
    has_mtu: u1 = auto(present("mtu"))
    ifindex: u32 | None = field(when="has_ifindex")
    afi: u16 | None = auto(Rule("1 if t_address4 is not None else 2"), when="has_address")
    reserved2: u16 | None = field(when="has_address")
    address4: ip4 | None = field(when=("afi", 1))
    address6: ip6 | None = field(when=("afi", 2))
    name_len: u8 | None = auto(size_of("name", 1, -1), when="has_name")
    name: octets | None = field(when="has_name", size=Size("name_len", 1, -1))
    mtu: u32 | None = field(when="has_mtu")
    rest: octets = b""


class InterfaceIdentification(ExtensionObject):
    """The interface asked about (RFC 8335 section 2.1): by name (`ctype` 1), index (2) or address (3).

    `name` is filled up with zeros to a multiple of 4 octets.
    """

    length: u16 = auto(header_length(1))
    class_num: u8 = 3
    ctype: u8 = field(1, names={1: "name", 2: "index", 3: "address"})
    ifindex: u32 | None = field(when=("ctype", 2))
    afi: u16 | None = field(when=("ctype", 3))
    address_len: u8 | None = auto(size_of("address"), when=("ctype", 3))
    reserved: u8 | None = field(when=("ctype", 3))
    address: octets | None = field(when=("ctype", 3), size=Size("address_len"))
    name: octets = b""


OBJECTS = Records(UnknownObject, 2, {1: MPLSStack, 2: InterfaceInformation, 3: InterfaceIdentification})


class ICMPExtension(Header):
    """An extension structure (RFC 4884 section 7): a header with a checksum of its own, and objects."""

    version: u4 = 2
    reserved: u12 = 0
    checksum: u16 = auto(inet_checksum)
    objects: Annotated[Sequence[ExtensionObject], OBJECTS] = ()

    def summary(self) -> str:
        return f"extension v{self.version}, {len(self.objects)} object(s)"


def extension_of(packet: Packet) -> ICMPExtension | None:
    """The extension structure of the first ICMP error in a packet that has one (RFC 4884 section 5).

    Routers from before that RFC give no length and put it behind 128 octets of quoted packet: over IPv4 it is
    taken for one when its version and checksum are right (section 5.5).
    """
    octets, at = bytes(packet), 0
    for header, size in zip(packet.layers, map(len, packet._headers())):
        at += size
        if header.quotes:
            quoted_len = getattr(header, "length", 0) * _unit(header)
            start, end = at + (quoted_len or _QUOTED_MIN), len(octets) - len(packet.trailer)
            if start >= end or (not quoted_len and not _is_extension(header, octets[start:end])):
                return None
            try:
                return ICMPExtension.parse(octets, start, end)
            except HeaderError:
                return None
        if isinstance(header, (ICMP, ICMPv6)):
            return packet.get(ICMPExtension)
    return None


def extended(error: Header, quoted: Packet | bytes, objects: Sequence[ExtensionObject]) -> Packet:
    """An ICMP error with `objects` behind the quoted packet, which takes 128 octets or more (section 5.1)."""
    unit, octets = _unit(error), bytes(quoted)
    padded = octets.ljust(max(_QUOTED_MIN, -(-len(octets) // unit) * unit), b"\0")
    return error.replace(length=len(padded) // unit) / (padded + bytes(ICMPExtension(objects=objects)))


def _is_extension(error: Header, octets: bytes) -> bool:
    """Whether this, in an error that gives no length, looks like an extension structure with an object."""
    return (
        isinstance(error, ICMP)
        and len(octets) >= 8
        and octets[0] >> 4 == 2
        and not _checksum.checksum(octets)
    )


def _unit(error: Header) -> int:
    """Octets that the `length` of an error counts (RFC 4884 sections 4.1 to 4.5)."""
    return 8 if isinstance(error, ICMPv6Error) else 4


class ICMPExtendedEcho(ICMP, variant=42):
    """Asks for the state of an interface of this node (`local`) or of a neighbour (RFC 8335 section 2)."""

    followed_by = ICMPExtension

    type: u8 = field(42, names=TYPES4)
    id: u16 = 0
    seq: u8 = 0
    reserved: u7 = 0
    local: u1 = 1


class ICMPExtendedEchoReply(ICMP, variant=43):
    """The state of an interface (RFC 8335 section 3): whether it is active, and runs IPv4 and IPv6."""

    type: u8 = field(43, names=TYPES4)
    id: u16 = 0
    seq: u8 = 0
    state: u3 = 0
    reserved: u2 = 0
    active: u1 = 0
    ipv4: u1 = 0
    ipv6: u1 = 0

    def answers(self, request: Header) -> bool:
        return isinstance(request, ICMPExtendedEcho) and (self.id, self.seq) == (request.id, request.seq)


class ICMPv6ExtendedEcho(ICMPv6, variant=160):
    """Asks for the state of an interface of this node (`local`) or of a neighbour (RFC 8335 section 2)."""

    followed_by = ICMPExtension

    type: u8 = field(160, names=TYPES6)
    id: u16 = 0
    seq: u8 = 0
    reserved: u7 = 0
    local: u1 = 1


class ICMPv6ExtendedEchoReply(ICMPv6, variant=161):
    """The state of an interface (RFC 8335 section 3): whether it is active, and runs IPv4 and IPv6."""

    type: u8 = field(161, names=TYPES6)
    id: u16 = 0
    seq: u8 = 0
    state: u3 = 0
    reserved: u2 = 0
    active: u1 = 0
    ipv4: u1 = 0
    ipv6: u1 = 0

    def answers(self, request: Header) -> bool:
        return isinstance(request, ICMPv6ExtendedEcho) and (self.id, self.seq) == (request.id, request.seq)
