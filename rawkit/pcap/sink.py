"""Where a writer's records go: a file, standard output or a binary stream; whole records or an error."""

from __future__ import annotations

import errno
import functools
import io
import os
import select
import stat
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal

from rawkit.engine.capfile import Recorder, RecordWriter
from rawkit.errors import EngineError
from rawkit.pcap.pack import pack_of_name

if TYPE_CHECKING:
    from rawkit.pcap.behind import Behind, Piece

BUFFER_LEN = 512 << 10
"""Octets that are gathered before they are written; room for two packets of the greatest length."""

PIECE_LEN = 64 << 10
"""Octets that are written to a file at a time. The kernel puts what comes in one call into one piece of
memory if it can. Pieces of this length are at hand, from files that were dropped; longer ones may be memory
that nobody had used lately, which a virtual machine fetches from its host (docs/design/capture-files.md).
They end at multiples of their length in the file, since the kernel's pieces do: others go into several small
ones, a fifth slower."""

THROUGH_LEN = 64 << 10
"""Octets from which on it is faster to write them from where they lie than to gather them first."""

FLUSH_AFTER = 0.5
"""Seconds that octets stay in the buffer at most, so that even a busy machine keeps them less than one."""

Fsync = Literal["never", "close", "always"]


class Sink:
    """Collects records and writes them out; the file ends at a whole record whatever happens.

    What was given to `write` is in the file after FLUSH_AFTER seconds by itself, when the file was opened
    here or is standard output: then this process may be killed. A stream that was passed in is written to by
    the caller's thread alone, when the buffer is full and by `flush`. `fsync` is for power cuts: "close" has
    the system put the file on its disk once, at the end, "always" each time that something is written out.

    `packets` is how many of the records were packets. When writing fails (disk full, file size limit), it
    falls back to those written whole, a regular file that was opened here is cut back to its last whole
    record, and this and every later write raises the same `EngineError`. Writing to a pipe whose reader has
    gone raises BrokenPipeError.

    A file whose name says so (.zst, .gz, .lz4) is packed, each time that something is written out by itself:
    what was flushed can be unpacked. When writing fails it is cut back to the last piece that was.

    Threads may share a sink. A process forked from the one that opened it can only close its copy, which
    writes nothing.
    """

    def __init__(
        self,
        path_or_stream: str | os.PathLike[str] | IO[bytes],
        measure: Callable[[bytearray, int], tuple[int, int]],
        fsync: Fsync = "never",
    ) -> None:
        """Create or empty the file at a path; "-" is standard output; a stream needs write() and stays open.

        `measure(buffer, at)` is asked, after a failure, for the length of the record that begins at `at` and
        how many packets it holds. What comes before the first flush is one record, the file's header.

        As root, a new file is readable by root alone (0600), and a symbolic link is not followed, since
        another user may own the directory. Raises OSError, and `CaptureFileError` where there is no library
        that packs.
        """
        self.closed = True  # until there is something to close
        if fsync not in ("never", "close", "always"):
            raise ValueError(f"fsync is {fsync!r}; it must be 'never', 'close' or 'always'")
        self._measure = measure
        self._fsync = fsync
        self._owned = False
        self._regular = False
        self._pack = None
        timed = True
        if isinstance(path_or_stream, (str, os.PathLike)):
            self.path = os.fspath(path_or_stream)
            if self.path == "-":
                self.path = "standard output"
                if sys.stdout is None:
                    raise OSError(errno.EBADF, "standard output is closed")
                self._stream: Any = sys.stdout.buffer
            else:
                self._pack = pack_of_name(self.path)
                self._stream = create_file(self.path)
                self._owned = True
                self._regular = stat.S_ISREG(os.fstat(self._stream.fileno()).st_mode)
        elif hasattr(path_or_stream, "write"):
            self._stream = path_or_stream
            name = getattr(path_or_stream, "name", "")
            self.path = name if isinstance(name, str) and name else "stream"
            timed = False
        else:
            kind = type(path_or_stream).__name__
            raise TypeError(f"a path, '-' or a binary stream is needed, not {kind}")
        self.packets = 0
        self.octets = 0  # taken so far
        self._buffer = bytearray(BUFFER_LEN)
        self._used = 0
        self._packed = b""  # all of the buffer; as long as it is there the buffer does not grow
        self._done = 0  # octets of either that are written; kept here for an interrupted write to go on
        self._whole_len = 0  # octets of whole records in the file, or of pieces that were packed
        self._whole_packets = 0
        self._error: Exception | None = None
        self._untold = False  # it was met by the thread, and nobody knows yet
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._behind: Behind | None = None
        self._timed = timed
        self._timing = False  # a thread waits for the buffer's oldest octet to age
        self._since = 0.0  # when that came
        self._cancelled = threading.Event()
        self._recorder: Recorder | None = None
        self._lent = False  # the recorder knows the numbers better
        self.closed = False

    def write(self, record: bytes, packets: int = 0, *, now: bool = False) -> None:
        """Take a record, which holds `packets` packets; writes the buffer out when it is full, or `now`."""
        with self._lock:
            self._ready()
            start = self._used
            end = start + len(record)
            if end > len(self._buffer) or self._packed:
                self._write_out()
                start, end = 0, len(record)
                self._buffer += bytes(max(0, end - len(self._buffer)))  # a block may have 16 MiB
            self._buffer[start:end] = record
            self._used = end
            self.octets += len(record)
            self.packets += packets
            if now:
                self._flush()
            elif not start:
                self._began()

    def fill(self, put: Callable[[bytearray, int], tuple[int, int]], no_room: int) -> int:
        """Let `put(buffer, used)` add records; it gives their number, or one below 0, and where they end.

        It is asked again with an empty buffer when it gives `no_room`. Gives the first of its two numbers.
        """
        with self._lock:
            self._ready()
            if self._packed:
                self._write_out()
            start = self._used
            result, end = put(self._buffer, start)
            if result == no_room:
                self._write_out()
                start = 0
                result, end = put(self._buffer, 0)
            if result > 0:
                self._used = end
                self.octets += end - start
                self.packets += result
                if not start:
                    self._began()
            return result

    def takes_through(self, length: int) -> bool:
        """Whether so many octets should go by `through`: a file that nothing packs, and enough of them."""
        return self._regular and self._pack is None and length >= THROUGH_LEN

    def through(self, records: memoryview, packets: int) -> Callable[[], None]:
        """Have records, which hold so many packets, written behind what was gathered, without gathering them.

        That is done in a thread of its own. They must stay as they are until the function has returned that
        this gives, which raises nothing: an error of theirs is told by the next call.
        """
        with self._lock:
            self._ready()
            self._refuse_fork()
            if self._used:
                self._write_out()
            if self._behind is None:
                from rawkit.pcap.behind import Behind  # a queue comes along; who gathers needs none

                self._behind = Behind(self._stream.fileno())
            pieces = self._behind.pieces
            at = pieces[-1].end if pieces else self._whole_len
            piece = self._behind.put(records, at, self.packets + packets)
            self.octets += len(records)
            self.packets = piece.packets
            if self._fsync == "always":
                self._settle()
                self._sync()
        return functools.partial(self.wait, piece)

    def wait(self, last: Piece | None = None) -> None:
        """Wait until the octets of `through` are not needed any more: those of a piece, or all (None)."""
        if os.getpid() != self._process:
            return
        with self._lock:
            try:
                self._settle(last)
            except OSError:
                self._untold = True

    def flush(self) -> None:
        """Hand everything to the operating system, so that it survives this process."""
        with self._lock:
            self._ready()
            self._flush()

    @property
    def appends(self) -> bool:
        """Whether `recording` works: a regular file that nothing packs, and no sync after each write."""
        return self._regular and self._pack is None and self._fsync != "always"

    @contextmanager
    def recording(self, records: RecordWriter, size: int | None = None) -> Iterator[Recorder]:
        """Let C append records, and write them out, until the file has `size` octets."""
        with self._lock:
            self._ready()
            self._refuse_fork()
            self._settle()
            if self._timing:  # nothing stays in the buffer that would have to be flushed later
                self._cancelled.set()
                self._cancelled = threading.Event()
                self._timing = False
            if self._recorder is None or self._recorder.records is not records:
                self._recorder = Recorder(records, PIECE_LEN)
            recorder = self._recorder
            state = self._whole_len, self._whole_packets, self.packets, self._used, self._done
            with recorder.begin(self._stream.fileno(), self._buffer, size, state):
                self._lent = True
                try:
                    yield recorder
                finally:
                    self._take_back()

    def _ready(self) -> None:
        """To be called before anything is written."""
        if self.closed or self._error is not None:
            self._refuse()
        if self._lent:
            self._take_back()

    def _take_back(self) -> None:
        """Have the numbers that the recorder has. What interrupts this has it done again."""
        assert self._recorder is not None
        self._whole_len, self._whole_packets, self.packets, self._used, self._done = self._recorder.state
        self.octets = self._whole_len + self._used
        self._lent = False

    def close(self) -> None:
        """Flush, and close the file if it was opened here. Closing again does nothing."""
        if os.getpid() != self._process:  # whose thread may have held the lock when it forked
            self._end()
            return
        with self._lock:
            if self.closed:
                return
            try:
                if self._untold:
                    self._refuse()
                if self._lent:
                    self._take_back()
                if self._error is None:
                    self._flush()
                    if self._regular and self._fsync == "close":
                        self._sync()
            finally:
                self._end()

    def _end(self) -> None:
        self.closed = True
        self._cancelled.set()
        if self._behind is not None and os.getpid() == self._process:
            self._behind.close()
        if self._owned:
            self._stream.close()

    def __del__(self) -> None:
        if not self.closed:
            if os.getpid() == self._process:
                warnings.warn(f"{self.path}: the writer was never closed", ResourceWarning, stacklevel=1)
            self.close()

    def flush_aged(self) -> float:
        """Flush when the oldest octet has waited long enough; seconds left until then, 0 to wait no more."""
        with self._lock:
            if self._lent:
                self._take_back()
            if self._used and self._error is None and not self.closed:
                left = self._since + FLUSH_AFTER - time.monotonic()
                if left > 0:
                    return left
                try:
                    self._flush()
                except OSError:
                    self._untold = True
            self._timing = False
            return 0

    def _refuse(self) -> None:
        self._untold = False
        raise self._error or ValueError(f"{self.path}: the writer is closed")

    def _refuse_fork(self) -> None:
        if os.getpid() != self._process:
            raise ValueError(
                f"{self.path}: the writer belongs to process {self._process}, of which this is a fork"
            )

    def _began(self) -> None:
        """The buffer was empty: its oldest octet came now."""
        if self._timed:
            self._since = time.monotonic()
            if not self._timing:
                self._start_timing()

    def _start_timing(self) -> None:
        task = (weakref.ref(self), self._cancelled)
        thread = threading.Thread(target=_flush_when_aged, args=task, name="rawkit-flush", daemon=True)
        try:
            thread.start()
            self._timing = True
        except KeyError as error:
            # CPython: a signal handler raised amid start(), whose clean-up finds the thread running already.
            if error.__context__ is None:
                raise
            raise error.__context__ from None
        except RuntimeError:  # too many threads, or the interpreter is about to end
            self._flush()

    def _settle(self, last: Piece | None = None) -> None:
        """Wait until what the thread has to write is written, up to a piece or all of it."""
        if self._behind is None:
            return
        pieces = self._behind.pieces
        while pieces and (last is None or last in pieces):
            piece = pieces[0]
            piece.write(self._stream.fileno())
            if piece.error is not None:
                self._behind.close()
                # From now on as if they had been gathered.
                self._buffer[: len(piece.octets)] = piece.octets
                self._done = piece.done
                self._cut_back(piece.error)
            self._whole_len, self._whole_packets = piece.end, piece.packets
            pieces.popleft()

    def _flush(self) -> None:
        self._write_out()
        if not self._owned and hasattr(self._stream, "flush"):
            self._retry_flush()

    def _write_out(self) -> None:
        self._refuse_fork()
        self._settle()
        if self._pack is not None and self._used and not self._packed:
            self._packed = self._pack(bytes(self._buffer[: self._used]))
        length = len(self._packed) or self._used
        try:
            with memoryview(self._packed or self._buffer) as whole, whole[:length] as octets:
                while self._done < length:
                    self._done += self._put(octets[self._done :])
        except OSError as error:
            self._cut_back(error)
        if self._regular and self._used and self._fsync == "always":
            self._sync()
        self._whole_len += length
        self._whole_packets = self.packets
        self._packed = b""
        self._used = self._done = 0

    def _put(self, octets: memoryview) -> int:
        """Write some octets and give how many; a pipe or socket that does not wait is waited for."""
        if self._regular:
            # At its place: octets not yet counted when this is interrupted are written there once more.
            at = self._whole_len + self._done
            with octets[: PIECE_LEN - at % PIECE_LEN] as piece:
                return os.pwrite(self._stream.fileno(), piece, at)
        try:
            written: int | None = self._stream.write(bytes(octets))
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
                self._cut_back(error)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._stream.fileno())
        except OSError as error:
            self._error = EngineError(error.errno or errno.EIO, "sync", self.path)
            raise self._error from error

    def _wait(self) -> None:
        waiting = select.poll()
        waiting.register(self._stream, select.POLLOUT)
        waiting.poll()

    def _cut_back(self, error: OSError) -> None:
        """End a regular file at its last whole record, `_done` octets of the buffer being in it; raise."""
        whole_len, self.packets = 0, self._whole_packets
        while self._whole_len and not self._packed and whole_len < self._done:
            length, packets = self._measure(self._buffer, whole_len)
            if whole_len + length > self._done:
                break
            whole_len += length
            self.packets += packets
        hint = ""
        if self._regular:
            try:
                os.ftruncate(self._stream.fileno(), self._whole_len + whole_len)
            except OSError as second:
                hint = f"and it could not be cut back to its last whole record: {second.strerror}"
            else:
                part = "piece that was packed" if self._packed else "whole record"
                hint = f"cut back to its last {part}, it holds {self.packets} packets"
        if isinstance(error, BrokenPipeError):
            self._error = error
        else:
            self._error = EngineError(error.errno or errno.EIO, "write", self.path, hint)
        raise self._error from error


def _flush_when_aged(reference: weakref.ref[Sink], cancelled: threading.Event) -> None:
    """What a sink's thread does; it ends when nothing is left to flush, and does not keep the sink alive."""
    left = FLUSH_AFTER
    while left > 0 and not cancelled.wait(left):
        sink = reference()
        if sink is None:
            return
        left = sink.flush_aged()
        del sink


def create_file(path: str) -> IO[bytes]:
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
