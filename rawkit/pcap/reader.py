"""Reading pcap and pcapng: every packet before damage is delivered, then a `CaptureFileError` says where.

Nothing is guessed: there is no search for the next packet after damage, and no number in a file sizes an
allocation above 262,144 octets for a packet and 16 MiB for a pcapng block. Memory does not grow with the
file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import IO

from rawkit.errors import CaptureFileError
from rawkit.pcap import blocks as b
from rawkit.pcap.source import Source
from rawkit.wire.frame import Frame

# Interfaces and their statistics are kept; a file of nothing else must not fill the memory. Each counts with
# its octets and this much for the objects made of it.
_MAX_KEPT_LEN = 16 << 20
_KEPT_OVERHEAD = 512

_HINTS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zX": "xz",
    b"BZh": "bzip2",
}
# What a packet block's flags word says of checksums.
_CHECKSUMS = {b.FLAG_CHECKSUM_NOT_READY: "not ready", b.FLAG_CHECKSUM_VALID: "valid"}
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
    """Open a capture file for reading: a path, "-" for standard input, or a binary stream; gzip is unpacked.

    The format is told by the first octets, never by the name. Reads up to the first interface, so that
    `linktype` is known.

    Raises `CaptureFileError` when it is no capture file or damaged before the first packet, `OSError` when it
    cannot be opened.
    """
    return Reader(path_or_stream)


class Reader:
    """The frames of a capture file, in the file's order.

    Iterating goes through the file once, and a second loop continues where the first stopped, as with an
    ordinary file. `time_ns` is exact down to the nanosecond (finer clocks are rounded down); a packet without
    a time has 0. A packet longer than the file's snaplen or than its length on the wire is delivered as is.

    `kind` is "pcap" or "pcapng"; `interfaces` fills up as a pcapng file is read. `skipped` counts the pcapng
    blocks passed over, by name, and under "damaged options" those whose options could not all be read (their
    packets are delivered). `dropped` adds up the drop counts that packet blocks carry (None: none did).
    `section` says who wrote the file, or the pcapng section being read.
    """

    def __init__(self, path_or_stream: str | os.PathLike[str] | IO[bytes]) -> None:
        """See `open_pcap`."""
        self.interfaces: list[b.Interface] = []
        self.skipped: dict[str, int] = {}
        self.dropped: int | None = None
        self.section = b.Section()
        self._statistics: dict[int, b.Statistics] = {}
        self._packets = 0
        self._kept_len = 0
        self._order = "<"
        self._lanes: list[tuple[str, int, int]] = []
        self._first = 0  # number of this section's interface 0 among `interfaces`
        self._error: CaptureFileError | None = None
        self._closed = False
        self._source = Source(path_or_stream)
        self.path = self._source.path
        try:
            self.kind = self._recognise()
            if self.kind == "pcap":
                self._frames = self._pcap_header()
            else:
                self._prologue()
                self._frames = self._pcapng_frames()
        except BaseException:
            self.close()
            raise

    @property
    def linktype(self) -> int:
        """LINKTYPE_ number of the first interface, 1 (Ethernet) without any; each frame carries its own."""
        return self.interfaces[0].linktype if self.interfaces else 1

    @property
    def snaplen(self) -> int:
        """Snaplen of the first interface as the file has it: 0 and huge values mean no limit."""
        return self.interfaces[0].snaplen if self.interfaces else 0

    @property
    def statistics(self) -> list[b.Statistics]:
        """The latest statistics block of each interface, among those read so far."""
        return list(self._statistics.values())

    def __iter__(self) -> Iterator[Frame]:
        if self._closed:
            raise ValueError(f"{self.path}: the reader is closed")
        if self._error is not None:
            raise self._error
        return self._frames

    def close(self) -> None:
        """Close the file; a stream that was passed in stays open. Closing again does nothing."""
        self._closed = True
        self._source.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- both formats

    def _recognise(self) -> str:
        source = self._source
        source.fill(4)
        magic = source.buf[:4]
        if magic in b.PCAP_VARIANTS:
            return "pcap"
        if magic == b.SHB_MAGIC:
            return "pcapng"
        if source.failure:
            raise self._damage(source.failure, 0)
        if not magic:
            raise self._damage("not a capture file: it is empty", 0)
        first = source.buf[:8]
        shown = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in first)
        packer = next((name for octets, name in _HINTS.items() if magic.startswith(octets)), "")
        hint = f"; it is packed with {packer}, unpack it first" if packer else ""
        raise self._damage(f"not a capture file: first octets {first.hex(' ')} ({shown}){hint}", 0)

    def _damage(self, what: str, pos: int) -> CaptureFileError:
        """The error for the record at `pos` of the window; every later attempt to read raises it again."""
        source = self._source
        offset = source.base + pos
        if offset and (source.buf.startswith(b.SHB_MAGIC, pos) or self._header_again(pos)):
            what += "; a second file header begins here: two files joined into one?"
        unpacked = " of the unpacked octets" if source.gzip else ""
        message = f"{self.path}: {what} (offset {offset}{unpacked}, after {self._packets} packets)"
        self._error = CaptureFileError(message, self.path, offset, self._packets)
        return self._error

    def _header_again(self, pos: int) -> bool:
        """Whether a pcap file header stands at `pos` of the window."""
        octets = self._source.buf[pos : pos + 8]
        return octets[:4] in b.PCAP_VARIANTS and octets[4:] in (b"\2\0\4\0", b"\0\2\0\4")

    def _cut_short(self, what: str, wanted: int, have: int) -> CaptureFileError:
        reason = self._source.failure or "the file ends inside it"
        return self._damage(f"{what}: {reason}, wanted {wanted} octets, got {have}", self._source.pos)

    # ---- pcap

    def _pcap_header(self) -> Iterator[Frame]:
        source = self._source
        have = source.fill(b.PCAP_HEADER_LEN)
        if have < b.PCAP_HEADER_LEN:
            raise self._cut_short("file header", b.PCAP_HEADER_LEN, have)
        order, resolution_ns, record_len = b.PCAP_VARIANTS[source.buf[:4]]
        major, minor, _, _, snaplen, word = struct.unpack_from(order + "HHIIII", source.buf, 4)
        if (major, minor) != b.PCAP_VERSION:
            raise self._damage(f"pcap version {major}.{minor} is not read, only 2.4", 0)
        fcs_len = 0
        if word & b.LINKTYPE_FCS_PRESENT:
            fcs_len = (word >> b.LINKTYPE_FCS_SHIFT) * 2
            # The reserved bits stay in the number: a link type that nobody knows is better than a wrong one.
            word &= ~(b.LINKTYPE_FCS_PRESENT | 0xF << b.LINKTYPE_FCS_SHIFT)
        tsresol = 6 if resolution_ns == 1000 else 9
        self.interfaces.append(b.Interface("", word, snaplen, tsresol, fcs_len=fcs_len))
        source.pos = b.PCAP_HEADER_LEN
        return self._pcap_frames(order, resolution_ns, record_len, word)

    def _pcap_frames(self, order: str, resolution_ns: int, record_len: int, linktype: int) -> Iterator[Frame]:
        source = self._source
        record = struct.Struct(order + "IIII").unpack_from
        while True:
            buf, pos = source.buf, source.pos
            end = len(buf)
            # Half a million times a second: no calls but the three that make the frame.
            while (start := pos + record_len) <= end:
                seconds, fraction, cap_len, wire_len = record(buf, pos)
                if not 0 < cap_len <= b.MAX_PACKET_LEN:
                    if cap_len:
                        what = f"packet: captured length {cap_len}, more than {b.MAX_PACKET_LEN}"
                        raise self._damage(what, pos)
                    if self._header_again(pos):
                        raise self._damage("packet: none here", pos)
                after = start + cap_len
                if after > end:
                    break
                source.pos = after
                self._packets += 1
                yield Frame(
                    buf[start:after], seconds * 1_000_000_000 + fraction * resolution_ns, wire_len, linktype
                )
                pos = after
            wanted = record_len
            have = source.fill(wanted)
            if have >= record_len:
                wanted += record(source.buf, 0)[2]
                if wanted > record_len + b.MAX_PACKET_LEN:
                    continue  # the loop above reports it
                have = source.fill(wanted)
            if have < wanted:
                if not have and not source.failure:
                    return
                raise self._cut_short("packet" if wanted > record_len else "packet header", wanted, have)

    # ---- pcapng

    def _prologue(self) -> None:
        """Read the blocks before the first packet: up to the first interface, then those already fetched."""
        while True:
            kind_length = self._next_block()
            if kind_length is None:
                return
            kind, length = kind_length
            if kind in (b.EPB, b.SPB, b.PB):
                return
            self._metadata(kind, length)
            source = self._source
            source.pos += length
            if self.interfaces and not self._block_is_here():
                return

    def _block_is_here(self) -> bool:
        """Whether a whole block lies in the window, so that reading it waits for nothing."""
        source = self._source
        have = len(source.buf) - source.pos
        return have >= 12 and struct.unpack_from(self._order + "I", source.buf, source.pos + 4)[0] <= have

    def _next_block(self) -> tuple[int, int] | None:
        """Fetch the next block and check its lengths; gives its type and length, None at the end of the file.

        The block then lies whole at `source.pos`, and is no shorter than its type needs.
        """
        source = self._source
        have = len(source.buf) - source.pos
        if have < 12:
            have = source.fill(12)
            if not have and not source.failure:
                return None
        buf, pos = source.buf, source.pos
        if have < 12:
            raise self._cut_short("block header", 12, have)
        order = self._order
        if buf.startswith(b.SHB_MAGIC, pos):
            order = self._section_order(pos)
        kind, length = struct.unpack_from(order + "II", buf, pos)
        name = b.BLOCK_NAMES.get(kind, f"block of type {kind:#x}")
        least = b.MIN_BLOCK_LEN.get(kind, 12)
        if length < least or length % 4:
            raise self._damage(f"{name}: length {length}, wanted a multiple of 4 from {least} up", pos)
        if length > b.MAX_BLOCK_LEN:
            raise self._damage(f"{name}: length {length}, more than {b.MAX_BLOCK_LEN}", pos)
        if have < length:
            have = source.fill(length)
            buf, pos = source.buf, source.pos
            if have < length:
                raise self._cut_short(name, length, have)
        (trailing,) = struct.unpack_from(order + "I", buf, pos + length - 4)
        if trailing != length:
            raise self._damage(f"{name}: length {length} at its start, {trailing} at its end", pos)
        if not self._lanes and kind in (b.EPB, b.SPB, b.PB, b.ISB):
            raise self._damage(f"{name}: no interface description block in this section before it", pos)
        return kind, length

    def _section_order(self, pos: int) -> str:
        octets = self._source.buf[pos + 8 : pos + 12]
        for order in ("<", ">"):
            if octets == struct.pack(order + "I", b.BYTE_ORDER_MAGIC):
                return order
        raise self._damage(f"section header block: byte-order magic {octets.hex(' ')}", pos)

    def _metadata(self, kind: int, length: int) -> None:
        """Take in the block at `source.pos` that holds no packet."""
        pos = self._source.pos
        if kind == b.SHB:
            self._section_header(pos, length)
        elif kind == b.IDB:
            self._interface_description(pos, length)
        elif kind == b.ISB:
            self._interface_statistics(pos, length)
        else:
            self._skip(b.SKIPPED_NAMES.get(kind, "unknown"))

    def _skip(self, what: str) -> None:
        self.skipped[what] = self.skipped.get(what, 0) + 1

    def _keep(self, length: int, pos: int) -> None:
        self._kept_len += length + _KEPT_OVERHEAD
        if self._kept_len > _MAX_KEPT_LEN:
            raise self._damage(f"more than {_MAX_KEPT_LEN} octets of interface descriptions", pos)

    def _options(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the options in [start, end) of the window; a damaged one ends them and is counted."""
        try:
            yield from b.options(self._source.buf, start, end, self._order)
        except b.DamagedOptions:
            self._skip("damaged options")

    def _section_header(self, pos: int, length: int) -> None:
        order = self._section_order(pos)
        major, minor = struct.unpack_from(order + "HH", self._source.buf, pos + 12)
        # "minor version 2 ... identical to 1.0" (section 4.1); the section length that follows is not needed.
        if (major, minor) not in ((1, 0), (1, 2)):
            raise self._damage(
                f"section header block: pcapng version {major}.{minor} is not read, only 1.0", pos
            )
        self._order = order
        self._lanes = []
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
        buf, order = self._source.buf, self._order
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
            for code, value in b.options(buf, pos + 16, pos + length - 4, order):
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
        self.interfaces.append(interface)
        plain = interface.tsresol <= 9 and not interface.tsoffset
        self._lanes.append((interface.name, linktype, 10 ** (9 - interface.tsresol) if plain else 0))

    def _interface_statistics(self, pos: int, length: int) -> None:
        order = self._order
        number, high, low = struct.unpack_from(order + "III", self._source.buf, pos + 8)
        if number >= len(self._lanes):
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
        return self._damage(f"{name}: interface {number}, the section has described {len(self._lanes)}", pos)

    def _pcapng_frames(self) -> Iterator[Frame]:
        source = self._source
        while (kind_length := self._next_block()) is not None:
            kind, length = kind_length
            if kind == b.EPB:
                yield from self._enhanced_packets()
                continue
            if kind == b.SPB:
                frame = self._simple_packet(source.pos, length)
            elif kind == b.PB:
                frame = self._obsolete_packet(source.pos, length)
            else:
                self._metadata(kind, length)
                source.pos += length
                continue
            source.pos += length
            self._packets += 1
            yield frame

    def _enhanced_packets(self) -> Iterator[Frame]:
        """The enhanced packet blocks from `source.pos` up to another block or the end of the window."""
        source = self._source
        buf, pos = source.buf, source.pos
        end = len(buf)
        lanes = self._lanes
        lanes_n = len(lanes)
        block = struct.Struct(self._order + "IIIIIII").unpack_from
        trailer = struct.Struct(self._order + "I").unpack_from
        while pos + 32 <= end:
            kind, length, number, high, low, cap_len, wire_len = block(buf, pos)
            after = pos + length
            # Anything unusual goes back to _next_block, which says what is wrong or fetches more.
            if (
                kind != b.EPB
                or after > end
                or length < 32
                or length & 3
                or trailer(buf, after - 4)[0] != length
            ):
                return
            start = pos + 28
            options_start = start + (cap_len + 3 & ~3)
            if cap_len > b.MAX_PACKET_LEN or options_start > after - 4 or number >= lanes_n:
                raise self._bad_packet("enhanced packet block", number, cap_len, length - 32, pos)
            name, linktype, tick_ns = lanes[number]
            time_ns = (high << 32 | low) * tick_ns
            if not tick_ns or time_ns > b.MAX_TIME_NS:
                time_ns = self.interfaces[self._first + number].time_ns(high << 32 | low)
            frame = Frame(buf[start : start + cap_len], time_ns, wire_len, linktype, name)
            if options_start < after - 4:
                self._packet_options(frame, options_start, after - 4)
            source.pos = pos = after
            self._packets += 1
            yield frame

    def _bad_packet(self, name: str, number: int, cap_len: int, room: int, pos: int) -> CaptureFileError:
        if number >= len(self._lanes):
            return self._no_interface(name, number, pos)
        limit = min(room, b.MAX_PACKET_LEN)
        return self._damage(f"{name}: captured length {cap_len}, more than the {limit} possible", pos)

    def _packet_options(self, frame: Frame, start: int, end: int) -> None:
        """Put into `frame` what the options of a packet block say, and add its drop count to `dropped`."""
        comments = []
        for code, value in self._options(start, end):
            if code == b.OPT_COMMENT:
                comments.append(b.text(value))
            elif code == b.EPB_FLAGS and len(value) == 4:
                (flags,) = struct.unpack(self._order + "I", value)
                frame.direction = {b.FLAG_IN: "in", b.FLAG_OUT: "out"}.get(flags & b.FLAGS_DIRECTION, "")
                frame.checksum = _CHECKSUMS.get(
                    flags & (b.FLAG_CHECKSUM_NOT_READY | b.FLAG_CHECKSUM_VALID), ""
                )
            elif code == b.EPB_DROPCOUNT and len(value) == 8:
                (dropped,) = struct.unpack(self._order + "Q", value)
                self.dropped = (self.dropped or 0) + dropped
        frame.comments = tuple(comments)

    def _simple_packet(self, pos: int, length: int) -> Frame:
        """A packet of interface 0, without a time; the captured length is at most the snaplen."""
        buf = self._source.buf
        (wire_len,) = struct.unpack_from(self._order + "I", buf, pos + 8)
        interface = self.interfaces[self._first]
        cap_len = min(wire_len, interface.snaplen or wire_len)
        if cap_len > min(length - 16, b.MAX_PACKET_LEN):
            raise self._bad_packet("simple packet block", 0, cap_len, length - 16, pos)
        start = pos + 12
        return Frame(buf[start : start + cap_len], 0, wire_len, interface.linktype, interface.name)

    def _obsolete_packet(self, pos: int, length: int) -> Frame:
        """The block before the enhanced one: a 16-bit interface number, and a drop count beside it."""
        buf = self._source.buf
        number, dropped, high, low, cap_len, wire_len = struct.unpack_from(
            self._order + "HHIIII", buf, pos + 8
        )
        start = pos + 28
        options_start = start + (cap_len + 3 & ~3)
        end = pos + length - 4
        if number >= len(self._lanes) or cap_len > b.MAX_PACKET_LEN or options_start > end:
            raise self._bad_packet("packet block", number, cap_len, length - 32, pos)
        interface = self.interfaces[self._first + number]
        time_ns = interface.time_ns(high << 32 | low)
        frame = Frame(buf[start : start + cap_len], time_ns, wire_len, interface.linktype, interface.name)
        if dropped != 0xFFFF:  # which means "not known"
            self.dropped = (self.dropped or 0) + dropped
        if options_start < end:
            self._packet_options(frame, options_start, end)
        return frame
