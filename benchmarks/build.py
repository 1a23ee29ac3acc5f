"""How long does it take to make a packet from values, lengths and checksums computed?

rawkit beside dpkt and scapy, from constructors to the same octets. dpkt computes neither the TCP data offset
nor the UDP length and is given both. rawkit runs with the checksums of its C engine. Microseconds a packet,
less is better; the ratio is how many times less.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from _compare import compare

import rawkit.engine.checksum  # noqa: F401  # lets rawkit.wire use it
from rawkit.wire import MSS, TCP, UDP, Ether, IPv4, IPv6, SACKPermitted

A_MAC, B_MAC = "00:00:5e:00:53:01", "00:00:5e:00:53:02"
PAYLOAD = bytes(range(64))
ROUNDS = {"rawkit": 10000, "dpkt": 5000, "scapy": 200}


def rawkit_tcp() -> object:
    return bytes(
        Ether(dst=B_MAC, src=A_MAC)
        / IPv4(src="10.77.0.1", dst="10.77.0.2", id=7)
        / TCP(sport=40000, dport=80, seq=1, flags="S", window=64240, options=[MSS(1460), SACKPermitted()])
        / PAYLOAD
    )


def rawkit_udp() -> object:
    return bytes(
        Ether(dst=B_MAC, src=A_MAC)
        / IPv6(src="fd77::1", dst="fd77::2")
        / UDP(sport=40000, dport=40001)
        / PAYLOAD
    )


def peers() -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    import dpkt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.layers import inet, inet6, l2
        from scapy.packet import Raw

    a_mac, b_mac = bytes.fromhex(A_MAC.replace(":", "")), bytes.fromhex(B_MAC.replace(":", ""))
    a4, b4 = bytes((10, 77, 0, 1)), bytes((10, 77, 0, 2))
    a6, b6 = b"\xfd\x77" + bytes(13) + b"\1", b"\xfd\x77" + bytes(13) + b"\2"

    def dpkt_tcp() -> object:
        tcp = dpkt.tcp.TCP(
            sport=40000, dport=80, seq=1, flags=2, win=64240, off=7, opts=b"\2\4\5\xb4\4\2\0\0", data=PAYLOAD
        )
        ip = dpkt.ip.IP(src=a4, dst=b4, id=7, ttl=64, p=6, data=tcp)
        return bytes(dpkt.ethernet.Ethernet(dst=b_mac, src=a_mac, type=0x0800, data=ip))

    def dpkt_udp() -> object:
        udp = dpkt.udp.UDP(sport=40000, dport=40001, ulen=8 + len(PAYLOAD), data=PAYLOAD)
        ip = dpkt.ip6.IP6(src=a6, dst=b6, nxt=17, hlim=64, plen=8 + len(PAYLOAD), data=udp)
        ip.extension_hdrs = {}
        return bytes(dpkt.ethernet.Ethernet(dst=b_mac, src=a_mac, type=0x86DD, data=ip))

    def scapy_tcp() -> object:
        return bytes(
            l2.Ether(dst=B_MAC, src=A_MAC)
            / inet.IP(src="10.77.0.1", dst="10.77.0.2", id=7)
            / inet.TCP(
                sport=40000,
                dport=80,
                seq=1,
                flags="S",
                window=64240,
                options=[("MSS", 1460), ("SAckOK", b"")],
            )
            / Raw(PAYLOAD)
        )

    def scapy_udp() -> object:
        return bytes(
            l2.Ether(dst=B_MAC, src=A_MAC)
            / inet6.IPv6(src="fd77::1", dst="fd77::2")
            / inet.UDP(sport=40000, dport=40001)
            / Raw(PAYLOAD)
        )

    return {"dpkt": dpkt_tcp, "scapy": scapy_tcp}, {"dpkt": dpkt_udp, "scapy": scapy_udp}


def main() -> None:
    tcp, udp = peers()
    compare("build", "Ether/IPv4/TCP SYN with options", {"rawkit": rawkit_tcp, **tcp}, ROUNDS)
    compare("build", "Ether/IPv6/UDP", {"rawkit": rawkit_udp, **udp}, ROUNDS)


if __name__ == "__main__":
    main()
