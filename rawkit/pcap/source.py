"""Where a reader's octets come from: a path, standard input or a binary stream, gzip or not, in chunks."""

from __future__ import annotations

import errno
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

CHUNK_LEN = 256 << 10
_GZIP_MAGIC = b"\x1f\x8b\x08"


class Source:
    """A window on the octets of a file: `buf[pos:]` is what has been fetched and not consumed.

    `base` is the place of buf[0] in the file (of the unpacked octets, when it is gzip). The window never
    holds more than was asked of `fill` and one chunk. `failure` says why the octets ended, "" at an ordinary
    end.
    """

    def __init__(self, path_or_stream: str | os.PathLike[str] | IO[bytes]) -> None:
        """Open a path, "-" for standard input, or take a stream with read(); streams are not closed.

        Raises OSError when a path cannot be opened, TypeError for anything else.
        """
        self._close: Callable[[], None] | None = None
        self._closed = False
        if isinstance(path_or_stream, (str, os.PathLike)):
            self.path = os.fspath(path_or_stream)
            if self.path == "-":
                self.path = "standard input"
                if sys.stdin is None:
                    raise OSError(errno.EBADF, "standard input is closed")
                stream: Any = sys.stdin.buffer
            else:
                # Unbuffered: a read from a pipe then gives what is there and does not wait for a whole chunk.
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
        self.buf = b""
        self.pos = 0
        self.base = 0
        self.failure = ""
        self._chunks = self._plain()
        try:
            self.fill(len(_GZIP_MAGIC))
        except BaseException:
            self.close()
            raise
        self.gzip = self.buf.startswith(_GZIP_MAGIC)
        if self.gzip:
            self._chunks = self._inflated(self.buf)
            self.buf = b""

    def fill(self, wanted: int) -> int:
        """Drop what is consumed and fetch until `wanted` octets follow `pos`.

        Gives how many follow: fewer only at the end of the file.
        """
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed")
        parts = [self.buf[self.pos :]]
        have = len(parts[0])
        while have < wanted:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        self.base += self.pos
        self.pos = 0
        self.buf = b"".join(parts)
        return have

    def close(self) -> None:
        """Close what was opened here; fetching more raises ValueError from now on."""
        self._closed = True
        if self._close is not None:
            self._close()

    def _plain(self) -> Iterator[bytes]:
        while True:
            chunk = self._read(CHUNK_LEN)
            if isinstance(chunk, str):
                raise TypeError(f"{self.path}: a binary stream is needed, this one gives text")
            if chunk is None:
                raise BlockingIOError(
                    f"{self.path}: no octets are ready, and a reader needs a stream that waits"
                )
            if not chunk:
                return
            yield bytes(chunk)

    def _inflated(self, first: bytes) -> Iterator[bytes]:
        """Unpack gzip, several members in a row too; a step gives at most a chunk, however well packed."""
        plain = self._plain()
        packed = first
        while packed:
            inflater = zlib.decompressobj(wbits=31)
            while not inflater.eof:
                while not packed:
                    packed = next(plain, b"")
                    if not packed:
                        self.failure = "the gzip file is cut short"
                        rest = inflater.flush()  # the end of a match that the last step had no room for
                        if rest:
                            yield rest
                        return
                before = inflater.copy()
                try:
                    chunk = inflater.decompress(packed, CHUNK_LEN)
                except zlib.error as error:
                    # zlib drops what this step had unpacked before the damage: repeat it octet by octet.
                    yield from _inflate_until_error(before, packed)
                    self.failure = f"the gzip file is damaged ({error})"
                    return
                packed = inflater.unconsumed_tail
                if chunk:
                    yield chunk
            packed = inflater.unused_data.lstrip(b"\0") or next(plain, b"").lstrip(b"\0")


def _inflate_until_error(inflater: zlib._Decompress, packed: bytes) -> Iterator[bytes]:
    """Yield what comes out before the octet at which `inflater` fails; one octet gives a few thousand."""
    for at in range(len(packed)):
        try:
            chunk = inflater.decompress(packed[at : at + 1])
        except zlib.error:
            return
        if chunk:
            yield chunk
