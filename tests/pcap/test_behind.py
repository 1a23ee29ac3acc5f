"""Records that are written by a thread, from where they were read to, while reading goes on."""

import os
import time
from pathlib import Path

import pytest

from rawkit.errors import EngineError
from rawkit.pcap import copy_pcap, open_pcap
from rawkit.pcap import sink as sink_module
from rawkit.pcap.copy import RecordSink
from rawkit.pcap.source import WINDOW_LEN, WINDOWS

pwrite = os.pwrite


@pytest.fixture
def capture(make, tmp_path: Path) -> Path:
    """Records that fill twice as many windows as there are."""
    path = tmp_path / "in.pcap"
    records = (
        make.record(b"%d" % n * 3000) for n in range(10_000, 10_000 + 2 * WINDOWS * WINDOW_LEN // 15_000)
    )
    path.write_bytes(make.pcap_header() + b"".join(records))
    return path


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def until_threads_are(n: int) -> None:
    end = time.monotonic() + 30
    while threads() != n:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_slow_writing_keeps_what_it_writes(capture, tmp_path, monkeypatch):
    """Reading goes on meanwhile, but not into what is still to be written."""
    under_way = []

    def slow(descriptor, octets, at):
        under_way.append(at)
        time.sleep(0.001)
        half = len(octets) // 2 + 1
        return pwrite(descriptor, octets[:half], at)

    before = threads()
    with open_pcap(capture) as reader, RecordSink(tmp_path / "out", reader) as sink:
        monkeypatch.setattr(os, "pwrite", slow)
        written_when = []
        for batch in reader.batches():
            sink.records(batch)
            written_when.append(len(under_way))
        assert written_when[0] < 2  # it went on before that was written
    assert (tmp_path / "out").read_bytes() == capture.read_bytes()
    until_threads_are(before)


def test_what_interrupts_records_on_their_way_loses_and_doubles_nothing(capture, make, tmp_path, monkeypatch):
    """No thread can be had, so that the caller writes himself, and is interrupted amid that."""
    interruptions = [KeyboardInterrupt] * 3

    def interrupted(descriptor, octets, at):
        if len(octets) > 200_000 and interruptions:
            pwrite(descriptor, octets[:5000], at)
            raise interruptions.pop()
        return pwrite(descriptor, octets, at)

    def none(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", none)
    monkeypatch.setattr(sink_module, "FLUSH_AFTER", 3600)
    more = make.record(b"more")
    with open_pcap(capture) as reader, RecordSink(tmp_path / "out", reader) as sink:
        monkeypatch.setattr(os, "pwrite", interrupted)
        batches = reader.batches()
        n = 0
        for _ in range(WINDOWS - 1):
            batch = next(batches)
            n += len(batch)
            sink.records(batch)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                sink._sink.flush()
        sink.record(more, 1)
        assert sink.packets == n + 1
    octets = (tmp_path / "out").read_bytes()
    assert octets.endswith(more)
    assert capture.read_bytes().startswith(octets[: -len(more)])
    with open_pcap(tmp_path / "out") as reader:
        assert sum(map(len, reader.batches())) == n + 1


def test_a_full_disk_is_told_by_every_later_call(capture, tmp_path, file_size_limit):
    limit, out, before = 2 * WINDOW_LEN + 100_001, tmp_path / "out", threads()
    with file_size_limit(limit), open_pcap(capture) as reader:
        sink, batch = RecordSink(out, reader), None

        def copy():
            nonlocal batch
            for batch in reader.batches():
                sink.records(batch)
            sink._sink.flush()

        with pytest.raises(EngineError, match="cut back to its last whole record") as first:
            copy()
        for again in (lambda: sink.records(batch), sink._sink.flush, lambda: sink.record(b"", 0)):
            with pytest.raises(EngineError) as caught:
                again()
            assert caught.value is first.value
        sink.close()
    octets = out.read_bytes()
    assert capture.read_bytes().startswith(octets)
    with open_pcap(out) as reader:
        assert sum(map(len, reader.batches())) == sink.packets
    assert limit - 15_016 < len(octets) <= limit
    until_threads_are(before)


def test_a_fork_writes_nothing_and_waits_for_nothing(capture, tmp_path, monkeypatch):
    """The thread that would end its waiting is the other process's."""

    def slow(descriptor, octets, at):
        time.sleep(0.01)
        return pwrite(descriptor, octets, at)

    with open_pcap(capture) as reader, RecordSink(tmp_path / "out", reader) as sink:
        monkeypatch.setattr(os, "pwrite", slow)
        batches = reader.batches()
        for _ in range(WINDOWS - 1):
            sink.records(next(batches))
        there, here = os.pipe()
        child = os.fork()
        if not child:
            try:
                batch = next(batches)
                try:
                    sink.records(batch)
                except ValueError as error:
                    if "of which this is a fork" in str(error):
                        sink.close()
                        os.write(here, b"refused")
            finally:
                os._exit(0)
        os.close(here)
        assert os.read(there, 100) == b"refused"
        os.close(there)
        os.waitpid(child, 0)
        n = sink.packets
    with open_pcap(tmp_path / "out") as reader:
        assert sum(map(len, reader.batches())) == n
    assert capture.read_bytes().startswith((tmp_path / "out").read_bytes())


@pytest.mark.parametrize("fsync", ["always", "close"])
def test_records_are_on_the_disk_when_that_is_wanted(capture, tmp_path, monkeypatch, fsync):
    out, synced = tmp_path / "out", []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (sync(file), synced.append(os.fstat(file).st_size)))
    with open_pcap(capture) as reader:
        copy_pcap(reader, out, fsync=fsync)
    assert out.read_bytes() == capture.read_bytes()
    assert synced[-1] == out.stat().st_size
    assert len(synced) > WINDOWS if fsync == "always" else len(synced) == 1
