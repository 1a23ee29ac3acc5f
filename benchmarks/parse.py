"""How long does it take to get at a packet's addresses, ports and flags, or its payload?

rawkit's Packet.parse and Picker beside dpkt, pypacker and scapy, from octets to the same values, addresses as
each gives them. "limit" is the least that objects with a slot for each field can cost in this Python: the
fields of three headers by one struct unpack each, stored and read, with no check and no choice made.
Microseconds a packet, less is better; the ratio is how many times less. "read a field" is nanoseconds.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from _compare import compare, nanoseconds

from rawkit.bulk import Picker
from rawkit.wire import MSS, TCP, UDP, Ether, IPv4, IPv6, Packet

ETHER = Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")
SEGMENT = bytes(
    ETHER
    / IPv4(src="10.77.0.1", dst="10.77.0.2")
    / TCP(sport=40000, dport=80, flags="S", seq=1, options=[MSS(1460)])
)
DATAGRAM = bytes(ETHER / IPv6(src="fd77::1", dst="fd77::2") / UDP(sport=40000, dport=40001) / bytes(64))
ROUNDS = {"rawkit": 4000, "dpkt": 2000, "pypacker": 2000, "scapy": 100, "limit": 8000}
PICK = Picker(["ip.src", "ip.dst", "tcp.sport", "tcp.dport", "tcp.flags"])


def packet_tcp() -> object:
    packet = Packet.parse(SEGMENT)
    ip, tcp = packet[IPv4], packet[TCP]
    return ip.src, ip.dst, tcp.sport, tcp.dport, tcp.flags


def picker_tcp() -> object:
    return PICK(SEGMENT)


def packet_udp() -> object:
    packet = Packet.parse(DATAGRAM)
    ip, udp = packet[IPv6], packet[UDP]
    return ip.src, ip.dst, udp.sport, udp.dport, packet.payload


def limit() -> Callable[[], object]:
    def slots(*names: str) -> Any:
        return type("Slots", (), {"__slots__": names})

    ether, ip, tcp = slots("dst", "src", "type"), slots(*"abcdefgh", "src", "dst"), slots(*"sdabcfgh")
    unpacks = [struct.Struct(">" + f).unpack_from for f in ("6s6sH", "BBHHHBBH4s4s", "HHIIHHHH")]
    unpack_ether, unpack_ip, unpack_tcp = unpacks
    new = object.__new__

    def run() -> object:
        e, i, t = new(ether), new(ip), new(tcp)
        e.dst, e.src, e.type = unpack_ether(SEGMENT, 0)
        i.a, i.b, i.c, i.d, i.e, i.f, i.g, i.h, i.src, i.dst = unpack_ip(SEGMENT, 14)
        t.s, t.d, t.a, t.b, t.c, t.f, t.g, t.h = unpack_tcp(SEGMENT, 34)
        return i.src, i.dst, t.s, t.d, t.c & 511

    return run


def peers() -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    import dpkt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.layers import inet, inet6, l2

    def dpkt_tcp() -> object:
        ip = dpkt.ethernet.Ethernet(SEGMENT).data
        tcp = ip.data
        return ip.src, ip.dst, tcp.sport, tcp.dport, tcp.flags

    def dpkt_udp() -> object:
        ip = dpkt.ethernet.Ethernet(DATAGRAM).data
        udp = ip.data
        return ip.src, ip.dst, udp.sport, udp.dport, udp.data

    def scapy_tcp() -> object:
        packet = l2.Ether(SEGMENT)
        ip, tcp = packet[inet.IP], packet[inet.TCP]
        return ip.src, ip.dst, tcp.sport, tcp.dport, int(tcp.flags)

    def scapy_udp() -> object:
        packet = l2.Ether(DATAGRAM)
        ip, udp = packet[inet6.IPv6], packet[inet.UDP]
        return ip.src, ip.dst, udp.sport, udp.dport, bytes(udp.payload)

    tcp = {"dpkt": dpkt_tcp, "scapy": scapy_tcp}
    try:
        from pypacker.layer3 import ip as pypacker_ip
        from pypacker.layer4 import tcp as pypacker_tcp
        from pypacker.layer12 import ethernet
    except ModuleNotFoundError:
        return tcp, {"dpkt": dpkt_udp, "scapy": scapy_udp}

    def pypacker() -> object:
        packet = ethernet.Ethernet(SEGMENT)
        ip, segment = packet[pypacker_ip.IP], packet[pypacker_tcp.TCP]
        return ip.src, ip.dst, segment.sport, segment.dport, segment.flags

    return {**tcp, "pypacker": pypacker}, {"dpkt": dpkt_udp, "scapy": scapy_udp}


def same(result: Any) -> object:
    """A side's values with the addresses as octets."""
    kinds: dict[type, Callable[[Any], bytes]] = {str: _packed, IPv4Address: _packed, IPv6Address: _packed}
    return [kinds.get(type(value), lambda value: value)(value) for value in result]


def _packed(address: Any) -> bytes:
    from ipaddress import ip_address

    return ip_address(address).packed


def main() -> None:
    tcp, udp = peers()
    case = "Ether/IPv4/TCP to addresses, ports, flags"
    compare("parse", f"{case}: Picker", {"rawkit": picker_tcp, **tcp}, ROUNDS, same)
    compare("parse", f"{case}: Packet", {"rawkit": packet_tcp, **tcp, "limit": limit()}, ROUNDS, same)
    compare(
        "parse", "Ether/IPv6/UDP to addresses, ports, payload", {"rawkit": packet_udp, **udp}, ROUNDS, same
    )
    packet = Packet.parse(SEGMENT)
    ip, segment = packet[IPv4], packet[TCP]
    nanoseconds("parse", "read a field: tcp.dport", lambda: segment.dport)
    nanoseconds("parse", "read a field: tcp.flags", lambda: segment.flags)
    nanoseconds("parse", "read a field: ip.src", lambda: ip.src)


if __name__ == "__main__":
    main()
