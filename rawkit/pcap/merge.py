"""Several capture files as one, in the order of time."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO

from rawkit.engine.batch import FrameBatch
from rawkit.engine.capfile import MAX_PACKET_LEN, NO_ROOM, RecordCopier, RecordWriter
from rawkit.engine.native import check
from rawkit.pcap import blocks as b
from rawkit.pcap.reader import Reader, open_pcap
from rawkit.pcap.sink import Sink
from rawkit.pcap.writer import PcapWriter, interface_block, kind_of_name, section_block

_ROOM_LEN = b.MAX_BLOCK_LEN + MAX_PACKET_LEN


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
    new file is pcapng, where each file's interfaces stay apart, with their options; packets keep their own
    options. Of big-endian files that holds for interfaces' names, filters and comments, and packets' flags;
    blocks other than these are left out. A name that ends in ".pcap" makes a pcap file, which has one link
    type and nothing of that.

    Raises `CaptureFileError` for a damaged file (what came before is written), `FieldError` for what pcap
    cannot hold, `EngineError` or OSError when a file cannot be read or written.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_pcap(source)) for source in sources]
        if kind_of_name(path_or_stream) == "pcap":
            linktype = readers[0].linktype if readers else 1
            writer = stack.enter_context(PcapWriter(path_or_stream, linktype))
            inputs: list[_Input] = [_Input(reader) for reader in readers]

            def write(source: _Input, batch: FrameBatch, first: int, n: int) -> None:
                writer.write_batch(batch, first, n)

            _merge(inputs, write)
            return Merged(tuple(source.packets for source in inputs))
        output = _Output(path_or_stream, [reader.path for reader in readers])
        stack.callback(output.close)
        inputs = [_Kept(reader, output) for reader in readers]
        _merge(inputs, lambda source, batch, first, n: source.write(batch, first, n))
        return Merged(tuple(source.packets for source in inputs), output.left_out)


def _merge(inputs: Sequence[_Input], write: Callable[[_Input, FrameBatch, int, int], None]) -> None:
    waiting = [source for source in inputs if source.more()]
    while waiting:
        source = min(waiting, key=lambda one: one.times[one.first])
        # Up to where another file's next packet is earlier, or as early and from an earlier file.
        place = waiting.index(source)
        until = min(
            (one.times[one.first] + (i > place) for i, one in enumerate(waiting) if one is not source),
            default=None,
        )
        first, times = source.first, source.times
        last = first + 1
        while last < len(times) and (until is None or times[last] < until):
            last += 1
        assert source.batch is not None
        write(source, source.batch, first, last - first)
        source.packets += last - first
        source.first = last
        if last == len(times) and not source.more():
            waiting.remove(source)


class _Input:
    """A file being merged, and the packets of it that come next."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.batch: FrameBatch | None = None
        self.times: list[int] = []
        self.first = 0
        self.packets = 0
        self._parts: Iterator[FrameBatch | b.Block] = reader.parts()

    def more(self) -> bool:
        """Fetch the next packets; False at the end of the file."""
        for part in self._parts:
            if isinstance(part, FrameBatch):
                self.batch, self.first = part, 0
                self.times = [row[0] for row in part.places()]
                return True
            self.meet(part)
        return False

    def meet(self, block: b.Block) -> None:
        """A block that holds no packet comes next."""

    def write(self, batch: FrameBatch, first: int, n: int) -> None:
        raise NotImplementedError


class _Kept(_Input):
    """A file whose interfaces and options are kept."""

    def __init__(self, reader: Reader, output: _Output) -> None:
        super().__init__(reader)
        self._output = output
        self._numbers: list[int] = []  # in the new file, of the interfaces of the section
        self._indexes: dict[int, tuple[int, int]] = {}  # the same by the numbers in batches, with snaplens
        self._described = 0
        self._same = reader.kind == "pcapng" and reader.byte_order == "<"
        self._writer = RecordWriter(0)
        self._copier: RecordCopier | None = None
        self._at = 0

    def more(self) -> bool:
        found = super().more()
        if self.reader.kind == "pcap" and not self._described:
            self._describe(None)
        self._at = self.reader.batch_start
        return found

    def meet(self, block: b.Block) -> None:
        if block.kind == b.SHB:
            self._numbers = []
            self._same = block.order == "<"
        elif block.kind == b.IDB:
            self._describe(block if self._same else None)
        elif self._same and block.kind == b.ISB:
            (number,) = struct.unpack_from("<I", block.octets, 8)
            if number < len(self._numbers):
                new = struct.pack("<I", self._numbers[number])
                self._output.write(block.octets[:8] + new + block.octets[12:])
        elif self._same:
            self._output.write(block.octets)
        else:
            self._output.leave_out(block.name)

    def _describe(self, block: b.Block | None) -> None:
        """Describe the next interface in the new file: with its own block, or one made of what it says."""
        interface = self.reader.interfaces[self._described]
        self._described += 1
        number = self._output.describe(block.octets if block else interface_block(interface))
        self._numbers.append(number)
        self._indexes[self._described] = number, MAX_PACKET_LEN
        self._writer.set_interfaces(self._indexes, interface.linktype)
        self._copier = RecordCopier(big_endian=False, interfaces=self._numbers)

    def write(self, batch: FrameBatch, first: int, n: int) -> None:
        if not self._same or self._copier is None:
            self._output.put(lambda room, used, i, k: self._writer.put(batch, i, k, room, used), first, n)
            return
        copier = self._copier
        copier.at = self._at
        self._output.put(lambda room, used, i, k: copier.put(batch, i, k, room, used), first, n)
        self._at = copier.at


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

    def write(self, octets: bytes) -> None:
        self._sink.write(octets)

    def describe(self, octets: bytes) -> int:
        """Write the description of an interface; gives its number."""
        self._sink.write(octets)
        self._interfaces += 1
        return self._interfaces - 1

    def leave_out(self, name: str) -> None:
        self.left_out[name] = self.left_out.get(name, 0) + 1

    def put(self, put: Callable[[bytearray, int, int, int], tuple[int, int]], first: int, n: int) -> None:
        """Let `put(room, used, first, n)` put records, as often as it takes."""
        end = first + n
        while first < end:
            result = self._sink.fill(lambda room, used: put(room, used, first, end - first), NO_ROOM)  # noqa: B023
            if result == NO_ROOM:  # longer than the whole buffer
                room = bytearray(_ROOM_LEN)
                result, used = put(room, 0, first, 1)
                self._sink.write(bytes(room[:used]), 1)
            first += check(result, "merge packets", self._sink.path)

    def close(self) -> None:
        self._sink.close()


def _measure(buffer: bytearray, at: int) -> tuple[int, int]:
    kind, length = struct.unpack_from("<II", buffer, at)
    return length, int(kind in (b.EPB, b.PB))
