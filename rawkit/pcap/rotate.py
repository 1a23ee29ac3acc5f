"""Capture files one after the other: the next begins when the last has grown or aged enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rawkit.engine.batch import FrameBatch
from rawkit.engine.capfile import Recorder
from rawkit.pcap.pack import split_ending
from rawkit.pcap.writer import PcapngWriter, PcapWriter

_RECORD_EXTRA = 64  # octets that a record has at most beside its packet


class RotatingWriter:
    """Writes a series of capture files, each of which is valid by itself; names as tcpdump's -C, -G and -W.

    A new file is begun with the first packet after the last file has `size` octets, and each `interval_ns`
    after the first one was opened, whether there were packets or not. With `interval_ns`, `path` goes through
    strftime(3), local time. A name that is the same as the last one has a number after it: 1, 2 and so on
    (before ".zst", ".gz" or ".lz4", which pack the files; `size` is that of what is packed).

    With `files` and `size` there are just those numbered 0 to `files` - 1 (with as many digits as that), and
    the oldest is written over. With `files` and `interval_ns` the last of so many files does not end.

    Without limits it is one file.
    """

    def __init__(
        self,
        path: str,
        open_file: Callable[[str], PcapWriter | PcapngWriter],
        *,
        size: int | None = None,
        interval_ns: int | None = None,
        files: int | None = None,
        finish: Callable[[PcapWriter | PcapngWriter], None] | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Open the first file. `open_file` makes a writer for a name, `finish` writes what shall end a file.

        Raises what `open_file` raises, ValueError for limits below 1 or all three.
        """
        for limit in (size, interval_ns, files):
            if limit is not None and limit < 1:
                raise ValueError(f"a limit of {limit}; the least is 1")
        if size and interval_ns and files:
            raise ValueError("a number of files has no meaning with both a size and an interval")
        self._pattern = path
        self._open_file = open_file
        self._finish = finish
        self._size = size
        self._interval_ns = interval_ns
        self._files = files
        self._now_ns = now_ns
        self._due_ns = self._now_ns() + (interval_ns or 0)
        self._base = ""
        self._number = 0  # of files with this base before the next one
        self._before = 0  # packets in files that are closed
        self._octets_before = 0
        self.opened = 0
        """Files opened so far."""
        self._open()

    @property
    def path(self) -> str:
        """The file that is being written."""
        return self._writer.path

    @property
    def packets(self) -> int:
        """Packets written to all files; after a write error, those that the files still hold."""
        return self._before + self._writer.packets

    @property
    def octets(self) -> int:
        """Octets written to all files, before packing, those included that are still in the buffer."""
        return self._octets_before + self._writer.octets

    def write_batch(
        self,
        batch: FrameBatch,
        first: int = 0,
        *,
        linktype: int | None = None,
        interface_names: Mapping[int, str] | None = None,
    ) -> None:
        """Append the frames of a batch from `first` on (see `PcapWriter.write_batch`), to several files if
        need be."""
        n = len(batch)
        while first < n:
            self._make_room()
            count = self._fitting(batch, first)
            self._writer.write_batch(batch, first, count, linktype=linktype, interface_names=interface_names)
            first += count

    def pause(self) -> None:
        """Nothing comes at present: begin a file that is due, and let nobody wait for what is buffered.

        A writer that is kept busy needs neither: it looks at the clock and flushes by itself.
        """
        self.rotate_when_due()
        self.flush()

    def _make_room(self) -> None:
        """Begin a new file if one is due, or the last one is full."""
        self.rotate_when_due()
        full = self._size is not None and self._writer.octets >= self._size
        if full and self._writer.packets:  # a file has one packet at least
            self._next()

    @property
    def appends(self) -> bool:
        """Whether `recording` works for the file that is being written (see `PcapWriter.appends`)."""
        return self._writer.appends

    @contextmanager
    def recording(self, linktype: int, interface_names: Mapping[int, str]) -> Iterator[Recorder]:
        """For `PacketRing.record`, as `PcapWriter.recording`; to be left when `due_in` seconds are over."""
        self._make_room()
        with self._writer.recording(linktype, interface_names, self._size) as recorder:
            yield recorder

    def due_in(self) -> float:
        """Seconds until the next file begins; infinite without an interval."""
        if self._interval_ns is None:
            return math.inf
        return max(0.0, (self._due_ns - self._now_ns()) / 1e9)

    def _fitting(self, batch: FrameBatch, first: int) -> int:
        """How many frames to write before the size is looked at again: no more than fit, but at least one."""
        count = len(batch) - first
        if self._size is None:
            return count
        left = self._size - self._writer.octets
        frames = batch.handle.frames
        while count > 1:
            last = frames[first + count - 1]
            # They lie in order: this is an upper limit, close enough after a few rounds.
            if last.offset + last.cap_len - frames[first].offset + count * _RECORD_EXTRA <= left:
                break
            count //= 2
        return count

    def rotate_when_due(self) -> None:
        """Begin a new file if the interval is over; to be called now and then while there are no packets."""
        if self._interval_ns is None or (late_ns := self._now_ns() - self._due_ns) < 0:
            return
        # Who stood still for several intervals begins one file, and stays in step.
        self._due_ns += (late_ns // self._interval_ns + 1) * self._interval_ns
        if self.opened != self._files:
            self._next()

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        self._writer.flush()

    def _next(self) -> None:
        self._end()
        packets, octets = self._writer.packets, self._writer.octets
        self._open()
        self._before += packets
        self._octets_before += octets

    def _open(self) -> None:
        writer = self._open_file(self._name())
        self._writer = writer
        self.opened += 1

    def _name(self) -> str:
        base = self._pattern
        if self._interval_ns is not None:
            base = time.strftime(base)
        base, ending = split_ending(base)
        if base != self._base:
            self._base, self._number = base, 0
        number, self._number = self._number, self._number + 1
        if self._files is not None and self._size is not None:
            return f"{base}{number % self._files:0{len(str(self._files - 1))}d}{ending}"
        return f"{base}{number or ''}{ending}"

    def _end(self) -> None:
        try:
            if self._finish is not None:
                self._finish(self._writer)
        finally:
            self._writer.close()

    def close(self) -> None:
        """Finish the last file. Closing again does nothing."""
        if not self._writer.closed:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
