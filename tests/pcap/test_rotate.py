"""Series of capture files: names, limits, and nothing lost or doubled between two of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rawkit.clock import FakeClock
from rawkit.engine import FrameBatch
from rawkit.pcap import PcapngWriter, PcapWriter, RotatingWriter, create_pcap, open_pcap
from rawkit.pcap.writer import kind_of_name

SECOND = 1_000_000_000


def batch_of(lengths: list[int], first: int = 0) -> FrameBatch:
    """Frames that begin with their number."""
    batch = FrameBatch(len(lengths), sum(lengths))
    for i, length in enumerate(lengths, first):
        batch.append(b"%08d" % i + bytes(length - 8))
    return batch


def numbers(path: Path) -> list[int]:
    with open_pcap(path) as reader:
        return [int(frame.data[:8]) for frame in reader]


@pytest.mark.parametrize("ending", ["pcap", "pcapng"])
@pytest.mark.parametrize("lengths", [[60] * 1000, [1514] * 100, [60, 9000, 60, 300] * 50, [20_000] * 5])
def test_by_size_each_file_ends_with_the_packet_that_filled_it(
    tmp_path: Path, ending: str, lengths: list[int]
) -> None:
    path = tmp_path / f"x.{ending}"
    size = 10_000
    with RotatingWriter(os.fspath(path), create_pcap, size=size) as writer:
        for first in range(0, len(lengths), 64):
            writer.write_batch(batch_of(lengths[first : first + 64], first))
        opened = writer.opened
        assert writer.packets == len(lengths)
    files = [tmp_path / f"x.{ending}{number or ''}" for number in range(opened)]
    assert sorted(files) == sorted(tmp_path.iterdir())
    held = [numbers(file) for file in files]
    assert [n for inside in held for n in inside] == list(range(len(lengths)))
    for file, inside in zip(files[:-1], held[:-1]):
        length = file.stat().st_size
        assert length >= size
        last = lengths[inside[-1]]
        record = 16 + last if ending == "pcap" else 32 + (last + 3 & ~3)
        assert length - record < size


def test_a_ring_writes_over_the_oldest(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    with RotatingWriter(os.fspath(path), create_pcap, size=1, files=11) as writer:
        writer.write_batch(batch_of([60] * 15))
        assert writer.opened == 15
    # Numbered with as many digits as the last one needs, as tcpdump does.
    assert {file.name: numbers(file) for file in tmp_path.iterdir()} == {
        f"x.pcap{i % 11:02d}": [i] for i in range(4, 15)
    }


@pytest.mark.parametrize(("files", "last"), [(None, "x.pcap2.gz"), (5, "x.pcap2.gz"), (1, "x.pcap0.gz")])
def test_the_number_comes_before_the_ending_of_what_is_packed(
    tmp_path: Path, files: int | None, last: str
) -> None:
    path = os.fspath(tmp_path / "x.pcap.gz")

    def open_file(name: str) -> PcapWriter | PcapngWriter:
        return create_pcap(name, kind=kind_of_name(path))

    with RotatingWriter(path, open_file, size=1, files=files) as writer:
        writer.write_batch(batch_of([60] * 3))
    assert numbers(tmp_path / last) == [2]
    with open_pcap(tmp_path / last) as reader:
        assert reader.kind == "pcap"


def test_by_time_whether_there_are_packets_or_not(tmp_path: Path) -> None:
    clock = FakeClock()
    ended: list[str] = []

    def finish(writer: PcapWriter | PcapngWriter) -> None:
        ended.append(Path(writer.path).name)

    path = os.fspath(tmp_path / "x%%.pcap")
    with RotatingWriter(
        path, create_pcap, interval_ns=10 * SECOND, finish=finish, now_ns=clock.now_ns
    ) as writer:
        writer.write_batch(batch_of([60] * 2))
        clock.advance(10 * SECOND - 1)
        writer.rotate_when_due()
        assert ended == []
        clock.advance(1)
        writer.rotate_when_due()
        writer.rotate_when_due()
        assert ended == ["x%.pcap"]
        clock.advance(25 * SECOND)  # nobody came by for two intervals: one file, and in step again
        writer.write_batch(batch_of([60], 2))
        assert ended == ["x%.pcap", "x%.pcap1"]
        clock.advance(5 * SECOND)
        writer.write_batch(batch_of([60], 3))
    assert ended == ["x%.pcap", "x%.pcap1", "x%.pcap2", "x%.pcap3"]
    assert [numbers(tmp_path / name) for name in ended] == [[0, 1], [], [2], [3]]


def test_names_by_the_clock_and_a_last_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    names = iter(["a", "b", "b", "c", "a"])
    monkeypatch.setattr(time, "strftime", lambda _: os.fspath(tmp_path / next(names)))
    with RotatingWriter("", create_pcap, interval_ns=SECOND, files=5, now_ns=clock.now_ns) as writer:
        for i in range(8):
            writer.write_batch(batch_of([60], i))
            clock.advance(SECOND)
    # A name that comes back after others, as %H does every day, is written over.
    held = {file.name: numbers(file) for file in tmp_path.iterdir()}
    assert held == {"a": [4, 5, 6, 7], "b": [1], "b1": [2], "c": [3]}


def test_a_next_file_that_cannot_be_made_leaves_the_last_one_whole(tmp_path: Path) -> None:
    (tmp_path / "x1").mkdir()
    writer = RotatingWriter(os.fspath(tmp_path / "x"), create_pcap, size=1000)
    with pytest.raises(IsADirectoryError), writer:
        writer.write_batch(batch_of([100] * 20))
    assert numbers(tmp_path / "x") == list(range(writer.packets))
    assert 0 < writer.packets < 20


def test_limits_that_make_no_sense(tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "x")
    with pytest.raises(ValueError, match="a limit of 0"):
        RotatingWriter(path, create_pcap, size=0)
    with pytest.raises(ValueError, match="no meaning with both"):
        RotatingWriter(path, create_pcap, size=1, interval_ns=1, files=1)
    assert not list(tmp_path.iterdir())
