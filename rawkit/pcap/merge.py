"""Several capture files as one, in the order of time."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO

from rawkit.engine.batch import FrameBatch
from rawkit.engine.capfile import MAX_PACKET_LEN, BatchMerger, RecordCopier, RecordWriter
from rawkit.engine.native import check
from rawkit.pcap import blocks as b
from rawkit.pcap.reader import Reader, open_pcap
from rawkit.pcap.sink import Sink
from rawkit.pcap.turn import turned
from rawkit.pcap.writer import PcapWriter, interface_block, kind_of_name, section_block

_RECORD_EXTRA = 64  # octets that a record of pcapng may have more than that of another file


@dataclass(frozen=True)
class Merged:
    """How many packets each file gave, in the order of the files, and which blocks could not be kept."""

    packets: tuple[int, ...]
    left_out: dict[str, int] = field(default_factory=dict)


def merge_pcaps(
    sources: Sequence[str | os.PathLike[str]], path_or_stream: str | os.PathLike[str] | IO[bytes]
) -> Merged:
    """Write the packets of several capture files to one, those with the earliest time first.

    Each file's own order stays; of two packets with the same time that of the earlier file comes first. The
    new file is little-endian pcapng, where each file's interfaces stay apart, with their options; packets
    keep their own options. Of big-endian files options and blocks whose layout is not known are left out,
    since nobody can say which of their octets are numbers. A name that ends in ".pcap" makes a pcap file,
    which has one link type and nothing of that.

    Raises `CaptureFileError` for a damaged file (what came before is written), `FieldError` for what pcap
    cannot hold, `EngineError` or OSError when a file cannot be read or written.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_pcap(source)) for source in sources]
        if kind_of_name(path_or_stream) == "pcap":
            linktype = readers[0].linktype if readers else 1
            writer = stack.enter_context(PcapWriter(path_or_stream, linktype))
            plain = [_Plain(reader, writer) for reader in readers]
            for merged in _merge(plain):
                writer.write_batch(merged, linktype=linktype)
            return Merged(tuple(source.packets for source in plain))
        output = _Output(path_or_stream, [reader.path for reader in readers])
        stack.callback(output.close)
        kept = [_Kept(reader, output) for reader in readers]
        for merged in _merge(kept):
            output.write(merged.arena[: merged.handle.arena_used], len(merged))
        return Merged(tuple(source.packets for source in kept), output.left_out)


def _merge(inputs: Sequence[_Input]) -> Iterator[FrameBatch]:
    """What the inputs bring, in the order of time."""
    merger = BatchMerger(len(inputs))
    going = set(range(len(inputs)))
    while True:
        for i in sorted(going):
            if merger.done(i):
                batch = inputs[i].next(merger)
                merger.put(i, batch)
                if batch is None:
                    going.discard(i)
        if not going:
            return
        yield merger.merge()


class _Input:
    """A file being merged."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.packets = 0
        self._parts: Iterator[FrameBatch | b.Block] = reader.parts()

    def next(self, merger: BatchMerger) -> FrameBatch | None:
        """The next packets; None at the end of the file."""
        for part in self._parts:
            if isinstance(part, FrameBatch):
                self.packets += len(part)
                return self.take(part, merger)
            self.meet(part)
        return None

    def take(self, batch: FrameBatch, merger: BatchMerger) -> FrameBatch:
        """What of a batch is to be merged."""
        raise NotImplementedError

    def meet(self, block: b.Block) -> None:
        """A block that holds no packet comes next."""


class _Plain(_Input):
    """A file whose packets go to a pcap file."""

    def __init__(self, reader: Reader, writer: PcapWriter) -> None:
        super().__init__(reader)
        self._writer = writer

    def take(self, batch: FrameBatch, merger: BatchMerger) -> FrameBatch:
        self._writer.write_batch(batch, 0, 0)  # which says when its link type is another one
        return batch


class _Kept(_Input):
    """A file whose interfaces and options are kept."""

    def __init__(self, reader: Reader, output: _Output) -> None:
        super().__init__(reader)
        self._output = output
        self._numbers: list[int] = []  # in the new file, of the interfaces of the section
        self._indexes: dict[int, tuple[int, int]] = {}  # the same by the numbers in batches, with snaplens
        self._described = 0
        self._big = False
        self._writer = RecordWriter(0)
        self._copier: RecordCopier | None = None
        self._records = FrameBatch(1, 1)

    def take(self, batch: FrameBatch, merger: BatchMerger) -> FrameBatch:
        """Its records as they will stand in the new file."""
        if self.reader.kind == "pcap" and not self._described:
            self._describe(None)
        room_len = batch.arena_len + _RECORD_EXTRA * batch.capacity
        if self._records.arena_len < room_len:
            self._records = FrameBatch(batch.capacity, room_len)
        room, first, used = self._records.arena, 0, 0
        if self._copier is not None:
            self._copier.at = self.reader.batch_start
        while first < len(batch):
            if self._copier is not None:
                done, used = self._copier.put(batch, first, len(batch) - first, room, used)
            else:
                done, used = self._writer.put(batch, first, len(batch) - first, room, used)
            first += check(done, "merge packets", self.reader.path)
        merger.records_of(self._records, used, batch)
        return self._records

    def meet(self, block: b.Block) -> None:
        if block.kind == b.SHB:
            self._numbers = []
            self._big = block.order == ">"
            return
        octets = turned(block) if self._big else block.octets
        if octets is None:
            self._output.leave_out(block.name)
        elif block.kind == b.IDB:
            self._describe(octets)
            self._copier = RecordCopier(big_endian=self._big, interfaces=self._numbers, turn=self._big)
        elif block.kind == b.ISB:
            (number,) = struct.unpack_from("<I", octets, 8)
            if number < len(self._numbers):
                self._output.write(octets[:8] + struct.pack("<I", self._numbers[number]) + octets[12:])
        else:
            self._output.write(octets)

    def _describe(self, octets: bytes | None) -> None:
        """Describe the next interface in the new file: with these octets, or what a pcap file says of it."""
        interface = self.reader.interfaces[self._described]
        self._described += 1
        number = self._output.describe(octets or interface_block(interface))
        self._numbers.append(number)
        self._indexes[self._described] = number, MAX_PACKET_LEN
        self._writer.set_interfaces(self._indexes, interface.linktype)


class _Output:
    """The new pcapng file."""

    def __init__(self, path_or_stream: str | os.PathLike[str] | IO[bytes], sources: Sequence[str]) -> None:
        self._sink = Sink(path_or_stream, _measure)
        self._interfaces = 0
        self.left_out: dict[str, int] = {}
        try:
            comments = tuple(f"merged: {source}" for source in sources)
            self._sink.write(section_block("rawkit", comments=comments), now=True)
        except BaseException:
            self._sink.close()
            raise

    def write(self, octets: bytes, packets: int = 0) -> None:
        self._sink.write(octets, packets)

    def describe(self, octets: bytes) -> int:
        """Write the description of an interface; gives its number."""
        self._sink.write(octets)
        self._interfaces += 1
        return self._interfaces - 1

    def leave_out(self, name: str) -> None:
        self.left_out[name] = self.left_out.get(name, 0) + 1

    def close(self) -> None:
        self._sink.close()


def _measure(buffer: bytearray, at: int) -> tuple[int, int]:
    kind, length = struct.unpack_from("<II", buffer, at)
    return length, int(kind in (b.EPB, b.PB))
