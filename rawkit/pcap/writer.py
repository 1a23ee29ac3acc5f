"""Writing pcap and pcapng: files that are whole at every flush and say what is known about each frame."""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import IO, TYPE_CHECKING, Literal, Self

from rawkit.engine import capfile
from rawkit.engine.batch import FrameBatch
from rawkit.engine.capfile import NO_INTERFACE, NO_ROOM, UNFIT, Recorder, RecordWriter
from rawkit.engine.native import check
from rawkit.errors import FieldError
from rawkit.pcap import blocks as b
from rawkit.pcap.pack import split_ending
from rawkit.pcap.sink import Fsync, Sink

if TYPE_CHECKING:
    from rawkit.wire.frame import Frame

Kind = Literal["pcap", "pcapng"]

_U32_MAX = 0xFFFF_FFFF
_U64_MAX = 2**64 - 1
_MAX_PACKET_LEN = b.MAX_PACKET_LEN
_MAX_TIME_NS = b.MAX_TIME_NS
_PADDING = (b"", bytes(3), bytes(2), bytes(1))  # by length modulo 4
_TSRESOL_NS = 9
_DIRECTION_FLAGS = {"in": b.FLAG_IN, "out": b.FLAG_OUT}
_CHECKSUM_FLAGS = {"not ready": b.FLAG_CHECKSUM_NOT_READY, "valid": b.FLAG_CHECKSUM_VALID}

_pcap_header = struct.Struct("<IHHiIII")
_pcap_record = struct.Struct("<IIII")
_packet_block = struct.Struct("<IIIIIII")
_u32 = struct.Struct("<I")


def create_pcap(
    path_or_stream: str | os.PathLike[str] | IO[bytes],
    linktype: int = 1,
    snaplen: int = b.MAX_PACKET_LEN,
    *,
    application: str = "rawkit",
    hardware: str = "",
    os_name: str = "",
    filter: str = "",
    comments: tuple[str, ...] = (),
    notes: bool = False,
    fsync: Fsync = "never",
    kind: Kind | None = None,
) -> PcapWriter | PcapngWriter:
    """A writer for a new capture file: pcap when the name ends in ".pcap", pcapng for all else.

    Either is packed when ".zst", ".gz" or ".lz4" follows. "-" is standard output, as pcapng. `kind` decides
    where the name shall not. `linktype` matters to pcap alone; the keyword arguments, but for `fsync`, to
    pcapng alone (see `PcapngWriter`).
    """
    if (kind or kind_of_name(path_or_stream)) == "pcap":
        return PcapWriter(path_or_stream, linktype, snaplen, fsync=fsync)
    return PcapngWriter(
        path_or_stream,
        snaplen,
        application=application,
        hardware=hardware,
        os_name=os_name,
        filter=filter,
        comments=comments,
        notes=notes,
        fsync=fsync,
    )


def kind_of_name(path_or_stream: str | os.PathLike[str] | IO[bytes]) -> Kind:
    """The kind of file that `create_pcap` makes: "pcap" or "pcapng"."""
    if isinstance(path_or_stream, (str, os.PathLike)):
        name, _ = split_ending(os.fspath(path_or_stream))
        if name.endswith(".pcap"):
            return "pcap"
    return "pcapng"


class _Writer:
    """What both formats share: a sink, the checks on a frame, and the end of the file.

    What was written is in the file within a second, whatever becomes of this process, and the file ends at a
    whole record (`Sink`, which also says what `fsync` is; a stream that was passed in waits for `flush`).
    """

    def __init__(
        self,
        path_or_stream: str | os.PathLike[str] | IO[bytes],
        snaplen: int,
        records: RecordWriter,
        fsync: Fsync,
    ) -> None:
        self.snaplen = _snaplen(snaplen)
        self._sink = Sink(path_or_stream, self._measure, fsync)
        self._records = records
        self.path = self._sink.path

    @property
    def packets(self) -> int:
        """Packets written; after a write error, those that the file still holds."""
        return self._sink.packets

    @property
    def octets(self) -> int:
        """Octets written, those included that are still in the buffer."""
        return self._sink.octets

    @property
    def closed(self) -> bool:
        return self._sink.closed

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        self._sink.flush()

    def close(self) -> None:
        """Finish the file. Closing again does nothing; a stream that was passed in is flushed, not closed."""
        self._sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, frame: Frame) -> None:
        raise NotImplementedError

    def write_batch(
        self,
        batch: FrameBatch,
        first: int = 0,
        n: int | None = None,
        *,
        linktype: int | None = None,
        interface_names: Mapping[int, str] | None = None,
    ) -> None:
        """Append frames [first, first + n) of a batch (n None: all that follow), each as `write` would.

        `linktype` is the LINKTYPE_ number of them all (None: the batch's); `interface_names` are the names
        of interfaces by number (one that is missing is "").

        Raises what `write` raises; the frames before the one that cannot be written are written.
        """
        held = len(batch)
        if n is None:
            n = held - first
        if first < 0 or n < 0 or first + n > held:
            raise ValueError(f"frames [{first}, {first + n}) of a batch that holds {held}")
        if linktype is None:
            linktype = batch.linktype
        names = {} if interface_names is None else interface_names
        self._prepare(linktype, names)
        end = first + n
        while first < end:

            def put(buffer: bytearray, used: int) -> tuple[int, int]:
                return self._records.put(batch, first, end - first, buffer, used)  # noqa: B023 - called at once

            result = self._sink.fill(put, NO_ROOM)
            if result > 0:
                first += result
            elif result == NO_INTERFACE:
                self._meet(batch.handle.frames[first].ifindex)
            elif result == UNFIT:
                self.write(batch.frames(linktype, names)[first])  # which says why
                first += 1
            else:
                check(result, "write", self.path)

    @property
    def appends(self) -> bool:
        """Whether `recording` works: a regular file that was opened here and is not packed."""
        return self._sink.appends

    @contextmanager
    def recording(
        self, linktype: int, interface_names: Mapping[int, str], size: int | None = None
    ) -> Iterator[Recorder]:
        """For `PacketRing.record`: let C append a ring's frames, until the file has `size` octets.

        What it leaves of the ring's batch has to go through `write_batch`, which deals with what is rare.
        """
        self._prepare(linktype, interface_names)
        with self._sink.recording(self._records, size) as recorder:
            yield recorder

    def _prepare(self, linktype: int, names: Mapping[int, str]) -> None:
        """Be ready for frames of a batch."""
        raise NotImplementedError

    def _meet(self, ifindex: int) -> None:
        """Describe in the file an interface from which the first frame has come."""
        raise NotImplementedError

    @staticmethod
    def _measure(buffer: bytearray, at: int) -> tuple[int, int]:
        """Length of the record at `at`, and how many packets it holds."""
        raise NotImplementedError

    def _start(self, header: bytes) -> None:
        """Write the file's header at once: a file that exists can be opened, even before its first packet.

        No thread is started for it, so privileges can still be dropped.
        """
        try:
            self._sink.write(header, now=True)
        except BaseException:
            self._sink.close()
            raise

    def _check(self, frame: Frame) -> None:
        if len(frame.data) > _MAX_PACKET_LEN:
            raise FieldError(
                f"frame of {len(frame.data)} octets: capture files hold {_MAX_PACKET_LEN} at most"
            )
        if not 0 <= frame.wire_len <= _U32_MAX:
            raise FieldError(f"frame: wire_len {frame.wire_len} does not fit 32 bits")
        if not 0 <= frame.time_ns <= _MAX_TIME_NS:
            raise FieldError(f"frame: time_ns {frame.time_ns} lies outside the years 1970 to 2262")


class PcapWriter(_Writer):
    """Writes a pcap file, with nanoseconds unless `nanoseconds` is false (times are then rounded down to us).

    pcap knows one link type and nothing but octets, lengths and times: direction, checksum state, interface
    and comments of a frame are lost. Frames are cut to `snaplen`.

    Raises `EngineError` or `OSError` when the file cannot be written, `FieldError` for what pcap cannot hold.
    """

    def __init__(
        self,
        path_or_stream: str | os.PathLike[str] | IO[bytes],
        linktype: int = 1,
        snaplen: int = b.MAX_PACKET_LEN,
        nanoseconds: bool = True,
        *,
        fsync: Fsync = "never",
    ) -> None:
        """Create the file and write its header."""
        self.linktype = _linktype(linktype)
        self._unit_ns = 1 if nanoseconds else 1000
        super().__init__(path_or_stream, snaplen, RecordWriter(self._unit_ns, _snaplen(snaplen)), fsync)
        magic = b.PCAP_NSEC if nanoseconds else b.PCAP_USEC
        self._start(_pcap_header.pack(magic, *b.PCAP_VERSION, 0, 0, self.snaplen, linktype))

    def write(self, frame: Frame) -> None:
        """Append a frame. Its time must lie before the year 2106, its link type be the file's."""
        self._check(frame)
        if frame.linktype != self.linktype:
            self._check_linktype(frame.linktype)
        seconds, fraction = divmod(frame.time_ns, 1_000_000_000)
        if seconds > _U32_MAX:
            raise FieldError(
                f"frame: time_ns {frame.time_ns} is after the year 2106, where pcap's seconds end"
            )
        data = frame.data[: self.snaplen]
        record = _pcap_record.pack(seconds, fraction // self._unit_ns, len(data), frame.wire_len)
        self._sink.write(record + data, 1)

    def _check_linktype(self, linktype: int) -> None:
        if linktype != self.linktype:
            raise FieldError(
                f"{self.path}: a pcap file has one link type, here {self.linktype}, and the frame has"
                f" {linktype}; pcapng holds both"
            )

    def _prepare(self, linktype: int, names: Mapping[int, str]) -> None:
        self._check_linktype(linktype)

    @staticmethod
    def _measure(buffer: bytearray, at: int) -> tuple[int, int]:
        (cap_len,) = _u32.unpack_from(buffer, at + 8)
        return _pcap_record.size + cap_len, 1


class PcapngWriter(_Writer):
    """Writes a pcapng file of one section, times in nanoseconds.

    An interface is a (name, link type) pair and is described in the file when it is added, or when the first
    frame from it is written. `filter` and `os_name` are the defaults of the interfaces' if_filter and if_os;
    `application`, `hardware`, `os_name` and `comments` describe the section. Frames are cut to the snaplen of
    their interface.

    Direction and checksum state are kept in the flags word. That a frame was merged or not yet cut
    (`gso_len`) is one bit there; with `notes`, a comment on the packet says how many segments of which length
    it stands for.

    Raises `EngineError` or `OSError` when the file cannot be written, `FieldError` for what it cannot hold.
    """

    def __init__(
        self,
        path_or_stream: str | os.PathLike[str] | IO[bytes],
        snaplen: int = b.MAX_PACKET_LEN,
        *,
        application: str = "rawkit",
        hardware: str = "",
        os_name: str = "",
        filter: str = "",
        comments: tuple[str, ...] = (),
        notes: bool = False,
        fsync: Fsync = "never",
    ) -> None:
        """Create the file and write the section header."""
        self.filter = filter
        self.os_name = os_name
        self.notes = notes
        self._interfaces: dict[tuple[str, int], tuple[int, int]] = {}  # number in the file, snaplen
        self._names: dict[str, int] = {}
        # Where frames of batches go: numbers and snaplens by ifindex, for this link type and these names.
        self._batch_interfaces: dict[int, tuple[int, int]] = {}
        self._batch_origin: tuple[int, Mapping[int, str]] = (1, {})
        header = section_block(application, hardware, os_name, comments)
        super().__init__(path_or_stream, snaplen, RecordWriter(0, notes=notes), fsync)
        self._start(header)

    def add_interface(
        self,
        name: str,
        linktype: int = 1,
        *,
        snaplen: int | None = None,
        filter: str | None = None,
        os_name: str | None = None,
        description: str = "",
        hardware: str = "",
        mac: bytes = b"",
        comments: tuple[str, ...] = (),
    ) -> int:
        """Describe an interface in the file and give its number there; one that is known keeps its number.

        `mac` is its address, six octets.
        """
        known = self._interfaces.get((name, linktype))
        if known is not None:
            return known[0]
        length = self.snaplen if snaplen is None else _snaplen(snaplen)
        expression = self.filter if filter is None else filter
        interface = b.Interface(
            name=name,
            linktype=linktype,
            snaplen=length,
            filter=expression,
            os=self.os_name if os_name is None else os_name,
            description=description,
            comments=comments,
        )
        self._sink.write(interface_block(interface, hardware, mac))
        number = len(self._interfaces)
        self._interfaces[name, linktype] = number, length
        self._names.setdefault(name, number)
        return number

    def write(self, frame: Frame) -> None:
        """Append a frame, adding its interface when it is new."""
        self._check(frame)
        # As most are: then there is nothing to say.
        plain = not (frame.direction or frame.checksum or frame.gso_len or frame.comments)
        options = b"" if plain else self._options(frame)
        known = self._interfaces.get((frame.interface, frame.linktype))
        if known is None:
            self.add_interface(frame.interface, frame.linktype)
            known = self._interfaces[frame.interface, frame.linktype]
        number, snaplen = known
        data = frame.data[:snaplen]
        cap_len = len(data)
        padding = _PADDING[cap_len & 3]
        length = 32 + cap_len + len(padding) + len(options)
        if length > b.MAX_BLOCK_LEN:
            raise FieldError(
                f"frame: a block of {length} octets, the most is {b.MAX_BLOCK_LEN}; fewer comments"
            )
        time_ns = frame.time_ns
        header = _packet_block.pack(
            b.EPB, length, number, time_ns >> 32, time_ns & _U32_MAX, cap_len, frame.wire_len
        )
        self._sink.write(b"".join((header, data, padding, options, _u32.pack(length))), 1)

    def _prepare(self, linktype: int, names: Mapping[int, str]) -> None:
        if (linktype, names) != self._batch_origin:
            self._batch_origin = linktype, dict(names)
            self._batch_interfaces = {}
            self._records.set_interfaces({}, linktype)

    def _meet(self, ifindex: int) -> None:
        linktype, names = self._batch_origin
        name = names.get(ifindex, "")
        self.add_interface(name, linktype)
        self._batch_interfaces[ifindex] = self._interfaces[name, linktype]
        self._records.set_interfaces(self._batch_interfaces, linktype)

    @staticmethod
    def _measure(buffer: bytearray, at: int) -> tuple[int, int]:
        kind, length = struct.unpack_from("<II", buffer, at)
        return length, int(kind == b.EPB)

    def write_statistics(
        self,
        interface: str,
        *,
        received: int | None = None,
        dropped: int | None = None,
        accepted: int | None = None,
        os_dropped: int | None = None,
        delivered: int | None = None,
        time_ns: int = 0,
        start_ns: int | None = None,
        end_ns: int | None = None,
        comments: tuple[str, ...] = (),
    ) -> None:
        """Append the counters of an interface, usually as the last thing before `close`; None is left out.

        The meaning of each is that of `Statistics`; `comments` say what else happened. An interface not yet
        in the file is added (as Ethernet).
        """
        if interface not in self._names:
            self.add_interface(interface)
        for name, value in (("time_ns", time_ns), ("start_ns", start_ns), ("end_ns", end_ns)):
            if value is not None and not 0 <= value <= b.MAX_TIME_NS:
                raise FieldError(f"statistics: {name} {value} lies outside the years 1970 to 2262")
        body = struct.pack("<III", self._names[interface], time_ns >> 32, time_ns & _U32_MAX)
        for code, moment in ((b.ISB_STARTTIME, start_ns), (b.ISB_ENDTIME, end_ns)):
            if moment is not None:
                body += _option(code, struct.pack("<II", moment >> 32, moment & _U32_MAX))
        counters = {
            b.ISB_IFRECV: received,
            b.ISB_IFDROP: dropped,
            b.ISB_FILTERACCEPT: accepted,
            b.ISB_OSDROP: os_dropped,
            b.ISB_USRDELIV: delivered,
        }
        for code, count in counters.items():
            if count is not None:
                if not 0 <= count <= _U64_MAX:
                    raise FieldError(f"statistics: counter {count} does not fit 64 bits")
                body += _option(code, struct.pack("<Q", count))
        body += _texts(*((b.OPT_COMMENT, comment) for comment in comments))
        self._sink.write(_block(b.ISB, body + _option(b.OPT_END, b"")))

    def _options(self, frame: Frame) -> bytes:
        """The options of a frame's block, end of options included; nothing when there are none."""
        flags = _DIRECTION_FLAGS.get(frame.direction, 0) | _CHECKSUM_FLAGS.get(frame.checksum, 0)
        if frame.gso_len:
            flags |= b.FLAG_SEGMENTATION_OFFLOADED
        comments = frame.comments
        if self.notes and frame.gso_len and (note := merged_note(frame)) not in comments:
            comments = (*comments, note)
        if not flags and not comments:
            return b""
        texts = b"".join(_option(b.OPT_COMMENT, _encoded(comment)) for comment in comments)
        return texts + _flags_and_end(flags)


def merged_note(frame: Frame) -> str:
    """What a comment says of a merged frame (`rawkit.engine.capfile.note`); "" for an ordinary one."""
    outgoing, not_ready = frame.direction == "out", frame.checksum == "not ready"
    return capfile.note(frame.data, frame.wire_len, frame.linktype, frame.gso_len, outgoing, not_ready)


def section_block(
    application: str, hardware: str = "", os_name: str = "", comments: tuple[str, ...] = ()
) -> bytes:
    """A little-endian section header block of a length that is not said, since nobody knows it yet."""
    about = _texts(
        *((b.OPT_COMMENT, comment) for comment in comments),
        (b.SHB_HARDWARE, hardware),
        (b.SHB_OS, os_name),
        (b.SHB_USERAPPL, application),
    )
    fixed = struct.pack("<IHHq", b.BYTE_ORDER_MAGIC, 1, 0, -1)
    return _block(b.SHB, fixed + about + (_option(b.OPT_END, b"") if about else b""))


def interface_block(interface: b.Interface, hardware: str = "", mac: bytes = b"") -> bytes:
    """A little-endian interface description block, times in nanoseconds; `mac` are six octets, or none."""
    body = struct.pack("<HHI", _linktype(interface.linktype), 0, interface.snaplen)
    # The name is written even when it is empty: a reader then knows it from one that was never given.
    body += _option(b.IF_NAME, _encoded(interface.name))
    body += _texts(
        (b.IF_DESCRIPTION, interface.description),
        (b.IF_HARDWARE, hardware),
        *((b.OPT_COMMENT, comment) for comment in interface.comments),
    )
    if mac:
        if len(mac) != 6:
            raise FieldError(f"mac: {len(mac)} octets, an address has 6")
        body += _option(b.IF_MACADDR, mac)
    body += _option(b.IF_TSRESOL, bytes([_TSRESOL_NS]))
    if interface.filter:
        body += _option(b.IF_FILTER, b"\0" + _encoded(interface.filter))
    body += _texts((b.IF_OS, interface.os))
    return _block(b.IDB, body + _option(b.OPT_END, b""))


def _snaplen(snaplen: int) -> int:
    """`snaplen` as it is written: 0 and more than a packet may have stand for the most."""
    if snaplen < 0:
        raise FieldError(f"snaplen {snaplen} is negative")
    return min(snaplen, b.MAX_PACKET_LEN) or b.MAX_PACKET_LEN


def _linktype(linktype: int) -> int:
    if not 0 <= linktype <= 0xFFFF:
        raise FieldError(f"linktype {linktype} does not fit 16 bits")
    return linktype


def _encoded(text: str) -> bytes:
    return text.encode(
        "utf-8", "backslashreplace"
    )  # a lone surrogate is no UTF-8, and no reason to lose a frame


def _option(code: int, value: bytes) -> bytes:
    if len(value) > b.MAX_OPTION_LEN:
        raise FieldError(f"option {code}: {len(value)} octets of text, the most is {b.MAX_OPTION_LEN}")
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


@functools.cache  # a handful of values, and one on every frame of a live capture
def _flags_and_end(flags: int) -> bytes:
    return (_option(b.EPB_FLAGS, _u32.pack(flags)) if flags else b"") + _option(b.OPT_END, b"")


def _texts(*options: tuple[int, str]) -> bytes:
    """Text options, those that are not empty, without an end of options."""
    return b"".join(_option(code, _encoded(text)) for code, text in options if text)


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    if length > b.MAX_BLOCK_LEN:
        raise FieldError(f"block of {length} octets, the most is {b.MAX_BLOCK_LEN}")
    return struct.pack("<II", kind, length) + body + _u32.pack(length)
