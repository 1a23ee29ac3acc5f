"""ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861)."""

from __future__ import annotations

import pytest
from wire.vectors import check_vector

from rawkit.errors import FieldError
from rawkit.wire import (
    TCP,
    UDP,
    ICMPv6,
    ICMPv6Echo,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    ICMPv6Unreachable,
    IPv6,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Packet,
    RouterAdvertisement,
    SourceLinkAddress,
    TargetLinkAddress,
)  # fmt: skip
from rawkit.wire.icmpv6 import LinkMTU, NDOption, PrefixInformation, UnknownNDOption
from rawkit.wire.option import UnparsedOptions

A, B = "2001:db8::1", "2001:db8::2"
HEX_A, HEX_B = "20010db8000000000000000000000001", "20010db8000000000000000000000002"


def test_vectors() -> None:
    # Laid out from RFC 4443 sections 3.2, 4.1 and RFC 4861 sections 4.2 to 4.4, 4.6; sums by scapy 2.
    check_vector(
        f"60000000 0010 3a 40 {HEX_A} {HEX_B} 80 00 92 32 00 77 00 01 61 62 63 64 65 66 67 68",
        IPv6(src=A, dst=B) / ICMPv6Echo(id=0x77, seq=1) / b"abcdefgh",
        IPv6,
    )
    check_vector(
        f"60000000 0020 3a ff {HEX_A} ff0200000000000000000001ff000002"
        f"87 00 6d 26 00000000 {HEX_B} 01 01 00 00 5e 00 53 01",
        IPv6(src=A, dst="ff02::1:ff00:2", hop_limit=255)
        / NeighbourSolicitation(target=B, options=[SourceLinkAddress("00:00:5e:00:53:01")]),
        IPv6,
    )
    check_vector(
        f"60000000 0020 3a ff {HEX_B} {HEX_A} 88 00 db 70 60000000 {HEX_B} 02 01 00 00 5e 00 53 02",
        IPv6(src=B, dst=A, hop_limit=255)
        / NeighbourAdvertisement(
            target=B, flags="SOLICITED OVERRIDE", options=[TargetLinkAddress("00:00:5e:00:53:02")]
        ),
        IPv6,
    )
    check_vector(
        "60000000 0038 3a ff fe800000000000000000000000000001 ff020000000000000000000000000001"
        "86 00 2e 5b 40 88 07 08 00000000 00000000"
        "03 04 40 c0 00015180 00003840 00000000 20010db8000000000000000000000000 05 01 0000 000005dc",
        IPv6(src="fe80::1", dst="ff02::1", hop_limit=255)
        / RouterAdvertisement(
            lifetime=1800,
            flags="MANAGED PRF0",
            options=[
                PrefixInformation(valid_lifetime=86400, preferred_lifetime=14400, prefix="2001:db8::"),
                LinkMTU(0, 1500),
            ],
        ),
        IPv6,
    )
    check_vector(
        f"60000000 0039 3a 40 {HEX_B} {HEX_A} 02 00 2b e8 00000500"
        f"60000000 0009 11 40 {HEX_A} {HEX_B} 00 01 00 02 00 09 2c 64 78",
        IPv6(src=B, dst=A) / ICMPv6PacketTooBig(mtu=1280) / IPv6(src=A, dst=B) / UDP(sport=1, dport=2) / b"x",
        IPv6,
    )


def test_the_type_chooses_the_class() -> None:
    for number, cls in ((1, ICMPv6Unreachable), (3, ICMPv6TimeExceeded), (129, ICMPv6Echo), (200, ICMPv6)):
        parsed = Packet.parse(bytes(IPv6(next_header=58) / bytes([number, 0, 0, 0, 0, 0, 0, 0])), first=IPv6)
        assert type(parsed.layers[1]) is cls


def test_answers() -> None:
    echo = IPv6(src=A, dst=B) / ICMPv6Echo(id=7, seq=1)
    assert (IPv6(src=B, dst=A) / ICMPv6Echo(type=129, id=7, seq=1)).answers(echo)
    assert not (IPv6(src=B, dst=A) / ICMPv6Echo(type=129, id=7, seq=2)).answers(echo)
    solicitation = IPv6(src=A, dst="ff02::1:ff00:2") / NeighbourSolicitation(target=B)
    assert (IPv6(src=B, dst=A) / NeighbourAdvertisement(target=B)).answers(solicitation)
    assert not (IPv6(src=B, dst=A) / NeighbourAdvertisement(target=A)).answers(solicitation)
    sent = IPv6(src=A, dst=B) / TCP(sport=1, dport=2)
    error = Packet.parse(bytes(IPv6(src=B, dst=A) / ICMPv6Unreachable(code=4) / bytes(sent)), first=IPv6)
    assert error.answers(sent)
    assert not error.answers(IPv6(src=A, dst=B) / TCP(sport=1, dport=3))


def test_options_count_units_of_eight() -> None:
    header = NeighbourSolicitation(options=[UnknownNDOption(253, b"\1\2\3")])
    assert bytes(header)[24:] == bytes.fromhex("fd 01 01 02 03 00 00 00")
    # A length of 0 would loop for ever (RFC 4861 section 4.6: "MUST silently discard").
    assert NDOption.decode(bytes.fromhex("01 00 00 00 00 00 00 00"))[0] == UnparsedOptions(b"\1" + bytes(7))
    assert NDOption.decode(b"\1\2" + bytes(6)) == (UnparsedOptions(b"\1\2" + bytes(6)),)
    with pytest.raises(FieldError, match="too long for an option"):
        bytes(UnknownNDOption(253, bytes(8 * 256)))


def test_options_damaged_at_every_position() -> None:
    message = RouterAdvertisement(options=[LinkMTU(0, 1500), SourceLinkAddress("00:00:5e:00:53:01")])
    octets = bytes(IPv6(src=A, dst=B) / message)
    for at in range(56, len(octets)):
        for value in (0, 1, 2, 3, 5, 255):
            damaged = bytearray(octets)
            damaged[at] = value
            parsed = Packet.parse(bytes(damaged), first=IPv6, strict=True)
            assert isinstance(parsed[RouterAdvertisement].options, tuple)
            assert bytes(parsed) == damaged
            assert eval(repr(parsed[RouterAdvertisement])) == parsed[RouterAdvertisement]
