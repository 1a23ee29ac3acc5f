"""Patterns of packets, and what the comparison says where they do not fit; no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawkit.pcap import create_pcap
from rawkit.testing import (
    Pattern,
    arp,
    assert_packets,
    ether,
    icmp,
    icmp6,
    ip,
    ip6,
    layer,
    payload,
    tcp,
    udp,
    vlan,
)
from rawkit.wire import ARP, TCP, UDP, VXLAN, Dot1Q, Ether, Frame, ICMPEcho, IPv4, IPv6, Packet

QUERY = Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2", ttl=64) / UDP(sport=4000, dport=53) / b"query"


def parsed(packet: Packet) -> Packet:
    return Packet.parse(bytes(packet))


@pytest.mark.parametrize(
    ("pattern", "packet"),
    [
        (ip(), QUERY),
        (ip(ttl=64) / udp(dport=53), QUERY),
        (ip(src="192.0.2.1", dst=lambda address: address.packed[-1] == 2), QUERY),
        (udp(dport=range(50, 60), sport={4000, 4001}) / b"query", QUERY),
        (ether() / ip() / udp() / payload(b"query"), QUERY),
        (payload(b"query"), QUERY),
        (udp(length=13), QUERY),  # computed when it was built
        (tcp(flags="SA"), Ether() / IPv4() / TCP(flags="SA")),
        (vlan(vid=7) / ip6(hop_limit=3), Ether() / Dot1Q(vid=7) / IPv6(hop_limit=3) / UDP()),
        (icmp(type=8), Ether() / IPv4() / ICMPEcho(id=3)),
        (icmp(id=3, seq=1), Ether() / IPv4() / ICMPEcho(id=3, seq=1)),
        (layer(ICMPEcho, id=3), Ether() / IPv4() / ICMPEcho(id=3)),
        (arp(op=1), Ether() / ARP(op=1)),
        (layer("vxlan", vni=9) / ether(), Ether() / IPv4() / UDP(dport=4789) / VXLAN(vni=9) / QUERY),
        (ip(ttl=64) / udp(dport=53), Ether() / IPv4(ttl=2) / UDP(dport=4789) / VXLAN() / QUERY),
    ],
    ids=str,
)
def test_what_fits(pattern: Pattern, packet: Packet) -> None:
    assert pattern.differences(parsed(packet)) == []
    assert pattern.fits(parsed(packet))


@pytest.mark.parametrize(
    ("pattern", "differences"),
    [
        (ip(ttl=63), ["ip.ttl: expected 63, got 64"]),
        (ip(ttl=63, dst="192.0.2.3") / udp(dport={5353}),
         ["ip.ttl: expected 63, got 64", "ip.dst: expected 192.0.2.3, got 192.0.2.2",
          "udp.dport: expected one of {5353}, got 53"]),
        (udp(dport=range(60, 70)), ["udp.dport: expected one of range(60, 70), got 53"]),
        (udp(dport=callable), ["udp.dport: expected callable, got 53"]),
        (ip() / tcp(), ["expected IPv4/TCP, got Ether/IPv4/UDP"]),
        (ether() / udp(), ["expected Ether/UDP, got Ether/IPv4/UDP"]),
        (udp() / b"quest", ["payload: expected from octet 3 on b'st' (of 5), got b'ry' (of 5)"]),
        (udp() / b"", ["payload: expected b'' (of 0), got b'query' (of 5)"]),
        (ip() / (b"x" * 30), ["payload: expected b'xxxxxxxxxxxxxxxx'... (of 30), "
                            r"got b'\x0f\xa0\x005\x00\r\x1c\x13query' (of 13)"]),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_and_why(pattern: Pattern, differences: list[str]) -> None:
    assert pattern.differences(parsed(QUERY)) == differences


def test_mistakes_in_a_pattern_are_told_at_once() -> None:
    with pytest.raises(TypeError, match="ip has no field 'tll'; it has version, ihl"):
        ip(tll=64)
    with pytest.raises(TypeError, match="there is no header 'ipx'"):
        layer("ipx")
    with pytest.raises(TypeError, match="nothing can follow the payload"):
        udp() / b"x" / b"y"
    assert str(icmp6() / b"x") == "icmp6 / b'x'"


def numbered(*ttls: int) -> list[Frame]:
    return [Frame(bytes(Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2", ttl=ttl) / UDP())) for ttl in ttls]


def test_packets_are_given_back_in_order(tmp_path: Path) -> None:
    expected = [ip(ttl=1), ip(ttl=3)]
    first, second = assert_packets(numbered(1, 3), expected)
    assert (first[IPv4].ttl, second[IPv4].ttl) == (1, 3)
    assert len(assert_packets(numbered(9, 1, 2, 3), expected, exact=False)) == 2
    assert assert_packets([], []) == []
    path = tmp_path / "x.pcapng"
    with create_pcap(path) as writer:
        for frame in numbered(1, 3):
            writer.write(frame)
    assert len(assert_packets(path, expected)) == 2


def test_packets_and_octets_can_be_expected_too() -> None:
    inner = IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=53) / b"abc"
    octets = bytes(Ether() / inner)
    assert_packets([octets, Ether() / inner, inner], [octets, inner, inner])
    with pytest.raises(AssertionError, match=r"IPv4.ttl at offset 8: 63 -> 64 \(expected -> got\)"):
        assert_packets([octets], [IPv4(src="192.0.2.1", dst="192.0.2.2", ttl=63) / UDP(dport=53) / b"abc"])
    with pytest.raises(AssertionError, match="expected 2 octets, 01 02"):
        assert_packets([octets], [b"\1\2"])
    with pytest.raises(AssertionError, match="expected a packet from TCP on"):
        assert_packets([octets], [Packet([TCP()])])


def test_the_error_shows_each_packet_that_is_not_as_expected() -> None:
    frames = numbered(1, 2, 9, 4, 5)
    with pytest.raises(AssertionError) as caught:
        assert_packets(frames, [ip(ttl=1), ip(ttl=2), ip(ttl=3) / udp(), ip(ttl=4), ip(ttl=7)])
    text = str(caught.value)
    lines = [line for line in text.splitlines() if not line.startswith("      0")]
    assert lines == [
        "5 packets expected, 5 captured (what was given)",
        "  = 1. ip(ttl=1)",
        "  = 2. ip(ttl=2)",
        "  - 3. ip(ttl=3) / udp",
        "    differs from captured packet 3: IP 192.0.2.1.0 > 192.0.2.2.0: UDP, length 0",
        "      ip.ttl: expected 3, got 9",
        "  = 4. ip(ttl=4)",
        "  - 5. ip(ttl=7)",
        "    differs from captured packet 5: IP 192.0.2.1.0 > 192.0.2.2.0: UDP, length 0",
        "      ip.ttl: expected 7, got 5",
    ]
    assert "      " + frames[2].packet().hexdump().splitlines()[1] in text


def test_the_error_tells_what_did_not_come_and_what_came_besides() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_packets(numbered(2, 3, 8), [ip(ttl=1), ip(ttl=2), ip(ttl=3)])
    lines = [line for line in str(caught.value).splitlines() if not line.startswith("      0")]
    assert lines == [
        "3 packets expected, 3 captured (what was given)",
        "  - 1. ip(ttl=1)",
        "    did not come",
        "  = 2. ip(ttl=2)",
        "  = 3. ip(ttl=3)",
        "  + captured packet 3 was not expected: IP 192.0.2.1.0 > 192.0.2.2.0: UDP, length 0",
    ]
    with pytest.raises(AssertionError, match="1 packet expected, 0 captured"):
        assert_packets([], [ip()], exact=False)
