"""Where a reader's octets come from: a path, standard input or a binary stream, packed or not."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any

from rawkit.engine.batch import FrameBatch
from rawkit.pcap.unpack import CHUNK_LEN, packer, unpacked

WINDOW_LEN = (
    1 << 20
)  # a read of this length is the fastest: the octets are still near when they are looked at
WINDOW_ROWS = 8192  # so that it is the window that packets of 128 octets fill
WINDOWS = 4
"""So many at most, where what stood in others is still being written: then neither side waits often."""


class Source:
    """The octets of a file, in the order in which they stand there.

    `packed` is the name of what the file is packed with ("" for none); octets are given unpacked. `failure`
    says why they ended, "" at an ordinary end.
    """

    def __init__(self, path_or_stream: str | os.PathLike[str] | IO[bytes]) -> None:
        """Open a path, "-" for standard input, or take a stream with read(); streams are not closed.

        Raises OSError when a path cannot be opened, TypeError for anything else, `MissingUnpacker` for what
        there is no library to unpack with.
        """
        self._close: Callable[[], None] | None = None
        if isinstance(path_or_stream, (str, os.PathLike)):
            self.path = os.fspath(path_or_stream)
            if self.path == "-":
                self.path = "standard input"
                if sys.stdin is None:
                    raise OSError(errno.EBADF, "standard input is closed")
                stream: Any = sys.stdin.buffer
            else:
                # Unbuffered: a read from a pipe then gives what is there and does not wait for more.
                stream = open(self.path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
                self._close = stream.close
        elif hasattr(path_or_stream, "read"):
            stream = path_or_stream
            name = getattr(stream, "name", "")
            self.path = name if isinstance(name, str) and name else "stream"
        else:
            kind = type(path_or_stream).__name__
            raise TypeError(
                f"a path, '-' or a binary stream is needed, not {kind} (wrap octets in io.BytesIO)"
            )
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
        # Only the library's own streams: in others, either of the two may be all that works.
        self._read_into: Callable[[memoryview], int | None] | None = None
        if type(stream) is io.FileIO:
            self._read_into = stream.readinto
        elif type(stream) in (io.BufferedReader, io.BytesIO):
            self._read_into = getattr(stream, "readinto1", stream.readinto)
        self.failure = ""
        self._waiting = b""  # octets that were read, or unpacked, and not yet given away
        self._chunks: Iterator[bytes] | None = None
        try:
            while len(self._waiting) < 6 and (chunk := self._chunk()):
                self._waiting += chunk
            self.packed = packer(self._waiting)
            if self.packed:
                self._chunks = unpacked(self.packed, self._packed_chunks(self._waiting), self._fail)
                self._waiting = b""
        except BaseException:
            self.close()
            raise

    def read_into(self, room: memoryview) -> int:
        """Put the next octets into `room`, as many as are there; gives how many, 0 only at the end."""
        if not self._waiting:
            if self._chunks is not None:
                self._waiting = next(self._chunks, b"")
            elif self._read_into is not None:
                n = self._read_into(room)
                if n is None:
                    raise self._not_ready()
                return n
            else:
                self._waiting = self._chunk()
        n = min(len(self._waiting), len(room))
        room[:n] = self._waiting[:n]
        self._waiting = self._waiting[n:]
        return n

    def close(self) -> None:
        """Close what was opened here."""
        if self._close is not None:
            self._close()

    def _chunk(self) -> bytes:
        chunk = self._read(CHUNK_LEN)
        if isinstance(chunk, str):
            raise TypeError(f"{self.path}: a binary stream is needed, this one gives text")
        if chunk is None:
            raise self._not_ready()
        return bytes(chunk)

    def _not_ready(self) -> BlockingIOError:
        return BlockingIOError(f"{self.path}: no octets are ready, and a reader needs a stream that waits")

    def _packed_chunks(self, first: bytes) -> Iterator[bytes]:
        yield first
        while chunk := self._chunk():
            yield chunk

    def _fail(self, failure: str) -> None:
        self.failure = failure


class Window:
    """A piece of a file in the arena of a batch: `buf[pos:end]` is what was fetched and not yet consumed.

    `base` is the place of buf[0] in the file (of the unpacked octets, when it is packed). The window holds no
    more than WINDOW_LEN octets, or what was asked of `fill`. The batch is another one after that, or while
    that before is lent.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.batch = FrameBatch(WINDOW_ROWS, WINDOW_LEN)
        self.buf = self.batch.arena
        self.pos = self.end = self.base = 0
        self._waits: list[Callable[[], None]] = []  # for those whom the batch is lent to
        self._lent: deque[tuple[FrameBatch, list[Callable[[], None]]]] = deque()
        self._closed = False

    def fill(self, wanted: int) -> int:
        """Drop what is consumed and fetch until `wanted` octets follow `pos`.

        Gives how many follow: fewer only at the end of the file. Rows of the batch become void.
        """
        if self._closed:
            raise ValueError(f"{self.source.path}: the reader is closed")
        have = self.end - self.pos
        if have >= wanted:
            return have
        rest = self.buf[self.pos : self.end]
        self.batch.clear()
        if self._waits:
            self._turn()
        if wanted > self.batch.arena_len:
            self.batch = FrameBatch(WINDOW_ROWS, wanted)
            self.buf = self.batch.arena
        self.buf[:have] = rest
        self.base += self.pos
        self.pos, self.end = 0, have
        try:
            with memoryview(self.buf) as room:
                while self.end < wanted:
                    n = self.source.read_into(room[self.end :])
                    if not n:
                        break
                    self.end += n
        finally:  # a stream that does not wait (BlockingIOError) goes on from here
            self.batch.handle.arena_used = self.end
        return self.end

    def lend(self, wait: Callable[[], None]) -> None:
        """Leave the octets of the batch as they are until `wait`, called before they change, has returned."""
        self._waits.append(wait)

    def _turn(self) -> None:
        """Take another batch: a new one, or the one that was lent first, when it is given back."""
        if len(self._lent) < WINDOWS - 1:
            batch = FrameBatch(WINDOW_ROWS, WINDOW_LEN)
        else:
            batch, waits = self._lent[0]
            for wait in waits:
                wait()
            self._lent.popleft()
        self._lent.append((self.batch, self._waits))
        self.batch, self.buf, self._waits = batch, batch.arena, []

    def peek(self, n: int) -> bytes:
        """The next `n` octets, or as many as are there."""
        octets: bytes = self.buf[self.pos : min(self.pos + n, self.end)]
        return octets

    def close(self) -> None:
        """Close the source; fetching more raises ValueError from now on."""
        self._closed = True
        self.source.close()
