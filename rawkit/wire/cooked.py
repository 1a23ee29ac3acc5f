"""Link headers of captures without one: Linux cooked captures, BSD loopback (tcpdump.org/linktypes.html)."""

from __future__ import annotations

import sys

from rawkit.wire.ethernet import ETHERTYPES, Ether
from rawkit.wire.field import auto, field, octets8, u8, u16, u32, upper_number
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6

PACKET_TYPES = {0: "to us", 1: "broadcast", 2: "multicast", 3: "to another", 4: "sent by us"}


class LinuxCooked(Header, shares=Ether, linktype=113):
    """What a packet socket tells of a frame (LINKTYPE_LINUX_SLL), as `tcpdump -i any` writes it.

    `address` is the sender's, of `address_len` octets; the others are padding.
    """

    no_upper = 0x88B5

    packet_type: u16 = field(0, names=PACKET_TYPES)
    hardware: u16 = 1
    address_len: u16 = 6
    address: octets8 = bytes(8)
    protocol: u16 = auto(upper_number, names=ETHERTYPES)

    def summary(self) -> str:
        return PACKET_TYPES.get(self.packet_type, "")


class LinuxCooked2(Header, shares=Ether, linktype=276):
    """The second version (LINKTYPE_LINUX_SLL2), which tells the interface too."""

    no_upper = 0x88B5

    protocol: u16 = auto(upper_number, names=ETHERTYPES)
    reserved: u16 = 0
    ifindex: u32 = 0
    hardware: u16 = 1
    packet_type: u8 = field(0, names=PACKET_TYPES)
    address_len: u8 = 6
    address: octets8 = bytes(8)

    def summary(self) -> str:
        return f"if {self.ifindex} {PACKET_TYPES.get(self.packet_type, '')}"


class NullLoopback(Header, linktype=0):
    """BSD loopback (LINKTYPE_NULL): the address family in the byte order of the host that captured.

    `family` is the number as it reads with the most significant octet first; both orders are understood, and
    this host's is written.
    """

    family: u32 = auto(upper_number)

    def summary(self) -> str:
        return ""


class Loopback(Header, linktype=108):
    """OpenBSD loopback (LINKTYPE_LOOP): the address family, most significant octet first."""

    family: u32 = auto(upper_number)

    def summary(self) -> str:
        return ""


def _orders(*families: int) -> tuple[int, ...]:
    """The numbers in this host's byte order, then in the other."""
    swapped = [int.from_bytes(number.to_bytes(4, "little"), "big") for number in families]
    return (*swapped, *families) if sys.byteorder == "little" else (*families, *swapped)


# AF_INET is 2 everywhere; AF_INET6 is 30 on macOS, 28 on FreeBSD, 24 on the other BSDs, 10 on Linux.
IPv4.register(over={NullLoopback: _orders(2), Loopback: 2})
IPv6.register(over={NullLoopback: _orders(30, 28, 24, 10), Loopback: (24, 28, 30, 10)})
