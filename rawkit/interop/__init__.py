"""Packets to and from scapy and dpkt, octet for octet; each library is imported when it is asked for.

`to_octets` and `to_packet` take whatever stands for a packet, so that functions which accept one need not
know what their caller works with.
"""

from __future__ import annotations

import sys
from typing import Any

from rawkit.wire import Ether, Frame, Header, Packet


def to_octets(packet: Any) -> bytes:
    """The octets of a packet: rawkit's `Packet`, `Header` and `Frame`, scapy's or dpkt's, or octets.

    Computed fields are computed, as building with that library does.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(packet, Frame):
        return packet.data
    if isinstance(packet, (Packet, Header)) or is_scapy(packet) or is_dpkt(packet):
        return bytes(packet)
    try:
        return bytes(memoryview(packet))
    except TypeError:
        raise TypeError(
            f"need a packet (of rawkit, scapy or dpkt) or octets, not {type(packet).__name__}"
        ) from None


def to_packet(packet: Any, first: type[Header] | None = Ether) -> Packet:
    """A rawkit `Packet` from what `to_octets` takes; `first` is the first header of octets.

    A `Packet` comes back as it is, a `Header` alone in a packet, with what they leave to be computed. What
    comes from another library is built there first.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(packet, Packet):
        return packet
    if isinstance(packet, Header):
        return Packet([packet])
    if isinstance(packet, Frame):
        return packet.packet()
    if is_scapy(packet):
        from rawkit.interop.scapy import from_scapy

        return from_scapy(packet)
    if is_dpkt(packet):
        from rawkit.interop.dpkt import from_dpkt

        return from_dpkt(packet)
    return Packet.parse(to_octets(packet), first=first)


def is_scapy(packet: Any) -> bool:
    """Whether this is a packet of scapy; does not import it."""
    return _is_instance(packet, "scapy.packet")


def is_dpkt(packet: Any) -> bool:
    """Whether this is a packet of dpkt; does not import it."""
    return _is_instance(packet, "dpkt.dpkt")


def _is_instance(packet: Any, module: str) -> bool:
    # An instance can only exist where the module was imported.
    cls = getattr(sys.modules.get(module), "Packet", None)
    return isinstance(cls, type) and isinstance(packet, cls)
