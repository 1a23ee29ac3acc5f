"""A transport protocol of one's own, in fifteen lines and without touching rawkit."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from rawkit.errors import Malformed
from rawkit.wire import AUTO, Ether, Header, IPv4, IPv6, Option, Packet
from rawkit.wire.field import (
    Options,
    auto,
    field,
    flags8,
    header_words,
    inet_checksum,
    octets,
    payload_length,
    u4,
    u8,
    u16,
    u32,
)  # fmt: skip


class CourierOption(Option, family=True):
    singles = frozenset({1})
    end = 0
    pad_to = 4


class Pad(CourierOption, kind=1):
    pass


class Token(CourierOption, kind=2):
    token: u32


class UnknownCourierOption(CourierOption):
    number: u8
    data: octets = b""


CourierOption.unknown = UnknownCourierOption


@pytest.fixture(scope="module")
def courier() -> Iterator[type[Header]]:
    class Courier(Header, over={IPv4: 253, IPv6: 253}):
        """A small reliable transport over the experimental protocol number (RFC 3692)."""

        sport: u16
        dport: u16
        seq: u32
        ack: u32 = 0
        hlen: u4 = auto(header_words)
        kind: u4 = field(0, names={0: "data", 1: "probe"})
        flags: flags8 = field(0, bits="SYN ACK FIN RST")
        window: u16 = 0
        length: u16 = auto(payload_length)
        checksum: u16 = auto(inet_checksum, pseudo_header=True)
        options: Options[CourierOption] = ()

    yield Courier
    for lower in (IPv4, IPv6):  # other tests know no such protocol
        del lower.uppers[253], lower.numbers[Courier]


# sport, dport, seq, ack, hlen 7 and kind 1, flags, window, length, checksum, token, pad; laid out by hand.
OCTETS = bytes.fromhex("1388 1389 00000007 00000000 71 03 0200 0005 0000 02 06 cafebabe 01 00") + b"hello"


def test_build_and_parse(courier: type[Header]) -> None:
    sent = (
        Ether()
        / IPv4(src="192.0.2.1", dst="192.0.2.2")
        / courier(
            sport=5000, dport=5001, seq=7, kind=1, flags="SA", window=512, options=[Token(0xCAFEBABE), Pad()]
        )
        / b"hello"
    )
    octets_ = bytes(sent)
    # By hand: the one's complement sum over pseudo-header and segment.
    pseudo = bytes.fromhex("c0000201 c0000202 00 fd") + len(OCTETS).to_bytes(2, "big")
    total = sum(
        int.from_bytes((pseudo + OCTETS + b"\0")[at : at + 2], "big")
        for at in range(0, len(pseudo + OCTETS), 2)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = ~total & 0xFFFF
    assert octets_[34:] == OCTETS[:18] + checksum.to_bytes(2, "big") + OCTETS[20:]
    parsed = Packet.parse(octets_ + bytes(3), strict=True)
    found = parsed[courier]
    assert type(found) is courier
    assert (parsed.payload, parsed.trailer) == (b"hello", bytes(3))
    assert [verdict.state for verdict in parsed.checksums()] == ["good", "good"]
    assert found.replace(checksum=AUTO, length=AUTO, hlen=AUTO) == sent[courier]


def test_both_ip_versions_announce_it(courier: type[Header]) -> None:
    for ip in (IPv4(), IPv6()):
        parsed = Packet.parse(
            bytes(ip / courier(sport=1, dport=2, seq=3) / b"x"), first=type(ip), strict=True
        )
        assert isinstance(parsed.layers[1], courier)
        assert parsed.checksums()[-1].state == "good"
        assert bytes(parsed)[9 if isinstance(ip, IPv4) else 6] == 253


def test_its_lies_are_located(courier: type[Header]) -> None:
    packet = Ether() / IPv4() / courier(sport=1, dport=2, seq=3, hlen=4)
    error = Packet.parse(bytes(packet)).error
    assert isinstance(error, Malformed)
    assert (error.layer, error.offset) == ("Courier", 34)
    assert "Courier.hlen at offset 34: says 16 octets" in str(error)


def test_shown(courier: type[Header]) -> None:
    packet = (
        IPv4(src="192.0.2.1", dst="192.0.2.2")
        / courier(sport=5000, dport=5001, seq=7, kind=1, flags="SA", options=[Token(1)])
        / b"hello"
    )
    assert packet.summary() == (
        "IP 192.0.2.1.5000 > 192.0.2.2.5001: "
        "Courier, seq 7, kind 1 (probe), flags SYN|ACK (0x3), options Token(1), length 5"
    )
    assert "  kind      1 (probe)" in packet.show()
    assert packet.to_dict()["layers"][1]["options"] == [{"option": "Token", "token": 1}]
    json.dumps(packet.to_dict())
    assert (
        courier.diagram().split("\n")[9]
        == "| hlen  | kind  |     flags     |            window             |"
    )
    assert courier.SYN | courier.RST == 9
