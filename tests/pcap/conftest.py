"""Capture files made octet by octet, and all the ways to read one."""

from __future__ import annotations

import io
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace

import pytest
from capfiles import Maker

from rawkit.errors import CaptureFileError
from rawkit.pcap import Reader, open_pcap
from rawkit.wire.frame import Frame


@pytest.fixture(scope="session")
def make() -> Maker:
    return Maker("<")


@pytest.fixture(scope="session", params=["<", ">"], ids=["little-endian", "big-endian"])
def make_both(request: pytest.FixtureRequest) -> Maker:
    return Maker(request.param)


class Outcome:
    """What reading a file gave: its frames, then perhaps an error.

    It is read four times, unless `once`, and has to give the same each time: as a stream, frame by frame and
    in batches, as a file, and from a pipe that brings it in two parts.
    """

    def __init__(self, octets: bytes, once: bool = False) -> None:
        self.reader, self.frames, self.error = reading(io.BytesIO(octets), iter)
        if once:
            return
        ways = [reading(io.BytesIO(octets), in_batches)]
        with tempfile.NamedTemporaryFile() as file:
            file.write(octets)
            file.flush()
            ways.append(reading(file.name, iter))
        ways.append(through_pipe(octets))
        for way, (reader, frames, error) in enumerate(ways):
            assert place(error) == place(self.error), f"way {way}"
            if way == 0:  # batches have no comments
                frames = [replace(frame, comments=full.comments) for frame, full in zip(frames, self.frames)]
            assert frames == self.frames, f"way {way}"
            if reader and self.reader:
                assert (reader.interfaces, reader.statistics) == (
                    self.reader.interfaces,
                    self.reader.statistics,
                )
                assert (reader.section, reader.linktype) == (self.reader.section, self.reader.linktype)

    @property
    def data(self) -> list[bytes]:
        return [frame.data for frame in self.frames]

    @property
    def message(self) -> str:
        """The error's message; there has to be one, and it has to count the frames right."""
        assert self.error is not None, f"no error after {len(self.frames)} frames"
        assert self.error.packet == len(self.frames)
        return str(self.error)


def reading(source, how) -> tuple[Reader | None, list[Frame], CaptureFileError | None]:
    """Read all of a source; `how` gives the frames of a reader."""
    frames: list[Frame] = []
    reader = None
    try:
        with open_pcap(source) as reader:
            for frame in how(reader):
                frames.append(frame)
    except CaptureFileError as error:
        return reader, frames, error
    return reader, frames, None


def in_batches(reader: Reader) -> Iterator[Frame]:
    for batch in reader.batches():
        frames = batch.frames(interface_names=reader.interface_names)
        assert [frame.data for frame in frames] == [batch[i] for i in range(len(batch))]
        yield from frames


def through_pipe(octets: bytes) -> tuple[Reader | None, list[Frame], CaptureFileError | None]:
    readable, writable = os.pipe()

    def write() -> None:
        half = len(octets) // 2
        with suppress(BrokenPipeError), open(writable, "wb", buffering=0) as out:
            for part in (octets[:half], octets[half:]):
                while part:
                    part = part[out.write(part) :]

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with open(readable, "rb", buffering=0) as source:
            return reading(source, iter)
    finally:
        thread.join()


def place(error: CaptureFileError | None) -> tuple[str, int, int] | None:
    """An error without the path."""
    return error and (str(error).removeprefix(f"{error.path}: "), error.offset, error.packet)


@pytest.fixture(scope="session")
def outcome() -> type[Outcome]:
    return Outcome


@contextmanager
def _file_size_limit(octets: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """A context manager: no file of this process may become longer than so many octets."""
    return _file_size_limit
