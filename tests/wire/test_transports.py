"""Parsing and building are each other's inverse for the protocols of `wire.transports`."""

from __future__ import annotations

import pickle
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from wire.test_identity import check_survives
from wire.transports import FAMILIES, HEADERS, NAMES, OPTIONS, RECORDS, layouts, packets

from rawkit.wire import AUTO, TCP, Header, IPv4, IPv6, Packet, ospf, sctp
from rawkit.wire.layout import Layout
from rawkit.wire.option import Option
from rawkit.wire.record import Record, Records

SCOPE: dict[str, Any] = {
    **NAMES,
    **{cls.__name__: cls for cls in (IPv4Address, IPv4Network, IPv6Address, IPv6Network)},
}


def check_same(found: Layout, made: Layout) -> None:
    """What was parsed is what was made, and computed fields are the only ones that differ."""
    assert type(found) is type(made)
    for row in made.fields:
        value = getattr(made, row.slot)
        if value is not AUTO and (value is not None or not row.spec.when):
            assert getattr(found, row.slot) == value, row.name
    assert eval(repr(found), {"AUTO": AUTO}, SCOPE) == found
    assert eval(repr(made), {"AUTO": AUTO}, SCOPE) == made
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("cls", HEADERS, ids=lambda cls: cls.__name__)
def test_headers_come_back_from_their_octets(cls: type[Header]) -> None:
    first = next(family for family in FAMILIES if issubclass(cls, family))

    @settings(max_examples=30, deadline=None)
    @given(header=layouts(cls))
    def check(header: Header) -> None:
        octets = bytes(header)
        parsed = Packet.parse(octets, first=first, strict=True)
        assert bytes(parsed) == octets
        assert bytes(parsed.layers[0]) == octets
        check_same(parsed.layers[0], header)

    check()


@pytest.mark.parametrize("cls", OPTIONS, ids=lambda cls: cls.__name__)
def test_options_come_back_from_their_octets(cls: type[Option]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(item=layouts(cls))
    def check(item: Option) -> None:
        (found,) = cls.decode(bytes(item))
        check_same(found, item)
        assert bytes(found) == bytes(item)
        assert item.summary().isprintable()

    check()


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_records_come_back_from_their_octets(cls: type[Record]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(item=layouts(cls))
    def check(item: Record) -> None:
        (found,) = Records(cls).decode(bytes(item))
        check_same(found, item)

    check()


@settings(max_examples=20, deadline=None)
@given(packet=packets())
def test_packets_come_back_with_good_checksums(packet: Packet) -> None:
    octets = bytes(packet)
    parsed = Packet.parse(octets, first=type(packet.layers[0]), strict=True)
    assert len(parsed.layers) == 2
    check_same(parsed.layers[1], packet.layers[1])
    absent = getattr(packet.layers[1], "authentication_type", 0) == 2
    assert parsed.checksums()[-1].state == ("not filled in" if absent else "good")
    again = [
        found.replace(**{row.name: AUTO for row in made.fields if getattr(made, row.slot) is AUTO})
        for found, made in zip(parsed.layers, packet.layers)
    ]
    assert bytes(Packet(again, parsed.payload)) == octets


@pytest.mark.parametrize("first", [*FAMILIES, TCP], ids=lambda cls: cls.__name__)
def test_any_octets_parse_and_rebuild(first: type[Header]) -> None:
    @settings(max_examples=20, deadline=None)
    @given(octets=st.binary(max_size=120))
    def check(octets: bytes) -> None:
        check_survives(octets, first)

    check()


@settings(max_examples=20, deadline=None)
@given(
    packet=packets(),
    changes=st.lists(st.tuples(st.integers(20, 199), st.integers(0, 255)), max_size=6),
)
def test_mutated_packets_parse_and_rebuild(packet: Packet, changes: list[tuple[int, int]]) -> None:
    octets = bytearray(bytes(packet))
    for at, value in changes:
        octets[at % len(octets)] = value
    check_survives(bytes(octets), type(packet.layers[0]))


@settings(max_examples=30, deadline=None)
@given(packet=packets())
def test_packets_cut_at_every_length_parse_and_rebuild(packet: Packet) -> None:
    octets = bytes(packet)
    for length in range(len(octets)):
        check_survives(octets[:length], type(packet.layers[0]))


@settings(max_examples=20, deadline=None)
@given(options=st.binary(max_size=40), kind=st.sampled_from([28, 29, 30, 34, 172, 253]))
def test_tcp_options_of_any_octets_rebuild(options: bytes, kind: int) -> None:
    data = (bytes([kind, min(len(options) + 2, 40)]) + options)[:40]
    check_survives(bytes(IPv4() / TCP(options=data + bytes(-len(data) % 4))), IPv4)


@settings(max_examples=20, deadline=None)
@given(packet=packets(sctp.SCTP))
def test_dpkt_reads_sctp(packet: Packet) -> None:
    import dpkt

    (header,) = Packet.parse(bytes(packet.layers[1]), first=sctp.SCTP, strict=True).layers
    chunks = [bytes(chunk) for chunk in header.chunks]  # type: ignore[attr-defined]
    assume(all(len(chunk) % 4 == 0 for chunk in chunks))  # it takes the zeros between chunks for one
    theirs = dpkt.sctp.SCTP(bytes(header))
    assert (theirs.sport, theirs.dport, theirs.vtag, theirs.sum) == (
        header.sport, header.dport, header.tag, header.checksum,  # type: ignore[attr-defined]
    )  # fmt: skip
    assert [(chunk.type, chunk.flags, chunk.len) for chunk in theirs.chunks] == [
        (chunk[0], chunk[1], len(chunk)) for chunk in chunks
    ]


@settings(max_examples=20, deadline=None)
@given(packet=packets(ospf.OSPF))
def test_dpkt_and_scapy_read_ospf(packet: Packet) -> None:
    import dpkt

    scapy_ospf = pytest.importorskip("scapy.contrib.ospf")
    octets = bytes(packet.layers[1])
    (header,) = Packet.parse(octets, first=ospf.OSPF, strict=True).layers
    theirs, its = dpkt.ospf.OSPF(octets), scapy_ospf.OSPF_Hdr(octets)
    for name, in_dpkt, in_scapy in (
        ("version", "v", "version"), ("type", "type", "type"), ("length", "len", "len"),
        ("checksum", "sum", "chksum"), ("authentication_type", "atype", "authtype"),
    ):  # fmt: skip
        value = getattr(header, name)
        assert (getattr(theirs, in_dpkt), getattr(its, in_scapy)) == (value, value), name
    assert (its.src, its.area) == (str(header.router), str(header.area))  # type: ignore[attr-defined]


def test_a_changed_octet_is_noticed() -> None:
    @settings(max_examples=20, deadline=None)
    @given(packet=packets(), place=st.integers(0, 500), bit=st.integers(0, 7))
    def check(packet: Packet, place: int, bit: int) -> None:
        octets = bytearray(bytes(packet))
        start = 20 if isinstance(packet.layers[0], IPv4) else 40
        start = len(bytes(packet.layers[0])) if start == 20 else start
        at = start + place % (len(octets) - start)
        octets[at] ^= 1 << bit
        before = Packet.parse(bytes(packet), first=type(packet.layers[0]))
        parsed = Packet.parse(bytes(octets), first=type(packet.layers[0]))
        if parsed.error or [type(x) for x in parsed.layers] != [type(x) for x in before.layers]:
            return
        verdict, other = parsed.checksums()[-1], before.checksums()[-1]
        if verdict.expected == other.expected == -1 or verdict.state == "unknown":
            return
        uncovered = verdict.expected == other.expected and verdict.found == other.found
        assert uncovered or verdict.state in ("bad", "not filled in")

    check()


def test_all_are_found_by_their_numbers() -> None:
    for number, lower, name in (
        (132, IPv4, "SCTP"), (132, IPv6, "SCTP"), (136, IPv4, "UDPLite"), (136, IPv6, "UDPLite"),
        (33, IPv4, "DCCP"), (33, IPv6, "DCCP"), (89, IPv4, "OSPF"), (89, IPv6, "OSPFv3"),
        (88, IPv4, "EIGRP"), (88, IPv6, "EIGRP"),
    ):  # fmt: skip
        assert lower.uppers[number].__name__ == name
