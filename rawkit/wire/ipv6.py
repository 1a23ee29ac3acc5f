"""Internet Protocol version 6 (RFC 8200): the fixed header and the fragment header."""

from __future__ import annotations

from rawkit.wire.ethernet import Ether
from rawkit.wire.field import (
    AUTO,
    auto,
    field,
    ip6,
    payload_length,
    u1,
    u2,
    u4,
    u8,
    u13,
    u16,
    u20,
    u32,
    upper_number,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import PROTOCOLS, IPv4, is_reply


class IPv6(Header, over={Ether: 0x86DD, IPv4: 41}, linktype=229):
    """IPv6 header. A source address left at `AUTO` is chosen when the packet is sent; unsent it is "::"."""

    common = True
    is_network = True
    label = "IP6"
    no_upper = 59  # no next header (section 4.7)

    version: u4 = 6
    traffic_class: u8 = 0
    flow_label: u20 = 0
    payload_length: u16 = auto(payload_length)
    next_header: u8 = auto(upper_number, names=PROTOCOLS)
    hop_limit: u8 = 64
    src: ip6 = AUTO
    dst: ip6 = field("::")

    def pseudo_header(self, protocol: int, length: int) -> bytes:
        """RFC 8200 section 8.1."""
        source: bytes = self._src  # type: ignore[attr-defined]
        if source is AUTO:
            source = bytes(16)
        target: bytes = self._dst  # type: ignore[attr-defined]
        return source + target + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")

    def answers(self, request: Header) -> bool:
        return isinstance(request, IPv6) and is_reply(self, request)

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, IPv6) and self.dst == original.dst and original.src in (AUTO, self.src)

    def summary(self) -> str:
        return ""


IPv6.register(over={IPv6: 41})  # RFC 2473
IPv4.register(over={IPv6: 4})


class AnyIP(Header):
    """Stands for the IP header that the first four bits tell, where nothing else announces it."""

    discriminator = "version_ihl"
    is_choice = True

    version_ihl: u8 = 0


for octet in range(0x40, 0x50):
    AnyIP.variants.add(octet, IPv4, "AnyIP")
    AnyIP.variants.add(octet + 0x20, IPv6, "AnyIP")


class IPv6Fragment(Header, over={IPv6: 44}, shares=IPv6):
    """Fragment header (RFC 8200 section 4.5); the offset counts units of 8 octets."""

    no_upper = 59
    opaque_when = "fragment_offset"  # only the first fragment starts with the upper header

    protocol: u8 = auto(upper_number, names=PROTOCOLS)
    reserved: u8 = 0
    fragment_offset: u13 = 0
    reserved2: u2 = 0
    more: u1 = 0
    id: u32 = 0

    @property
    def is_fragment(self) -> bool:
        return bool(self.more or self.fragment_offset)

    def answers(self, request: Header) -> bool:
        return isinstance(request, IPv6Fragment)

    def summary(self) -> str:
        return f"frag {self.id} offset {self.fragment_offset * 8}{'+' if self.more else ''}"
