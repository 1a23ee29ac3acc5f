"""IPv6 extension headers: options and routing (RFC 8200, RFC 6554, RFC 8754)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Annotated

from rawkit.wire.field import (
    IPV6_KIND,
    Options,
    Size,
    auto,
    field,
    header_length,
    ip6,
    octets,
    size_of,
    u4,
    u8,
    u16,
    u20,
    u32,
    upper_number,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import PROTOCOLS
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.option import Option
from rawkit.wire.record import Addresses

ip6s = Annotated[Sequence[IPv6Address | str], Addresses(IPV6_KIND)]


class IPv6Option(Option, family=True):
    """An option of the hop-by-hop and destination options headers (RFC 8200 section 4.2).

    The highest two bits of the type say what becomes of a packet whose option is not known, the third whether
    its data may change on the way. Lists are filled up with Pad1 or PadN.
    """

    singles = frozenset({0})
    uncounted = 2
    pad_to = 8
    pad_after = 2

    @classmethod
    def fill(cls, size: int) -> bytes:
        return b"\0" * size if size < 2 else bytes((1, size - 2)) + bytes(size - 2)


class Pad1(IPv6Option, kind=0):
    """One octet of padding."""


class PadN(IPv6Option, kind=1):
    """Two or more octets of padding."""

    data: octets = b""


class IPv6RouterAlert(IPv6Option, kind=5):
    """Asks routers to look at the packet (RFC 2711)."""

    value: u16 = field(0, names={0: "MLD", 1: "RSVP", 2: "active networks"})


class JumboPayload(IPv6Option, kind=0xC2):
    """The payload's length where it exceeds 65535 octets (RFC 2675)."""

    length: u32


class TunnelLimit(IPv6Option, kind=4):
    """How many more tunnels the packet may enter (RFC 2473 section 4.1.1)."""

    limit: u8 = 4


class HomeAddress(IPv6Option, kind=0xC9):
    """A mobile node's home address (RFC 6275 section 6.3)."""

    address: ip6 = field("::")


class UnknownIPv6Option(IPv6Option):
    """An option without a class of its own."""

    type: u8
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.type, self.data


IPv6Option.unknown = UnknownIPv6Option


class HopByHop(Header, over={IPv6: 0}, shares=IPv6):
    """Options for every router on the way (RFC 8200 section 4.3); `length` is in 8 octets, less one."""

    no_upper = 59

    next_header: u8 = auto(upper_number, names=PROTOCOLS)
    length: u8 = auto(header_length(8, 1))
    options: Options[IPv6Option] = ()

    def answers(self, request: Header) -> bool:
        return type(self) is type(request)

    def summary(self) -> str:
        return "HBH" if not self.options else f"HBH {_listed(self.options)}"


class DestinationOptions(Header, over={IPv6: 60}, shares=IPv6):
    """Options for the destination (RFC 8200 section 4.6), laid out as those for every router.

    A `HomeAddress` takes the place of the source before upper layers see the packet (RFC 6275 section 9.3.1),
    so their checksums cover it.
    """

    no_upper = 59
    reroutes = True

    next_header: u8 = auto(upper_number, names=PROTOCOLS)
    length: u8 = auto(header_length(8, 1))
    options: Options[IPv6Option] = ()

    def rerouted(self, outer: Header) -> Header:
        home = next((option for option in self.options if isinstance(option, HomeAddress)), None)
        return outer.replace(src=home.address) if home is not None and isinstance(outer, IPv6) else outer

    def answers(self, request: Header) -> bool:
        return type(self) is type(request)

    def summary(self) -> str:
        return "DSTOPT" if not self.options else f"DSTOPT {_listed(self.options)}"


def _listed(options: Sequence[Option]) -> str:
    return ",".join(option.summary() for option in options if not isinstance(option, (Pad1, PadN)))


class IPv6Routing(Header, over={IPv6: 43}, shares=IPv6):
    """What routing headers have in common (RFC 8200 section 4.4); each type has a class of its own."""

    discriminator = "type"
    no_upper = 59

    next_header: u8 = auto(upper_number, names=PROTOCOLS)
    length: u8 = 0
    type: u8 = field(0, names={0: "source route", 2: "home address", 3: "RPL", 4: "segment routing"})
    segments_left: u8 = 0

    def final_destination(self, destination: IPv6Address) -> IPv6Address:
        """Where a packet goes in the end that is now on its way to `destination`."""
        return destination

    def rerouted(self, outer: Header) -> Header:
        if not self.segments_left or not isinstance(outer, IPv6):
            return outer
        return outer.replace(dst=self.final_destination(outer.dst))

    def answers(self, request: Header) -> bool:
        return isinstance(request, IPv6Routing)

    def summary(self) -> str:
        return f"srcrt (type={self.type}, segleft={self.segments_left})"


class UnknownRouting(IPv6Routing, variant=tuple({*range(256)} - {0, 2, 3, 4})):
    """A routing header of a type without a class of its own."""

    length: u8 = auto(header_length(8, 1))
    type: u8 = 253  # for experiments (RFC 4727)
    data: octets = bytes(4)


class SourceRouting(IPv6Routing, variant=0):
    """Type 0: a list of addresses to visit, the last of which is the destination (RFC 2460, out of use)."""

    reroutes = True

    length: u8 = auto(header_length(8, 1))
    reserved: u32 = 0
    addresses: ip6s = ()

    def final_destination(self, destination: IPv6Address) -> IPv6Address:
        return IPv6Address(self.addresses[-1]) if self.addresses else destination


class HomeAddressRouting(SourceRouting, variant=2):
    """Type 2: the home address of a mobile node (RFC 6275 section 6.4)."""

    type: u8 = 2


class RPLRouting(IPv6Routing, variant=3):
    """Type 3: source route of low-power networks (RFC 6554 section 3).

    Addresses lack the first `compressed` octets, the last one `compressed_last`, which they have in common
    with the destination; see `addresses`. `pad` octets fill the header up.
    """

    reroutes = True

    length: u8 = auto(header_length(8, 1))
    type: u8 = 3
    compressed: u4 = 0
    compressed_last: u4 = 0
    pad: u4 = 0
    reserved: u20 = 0
    vector: octets = b""

    def addresses(self, destination: IPv6Address) -> tuple[IPv6Address, ...]:
        """The addresses whole, of a packet whose destination now is this one."""
        vector = self.vector[: len(self.vector) - self.pad]
        size, last = 16 - self.compressed, 16 - self.compressed_last
        if len(vector) < last:
            return ()
        parts = [vector[at : at + size] for at in range(0, len(vector) - last, size)]
        whole = [*parts, vector[-last:]]
        return tuple(IPv6Address(destination.packed[: 16 - len(part)] + part) for part in whole)

    def final_destination(self, destination: IPv6Address) -> IPv6Address:
        return (destination, *self.addresses(destination))[-1]


class SegmentTLV(Option, family=True):
    """Type, length of what follows, and value behind a segment list (RFC 8754 section 2.1)."""

    singles = frozenset({0})
    uncounted = 2
    pad_to = 8

    @classmethod
    def fill(cls, size: int) -> bytes:
        return b"\0" * size if size < 2 else bytes((4, size - 2)) + bytes(size - 2)


class SegmentPad1(SegmentTLV, kind=0):
    """One octet of padding."""


class SegmentPadN(SegmentTLV, kind=4):
    """Two or more octets of padding."""

    data: octets = b""


class SegmentHMAC(SegmentTLV, kind=5):
    """Authenticates the segment list (RFC 8754 section 2.1.2); `flags` has D as its highest bit."""

    flags: u16 = 0
    key_id: u32 = 0
    hmac: octets = bytes(32)


class UnknownSegmentTLV(SegmentTLV):
    """A TLV without a class of its own."""

    type: u8
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.type, self.data


SegmentTLV.unknown = UnknownSegmentTLV


class SegmentRouting(IPv6Routing, variant=4):
    """Type 4: segment routing header (RFC 8754 section 2); the first of `segments` is the last to visit."""

    reroutes = True

    length: u8 = auto(header_length(8, 1))
    type: u8 = 4
    last_entry: u8 = auto(size_of("segments", 16, 1))
    flags: u8 = 0
    tag: u16 = 0
    segments: ip6s = field(("::",), size=Size("last_entry", 16, 1))
    tlvs: Options[SegmentTLV] = ()

    def final_destination(self, destination: IPv6Address) -> IPv6Address:
        return IPv6Address(self.segments[0]) if self.segments else destination
