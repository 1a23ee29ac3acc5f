"""The compiled module that keeps headers' values does what the functions generated in Python do."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import HEADERS, OPTIONS, any_layout, packets, subclasses

from rawkit.errors import FieldError, HeaderError
from rawkit.wire import AUTO, MSS, TCP, UDP, Ether, Header, ICMPv6Echo, IPv4, IPv6, Packet, storage
from rawkit.wire.field import (
    Rule,
    auto,
    crc32c,
    ether_type,
    field,
    flags4,
    header_length,
    inet_checksum,
    ip4,
    octets,
    octets8,
    pairs32,
    payload_length,
    total_length,
    u3,
    u4,
    u8,
    u13,
    u16,
    u32,
    u48,
    u64,
)
from rawkit.wire.generate import reference
from rawkit.wire.layout import Layout
from rawkit.wire.record import Record

if storage.build is None:
    pytest.skip("rawkit._fields is not there", allow_module_level=True)
from rawkit import _fields


class Fills(Header):
    """All that the length claims is the header."""

    flags: flags4 = field("A", bits="A B C")
    code: u4
    limit: u8 = auto(total_length)
    crc: u32 = auto(crc32c)
    rest: octets = b""


class Counts(Header):
    """A length that counts something that is not in the header."""

    hlen: u8 = auto(Rule("header_len + 2", unit=1, bias=-2))
    more: u8 = 5
    rest: octets = b""


class Odd(Header):
    """Numbers that cross octets, a sum with 1 in the place of 0, a length after all of it."""

    a: u3 = 0
    b: u48 = 1
    c: u13 = auto(header_length(2, 1))
    d: u64 = auto(payload_length)
    sum: u16 = auto(inet_checksum, zero=1)
    src: ip4 = AUTO
    rest: pairs32 = ()


class Ends(Header):
    """Nothing follows."""

    ends_packet = True

    size: u16 = auto(ether_type)
    key: octets8 = bytes(8)


ODD = [Fills, Counts, Odd, Ends]
KEPT: list[Any] = [c for c in (*HEADERS, *OPTIONS, *subclasses(Record), *ODD) if c._table is not None]

EXAMPLES = 3 if os.environ.get("RAWKIT_SLOW", "") in ("", "0") else 200
"""A class; four fifths of the time go into making them."""

anything = st.one_of(
    st.integers(-2, 300),
    st.integers(0, 2**65),
    st.booleans(),
    st.sampled_from(
        [AUTO, None, "", "S", "10.0.0.1", "::1", "nonsense", 1.5, [], (), [5], [MSS(1)], b"", b"\1\2"]
    ),
    st.binary(max_size=20),
    st.binary(max_size=20).map(bytearray),
)


def contents(header: Any) -> list[Any]:
    """What is kept, with its types."""
    return [(type(value), value) for value in (getattr(header, row.slot) for row in header.fields)]


def outcome(function: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """What a function gives, or what it raises."""
    try:
        result = function(*values, **named)
    except (FieldError, HeaderError, TypeError, ValueError, OverflowError, AttributeError) as error:
        return type(error), str(error), getattr(error, "offset", None)
    if isinstance(result, Layout):
        return contents(result)
    return (contents(result[0]), *result[1:]) if isinstance(result, tuple) else result


def made_by_reference(cls: Any, *values: Any, **named: Any) -> Any:
    header = storage.blank(cls)
    reference(cls, "__init__")(header, *values, **named)
    return header


def test_the_common_headers_are_kept() -> None:
    assert {*ODD, Ether, IPv4, IPv6, TCP, UDP, ICMPv6Echo, MSS} <= {*KEPT}


@pytest.mark.parametrize("cls", KEPT, ids=lambda cls: cls.__name__)
def test_one_class(cls: Any) -> None:
    """Made of good and of wrong values, packed, parsed whole and cut off, as the reference does it."""
    names = [row.name for row in cls.fields]
    upper = [None, TCP, UDP, ICMPv6Echo, IPv6]
    outer = [None, IPv4(dst="10.0.0.1"), IPv6(dst="::1"), Ether()]

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        header = data.draw(any_layout(cls))
        given_values = {row.name: getattr(header, row.slot) for row in cls.fields}
        wrong = data.draw(st.dictionaries(st.sampled_from([*names, "nowhere"]), anything, max_size=2))
        for values in (given_values, {**given_values, **wrong}, wrong):
            assert outcome(cls, **values) == outcome(made_by_reference, cls, **values)
        if cls._positional:
            values = list(given_values.values())
            assert outcome(cls, *values) == outcome(made_by_reference, cls, *values)

        payload = data.draw(st.binary(max_size=30))
        arguments = payload, data.draw(st.sampled_from(outer)), data.draw(st.sampled_from(upper))
        packed = header._pack(*arguments)
        assert packed == reference(cls, "_pack")(header, *arguments)
        wild = data.draw(st.binary(max_size=80))
        for any_octets in (wild, packed[: len(wild)] + wild, packed + wild):
            ends = 0, len(any_octets)
            assert outcome(cls._table.parse, any_octets, *ends) == outcome(
                reference(cls, "_parse"), any_octets, *ends
            )
        before = data.draw(st.binary(max_size=3))
        buf = before + packed + arguments[0]
        for end in range(len(buf), len(before) - 1, -1):
            found = outcome(cls._table.parse, buf, len(before), end)
            assert found == outcome(reference(cls, "_parse"), buf, len(before), end)
        assert outcome(cls._table.parse, bytearray(buf), len(before), len(buf)) == outcome(
            cls._table.parse, buf, len(before), len(buf)
        )

        parsed = cls._table.parse(buf, len(before), len(buf))[0]
        for name, value in wrong.items():
            for one in (header, parsed):
                if name in names and outcome(setattr, one, name, value) is None:
                    found = outcome(one._pack, *arguments)
                    assert found == outcome(reference(cls, "_pack"), one, *arguments)

    check()


@settings(max_examples=20, deadline=None)
@given(packet=packets(whole=False), trailer=st.binary(max_size=4))
def test_packets_are_built_as_header_by_header(packet: Packet, trailer: bytes) -> None:
    for one in (Ether() / packet, Packet.parse(bytes(Ether() / packet) + trailer)):
        assert bytes(one) == b"".join(one._headers()) + one.payload + one.trailer


@settings(max_examples=20, deadline=None)
@given(octets=st.binary(max_size=90))
def test_parsed_and_changed_here_and_there(octets: bytes) -> None:
    """Values come from the octets where none was set."""
    packet = Packet.parse(octets, IPv4)
    for header in packet.layers[:1]:
        header.ttl = 7
        assert bytes(packet) == octets[:8] + b"\7" + octets[9:]
        header.ttl = octets[8]
        assert bytes(packet) == octets
        header.checksum = AUTO
        assert (
            IPv4.parse(bytes(packet)).checksum
            == header.replace()._pack(b"", None, None)[10] * 256 + (header._pack(b"", None, None)[11])
        )


def test_a_class_is_packed_by_its_own_table() -> None:
    class Slow(Header):
        number: u8 = auto(lambda header, payload: 7)

    class Longer(Slow):
        more: u8 = 1

    class Fast(Longer):
        number: u8 = 0

    assert [bytes(cls()) for cls in (Slow, Longer, Fast, Slow, Longer, Fast)] == [
        b"\7", b"\7\1", b"\0\1", b"\7", b"\7\1", b"\0\1"
    ]  # fmt: skip


# ---- what must not do harm -----------------------------------------------------------------------------


def test_a_blank_header_has_no_values() -> None:
    header = storage.blank(TCP)
    for name in ("dport", "flags", "options"):
        with pytest.raises(AttributeError):
            getattr(header, name)
    with pytest.raises(AttributeError):
        bytes(header)


def test_attributes_are_for_headers_that_have_them() -> None:
    sport, window = vars(TCP)["sport"], vars(TCP)["window"]
    assert sport.__get__(UDP(sport=5)) == 5  # the first field of both
    for wrong in (5, Ether, object(), UDP()):
        with pytest.raises(TypeError):
            window.__get__(wrong)
        with pytest.raises(TypeError):
            window.__set__(wrong, 1)
    assert TCP.sport is sport
    header = TCP()
    with pytest.raises(TypeError):
        del header.sport


def test_made_twice() -> None:
    header = TCP.parse(bytes(TCP(sport=1, dport=2)))
    header.__init__(dport=9)  # type: ignore[misc]
    assert header == TCP(dport=9)


def test_a_header_that_changes_while_it_is_packed() -> None:
    class Shifty(Header, over={Ether: 0x88B6}):
        number: u16 = 0
        rest: octets = b""

        def pseudo_header(self, protocol: int, length: int) -> bytes:
            self.rest = b""  # type: ignore[assignment]
            self.__init__(number=1)  # type: ignore[misc]
            layers.clear()
            return bytes(4)

    try:
        packet = Ether() / Shifty(rest=b"x" * 100) / UDP() / b"data"
        layers = packet._layers
        assert len(bytes(packet)) == 14 + 102 + 8 + 4
    finally:
        del Ether.uppers[0x88B6], Ether.numbers[Shifty]


@pytest.mark.parametrize("pseudo", [None, b"odd", "text", 1.5], ids=repr)
def test_pseudo_headers_of_all_kinds(pseudo: Any) -> None:
    class Strange(Header, over={Ether: 0x88B6}):
        number: u16 = 0

        def pseudo_header(self, protocol: int, length: int) -> Any:
            return pseudo

    try:
        packet = Ether() / Strange() / UDP()
        assert outcome(bytes, packet) == outcome(lambda: b"".join(packet._headers()))
    finally:
        del Ether.uppers[0x88B6], Ether.numbers[Strange]


def test_a_length_that_does_not_fit() -> None:
    with pytest.raises(FieldError, match="UDP: a computed value does not fit its field"):
        bytes(IPv6() / UDP() / bytes(70_000))


def test_headers_do_not_keep_a_file_in_memory() -> None:
    whole = bytes(TCP()) + bytes(1 << 25)
    before = sys.getrefcount(whole)
    header = TCP.parse(whole)
    assert sys.getrefcount(whole) == before
    assert header.window == 65535
    packet = Packet.parse(bytes(Ether() / IPv4() / TCP(dport=9)) + bytes(1 << 25))
    assert packet[TCP].dport == 9


def test_classes_can_go() -> None:
    class Brief(Header):
        length: u16 = auto(payload_length)
        number: u8 = 0

    assert bytes(Brief(number=3)) == b"\0\0\3"
    assert Packet.parse(b"\0\1\2\3", Brief)[Brief].number == 2
    gone = weakref.ref(Brief)
    del Brief
    gc.collect()
    # Its bases remember subclasses weakly; nothing else may hold it.
    assert gone() is None


def test_nothing_is_left_behind() -> None:
    octets = bytes(Ether() / IPv4(src="10.0.0.1") / TCP(options=[MSS(1)]) / b"x")

    def work() -> None:
        packet = Packet.parse(octets)
        tcp = packet[TCP]
        assert (len(tcp.options), str(packet[IPv4].src), tcp.dport) == (1, "10.0.0.1", 0)
        tcp.checksum = AUTO
        bytes(packet)
        for wrong in ({"dport": -1}, {"nope": 1}, {"flags": "Q"}, {"options": [1]}):
            with pytest.raises((FieldError, TypeError)):
                TCP(**wrong)
        with pytest.raises(HeaderError):
            TCP.parse(b"123")
        tcp.dport = "x"  # type: ignore[assignment]
        with pytest.raises(FieldError):
            bytes(packet)

    work()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(200):
        work()
    gc.collect()
    assert sys.getallocatedblocks() - before < 150


def row(at: int, width: int, kind: int, rule: int = 0) -> tuple[Any, ...]:
    return "a", 0, False, int, "X.a", None, (at, width, kind, rule), (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("cls", "rows", "fixed_len", "places"),
    [
        (int, (), 0, (-1, -1, 0)),
        (TCP, (), 0, (0, -1, 0)),
        (TCP, (5,), 0, (-1, -1, 0)),
        (TCP, (row(0, 8, 0),), 0, (-1, -1, 0)),
        (TCP, (row(4, 8, 1),), 2, (-1, -1, 0)),
        (TCP, (row(1, 64, 0),), 9, (-1, -1, 0)),
        (TCP, (row(0, 8, 0, rule=7),), 1, (-1, -1, 0)),
        (TCP, (row(0, 0, 2), row(0, 8, 0)), 1, (-1, -1, 0)),
        (TCP, (row(0, 8, 0),), 1, (0, -1, 0)),
    ],
)
def test_unsound_tables(cls: Any, rows: Any, fixed_len: int, places: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        _fields.Table(cls, reference, rows, fixed_len, places, False, False, True)


def test_wrong_arguments() -> None:
    table = TCP._table
    for function, arguments in (
        (_fields.build, ()),
        (_fields.build, ((), b"", b"")),
        (_fields.join, ([], int)),
        (_fields.blank, (int,)),
        (table.parse, (b"", 0)),
        (table.parse, (b"", "", 0)),
        (table.walk, (b"", 0, ())),
        (table.walk, (b"", None, [])),
        (table.follow, (0, 99, {})),
        (table.follow, (0, 0, {1: 2})),
        (TCP()._pack, (b"",)),
    ):
        with pytest.raises((TypeError, ValueError)):
            function(*arguments)
    assert _fields.build([5], b"", b"") is None
    assert _fields.build([TCP()] * 65, b"", b"") is None
    assert table.walk(bytearray(40), 40, []) == (0, 40)
    assert table.walk(bytes(40), 41, []) == (0, 41)
