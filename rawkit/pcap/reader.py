"""Reading pcap and pcapng: every packet before damage is delivered, then a `CaptureFileError` says where.

Packets are found by C, a window of the file at a time, and their octets stay where they were read to; the
other blocks of a pcapng file, and what is wrong with a damaged one, are looked at here. Nothing is guessed:
there is no search for the next packet after damage, and no number in a file sizes an allocation above 262,144
octets for a packet and 16 MiB for a pcapng block. Memory does not grow with the file.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from rawkit.engine.batch import NO_DIRECTION, OPTIONS, FrameBatch, flag_words
from rawkit.engine.capfile import DAMAGED, PcapngParser, PcapParser, noted
from rawkit.errors import CaptureFileError
from rawkit.pcap import blocks as b
from rawkit.pcap.source import Source, Window
from rawkit.pcap.unpack import MissingUnpacker

if TYPE_CHECKING:
    from rawkit.wire.frame import Frame

# Interfaces and their statistics are kept; a file of nothing else must not fill the memory. Each counts with
# its octets and this much for the objects made of it.
_MAX_KEPT_LEN = 16 << 20
_KEPT_OVERHEAD = 512

_PACKETS = (b.EPB, b.SPB, b.PB)
_ISB_FIELDS = {
    b.ISB_STARTTIME: "start_ns",
    b.ISB_ENDTIME: "end_ns",
    b.ISB_IFRECV: "received",
    b.ISB_IFDROP: "dropped",
    b.ISB_FILTERACCEPT: "accepted",
    b.ISB_OSDROP: "os_dropped",
    b.ISB_USRDELIV: "delivered",
}


def open_pcap(path_or_stream: str | os.PathLike[str] | IO[bytes]) -> Reader:
    """Open a capture file for reading: a path, "-" for standard input, or a binary stream.

    Files packed with gzip, bzip2 or xz are unpacked; with zstd or lz4 where `backports.zstd` (or Python 3.14)
    or `lz4` is installed. Format and packing are told by the first octets, never by the name. Reads up to the
    first interface, so that `linktype` is known.

    Raises `CaptureFileError` when it is no capture file or damaged before the first packet, `OSError` when it
    cannot be opened.
    """
    return Reader(path_or_stream)


class Reader:
    """The frames of a capture file, in the file's order.

    Iterating goes through the file once, and a second loop continues where the first stopped, as with an
    ordinary file; `batches` and `blocks` are other ways to do the same. `time_ns` is exact down to the
    nanosecond (finer clocks are rounded down); a packet without a time has 0. A packet longer than the file's
    snaplen or than its length on the wire is delivered as is.

    `kind` is "pcap" or "pcapng"; `header` are the octets of a pcap file's header. `interfaces` fills up as a
    pcapng file is read. `skipped` counts the pcapng blocks passed over, by name, and under "damaged options"
    those whose options could not all be read (their packets are delivered). `dropped` adds up the drop counts
    that packet blocks carry (None: none did), in a loop over frames. `section` says who wrote the file, or
    the pcapng section being read.
    """

    def __init__(self, path_or_stream: str | os.PathLike[str] | IO[bytes]) -> None:
        """See `open_pcap`."""
        self._origin = path_or_stream
        self.interfaces: list[b.Interface] = []
        self.skipped: dict[str, int] = {}
        self.dropped: int | None = None
        self.section = b.Section()
        self._statistics: dict[int, b.Statistics] = {}
        self._packets = 0
        self._kept_len = 0
        self._order = "<"
        self.header = b""  # pcap: the file's own, as it stands there
        self._record_len = 0  # pcap: octets before each packet
        self._first = 0  # pcapng: number of this section's interface 0 among `interfaces`
        self._names = [""]  # of interfaces, by the numbers that they have in batches
        self._early: deque[b.Block] = deque()  # read before the first packet, on opening
        self._early_len = 0
        self._passed = 0  # octets of the block given out last, to be passed over
        self._batch_pos = 0  # where the records of the batch given out last begin in the window
        self._error: CaptureFileError | None = None
        self._closed = False
        # What a loop over frames has left of its batch: all loops share it.
        self._rows: Iterator[tuple[int, int, int, int, int, int]] = iter(())
        self._in_rows = False
        try:
            source = Source(path_or_stream)
        except MissingUnpacker as error:
            path = str(getattr(path_or_stream, "name", path_or_stream))
            raise CaptureFileError(f"{path}: {error}", path, 0, 0) from None
        self.path = source.path
        self._window = Window(source)
        try:
            self.kind = self._recognise()
            if self.kind == "pcap":
                self._pcap_header()
            else:
                self._prologue()
        except BaseException:
            self.close()
            raise

    @property
    def linktype(self) -> int:
        """LINKTYPE_ number of the first interface, 1 (Ethernet) without any; each frame carries its own."""
        return self.interfaces[0].linktype if self.interfaces else 1

    @property
    def packed(self) -> str:
        """What the file is packed with ("gzip", ...), "" for nothing."""
        return self._window.source.packed

    @property
    def snaplen(self) -> int:
        """Snaplen of the first interface as the file has it: 0 and huge values mean no limit."""
        return self.interfaces[0].snaplen if self.interfaces else 0

    @property
    def statistics(self) -> list[b.Statistics]:
        """The latest statistics block of each interface, among those read so far."""
        return list(self._statistics.values())

    def statistics_of(self, number: int) -> b.Statistics | None:
        """The latest statistics block of an interface, 1 being the first of `interfaces`."""
        return self._statistics.get(number - 1)

    @property
    def interface_names(self) -> dict[int, str]:
        """Names by the numbers that batches have for interfaces: 1 for the first of `interfaces`."""
        return {number: interface.name for number, interface in enumerate(self.interfaces, 1)}

    def __iter__(self) -> Iterator[Frame]:
        self._check_open()
        if self._error is not None:
            raise self._error
        return self._all_frames()

    def batches(self) -> Iterator[FrameBatch]:
        """The packets, some thousands at a time, in a batch that is refilled: each is valid until the next.

        Their octets are in its arena as they were read, without a copy of each. All frames of a batch have
        one link type, `batch.linktype`, and the number of an interface is 1 + its row in `interfaces`:
        `batch.frames(interface_names=reader.interface_names)` are the frames. Comments and what else the
        options of a pcapng packet say is not in the batch (the flag OPTIONS tells that there is something).

        Raises ValueError when a loop over frames has been left in the midst of some.
        """
        return (part for part in self._checked_parts() if isinstance(part, FrameBatch))

    def parts(self) -> Iterator[FrameBatch | b.Block]:
        """Everything from where reading has come to: packets in batches, and the blocks that hold none.

        At the start that is all of a pcapng file, section and interfaces included. What the blocks say is
        taken in as with any other way of reading.

        Raises ValueError as `batches`, and for a file with more than 16 MiB before its first interface.
        """
        if self._early_len > _MAX_KEPT_LEN:
            raise ValueError(f"{self.path}: more than {_MAX_KEPT_LEN} octets before the first interface")
        return self._checked_parts()

    @property
    def byte_order(self) -> str:
        """ "<" or ">": of a pcap file, or of the section of a pcapng file that was read last."""
        return self._order

    @property
    def batch_start(self) -> int:
        """Where the records of the batch given out last begin in its arena."""
        return self._batch_pos

    def lend(self, wait: Callable[[], None]) -> None:
        """Leave the octets of the batch given out last as they are until `wait` has returned.

        It is called before they change, and not at all when nothing more is read. Rows change as ever.
        """
        self._window.lend(wait)

    def spans(self, batch: FrameBatch) -> Iterator[tuple[int, int]]:
        """Where the record of each packet in the batch given out last begins and ends in its arena."""
        buf, start = batch.arena, self._batch_pos
        length = struct.Struct(self._order + "I")
        for _ in range(len(batch)):
            if self.kind == "pcap":
                end = start + self._record_len + length.unpack_from(buf, start + 8)[0]
            else:
                end = start + length.unpack_from(buf, start + 4)[0]
            yield start, end
            start = end

    def blocks(self) -> Iterator[b.Block]:
        """Every block of a pcapng file as it stands there, those of packets too, as `parts`.

        Raises ValueError for a pcap file, which has no blocks, and as `parts`.
        """
        if self.kind != "pcapng":
            raise ValueError(f"{self.path}: a pcap file has no blocks")
        return self._all_blocks(self.parts())

    def again(self) -> Reader | None:
        """Another reader of the same file, from its beginning; None for a stream, which is gone when read.

        Raises as `open_pcap`.
        """
        origin = self._origin
        if not isinstance(origin, (str, os.PathLike)) or os.fspath(origin) == "-":
            return None
        return Reader(origin) if stat.S_ISREG(os.stat(origin).st_mode) else None

    def close(self) -> None:
        """Close the file; a stream that was passed in stays open. Closing again does nothing."""
        self._closed = True
        self._error = None  # whose traceback holds this reader: both would wait for the garbage collector
        self._window.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- both formats

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed")

    def _checked_parts(self) -> Iterator[FrameBatch | b.Block]:
        self._check_open()
        if self._in_rows:
            raise ValueError(f"{self.path}: a loop over frames was left, and others of them would be lost")
        return iter(self._next_part, None)

    def _next_part(self) -> FrameBatch | b.Block | None:
        """The next packets, or the next block that holds none; None at the end of the file."""
        if self._early:
            return self._early.popleft()
        if self._error is not None:
            raise self._error
        self._window.pos += self._passed
        self._passed = 0
        return self._next_pcap() if self.kind == "pcap" else self._next_pcapng()

    def _all_frames(self) -> Iterator[Frame]:
        from rawkit.wire.frame import Frame  # brings all headers along; who only moves octets needs none

        names = self._names
        while True:
            batch = self._window.batch
            buf, linktype = batch.arena, batch.linktype
            lengths: dict[int, int] = {}  # one object for all that are equal: who keeps frames saves 4 %
            for time_ns, start, cap_len, wire_len, flags, ifindex in self._rows:
                wire_len = lengths.setdefault(wire_len, wire_len)
                frame = Frame(buf[start : start + cap_len], time_ns, wire_len, linktype, names[ifindex])
                if flags != NO_DIRECTION:
                    frame.direction, frame.checksum = flag_words(flags, True)
                    if flags & OPTIONS:
                        self._packet_options(frame, start)
                yield frame
                if self._closed:
                    self._check_open()
            self._in_rows = False
            part = self._next_part()
            if part is None:
                return
            if isinstance(part, FrameBatch):
                self._rows = part.places()
                self._in_rows = True

    def _all_blocks(self, parts: Iterator[FrameBatch | b.Block]) -> Iterator[b.Block]:
        for part in parts:
            if isinstance(part, b.Block):
                yield part
                continue
            for start, end in self.spans(part):
                (kind,) = struct.unpack_from(self._order + "I", part.arena, start)
                yield b.Block(kind, part.arena[start:end], self._order)

    def _recognise(self) -> str:
        window = self._window
        window.fill(8)
        first = window.peek(8)
        if first[:4] in b.PCAP_VARIANTS:
            return "pcap"
        if first[:4] == b.SHB_MAGIC:
            return "pcapng"
        if window.source.failure:
            raise self._damage(window.source.failure, 0)
        if not first:
            raise self._damage("not a capture file: it is empty", 0)
        shown = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in first)
        raise self._damage(f"not a capture file: first octets {first.hex(' ')} ({shown})", 0)

    def _give(self, batch: FrameBatch, pos: int) -> FrameBatch:
        """A batch with packets, whose records begin at `pos` of the window; its link type is put in."""
        self._packets += len(batch)
        self._batch_pos = pos
        batch.linktype = self.interfaces[batch.handle.frames[0].ifindex - 1].linktype
        return batch

    def _add_interface(self, interface: b.Interface) -> None:
        self.interfaces.append(interface)
        self._names.append(interface.name)

    def _damage(self, what: str, pos: int) -> CaptureFileError:
        """The error for the record at `pos` of the window; every later attempt to read raises it again."""
        window = self._window
        offset = window.base + pos
        octets = window.buf[pos : min(pos + 8, window.end)]
        if offset and (octets[:4] == b.SHB_MAGIC or _is_pcap_header(octets)):
            what += "; a second file header begins here: two files joined into one?"
        unpacked = " of the unpacked octets" if window.source.packed else ""
        message = f"{self.path}: {what} (offset {offset}{unpacked}, after {self._packets} packets)"
        self._error = CaptureFileError(message, self.path, offset, self._packets)
        return self._error

    def _cut_short(self, what: str, wanted: int, have: int) -> CaptureFileError:
        reason = self._window.source.failure or "the file ends inside it"
        return self._damage(f"{what}: {reason}, wanted {wanted} octets, got {have}", self._window.pos)

    # ---- pcap

    def _pcap_header(self) -> None:
        window = self._window
        have = window.fill(b.PCAP_HEADER_LEN)
        if have < b.PCAP_HEADER_LEN:
            raise self._cut_short("file header", b.PCAP_HEADER_LEN, have)
        self.header = window.peek(b.PCAP_HEADER_LEN)
        self._order, tick_ns, self._record_len = b.PCAP_VARIANTS[self.header[:4]]
        major, minor, _, _, snaplen, word = struct.unpack_from(self._order + "HHIIII", window.buf, 4)
        if (major, minor) != b.PCAP_VERSION:
            raise self._damage(f"pcap version {major}.{minor} is not read, only 2.4", 0)
        fcs_len = 0
        if word & b.LINKTYPE_FCS_PRESENT:
            fcs_len = (word >> b.LINKTYPE_FCS_SHIFT) * 2
            # The reserved bits stay in the number: a link type that nobody knows is better than a wrong one.
            word &= ~(b.LINKTYPE_FCS_PRESENT | 0xF << b.LINKTYPE_FCS_SHIFT)
        self._add_interface(b.Interface("", word, snaplen, 6 if tick_ns == 1000 else 9, fcs_len=fcs_len))
        self._pcap = PcapParser(big_endian=self._order == ">", record_len=self._record_len, tick_ns=tick_ns)
        window.pos = b.PCAP_HEADER_LEN

    def _next_pcap(self) -> FrameBatch | None:
        window = self._window
        while True:
            pos = window.pos
            stop, window.pos = self._pcap.read(window.batch, pos)
            if len(window.batch):
                return self._give(window.batch, pos)
            wanted = self._record_len
            have = window.fill(wanted)
            if have >= wanted:
                (cap_len,) = struct.unpack_from(self._order + "I", window.buf, window.pos + 8)
                if cap_len > b.MAX_PACKET_LEN:
                    what = f"packet: captured length {cap_len}, more than {b.MAX_PACKET_LEN}"
                    raise self._damage(what, window.pos)
                if stop == DAMAGED:
                    raise self._damage("packet: none here", window.pos)
                wanted += cap_len
                have = window.fill(wanted)
            if have < wanted:
                if not have and not window.source.failure:
                    return None
                what = "packet" if wanted > self._record_len else "packet header"
                raise self._cut_short(what, wanted, have)

    # ---- pcapng

    def _prologue(self) -> None:
        """Read the blocks before the first packet: up to the first interface, then those already fetched."""
        while True:
            found = self._next_block()
            if found is None or found[0] in _PACKETS:
                return
            block = self._take(*found)
            self._early_len += len(block.octets) + _KEPT_OVERHEAD
            if self._early_len <= _MAX_KEPT_LEN:
                self._early.append(block)
            self._window.pos += len(block.octets)
            if self.interfaces and not self._block_is_here():
                return

    def _block_is_here(self) -> bool:
        """Whether a whole block lies in the window, so that reading it waits for nothing."""
        window = self._window
        have = window.end - window.pos
        return have >= 12 and struct.unpack_from(self._order + "I", window.buf, window.pos + 4)[0] <= have

    def _next_pcapng(self) -> FrameBatch | b.Block | None:
        window = self._window
        while True:
            pos = window.pos
            stop, window.pos = self._pcapng.read(window.batch, pos)
            if len(window.batch):
                return self._give(window.batch, pos)
            found = self._next_block()
            if found is None:
                return None
            kind, length = found
            if kind not in _PACKETS:
                self._passed = length
                return self._take(kind, length)
            if stop == DAMAGED:
                raise self._bad_packet(kind, length)

    def _next_block(self) -> tuple[int, int] | None:
        """Fetch the next block and check its lengths; gives its type and length, None at the end of the file.

        The block then lies whole at `pos` of the window, and is no shorter than its type needs.
        """
        window = self._window
        have = window.fill(12)
        if not have and not window.source.failure:
            return None
        if have < 12:
            raise self._cut_short("block header", 12, have)
        pos, order = window.pos, self._order
        if window.peek(4) == b.SHB_MAGIC:
            order = self._section_order(pos)
        kind, length = struct.unpack_from(order + "II", window.buf, pos)
        name = b.BLOCK_NAMES.get(kind, f"block of type {kind:#x}")
        least = b.MIN_BLOCK_LEN.get(kind, 12)
        if length < least or length % 4:
            raise self._damage(f"{name}: length {length}, wanted a multiple of 4 from {least} up", pos)
        if length > b.MAX_BLOCK_LEN:
            raise self._damage(f"{name}: length {length}, more than {b.MAX_BLOCK_LEN}", pos)
        have = window.fill(length)
        if have < length:
            raise self._cut_short(name, length, have)
        pos = window.pos
        (trailing,) = struct.unpack_from(order + "I", window.buf, pos + length - 4)
        if trailing != length:
            raise self._damage(f"{name}: length {length} at its start, {trailing} at its end", pos)
        if kind in (*_PACKETS, b.ISB) and not len(self._pcapng):
            raise self._damage(f"{name}: no interface description block in this section before it", pos)
        return kind, length

    def _section_order(self, pos: int) -> str:
        octets = self._window.buf[pos + 8 : pos + 12]
        for order in ("<", ">"):
            if octets == struct.pack(order + "I", b.BYTE_ORDER_MAGIC):
                return order
        raise self._damage(f"section header block: byte-order magic {octets.hex(' ')}", pos)

    def _take(self, kind: int, length: int) -> b.Block:
        """Take in what the block at `pos` of the window says, which holds no packet."""
        pos = self._window.pos
        if kind == b.SHB:
            self._section_header(pos, length)
        elif kind == b.IDB:
            self._interface_description(pos, length)
        elif kind == b.ISB:
            self._interface_statistics(pos, length)
        else:
            self._skip(b.SKIPPED_NAMES.get(kind, "unknown"))
        return b.Block(kind, self._window.buf[pos : pos + length], self._order)

    def _skip(self, what: str) -> None:
        self.skipped[what] = self.skipped.get(what, 0) + 1

    def _keep(self, length: int, pos: int) -> None:
        self._kept_len += length + _KEPT_OVERHEAD
        if self._kept_len > _MAX_KEPT_LEN:
            raise self._damage(f"more than {_MAX_KEPT_LEN} octets of interface descriptions", pos)

    def _options(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the options in [start, end) of the window; a damaged one ends them and is counted."""
        octets = self._window.buf[start:end]
        try:
            yield from b.options(octets, 0, len(octets), self._order)
        except b.DamagedOptions:
            self._skip("damaged options")

    def _section_header(self, pos: int, length: int) -> None:
        order = self._section_order(pos)
        major, minor = struct.unpack_from(order + "HH", self._window.buf, pos + 12)
        # "minor version 2 ... identical to 1.0" (section 4.1); the section length that follows is not needed.
        if (major, minor) not in ((1, 0), (1, 2)):
            raise self._damage(
                f"section header block: pcapng version {major}.{minor} is not read, only 1.0", pos
            )
        self._order = order
        self._pcapng = PcapngParser(big_endian=order == ">")
        self._first = len(self.interfaces)
        texts = {b.SHB_HARDWARE: "", b.SHB_OS: "", b.SHB_USERAPPL: ""}
        comments = []
        for code, value in self._options(pos + 24, pos + length - 4):
            if code in texts:
                texts[code] = b.text(value)
            elif code == b.OPT_COMMENT:
                comments.append(b.text(value))
        self.section = b.Section(
            texts[b.SHB_HARDWARE], texts[b.SHB_OS], texts[b.SHB_USERAPPL], tuple(comments)
        )

    def _interface_description(self, pos: int, length: int) -> None:
        self._keep(length, pos)
        buf, order = self._window.buf, self._order
        linktype, _, snaplen = struct.unpack_from(order + "HHI", buf, pos + 8)
        texts = {
            b.IF_NAME: f"interface {len(self.interfaces)}",
            b.IF_FILTER: "",
            b.IF_OS: "",
            b.IF_DESCRIPTION: "",
        }
        numbers: dict[int, int] = {}
        number_formats = {b.IF_TSRESOL: "B", b.IF_TSOFFSET: "q", b.IF_FCSLEN: "B"}
        comments = []
        try:
            for code, value in b.options(buf[pos : pos + length], 16, length - 4, order):
                if code == b.IF_FILTER:
                    # The first octet says what follows: 0 is a filter expression, 1 would be a BPF program.
                    texts[code] = b.text(value[1:]) if value[:1] == b"\0" else ""
                elif code in texts:
                    texts[code] = b.text(value)
                elif code in number_formats:
                    layout = struct.Struct(order + number_formats[code])
                    # Both of these decide what every time means: no guessing between two or at an odd one.
                    if len(value) != layout.size or code in numbers:
                        raise b.DamagedOptions(f"option {code} twice or of {len(value)} octets")
                    (numbers[code],) = layout.unpack(value)
                elif code == b.OPT_COMMENT:
                    comments.append(b.text(value))
        except b.DamagedOptions as error:
            raise self._damage(f"interface description block: {error}", pos) from None
        interface = b.Interface(
            name=texts[b.IF_NAME],
            linktype=linktype,
            snaplen=snaplen,
            tsresol=numbers.get(b.IF_TSRESOL, 6),
            tsoffset=numbers.get(b.IF_TSOFFSET, 0),
            filter=texts[b.IF_FILTER],
            os=texts[b.IF_OS],
            description=texts[b.IF_DESCRIPTION],
            fcs_len=numbers.get(b.IF_FCSLEN, 0),
            comments=tuple(comments),
        )
        self._add_interface(interface)
        self._pcapng.add_interface(
            len(self.interfaces), linktype, snaplen, interface.tsresol, interface.tsoffset
        )

    def _interface_statistics(self, pos: int, length: int) -> None:
        order = self._order
        number, high, low = struct.unpack_from(order + "III", self._window.buf, pos + 8)
        if number >= len(self._pcapng):
            raise self._no_interface("interface statistics block", number, pos)
        interface = self.interfaces[self._first + number]
        values: dict[str, int] = {}
        for code, value in self._options(pos + 20, pos + length - 4):
            if code in _ISB_FIELDS and len(value) == 8:
                if code in (b.ISB_STARTTIME, b.ISB_ENDTIME):
                    upper, lower = struct.unpack(order + "II", value)
                    values[_ISB_FIELDS[code]] = interface.time_ns(upper << 32 | lower)
                else:
                    (values[_ISB_FIELDS[code]],) = struct.unpack(order + "Q", value)
        self._statistics[self._first + number] = b.Statistics(
            interface.name, interface.time_ns(high << 32 | low), **values
        )

    def _no_interface(self, name: str, number: int, pos: int) -> CaptureFileError:
        return self._damage(f"{name}: interface {number}, the section has described {len(self._pcapng)}", pos)

    def _bad_packet(self, kind: int, length: int) -> CaptureFileError:
        """Why the packet block at `pos` of the window, whose lengths are right, is damaged."""
        buf, pos, order = self._window.buf, self._window.pos, self._order
        name, room = b.BLOCK_NAMES[kind], length - b.MIN_BLOCK_LEN[kind]
        if kind == b.SPB:
            (cap_len,) = struct.unpack_from(order + "I", buf, pos + 8)
            cap_len = min(cap_len, self.interfaces[self._first].snaplen or cap_len)
        else:
            (number,) = struct.unpack_from(order + ("I" if kind == b.EPB else "H"), buf, pos + 8)
            if number >= len(self._pcapng):
                return self._no_interface(name, number, pos)
            (cap_len,) = struct.unpack_from(order + "I", buf, pos + 20)
        limit = min(room, b.MAX_PACKET_LEN)
        return self._damage(f"{name}: captured length {cap_len}, more than the {limit} possible", pos)

    def _packet_options(self, frame: Frame, start: int) -> None:
        """Put the comments of a packet, and what they say of segments, into `frame`; count what was dropped.

        `start` is where its octets are in the window.
        """
        buf = self._window.buf
        pos = start - 28  # of the block, an enhanced or an obsolete one
        kind, length, _, dropped = struct.unpack_from(self._order + "IIHH", buf, pos)
        if kind == b.PB and dropped != 0xFFFF:  # which means "not known"
            self.dropped = (self.dropped or 0) + dropped
        comments = []
        for code, value in self._options(start + (len(frame.data) + 3 & ~3), pos + length - 4):
            if code == b.OPT_COMMENT:
                comments.append(b.text(value))
                frame.gso_len = frame.gso_len or noted(value)
            elif code == b.EPB_DROPCOUNT and len(value) == 8:
                (count,) = struct.unpack(self._order + "Q", value)
                self.dropped = (self.dropped or 0) + count
        frame.comments = tuple(comments)


def _is_pcap_header(octets: bytes) -> bool:
    """Whether a pcap file header begins with these eight octets."""
    return octets[:4] in b.PCAP_VARIANTS and octets[4:] in (b"\2\0\4\0", b"\0\2\0\4")
