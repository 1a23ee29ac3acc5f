"""Saving what can be saved of a damaged capture file, and saying what cannot.

Reading goes on behind damage where records or blocks begin again: a block of pcapng has its length at
both ends, and of pcap several records have to follow each other whose lengths and times can be.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

from rawkit.engine.batch import OPTIONS, FrameBatch
from rawkit.engine.capfile import PcapParser, find_block
from rawkit.errors import CaptureFileError
from rawkit.pcap import blocks as b
from rawkit.pcap.copy import RecordSink
from rawkit.pcap.reader import Reader
from rawkit.pcap.source import Source

_SEARCH_LEN = 2 << 20
_KEPT_LEN = 64  # octets that a search goes back by: a record's header may lie across
_PACKET_BLOCKS = (b.EPB, b.PB)
_YEAR_2200_S = 7_258_118_400
_LINKTYPE_MAX = 400  # there are none beyond so far


@dataclass(frozen=True)
class Loss:
    """Octets of a file that could not be used, or were put right, and why. `offset` is that in the file.

    `octets` is 0 where nothing was lost. Offsets in a packed file count its unpacked octets.
    """

    offset: int
    octets: int
    reason: str


@dataclass(frozen=True)
class Repaired:
    """Packets written, and what was found, in the file's order; no losses: the file was whole."""

    packets: int
    losses: tuple[Loss, ...]

    @property
    def lost_octets(self) -> int:
        return sum(loss.octets for loss in self.losses)


def repair_pcap(
    path: str | os.PathLike[str] | IO[bytes], path_or_stream: str | os.PathLike[str] | IO[bytes]
) -> Repaired:
    """Write a new capture file with all that can be read of a damaged one.

    What is whole is copied octet for octet. A packet that the file's end cuts keeps what there is of it. A
    file header that is gone is made anew, and so is the description of an interface; Ethernet is assumed.

    Raises `CaptureFileError` when nothing in the file looks like packets, `EngineError` or OSError when a
    file cannot be read or written.
    """
    losses: list[Loss] = []
    with _opened(path, losses) as mender, RecordSink(path_or_stream, mender) as sink:
        section = mender.kind == "pcap"
        while True:
            try:
                part = mender.part()
            except CaptureFileError as error:
                found = mender.mend(error)
                losses += found.losses
                if not section and found.octets:
                    sink.record(_section(mender.byte_order), 0)
                    section = True
                if found.octets:
                    sink.record(found.octets, found.packets)
                if found.ended:
                    break
                continue
            if part is None:
                break
            if isinstance(part, FrameBatch):
                sink.records(part)
            else:
                section = section or part.kind == b.SHB
                sink.block(part)
    return Repaired(sink.packets, tuple(losses))


@dataclass
class _Mended:
    """What to write in place of damage, what was lost, and whether there is nothing behind it."""

    octets: bytes = b""
    packets: int = 0
    losses: tuple[Loss, ...] = ()
    ended: bool = False


class _Mender(Reader):
    """A reader that can go on behind damage. It ends with the source of what it reads."""

    def __init__(self, stream: _Joined | io.BytesIO) -> None:
        self._met = False  # the record at the window's place is damaged, and nobody was told yet
        self._stream = stream
        self._aligned = 0  # where in the file the last block began
        super().__init__(stream)  # type: ignore[arg-type]

    def close(self) -> None:
        super().close()
        self._stream.close()

    def _prologue(self) -> None:
        """Read the section header alone: what is wrong behind it can be mended."""
        found = self._next_block()
        if found is not None:
            block = self._take(*found)
            self._early.append(block)
            self._window.pos += len(block.octets)

    def part(self) -> FrameBatch | b.Block | None:
        """As `Reader.parts`; a record of pcap that has swallowed those behind it is damage too.

        Options that are damaged, which reading passes over, are put to an end where they are.
        """
        if self._met:
            raise self._damage("packet: a wrong length", self._window.pos)
        part = self._next_part()
        if isinstance(part, b.Block):
            return _ended(part)
        if part is not None and self.kind == "pcap":
            self._look_for_swallowed(part)
            return part if len(part) else self.part()
        if part is not None:
            for (start, end), row in zip(self.spans(part), part.places()):
                if row[4] & OPTIONS:
                    self._end_options(start, end)
        return part

    def _end_options(self, start: int, end: int) -> None:
        block = b.Block(
            struct.unpack_from(self._order + "I", self._window.buf, start)[0],
            self._window.buf[start:end],
            self._order,
        )
        ended = _ended(block)
        if ended is not block:
            self._window.buf[start:end] = ended.octets
            self._skip("damaged options")

    def _look_for_swallowed(self, batch: FrameBatch) -> None:
        """End a batch before a record in which others begin, when it or what follows it makes no sense."""
        window, frames, n = self._window, batch.handle.frames, len(batch)
        odd = self._pcap.odd(batch)
        if odd == n and self._makes_sense(window.pos):
            return
        starts = [frames[i].offset - self._record_len for i in range(max(odd - 1, 0), min(odd + 2, n))]
        for i, (start, end) in enumerate(pairwise([*starts, window.pos]), max(odd - 1, 0)):
            if i <= odd and self._pcap.find(window.buf, start + 1, window.end, True) < end:
                self._packets -= n - i
                batch.handle.n = i
                window.pos = start
                self._met = True
                return

    def _makes_sense(self, pos: int) -> bool:
        """Whether a record may begin here, or the window ends."""
        if self._window.end - pos < self._record_len:
            return True
        fraction, cap_len, wire_len = struct.unpack_from(self._order + "4xIII", self._window.buf, pos)
        return cap_len <= min(wire_len, b.MAX_PACKET_LEN) and bool(fraction < 10**9)

    def mend(self, error: CaptureFileError) -> _Mended:
        """Find out what can be saved at the damage that was met last, and where reading goes on."""
        self._error = None
        self._passed = 0
        self._met = False
        reason = str(error).removeprefix(f"{self.path}: ").rsplit(" (offset ", 1)[0]
        return self._mend_pcap(reason) if self.kind == "pcap" else self._mend_block(reason)

    # ---- pcap

    def _mend_pcap(self, reason: str) -> _Mended:
        window = self._window
        offset = window.base + window.pos
        record = self._record_at()
        found = self._search(1)
        gap = window.base + window.pos - offset
        length = gap - self._record_len
        if length > 0:
            cap_len, wire_len = struct.unpack_from(self._order + "II", record, 8)
            head = record[:8] + struct.pack(self._order + "I", length) + record[12 : self._record_len]
            fixed = head + record[self._record_len : gap]
            if found and length == wire_len:
                return _Mended(fixed, 1, (Loss(offset, 0, f"{reason}; the length on the wire is right"),))
            if not found and length < cap_len <= min(wire_len, b.MAX_PACKET_LEN):
                return _Mended(fixed, 1, (Loss(offset, 0, f"{reason}; what there is of it is kept"),), True)
        return _Mended(losses=(Loss(offset, gap, reason),), ended=not found)

    def _record_at(self) -> bytes:
        """What may belong to the record at the window's place."""
        window = self._window
        window.fill(b.MAX_PACKET_LEN + self._record_len)
        return window.peek(b.MAX_PACKET_LEN + self._record_len)

    # ---- pcapng

    def _mend_block(self, reason: str) -> _Mended:
        window = self._window
        offset = window.base + window.pos
        window.fill(_SEARCH_LEN)
        octets = window.peek(min(_SEARCH_LEN, window.end - window.pos))
        order = self._order
        if find_block(octets, 0, len(octets), order, 0) == 0:
            kind, length = struct.unpack_from(order + "II", octets, 0)
            if kind == b.IDB:
                block = b.Block(kind, octets[:length], order)
                ended = _ended(block)
                if ended is not block:
                    window.buf[window.pos : window.pos + length] = ended.octets
                    return _Mended(losses=(Loss(offset, 0, f"{reason}; it stays without these"),))
            if kind in (*_PACKET_BLOCKS, b.SPB, b.ISB):
                missing = self._missing_interfaces(kind, octets)
                if missing:
                    assumed = self._assume_interfaces(missing, kind, octets)
                    return _Mended(assumed, 0, (Loss(offset, 0, f"{reason}; Ethernet is assumed"),))
        self._aligned = offset
        found = self._search(1)
        gap = window.base + window.pos - offset
        fixed = self._packet_of(octets[:gap], whole=found)
        if fixed:
            kept = "its other length is right" if found else "what there is of it is kept"
            return _Mended(fixed, 1, (Loss(offset, 0, f"{reason}; {kept}"),), not found)
        return _Mended(losses=(Loss(offset, gap, reason),), ended=not found)

    def _missing_interfaces(self, kind: int, octets: bytes) -> int:
        """How many interfaces this block needs that the section has not described; 0 for ever so many."""
        number = (
            0
            if kind == b.SPB
            else struct.unpack_from(self._order + ("H" if kind == b.PB else "I"), octets, 8)[0]
        )
        return number + 1 - len(self._pcapng) if number < len(self._pcapng) + 16 else 0

    def _assume_interfaces(self, n: int, kind: int, octets: bytes) -> bytes:
        """Describe interfaces of which nothing is known; gives their blocks."""
        tsresol = 6
        if kind in _PACKET_BLOCKS:
            high, low = struct.unpack_from(self._order + "II", octets, 12)
            if (high << 32 | low) // 10**6 > _YEAR_2200_S:
                tsresol = 9
        option = struct.pack(self._order + "HHBxxxHH", b.IF_TSRESOL, 1, tsresol, 0, 0)
        block = _block(self._order, b.IDB, struct.pack(self._order + "HHI", 1, 0, 0) + option)
        for _ in range(n):
            self._add_interface(b.Interface(f"interface {len(self.interfaces)}", 1, 0, tsresol))
            self._pcapng.add_interface(len(self.interfaces), 1, 0, tsresol, 0)
        return block * n

    def _packet_of(self, octets: bytes, whole: bool) -> bytes:
        """The packet of an enhanced block whose lengths are wrong or whose end is missing, as a block."""
        order = self._order
        if len(octets) < 29:
            return b""
        kind, length, number = struct.unpack_from(order + "III", octets)
        cap_len, wire_len = struct.unpack_from(order + "II", octets, 20)
        if kind != b.EPB or number >= len(self._pcapng) or not 0 < cap_len <= min(wire_len, b.MAX_PACKET_LEN):
            return b""
        if whole:
            (trailing,) = struct.unpack_from(order + "I", octets, len(octets) - 4)
            if len(octets) not in (length, trailing) or 32 + cap_len + (-cap_len % 4) > len(octets):
                return b""
            return _block(order, kind, octets[8:-4])
        data = octets[28 : 28 + cap_len]
        body = octets[8:20] + struct.pack(order + "II", len(data), wire_len) + data + bytes(-len(data) % 4)
        return _block(order, kind, body)

    # ---- both

    def _search(self, at: int) -> bool:
        """Go on to where records or blocks begin again, `at` octets from here or later; False: nowhere."""
        window = self._window
        while True:
            have = window.fill(_SEARCH_LEN)
            at_end = have < _SEARCH_LEN
            start = min(window.pos + at, window.end)
            if self.kind == "pcap":
                found = self._pcap.find(window.buf, start, window.end, at_end)
            else:
                found = find_block(
                    window.buf, start, window.end, self._order, self._aligned - window.base & 3
                )
            if found < window.end:
                window.pos = found
                return True
            if at_end:
                window.pos = window.end
                return False
            window.pos = max(window.end - _KEPT_LEN, start)
            at = 0


# The length that an option has, by kind of block and code, where it is always the same.
_PACKET_LENGTHS = {b.EPB_FLAGS: 4, b.EPB_DROPCOUNT: 8, 5: 8, 6: 4}
_OPTION_LENGTHS = {
    b.EPB: _PACKET_LENGTHS,
    b.PB: {b.EPB_FLAGS: 4},
    b.IDB: {4: 8, 5: 17, b.IF_MACADDR: 6, 7: 8, 8: 8, b.IF_TSRESOL: 1, b.IF_FCSLEN: 1, b.IF_TSOFFSET: 8},
    b.ISB: dict.fromkeys(range(b.ISB_STARTTIME, b.ISB_USRDELIV + 1), 8),
}
_ONCE = (b.IF_TSRESOL, b.IF_TSOFFSET, b.IF_FCSLEN)


def _ended(block: b.Block) -> b.Block:
    """The block, with its options ended before the first that is damaged; the same object when none is."""
    end = len(block.octets) - 4
    start = _names_end(block) if block.kind == b.NRB else block.options_start()
    if start is None:
        return block
    if start < 0:
        return b.Block(
            block.kind, block.octets[:-start] + bytes(end + start) + block.octets[-4:], block.order
        )
    at = start
    lengths = _OPTION_LENGTHS.get(block.kind, {})
    seen: set[int] = set()
    while at + 4 <= end:
        code, size = struct.unpack_from(block.order + "HH", block.octets, at)
        if code == b.OPT_END and size == 0:
            return block
        again = block.kind == b.IDB and code in _ONCE and code in seen
        if code == b.OPT_END or at + 4 + size > end or lengths.get(code, size) != size or again:
            break
        seen.add(code)
        at += 4 + size + (-size % 4)
    if at >= end:
        return block
    return b.Block(block.kind, block.octets[:at] + bytes(end - at) + block.octets[-4:], block.order)


def _names_end(block: b.Block) -> int:
    """Where the names of a name resolution block end; below 0: where the first that is damaged is."""
    at, end = 8, len(block.octets) - 4
    while at + 4 <= end:
        kind, size = struct.unpack_from(block.order + "HH", block.octets, at)
        following = at + 4 + size + (-size % 4)
        least = {0: 0, 1: 6, 2: 18}.get(kind, 0)  # an address, and a name of an octet and its end
        if following > end or size < least or (kind == 0 and size):
            return -at
        at = following
        if kind == 0:
            break
    return at


def _block(order: str, kind: int, body: bytes) -> bytes:
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def _section(order: str) -> bytes:
    return _block(order, b.SHB, struct.pack(order + "IHHq", b.BYTE_ORDER_MAGIC, 1, 0, -1))


# ---- files whose beginning is damaged


class _Joined(io.RawIOBase):
    """Octets, and the rest of a source behind them."""

    def __init__(self, first: bytes, source: Source) -> None:
        self._first = first
        self._source = source
        self.name = source.path

    def readable(self) -> bool:
        return True

    def read(self, n: int = -1) -> bytes:
        octets, self._first = self._first[:n], self._first[n:]
        if octets:
            return octets
        room = bytearray(n)
        return bytes(room[: self._source.read_into(memoryview(room))])

    def close(self) -> None:
        self._source.close()


def _opened(path: str | os.PathLike[str] | IO[bytes], losses: list[Loss]) -> _Mender:
    """A reader of the file, or of one with a new header in place of what cannot be read."""
    source = Source(path)
    try:
        room = memoryview(bytearray(_SEARCH_LEN))
        end = 0
        while end < len(room) and (n := source.read_into(room[end:])):
            end += n
        octets = bytes(room[:end])
        if not _opens(octets):
            header, skip, reason = _new_header(octets)
            if not reason:
                raise CaptureFileError(f"{source.path}: nothing here looks like packets", source.path)
            losses.append(Loss(0, skip, reason))
            octets = header + octets[skip:]
        return _Mender(_Joined(octets, source))
    except BaseException:
        source.close()
        raise


def _opens(octets: bytes) -> bool:
    try:
        with _Mender(io.BytesIO(octets)):
            return True
    except CaptureFileError:
        return False


def _new_header(octets: bytes) -> tuple[bytes, int, str]:
    """A header for a file that has none, how much of the file it stands for, what was assumed ("": none)."""
    end = len(octets)
    # The first one counts; one that is no multiple of 4 octets away may be three octets before another's
    # beginning, where something like a block of the other byte order stands.
    found: list[tuple[int, int, bytes, str]] = []
    for order in ("<", ">"):
        at = find_block(octets, 0, end, order, 0)
        while at < end and octets[at : at + 4] == b.SHB_MAGIC and not _opens(octets[at:]):
            at = find_block(octets, at + 1, end, order, 0)
        if at < end and octets[at : at + 4] == b.SHB_MAGIC:
            found.append(
                (at + (at & 3 and 4), at, b"", "what comes before the section header is no part of it")
            )
        elif at < end:
            found.append(
                (at + (at & 3 and 4), at, _section(order), "no section header can be read; a new one is made")
            )
    if found:  # lengths at both ends of blocks are more credible than what records have
        _, at, header, reason = min(found)
        return header, at, reason
    best = b"", end, ""
    for magic, (order, tick_ns, record_len) in b.PCAP_VARIANTS.items():
        parser = PcapParser(big_endian=order == ">", record_len=record_len, tick_ns=tick_ns)
        at = parser.find(octets, min(b.PCAP_HEADER_LEN, end), end, end < _SEARCH_LEN)
        if at < best[1]:
            linktype = struct.unpack_from(order + "I", octets, 20)[0]
            linktype = linktype if linktype <= _LINKTYPE_MAX else 1
            header = magic + struct.pack(order + "HHiIII", *b.PCAP_VERSION, 0, 0, b.MAX_PACKET_LEN, linktype)
            best = header, at, f"the file header is damaged; pcap with link type {linktype} is assumed"
    return best
