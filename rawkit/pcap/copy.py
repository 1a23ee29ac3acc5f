"""Copying packets of a capture file into another one, octet for octet, with all that stands beside them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import IO

from rawkit.engine.batch import FrameBatch
from rawkit.pcap import blocks as b
from rawkit.pcap.reader import Reader
from rawkit.pcap.sink import Fsync, Sink

Wanted = Callable[[FrameBatch], tuple[Sequence[int], bool]]


def copy_pcap(
    reader: Reader,
    path_or_stream: str | os.PathLike[str] | IO[bytes],
    wanted: Wanted | None = None,
    *,
    fsync: Fsync = "never",
) -> int:
    """Copy what is still to be read of a capture file to a new one of the same kind; gives how many packets.

    Nothing is decoded and written anew: byte order, resolution, every block and option of pcapng, known or
    not, are as they were, and without `wanted` all octets are. `wanted` is asked about each batch and gives a
    number for each frame, 0 for one that is to be left out, and whether to go on behind the batch; the
    sections' lengths, which are optional, then become "not specified". Statistics stay those of the capture.

    The new file is as whole at every moment as a writer's. When the old one is damaged, what came before is
    in the new one.

    Raises `CaptureFileError` when the file is damaged, `EngineError` or OSError when the new one cannot be
    written, ValueError as `Reader.parts`.
    """
    parts = reader.parts()
    measure = _Measure(reader.header)
    sink = Sink(path_or_stream, measure, fsync)
    try:
        if reader.kind == "pcap":
            sink.write(reader.header)
            sink.flush()
        for part in parts:
            if isinstance(part, FrameBatch):
                flags, more = (None, True) if wanted is None else wanted(part)
                _copy_packets(sink, part, reader.spans(part), flags)
                if not more:
                    break
            elif part.kind == b.SHB:
                # What is in the buffer has the byte order of the section before.
                sink.flush()
                measure.order = part.order
                sink.write(part.octets if wanted is None else _without_length(part))
                sink.flush()
            else:
                sink.write(part.octets)
    finally:
        sink.close()
    return sink.packets


class _Measure:
    """The length of a record, and how many packets it holds, for a `Sink`."""

    def __init__(self, pcap_header: bytes) -> None:
        """`pcap_header` is empty for pcapng, whose sections say what `order` is."""
        self.order, _, self._record_len = b.PCAP_VARIANTS.get(pcap_header[:4], ("<", 0, 0))

    def __call__(self, buffer: bytearray, at: int) -> tuple[int, int]:
        kind, length, cap_len = struct.unpack_from(self.order + "III", buffer, at)
        if self._record_len:
            return self._record_len + cap_len, 1
        return length, int(kind in (b.EPB, b.SPB, b.PB))


def _copy_packets(
    sink: Sink, batch: FrameBatch, spans: Iterable[tuple[int, int]], flags: Sequence[int] | None
) -> None:
    """Write the records that are wanted, those that lie side by side at once."""
    start = end = packets = 0
    for i, (record_start, record_end) in enumerate(spans):
        if flags is not None and not flags[i]:
            continue
        if record_start != end and packets:
            sink.write(batch.arena[start:end], packets)
            packets = 0
        if not packets:
            start = record_start
        end = record_end
        packets += 1
    if packets:
        sink.write(batch.arena[start:end], packets)


def _without_length(section: b.Block) -> bytes:
    """A section header block whose section length is -1, "not specified"."""
    return section.octets[:16] + b"\xff" * 8 + section.octets[24:]
