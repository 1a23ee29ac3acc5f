"""Copying packets of a capture file into another one, octet for octet, with all that stands beside them.

Editing changes the octets of packets alone: times, options and blocks stay as they are, understood or not.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Protocol

from rawkit.engine.batch import FrameBatch
from rawkit.engine.capfile import MAX_PACKET_LEN, NO_ROOM, RecordCopier
from rawkit.engine.native import check
from rawkit.pcap import blocks as b
from rawkit.pcap.reader import Reader
from rawkit.pcap.sink import Fsync, Sink

Wanted = Callable[[FrameBatch], tuple[Sequence[int], bool]]
Blocks = Callable[[b.Block], bytes]

_EDITED_ROWS = 4096
_EDITED_LEN = 4 << 20
_RECORD_MAX = b.MAX_BLOCK_LEN + MAX_PACKET_LEN + 4096  # with what editing adds


class Editor(Protocol):
    """What changes frames, as `rawkit.engine.rewrite.Rewriter` does."""

    def append(self, batch: FrameBatch, out: FrameBatch, first: int = 0, n: int | None = None) -> int:
        """Append frames from `first` on to `out`, one for each, as many as fit; gives how many did."""


def copy_pcap(
    reader: Reader,
    path_or_stream: str | os.PathLike[str] | IO[bytes],
    wanted: Wanted | None = None,
    *,
    edit: Editor | None = None,
    blocks: Blocks | None = None,
    options: Iterable[int] | None = None,
    fsync: Fsync = "never",
) -> int:
    """Copy what is still to be read of a capture file to a new one of the same kind; gives how many packets.

    Nothing is decoded and written anew: byte order, resolution, every block and option of pcapng, known or
    not, are as they were, and without more arguments all octets are. `wanted` is asked about each batch and
    gives a number for each frame, 0 for one that is to be left out, and whether to go on behind the batch.
    `edit` makes other octets of each frame; a simple packet block becomes an enhanced one where it cannot
    tell their length. `blocks` gives the octets that are to stand in place of a block which holds no packet,
    none to leave it out; `options` are the codes of those that packets keep. With any of these the sections'
    lengths, which are optional, become "not specified". Statistics stay those of the capture.

    The new file is as whole at every moment as a writer's. When the old one is damaged, what came before is
    in the new one.

    Raises `CaptureFileError` when the file is damaged, `EngineError` or OSError when the new one cannot be
    written, ValueError as `Reader.parts`, and what the functions passed in raise.
    """
    plain = wanted is None and edit is None and blocks is None and options is None
    with RecordSink(path_or_stream, reader, options=options, fsync=fsync) as sink:
        for part in reader.parts():
            if isinstance(part, b.Block):
                octets = part.octets if blocks is None else blocks(part)
                if part.kind == b.SHB and not plain:
                    octets = without_length(octets)
                sink.block(part, octets)
                continue
            flags, more = (None, True) if wanted is None else wanted(part)
            sink.records(part, flags, edit)
            if not more:
                break
    return sink.packets


class RecordSink:
    """A capture file made of records of others, all of one kind.

    A pcap file has the header of the reader; what is written to a pcapng file should begin with a section
    header block.
    """

    def __init__(
        self,
        path_or_stream: str | os.PathLike[str] | IO[bytes],
        reader: Reader,
        *,
        options: Iterable[int] | None = None,
        fsync: Fsync = "never",
    ) -> None:
        """Create the file. `options` are those that packets keep (None: all)."""
        self._reader = reader
        self._options = None if options is None else tuple(options)
        self._measure = _Measure(reader.header)
        self._sink = Sink(path_or_stream, self._measure, fsync)
        self._edited: FrameBatch | None = None
        self.path = self._sink.path
        self._begin(reader.byte_order)
        if reader.kind == "pcap":
            try:
                self._sink.write(reader.header, now=True)
            except BaseException:
                self._sink.close()
                raise

    def _begin(self, order: str) -> None:
        """Copy records of this byte order from now on."""
        self._measure.order = order
        self._copier = RecordCopier(
            big_endian=order == ">", record_len=self._measure.record_len, options=self._options
        )

    @property
    def packets(self) -> int:
        """Packets written; after a write error, those that the file still holds."""
        return self._sink.packets

    @property
    def at(self) -> int:
        """Where in the arena of its batch the record begins that follows those written last."""
        return self._copier.at

    @property
    def octets(self) -> int:
        """Octets written, those included that are still in the buffer."""
        return self._sink.octets

    def block(self, block: b.Block, octets: bytes | None = None) -> None:
        """Write a block which holds no packet, or other octets in its place (none: nothing)."""
        octets = block.octets if octets is None else octets
        if block.kind == b.SHB:
            # What is in the buffer has the byte order of the section before.
            self._sink.flush()
            self._begin(block.order)
            self._sink.write(octets)
            self._sink.flush()
        elif octets:
            self._sink.write(octets)

    def record(self, octets: bytes, packets: int) -> None:
        """Write a record or block that was made elsewhere, which holds so many packets."""
        self._sink.write(octets, packets)

    def records(
        self,
        batch: FrameBatch,
        keep: Sequence[int] | None = None,
        edit: Editor | None = None,
        first: int = 0,
        n: int | None = None,
        at: int | None = None,
    ) -> int:
        """Write records of frames [first, first + n) of the batch that the reader gave out last.

        Gives how many. `at` is where the first of them begins in the arena (None: that of the whole batch);
        `keep` has a number for each frame of the batch, 0 for one that is left out; `edit` makes other octets
        of each.
        """
        copier = self._copier
        copier.at = self._reader.batch_start if at is None else at
        end = len(batch) if n is None else first + n
        flags = keep if keep is None or isinstance(keep, (bytes, bytearray)) else bytes(map(bool, keep))
        if flags is not None and len(flags) < len(batch):
            raise ValueError(f"{len(flags)} numbers for {len(batch)} frames")
        before = self._sink.packets
        if edit is None:
            left_out = 0 if flags is None else flags.count(0, first, end)
            if left_out and left_out == end - first:
                return 0
            if not left_out and self._options is None and self._through(batch, first, end - first):
                return end - first
            self._put(copier, batch, first, end - first, flags, None)
            return self._sink.packets - before
        edited = self._edited
        if edited is None:
            edited = self._edited = FrameBatch(_EDITED_ROWS, _EDITED_LEN)
        while first < end:
            edited.clear()
            done = edit.append(batch, edited, first, min(end - first, _EDITED_ROWS))
            self._put(copier, batch, first, done, flags, edited)
            first += done
        return self._sink.packets - before

    def _through(self, batch: FrameBatch, first: int, n: int) -> bool:
        """Write n records as they lie in the arena, in one piece, if that is faster than one by one."""
        start = self._copier.at
        check(self._copier.pass_over(batch, first, n), "copy packets", self.path)
        end = self._copier.at
        if not self._sink.takes_through(end - start):
            self._copier.at = start
            return False
        try:
            self._reader.lend(self._sink.through(memoryview(batch.arena)[start:end], n))
        except BaseException:
            # A signal handler's, between the two: whoever reads on must not write over them.
            self._sink.wait()
            raise
        return True

    def _put(
        self,
        copier: RecordCopier,
        batch: FrameBatch,
        first: int,
        n: int,
        flags: bytes | bytearray | None,
        edited: FrameBatch | None,
    ) -> None:
        start, end, result = first, first + n, 0

        def put(buffer: bytearray, used: int) -> tuple[int, int]:
            nonlocal result
            result, used = copier.put(batch, first, end - first, buffer, used, flags, edited, first - start)
            return (result if result < 0 else copier.copied), used

        while first < end:
            self._sink.fill(put, NO_ROOM)
            if result == NO_ROOM:  # longer than the whole buffer
                buffer = bytearray(_RECORD_MAX)
                result, used = copier.put(batch, first, 1, buffer, 0, flags, edited, first - start)
                check(result, "copy a packet", self.path)
                self._sink.write(bytes(buffer[:used]), 1)
            first += check(result, "copy packets", self.path)

    def close(self) -> None:
        """Finish the file. Closing again does nothing."""
        self._sink.close()

    def __enter__(self) -> RecordSink:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Measure:
    """The length of a record, and how many packets it holds, for a `Sink`."""

    def __init__(self, pcap_header: bytes) -> None:
        """`pcap_header` is empty for pcapng."""
        self.order, _, self.record_len = b.PCAP_VARIANTS.get(pcap_header[:4], ("<", 0, 0))

    def __call__(self, buffer: bytearray, at: int) -> tuple[int, int]:
        kind, length, cap_len = struct.unpack_from(self.order + "III", buffer, at)
        if self.record_len:
            return self.record_len + cap_len, 1
        return length, int(kind in (b.EPB, b.SPB, b.PB))


def without_length(section: bytes) -> bytes:
    """A section header block whose section length is -1, "not specified"."""
    return section[:16] + b"\xff" * 8 + section[24:]
