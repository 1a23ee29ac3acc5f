"""Records of capture files in C: packets of a piece of a file as rows of a batch, and batches as records."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rawkit.engine.native import ffi, lib

if TYPE_CHECKING:
    from rawkit.engine.batch import FrameBatch

MAX_PACKET_LEN: int = lib.RK_PCAP_PACKET_LEN
MAX_BLOCK_LEN: int = lib.RK_PCAP_BLOCK_LEN
MORE: int = lib.RK_PCAP_MORE
FULL: int = lib.RK_PCAP_FULL
BLOCK: int = lib.RK_PCAP_BLOCK
DAMAGED: int = lib.RK_PCAP_DAMAGED


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
