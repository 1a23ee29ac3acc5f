"""Ethernet II, 802.3 lengths, VLAN tags (IEEE 802.3 clause 3.2, IEEE 802.1Q clause 9)."""

from __future__ import annotations

import pytest
from wire.vectors import check_vector

from rawkit.addr import MAC
from rawkit.wire import ARP, LLC, TCP, UDP, Dot1AD, Dot1Q, Ether, IPv4, IPv6, Packet

MACS = "00 00 5e 00 53 02 00 00 5e 00 53 01"
ETHER = Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")


def test_vector() -> None:
    parsed = check_vector(f"{MACS} 88 b5 01 02", ETHER / b"\1\2", Ether)
    assert parsed[Ether].dst == MAC("00:00:5e:00:53:02")
    assert isinstance(parsed[Ether].src, MAC)


def test_nested_tags() -> None:
    # TPID 88a8, service VLAN 100 with priority 5; TPID 8100, customer VLAN 7, drop eligible; ARP behind them.
    arp = "0001 0800 06 04 0001 00005e005301 c0000201 000000000000 c0000202"
    packet = (
        ETHER
        / Dot1AD(pcp=5, vid=100)
        / Dot1Q(vid=7, dei=1)
        / ARP(sender_mac="00:00:5e:00:53:01", sender_ip="192.0.2.1", target_ip="192.0.2.2")
    )
    parsed = check_vector(f"{MACS} 88 a8 a0 64 81 00 10 07 08 06 {arp}", packet, Ether)
    assert [tag.vid for tag in parsed if isinstance(tag, Dot1Q)] == [100, 7]
    second = parsed.get(Dot1Q, nth=1)
    assert second is not None
    assert (type(second), second.vid, second.ethertype) == (Dot1Q, 7, 0x0806)
    assert parsed.get(Dot1Q, nth=2) is None


@pytest.mark.parametrize("tags_n", [0, 1, 2, 5])
def test_tags_announce_what_follows(tags_n: int) -> None:
    packet: Packet = Packet([ETHER])
    for vid in range(tags_n):
        packet = packet / Dot1Q(vid=vid)
    parsed = Packet.parse(bytes(packet / IPv6() / UDP() / b"x"), strict=True)
    assert [type(layer) for layer in parsed.layers] == [Ether, *[Dot1Q] * tags_n, IPv6, UDP]


@pytest.mark.parametrize(
    "inner",
    [
        Packet([ARP()]),
        IPv4() / TCP(),
        IPv4() / UDP() / b"x",
        IPv6() / UDP() / b"x",
        Packet([IPv4(protocol=253)]),
        Packet([IPv6()]),
    ],
    ids=repr,
)
def test_padding_is_trailer_and_never_payload(inner: Packet) -> None:
    octets = bytes(ETHER / inner)
    padded = octets + b"\xaa" * (60 - len(octets))  # the smallest frame, without its checksum
    parsed = Packet.parse(padded, strict=True)
    assert parsed.payload == inner.payload
    assert parsed.trailer == b"\xaa" * (60 - len(octets))
    assert bytes(parsed) == padded
    assert all(verdict.state == "good" for verdict in parsed.checksums())


def test_length_of_802_3_bounds_the_payload() -> None:
    # Below 1536 the field is a length (IEEE 802.3 clause 3.2.6): 3 octets of LLC, then padding.
    parsed = Packet.parse(bytes.fromhex(f"{MACS} 00 03 42 42 03") + bytes(43), strict=True)
    assert (bytes(parsed[LLC]), parsed.payload, parsed.trailer) == (b"\x42\x42\x03", b"", bytes(43))
    longer = Packet.parse(bytes.fromhex(f"{MACS} 05 00 42 42 03"))
    assert (bytes(longer[LLC]), longer.payload, longer.trailer) == (b"\x42\x42\x03", b"", b"")


def test_unknown_ethertype_stays_payload() -> None:
    parsed = Packet.parse(bytes.fromhex(f"{MACS} 12 34 01 02"), strict=True)
    assert (len(parsed.layers), parsed.payload) == (1, b"\1\2")
    assert "ethertype 0x1234" in parsed.summary()
