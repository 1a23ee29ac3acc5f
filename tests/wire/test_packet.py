"""Packets: building what is left open, parsing lazily, damage, verdicts, copies."""

from __future__ import annotations

import copy
import mmap
import pickle

import pytest

from rawkit.errors import HeaderError, Malformed, Truncated
from rawkit.wire import AUTO, MSS, TCP, UDP, Dot1Q, Ether, Frame, ICMPEcho, IPv4, IPv6, Packet
from rawkit.wire.packet import MAX_LAYERS

A, B = "192.0.2.1", "192.0.2.2"
PACKET = Ether() / IPv4(src=A, dst=B) / TCP(sport=40000, dport=80, options=[MSS(1460)]) / b"data"


def test_computed_fields() -> None:
    parsed = Packet.parse(bytes(PACKET), strict=True)
    assert (parsed[Ether].ethertype, parsed[IPv4].protocol) == (0x0800, 6)
    assert (parsed[IPv4].ihl, parsed[IPv4].total_length, parsed[TCP].data_offset) == (5, 48, 6)
    assert [verdict.state for verdict in parsed.checksums()] == ["good", "good"]


def test_given_values_go_out_as_they_are() -> None:
    """Wrong ones included: a packet tool must be able to lie."""
    lies = (
        Ether(ethertype=0x1234)
        / IPv4(version=7, ihl=0, total_length=3, protocol=0, checksum=0xDEAD, src=A, dst=B)
        / UDP(sport=0, dport=0, length=1, checksum=0)
    )
    octets = bytes(lies)
    assert octets[12:14] == b"\x12\x34"
    assert octets[14] == 0x70
    assert octets[16:18] == b"\0\3"
    assert octets[23] == 0
    assert octets[24:26] == b"\xde\xad"
    assert octets[34:] == bytes.fromhex("0000 0000 0001 0000")


def test_building_writes_nothing_back() -> None:
    packet = Ether() / IPv4(dst=B) / UDP(sport=1, dport=2) / b"x"
    before = copy.deepcopy(packet)
    first = bytes(packet)
    assert packet == before
    assert packet[UDP].length is AUTO
    assert packet[IPv4].checksum is AUTO
    packet[UDP].dport = 3
    assert bytes(packet) != first
    packet[UDP].dport = 2
    assert bytes(packet) == first


def test_a_parsed_packet_keeps_wrong_sums_until_asked() -> None:
    octets = bytearray(bytes(PACKET))
    octets[50] ^= 0xFF  # the TCP checksum
    parsed = Packet.parse(bytes(octets))
    assert bytes(parsed) == octets
    assert parsed.checksums()[1].state == "bad"
    mended = parsed.replace(TCP, checksum=AUTO)
    assert bytes(mended) == bytes(PACKET)
    changed = parsed.replace(TCP, dport=81, checksum=AUTO)
    assert [verdict.state for verdict in changed.checksums()] == ["good", "good"]
    assert bytes(parsed) == octets, "replace() leaves the packet alone"


def test_the_next_header_is_parsed_when_asked_for() -> None:
    damaged = bytearray(bytes(PACKET))
    damaged[46] = 0x10  # a TCP data offset below the header
    parsed = Packet.parse(bytes(damaged))
    assert parsed[IPv4].ttl == 64
    assert len(parsed._layers) == 2
    assert parsed.get(TCP) is None
    assert TCP not in parsed
    assert isinstance(parsed.error, Malformed)
    assert (parsed.error.layer, parsed.error.offset) == ("TCP", 34)
    assert parsed.payload == bytes(damaged[34:])
    assert parsed[IPv4].src.packed == bytes([192, 0, 2, 1])
    assert parsed.layers[1] is parsed[IPv4]
    with pytest.raises(KeyError, match="no TCP in this packet \\(Ether/IPv4\\)"):
        parsed[TCP]
    with pytest.raises(Malformed):
        Packet.parse(bytes(damaged), strict=True)


def test_every_cut_is_located() -> None:
    octets = bytes(PACKET)
    for length in range(len(octets)):
        error = Packet.parse(octets[:length]).error
        expected = (
            "Ether" if length < 14 else "IPv4" if 14 < length < 34 else "TCP" if 34 < length < 58 else None
        )
        assert (error.layer if error else None) == expected, length
        if error is not None:
            assert error.offset == {"Ether": 0, "IPv4": 14, "TCP": 34}[error.layer]
            assert isinstance(error, HeaderError)
            if length < 54:
                assert isinstance(error, Truncated)
                assert f"have {length - error.offset}" in str(error)


def test_nesting_is_bounded() -> None:
    """1000 IP headers in one another are no reason to use 1000 layers of anything."""
    inner = b"x"
    for _ in range(1000):
        inner = bytes(IPv6(payload_length=len(inner), next_header=41)) + inner
    parsed = Packet.parse(inner, first=IPv6, strict=True)
    assert len(parsed.layers) == MAX_LAYERS
    assert all(isinstance(layer, IPv6) for layer in parsed.layers)
    assert len(parsed.payload) == len(inner) - 40 * MAX_LAYERS
    assert bytes(parsed) == inner
    assert len(parsed.summary()) < 4000
    tags = Ether() / Packet([Dot1Q(vid=i % 4096) for i in range(1000)])
    assert len(Packet.parse(bytes(tags)).layers) == MAX_LAYERS


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_any_buffer(buffer: type) -> None:
    parsed = Packet.parse(buffer(bytes(PACKET)), strict=True)
    assert bytes(parsed) == bytes(PACKET)
    assert (parsed.payload, parsed[TCP].options) == (b"data", (MSS(1460),))
    assert type(parsed.payload) is bytes


def test_mapped_memory() -> None:
    with mmap.mmap(-1, 100) as memory:
        memory[:] = bytes(PACKET).ljust(100, b"\0")
        parsed = Packet.parse(memory)
        assert parsed.payload == b"data"
        assert len(parsed.trailer) == 100 - len(bytes(PACKET))


def test_stacking() -> None:
    assert bytes(IPv4(dst=B) / UDP() / b"a" / b"b") == bytes(IPv4(dst=B) / UDP() / b"ab")
    assert (IPv4() / (UDP() / b"x")).payload == b"x"
    assert bytes(Packet([UDP()], b"x")) == bytes(UDP() / b"x")
    assert (UDP() / bytearray(b"x")).payload == b"x"
    with pytest.raises(TypeError, match="a header cannot follow a payload"):
        _ = IPv4() / b"x" / UDP()
    for other in (5, "text", None, [1]):
        with pytest.raises(TypeError, match="a packet is made of headers and octets"):
            _ = IPv4() / other  # type: ignore[operator]


def test_stacking_shares_headers_and_copies_lists() -> None:
    udp = UDP(sport=1)
    first, second = IPv4() / udp, IPv6() / udp
    udp.sport = 7
    assert first[UDP].sport == second[UDP].sport == 7
    assert len(first.layers) == 2


def test_copies() -> None:
    padded = Packet.parse(bytes(Ether() / IPv4(dst=B) / UDP() / b"x") + bytes(17))
    for packet in (PACKET, Packet.parse(bytes(PACKET)), padded):
        for copied in (pickle.loads(pickle.dumps(packet)), copy.copy(packet), copy.deepcopy(packet)):
            assert copied == packet
            assert bytes(copied) == bytes(packet)
            assert copied.trailer == packet.trailer
    deep = copy.deepcopy(PACKET)
    deep[TCP].dport = 1
    assert PACKET[TCP].dport == 80
    assert pickle.loads(pickle.dumps(AUTO)) is AUTO
    assert copy.deepcopy(AUTO) is AUTO


def test_equality() -> None:
    assert Packet.parse(bytes(PACKET)) == Packet.parse(bytes(PACKET))
    assert Packet.parse(bytes(PACKET)) != Packet.parse(bytes(PACKET) + b"\0")
    assert IPv4() / UDP() / b"a" != IPv4() / UDP() / b"b"
    assert (IPv4() / UDP()) != "a packet"


def test_repr_is_source() -> None:
    assert eval(repr(PACKET)) == PACKET
    parsed = Packet.parse(bytes(PACKET))
    assert eval(repr(parsed)) == parsed
    assert repr(Packet()) == "Packet()"
    assert repr(UDP() / bytes(100)).endswith("...(100 octets)")


def test_nothing_known() -> None:
    packet = Packet.parse(b"\1\2\3", first=None, strict=True)
    assert (packet.layers, packet.payload, packet.error, bytes(packet)) == ((), b"\1\2\3", None, b"\1\2\3")
    assert packet.summary() == "no header known, length 3"
    assert Packet.parse(b"").error is not None


def test_offsets() -> None:
    assert Packet.parse(bytes(PACKET)).offsets == (0, 14, 34)
    assert PACKET.offsets == (0, 14, 34), "as it is built"
    assert Packet().offsets == ()


def test_checksums_need_their_octets() -> None:
    octets = bytes(PACKET)
    assert [v.state for v in Packet.parse(octets[:-1]).checksums()] == ["good", "unknown"]
    assert [v.state for v in Packet.parse(octets[34:], first=TCP).checksums()] == ["unknown"]
    assert Packet.parse(octets[:20]).checksums() == []


def test_one_s_complement_has_two_zeros() -> None:
    """A checksum of 0xFFFF where 0 is right is the same number (RFC 1624 section 3)."""
    header = IPv4.parse(bytes(IPv4(src=A, dst=B)))
    zero = header.replace(id=header.checksum + header.id, checksum=AUTO)
    assert IPv4.parse(bytes(zero)).checksum == 0
    for checksum in (0, 0xFFFF):
        assert Packet([zero.replace(checksum=checksum)]).checksums()[0].state == "good"


def test_frames_know_what_the_kernel_said() -> None:
    wrong = bytes(PACKET.replace(TCP, checksum=0x1234))
    assert [v.state for v in Frame(wrong).checksums()] == ["good", "bad"]
    assert [v.state for v in Frame(wrong, checksum="not ready").checksums()] == ["good", "not filled in"]


@pytest.mark.parametrize(
    ("linktype", "octets", "layers"),
    [
        (1, bytes(Ether() / IPv4() / UDP()), [Ether, IPv4, UDP]),
        (228, bytes(IPv4() / UDP()), [IPv4, UDP]),
        (229, bytes(IPv6() / UDP()), [IPv6, UDP]),
        (101, bytes(IPv4() / ICMPEcho()), [IPv4, ICMPEcho]),
        (101, bytes(IPv6() / UDP()), [IPv6, UDP]),
        (101, b"\x10", []),
        (101, b"", []),
        (147, b"anything", []),
    ],
)
def test_link_types(linktype: int, octets: bytes, layers: list[type]) -> None:
    assert [type(layer) for layer in Frame(octets, linktype=linktype).packet(strict=True).layers] == layers
