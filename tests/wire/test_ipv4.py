"""IPv4 (RFC 791): vectors, lying lengths, fragments, options, tunnels."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from wire.vectors import check_vector

from rawkit.errors import FieldError, Malformed, Truncated
from rawkit.wire import TCP, UDP, Ether, IPv4, IPv6, Packet
from rawkit.wire.ipv4 import IPNoOperation, RecordRoute, RouterAlert, UnknownIPv4Option
from rawkit.wire.option import UnparsedOptions

A, B = "192.0.2.1", "192.0.2.2"


def test_published_header_checksum() -> None:
    # The worked example of https://en.wikipedia.org/wiki/Internet_checksum (IPv4 header, sum b861).
    octets = bytes.fromhex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7")
    header = IPv4.parse(octets)
    assert (header.ihl, header.total_length, header.flags, header.ttl, header.protocol) == (
        5,
        115,
        IPv4.DF,
        64,
        17,
    )
    assert (header.src, header.dst) == (IPv4Address("192.168.0.1"), IPv4Address("192.168.0.199"))
    assert bytes(header.replace(checksum=IPv4().checksum)) == octets


def test_options_vector() -> None:
    # Laid out from RFC 791 section 3.1 (record route, no operation); header sum by scapy 2.
    packet = (
        IPv4(src=A, dst=B, id=1, protocol=253, options=[RecordRoute(4, bytes(4)), IPNoOperation()]) / b"x"
    )
    check_vector(
        "47 00 00 1d 00 01 00 00 40 fd e8 d7 c0 00 02 01 c0 00 02 02 07 07 04 00 00 00 00 01 78", packet, IPv4
    )


@pytest.mark.parametrize(
    ("total_length", "payload", "trailer"),
    [(31, b"abc", b""), (30, b"ab", b"c"), (28, b"", b"abc"), (0, b"abc", b""), (1000, b"abc", b"")],
)
def test_total_length_is_a_claim(total_length: int, payload: bytes, trailer: bytes) -> None:
    """0 means "not filled in" (segmentation offload); more than there is means that octets were cut off."""
    octets = bytes(
        IPv4(src=A, dst=B, total_length=total_length, checksum=0) / UDP(length=0, checksum=0) / b"abc"
    )
    parsed = Packet.parse(octets, first=IPv4, strict=True)
    assert (parsed[IPv4].total_length, parsed.payload, parsed.trailer) == (total_length, payload, trailer)
    assert bytes(parsed) == octets
    states = {verdict.layer: verdict.state for verdict in parsed.checksums()}
    assert states[UDP] == ("unknown" if total_length == 1000 else "not filled in")


@pytest.mark.parametrize("total_length", [1, 19])
def test_total_length_below_the_header(total_length: int) -> None:
    octets = bytes(Ether() / IPv4(total_length=total_length) / UDP())
    parsed = Packet.parse(octets)
    assert [type(layer) for layer in parsed.layers] == [Ether]
    assert isinstance(parsed.error, Malformed)
    assert (parsed.error.layer, parsed.error.offset) == ("IPv4", 14)
    assert "total_length" in str(parsed.error)
    assert str(total_length) in str(parsed.error)
    assert parsed.payload == octets[14:]
    with pytest.raises(Malformed, match="total_length"):
        Packet.parse(octets, strict=True)


@pytest.mark.parametrize("ihl", [0, 4, 6, 15])
def test_header_length_is_a_claim(ihl: int) -> None:
    octets = bytes(IPv4(ihl=ihl, total_length=0))
    with pytest.raises(Malformed, match="IPv4.ihl at offset 0"):
        IPv4.parse(octets)


@pytest.mark.parametrize("length", range(20))
def test_too_short(length: int) -> None:
    with pytest.raises(Truncated, match=f"IPv4: need 20 octets at offset 0, have {length}"):
        IPv4.parse(bytes(IPv4())[:length])


def test_only_the_first_fragment_has_the_upper_header() -> None:
    first = Packet.parse(bytes(IPv4(flags="MF") / UDP(sport=1, dport=2) / bytes(16)), first=IPv4)
    later = Packet.parse(bytes(IPv4(fragment_offset=3, protocol=17) / bytes(16)), first=IPv4)
    assert UDP in first
    assert UDP not in later
    assert later.payload == bytes(16)
    assert (first[IPv4].is_fragment, later[IPv4].is_fragment) == (True, True)
    assert [(v.layer, v.state) for v in first.checksums()] == [(IPv4, "good"), (UDP, "unknown")]
    assert not IPv4(flags="DF").is_fragment
    assert later.summary().endswith(": frag 0 offset 24: protocol 17 (UDP), length 16")


def test_options_damaged_at_every_position() -> None:
    packet = IPv4(options=[RouterAlert(7), RecordRoute(4, bytes(8)), IPNoOperation()]) / UDP() / b"x"
    octets = bytearray(bytes(packet))
    start, end = 20, octets[0] % 16 * 4
    for at in range(start, end):
        for value in (0, 1, 2, 3, 7, 40, 255):
            damaged = bytearray(octets)
            damaged[at] = value
            parsed = Packet.parse(bytes(damaged), first=IPv4, strict=True)
            options = parsed[IPv4].options
            # The options say all there is, up to the end of the list.
            shown = b"".join(map(bytes, options[:-1]))
            if options and isinstance(options[-1], UnparsedOptions):
                shown += options[-1].data
            elif options:
                shown += bytes(options[-1])
            rest = damaged[start:end][len(shown) :]
            assert damaged[start:end].startswith(shown)
            assert not rest or rest[0] == 0
            assert bytes(parsed) == damaged
            assert parsed[UDP].dport == 0
            assert eval(repr(parsed[IPv4])) == parsed[IPv4]


def test_options_beyond_the_header_do_not_fit() -> None:
    with pytest.raises(FieldError, match="IPv4: a computed value does not fit"):
        bytes(IPv4(options=bytes(44)))
    assert len(bytes(IPv4(options=bytes(40)))) == 60
    with pytest.raises(FieldError, match="IPv4.options: .* is no IPv4Option"):
        IPv4(options=["router alert"])  # type: ignore[list-item]
    assert UnknownIPv4Option(0x9E, b"ab").data == b"ab"


def test_tunnels() -> None:
    """IPv4 in IPv4 (RFC 2003), IPv6 in IPv4 (RFC 4213), both in IPv6 (RFC 2473)."""
    packet = IPv4() / IPv4() / IPv6() / IPv6() / IPv4() / TCP() / b"x"
    parsed = Packet.parse(bytes(packet), first=IPv4, strict=True)
    assert [type(layer) for layer in parsed.layers] == [IPv4, IPv4, IPv6, IPv6, IPv4, TCP]
    assert [layer.protocol for layer in parsed.layers if isinstance(layer, IPv4)] == [4, 41, 6]
    assert [layer.next_header for layer in parsed.layers if isinstance(layer, IPv6)] == [41, 4]


def test_no_source_is_sent_as_zero() -> None:
    assert bytes(IPv4(dst=B))[12:16] == bytes(4)
    assert IPv4.parse(bytes(IPv4(dst=B))).src == IPv4Address("0.0.0.0")
