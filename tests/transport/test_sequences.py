"""Serial numbers, ranges and reassembly, against integers, sets and octets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.transport import RangeSet, Reassembly, SeqSpace


@pytest.mark.parametrize("first", range(4))
def test_rfc_1982_section_5_1_two_bits(first: int) -> None:
    two = SeqSpace(2)
    assert two.less(first, two.add(first, 1))
    assert not two.less(two.add(first, 1), first)
    opposite = two.add(first, 2)
    assert not two.less(first, opposite)
    assert not two.less(opposite, first)


def test_rfc_1982_section_5_2_eight_bits() -> None:
    eight = SeqSpace(8)
    assert (eight.add(255, 1), eight.add(100, 100), eight.add(200, 100)) == (0, 200, 44)
    order = [(0, 1), (0, 44), (0, 100), (44, 100), (100, 200), (200, 255), (255, 0), (255, 100), (200, 0)]
    assert all(eight.less(a, b) and not eight.less(b, a) for a, b in [*order, (200, 44)])


@given(st.integers(2, 64), st.integers(0, 2**80), st.data())
def test_seqspace_is_integers_seen_through_a_window(bits: int, near: int, data: st.DataObject) -> None:
    space = SeqSpace(bits)
    half = 1 << (bits - 1)
    step = data.draw(st.integers(-half, half - 1))
    wrapped, target = near % space.size, (near + step) % space.size
    assert space.unwrap(target, near) == near + step
    assert space.add(wrapped, step) == target
    assert space.less(wrapped, target) == (step > 0)
    count = data.draw(st.integers(0, space.size))
    assert space.within(target, wrapped, count) == (step % space.size < count)


def test_one_bit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 bits, got 1"):
        SeqSpace(1)


SPAN = st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 40))


@given(st.lists(SPAN, max_size=30), st.integers(0, 40), st.integers(0, 40))
def test_rangeset_is_a_set(steps: list[tuple[bool, int, int]], low: int, high: int) -> None:
    ranges, model = RangeSet(), set[int]()
    for adding, start, end in steps:
        span = set(range(start, end))
        assert (ranges.add if adding else ranges.remove)(start, end) == len(
            span - model if adding else span & model
        )
        model = model | span if adding else model - span
        assert ranges.count == len(model)
    found = list(ranges)
    assert {n for a, b in found for n in range(a, b)} == model
    assert all(a < b for a, b in found)
    assert all(b < c for (_, b), (c, _) in itertools.pairwise(found))  # apart, in order
    assert {n for a, b in ranges.gaps(low, high) for n in range(a, b)} == set(range(low, high)) - model
    assert [n in ranges for n in range(41)] == [n in model for n in range(41)]
    inside = [n for n in range(low, high) if n in model]
    first = ranges.overlap(low, high)
    assert (first is None) == (not inside)
    if first is not None:
        assert first[0] == inside[0]
        assert set(range(*first)) <= model
        assert first[1] == high or first[1] not in model
    assert (
        ranges.touches(low, high) == (low <= high and bool(model & set(range(low - 1, high + 1))))
        or low >= high
    )


SEGMENT = st.tuples(st.integers(-5, 60), st.binary(max_size=20), st.integers(0, 12))


@pytest.mark.parametrize("overlap", ["first", "last"])
@given(steps=st.lists(SEGMENT, max_size=40), start=st.integers(0, 10))
def test_reassembly_is_a_map_of_octets(overlap, steps, start) -> None:  # type: ignore[no-untyped-def]
    box = Reassembly(24, start=start, overlap=overlap)
    model: dict[int, int] = {}
    at = start
    for offset, data, wanted in steps:
        inside = {offset + i: octet for i, octet in enumerate(data) if at <= offset + i < at + 24}
        assert box.insert(offset, data) == len(inside.keys() - model.keys())
        model = inside | model if overlap == "first" else model | inside
        end = at
        while end in model:
            end += 1
        assert (box.next, box.window) == (end, at + 24 - end)
        count = min(wanted, end - at)
        assert box.read(wanted) == bytes(model.pop(at + i) for i in range(count))
        at += count
    for first, last in box.sack_blocks(16):
        assert all(n in model for n in range(first, last))
        assert first - 1 not in model
        assert last not in model
        assert first > box.next


def arrivals(*offsets: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """What a receiver that has everything up to 5000 acknowledges when these 500-octet segments arrive."""
    box, seen = Reassembly(65536, start=5000), []
    for offset in offsets:
        box.insert(offset, bytes(500))
        seen.append((box.next, box.sack_blocks()))
    return seen


def test_check_33_rfc_2018_section_4_case_1_last_four_lost() -> None:
    assert arrivals(5000, 5500, 6000, 6500)[-1] == (7000, [])


def test_check_33_rfc_2018_section_4_case_2_first_lost() -> None:
    later = range(5500, 9000, 500)
    assert arrivals(*later) == [(5000, [(5500, n + 500)]) for n in later]


def test_check_33_rfc_2018_section_4_case_3_second_fourth_sixth_eighth_lost() -> None:
    assert arrivals(5000, 6000, 7000, 8000, 6500, 5500) == [
        (5500, []),
        (5500, [(6000, 6500)]),
        (5500, [(7000, 7500), (6000, 6500)]),
        (5500, [(8000, 8500), (7000, 7500), (6000, 6500)]),
        (5500, [(6000, 7500), (8000, 8500)]),
        (7500, [(8000, 8500)]),
    ]


def test_a_segment_that_contradicts_what_is_stored_can_be_rejected_whole() -> None:
    box = Reassembly(100, overlap="reject")
    assert box.insert(10, b"abcd") == 4
    assert box.insert(8, b"xxabXdyy") == 0
    assert (box.rejected, box.next) == (1, 0)
    assert box.insert(8, b"xxabcdyy") == 4
    assert box.insert(0, bytes(8)) == 8
    assert box.read() == bytes(8) + b"xxabcdyy"


def test_rfc_2883_section_4_1_what_had_arrived_before_is_reported() -> None:
    box = Reassembly(65536, start=3000)
    seen = []
    for offset in (3000, 3500, 3000, 4500, 4500, 4250, 5500):
        box.insert(offset, bytes(500))
        seen.append(box.duplicate)
    # 4250..4750 is new up to 4500, and old from there on.
    assert seen == [None, None, (3000, 3500), None, (4500, 5000), (4500, 4750), None]


def test_a_hostile_peer_makes_no_more_islands_than_allowed() -> None:
    box = Reassembly(10_000, max_ranges=8)
    assert sum(box.insert(offset, b"x") for offset in range(9_999, 0, -2)) == 8
    assert box.insert(0, bytes(2000)) == 2000  # in order there is always room
    assert box.next == 2000
    assert box.insert(2**70, b"far") == 0
