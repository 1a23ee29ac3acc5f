"""Roles of header fields: what follows from a declaration, and what is refused when the class is made."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rawkit.wire import TCP, UDP, Header, role
from rawkit.wire.field import (
    auto,
    field,
    flags8,
    inet_checksum,
    pairs32,
    payload_length,
    u1,
    u7,
    u8,
    u16,
    u32,
)


def test_roles_are_given_or_follow_from_the_declaration() -> None:
    class Given(Header):
        sport: u16 = field(0, role=role.src_port)
        dport: u16 = field(0, role=role.dst_port)
        seq: u32 = field(0, role=role.seq())
        ack: u32 = field(0, role=role.ack())
        flags: flags8 = field(0, bits="SYN ACK FIN")
        room: u8 = field(0, role=role.window("packets", shift=2))
        length: u16 = auto(payload_length)
        checksum: u16 = auto(inet_checksum, pseudo_header=True)
        ranges: pairs32 = field((), role=role.sack)

    found = {name: row.name for name, (_, row) in Given.roles.items()}
    assert found == {
        "src_port": "sport",
        "dst_port": "dport",
        "seq": "seq",
        "ack": "ack",
        "flags": "flags",
        "window": "room",
        "length": "length",
        "checksum": "checksum",
        "sack": "ranges",
    }
    assert (Given.roles["window"][0].unit, Given.roles["window"][0].shift) == ("packets", 2)
    assert Given.roles["seq"][1].width == 32
    header = Given.parse(bytes(Given(seq=7, ranges=[(1, 2)])))
    assert (header.seq, tuple(header.ranges)) == (7, ((1, 2),))


def test_a_subclass_has_the_roles_of_its_fields() -> None:
    class Base(Header):
        number: u8 = field(0, role=role.seq("packets"))

    class More(Base):
        answer: u8 = field(0, role=role.ack("packets", cumulative=False))

    assert sorted(More.roles) == ["ack", "seq"]
    assert sorted(Base.roles) == ["seq"]
    assert not More.roles["ack"][0].cumulative


def test_one_bit_tells_packets_apart_but_not_octets() -> None:
    class AlternatingBit(Header):
        bit: u1 = field(0, role=role.seq("packets"))
        rest: u7 = 0

    assert AlternatingBit.roles["seq"][1].width == 1


def test_protocols_that_say_nothing_have_what_their_rules_imply() -> None:
    class Plain(Header):
        flags: flags8 = field(0, bits="ACK")
        length: u16 = auto(payload_length)
        checksum: u16 = auto(inet_checksum)

    assert sorted(Plain.roles) == ["checksum", "flags", "length"]


def test_tcp_and_udp_say_what_tells_exchanges_apart() -> None:
    assert sorted(UDP.roles) == ["checksum", "dst_port", "length", "src_port"]
    assert sorted(TCP.roles) == ["ack", "checksum", "dst_port", "flags", "seq", "src_port", "window"]


def two_seqs() -> type[Header]:
    class Bad(Header):
        one: u32 = field(0, role=role.seq())
        two: u32 = field(0, role=role.seq())

    return Bad


def narrow_seq() -> type[Header]:
    class Bad(Header):
        one: u8 = field(0, role=role.seq("octets"))

    return Bad


def number_as_sack() -> type[Header]:
    class Bad(Header):
        one: u32 = field(0, role=role.sack)

    return Bad


def list_as_seq() -> type[Header]:
    class Bad(Header):
        one: pairs32 = field((), role=role.seq())

    return Bad


def two_checksums() -> type[Header]:
    class Bad(Header):
        one: u16 = field(0, role=role.checksum)
        two: u16 = field(0, role=role.checksum)

    return Bad


def narrow_ack() -> type[Header]:
    class Bad(Header):
        one: u32 = field(0, role=role.seq())
        two: u16 = field(0, role=role.ack())

    return Bad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_seqs, r"Bad.two: the role seq is taken by one"),
        (two_checksums, r"Bad.two: the role checksum is taken by one"),
        (narrow_seq, r"Bad.one: the role seq needs an integer of 16 bits or more"),
        (number_as_sack, r"Bad.one: the role sack needs a list"),
        (list_as_seq, r"Bad.one: the role seq needs a number"),
        (narrow_ack, r"Bad.two: as ack it needs the width of one"),
    ],
)
def test_a_wrong_declaration_fails_when_the_class_is_made(
    make: Callable[[], type[Header]], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        make()
