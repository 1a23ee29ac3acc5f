"""IPv6 (RFC 8200): the fixed header and the fragment header."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from wire.vectors import check_vector

from rawkit.errors import Truncated
from rawkit.wire import TCP, UDP, DestinationOptions, Ether, HopByHop, IPv6, IPv6Fragment, Packet
from rawkit.wire.ipv6ext import HomeAddress

A, B = "2001:db8::1", "2001:db8::2"
# Laid out from RFC 8200 section 3: version, class, label; payload length, next header, hop limit; addresses.
ADDRESSES = "20010db8000000000000000000000001 20010db8000000000000000000000002"


def test_vector() -> None:
    packet = IPv6(src=A, dst=B, traffic_class=0xB8, flow_label=0x12345, hop_limit=3) / b""
    parsed = check_vector(f"6b812345 0000 3b 03 {ADDRESSES}", packet, IPv6)
    assert parsed[IPv6].src == IPv6Address(A)


def test_fragment_vector() -> None:
    # RFC 8200 section 4.5: next header, reserved, offset (185 * 8 octets), two bits, M; identification.
    packet = IPv6(src=A, dst=B) / IPv6Fragment(id=0xABCDEF01, fragment_offset=185, more=1) / b"12345678"
    parsed = check_vector(
        f"60000000 0010 2c 40 {ADDRESSES} 3b 00 05 c9 ab cd ef 01 31 32 33 34 35 36 37 38", packet, IPv6
    )
    assert parsed[IPv6Fragment].is_fragment
    assert not IPv6Fragment().is_fragment  # an atomic fragment (RFC 6946)


def test_checksum_is_judged_behind_an_atomic_fragment_header_only() -> None:
    for fragment, state in ((IPv6Fragment(), "good"), (IPv6Fragment(more=1), "unknown")):
        parsed = Packet.parse(bytes(IPv6(src=A, dst=B) / fragment / TCP() / b"x"), first=IPv6, strict=True)
        assert [verdict.state for verdict in parsed.checksums()] == [state]


@pytest.mark.parametrize(("claim", "payload", "trailer"), [(9, b"x", b""), (8, b"", b"x"), (500, b"x", b"")])
def test_payload_length_is_a_claim(claim: int, payload: bytes, trailer: bytes) -> None:
    octets = bytes(IPv6(payload_length=claim) / UDP(length=0) / b"x")
    parsed = Packet.parse(octets, first=IPv6, strict=True)
    assert (parsed.payload, parsed.trailer, bytes(parsed)) == (payload, trailer, octets)


def test_cut_header_is_located() -> None:
    parsed = Packet.parse(bytes(Ether() / IPv6())[:50])
    assert isinstance(parsed.error, Truncated)
    assert (parsed.error.layer, parsed.error.offset) == ("IPv6", 14)
    assert str(parsed.error) == "IPv6: need 40 octets at offset 14, have 36"


def test_a_home_address_takes_the_place_of_the_source_in_checksums() -> None:
    """RFC 6275 section 9.3.1; in a hop-by-hop header the option means nothing."""
    home, away = "2001:db8::1", "2001:db8:ffff::9"
    option = HomeAddress(address=home)
    sent = IPv6(src=away, dst="2001:db8::2") / DestinationOptions(options=[option]) / UDP(sport=1, dport=2)
    at_home = IPv6(src=home, dst="2001:db8::2") / UDP(sport=1, dport=2)
    assert bytes(sent)[-2:] == bytes(at_home)[-2:]
    assert Packet.parse(bytes(sent), first=IPv6).checksums()[-1].state == "good"
    elsewhere = IPv6(src=away, dst="2001:db8::2") / HopByHop(options=[option]) / UDP(sport=1, dport=2)
    assert bytes(elsewhere)[-2:] != bytes(at_home)[-2:]
