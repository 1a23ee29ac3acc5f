"""Network interfaces of this host."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

from rawkit.addr import MAC
from rawkit.errors import UnknownInterface
from rawkit.net.netlink import ask

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
LINKTYPE_LINUX_SLL = 113

# ARPHRD_... of <linux/if_arp.h>. The loopback's frames have an Ethernet header too.
_ETHERNET_TYPES = {1, 772}
# Without a link header: tunnels of IP in IP (768, 769, 776), RAWIP (519), NONE (0xFFFE: tun, WireGuard).
_RAW_TYPES = {519, 768, 769, 776, 0xFFFE}

_IFF_UP = 1
_IFF_LOOPBACK = 8
_IFF_LOWER_UP = 1 << 16


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface.

    `linktype` is the LINKTYPE number of its frames: 1 Ethernet, 101 raw IP, 113 "cooked" for anything else.
    `up` is what the administrator set, `carrier` whether the link works. `mtu` is in octets, without the link
    header. `kind` is the driver's kind ("veth", "tun", "bridge"), "" for hardware and the loopback.
    """

    name: str
    index: int
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

    def question(socket: Any) -> list[Interface]:
        addresses: dict[int, list[IPv4Interface | IPv6Interface]] = {}
        for message in socket.get_addr():
            # On a point-to-point link IFA_ADDRESS is the other end's, and IFA_LOCAL ours.
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            addresses.setdefault(message["index"], []).append(
                ip_interface(f"{address}/{message['prefixlen']}")
            )
        links = (_interface(message, addresses.get(message["index"], [])) for message in socket.get_links())
        return sorted(links, key=lambda link: link.index)

    return ask(question, "list interfaces")


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


def _interface(message: Any, addresses: list[IPv4Interface | IPv6Interface]) -> Interface:
    kind = message["ifi_type"]
    flags = message["flags"]
    mac = message.get_attr("IFLA_ADDRESS")
    info = message.get_attr("IFLA_LINKINFO")
    if kind in _ETHERNET_TYPES:
        linktype = LINKTYPE_ETHERNET
    elif kind in _RAW_TYPES:
        linktype = LINKTYPE_RAW
    else:
        linktype = LINKTYPE_LINUX_SLL
    return Interface(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        # Tunnels have an IP address here.
        mac=MAC(mac) if mac and linktype == LINKTYPE_ETHERNET else None,
        mtu=message.get_attr("IFLA_MTU"),
        linktype=linktype,
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        loopback=bool(flags & _IFF_LOOPBACK),
        kind=(info.get_attr("IFLA_INFO_KIND") if info else None) or "",
        addresses=tuple(addresses),
    )
