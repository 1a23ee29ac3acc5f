"""Makes capture files octet by octet, with nothing of rawkit: right ones, odd ones and broken ones."""

from __future__ import annotations

import io
import os
import resource
import signal
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace

import pytest

from rawkit.errors import CaptureFileError
from rawkit.pcap import Reader, open_pcap
from rawkit.wire.frame import Frame


@dataclass(frozen=True)
class Maker:
    """Blocks and records in byte order `order` ("<" or ">")."""

    order: str = "<"

    def pack(self, layout: str, *values: int) -> bytes:
        return struct.pack(self.order + layout, *values)

    # ---- pcap

    def pcap_header(
        self,
        magic: int = 0xA1B2C3D4,
        version: tuple[int, int] = (2, 4),
        snaplen: int = 65535,
        linktype: int = 1,
    ) -> bytes:
        return self.pack("IHHIIII", magic, *version, 0, 0, snaplen, linktype)

    def record(
        self,
        data: bytes = b"data",
        seconds: int = 1,
        fraction: int = 2,
        cap_len: int | None = None,
        wire_len: int | None = None,
        extra: bytes = b"",
    ) -> bytes:
        cap_len = len(data) if cap_len is None else cap_len
        wire_len = len(data) if wire_len is None else wire_len
        return self.pack("IIII", seconds, fraction, cap_len, wire_len) + extra + data

    # ---- pcapng

    def option(self, code: int, value: bytes, length: int | None = None) -> bytes:
        length = len(value) if length is None else length
        return self.pack("HH", code, length) + value + bytes(-len(value) % 4)

    def block(self, kind: int, body: bytes, length: int | None = None, trailing: int | None = None) -> bytes:
        body += bytes(-len(body) % 4)
        length = 12 + len(body) if length is None else length
        trailing = length if trailing is None else trailing
        return self.pack("II", kind, length) + body + self.pack("I", trailing)

    def shb(self, options: bytes = b"", minor: int = 0, section_len: int = -1, major: int = 1) -> bytes:
        return self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, major, minor, section_len) + options)

    def idb(self, linktype: int = 1, snaplen: int = 65535, options: bytes = b"") -> bytes:
        return self.block(1, self.pack("HHI", linktype, 0, snaplen) + options)

    def epb(
        self,
        data: bytes = b"data",
        interface: int = 0,
        ticks: int = 1_000_002,
        cap_len: int | None = None,
        wire_len: int | None = None,
        options: bytes = b"",
    ) -> bytes:
        cap_len = len(data) if cap_len is None else cap_len
        wire_len = len(data) if wire_len is None else wire_len
        fixed = self.pack("IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, cap_len, wire_len)
        return self.block(6, fixed + data + bytes(-len(data) % 4) + options)

    def spb(self, data: bytes = b"data", wire_len: int | None = None) -> bytes:
        return self.block(3, self.pack("I", len(data) if wire_len is None else wire_len) + data)

    def obsolete(
        self,
        data: bytes = b"data",
        interface: int = 0,
        drops: int = 0xFFFF,
        ticks: int = 1_000_002,
        options: bytes = b"",
    ) -> bytes:
        fixed = self.pack("HHIIII", interface, drops, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        return self.block(2, fixed + data + bytes(-len(data) % 4) + options)

    def isb(self, interface: int = 0, ticks: int = 0, options: bytes = b"") -> bytes:
        return self.block(5, self.pack("III", interface, ticks >> 32, ticks & 0xFFFFFFFF) + options)

    def every_block(self) -> bytes:
        """A section with every kind of block, options of even and odd length, and seven packets."""
        comment = self.option(1, b"two") + self.option(1, b"comments")
        flags = self.option(2, self.pack("I", 1))
        return b"".join(
            (
                self.shb(self.option(4, b"maker") + self.option(0, b"")),
                self.idb(1, 96, self.option(2, b"eth0") + self.option(9, b"\x09") + self.option(0, b"")),
                self.epb(b"", ticks=5),
                self.epb(b"abc", ticks=6, options=comment + flags + self.option(0, b"")),
                self.block(4, self.pack("HH", 0, 0)),
                self.idb(101, 0, self.option(2, b"tun0")),
                self.epb(b"abcdefgh", interface=1, ticks=7),
                self.spb(b"simple!", 7),
                self.block(0x0A, self.pack("II", 0x544C534B, 4) + b"key\n"),
                self.obsolete(b"old", interface=1, drops=3, ticks=8, options=flags),
                self.block(0x0BAD, self.pack("I", 32473) + b"custom"),
                self.block(0x777, b"unknown"),
                self.epb(b"x" * 33, ticks=9, wire_len=1500, options=flags),
                self.isb(0, 10, self.option(4, self.pack("Q", 100)) + self.option(5, self.pack("Q", 1))),
                self.epb(b"last", interface=1, ticks=11),
            )
        )


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
