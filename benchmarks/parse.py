"""How long does it take to get at a packet's addresses, ports and flags, or its payload?

rawkit's Packet.parse beside dpkt and scapy, from octets to the same values, addresses as wire octets where
that is what the peer gives. Microseconds a packet, less is better; the ratio is how many times less.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from _compare import compare

from rawkit.wire import TCP, UDP, Ether, IPv4, IPv6, Packet, Timestamps
from rawkit.wire.tcp import NoOperation

ETHER = Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")
SEGMENT = bytes(
    ETHER
    / IPv4(src="10.77.0.1", dst="10.77.0.2")
    / TCP(sport=40000, dport=80, flags="PA", seq=1, options=[NoOperation(), NoOperation(), Timestamps(1, 2)])
    / bytes(64)
)
DATAGRAM = bytes(ETHER / IPv6(src="fd77::1", dst="fd77::2") / UDP(sport=40000, dport=40001) / bytes(64))
ROUNDS = {"rawkit": 20000, "dpkt": 10000, "scapy": 300}


def rawkit_tcp() -> object:
    packet = Packet.parse(SEGMENT)
    ip, tcp = packet[IPv4], packet[TCP]
    return ip.src.packed, ip.dst.packed, tcp.sport, tcp.dport, tcp.flags


def rawkit_udp() -> object:
    packet = Packet.parse(DATAGRAM)
    ip, udp = packet[IPv6], packet[UDP]
    return ip.src.packed, ip.dst.packed, udp.sport, udp.dport, packet.payload


def peers() -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    import dpkt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.layers import inet, inet6, l2

    from ipaddress import IPv4Address, IPv6Address

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
        return IPv4Address(ip.src).packed, IPv4Address(ip.dst).packed, tcp.sport, tcp.dport, int(tcp.flags)

    def scapy_udp() -> object:
        packet = l2.Ether(DATAGRAM)
        ip, udp = packet[inet6.IPv6], packet[inet.UDP]
        return (
            IPv6Address(ip.src).packed,
            IPv6Address(ip.dst).packed,
            udp.sport,
            udp.dport,
            bytes(udp.payload),
        )

    return {"dpkt": dpkt_tcp, "scapy": scapy_tcp}, {"dpkt": dpkt_udp, "scapy": scapy_udp}


def main() -> None:
    tcp, udp = peers()
    compare("parse", "Ether/IPv4/TCP to addresses, ports, flags", {"rawkit": rawkit_tcp, **tcp}, ROUNDS)
    compare("parse", "Ether/IPv6/UDP to addresses, ports, payload", {"rawkit": rawkit_udp, **udp}, ROUNDS)


if __name__ == "__main__":
    main()
