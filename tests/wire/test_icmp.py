"""ICMP (RFC 792): echo, errors and the packets that they quote."""

from __future__ import annotations

import pytest
from wire.vectors import check_vector

from rawkit.wire import (
    ICMP,
    TCP,
    UDP,
    Ether,
    Header,
    ICMPEcho,
    ICMPParameterProblem,
    ICMPRedirect,
    ICMPTimeExceeded,
    ICMPUnreachable,
    IPv4,
    Packet,
)  # fmt: skip
from rawkit.wire.icmp import ICMPError

A, B = "192.0.2.1", "192.0.2.2"
PROBE = IPv4(src=A, dst=B, id=1) / UDP(sport=4000, dport=33434) / b"abc"


def test_vectors() -> None:
    # Laid out from RFC 792; sums by scapy 2.
    check_vector(
        "45 00 00 24 00 01 00 00 40 01 f6 d4 c0 00 02 01 c0 00 02 02"
        "08 00 65 f2 00 77 00 01 61 62 63 64 65 66 67 68",
        IPv4(src=A, dst=B, id=1) / ICMPEcho(id=0x77, seq=1) / b"abcdefgh",
        IPv4,
    )
    check_vector(
        "45 00 00 3b 00 02 00 00 40 01 f6 bc c0 00 02 02 c0 00 02 01 03 03 81 1d 00 00 00 00"
        "45 00 00 1f 00 01 00 00 40 11 f6 c9 c0 00 02 01 c0 00 02 02 0f a0 82 9a 00 0b 25 37 61 62 63",
        IPv4(src=B, dst=A, id=2) / ICMPUnreachable(code=3) / PROBE,
        IPv4,
    )


def test_fragmentation_needed_quotes_a_cut_packet() -> None:
    # RFC 1191 section 4: the next hop's MTU in the low half; of the datagram its header and 8 octets.
    octets = bytes.fromhex(
        "45 00 00 38 00 02 00 00 40 01 f6 bf c0 00 02 02 c0 00 02 01 03 04 4e 70 00 00 05 78"
        "45 00 05 dc 00 01 40 00 40 11 b1 0c c0 00 02 01 c0 00 02 02 0f a0 82 9a 05 c8 11 11"
    )
    parsed = Packet.parse(octets, first=IPv4, strict=True)
    assert parsed[ICMPUnreachable].mtu == 1400
    assert [type(layer) for layer in parsed.layers] == [IPv4, ICMPUnreachable, IPv4, UDP]
    assert [(verdict.layer, verdict.state) for verdict in parsed.checksums()] == [
        (IPv4, "good"), (ICMPUnreachable, "good"), (IPv4, "good"), (UDP, "unknown"),
    ]  # fmt: skip
    assert bytes(parsed) == octets
    assert parsed.answers(IPv4(src=A, dst=B) / UDP(sport=4000, dport=33434) / bytes(1472))


@pytest.mark.parametrize(
    ("number", "cls"),
    [(0, ICMPEcho), (8, ICMPEcho), (3, ICMPUnreachable), (5, ICMPRedirect), (11, ICMPTimeExceeded),
     (12, ICMPParameterProblem), (44, ICMP), (255, ICMP)],
)  # fmt: skip
def test_the_type_chooses_the_class(number: int, cls: type[Header]) -> None:
    parsed = Packet.parse(bytes(IPv4(protocol=1) / bytes([number, 0, 0, 0, 1, 2, 3, 4])), first=IPv4)
    assert type(parsed.layers[1]) is cls
    assert parsed[ICMP].type == number  # a variant is found under its base too


def test_echo_reply_answers_its_request() -> None:
    request = IPv4(src=A, dst=B) / ICMPEcho(id=7, seq=1)

    def reply(**fields: int) -> Packet:
        return IPv4(src=B, dst=A) / ICMPEcho(**{"type": 0, "id": 7, "seq": 1, **fields})

    assert reply().answers(request)
    assert (Ether() / reply()).answers(request)
    assert not reply(id=8).answers(request)
    assert not reply(seq=2).answers(request)
    assert not reply(type=8).answers(request)
    assert not (IPv4(src="192.0.2.3", dst=A) / ICMPEcho(type=0, id=7, seq=1)).answers(request)


def test_anybody_answers_a_broadcast() -> None:
    request = IPv4(src=A, dst="255.255.255.255") / ICMPEcho(id=7, seq=1)
    assert (IPv4(src="192.0.2.99", dst=A) / ICMPEcho(type=0, id=7, seq=1)).answers(request)


@pytest.mark.parametrize(
    "error", [ICMPUnreachable(code=3), ICMPTimeExceeded(), ICMPRedirect(), ICMPParameterProblem()]
)
@pytest.mark.parametrize("octets_n", [8, 11, 20, 48, 548])
def test_an_error_answers_what_it_quotes(error: ICMPError, octets_n: int) -> None:
    """RFC 792 promises 8 octets after the header, RFC 1812 section 4.3.2.3 as many as fit 576."""
    for upper in (UDP(sport=4000, dport=33434), TCP(sport=4000, dport=80, seq=7), ICMPEcho(id=4, seq=9)):
        sent = IPv4(src=A, dst=B, ttl=1) / upper / bytes(600)
        reply = Packet.parse(
            bytes(IPv4(src="192.0.2.9", dst=A) / error / bytes(sent)[: 20 + octets_n]), first=IPv4
        )
        assert reply.error is None
        assert reply.answers(sent)
        assert not reply.answers(IPv4(src=A, dst="192.0.2.3") / upper)
        for other in (UDP(sport=4000, dport=33435), TCP(sport=4001, dport=80), ICMPEcho(id=4, seq=10)):
            assert not reply.answers(IPv4(src=A, dst=B, ttl=1) / other / bytes(600))


def test_a_quote_too_short_for_an_address_answers_nothing() -> None:
    reply = Packet.parse(bytes(IPv4(src=B, dst=A) / ICMPTimeExceeded() / bytes(PROBE)[:19]), first=IPv4)
    assert reply.error is None
    assert not reply.answers(PROBE)
    assert reply.payload == bytes(PROBE)[:19]


def test_what_follows_the_quote_belongs_to_the_error() -> None:
    """RFC 4884: the quoted datagram is padded to 128 octets, then extensions follow, checksummed too."""
    extension = bytes.fromhex("2000 dfff 0008 0101 12345101")  # one MPLS label (RFC 4950)
    padding = bytes(128 - len(bytes(PROBE)))
    sent = IPv4(src="192.0.2.9", dst=A) / ICMPTimeExceeded(length=32) / (bytes(PROBE) + padding + extension)
    parsed = Packet.parse(bytes(sent), first=IPv4, strict=True)
    assert parsed[ICMPTimeExceeded].length == 32
    assert parsed.payload == b"abc" + padding + extension
    assert parsed.trailer == b""
    assert parsed.checksums()[1].state == "good"
    assert parsed.answers(PROBE)
    fresh = parsed.replace(ICMPTimeExceeded, checksum=ICMPTimeExceeded().checksum)
    assert bytes(fresh) == bytes(sent)


def test_a_quoted_packet_is_no_answer_by_itself() -> None:
    quoting = IPv4(src=A, dst=B) / ICMPTimeExceeded() / IPv4(src=B, dst=A) / ICMPEcho(type=0, id=7, seq=1)
    assert not quoting.answers(IPv4(src=A, dst=B) / ICMPEcho(id=7, seq=1))
