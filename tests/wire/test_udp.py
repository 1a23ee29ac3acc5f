"""UDP (RFC 768): vectors, the length's lies, the checksum that is not there."""

from __future__ import annotations

import pytest
from wire.vectors import check_vector

from rawkit.errors import Malformed
from rawkit.wire import AUTO, UDP, Ether, IPv4, IPv6, Packet

A, B = "192.0.2.1", "192.0.2.2"


def test_vectors() -> None:
    # Laid out from RFC 768; sums by scapy 2.
    check_vector(
        "45 00 00 1f 00 01 00 00 40 11 f6 c9 c0 00 02 01 c0 00 02 02 14 e9 00 35 00 0b a2 53 61 62 63",
        IPv4(src=A, dst=B, id=1) / UDP(sport=5353, dport=53) / b"abc",
        IPv4,
    )
    check_vector(
        "60 00 00 00 00 0b 11 40 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01"
        "20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 02 14 e9 00 35 00 0b ca e2 61 62 63",
        IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=5353, dport=53) / b"abc",
        IPv6,
    )


@pytest.mark.parametrize(
    ("length", "payload", "trailer", "state"),
    [(12, b"abcd", b"", "good"), (10, b"ab", b"cd", "good"), (8, b"", b"abcd", "good"),
     (0, b"abcd", b"", "good"), (13, b"abcd", b"", "unknown"), (65535, b"abcd", b"", "unknown")],
)  # fmt: skip
def test_length_is_a_claim(length: int, payload: bytes, trailer: bytes, state: str) -> None:
    """What the length leaves over belongs to nobody; the checksum covers what it names (RFC 768)."""
    claimed = 12 if length == 0 else length
    covered = b"abcd"[: max(claimed - 8, 0)]
    short = IPv4(src=A, dst=B) / UDP(sport=1, dport=2, length=length) / covered
    sum_of = Packet.parse(bytes(short), first=IPv4)[UDP].checksum
    octets = bytes(IPv4(src=A, dst=B) / UDP(sport=1, dport=2, length=length, checksum=sum_of) / b"abcd")
    parsed = Packet.parse(octets, first=IPv4, strict=True)
    assert (parsed.payload, parsed.trailer, bytes(parsed)) == (payload, trailer, octets)
    assert parsed.checksums()[1].state == state


@pytest.mark.parametrize("length", range(1, 8))
def test_length_below_the_header(length: int) -> None:
    parsed = Packet.parse(bytes(Ether() / IPv4() / UDP(length=length) / b"abcd"))
    assert [type(layer) for layer in parsed.layers] == [Ether, IPv4]
    assert isinstance(parsed.error, Malformed)
    assert (parsed.error.layer, parsed.error.offset) == ("UDP", 34)
    assert f"says {length} octets" in str(parsed.error)


def test_a_sum_of_zero_is_sent_as_ones() -> None:
    """RFC 768: "If the computed checksum is zero, it is transmitted as all ones"."""
    packet = IPv4(src=A, dst=B) / UDP(sport=1, dport=2) / b"\0\0"
    first = Packet.parse(bytes(packet), first=IPv4)[UDP].checksum
    packet = IPv4(src=A, dst=B) / UDP(sport=1, dport=2) / first.to_bytes(2, "big")
    parsed = Packet.parse(bytes(packet), first=IPv4)
    assert parsed[UDP].checksum == 0xFFFF
    assert parsed.checksums()[1].state == "good"


def test_verdicts() -> None:
    good = Packet.parse(bytes(IPv4(src=A, dst=B) / UDP(sport=1, dport=2) / b"abc"), first=IPv4)
    right = good[UDP].checksum

    def verdict(checksum: int) -> tuple[str, int, int]:
        found = good.replace(UDP, checksum=checksum).checksums()[1]
        return found.state, found.found, found.expected

    assert verdict(right) == ("good", right, right)
    assert verdict(right ^ 1) == ("bad", right ^ 1, right)
    assert verdict(0) == ("not filled in", 0, right)
    # What Linux leaves for the network card: the sum of the pseudo-header (here by hand), not complemented.
    pseudo = 0xC000 + 0x0201 + 0xC000 + 0x0202 + 17 + 11
    assert verdict((pseudo & 0xFFFF) + (pseudo >> 16)) == (
        "not filled in",
        (pseudo & 0xFFFF) + (pseudo >> 16),
        right,
    )
    assert good.replace(UDP, checksum=AUTO).checksums()[1].state == "good"
    assert Packet.parse(bytes(UDP()), first=UDP).checksums()[0].state == "unknown"
