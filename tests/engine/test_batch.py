"""FrameBatch: what goes in comes out, limits are kept, views close."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.engine import FrameBatch, FrameRecord
from rawkit.engine.batch import CSUM_NOT_READY, CSUM_VALID, OUTGOING
from rawkit.engine.native import ffi
from rawkit.errors import EngineError


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_octets_come_back_as_they_went_in(frames: list[bytes]) -> None:
    one_by_one, together = FrameBatch(20), FrameBatch(20)
    for octets in frames:
        one_by_one.append(octets)
    together.extend(frames)
    for batch in (one_by_one, together):
        assert list(batch) == frames
        assert [batch[i] for i in range(len(batch))] == frames
        assert [bytes(batch.view(i)) for i in range(len(batch))] == frames
        assert [record.cap_len for record in batch.records()] == list(map(len, frames))


def test_a_record_says_what_is_known() -> None:
    batch = FrameBatch()
    batch.append(bytearray(b"abc"), time_ns=1_600_000_000_123_456_789)
    (record,) = batch.records()
    assert record == FrameRecord(1_600_000_000_123_456_789, 3, 3, 0, 0, 0, 0, 0, 0)


def test_indexes_count_from_both_ends_and_stop_there() -> None:
    batch = FrameBatch(4)
    batch.extend([b"a", b"bb"])
    assert batch[-1] == b"bb"
    for i in (2, -3):
        with pytest.raises(IndexError, match="holds 2"):
            batch[i]
        with pytest.raises(IndexError):
            batch.view(i)


@pytest.mark.parametrize(
    ("capacity", "arena_len", "frames"),
    [(2, 100, [b"a", b"b", b"c"]), (10, 5, [b"abc", b"def"])],
    ids=["rows", "octets"],
)
def test_frames_that_do_not_fit_change_nothing(capacity: int, arena_len: int, frames: list[bytes]) -> None:
    batch = FrameBatch(capacity, arena_len)
    batch.append(b"x")
    with pytest.raises(EngineError, match="in use") as caught:
        batch.extend(frames)
    assert caught.value.errno == errno.ENOSPC
    assert list(batch) == [b"x"]
    batch.clear()
    batch.extend(frames[:1])
    assert list(batch) == frames[:1]


def test_a_batch_can_be_filled_to_the_last_octet_and_row() -> None:
    batch = FrameBatch(2, 6)
    batch.extend([b"abc", b"def"])
    assert list(batch) == [b"abc", b"def"]


@pytest.mark.parametrize(("capacity", "arena_len"), [(0, 1), (1, 0), (-1, 10), (2**31, 10), (1, 2**32)])
def test_impossible_sizes_are_refused(capacity: int, arena_len: int) -> None:
    with pytest.raises(ValueError, match="possible"):
        FrameBatch(capacity, arena_len)


def test_views_look_into_the_batch_and_close_with_its_contents() -> None:
    batch = FrameBatch(4)
    batch.append(b"abc")
    view = batch.view(0)
    view[0] = ord("X")
    assert batch[0] == b"Xbc"
    batch.clear()
    with pytest.raises(ValueError, match="released"):
        view[0]
    assert len(batch) == 0


def test_a_batch_that_is_looked_into_cannot_be_cleared() -> None:
    batch = FrameBatch(4)
    batch.append(b"abc")
    view = batch.view(0)
    array = ffi.from_buffer(view)  # holds it open
    with pytest.raises(BufferError):
        batch.clear()
    del array
    assert batch[0] == b"abc"
    batch.clear()
    assert len(batch) == 0


def test_the_arena_outlives_the_batch_while_it_is_looked_at() -> None:
    batch = FrameBatch(1, 4096)
    batch.append(b"q" * 4096)
    view = batch.view(0)
    del batch
    assert bytes(view) == b"q" * 4096


def test_keep_drops_the_others_in_place() -> None:
    batch = FrameBatch(8)
    batch.extend([b"a", b"b", b"c", b"d"])
    assert batch.keep([0, 1, 0, 1]) == 2
    assert list(batch) == [b"b", b"d"]


def test_frames_carry_what_the_record_says() -> None:
    batch = FrameBatch(4)
    batch.extend([b"one", b"two", b"three"], time_ns=7)
    rows = batch.handle.frames
    rows[0].flags, rows[0].ifindex = OUTGOING | CSUM_NOT_READY, 3
    rows[1].flags, rows[1].ifindex, rows[1].wire_len, rows[1].gso_len = CSUM_VALID, 9, 99, 50
    one, two, three = batch.frames(linktype=101, interface_names={3: "eth3"})
    assert (one.data, one.direction, one.checksum, one.interface) == (b"one", "out", "not ready", "eth3")
    assert (two.data, two.direction, two.checksum, two.interface) == (b"two", "in", "valid", "")
    assert (two.wire_len, two.gso_len, two.linktype, two.time_ns) == (99, 50, 101, 7)
    assert (three.direction, three.checksum, three.wire_len) == ("", "", 5)


def test_what_is_no_buffer_is_refused() -> None:
    batch = FrameBatch(4)
    with pytest.raises(TypeError):
        batch.append("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        batch.extend([b"ok", 5])  # type: ignore[list-item]
    assert len(batch) == 0


def test_the_lengths_of_all_frames() -> None:
    batch = FrameBatch(4)
    assert batch.odd(0, 0, 1, 9) == 0
    batch.extend([b"abc", b"", b"12345"])
    batch.handle.frames[2].wire_len = 9
    assert (batch.octets(0, 3), batch.octets(1, 2), batch.octets(3, 0)) == (8, 5, 0)
    assert (batch.odd(0, 3, 0, 9), batch.odd(0, 3, 1, 9), batch.odd(0, 2, 0, 9)) == (2, 1, 2)
    with pytest.raises(EngineError):
        batch.odd(2, 2, 0, 9)
    with pytest.raises(EngineError):
        batch.octets(4, 1)
