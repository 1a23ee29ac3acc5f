"""Captures that are still being written, read from a running loop: the same frames as from the whole file."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rawkit.errors import CaptureFileError
from rawkit.pcap import aopen_pcap, create_pcap, open_pcap
from rawkit.wire.frame import Frame

FIXTURES = sorted((Path(__file__).parents[2] / "pcaps").glob("*.pcap*"))


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """What `main` gives; no descriptor may be open afterwards that was not before."""

    async def watched() -> Any:
        before = sorted(os.listdir("/proc/self/fd"))
        result = await asyncio.wait_for(main(), 30)
        assert sorted(os.listdir("/proc/self/fd")) == before
        return result

    return asyncio.run(watched())


def frames_of(path: Path) -> list[Frame]:
    with open_pcap(path) as reader:
        return list(reader)


async def through_a_pipe(octets: bytes, cuts: list[int]) -> list[Frame]:
    """What is read while a task writes the octets, a piece each time that the reader waits."""
    outlet, inlet = os.pipe()

    async def write() -> None:
        with os.fdopen(inlet, "wb", buffering=0) as stream:
            for start, end in zip([0, *cuts], [*cuts, len(octets)]):
                stream.write(octets[start:end])
                await asyncio.sleep(0)

    with os.fdopen(outlet, "rb", buffering=0) as stream:
        writing = asyncio.create_task(write())
        with await aopen_pcap(stream) as reader:
            frames = [frame async for frame in reader]
        await writing
    return frames


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name)
def test_a_pipe_gives_what_the_file_does(path: Path) -> None:
    octets = path.read_bytes()
    cuts = list(range(997, len(octets), 9973))
    assert run(lambda: through_a_pipe(octets, cuts)) == frames_of(path)


@pytest.mark.parametrize("name", ["small.pcap", "small.pcapng"])
def test_wherever_the_pieces_are_cut(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with create_pcap(path) as writer:
        for i in range(5):
            writer.write(Frame(bytes([i]) * (60 + i), time_ns=10**18 + i))
    octets, frames = path.read_bytes(), frames_of(path)
    assert len(frames) == 5

    async def everywhere() -> None:
        for cut in range(1, len(octets)):
            assert await through_a_pipe(octets, [cut]) == frames
        assert await through_a_pipe(octets, list(range(1, len(octets)))) == frames

    run(everywhere)


def test_a_fifo_waits_for_its_writer_and_frames_come_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def main() -> list[bytes]:
        ticking = asyncio.create_task(tick())
        opening = asyncio.create_task(aopen_pcap(path))
        await asyncio.sleep(0.02)
        assert not opening.done()
        with open(path, "wb", buffering=0) as stream, create_pcap(stream) as writer:
            writer.write(Frame(b"one"))
            writer.flush()
            with await opening as reader:
                frames = aiter(reader)
                got = [(await anext(frames)).data]
                coming = asyncio.ensure_future(anext(frames))
                await asyncio.sleep(0.02)
                assert not coming.done()
                writer.write(Frame(b"two"))
                writer.flush()
                got.append((await coming).data)
        ticking.cancel()
        return got

    assert run(main) == [b"one", b"two"]
    assert ticks >= 10


def test_cancelled_and_closed_while_it_waits(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main() -> None:
        opening = asyncio.create_task(aopen_pcap(path))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        opening = asyncio.create_task(aopen_pcap(path))
        await asyncio.sleep(0)
        with open(path, "wb", buffering=0) as stream, create_pcap(stream) as writer:
            writer.write(Frame(b"one"))
            writer.flush()
            reader = await opening
            frames = aiter(reader)
            assert (await anext(frames)).data == b"one"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(frames), 0.01)
            frames = aiter(reader)  # cancelled in the middle of waiting, it goes on where it was
            coming = asyncio.ensure_future(anext(frames))
            await asyncio.sleep(0)
            reader.close()
            with pytest.raises(ValueError, match="closed"):
                await coming

    run(main)


def test_what_another_program_writes(tmp_path: Path) -> None:
    path = FIXTURES[0]

    async def main() -> list[Frame]:
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
            assert cat.stdout is not None
            with await aopen_pcap(cat.stdout) as reader:
                return [frame async for frame in reader]

    assert run(main) == frames_of(path)


def test_files_and_what_cannot_be_read(tmp_path: Path) -> None:
    path = FIXTURES[0]
    packed = tmp_path / "packed.pcapng.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))

    async def main() -> None:
        for file in (path, packed):
            with await aopen_pcap(file) as reader:
                assert [frame async for frame in reader] == frames_of(path)
        with pytest.raises(CaptureFileError, match="packed with gzip, and not a regular file"):
            await through_a_pipe(packed.read_bytes(), [100])
        with pytest.raises(CaptureFileError, match="not a capture file"):
            await through_a_pipe(b"no capture", [4])
        with pytest.raises(CaptureFileError, match="it is empty"):
            await through_a_pipe(b"", [])
        with pytest.raises(CaptureFileError, match="the file ends inside it"):
            await through_a_pipe(path.read_bytes()[:-3], [50])
        with pytest.raises(FileNotFoundError):
            await aopen_pcap(tmp_path / "none")

    run(main)
