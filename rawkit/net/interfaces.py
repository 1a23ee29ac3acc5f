"""Network interfaces of this host."""

from __future__ import annotations

import os
import struct
import sys
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import NamedTuple

from rawkit.addr import MAC
from rawkit.errors import UnknownInterface
from rawkit.net import rtnetlink

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
LINKTYPE_LINUX_SLL = 113

# ARPHRD_... of <linux/if_arp.h>. The loopback's frames have an Ethernet header too.
_ETHERNET_TYPES = {1, 772}
# Without a link header: tunnels of IP in IP (768, 769, 776), RAWIP (519), NONE (0xFFFE: tun, WireGuard).
_RAW_TYPES = {519, 768, 769, 776, 0xFFFE}

# <linux/if_addr.h>, <linux/if_link.h>
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_EXT_MASK = 1, 3, 4, 18, 29
_IFLA_INFO_KIND = 1
_SKIP_STATISTICS = 8

_IFF_UP = 1
_IFF_LOOPBACK = 8
_IFF_LOWER_UP = 1 << 16


class Interface(NamedTuple):
    """A network interface.

    `linktype` is the LINKTYPE number of its frames: 1 Ethernet, 101 raw IP, 113 "cooked" for anything else.
    `up` is what the administrator set, `carrier` whether the link works. `mtu` is in octets, without the link
    header. `kind` is the driver's kind ("veth", "tun", "bridge"), "" for hardware and the loopback.
    """

    name: str
    index: int  # type: ignore[assignment]  # in place of tuple.index
    mac: MAC | None
    mtu: int
    linktype: int
    up: bool
    carrier: bool
    loopback: bool
    kind: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]


def interfaces() -> list[Interface]:
    """All interfaces of the calling thread's network namespace, in the order of their indexes."""

    operation = "list interfaces"
    addresses: dict[int, list[IPv4Interface | IPv6Interface]] = {}
    for fixed, found in rtnetlink.ask(
        rtnetlink.GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0), flags=rtnetlink.DUMP, operation=operation
    ):
        _, prefix_len, _, _, index = _ADDRESS.unpack(fixed)
        # On a point-to-point link IFA_ADDRESS is the other end's, and IFA_LOCAL ours.
        if octets := found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS):
            address = ip_interface((octets, prefix_len))
            addresses.setdefault(index, []).append(address)
    links = rtnetlink.ask(
        rtnetlink.GET_LINK,
        _LINK.pack(0, 0, 0, 0, 0),
        rtnetlink.attribute(_IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATISTICS)),
        flags=rtnetlink.DUMP,
        operation=operation,
    )
    return sorted((_interface(link, addresses) for link in links), key=lambda link: link.index)


def interface(name_or_index: str | int) -> Interface:
    """The interface with this name or index.

    Raises:
        UnknownInterface: there is none; the message lists those that exist.
    """
    present = interfaces()
    for link in present:
        if name_or_index in (link.name, link.index):
            return link
    kind = "index" if isinstance(name_or_index, int) else "name"
    names = ", ".join(link.name for link in present)
    raise UnknownInterface(f"there is no interface with {kind} {name_or_index!r}; there are: {names}")


def _interface(
    message: rtnetlink.Message, addresses: dict[int, list[IPv4Interface | IPv6Interface]]
) -> Interface:
    _, kind, index, flags, _ = _LINK.unpack(message.fixed)
    found = message.attributes
    mac = found.get(_IFLA_ADDRESS, b"")
    info = rtnetlink.attributes(found.get(_IFLA_LINKINFO, b""))
    if kind in _ETHERNET_TYPES:
        linktype = LINKTYPE_ETHERNET
    elif kind in _RAW_TYPES:
        linktype = LINKTYPE_RAW
    else:
        linktype = LINKTYPE_LINUX_SLL
    return Interface(
        name=os.fsdecode(found[_IFLA_IFNAME].rstrip(b"\0")),
        index=index,
        # Tunnels have an IP address here.
        mac=MAC(mac) if len(mac) == 6 and linktype == LINKTYPE_ETHERNET else None,
        mtu=int.from_bytes(found[_IFLA_MTU], sys.byteorder),
        linktype=linktype,
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        loopback=bool(flags & _IFF_LOOPBACK),
        kind=info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace"),
        addresses=tuple(addresses.get(index, ())),
    )
