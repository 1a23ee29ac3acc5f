"""Taking packets out of a capture file: by number, by time, by a filter expression."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO

from rawkit.engine.batch import FrameBatch
from rawkit.errors import TargetError
from rawkit.pcap.copy import copy_pcap
from rawkit.pcap.reader import Reader
from rawkit.pcap.writer import create_pcap, kind_of_name
from rawkit.tools.select import Selection

_TIME_MAX = 2**63 - 1


@dataclass(frozen=True)
class Slice:
    """Which packets of a file are wanted: those for which all of this holds.

    `numbers` are ranges of packet numbers, the first being 1 and both ends included (an end of None: to the
    end of the file); () is all. Times are nanoseconds since 1970, the last one excluded; with `from_start`
    they count from the file's first packet. `count` packets at most.
    """

    filter: str = ""
    numbers: tuple[tuple[int, int | None], ...] = ()
    from_ns: int | None = None
    until_ns: int | None = None
    from_ns_since_start: bool = False
    until_ns_since_start: bool = False
    invert: bool = False
    count: int | None = None


class Slicer:
    """Chooses packets batch by batch, as `copy_pcap` asks for; counts what it `seen` and `kept`."""

    def __init__(self, wanted: Slice, linktype: int = 1) -> None:
        """Raises FilterError for an expression that does not compile."""
        self._wanted = wanted
        self._selection = Selection(wanted.filter, linktype)
        self._bounds = (wanted.from_ns or 0, _TIME_MAX if wanted.until_ns is None else wanted.until_ns)
        self._timed = wanted.from_ns is not None or wanted.until_ns is not None
        ends = [last for _, last in wanted.numbers]
        self._last = max(filter(None, ends), default=None) if ends and None not in ends else None
        self.seen = 0
        self.kept = 0

    def __call__(self, batch: FrameBatch) -> tuple[bytearray, bool]:
        """One octet for each frame, 0 for one that is left out, and whether there may be more."""
        wanted, n = self._wanted, len(batch)
        if not self.seen and n:
            start_ns = batch.handle.frames[0].time_ns
            low, high = self._bounds
            self._bounds = (
                low + start_ns if wanted.from_ns_since_start else low,
                min(high + start_ns, _TIME_MAX) if wanted.until_ns_since_start else high,
            )
        flags = self._selection.choose(batch)
        if wanted.numbers:
            chosen = bytearray(n)
            for first, last in wanted.numbers:
                start = max(first - 1 - self.seen, 0)
                end = n if last is None else min(max(last - self.seen, 0), n)
                if start < end:
                    chosen[start:end] = flags[start:end]
            flags = chosen
        if self._timed:
            batch.within(*self._bounds, flags)
        if wanted.invert:
            flags = flags.translate(_OTHERS)
        self.seen += n
        kept = flags.count(1)
        if wanted.count is not None and self.kept + kept > wanted.count:
            left = wanted.count - self.kept
            for at, flag in enumerate(flags):
                if flag:
                    flags[at] = left > 0
                    left -= 1
            kept = flags.count(1)
        self.kept += kept
        full = wanted.count is not None and self.kept >= wanted.count
        past = self._last is not None and self.seen >= self._last and not wanted.invert
        return flags, not (full or past)


_OTHERS = bytes([1]) + bytes(255)


def slice_pcap(
    reader: Reader, path_or_stream: str | os.PathLike[str] | IO[bytes], wanted: Slice
) -> tuple[int, int]:
    """Write the packets that are wanted to a new file; gives how many, and how many were looked at.

    They are copied as they stand, with all else that stands in the file, unless the name wants another kind
    of file ("-" and streams want none).

    Raises `CaptureFileError` when the file is damaged (what came before is in the new one), FilterError,
    FieldError for what pcap cannot hold, `EngineError` or OSError when the new file cannot be written.
    """
    slicer = Slicer(wanted, reader.linktype)
    named = isinstance(path_or_stream, (str, os.PathLike)) and os.fspath(path_or_stream) != "-"
    if not named or kind_of_name(path_or_stream) == reader.kind:
        copy_pcap(reader, path_or_stream, slicer)
        return slicer.kept, slicer.seen
    with create_pcap(path_or_stream, reader.linktype) as writer:
        for batch in reader.batches():
            flags, more = slicer(batch)
            batch.keep(flags)
            writer.write_batch(batch, interface_names=reader.interface_names)
            if not more:
                break
    return slicer.kept, slicer.seen


def parse_numbers(text: str) -> tuple[tuple[int, int | None], ...]:
    """ "1-100,200,300-": ranges of packet numbers, the first packet being 1.

    Raises:
        TargetError: no such numbers.
    """
    ranges: list[tuple[int, int | None]] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        try:
            first = int(low)
            last = int(high) if high else None if dash else first
        except ValueError:
            raise TargetError(f"packet numbers {part!r}: say 5, 1-100 or 300-") from None
        if first < 1 or (last is not None and last < first):
            raise TargetError(f"packet numbers {part!r}: the first packet is 1, and ranges go upwards")
        ranges.append((first, last))
    return tuple(ranges)
