"""Records of capture files in C: packets of a piece of a file as rows of a batch, and batches as records."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rawkit.engine.native import check, ffi, lib

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from rawkit.engine.batch import FrameBatch

MAX_PACKET_LEN: int = lib.RK_PCAP_PACKET_LEN
MAX_BLOCK_LEN: int = lib.RK_PCAP_BLOCK_LEN
MORE: int = lib.RK_PCAP_MORE
FULL: int = lib.RK_PCAP_FULL
BLOCK: int = lib.RK_PCAP_BLOCK
DAMAGED: int = lib.RK_PCAP_DAMAGED


class PcapParser:
    """Finds the packets of a pcap file. They get ifindex 1."""

    def __init__(self, *, big_endian: bool, record_len: int, tick_ns: int) -> None:
        """`record_len` octets stand before each packet; fractions of a second count in `tick_ns`."""
        self._file = ffi.new(
            "struct rk_pcap_file *", {"big_endian": big_endian, "record_len": record_len, "tick_ns": tick_ns}
        )
        self._at = ffi.new("uint32_t *")

    def read(self, batch: FrameBatch, at: int) -> tuple[int, int]:
        """Make rows, in place of those there were, of the packets in the batch's arena from octet `at` on.

        Gives why it stopped (MORE, FULL, BLOCK, DAMAGED; see `RK_PCAP_...` in csrc/rk.h) and where. Views of
        the batch are closed.
        """
        self._at[0] = at
        stop = check(lib.rk_pcap_read(self._file, batch.refill(), self._at), "find packets")
        return stop, self._at[0]

    def find(self, octets: ReadableBuffer, at: int, end: int, at_end: bool) -> int:
        """The first place from `at` on where records seem to begin; `end`: none in octets[at:end].

        With `at_end` the file ends there.
        """
        n: int = lib.rk_pcap_find(self._file, ffi.from_buffer(octets), end, at, at_end)
        return n

    def odd(self, batch: FrameBatch) -> int:
        """The first frame of a batch just read whose record does not seem to be one; len(batch): none."""
        n: int = lib.rk_pcap_odd(self._file, batch.handle)
        return n


class PcapngParser:
    """Finds the packets of a section of a pcapng file, between its other blocks.

    All in a batch have one link type.
    """

    def __init__(self, *, big_endian: bool) -> None:
        self._interfaces = ffi.new("struct rk_pcap_interface[]", 4)
        self._section = ffi.new(
            "struct rk_pcapng_section *", {"interfaces": self._interfaces, "big_endian": big_endian}
        )
        self._at = ffi.new("uint32_t *")

    def __len__(self) -> int:
        """How many interfaces the section has described."""
        n: int = self._section.interfaces_n
        return n

    def add_interface(self, ifindex: int, linktype: int, snaplen: int, tsresol: int, offset_s: int) -> None:
        """Say what the next interface of the section is; its frames get `ifindex`."""
        n = self._section.interfaces_n
        if n == len(self._interfaces):
            more = ffi.new("struct rk_pcap_interface[]", 2 * n)
            ffi.memmove(more, self._interfaces, ffi.sizeof(self._interfaces))
            self._interfaces = self._section.interfaces = more
        row = self._interfaces[n]
        row.ifindex, row.linktype, row.snaplen = ifindex, linktype, snaplen
        row.tsresol, row.offset_s = tsresol, offset_s
        self._section.interfaces_n = n + 1

    def read(self, batch: FrameBatch, at: int) -> tuple[int, int]:
        """As `PcapParser.read`."""
        self._at[0] = at
        stop = check(lib.rk_pcapng_read(self._section, batch.refill(), self._at), "find packets")
        return stop, self._at[0]


def find_block(octets: ReadableBuffer, at: int, end: int, order: str, aligned: int) -> int:
    """The first place from `at` on where a whole pcapng block of a known type begins; `end`: none.

    Where it is no multiple of 4 octets away from `aligned` another block has to follow it.
    """
    n: int = lib.rk_pcapng_find(order == ">", ffi.from_buffer(octets), end, at, aligned)
    return n


class RecordWriter:
    """Turns frames of batches into records of one file.

    `tick_ns` is the unit of a pcap file's times in nanoseconds, 1 or 1000, or 0 for pcapng. `snaplen` cuts
    the frames of a pcap file; those of pcapng are cut to the snaplen of their interface. With `notes`, merged
    frames are explained in a comment (`note`).
    """

    def __init__(self, tick_ns: int, snaplen: int = MAX_PACKET_LEN, notes: bool = False) -> None:
        self._output = ffi.new(
            "struct rk_pcap_output *", {"tick_ns": tick_ns, "snaplen": snaplen, "notes": notes}
        )
        self._used = ffi.new("uint32_t *")
        self._interfaces: Any = None

    @property
    def handle(self) -> Any:
        """The `struct rk_pcap_output *` that C works on."""
        return self._output

    def set_interfaces(self, interfaces: Mapping[int, tuple[int, int]], linktype: int) -> None:
        """Say where frames go: from an ifindex to the number of an interface in the file, and its snaplen."""
        self._output.linktype = linktype
        rows = [
            {"ifindex": ifindex, "number": number, "snaplen": snaplen}
            for ifindex, (number, snaplen) in interfaces.items()
        ]
        self._interfaces = ffi.new("struct rk_pcap_interface[]", rows)  # the struct only points to it
        self._output.interfaces = self._interfaces
        self._output.interfaces_n = len(rows)

    def put(self, batch: FrameBatch, first: int, n: int, out: WriteableBuffer, used: int) -> tuple[int, int]:
        """Put frames [first, first + n) into out[used:], as many as fit.

        Gives how many were put, or the negative errno that kept out the first of them (`rk_pcap_write`), and
        how much of `out` is in use then.
        """
        self._used[0] = used
        with ffi.from_buffer("uint8_t[]", out, require_writable=True) as room:
            result = lib.rk_pcap_write(self._output, batch.handle, first, n, room, len(room), self._used)
        return result, self._used[0]


class Recorder:
    """The end of a regular file, to which C appends the frames of a ring (`PacketRing.record`).

    What is gathered in the buffer are whole records that belong at `file_len`; `done` octets of it are in the
    file already. `used` counts those in the buffer, `packets` all packets, `file_packets` those before the
    buffer. These numbers hold at every moment, whatever interrupts a call.
    """

    def __init__(self, records: RecordWriter, piece_len: int) -> None:
        """What is written at a time ends at multiples of `piece_len` in the file."""
        self.records = records
        self.handle = ffi.new("struct rk_recorder *", {"piece_len": piece_len})
        """The `struct rk_recorder *` that C works on."""
        self.rest: range = range(0)
        """Rows of the ring's batch that were not recorded: what C cannot put, or what lies beyond `size`."""

    def begin(
        self, file: int, buffer: bytearray, size: int | None, state: tuple[int, int, int, int, int]
    ) -> Any:
        """Go on with a file and a buffer of which `state` is told, up to `size` octets (None: no limit).

        What it gives holds the buffer as long as its `with` block lasts.
        """
        row = self.handle
        room = ffi.from_buffer("uint8_t[]", buffer, require_writable=True)
        row.fd, row.buffer, row.buffer_len = file, room, len(room)
        row.full_len = 2**64 - 1 if size is None else size
        self.rest = range(0)
        row.error = 0
        row.file_len, row.file_packets, row.packets, row.used, row.done = state
        return room

    @property
    def state(self) -> tuple[int, int, int, int, int]:
        """file_len, file_packets, packets, used, done."""
        row = self.handle
        return row.file_len, row.file_packets, row.packets, row.used, row.done

    @property
    def packets(self) -> int:
        """Packets in the file and in the buffer."""
        n: int = self.handle.packets
        return n

    @property
    def failed(self) -> bool:
        """Whether a write failed; the next one will say why."""
        return bool(self.handle.error)


def note(octets: bytes, wire_len: int, linktype: int, gso_len: int, outgoing: bool, not_ready: bool) -> str:
    """How a merged frame came to be longer than the wire carries, and what its transport checksum is worth.

    "not cut yet (GSO): 3 segments of 1448 octets, transport checksum not ready"; "" for an ordinary frame.
    """
    frame = ffi.new(
        "struct rk_frame *",
        {
            "cap_len": len(octets),
            "wire_len": wire_len,
            "gso_len": gso_len,
            "flags": outgoing * lib.RK_FRAME_OUTGOING | not_ready * lib.RK_FRAME_CSUM_NOT_READY,
        },
    )
    text = ffi.new("char[]", lib.RK_PCAP_NOTE_LEN)
    lib.rk_pcap_note(frame, ffi.from_buffer(octets), linktype, text)
    told: str = ffi.string(text).decode()
    return told


class RecordCopier:
    """Copies records of a capture file, as they stand or with other octets in their packets.

    `record_len` is how many octets stand before each packet of a pcap file, 0 for pcapng. Of a pcapng
    packet's options those stay whose code is in `options` (None: all, and all that stands there), and
    with `interfaces` the number of its interface is that of the row which it had before. With `turn` it gets
    the other byte order, and options whose layout is not known are left out.
    """

    def __init__(
        self,
        *,
        big_endian: bool,
        record_len: int = 0,
        options: Iterable[int] | None = None,
        interfaces: Sequence[int] = (),
        turn: bool = False,
    ) -> None:
        self._interfaces = ffi.new("uint32_t[]", list(interfaces)) if interfaces else ffi.NULL
        mask = 2**64 - 1 if options is None else sum(1 << code for code in options)
        self._rules = ffi.new(
            "struct rk_pcap_copy *",
            {
                "big_endian": big_endian,
                "record_len": record_len,
                "options": mask,
                "interfaces": self._interfaces,
                "interfaces_n": len(interfaces),
                "turn": turn,
            },
        )
        self._at = ffi.new("uint32_t *")
        self._used = ffi.new("uint32_t *")
        self._copied = ffi.new("uint32_t *")
        self.at = 0
        """Where in the batch's arena the record of the next frame begins."""
        self.copied = 0
        """Records put by the last call."""

    def put(
        self,
        batch: FrameBatch,
        first: int,
        n: int,
        out: WriteableBuffer,
        used: int,
        keep: ReadableBuffer | None = None,
        edited: FrameBatch | None = None,
        edited_first: int = 0,
    ) -> tuple[int, int]:
        """Put the records of frames [first, first + n) into out[used:]: those whose octet in `keep` is not 0.

        `edited` has a frame for each of the n, from `edited_first` on, that stands in place of it. Gives how
        many frames were dealt with, or the negative errno that kept the first from it (`rk_pcap_copy`), and
        how much of `out` is in use then.
        """
        self._at[0], self._used[0], self._copied[0] = self.at, used, 0
        flags = ffi.NULL if keep is None else ffi.from_buffer("uint8_t[]", keep)
        other = ffi.NULL if edited is None else edited.handle
        with ffi.from_buffer("uint8_t[]", out, require_writable=True) as room:
            result: int = lib.rk_pcap_copy(
                self._rules,
                batch.handle,
                first,
                n,
                flags,
                other,
                edited_first,
                self._at,
                room,
                len(room),
                self._used,
                self._copied,
            )
        self.at, self.copied = self._at[0], self._copied[0]
        return result, self._used[0]

    def pass_over(self, batch: FrameBatch, first: int, n: int) -> int:
        """Put no records of frames [first, first + n), but look at each as `put` does; gives what `put` does.

        `at` is behind them then.
        """
        return self.put(batch, first, n, bytearray(), 0, bytes(len(batch)))[0]


def noted(comment: bytes) -> int:
    """The length of segments that a `note` tells; 0 for any other comment."""
    gso_len: int = lib.rk_pcap_noted(ffi.from_buffer(comment), len(comment))
    return gso_len


class BatchMerger:
    """Frames of several batches in the order of time, copied; or whole records of pcapng files.

    Of frames with one time those of the batch with the lower number come first.
    """

    def __init__(self, n: int) -> None:
        from rawkit.engine.batch import FrameBatch

        self._make = FrameBatch
        self._empty = FrameBatch(1, 1)
        self._batches = [self._empty] * n
        self._rests = ffi.new("struct rk_batch_rest[]", n)
        self._out = FrameBatch(_MERGED_ROWS, _MERGED_LEN)
        self._records = ffi.new("struct rk_pcap_copy *")  # little-endian pcapng
        for i in range(n):
            self.put(i, None)

    def put(self, i: int, batch: FrameBatch | None) -> None:
        """Say what batch i is now; None: nothing more."""
        self._batches[i] = self._empty if batch is None else batch
        self._rests[i].batch = self._batches[i].handle
        self._rests[i].at = 0

    def done(self, i: int) -> bool:
        """Whether all of batch i was taken."""
        done: bool = self._rests[i].at >= len(self._batches[i])
        return done

    def records_of(self, batch: FrameBatch, used: int, like: FrameBatch) -> None:
        """Make rows of the records in the first `used` octets of a batch, with the times of `like`."""
        handle = batch.refill()
        ffi.memmove(handle.frames, like.handle.frames, len(like) * ffi.sizeof("struct rk_frame"))
        handle.n, handle.arena_used = len(like), used
        check(lib.rk_pcap_records(self._records, handle, 0), "find records")

    def merge(self) -> FrameBatch:
        """The next frames, up to the last of any batch; valid until the next call."""
        self._out.clear()
        arguments = self._rests, len(self._rests), 2**63 - 1, self._out.capacity
        result = lib.rk_batch_merge(self._out.handle, *arguments)
        if result == NO_ROOM:
            self._out = self._make(_MERGED_ROWS, MAX_BLOCK_LEN + MAX_PACKET_LEN)
            result = lib.rk_batch_merge(self._out.handle, *arguments)
        check(result, "merge frames")
        return self._out


_MERGED_ROWS = 8192
_MERGED_LEN = 4 << 20
NO_ROOM = -errno.ENOSPC
NO_INTERFACE = -errno.ENODEV
UNFIT = -errno.ERANGE
