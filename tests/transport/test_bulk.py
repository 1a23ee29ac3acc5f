"""Cutting data into packets, and taking packets for one: in C as in Python, for any header with roles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.engine import bulk as fast
from rawkit.transport import Path
from rawkit.transport.bulk import Places, places, python_coalesce, python_cut
from rawkit.transport.endpoint import Recorder
from rawkit.transport.events import Deliver, Open, Send
from rawkit.transport.protocols.go_back_n import GoBackNHeader
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat, SelectiveRepeatHeader
from rawkit.wire import TCP, UDP, Header, role
from rawkit.wire.field import auto, field, inet_checksum, total_length, u8, u16, u32

KINDS: list[Any] = [(python_cut, python_coalesce), (fast.cut, fast.coalesce)]


class Wide(Header):
    """A length that counts everything, a number in the middle, no flags."""

    kind: u8 = 7
    length: u8 = auto(total_length)
    checksum: u16 = auto(inet_checksum)
    seq: u16 = field(0, role=role.seq())
    more: u32 = 99


HEADERS: list[type[Header]] = [SelectiveRepeatHeader, Wide]


def where(header: type[Header]) -> bytes:
    found = places(header)
    assert found is not None
    return found.packed()


def test_where_fields_are_follows_from_the_roles() -> None:
    assert places(SelectiveRepeatHeader) == Places(16, 4, 4, 12, 2, 0, 14)
    assert places(Wide) == Places(10, 4, 2, 1, 1, 10, 2)
    assert places(GoBackNHeader) is None  # its numbers count packets
    assert places(TCP) is None  # its checksum covers addresses
    assert places(UDP) is None  # it has no numbers


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(("cut", "coalesce"), KINDS, ids=["python", "c"])
def test_packets_are_those_that_the_header_class_makes_and_come_together_again(
    header: type[Header], cut: Any, coalesce: Any
) -> None:
    payload = bytes(range(200)) * 5
    first = header(seq=65_530 if header is Wide else 2**32 - 300)
    packets = cut(bytes(first), payload, 240, where(header))
    assert [len(packet) - header.min_len for packet in packets] == [240, 240, 240, 240, 40]
    limit = 2**16 if header is Wide else 2**32
    for n, packet in enumerate(packets):
        piece = payload[240 * n : 240 * n + 240]
        built = first.replace(seq=(first.seq + 240 * n) % limit)  # type: ignore[attr-defined]
        assert packet == built._pack(piece, None, None) + piece
    flow = object()
    rows = [(packet, flow, 0) for packet in packets]
    assert coalesce(rows, 0, where(header)) == (5, payload)
    assert coalesce(rows, 3, where(header)) == (2, payload[720:])
    assert coalesce(rows, 4, where(header)) == (1, b"")
    rows[3] = (packets[3], flow, 3)  # marked on the way
    assert coalesce(rows, 0, where(header)) == (3, payload[:720])
    rows[2] = (packets[2], object(), 0)
    assert coalesce(rows, 0, where(header)) == (2, payload[:480])
    rows[1] = (packets[2], flow, 0)
    assert coalesce(rows, 0, where(header)) == (1, b"")


@pytest.mark.parametrize(("cut", "coalesce"), KINDS, ids=["python", "c"])
def test_what_makes_no_sense_is_refused(cut: Any, coalesce: Any) -> None:
    with pytest.raises(OverflowError):
        cut(bytes(Wide()), bytes(300), 250, where(Wide))
    with pytest.raises(IndexError):
        coalesce([], 0, where(Wide))


def test_c_refuses_places_outside_the_header_and_other_objects() -> None:
    for bad in (b"", bytes(28), Places(10, 9, 2, 0, 0, 0, 2).packed()):
        with pytest.raises(ValueError, match="no places"):
            fast.cut(b"x" * 10, b"y", 1, bad)
    with pytest.raises(ValueError, match="no size"):
        fast.cut(bytes(Wide()), b"y", 0, where(Wide))
    with pytest.raises(ValueError, match="too short"):
        fast.cut(b"short", b"y", 1, where(Wide))
    for rows in ([1], [(b"x",)], [("text", 1, 2)], ()):
        with pytest.raises((TypeError, IndexError)):
            fast.coalesce(rows, 0, where(Wide))  # type: ignore[arg-type]


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Packets that mostly follow each other, some of them changed."""
    header = SelectiveRepeatHeader(seq=draw(st.integers(0, 2**32 - 1)), flags=draw(st.integers(0, 15)))
    size = draw(st.integers(1, 40))
    packets = python_cut(
        bytes(header), draw(st.binary(min_size=1, max_size=200)), size, where(SelectiveRepeatHeader)
    )
    for _ in range(draw(st.integers(0, 3))):
        n = draw(st.integers(0, len(packets) - 1))
        change = draw(st.sampled_from(["octet", "cut", "twice", "sacks"]))
        octets = bytearray(packets[n])
        if change == "octet" and octets:
            octets[draw(st.integers(0, len(octets) - 1))] ^= 1 << draw(st.integers(0, 7))
            packets[n] = bytes(octets)
        elif change == "cut":
            packets[n] = bytes(octets[: draw(st.integers(0, len(octets)))])
        elif change == "twice":
            packets.insert(n, packets[n])
        else:
            packets[n] = bytes(SelectiveRepeatHeader(sacks=[(1, 2)])) + b"data"
    return packets


@given(streams())
def test_c_and_python_agree_on_any_packets(packets: list[bytes]) -> None:
    flow = object()
    rows = [(packet, flow, 0) for packet in packets]
    for start in range(len(rows)):
        assert fast.coalesce(rows, start, where(SelectiveRepeatHeader)) == python_coalesce(
            rows, start, where(SelectiveRepeatHeader)
        )


def test_an_endpoint_takes_them_as_one_packet_with_one_acknowledgement() -> None:
    opened, path = SelectiveRepeat(), Path("a", "b")
    opened.feed(0, Open("server", path))
    syn = bytes(SelectiveRepeatHeader(flags="SYN ACK", seq=0))
    opened.arrive(1, Recorder(), syn, path)
    head = bytes(SelectiveRepeatHeader(flags="DATA ACK", seq=1, ack=1))
    packets = python_cut(head, bytes(3000), 1000, where(SelectiveRepeatHeader))
    recorder = Recorder()
    assert opened.arrive_together(2, recorder, packets[0], bytes(3000), 3, path)
    delivered = [action.data for action in recorder.actions if isinstance(action, Deliver)]
    sent = [action for action in recorder.actions if isinstance(action, Send)]
    assert delivered == [bytes(3000)]
    assert len(sent) == 1
    assert SelectiveRepeatHeader.parse(sent[0].octets).ack == 3001
    longer = bytes(SelectiveRepeatHeader(sacks=[(5, 9)]))
    assert not opened.arrive_together(3, Recorder(), longer, b"data", 2, path)
