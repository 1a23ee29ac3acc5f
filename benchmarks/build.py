"""How long does it take to make a packet from values, lengths and checksums computed?

rawkit beside dpkt, pypacker and scapy, to the same octets: from constructors, and from one packet that gets
another port each time. dpkt computes neither the TCP data offset nor the UDP length and is given both, has
options as octets, and is told to sum again. rawkit runs with the checksums of its C engine. Microseconds a
packet, less is better; the ratio is how many times less.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

from _compare import compare

import rawkit.engine.checksum  # lets rawkit.wire use it
from rawkit.wire import MSS, TCP, UDP, Ether, IPv4, IPv6

Sides = dict[str, Callable[[], object]]

A_MAC, B_MAC = "00:00:5e:00:53:01", "00:00:5e:00:53:02"
A4, B4, A6, B6 = "10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2"
PAYLOAD = bytes(range(64))
ROUNDS = {"rawkit": 1500, "dpkt": 800, "pypacker": 500, "scapy": 40}
SYN = {"sport": 40000, "dport": 80, "seq": 1}


def rawkit(syn: Sides, udp: Sides, again: Sides) -> None:
    def build() -> object:
        tcp = TCP(**SYN, flags="S", window=64240, options=[MSS(1460)])
        return bytes(Ether(dst=B_MAC, src=A_MAC) / IPv4(src=A4, dst=B4, id=7) / tcp)

    def datagram() -> object:
        ip = IPv6(src=A6, dst=B6)
        return bytes(Ether(dst=B_MAC, src=A_MAC) / ip / UDP(sport=40000, dport=40001) / PAYLOAD)

    tcp = TCP(**SYN, flags="S", window=64240, options=[MSS(1460)])
    packet = Ether(dst=B_MAC, src=A_MAC) / IPv4(src=A4, dst=B4, id=7) / tcp
    ports = itertools.cycle((80, 443))

    def changed() -> object:
        tcp.dport = next(ports)
        return bytes(packet)

    syn["rawkit"], udp["rawkit"], again["rawkit"] = build, datagram, changed


def dpkt(syn: Sides, udp: Sides, again: Sides) -> None:
    import dpkt

    a_mac, b_mac = bytes.fromhex(A_MAC.replace(":", "")), bytes.fromhex(B_MAC.replace(":", ""))
    a4, b4 = bytes((10, 77, 0, 1)), bytes((10, 77, 0, 2))
    a6, b6 = b"\xfd\x77" + bytes(13) + b"\1", b"\xfd\x77" + bytes(13) + b"\2"

    def segment() -> dpkt.ethernet.Ethernet:
        tcp = dpkt.tcp.TCP(**SYN, flags=2, win=64240, off=6, opts=b"\2\4\5\xb4")
        ip = dpkt.ip.IP(src=a4, dst=b4, id=7, ttl=64, p=6, data=tcp)
        return dpkt.ethernet.Ethernet(dst=b_mac, src=a_mac, type=0x0800, data=ip)

    def datagram() -> object:
        udp = dpkt.udp.UDP(sport=40000, dport=40001, ulen=8 + len(PAYLOAD), data=PAYLOAD)
        ip = dpkt.ip6.IP6(src=a6, dst=b6, nxt=17, hlim=64, plen=8 + len(PAYLOAD), data=udp)
        ip.extension_hdrs = {}
        return bytes(dpkt.ethernet.Ethernet(dst=b_mac, src=a_mac, type=0x86DD, data=ip))

    packet = segment()
    ports = itertools.cycle((80, 443))

    def changed() -> object:
        ip = packet.data
        ip.data.dport = next(ports)
        ip.sum = ip.data.sum = 0
        return bytes(packet)

    syn["dpkt"], udp["dpkt"], again["dpkt"] = lambda: bytes(segment()), datagram, changed


def pypacker(syn: Sides, udp: Sides, again: Sides) -> None:
    try:
        from pypacker.layer3.ip import IP
        from pypacker.layer4.tcp import TCP, TCPOptMulti
        from pypacker.layer12.ethernet import Ethernet
    except ModuleNotFoundError:
        return

    def segment() -> Ethernet:
        tcp = TCP(**SYN, flags=2, win=64240)
        tcp.opts.append(TCPOptMulti(type=2, len=4, body_bytes=b"\5\xb4"))
        return Ethernet(dst_s=B_MAC, src_s=A_MAC) + IP(src_s=A4, dst_s=B4, id=7) + tcp

    packet = segment()
    tcp = packet[TCP]
    ports = itertools.cycle((80, 443))

    def changed() -> object:
        tcp.dport = next(ports)
        return packet.bin()

    syn["pypacker"], again["pypacker"] = lambda: segment().bin(), changed


def scapy(syn: Sides, udp: Sides, again: Sides) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.layers import inet, inet6, l2
        from scapy.packet import Raw

    def segment() -> l2.Ether:
        tcp = inet.TCP(**SYN, flags="S", window=64240, options=[("MSS", 1460)])
        return l2.Ether(dst=B_MAC, src=A_MAC) / inet.IP(src=A4, dst=B4, id=7) / tcp

    def datagram() -> object:
        ip = inet6.IPv6(src=A6, dst=B6)
        return bytes(l2.Ether(dst=B_MAC, src=A_MAC) / ip / inet.UDP(sport=40000, dport=40001) / Raw(PAYLOAD))

    packet = segment()
    tcp = packet[inet.TCP]
    ports = itertools.cycle((80, 443))

    def changed() -> object:
        tcp.dport = next(ports)
        return bytes(packet)

    syn["scapy"], udp["scapy"], again["scapy"] = lambda: bytes(segment()), datagram, changed


def main() -> None:
    syn: Sides = {}
    udp: Sides = {}
    again: Sides = {}
    for side in (rawkit, dpkt, pypacker, scapy):
        side(syn, udp, again)
    compare("build", "Ether/IPv4/TCP SYN with MSS", syn, ROUNDS)
    compare("build", "the same packet with another port", again, ROUNDS)
    compare("build", "Ether/IPv6/UDP", udp, ROUNDS)


if __name__ == "__main__":
    main()
