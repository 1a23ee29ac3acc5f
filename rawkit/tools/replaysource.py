"""Where a replay's frames come from: batches of a capture file, as often as it is gone over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rawkit.engine import FrameBatch
from rawkit.engine.batch import CSUM_NOT_READY
from rawkit.errors import CaptureFileError
from rawkit.pcap import Reader
from rawkit.wire.frame import Frame

BATCH = 64
BATCH_LEN = 1 << 20
"""Frames in a batch made of frames one by one, and their octets, at most.

That takes some 2 us a frame, between sending one batch and the next: with more the first would go late.
"""


@dataclass
class Pass:
    """One time through the file: which (from 0), the frames read so far, and the times of two of them.

    `row` is where in the file the range given last begins, counted from 0.
    """

    number: int
    row: int = 0
    frames_n: int = 0
    first_ns: int = 0
    last_ns: int = 0

    @property
    def period_ns(self) -> int:
        """After how long the next one follows: its length and the mean gap."""
        length_ns = max(self.last_ns - self.first_ns, 0)
        return length_ns + length_ns // max(self.frames_n - 1, 1)


@dataclass
class Source:
    """Frames of a file, or any others, `loop` times over, as rows of batches that are refilled.

    Of each pass the first `skip` frames and those of the first `start_ns` are passed over; `limit` frames are
    given in all. A file is read anew for each pass; streams and other iterables are kept in memory if there
    is more than one. `current` is the pass.
    """

    frames: Iterable[Frame]
    loop: int = 1
    skip: int = 0
    start_ns: int = 0
    limit: int | None = None
    current: Pass = field(default_factory=lambda: Pass(0))

    def rows(self) -> Iterator[tuple[FrameBatch, int, int]]:
        """Batches, each with the range of its rows that counts."""
        left = self.limit
        for batches in self._passes():
            for batch, first, n in self._wanted(batches):
                if left is not None:
                    n = min(n, left)
                    left -= n
                records = batch.handle.frames
                if self.current.frames_n == 0:
                    self.current.first_ns = records[first].time_ns
                self.current.frames_n += n
                self.current.last_ns = records[first + n - 1].time_ns
                yield batch, first, n
                if left == 0:
                    return

    def _passes(self) -> Iterator[Iterator[FrameBatch]]:
        reader = self.frames
        if isinstance(reader, Reader) and self.loop == 1:
            yield reader.batches()
            return
        another = reader.again() if isinstance(reader, Reader) else None
        kept = self.frames if another is not None or self.loop == 1 else list(self.frames)
        for number in range(self.loop):
            self.current = Pass(number)
            if another is None:
                yield in_batches(kept)
                continue
            with another:
                yield another.batches()
            if number + 1 < self.loop:
                another = another.again()

    def _wanted(self, batches: Iterator[FrameBatch]) -> Iterator[tuple[FrameBatch, int, int]]:
        skip = self.skip
        passed = 0
        from_ns: int | None = None
        for batch in batches:
            n = len(batch)
            first = min(skip, n)
            skip -= first
            if self.start_ns and first < n:
                times = [time_ns for time_ns, *_ in batch.places()]
                if from_ns is None:
                    from_ns = times[first] + self.start_ns
                begun = next((row for row in range(first, n) if times[row] >= from_ns), n)
                if begun < n:
                    from_ns = -(2**63)  # from here on all of them
                first = begun
            if first < n:
                self.current.row = passed + first
                yield batch, first, n - first
            passed += n


def in_batches(frames: Iterable[Frame]) -> Iterator[FrameBatch]:
    """Frames as rows, BATCH of them at a time in a batch that is refilled.

    When reading fails, what came before goes first.
    """
    batch = FrameBatch(BATCH, BATCH_LEN)
    damage: CaptureFileError | None = None
    try:
        for frame in frames:
            full = len(batch) == BATCH or batch.handle.arena_used + len(frame.data) > BATCH_LEN
            if len(batch) and (full or frame.linktype != batch.linktype):
                yield batch
                batch.clear()
            batch.linktype = frame.linktype
            add_row(batch, frame)
    except CaptureFileError as error:
        damage = error
    if len(batch):
        yield batch
    if damage is not None:
        raise damage


def add_row(batch: FrameBatch, frame: Frame) -> None:
    """Append a frame with what its record has to say for sending it."""
    batch.append(frame.data, frame.time_ns)
    row = batch.handle.frames[len(batch) - 1]
    row.wire_len = frame.wire_len
    row.gso_len = frame.gso_len
    row.flags = CSUM_NOT_READY if frame.checksum == "not ready" else 0
