"""Who of two hosts is the client, packet by packet, for sending the two directions out of two interfaces."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

CLIENT, SERVER = 0, 1
"""Whose frame it is."""

_TCP, _UDP, _SCTP = 6, 17, 132
_WELL_KNOWN = 1024
_SYN, _ACK = 2, 16
_PORTS = Struct(">HH")
_PLAIN_IP4 = b"\x08\x00\x45"
_NO_FRAGMENT = (b"\x00\x00", b"\x40\x00")
_TAGS = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")


class Ends(NamedTuple):
    """What tells one direction of a flow from the other."""

    protocol: int
    src: bytes
    dst: bytes
    sport: int = -1
    """-1: no ports are known, as in fragments after the first."""
    dport: int = -1
    flags: int = 0
    """Of TCP."""


class FlowSides:
    """Says of each Ethernet frame, in their order, whether the client or the server of its flow sent it.

    The client is who sends a TCP SYN, or else who talks to a port below 1024 from one above, or else who is
    seen first. What has no ports (ICMP, later fragments, ARP) goes by what is known of its receiver, then of
    its sender. Keeps some 600 octets for each flow.
    """

    def __init__(self) -> None:
        self._flows: dict[tuple[int, bytes, bytes, int, int], int] = {}
        self._hosts: dict[bytes, int] = {}
        # Untagged IPv4 without options, by the octets that are the same in a whole flow: 4 times as quick.
        self._quick: dict[tuple[bytes, bytes, bytes, bytes], int] = {}

    def side(self, octets: bytes) -> int:
        """CLIENT or SERVER."""
        key = octets[12:15], octets[20:22], octets[23:24], octets[26:38]
        side = self._quick.get(key)
        if side is not None:
            return side
        ends = ends_of(octets)
        side = CLIENT if ends is None else self.side_of(ends)
        if ends is not None and ends.sport >= 0 and key[0] == _PLAIN_IP4 and key[1] in _NO_FRAGMENT:
            self._quick[key] = side
        return side

    def side_of(self, ends: Ends) -> int:
        """The same, of a packet whose ends are known."""
        if ends.sport < 0:
            return self._by_host(ends)
        flow = (ends.protocol, ends.src, ends.dst, ends.sport, ends.dport)
        known = self._flows.get(flow)
        if known is not None:
            return known
        side = _first_side(ends)
        self._flows[flow] = side
        self._flows[(ends.protocol, ends.dst, ends.src, ends.dport, ends.sport)] = 1 - side
        self._hosts.setdefault(ends.src, side)
        self._hosts.setdefault(ends.dst, 1 - side)
        return side

    def _by_host(self, ends: Ends) -> int:
        receiver = self._hosts.get(ends.dst)
        side = self._hosts.setdefault(ends.src, CLIENT) if receiver is None else 1 - receiver
        self._hosts.setdefault(ends.src, side)
        self._hosts.setdefault(ends.dst, 1 - side)
        return side


def _first_side(ends: Ends) -> int:
    if ends.protocol == _TCP and ends.flags & _SYN:
        return SERVER if ends.flags & _ACK else CLIENT
    return SERVER if ends.sport < _WELL_KNOWN <= ends.dport else CLIENT


def ends_of(octets: bytes) -> Ends | None:
    """The ends of an Ethernet frame, behind VLAN tags; None where there is no IP and no ARP.

    IPv6 extension headers are not gone through: such packets have no ports.
    """
    at = 12
    while octets[at : at + 2] in _TAGS:
        at += 4
    kind, ip = octets[at : at + 2], at + 2
    if kind == b"\x08\x06" and len(octets) >= ip + 28:
        return Ends(0, octets[ip + 14 : ip + 18], octets[ip + 24 : ip + 28])
    if kind == b"\x08\x00" and len(octets) >= ip + 20:
        protocol, src, dst = octets[ip + 9], octets[ip + 12 : ip + 16], octets[ip + 16 : ip + 20]
        upper = ip + (octets[ip] & 15) * 4
        later = (octets[ip + 6] & 0x1F) | octets[ip + 7]
    elif kind == b"\x86\xdd" and len(octets) >= ip + 40:
        protocol, src, dst = octets[ip + 6], octets[ip + 8 : ip + 24], octets[ip + 24 : ip + 40]
        upper, later = ip + 40, 0
    else:
        return None
    if protocol not in (_TCP, _UDP, _SCTP) or later or len(octets) < upper + 4:
        return Ends(protocol, src, dst)
    sport, dport = _PORTS.unpack_from(octets, upper)
    flags = octets[upper + 13] if protocol == _TCP and len(octets) >= upper + 14 else 0
    return Ends(protocol, src, dst, sport, dport, flags)
