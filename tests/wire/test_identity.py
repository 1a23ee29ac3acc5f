"""Parsing and building are each other's inverse, on values and on octets, damaged ones included."""

from __future__ import annotations

import pickle
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import FIRST_HEADERS, HEADERS, OPTIONS, any_layout, option, packets, subclasses

from rawkit.errors import HeaderError
from rawkit.wire import AUTO, Header, Packet
from rawkit.wire.option import Option, UnparsedOptions
from rawkit.wire.record import Record

NAMES = {
    cls.__name__: cls
    for cls in [*HEADERS, *OPTIONS, *subclasses(Record), UnparsedOptions, IPv4Address, IPv6Address]
}


def first_of(packet: Packet) -> type[Header]:
    # Octets are parsed from the class that lower headers know, which chooses the variant.
    cls = type(packet.layers[0])
    return next(base for base in reversed(cls.__mro__) if base in FIRST_HEADERS and base is not None)


def check_survives(octets: bytes, first: type[Header] | None) -> None:
    """Any octets parse without raising, give themselves back, and can be shown without hostile characters."""
    packet = Packet.parse(octets, first=first)
    assert bytes(packet) == octets
    for text in (packet.summary(), packet.show(), packet.hexdump(), repr(packet)):
        assert all(line.isprintable() for line in text.split("\n"))
    assert "\n" not in packet.summary()
    packet.to_dict()
    for verdict in packet.checksums():
        assert verdict.state in ("good", "bad", "not filled in", "unknown")
    raised: HeaderError | None = None
    try:
        strict = Packet.parse(octets, first=first, strict=True)
    except HeaderError as error:
        raised = error
    if raised is None:
        assert packet.error is None
        assert strict == packet
    else:
        assert packet.error is not None
        assert (str(packet.error), packet.error.layer) == (str(raised), raised.layer)
        assert 0 <= packet.error.offset == raised.offset <= len(octets)


@pytest.mark.parametrize("first", FIRST_HEADERS, ids=lambda cls: cls.__name__ if cls else "None")
def test_any_octets_parse_and_rebuild(first: type[Header] | None) -> None:
    @settings(max_examples=30, deadline=None)
    @given(octets=st.binary(max_size=120))
    def check(octets: bytes) -> None:
        check_survives(octets, first)

    check()


@settings(max_examples=20, deadline=None)
@given(
    packet=packets(whole=False),
    changes=st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=6),
)
def test_mutated_packets_parse_and_rebuild(packet: Packet, changes: list[tuple[int, int]]) -> None:
    octets = bytearray(bytes(packet))
    for at, value in changes:
        octets[at % len(octets)] = value
    check_survives(bytes(octets), first_of(packet))


@settings(max_examples=30, deadline=None)
@given(packet=packets(whole=False))
def test_packets_cut_at_every_length_parse_and_rebuild(packet: Packet) -> None:
    octets, first = bytes(packet), first_of(packet)
    for length in range(len(octets)):
        check_survives(octets[:length], first)


@pytest.mark.parametrize("cls", HEADERS, ids=lambda cls: cls.__name__)
def test_headers_come_back_from_their_octets(cls: type[Header]) -> None:
    first = next(c for c in reversed(cls.__mro__) if issubclass(c, Header) and c is not Header)

    @settings(max_examples=30, deadline=None)
    @given(header=any_layout(cls))
    def check(header: Header) -> None:
        octets = bytes(header)
        (parsed,) = Packet.parse(octets, first=first if first.discriminator else cls).layers
        assert type(parsed) is cls
        for row in cls.fields:
            given_value, found = getattr(header, row.slot), getattr(parsed, row.slot)
            if given_value is not AUTO:
                assert found == given_value, row.name
        assert bytes(parsed) == octets
        assert pickle.loads(pickle.dumps(header)) == header
        assert header.replace() == header
        assert eval(repr(header), {"AUTO": AUTO}, NAMES) == header
        assert eval(repr(parsed), {"AUTO": AUTO}, NAMES) == parsed

    check()


@pytest.mark.parametrize("cls", OPTIONS, ids=lambda cls: cls.__name__)
def test_options_come_back_from_their_octets(cls: type[Option]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(item=option(cls))
    def check(item: Option) -> None:
        assert cls.decode(bytes(item)) == (item,)
        assert eval(repr(item), NAMES) == item

    check()


@settings(max_examples=20, deadline=None)
@given(packet=packets())
def test_packets_come_back_from_their_octets(packet: Packet) -> None:
    octets = bytes(packet)
    parsed = Packet.parse(octets, first=first_of(packet))
    for sent, found in zip(packet.layers, parsed.layers):
        assert type(found) is type(sent)
        for row in sent.fields:
            value = getattr(sent, row.slot)
            if value is not AUTO:
                assert getattr(found, row.slot) == value
    assert bytes(packet) == octets, "building wrote something back"
    # Putting AUTO back where the packet had it computes the same octets once more.
    again = Packet(
        [
            found.replace(**{row.name: AUTO for row in sent.fields if getattr(sent, row.slot) is AUTO})
            for sent, found in zip(packet.layers, parsed.layers)
        ],
        octets[sum(len(part) for part in packet._headers()) :],
    )
    assert bytes(again) == octets
