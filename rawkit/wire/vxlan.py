"""Virtual eXtensible Local Area Network (RFC 7348): Ethernet frames in UDP."""

from __future__ import annotations

from rawkit.wire.ethernet import Ether
from rawkit.wire.field import field, flags8, u8, u24
from rawkit.wire.header import Header
from rawkit.wire.udp import UDP


class VXLAN(Header, over={UDP: 4789}):
    """VXLAN header: the network identifier, valid with the flag I; an Ethernet frame follows (section 5).

    Senders choose the UDP source port themselves, from the inner frame; the destination port is announced.
    """

    followed_by = Ether

    flags: flags8 = field(8, bits="R1 R2 R3 I R4 R5 R6 R7")
    reserved: u24 = 0
    vni: u24 = 0
    reserved2: u8 = 0

    def answers(self, request: Header) -> bool:
        return isinstance(request, VXLAN) and self.vni == request.vni

    def summary(self) -> str:
        return f"VXLAN vni {self.vni}"
