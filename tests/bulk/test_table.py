"""The C walk over headers finds what `Packet.parse` finds: the same classes at the same offsets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import FIRST_HEADERS, packets, subclasses

from rawkit.bulk.table import END_KINDS, HeaderTable
from rawkit.engine.batch import FrameBatch
from rawkit.engine.dissect import LENGTHS, MAX_LAYERS, ColumnTarget, Dissector
from rawkit.errors import EngineError
from rawkit.wire import TCP, UDP, Ether, Header, IPv4, IPv6, Packet
from rawkit.wire import packet as packet_module
from rawkit.wire.field import (
    LENGTH,
    PAYLOAD_ENDS,
    Rule,
    Size,
    auto,
    ether_type,
    field,
    header_length,
    ip4,
    octets,
    payload_length,
    present,
    size_of,
    total_length,
    u1,
    u2,
    u3,
    u4,
    u5,
    u6,
    u8,
    u13,
    u16,
    u24,
    u48,
    u64,
    upper_number,
)
from rawkit.wire.header import LINKTYPES
from rawkit.wire.registry import load_all

FIRSTS = [cls for cls in FIRST_HEADERS if cls is not None]


def walked(table: HeaderTable, data: bytes, first: type[Header]) -> list[tuple[type[Header], int]]:
    return [
        (table.classes[place.row], place.offset) for place in table.dissector.walk(data, table.row(first))
    ]


def check_same_as_parse(table: HeaderTable, data: bytes, first: type[Header]) -> None:
    parsed = Packet.parse(data, first=first)
    assert walked(table, data, first) == list(zip(map(type, parsed.layers), parsed.offsets))


@st.composite
def damaged_packets(draw: st.DrawFn) -> bytes:
    """Packets of which some octets were changed, with something added or cut off."""
    data = bytearray(bytes(draw(packets(whole=False))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 199), st.integers(0, 255)), max_size=6)):
        data[at % len(data)] = value
    return bytes(data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=8)))


@settings(max_examples=20, deadline=None)
@given(data=st.one_of(packets(whole=False).map(bytes), damaged_packets()))
def test_packets_are_walked_as_they_are_parsed(data: bytes) -> None:
    table = HeaderTable(firsts=FIRSTS)
    for first in FIRSTS:
        check_same_as_parse(table, data, first)


load_all()


@pytest.mark.parametrize("first", subclasses(Header), ids=lambda cls: cls.__name__)
def test_any_octets_are_walked_as_they_are_parsed(first: type[Header]) -> None:
    table = HeaderTable(firsts=[first])

    @settings(max_examples=20, deadline=None)
    @given(data=st.binary(max_size=120))
    def check(data: bytes) -> None:
        check_same_as_parse(table, data, first)

    check()


def test_the_walk_says_where_headers_and_payloads_end() -> None:
    packet = Ether() / IPv4() / UDP() / b"abc"
    table = HeaderTable()
    places = table.dissector.walk(bytes(packet) + bytes(15), table.row(Ether))
    assert [place[1:] for place in places] == [(0, 14, 60), (14, 34, 45), (34, 42, 45)]


def test_the_number_of_layers_is_bounded_as_in_packets() -> None:
    assert MAX_LAYERS == packet_module.MAX_LAYERS
    data = bytes(Packet([IPv4(version=4, protocol=4, total_length=0)] * 70))
    table = HeaderTable()
    assert len(walked(table, data, IPv4)) == MAX_LAYERS
    check_same_as_parse(table, data, IPv4)


def test_the_engine_knows_every_rule_for_a_payload_end() -> None:
    assert END_KINDS.keys() == PAYLOAD_ENDS.keys()


def test_the_engine_knows_the_number_that_stands_for_lengths() -> None:
    assert LENGTHS == LENGTH


def test_raw_ip_goes_by_the_version() -> None:
    table = HeaderTable()
    first = table.first_row(101)
    assert first is not None
    for data, classes in [
        (bytes(IPv4() / UDP()), [IPv4, UDP]),
        (bytes(IPv6() / UDP()), [IPv6, UDP]),
        (b"\x50" + bytes(60), []),
        (b"", []),
    ]:
        assert [table.classes[place.row] for place in table.dissector.walk(data, first)] == classes


def test_every_linktype_has_its_row() -> None:
    table = HeaderTable()
    for linktype, cls in LINKTYPES.items():
        assert table.first_row(linktype) == table.row(cls)
    assert table.first_row(65001) is None


# ---- headers of one's own, with everything that a class can declare ----------------------------------


class Odd(Header):
    """Fields off the octets' borders, a length with a bias and a unit, a discriminator."""

    discriminator = "kind"
    opaque_when = "opaque"
    selected_by = ("second", "first")

    opaque: u3 = 0
    length: u5 = auto(header_length(2, bias=3))
    kind: u8 = 0
    first: u13 = 0
    second: u3 = 0
    tail: octets = b""


class OddQuoting(Odd, variant=(1, 3)):
    quotes = True
    followed_by = Odd
    opaque_when = ""


class OddEnding(Odd, variant=2):
    ends_packet = True


class Total(Header, over={Odd: (5, 6)}):
    total: u24 = auto(total_length)
    next: u16 = auto(upper_number)


class Wide(Header, over={Odd: 4, Total: 1}):
    number: u48 = auto(upper_number)
    length: u64 = auto(payload_length)


class Like8023(Header, over={Odd: 3, Total: 2, Wide: 2**40 + 1}):
    size: u16 = auto(ether_type)


class Fills(Header, over={Odd: 7, Total: 3, Like8023: 0}):
    limit: u8 = auto(total_length)
    rest: octets = b""


class Nothing(Header, over={Odd: 2, Total: 4}):
    """No fields at all."""


class Negative(Header, over={Total: 5, Like8023: 1600}):
    """A length that counts something that is not in the header."""

    hlen: u4 = auto(Rule("header_len + 2", unit=1, bias=-2))
    more: u4 = 0
    rest: octets = b""


class Moving(Header, over={Odd: 9, Total: 6, Like8023: LENGTH}):
    """Fields that may be absent or of any length, and one that takes the rest up to a header length."""

    lengths_below = 4

    hlen: u4 = auto(header_length(4))
    number_there: u1 = auto(present("number"))
    mode: u3 = 0
    names_n: u8 = auto(size_of("names", 2, bias=-1))
    upper: u16 = auto(upper_number)
    number: u24 = field(when="number_there")
    mark: u8 = field(when=("mode", 3))
    names: octets = field(b"", size=Size("names_n", 2, -1))
    address: ip4 = field("0.0.0.0")
    rest: octets = b""


class MovingEnd(Header, over={Moving: (4, LENGTH), Total: 7}):
    """As above, but nothing takes the rest."""

    flag: u8 = auto(present("serial"))
    size: u8 = auto(size_of("tail"))
    upper: u8 = auto(upper_number)
    serial: u16 = field(when="flag")
    tail: octets = field(b"", size=Size("size"))


Moving.register({MovingEnd: 5, Moving: 6})


class Short(Header, over={Odd: 8, MovingEnd: 1}):
    discriminator = "kind"

    kind: u2 = 0
    low: u6 = 0


class ShortOne(Short, variant=1):
    upper: u8 = auto(upper_number)


class ShortLong(ShortOne, at_least=4):
    more: u16 = 0


ShortOne.register({Short: 7})

for lower, number in [(Odd, 1), (Total, 0), (Like8023, 1536), (Nothing, 0)]:
    Odd.register({lower: number})
OWN = [Odd, Total, Wide, Like8023, Fills, Nothing, Negative, Moving, MovingEnd, Short, ShortOne]

# Mostly small numbers, so that lengths fit and registered numbers are met.
small_octets = st.lists(
    st.one_of(st.integers(0, 9), st.sampled_from([0x22, 0x42, 0x82]), st.integers(0, 255)), max_size=40
).map(bytes)


@pytest.mark.parametrize("first", OWN, ids=lambda cls: cls.__name__)
def test_ones_own_headers_are_walked_as_they_are_parsed(first: type[Header]) -> None:
    table = HeaderTable(firsts=OWN)

    @settings(max_examples=40, deadline=None)
    @given(data=small_octets)
    def check(data: bytes) -> None:
        check_same_as_parse(table, data, first)

    check()


def test_each_of_them_is_met_and_left() -> None:
    """What the test above stands on: the small numbers do lead through all of these classes."""
    table = HeaderTable(firsts=OWN)
    chains = [
        (Odd, "00 00 0005 ffff | 000000 0003 | 02 00", [Odd, Total, Fills]),
        (Odd, "20 00 0005 ffff | 000000 0003 | 02 00", [Odd]),  # opaque
        (Odd, "00 00 0010 ffff | 00", [Odd, Nothing]),  # the second selector is asked
        (Odd, "00 00 0005 ffff | 000005 0003 | 02 00", [Odd, Total]),  # an end in front of what follows
        (Odd, "20 01 0005 ffff | 00 00 0005 ffff | 000005 0003 | 02 00", [OddQuoting, Odd, Total, Fills]),
        (Odd, "00 02 0005 ffff | 000000 0003", [OddEnding]),
        (Odd, "00 00 0003 ffff | 0001 | 07", [Odd, Like8023]),
        (Like8023, "0640 | 50 000000 00", [Like8023, Negative]),
        (
            Total,
            "000000 0001 | 010000000001 0000000000000008 | 0600 | 00 00 0005 ffff",
            [Total, Wide, Like8023, Odd],
        ),
        (Total, "000000 0004 | 01", [Total, Nothing]),
        (Moving, "4b 02 0004 | 010203 ee 6161 c0000201 7777 | 00 01 00 61", [Moving, MovingEnd]),
        (Moving, "30 02 0003 | 6161 c0000201 7777 | 01 00 05 0000 | 00", [Moving, MovingEnd]),  # a length
        (MovingEnd, "01 02 05 0007 6262 | 30 02 0000 | 6161 c0000201 7777", [MovingEnd, Moving]),
        (MovingEnd, "01 02 01 0007 6262 | 40 07 0000 | 00 00", [MovingEnd, ShortLong, ShortOne]),
        (MovingEnd, "01 02 01 0007 6262 | 40 07 00", [MovingEnd, ShortOne]),
    ]
    for first, text, classes in chains:
        data = bytes.fromhex(text.replace("|", ""))
        check_same_as_parse(table, data, first)
        assert [cls for cls, _ in walked(table, data, first)] == classes, text


@pytest.fixture
def late() -> Iterator[type[Header]]:
    class Late(Header, over={UDP: 47999}):
        number: u16 = field(0)

    yield Late
    del UDP.uppers[47999], UDP.numbers[Late]


def test_a_class_declared_later_is_in_the_next_table(late: type[Header]) -> None:
    data = bytes(Ether() / IPv6() / UDP(sport=1, dport=47999) / late(number=7))
    assert walked(HeaderTable(), data, Ether)[-1] == (late, 62)


def test_the_walk_ends_behind_a_class_that_decides_in_python() -> None:
    class Decides(Header):
        number: u8 = 0

        def upper_class(self) -> type[Header] | None:
            return TCP

    table = HeaderTable(firsts=[Decides, TCP])
    data = bytes(Decides() / TCP())
    assert [cls for cls, _ in walked(table, data, Decides)] == [Decides]


# ---- what the engine refuses ---------------------------------------------------------------------------


def test_a_table_that_points_outside_itself_is_refused() -> None:
    for headers, numbers in [
        ([{"min_len": 4, "next": 1}], []),
        ([{"min_len": 4, "next": -1, "uppers": 0, "uppers_n": 2}], [(1, 0)]),
        ([{"min_len": 4, "next": -1, "select": [(28, 5)], "select_n": 1}], []),
        ([{"min_len": 4, "next": -1}], [(1, 1)]),
    ]:
        with pytest.raises(EngineError, match="find headers: Invalid argument"):
            Dissector(headers, numbers).walk(b"abcd", 0)


def test_columns_that_do_not_fit_are_refused() -> None:
    batch = FrameBatch(4)
    batch.extend([b"abcdef"] * 3)
    dissector = Dissector([{"min_len": 4, "next": -1, "columns": 0, "columns_n": 1}], wanted=[0])
    values, present = bytearray(6), bytearray(3)
    dissector.extract(batch, 0, [ColumnTarget(values, present, at=8, width=16, item_len=2)])
    assert (memoryview(values).cast("H").tolist(), present) == ([0x6263] * 3, b"\1\1\1")
    with pytest.raises(ValueError, match="fewer than the 3 rows"):
        dissector.extract(batch, 0, [ColumnTarget(bytearray(5), present, at=8, width=16, item_len=2)])
    with pytest.raises(ValueError, match="fewer than the 3 rows"):
        dissector.extract(batch, 0, [ColumnTarget(values, bytearray(2), at=8, width=16, item_len=2)])
    for at, width, item_len in [(24, 16, 2), (8, 16, 1), (8, 0, 2), (8, 24, 3)]:
        with pytest.raises(EngineError, match="extract columns: Invalid argument"):
            dissector.extract(batch, 0, [ColumnTarget(bytearray(9), present, at, width, item_len)])
