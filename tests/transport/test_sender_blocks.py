"""The blocks of a sender, against models and the RFCs' rules: scoreboard, RACK, TLP, windows, rates,
buffers.
"""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.transport import (
    DeliveryRate,
    FlowWindow,
    MessageBox,
    Rack,
    Reassembly,
    Scoreboard,
    Segment,
    SendBuffer,
    SendWindow,
    TailLossProbe,
)

MS = 10**6


def board_of(n: int, size: int = 100) -> tuple[Scoreboard, list[Segment]]:
    board, segments = Scoreboard(), []
    for i in range(n):
        segments.append(Segment(i * size, (i + 1) * size, size))
        board.sent(segments[-1], i)
    return board, segments


def test_a_scoreboard_forgets_what_arrived_though_nobody_asks_by_time() -> None:
    class Mine(Segment):
        """One of this test's."""

    board = Scoreboard()
    for i in range(1000):
        board.sent(Mine(i, i + 1, 1), i)
        board.acknowledge(i)
    assert sum(isinstance(each, Mine) for each in gc.get_objects()) < 200


ACTION = st.one_of(
    st.tuples(
        st.just("ack"),
        st.integers(0, 14),
        st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=3),
    ),
    st.tuples(st.just("lose"), st.integers(0, 11), st.just([])),
    st.tuples(st.just("resend"), st.integers(0, 11), st.just([])),
    st.tuples(st.just("timeout"), st.just(0), st.just([])),
)


@given(st.lists(ACTION, max_size=30))
def test_a_scoreboard_is_a_set_of_states_by_segment(
    actions: list[tuple[str, int, list[tuple[int, int]]]],
) -> None:
    board, segments = board_of(12)
    acked: set[int] = set()
    lost: set[int] = set()
    una = 0
    for action, n, blocks in actions:
        if action == "ack":
            before = set(acked)
            news = board.acknowledge(n * 100, [(a * 100, b * 100) for a, b in blocks])
            acked |= set(range(min(n, 12)))
            for a, b in blocks:
                acked |= set(range(a, min(b, 12)))
            assert {segments.index(segment) for segment in news} == acked - before
        elif action == "lose" and n not in acked:
            board.lose(segments[n])
            lost.add(n)
        elif action == "timeout":
            board.lose_all()
            lost |= set(range(12)) - acked
        elif action == "resend" and n in lost - acked:
            board.sent(segments[n], 1000)
            lost.discard(n)
        lost -= acked
        assert board.in_flight == 100 * (12 - len(acked | lost))
        una = max([una, *([min(n, 12)] if action == "ack" else [])])
        assert board.una == una * 100
        assert len(board) == 12 - una
        following = board.next_lost()
        assert (following is None) == (not lost)
        assert following is None or segments.index(following) in lost


def test_rfc_6675_three_ranges_or_two_segments_beyond_make_a_loss() -> None:
    board, segments = board_of(10)
    board.acknowledge(0, [(200, 300)])
    board.acknowledge(0, [(400, 500)])
    assert board.lose_by_duplicates(3, 100) == []  # 200 octets are not more than (3 - 1) * 100
    board.acknowledge(0, [(600, 700)])
    assert board.lose_by_duplicates(3, 100) == segments[0:2]
    assert board.lose_by_duplicates(3, 100) == []  # each once
    board.acknowledge(0, [(700, 800)])
    assert board.lose_by_duplicates(3, 100) == [segments[3]]
    assert board.in_flight == 100 * (10 - 4 - 3)


def test_rack_finds_what_was_sent_a_reordering_window_before_what_arrived() -> None:
    # RFC 8985 section 6.2: 10 segments 1 ms apart over a path of 40 ms; the third is missing.
    board, rack = Scoreboard(), Rack()
    for i in range(10):
        board.sent(Segment(i, i + 1, 1), i * MS)
    rack.update(board.acknowledge(2), 41 * MS, 40 * MS)
    assert rack.detect(board, 41 * MS, 10 * MS) == ([], None)
    rack.update(board.acknowledge(2, [(3, 4)]), 43 * MS, 40 * MS)
    # Sent at 2 ms, and due 2 + 40 + 10.
    assert rack.detect(board, 43 * MS, 10 * MS) == ([], 52 * MS)
    (lost,), again = rack.detect(board, 52 * MS, 10 * MS)
    assert (lost.start, again) == (2, None)
    assert board.next_lost() is lost


def test_rack_finds_a_lost_retransmission() -> None:
    board, rack = Scoreboard(), Rack()
    for i in range(3):
        board.sent(Segment(i, i + 1, 1), i * MS)
    first = board.segments[0]
    rack.update(board.acknowledge(0, [(1, 3)]), 42 * MS, 40 * MS)
    assert rack.detect(board, 42 * MS, 0)[0] == [first]
    board.sent(first, 42 * MS)
    board.sent(Segment(3, 4, 1), 43 * MS)
    rack.update(board.acknowledge(0, [(1, 4)]), 83 * MS, 40 * MS)
    assert rack.detect(board, 83 * MS, 0)[0] == [first]  # it was sent before 3, which arrived


def test_check_22_racks_reordering_window() -> None:
    board, rack = Scoreboard(), Rack()
    for i in range(6):
        board.sent(Segment(i, i + 1, 1), i * MS)
    rack.update(board.acknowledge(1), 40 * MS, 40 * MS)
    # No reordering was seen: a window while nothing is the matter, none when three segments were overtaken.
    assert rack.reordering_window_ns(40 * MS, impatient=False) == 10 * MS
    assert rack.reordering_window_ns(40 * MS, impatient=True) == 0
    rack.update(board.acknowledge(1, [(2, 3)]), 42 * MS, 40 * MS)
    rack.update(board.acknowledge(3), 43 * MS, 40 * MS)  # 1 arrived after 2, and was sent once
    assert rack.reordering_seen
    assert rack.reordering_window_ns(40 * MS, impatient=True) == 10 * MS  # min_RTT / 4
    for n in range(1, 10):
        rack.on_duplicate(100 * n, 100 * n)
    assert rack.reordering_window_ns(40 * MS, impatient=True) == 40 * MS  # grows by DSACKs, up to SRTT
    for _ in range(16):
        rack.on_recovery_end()
    assert rack.reordering_window_ns(40 * MS, impatient=True) == 10 * MS


def test_check_22_tlp_waits_two_round_trips_and_for_a_delayed_acknowledgement() -> None:
    probe = TailLossProbe(worst_ack_delay_ns=25 * MS)
    assert probe.timeout_ns(40 * MS, 5, 10**9) == 80 * MS
    assert probe.timeout_ns(40 * MS, 1, 10**9) == 105 * MS
    assert probe.timeout_ns(40 * MS, 5, 60 * MS) == 60 * MS  # never later than the RTO
    assert probe.timeout_ns(0, 5, 3 * 10**9) == 10**9
    probe.on_probe(500, repeats=True)
    assert probe.waiting
    assert not probe.on_ack(400)
    assert probe.on_ack(500)  # the repetition was needed: a loss was repaired
    assert not probe.waiting
    probe.on_probe(600, repeats=True)
    assert not probe.on_ack(600, duplicate=True)  # it was not
    probe.on_probe(700, repeats=False)
    assert not probe.on_ack(700)


def test_a_window_is_never_taken_back_and_opens_by_a_segment() -> None:
    flow = FlowWindow(10_000, 1000)
    assert flow.announce(0, 10_000) == 10_000
    assert flow.announce(4000, 6000) == 6000
    assert flow.announce(4000, 6400) == 6000  # RFC 9293 section 3.8.6.2.2: not worth it yet
    assert not flow.worth_telling(4000, 6999)
    assert flow.worth_telling(4000, 7000)
    assert flow.announce(4000, 7000) == 7000
    assert flow.announce(4000, 0) == 7000  # what was promised stays
    assert FlowWindow(1 << 20, 1000, shift=5).announce(0, 1 << 20) == 32768
    assert FlowWindow(1 << 20, 1000).announce(0, 1 << 20) == 65535


def test_a_sender_heeds_the_furthest_edge_and_probes_ever_less_often() -> None:
    window = SendWindow()
    assert window.on_ack(0, 5000)
    assert window.on_ack(1000, 5000)
    assert not window.on_ack(0, 5000)  # late
    assert window.edge == 6000
    waits = []
    for _ in range(9):
        waits.append(window.probe_after_ns(10**9) // 10**9)
        window.probes += 1
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert window.on_ack(1000, 5001)
    assert window.probes == 0


@given(st.lists(st.one_of(st.binary(max_size=30), st.integers(0, 200)), max_size=30), st.integers(0, 9))
def test_a_send_buffer_is_a_string_of_which_the_front_goes_away(steps: list[bytes | int], start: int) -> None:
    buffer, all_octets, released = SendBuffer(start, capacity=64), bytes(start), start
    for step in steps:
        if isinstance(step, bytes):
            taken = buffer.write(step)
            assert taken == min(len(step), 64 - (len(all_octets) - released))
            all_octets += step[:taken]
        else:
            buffer.release(step)
            released = max(released, min(step, len(all_octets)))
        assert (buffer.start, buffer.end, buffer.room) == (
            released,
            len(all_octets),
            64 - len(all_octets) + released,
        )
        assert buffer.read(released, 10) == all_octets[released : released + 10]
    if released:
        with pytest.raises(ValueError, match="were released"):
            buffer.read(released - 1, 1)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_a_message_box_is_a_dictionary_read_in_order(steps: list[tuple[int, bool]]) -> None:
    box, model, at = MessageBox(8), {}, 0
    got: list[bytes] = []
    ready = 0
    for number, reads in steps:
        message = b"%d" % number
        inside = at <= number < at + 8 - ready and number not in model
        assert box.insert(number, message) == inside
        if inside:
            model[number] = message
        while at in model:
            got.append(model.pop(at))
            at += 1
            ready += 1
        assert (box.next, box.window) == (at, 8 - ready)
        if reads:
            assert box.read() == got
            got, ready = [], 0
        blocks = box.sack_blocks(16)
        assert {n for a, b in blocks for n in range(a, b)} == set(model)


def test_delivery_rate_is_the_slower_of_sending_and_acknowledging() -> None:
    rate = DeliveryRate()
    marks = [rate.on_send(i * MS, i * 1000) for i in range(10)]  # 1000 octets each ms: 8 Mbit/s
    samples = [rate.on_ack((40 + i) * MS, 1000, marks[i]) for i in range(10)]
    assert samples[-1] is not None
    assert samples[9].bps == pytest.approx(10_000 * 8 / 0.049, rel=0.01)  # from an idle start: all in 49 ms
    marks = [rate.on_send((50 + i) * MS, 1000) for i in range(10)]
    for i in range(9):
        rate.on_ack(95 * MS, 1000, marks[i])
    sample = rate.on_ack(95 * MS, 1000, marks[9])  # acknowledged in one bunch, but not sent in one
    assert sample is not None
    assert sample.bps <= 8_000_000 * 1.3
    assert not sample.app_limited
    rate.on_app_limited(0)
    mark = rate.on_send(100 * MS, 0)
    limited = rate.on_ack(140 * MS, 1000, mark)
    assert limited is not None
    assert limited.app_limited


def test_a_segment_over_several_islands_finds_room_when_no_island_more_does() -> None:
    box = Reassembly(10_000, max_ranges=3)
    for offset in (1000, 1200, 1400):
        assert box.insert(offset, bytes(50)) == 50
    assert box.insert(1600, bytes(50)) == 0  # a fourth island
    assert box.insert(990, bytes(500)) == 350  # makes one island of three
    assert box.insert(1600, bytes(50)) == 50
