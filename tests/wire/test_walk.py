"""The headers that are parsed in one go come out as those that are parsed one by one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import packets

from rawkit.errors import HeaderError
from rawkit.wire import TCP, UDP, Dot1Q, Ether, Header, IPv4, IPv6, Packet


def outcome(octets: bytes, first: type[Header]) -> tuple[object, ...]:
    packet = Packet.parse(octets, first)
    return packet.layers, packet.payload, packet.trailer, str(packet.error)


def one_by_one(octets: bytes, first: type[Header]) -> tuple[object, ...]:
    walk, first._walk = first._walk, lambda octets, end, layers: (0, end)
    try:
        return outcome(octets, first)
    finally:
        first._walk = walk


@settings(max_examples=40, deadline=None)
@given(
    packet=packets(whole=False),
    seed=st.integers(0, 2**32),
    cut=st.integers(0, 80),
    extra=st.binary(max_size=8),
)
def test_damaged_packets(packet: Packet, seed: int, cut: int, extra: bytes) -> None:
    whole = bytes(packet) + extra
    rng = random.Random(seed)
    for first, octets in ((Ether, bytes(Ether() / packet)), (IPv4, whole), (IPv6, whole), (Ether, whole)):
        damaged = bytearray(octets)
        for _ in range(rng.randrange(3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        for variant in (octets, bytes(damaged), octets[:cut]):
            assert outcome(variant, first) == one_by_one(variant, first)


@pytest.mark.parametrize(
    ("packet", "n"),
    [
        (Ether() / IPv4() / TCP(), 3),
        (Ether() / IPv6() / UDP(), 3),
        (Ether() / IPv4(fragment_offset=1) / UDP(), 2),
        (Ether() / Dot1Q() / IPv4() / UDP(), 1),
        (IPv4() / IPv4() / UDP(), 3 if IPv4._table else 1),
    ],
    ids=repr,
)
def test_how_far_it_goes(packet: Packet, n: int) -> None:
    octets, first = bytes(packet), type(packet.layers[0])
    Packet.parse(octets, first).get(first)
    layers: list[Header] = []
    walk = first._walk
    assert walk is not None
    offset, _ = walk(octets, len(octets), layers)
    assert [type(layer) for layer in layers] == [type(layer) for layer in packet.layers][:n]
    assert offset == sum(len(bytes(layer)) for layer in layers)


def test_a_class_that_is_parsed_by_length_is_not_common() -> None:
    class Base(Header, over={IPv4: 200}):
        common = True

    assert isinstance(Packet.parse(bytes(IPv4(protocol=200) / b"1234"), IPv4).layers[1], Base)

    class Long(Base, at_least=3):
        """Parsed in place of Base, also where packets were parsed before it came."""

    try:
        assert type(Packet.parse(bytes(IPv4(protocol=200) / b"1234"), IPv4).layers[1]) is Long
        assert type(Packet.parse(bytes(IPv4(protocol=200) / b"12"), IPv4).layers[1]) is Base
    finally:
        del IPv4.uppers[200]
        IPv4._walk = None


def test_damage_in_a_common_header_is_told() -> None:
    octets = bytes(Ether() / IPv4() / TCP())
    with pytest.raises(HeaderError, match="TCP: need 20 octets at offset 34, have 19"):
        Packet.parse(octets[:16] + b"\0\x27" + octets[18:53], strict=True)
