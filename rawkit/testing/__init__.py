"""Tests of programs that send and receive packets: what a packet shall be, and what a test captured.

The pytest plug-in (`rawkit.testing.plugin`, loaded by itself) has the fixtures; `assert_packets` and the
patterns work without pytest too:

    from rawkit.testing import assert_packets, ip, udp

    def test_query(lab, capture):
        seen = capture(lab.b, "udp port 53")
        ...
        assert_packets(seen, [ip(ttl=64) / udp(dport=53)])
"""

from rawkit.testing.compare import assert_packets
from rawkit.testing.patterns import Pattern, arp, ether, icmp, icmp6, ip, ip6, layer, payload, tcp, udp, vlan
from rawkit.testing.recording import Recording

__all__ = [
    "Pattern",
    "Recording",
    "arp",
    "assert_packets",
    "ether",
    "icmp",
    "icmp6",
    "ip",
    "ip6",
    "layer",
    "payload",
    "tcp",
    "udp",
    "vlan",
]
