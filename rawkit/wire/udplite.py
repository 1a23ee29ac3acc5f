"""UDP-Lite: datagrams whose checksum covers as much as the sender says (RFC 3828)."""

from __future__ import annotations

from rawkit.wire.field import Coverage, auto, inet_checksum, u16
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6


class UDPLite(Header, over={IPv4: 136, IPv6: 136}):
    """UDP-Lite header. `coverage` counts octets from its start: 0 for all of the datagram, else at least 8.

    The length is that of the IP payload; the pseudo-header has that one, whatever is covered (section 3.1).
    Ports mean what they mean to UDP, but nothing is looked for behind them.
    """

    sport: u16 = 0
    dport: u16 = 0
    coverage: u16 = 0
    checksum: u16 = auto(inet_checksum, pseudo_header=True, zero=0xFFFF, coverage=Coverage("coverage"))

    def answers(self, request: Header) -> bool:
        return isinstance(request, UDPLite) and (self.sport, self.dport) == (request.dport, request.sport)

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, UDPLite) and (self.sport, self.dport) == (original.sport, original.dport)

    def summary(self) -> str:
        return f"UDP-Lite, coverage {self.coverage or 'all'}"
