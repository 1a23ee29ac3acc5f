"""Hostile peers: what they may cost is bounded, whatever they claim."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from rawkit.transport import Path, Substream, Write
from rawkit.transport import events as ev
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat, SelectiveRepeatHeader

PATH = Path("192.0.2.1", "192.0.2.2")
SYN = {"flags": "SYN", "window": 65535}


def packet(payload: bytes = b"", **fields: Any) -> ev.Arrival:
    header = SelectiveRepeatHeader(**fields)
    return ev.Arrival(header._pack(payload, None, None) + payload, PATH)


def connected(**options: Any) -> SelectiveRepeat:
    """A client with data to send, whose peer has answered."""
    endpoint = SelectiveRepeat(**options)
    endpoint.feed(0, ev.Open("client", PATH))
    endpoint.feed(1, packet(flags="ACK", ack=1, window=65535))
    endpoint.feed(2, Write(bytes(200_000)))
    return endpoint


def sent(actions: list[Any]) -> int:
    return sum(isinstance(action, ev.Send) for action in actions)


def test_acknowledgements_of_what_was_never_sent_change_nothing() -> None:
    endpoint = connected()
    before = endpoint.board.una, endpoint.control.cwnd
    for ack in (endpoint.next + 1, 2**31, 2**32 - 1):
        assert endpoint.feed(3, packet(flags="ACK", ack=ack, window=65535)) == []
    assert (endpoint.board.una, endpoint.control.cwnd) == before
    assert sum(endpoint.dropped.values()) == 3


def test_sack_ranges_beyond_reason_are_ignored() -> None:
    endpoint = connected()
    ranges = [(5, 4), (0, 2**32 - 1), (2**31, 2**31 + 1), (endpoint.next, endpoint.next + 5000)]
    endpoint.feed(3, packet(flags="ACK", ack=1, window=65535, sacks=ranges))
    assert endpoint.board.sacked.count == 0
    assert not endpoint.board.next_lost()


def test_a_huge_window_does_not_make_a_burst() -> None:
    endpoint = SelectiveRepeat(shift=14)
    endpoint.feed(0, ev.Open("client", PATH))
    endpoint.feed(1, packet(flags="ACK", ack=1, window=65535))
    assert sent(endpoint.feed(2, Write(bytes(10_000_000)))) <= 10  # the initial congestion window


def test_a_window_that_shrinks_is_not_believed() -> None:
    endpoint = connected()
    edge = endpoint.send_window.edge
    endpoint.feed(3, packet(flags="ACK", ack=1, window=0))
    assert endpoint.send_window.edge == edge


def test_one_octet_at_a_time_everywhere_is_bounded_in_memory() -> None:
    endpoint = SelectiveRepeat(window=1 << 20)
    endpoint.feed(0, ev.Open("server", PATH))
    endpoint.feed(1, packet(**SYN))
    endpoint.feed(2, packet(b"x", flags="DATA", seq=1 << 20))  # the buffer itself is made now
    tracemalloc.start()
    try:
        for i in range(20_000):  # every other octet, from the far end
            endpoint.feed(2, packet(b"x", flags="DATA", seq=1 + (1 << 20) - 2 * i))
        assert len(endpoint.box._held) <= 1024
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_overlapping_ranges_are_delivered_once() -> None:
    stream, data = Substream("overlaps"), bytes(i % 251 for i in range(5000))
    endpoint = SelectiveRepeat()
    endpoint.feed(0, ev.Open("server", PATH))
    endpoint.feed(1, packet(**SYN))
    got = b""
    for _ in range(3000):
        start = stream.below(5000)
        piece = data[start : start + 1 + stream.below(400)]
        for action in endpoint.feed(2, packet(piece, flags="DATA", seq=1 + start)):
            got += action.data if isinstance(action, ev.Deliver) else b""
    assert got == data


def test_a_flood_of_window_probes_is_answered_one_for_one() -> None:
    endpoint = connected()
    for _ in range(100):
        assert sent(endpoint.feed(3, packet(flags="ASK|ACK", ack=1, window=65535))) == 1


def test_duplicate_acknowledgements_do_not_grow_anything() -> None:
    endpoint = connected()
    cwnd = endpoint.control.cwnd
    for _ in range(10_000):
        assert sent(endpoint.feed(3, packet(flags="ACK", ack=1, window=65535))) == 0
    assert endpoint.control.cwnd == cwnd


@pytest.mark.parametrize("ack", [0, 5, 40_000, 65_535])
def test_go_back_n_ignores_acknowledgements_outside_its_window(ack: int) -> None:
    endpoint = GoBackN(window=4)
    endpoint.feed(0, ev.Open("client", PATH))
    header = GoBackNHeader(flags="ACK", ack=1)
    endpoint.feed(1, ev.Arrival(bytes(header), PATH))
    endpoint.feed(1, Write(bytes(20_000)))
    assert (endpoint.base, endpoint.next) == (1, 5)
    endpoint.feed(2, ev.Arrival(bytes(GoBackNHeader(flags="ACK", ack=ack)), PATH))
    assert endpoint.base == (5 if ack == 5 else 1)
