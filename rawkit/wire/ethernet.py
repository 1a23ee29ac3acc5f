"""Ethernet II frames (IEEE 802.3 clause 3.2.6) and VLAN tags (IEEE 802.1Q)."""

from __future__ import annotations

from rawkit.wire.field import auto, ether_type, field, mac, u1, u3, u12, u16
from rawkit.wire.header import Header

ETHERTYPES = {
    0x0800: "IPv4",
    0x0806: "ARP",
    0x8100: "802.1Q",
    0x86DD: "IPv6",
    0x88A8: "802.1ad",
    0x88B5: "experimental",
}


class Ether(Header, linktype=1):
    """Ethernet II header, or that of IEEE 802.3 where `ethertype` is below 1536: the length of what follows.

    Addresses default to broadcast and to zero.
    """

    common = True
    lengths_below = 1536
    no_upper = 0x88B5  # local experimental EtherType (IEEE 802 clause 9.2.4)

    dst: mac = field("ff:ff:ff:ff:ff:ff")
    src: mac = field("00:00:00:00:00:00")
    ethertype: u16 = auto(ether_type, names=ETHERTYPES)

    def summary(self) -> str:
        return ""


Ether.register(over={Ether: 0x6558})  # transparent Ethernet bridging (RFC 1701), in GRE


class Dot1Q(Header, over={Ether: 0x8100}, shares=Ether):
    """VLAN tag: priority, drop eligible indicator, VLAN identifier, and the EtherType of what follows."""

    no_upper = 0x88B5
    lengths_below = 1536

    pcp: u3 = 0
    dei: u1 = 0
    vid: u12 = 1
    ethertype: u16 = auto(ether_type, names=ETHERTYPES)

    def summary(self) -> str:
        return f"vlan {self.vid}"


class Dot1AD(Dot1Q, over={Ether: 0x88A8}, shares=Ether):
    """Service VLAN tag (IEEE 802.1ad): the same layout under an EtherType of its own."""
