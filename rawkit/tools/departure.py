"""Where a packet leaves, and the octets it leaves as.

A packet that starts with an IP header goes out over a raw IP socket: the kernel finds the route and the next
hop's link address. One that starts with a link header goes out as it is on an interface.
"""

from __future__ import annotations

from dataclasses import dataclass

from rawkit.engine.sockets import PacketSocket, RawIPSocket
from rawkit.errors import TargetError
from rawkit.net import Route, route, source_address
from rawkit.net import interface as find_interface
from rawkit.wire.field import AUTO
from rawkit.wire.header import LINKTYPES, Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet

LINKTYPE_IPV4, LINKTYPE_IPV6 = 228, 229
IPPROTO_RAW = 255
"""A raw IP socket that only sends, whole packets with their own header."""


@dataclass(frozen=True)
class Departure:
    """A packet ready to go: source address filled in, octets built, and where it leaves.

    `linktype` is the LINKTYPE_ number of the octets, `interface` and `ifindex` the interface ("" and 0:
    the kernel chooses by its routing table).
    """

    packet: Packet
    octets: bytes
    interface: str
    ifindex: int
    linktype: int

    @property
    def is_ip(self) -> bool:
        """Whether there is no link header."""
        return self.linktype in (LINKTYPE_IPV4, LINKTYPE_IPV6)


def prepare(packet: Packet | Header, interface: str | None = None) -> Departure:
    """Find the way out for a packet, fill in a source address left at `AUTO`, and build it.

    Raises: `TargetError` for a packet that cannot be sent, `NoRoute`, `UnknownInterface`, `FieldError`.
    """
    if isinstance(packet, Header):
        packet = Packet([packet])
    first = packet.layers[0] if packet.layers else None
    linktype = next((number for number, cls in LINKTYPES.items() if isinstance(first, cls)), None)
    if first is None or linktype is None:
        raise TargetError(
            f"cannot send a packet that starts with {type(first).__name__ if first else 'its payload'}: "
            "it needs an IP or link header first"
        )
    is_ip = isinstance(first, (IPv4, IPv6))
    ip = next((layer for layer in packet.layers if isinstance(layer, (IPv4, IPv6))), None)
    way: Route | None = None
    if ip is not None and (ip.src is AUTO or (interface is None and not is_ip)):
        source = source_address(ip.dst) if is_ip and interface is None else None
        if source is None:
            way = route(ip.dst, interface)
            source = way.source
        if ip.src is AUTO:
            if source is None:
                raise TargetError(
                    f"no source address for {ip.dst}: no interface on the way has one; give src="
                )
            packet = packet.replace(type(ip), src=source.packed)
    if interface is not None:
        link = find_interface(interface)
        name, ifindex, link_linktype = link.name, link.index, link.linktype
    elif is_ip:
        name, ifindex, link_linktype = "", 0, linktype
    elif way is not None:
        name, ifindex, link_linktype = way.interface, way.ifindex, way.linktype
    else:
        raise TargetError("cannot tell on which interface to send: name one")
    if not is_ip and link_linktype != linktype:
        raise TargetError(
            f"cannot send a packet that starts with {type(first).__name__} on {name}: its frames are of "
            f"link type {link_linktype}, not {linktype}"
        )
    return Departure(packet, bytes(packet), name, ifindex, linktype)


def send(packet: Packet | Header, *, interface: str | None = None) -> Packet:
    """Send a packet once; returns it as it was sent, with its source address.

    `interface` names the interface to send on. Without it the route to the destination decides.

    Raises: as `prepare`; `PermissionDenied`; `EngineError` with the kernel's reason.
    """
    departure = prepare(packet, interface)
    transmit(departure)
    return departure.packet


def transmit(departure: Departure) -> None:
    """Send what was prepared; see `send`."""
    with open_sender(departure) as sender:
        sender.send(departure.octets, ifindex=departure.ifindex)


def open_sender(departure: Departure) -> RawIPSocket | PacketSocket:
    """A socket that sends this, and all else that leaves the same way. It receives nothing."""
    if not departure.is_ip:
        return PacketSocket(departure.ifindex, protocol=0)
    family = 4 if departure.linktype == LINKTYPE_IPV4 else 6
    return RawIPSocket(family, IPPROTO_RAW, interface=departure.ifindex or None)
