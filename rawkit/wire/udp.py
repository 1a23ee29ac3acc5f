"""User Datagram Protocol (RFC 768)."""

from __future__ import annotations

from rawkit.wire import role
from rawkit.wire.field import auto, field, inet_checksum, total_length, u16
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6


class UDP(Header, over={IPv4: 17, IPv6: 17}):
    """UDP header. A checksum that comes out as 0 is sent as 0xFFFF; 0 means "none" (RFC 768)."""

    common = True
    selected_by = ("dport", "sport")

    sport: u16 = field(0, role=role.src_port)
    dport: u16 = field(0, role=role.dst_port)
    length: u16 = auto(total_length)
    checksum: u16 = auto(inet_checksum, pseudo_header=True, zero=0xFFFF)

    def answers(self, request: Header) -> bool:
        return isinstance(request, UDP) and (self.sport, self.dport) == (request.dport, request.sport)

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, UDP) and (self.sport, self.dport) == (original.sport, original.dport)

    def summary(self) -> str:
        return "UDP"
