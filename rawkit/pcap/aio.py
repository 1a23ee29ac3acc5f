"""Reading a capture that is still being written, from a running event loop: pipes, sockets, terminals."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from typing import IO, TYPE_CHECKING

from rawkit.engine.aio import Waits
from rawkit.errors import CaptureFileError
from rawkit.pcap.reader import Reader

if TYPE_CHECKING:
    from rawkit.wire.frame import Frame

TURN = 1024
"""Frames after which the loop's other tasks get their turn, if there was nothing to wait for."""


class AsyncReader(Reader):
    """A `Reader` for `async for`: while no frames are there, the loop's other tasks go on.

    All else is as in `Reader`; its other ways of reading raise BlockingIOError where they would have to wait,
    and go on when called again.
    """

    def __init__(self, stream: _Impatient) -> None:
        self._waits = Waits()
        self._stream: _Impatient | None = None  # not closed by an attempt to open that has to be repeated
        super().__init__(stream)  # type: ignore[arg-type]
        self._stream = stream
        stream.forget()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        import asyncio

        given = 0
        while True:
            try:
                for frame in self:
                    yield frame
                    given += 1
                    if given % TURN == 0:
                        await asyncio.sleep(0)
                return
            except BlockingIOError:
                assert self._stream is not None
                await self._waits.ready([self._stream.fileno()])

    def close(self) -> None:
        self._waits.end()
        super().close()
        if self._stream is not None:
            self._stream.close()


class _Impatient:
    """A descriptor's octets: a read that would wait raises BlockingIOError instead.

    That is seen by asking first, not by O_NONBLOCK, which would change the descriptor for all who share it.
    What was read is kept until `forget`, so that reading can begin anew.
    """

    def __init__(self, descriptor: int, name: str, owned: bool) -> None:
        self.name = name
        self._descriptor = descriptor
        self._owned = owned
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._kept: list[bytes] | None = []
        self._at = 0

    def fileno(self) -> int:
        return self._descriptor

    def read(self, n: int) -> bytes:
        """At most n octets, at least one, b"" at the end."""
        if self._kept is not None and self._at < len(self._kept):
            self._at += 1
            return self._kept[self._at - 1]
        if not self._poll.poll(0):
            raise BlockingIOError(f"{self.name}: no octets are ready")
        octets = os.read(self._descriptor, n)
        if self._kept is not None:
            self._kept.append(octets)
            self._at += 1
        return octets

    def rewind(self) -> None:
        self._at = 0

    def forget(self) -> None:
        self._kept = None

    def close(self) -> None:
        if self._owned:
            self._owned = False
            os.close(self._descriptor)


async def aopen_pcap(path_or_stream: str | os.PathLike[str] | IO[bytes]) -> AsyncReader:
    """As `open_pcap`, while the loop's other tasks go on: for captures that are still being written.

    A FIFO's writer is waited for, and so is the first interface. A stream has to have a descriptor, and no
    octets in a buffer of its own. Regular files are read as fast as they come.

    Raises `CaptureFileError` and `OSError` as `open_pcap`, and `CaptureFileError` for a packed capture that
    does not come from a regular file: there is no waiting in the midst of unpacking.
    """
    stream = _impatient(path_or_stream)
    waits = Waits()
    try:
        while True:
            try:
                reader = AsyncReader(stream)
                break
            except BlockingIOError:
                await waits.ready([stream.fileno()])
                stream.rewind()
    except BaseException:
        stream.close()
        raise
    packed = reader.packed
    if packed and not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        reader.close()
        message = f"{stream.name}: packed with {packed}, and not a regular file: unpack it on the way"
        raise CaptureFileError(message, stream.name, 0, 0)
    return reader


def _impatient(path_or_stream: str | os.PathLike[str] | IO[bytes]) -> _Impatient:
    if isinstance(path_or_stream, (str, os.PathLike)):
        path = os.fspath(path_or_stream)
        if path == "-":
            return _Impatient(sys.stdin.fileno(), "standard input", owned=False)
        # Without O_NONBLOCK the opening of a FIFO waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)
        return _Impatient(descriptor, path, owned=True)
    name = getattr(path_or_stream, "name", "")
    return _Impatient(
        path_or_stream.fileno(), name if isinstance(name, str) and name else "stream", owned=False
    )
