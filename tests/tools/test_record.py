"""Frames from a ring into files without Python between them (`Capture.record`)."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from capturing import FILTER, capturing, finish, frames_of, say, texts

from rawkit.engine import PacketRing
from rawkit.engine.capfile import Recorder
from rawkit.pcap import RotatingWriter, create_pcap, open_pcap
from rawkit.tools.capture import Capture

pytestmark = pytest.mark.net
WANTED = " ".join(FILTER)


@pytest.fixture(autouse=True)
def listener() -> Iterator[None]:
    """Nobody answers with "port unreachable", whose octets would be captured too."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 9999))
        yield


@pytest.fixture
def only_c(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ring can be recorded, and not be received from; gives what `record` left to Python each time."""
    rests: list[int] = []
    record = PacketRing.record

    def recorded(self: PacketRing, recorder: Recorder, *args: Any) -> Any:
        batch = record(self, recorder, *args)
        rests.append(len(recorder.rest))
        return batch

    monkeypatch.setattr(PacketRing, "record", recorded)
    monkeypatch.delattr(PacketRing, "receive")
    return rests


def write(path: Path, live: Capture, **options: Any) -> int:
    """Record to the end and give how many files there are."""
    with RotatingWriter(os.fspath(path), create_pcap, **options) as writer:
        assert sum(live.record(writer)) == live.captured == writer.packets
        return writer.opened


@pytest.mark.parametrize("name", ["x.pcap", "x.pcapng", "x.pcap.gz", "x.pcapng.gz"])
def test_files_hold_what_batches_would_have_written(name: str, tmp_path: Path) -> None:
    """Whatever the lengths, and more than the buffer; packed files go through Python."""
    path, other = tmp_path / name, tmp_path / f"other-{name}"
    with Capture("lo", WANTED, snaplen=9000) as live, Capture("lo", WANTED, snaplen=9000) as same:
        for length in (0, 1, 2, 3, 60, 500, 1400, 8000, 20000):
            say(40, octets=b"x" * length)
        live.stop()
        same.stop()
        write(path, live)
        with create_pcap(other) as writer:
            for batch in same.batches():
                writer.write_batch(batch, interface_names=same.names)
    with open_pcap(path) as reader, open_pcap(other) as wanted:
        frames, expected = list(reader), list(wanted)
    assert len(frames) == 360
    for frame in (*frames, *expected):
        frame.time_ns = 0  # each ring has its own
    assert frames == expected
    if not name.endswith(".gz"):
        assert len(frames_of(path)) == 360
        assert path.stat().st_size == other.stat().st_size


def test_python_sees_nothing_but_the_first_frames_of_an_interface(tmp_path: Path, only_c: list[int]) -> None:
    with Capture("lo", WANTED, count=1300) as live:
        say(1400)
        write(tmp_path / "x.pcapng", live)
    assert texts(frames_of(tmp_path / "x.pcapng")) == list(range(1300))
    assert only_c[0] > 0
    assert not any(only_c[1:])


def test_the_command_goes_that_way(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    script = """
from rawkit.cli.main import main
from rawkit.engine import PacketRing
del PacketRing.receive
main()
"""
    command = [sys.executable, "-c", script]
    with capturing("-i", "lo", "-c", "700", "-w", str(path), *FILTER, command=command) as process:
        say(1000)
        told = finish(process)[1]
    assert process.returncode == 0
    assert told.startswith("700 packets captured")
    assert texts(frames_of(path)) == list(range(700))


@pytest.mark.parametrize("ending", ["pcap", "pcapng"])
def test_by_size_each_file_ends_with_the_packet_that_filled_it(
    tmp_path: Path, only_c: list[int], ending: str
) -> None:
    path, size = tmp_path / f"x.{ending}", 10_000
    lengths = [42 + 6 + length for length in (0, 1000, 11_000)]
    with Capture("lo", WANTED) as live:
        for length in lengths:
            say(60, octets=bytes(length - 48))
        live.stop()
        opened = write(path, live, size=size)
    files = [tmp_path / f"x.{ending}{number or ''}" for number in range(opened)]
    assert sorted(files) == sorted(tmp_path.iterdir())
    held = []
    for file in files:
        with open_pcap(file) as reader:
            held.append(list(reader))
    assert [number for frames in held for number in texts(frames)] == [*range(60)] * 3
    for file, frames in zip(files[:-1], held[:-1]):
        last = len(frames[-1].data)
        record = 16 + last if ending == "pcap" else 32 + (last + 3 & ~3) + 12
        assert file.stat().st_size >= size > file.stat().st_size - record


def test_by_time_a_file_begins_though_nothing_comes(tmp_path: Path, only_c: list[int]) -> None:
    with Capture("lo", WANTED, duration_ns=500_000_000) as live:
        say(5)
        opened = write(tmp_path / "x.pcap", live, interval_ns=100_000_000)
    assert opened >= 3  # a busy machine may miss one
    assert texts(frames_of(tmp_path / "x.pcap")) == list(range(5))


def test_what_came_is_in_the_file_while_it_goes_on(tmp_path: Path) -> None:
    """Without a thread that flushes, and though the next look at the clock is far away."""
    path = tmp_path / "x.pcap"
    with Capture("lo", WANTED) as live, RotatingWriter(os.fspath(path), create_pcap) as writer:
        recorder = threading.Thread(target=lambda: sum(live.record(writer, every=60)))
        recorder.start()
        say(3)
        end = time.monotonic() + 20
        while path.stat().st_size < 24 + 3 * (16 + 48) and time.monotonic() < end:
            time.sleep(0.01)
        assert "rawkit-flush" not in [thread.name for thread in threading.enumerate()]
        assert len(frames_of(path)) == 3
        start = time.monotonic()
        live.stop()
        recorder.join(20)
        assert not recorder.is_alive()
        assert time.monotonic() - start < 20  # not those 60 seconds


def test_closing_the_capture_does_not_wait_for_the_end(tmp_path: Path) -> None:
    with (
        Capture("lo", WANTED) as live,
        RotatingWriter(os.fspath(tmp_path / "x.pcap"), create_pcap) as writer,
    ):
        errors: list[ValueError] = []

        def record() -> None:
            try:
                sum(live.record(writer, every=60))
            except ValueError as error:
                errors.append(error)

        recorder = threading.Thread(target=record)
        recorder.start()
        start = time.monotonic()
        live.close()
        recorder.join(20)
        assert not recorder.is_alive()
        assert time.monotonic() - start < 20
    assert len(errors) == 1


def test_what_interrupts_it_doubles_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler that raises just when C has come back: the numbers are taken from it later."""
    state = Recorder.state
    left = [KeyboardInterrupt] * 3

    def interrupted(self: Recorder) -> tuple[int, int, int, int, int]:
        if left:
            raise left.pop()
        return state.__get__(self)

    path = tmp_path / "x.pcap"
    with Capture("lo", WANTED, count=100) as live:
        say(300)
        with RotatingWriter(os.fspath(path), create_pcap) as writer:
            monkeypatch.setattr(Recorder, "state", property(interrupted))
            with pytest.raises(KeyboardInterrupt):
                list(live.record(writer))
            with pytest.raises(KeyboardInterrupt):
                writer.flush()
            live.count = 250
            with pytest.raises(KeyboardInterrupt):
                list(live.record(writer))
            list(live.record(writer))
            assert writer.packets == live.captured == 250
    assert texts(frames_of(path)) == list(range(250))
