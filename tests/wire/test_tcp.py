"""TCP (RFC 9293): vectors, options, flags, offsets that lie."""

from __future__ import annotations

import pytest
from wire.vectors import check_vector

from rawkit.errors import FieldError, Malformed
from rawkit.wire import (
    MSS,
    SACK,
    TCP,
    Ether,
    IPv4,
    IPv6,
    NoOperation,
    Packet,
    SACKPermitted,
    Timestamps,
    WindowScale,
)  # fmt: skip
from rawkit.wire.option import UnparsedOptions
from rawkit.wire.tcp import UnknownTCPOption

A, B = "192.0.2.1", "192.0.2.2"
OPTIONS = (MSS(1460), SACKPermitted(), Timestamps(1, 0), NoOperation(), WindowScale(7))
SYN = IPv4(src=A, dst=B, id=0x1234, flags="DF") / TCP(
    sport=40000, dport=80, seq=0x01020304, flags="S", window=64240, options=OPTIONS
)


def test_vectors() -> None:
    # Laid out from RFC 9293 section 3.1, RFC 7323 appendix A, RFC 2018 section 2; sums by scapy 2.
    check_vector(
        "45 00 00 3c 12 34 40 00 40 06 a4 84 c0 00 02 01 c0 00 02 02"
        "9c 40 00 50 01 02 03 04 00 00 00 00 a0 02 fa f0 28 74 00 00"
        "02 04 05 b4 04 02 08 0a 00 00 00 01 00 00 00 00 01 03 03 07",
        SYN,
        IPv4,
    )
    check_vector(
        "60 00 00 00 00 19 06 40 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01"
        "20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 02"
        "00 50 9c 40 00 00 00 07 00 00 00 08 50 18 01 f4 71 ed 00 00 68 65 6c 6c 6f",
        IPv6(src="2001:db8::1", dst="2001:db8::2")
        / TCP(sport=80, dport=40000, seq=7, ack=8, flags="PA", window=500)
        / b"hello",
        IPv6,
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [("S", 2), ("SA", 18), ("S.", 18), (".", 16), ("", 0), ("FIN ACK", 17), ("SYN|ACK", 18), ("fpu", 0x29),
     ("E", 64), ("C", 128), ("AE", 256), ("SYN,ECE,CWR", 0xC2)],
)  # fmt: skip
def test_flags_take_letters(text: str, number: int) -> None:
    assert TCP(flags=text).flags == number
    header = TCP()
    header.flags = text
    assert header.flags == number
    assert bytes(header)[13] == number & 0xFF
    assert bytes(header)[12] & 1 == number >> 8


def test_flag_constants() -> None:
    names = (TCP.FIN, TCP.SYN, TCP.RST, TCP.PSH, TCP.ACK, TCP.URG, TCP.ECE, TCP.CWR, TCP.AE)
    assert names == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    with pytest.raises(FieldError, match="TCP.flags: no flag 'X' in 'SX'; there are FIN SYN"):
        TCP(flags="SX")


@pytest.mark.parametrize(
    ("octets", "options"),
    [
        ("02 04 05 b4", (MSS(1460),)),
        ("05 12 00000001 00000002 00000005 00000009 00 00", (SACK(((1, 2), (5, 9))),)),
        ("01 01 03 03 07 00 00 00", (NoOperation(), NoOperation(), WindowScale(7))),
        ("00 02 04 05", ()),  # octets after the end of the list are no options
        ("02 03 05 00", (UnknownTCPOption(2, b"\5"),)),  # an MSS of the wrong size
        ("fc 04 ab cd", (UnknownTCPOption(252, b"\xab\xcd"),)),
        ("01 02 00 00", (NoOperation(), UnparsedOptions(b"\2\0\0"))),  # length 0
        ("01 02 01 00", (NoOperation(), UnparsedOptions(b"\2\1\0"))),  # length 1
        ("01 02 04 05", (NoOperation(), UnparsedOptions(b"\2\4\5"))),  # longer than the header
        ("01 01 01 02", (NoOperation(),) * 3 + (UnparsedOptions(b"\2"),)),  # no length
    ],
)
def test_options_as_they_come(octets: str, options: tuple[object, ...]) -> None:
    data = bytes.fromhex(octets)
    header = TCP.parse(bytes(TCP(options=data)) + b"payload")
    assert header.options == options
    assert bytes(header)[20:] == data
    assert eval(repr(header)) == header


def test_options_damaged_at_every_position() -> None:
    octets = bytes(SYN / b"data")
    for at in range(40, 60):
        for value in (0, 1, 2, 3, 8, 20, 40, 255):
            damaged = bytearray(octets)
            damaged[at] = value
            parsed = Packet.parse(bytes(damaged), first=IPv4, strict=True)
            assert parsed.payload == b"data"
            assert isinstance(parsed[TCP].options, tuple)
            assert bytes(parsed) == damaged
            assert eval(repr(parsed[TCP])) == parsed[TCP]


@pytest.mark.parametrize("data_offset", [0, 4, 6, 15])
def test_data_offset_is_a_claim(data_offset: int) -> None:
    parsed = Packet.parse(bytes(Ether() / IPv4() / TCP(data_offset=data_offset)))
    assert [type(layer) for layer in parsed.layers] == [Ether, IPv4]
    assert isinstance(parsed.error, Malformed)
    assert (parsed.error.layer, parsed.error.offset) == ("TCP", 34)
    assert f"TCP.data_offset at offset 34: says {data_offset * 4} octets" in str(parsed.error)


def test_options_pad_to_whole_words() -> None:
    assert bytes(TCP(options=[WindowScale(7)]))[20:] == b"\3\3\7\0"
    assert bytes(TCP(options=[WindowScale(7)]))[12] >> 4 == 6
    assert bytes(TCP(options=b"\1"))[20:] == b"\1"  # octets go out as given


@pytest.mark.parametrize("options", [5, MSS(1), None])
def test_options_are_a_sequence(options: object) -> None:
    with pytest.raises(FieldError, match="TCP.options: need a sequence"):
        TCP(options=options)  # type: ignore[arg-type]
    with pytest.raises(FieldError, match="TCP.options: need a sequence"):
        TCP().options = options  # type: ignore[assignment]


def test_sack_blocks_are_pairs() -> None:
    with pytest.raises(FieldError, match="SACK.blocks: need pairs"):
        SACK([1, 2])  # type: ignore[list-item]
    with pytest.raises(FieldError, match="SACK.blocks: need pairs"):
        SACK([(1, 2**32)])


def test_a_reply_to_a_syn_acknowledges_it() -> None:
    def segment(**fields: object) -> Packet:
        return IPv4(src=B, dst=A) / TCP(
            **{"sport": 80, "dport": 40000, "ack": 0x01020305, "flags": "SA", **fields}
        )

    assert segment().answers(SYN)
    assert segment(flags="RA").answers(SYN)
    assert not segment(ack=0x01020304).answers(SYN)
    assert not segment(sport=81).answers(SYN)
    assert not segment(dport=40001).answers(SYN)
    assert not (IPv4(src=A, dst=B) / segment()[TCP]).answers(SYN)
    assert not Packet([IPv4(src=B, dst=A)]).answers(SYN)
