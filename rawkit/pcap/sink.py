"""Where a writer's records go: a file, standard output or a binary stream; whole records or an error."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
from typing import IO, Any

from rawkit.errors import EngineError

BUFFER_LEN = 64 << 10


class Sink:
    """Collects records and writes them out; the file ends at a whole record whatever happens.

    `packets` is how many of the records given to `write` were packets. When writing fails (disk full, file
    size limit), `packets` falls back to those written whole, a regular file that was opened here is cut back
    to its last whole record, and this and every later write raises the same `EngineError`. Writing to a pipe
    whose reader has gone raises BrokenPipeError.
    """

    def __init__(self, path_or_stream: str | os.PathLike[str] | IO[bytes]) -> None:
        """Create or empty the file at a path; "-" is standard output; a stream needs write() and stays open.

        As root, a new file is readable by root alone (0600), and a symbolic link is not followed, since
        another user may own the directory. Raises OSError.
        """
        self._owned = False
        self._regular = False
        if isinstance(path_or_stream, (str, os.PathLike)):
            self.path = os.fspath(path_or_stream)
            if self.path == "-":
                self.path = "standard output"
                if sys.stdout is None:
                    raise OSError(errno.EBADF, "standard output is closed")
                self._stream: Any = sys.stdout.buffer
            else:
                self._stream = _create(self.path)
                self._owned = True
                self._regular = stat.S_ISREG(os.fstat(self._stream.fileno()).st_mode)
        elif hasattr(path_or_stream, "write"):
            self._stream = path_or_stream
            name = getattr(path_or_stream, "name", "")
            self.path = name if isinstance(name, str) and name else "stream"
        else:
            kind = type(path_or_stream).__name__
            raise TypeError(f"a path, '-' or a binary stream is needed, not {kind}")
        self.packets = 0
        self._buffer = bytearray()
        self._ends: list[
            tuple[int, int]
        ] = []  # of each record in the buffer: where it ends, packets up to it
        self._whole_len = 0  # octets of whole records in the file
        self._whole_packets = 0
        self._error: Exception | None = None
        self.closed = False

    def write(self, record: bytes, packets: int = 0) -> None:
        """Take a record, which holds `packets` packets; writes the buffer out when it is full."""
        if self.closed:
            raise ValueError(f"{self.path}: the writer is closed")
        if self._error is not None:
            raise self._error
        self._buffer += record
        self.packets += packets
        self._ends.append((len(self._buffer), self.packets))
        if len(self._buffer) >= BUFFER_LEN:
            self._write_out()

    def flush(self) -> None:
        """Hand everything to the operating system, so that it survives this process."""
        if self.closed:
            raise ValueError(f"{self.path}: the writer is closed")
        if self._error is not None:
            raise self._error
        self._write_out()
        if not self._owned and hasattr(self._stream, "flush"):
            self._retry_flush()

    def close(self) -> None:
        """Flush, and close the file if it was opened here. Closing again does nothing."""
        if self.closed:
            return
        try:
            if self._error is None:
                self.flush()
        finally:
            self.closed = True
            if self._owned:
                self._stream.close()

    def _write_out(self) -> None:
        done = 0
        octets = bytes(self._buffer)
        try:
            while done < len(octets):
                done += self._put(octets[done:])
        except OSError as error:
            self._cut_back(done, error)
        self._whole_len += len(self._buffer)
        self._whole_packets = self.packets
        self._buffer.clear()
        self._ends.clear()

    def _put(self, octets: bytes) -> int:
        """Write some octets and give how many; a pipe or socket that does not wait is waited for."""
        try:
            written: int | None = self._stream.write(octets)
        except BlockingIOError as error:
            self._wait()
            return error.characters_written
        if written is not None:
            return written
        if isinstance(self._stream, io.RawIOBase):  # None is a raw stream's way of saying that it would block
            self._wait()
            return 0
        return len(octets)

    def _retry_flush(self) -> None:
        while True:
            try:
                self._stream.flush()
                return
            except BlockingIOError:
                self._wait()
            except OSError as error:
                self._cut_back(0, error)

    def _wait(self) -> None:
        waiting = select.poll()
        waiting.register(self._stream, select.POLLOUT)
        waiting.poll()

    def _cut_back(self, done: int, error: OSError) -> None:
        """End a regular file at its last whole record, `done` octets of the buffer being in it; raise."""
        written = [end for end in self._ends if end[0] <= done]
        whole_len, self.packets = written[-1] if written else (0, self._whole_packets)
        hint = ""
        if self._regular:
            try:
                os.ftruncate(self._stream.fileno(), self._whole_len + whole_len)
            except OSError as second:
                hint = f"and it could not be cut back to its last whole record: {second.strerror}"
            else:
                hint = f"cut back to its last whole record, it holds {self.packets} packets"
        self._buffer.clear()
        self._ends.clear()
        if isinstance(error, BrokenPipeError):
            self._error = error
        else:
            self._error = EngineError(error.errno or errno.EIO, "write", self.path, hint)
        raise self._error from error


def _create(path: str) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    mode = 0o666  # the umask takes off what the user wants taken off
    if os.geteuid() == 0:
        mode = 0o600
        if not path.startswith(("/dev/std", "/dev/fd/", "/proc/self/fd/")):  # links, but the system's own
            flags |= os.O_NOFOLLOW
    try:
        return open(os.open(path, flags, mode), "wb", buffering=0)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "is a symbolic link, which is not followed as root", path) from None
        raise
