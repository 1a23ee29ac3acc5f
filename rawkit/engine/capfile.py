"""Records of capture files in C: packets of a piece of a file as rows of a batch, and batches as records."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rawkit.engine.native import check, ffi, lib

if TYPE_CHECKING:
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


class RecordWriter:
    """Turns frames of batches into records of one file.

    `tick_ns` is the unit of a pcap file's times in nanoseconds, 1 or 1000, or 0 for pcapng. `snaplen` cuts
    the frames of a pcap file; those of pcapng are cut to the snaplen of their interface. With `notes`, what
    the flags word of pcapng cannot tell is told in a comment.
    """

    def __init__(self, tick_ns: int, snaplen: int = MAX_PACKET_LEN, notes: bool = False) -> None:
        self._output = ffi.new(
            "struct rk_pcap_output *", {"tick_ns": tick_ns, "snaplen": snaplen, "notes": notes}
        )
        self._used = ffi.new("uint32_t *")
        self._interfaces: Any = None

    def set_interfaces(self, interfaces: Mapping[int, tuple[int, int]]) -> None:
        """Say where frames go: from an ifindex to the number of an interface in the file, and its snaplen."""
        rows = [
            {"ifindex": ifindex, "number": number, "snaplen": snaplen}
            for ifindex, (number, snaplen) in interfaces.items()
        ]
        self._interfaces = ffi.new("struct rk_pcap_interface[]", rows)  # the struct only points to it
        self._output.interfaces = self._interfaces
        self._output.interfaces_n = len(rows)

    def put(self, batch: FrameBatch, first: int, n: int, out: bytearray, used: int) -> tuple[int, int]:
        """Put frames [first, first + n) into out[used:], as many as fit.

        Gives how many were put, or the negative errno that kept out the first of them (`rk_pcap_write`), and
        how much of `out` is in use then.
        """
        self._used[0] = used
        with ffi.from_buffer("uint8_t[]", out, require_writable=True) as room:
            result = lib.rk_pcap_write(self._output, batch.handle, first, n, room, len(room), self._used)
        return result, self._used[0]


NO_ROOM = -errno.ENOSPC
NO_INTERFACE = -errno.ENODEV
UNFIT = -errno.ERANGE
