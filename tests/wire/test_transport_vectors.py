"""SCTP, UDP-Lite, DCCP, OSPF, EIGRP and rare TCP options: octets and values, both ways; who answers whom.

The octets of SCTP, OSPF, EIGRP and the TCP segment were built by scapy 2; those of UDP-Lite and DCCP are laid
out from the figures of their RFCs, with sums by scapy's checksum functions.
"""

from __future__ import annotations

from typing import Any

import pytest
from wire.vectors import check_vector

from rawkit.wire import (
    DCCP,
    DSS,
    EIGRP,
    OSPF,
    SCTP,
    TCP,
    AuthenticationOption,
    DCCPAck,
    DCCPData,
    DCCPRequest,
    DCCPReset,
    DCCPResponse,
    FastOpen,
    Header,
    IPv4,
    IPv6,
    OSPFDescription,
    OSPFHello,
    OSPFRequest,
    OSPFUpdate,
    OSPFv3Hello,
    Packet,
    SCTPAbort,
    SCTPCookieEcho,
    SCTPData,
    SCTPInit,
    SCTPInitAck,
    SCTPSelectiveAck,
    UDPLite,
    UserTimeout,
)
from rawkit.wire.dccp import AckVector0, ChangeL
from rawkit.wire.eigrp import EIGRPInternal, EIGRPParameters
from rawkit.wire.mptcp import MPAddAddress, MPCapable, MPCapableACK, MPJoin, UnknownMPTCP
from rawkit.wire.ospf import LSAHeader, LSAKey, NetworkLSA, OSPFAcknowledgement, RouterLink, RouterLSA
from rawkit.wire.sctp import (
    ECNCapable,
    ForwardTSNSupported,
    IPv4Parameter,
    SupportedAddressTypes,
    UnknownSCTPChunk,
)

A, B = "192.0.2.1", "192.0.2.2"


def ip(**fields: Any) -> IPv4:
    return IPv4(**{"src": A, "dst": B, "id": 1, **fields})


VECTORS: dict[str, tuple[str, Packet]] = {
    "sctp init": (
        "45 00 00 4c 00 01 00 00 40 84 f6 29 c0 00 02 01 c0 00 02 02 9c 40 13 c4 00 00 00 00 be dd 2a f4"
        "01 00 00 2c 01 02 03 04 00 01 a0 00 00 0a ff ff 11 22 33 44 00 0c 00 08 00 05 00 06 80 00 00 04"
        "c0 00 00 04 00 05 00 08 c0 00 02 01",
        ip()
        / SCTP(
            sport=40000,
            dport=5060,
            chunks=[
                SCTPInit(
                    tag=0x01020304, window=106496, outgoing=10, incoming=65535, tsn=0x11223344,
                    parameters=[
                        SupportedAddressTypes([5, 6]), ECNCapable(), ForwardTSNSupported(), IPv4Parameter(A)
                    ],
                )
            ],
        ),
    ),
    "sctp sack and data": (
        "45 00 00 50 00 01 00 00 40 84 f6 25 c0 00 02 01 c0 00 02 02 9c 40 13 c4 01 02 03 04 40 9c 31 16"
        "03 00 00 18 00 00 00 07 00 00 10 00 00 01 00 01 00 02 00 03 00 00 00 06 00 03 00 15 00 00 00 09"
        "00 01 00 02 00 00 00 03 61 62 63 64 65 00 00 00",
        ip()
        / SCTP(
            sport=40000,
            dport=5060,
            tag=0x01020304,
            chunks=[
                SCTPSelectiveAck(cumulative_tsn=7, window=4096, gaps=[(2, 3)], duplicates=[6]),
                SCTPData(tsn=9, stream=1, seq=2, protocol=3, data=b"abcde"),
            ],
        ),
    ),
    "sctp cookie echo": (
        "45 00 00 2c 00 01 00 00 40 84 f6 49 c0 00 02 01 c0 00 02 02 00 01 00 02 00 00 00 05 7b 41 35 a8"
        "0a 00 00 0c 31 32 33 34 35 36 37 38",
        ip() / SCTP(sport=1, dport=2, tag=5, chunks=[SCTPCookieEcho(cookie=b"12345678")]),
    ),
    "sctp abort": (
        "45 00 00 24 00 01 00 00 40 84 f6 51 c0 00 02 01 c0 00 02 02 00 01 00 02 00 00 00 05 49 14 35 c8"
        "06 01 00 04",
        ip() / SCTP(sport=1, dport=2, tag=5, chunks=[SCTPAbort("T")]),
    ),
    "udp-lite, the header covered": (
        "45 00 00 21 00 01 00 00 40 88 f6 50 c0 00 02 01 c0 00 02 02 13 88 13 89 00 08 54 4d 76 6f 69 63 65",
        ip() / UDPLite(sport=5000, dport=5001, coverage=8) / b"voice",
    ),
    "udp-lite, two octets covered": (
        "45 00 00 21 00 01 00 00 40 88 f6 50 c0 00 02 01 c0 00 02 02 13 88 13 89 00 0a dd db 76 6f 69 63 65",
        ip() / UDPLite(sport=5000, dport=5001, coverage=10) / b"voice",
    ),
    "udp-lite, all covered": (
        "45 00 00 21 00 01 00 00 40 88 f6 50 c0 00 02 01 c0 00 02 02 13 88 13 89 00 00 0f 82 76 6f 69 63 65",
        ip() / UDPLite(sport=5000, dport=5001) / b"voice",
    ),
    "dccp request": (
        "45 00 00 2c 00 01 00 00 40 21 f6 ac c0 00 02 01 c0 00 02 02 9c 40 13 89 06 00 a3 e6 01 00 00 00"
        "00 00 00 07 00 00 00 05 20 04 01 02",
        ip() / DCCPRequest(sport=40000, dport=5001, seq=7, service=5, options=[ChangeL(1, b"\2")]),
    ),
    "dccp data, the header covered": (
        "45 00 00 2a 00 01 00 00 40 21 f6 ae c0 00 02 01 c0 00 02 02 9c 40 13 89 04 01 c2 f1 05 00 00 00"
        "00 00 00 08 64 61 74 61 21 21",
        ip() / DCCPData(sport=40000, dport=5001, cscov=1, reserved2=0, seq=8) / b"data!!",
    ),
    "dccp ack, short": (
        "45 00 00 28 00 01 00 00 40 21 f6 b0 c0 00 02 01 c0 00 02 02 13 89 9c 40 05 00 da e5 06 00 00 09"
        "00 00 00 08 26 04 c0 01",
        ip()
        / DCCPAck(
            sport=5001, dport=40000, x=0, short_seq=9, short_reserved=0, short_ack=8,
            options=[AckVector0(b"\xc0\1")],
        ),
    ),
    "ospf hello": (
        "45 00 00 44 00 01 00 00 01 59 17 5a c0 00 02 01 e0 00 00 05 02 01 00 30 01 01 01 01 00 00 00 01"
        "72 8f 00 00 00 00 00 00 00 00 00 00 ff ff ff 00 00 0a 02 01 00 00 00 28 c0 00 02 01 c0 00 02 02"
        "02 02 02 02",
        ip(dst="224.0.0.5", ttl=1)
        / OSPFHello(
            router="1.1.1.1", area="0.0.0.1", options="E", designated=A, backup=B, neighbours=["2.2.2.2"]
        ),
    ),
    "ospf database description": (
        "45 00 00 34 00 01 00 00 40 59 f6 6c c0 00 02 01 c0 00 02 02 02 02 00 20 01 01 01 01 00 00 00 00"
        "f3 f3 00 00 00 00 00 00 00 00 00 00 05 dc 02 07 00 00 00 05",
        ip() / OSPFDescription(router="1.1.1.1", flags="I M MS", seq=5),
    ),
    "ospf request": (
        "45 00 00 38 00 01 00 00 40 59 f6 68 c0 00 02 01 c0 00 02 02 02 03 00 24 01 01 01 01 00 00 00 00"
        "f3 cd 00 00 00 00 00 00 00 00 00 00 00 00 00 01 02 02 02 02 02 02 02 02",
        ip() / OSPFRequest(router="1.1.1.1", requests=[LSAKey(1, "2.2.2.2", "2.2.2.2")]),
    ),
    "ospf update": (
        "45 00 00 74 00 01 00 00 40 59 f6 2c c0 00 02 01 c0 00 02 02 02 04 00 60 02 02 02 02 00 00 00 00"
        "fe 8e 00 00 00 00 00 00 00 00 00 00 00 00 00 02 00 01 02 01 02 02 02 02 02 02 02 02 80 00 00 01"
        "ba f5 00 24 01 00 00 01 c0 00 02 01 c0 00 02 02 02 00 00 0a 00 01 02 02 c0 00 02 01 02 02 02 02"
        "80 00 00 01 e1 a0 00 20 ff ff ff 00 01 01 01 01 02 02 02 02",
        ip()
        / OSPFUpdate(
            router="2.2.2.2",
            lsas=[
                RouterLSA(
                    1, "E", id="2.2.2.2", router="2.2.2.2", flags="B", links=[RouterLink(A, B, 2, metric=10)]
                ),
                NetworkLSA(1, "E", id=A, router="2.2.2.2", routers=["1.1.1.1", "2.2.2.2"]),
            ],
        ),
    ),
    "ospfv3 hello": (
        "60 00 00 00 00 28 59 01 fe 80 00 00 00 00 00 00 00 00 00 00 00 00 00 01 ff 02 00 00 00 00 00 00"
        "00 00 00 00 00 00 00 05 03 01 00 28 01 01 01 01 00 00 00 01 f5 78 00 00 00 00 00 05 01 00 00 13"
        "00 0a 00 28 01 01 01 01 00 00 00 00 02 02 02 02",
        IPv6(src="fe80::1", dst="ff02::5", hop_limit=1)
        / OSPFv3Hello(
            router="1.1.1.1", area="0.0.0.1", interface=5, designated="1.1.1.1", neighbours=["2.2.2.2"]
        ),
    ),
    "eigrp": (
        "45 00 00 50 00 01 00 00 02 58 16 4a c0 00 02 01 e0 00 00 0a 02 01 1c 23 00 00 00 01 00 00 00 07"
        "00 00 00 00 00 00 00 64 00 01 00 0c 01 00 01 00 00 00 00 0f 01 02 00 1c c0 00 02 01 00 01 f4 00"
        "00 00 01 00 00 05 dc 01 ff 00 00 00 18 c6 33 64",
        ip(dst="224.0.0.10", ttl=2)
        / EIGRP(
            opcode=1, flags="INIT", seq=7, asn=100,
            tlvs=[
                EIGRPParameters(),
                EIGRPInternal(A, 128000, 256, hops=1, load=0, destinations=["198.51.100.0/24"]),
            ],
        ),
    ),
    "tcp options": (
        "45 00 00 48 00 01 00 00 40 06 f6 ab c0 00 02 01 c0 00 02 02 00 01 00 02 00 00 00 01 00 00 00 00"
        "d0 02 00 64 58 b0 00 00 22 0a 01 02 03 04 05 06 07 08 1c 04 80 05 1d 10 01 02 61 62 63 64 65 66"
        "67 68 69 6a 6b 6c 00 00",
        ip()
        / TCP(
            sport=1, dport=2, seq=1, window=100,
            options=[
                FastOpen(bytes(range(1, 9))), UserTimeout(1, 5), AuthenticationOption(1, 2, b"abcdefghijkl")
            ],
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    text, packet = VECTORS[name]
    parsed = check_vector(text, packet, type(packet.layers[0]))
    assert {verdict.state for verdict in parsed.checksums()} == {"good"}


@pytest.mark.parametrize(
    ("octets", "option"),
    [  # laid out from the figures of RFC 8684 section 3
        ("1e 04 01 81", MPCapable(flags="A H")),
        ("1e 14 01 01 0000000000000001 0000000000000002", MPCapableACK(0, 1, "H", 1, 2)),
        ("1e 0c 11 05 0000abcd 00001234", MPJoin(backup=1, address_id=5, token=0xABCD, nonce=0x1234)),
        (
            "1e 12 20 05 00000007 00000009 00000001 0064",
            DSS(ack_form=1, ack=7, dsn=9, subflow_seq=1, data_len=100),
        ),
        ("1e 08 31 03 c0000201", MPAddAddress(echo=1, address_id=3, address=A)),
        ("1e 04 f0 00", UnknownMPTCP(15, 0, b"\0")),
        ("1e 05 01 81 00", UnknownMPTCP(0, 1, b"\x81\0")),  # no shape of MP_CAPABLE is that long
    ],
)  # fmt: skip
def test_mptcp(octets: str, option: Any) -> None:
    data = bytes.fromhex(octets)
    assert bytes(option) == data
    (found,) = type(option).decode(data)
    assert found == option


def test_chunks_too_short_or_unknown_are_kept() -> None:
    octets = bytes(12) + bytes.fromhex("01 00 00 06 00 00 00 00  7f 05 00 05 aa 00 00 00  00 03 00 03")
    header = SCTP.parse(octets)
    assert header.chunks[:2] == (UnknownSCTPChunk(1, 0, b"\0\0"), UnknownSCTPChunk(0x7F, 5, b"\xaa"))
    assert bytes(header) == octets


def test_coverage_that_is_impossible_is_bad() -> None:
    """Datagrams of such a coverage are discarded (RFC 3828 section 3.1, RFC 4340 section 9.2)."""
    for coverage, state in ((7, "bad"), (8, "good"), (13, "good"), (14, "bad")):
        sent = ip() / UDPLite(sport=1, dport=2, coverage=coverage) / b"voice"
        assert Packet.parse(bytes(sent), first=IPv4).checksums()[-1].state == state
    for cscov, state in ((2, "good"), (3, "bad")):
        sent = ip() / DCCPData(seq=1, cscov=cscov) / b"data!!"
        assert Packet.parse(bytes(sent), first=IPv4).checksums()[-1].state == state


def test_octets_outside_the_coverage_may_change() -> None:
    octets = bytearray(bytes(ip() / UDPLite(sport=1, dport=2, coverage=10) / b"voice"))
    octets[-1] ^= 0xFF
    assert Packet.parse(bytes(octets), first=IPv4).checksums()[-1].state == "good"
    octets[-4] ^= 0xFF
    assert Packet.parse(bytes(octets), first=IPv4).checksums()[-1].state == "bad"


def test_ospf_digest_stands_for_the_checksum() -> None:
    """With a digest the checksum is 0, and the digest is not in the length (RFC 2328 section D.4.3)."""
    hello = OSPFHello(authentication_type=2, authentication=bytes.fromhex("0000 01 10 00000007"))
    octets = bytes(ip(total_length=80) / hello) + bytes(range(16))
    parsed = Packet.parse(octets, first=IPv4, strict=True)
    assert (parsed[OSPF].length, parsed[OSPF].checksum, parsed.trailer) == (44, 0, bytes(range(16)))
    assert parsed.checksums()[-1].state == "not filled in"
    password = ip() / OSPFHello(authentication_type=1, authentication=b"secret!!")
    other = ip() / OSPFHello(authentication_type=1, authentication=b"another!")
    assert bytes(password)[32:34] == bytes(other)[32:34], "the password is not covered"


def test_sctp_answers() -> None:
    init = ip() / SCTP(sport=1, dport=2, chunks=[SCTPInit(tag=77)])

    def reply(tag: int, chunk: Any, **ports: int) -> Packet:
        return IPv4(src=B, dst=A) / SCTP(**{"sport": 2, "dport": 1, "tag": tag, "chunks": [chunk], **ports})

    assert reply(77, SCTPInitAck(tag=5)).answers(init)
    assert reply(77, SCTPAbort()).answers(init)
    assert reply(0, SCTPAbort("T")).answers(init)
    assert not reply(76, SCTPInitAck(tag=5)).answers(init)
    assert not reply(77, SCTPData()).answers(init)
    assert not reply(77, SCTPInitAck(), sport=3).answers(init)


def test_dccp_answers() -> None:
    request = ip() / DCCPRequest(sport=1, dport=2, seq=2**40)
    for header, expected in (
        (DCCPResponse(sport=2, dport=1, ack=2**40), True),
        (DCCPReset(sport=2, dport=1, ack=2**40, code=3), True),
        (DCCPResponse(sport=2, dport=1, ack=1), False),
        (DCCPData(sport=2, dport=1), False),
        (DCCPResponse(sport=2, dport=3, ack=2**40), False),
    ):
        assert (IPv4(src=B, dst=A) / header).answers(request) == expected


def test_ospf_and_eigrp_answers() -> None:
    lsa = RouterLSA(id="2.2.2.2", router="2.2.2.2")
    update = OSPFUpdate(lsas=[lsa])
    assert update.answers(OSPFRequest(requests=[LSAKey(1, "2.2.2.2", "2.2.2.2")]))
    assert not update.answers(OSPFRequest(requests=[LSAKey(1, "2.2.2.3", "2.2.2.2")]))
    named = LSAHeader(id="2.2.2.2", router="2.2.2.2")
    assert OSPFAcknowledgement(lsas=[named]).answers(update)
    assert not OSPFAcknowledgement(lsas=[named.replace(seq=1)]).answers(update)
    assert EIGRP(ack=7).answers(EIGRP(opcode=1, seq=7))
    assert not EIGRP(ack=6).answers(EIGRP(opcode=1, seq=7))
    assert not EIGRP().answers(EIGRP(opcode=5))


def test_reserved_dccp_types_are_read_as_far_as_they_are_known() -> None:
    header = Packet.parse(bytes(ip() / DCCP(type=12, sport=5)), first=IPv4)[DCCP]
    assert (type(header), header.sport, header.type) == (DCCP, 5, 12)
    assert isinstance(header, Header)
