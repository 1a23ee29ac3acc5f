"""Counting frames by the C engine: sums, rates over time, and flows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

from rawkit.engine.batch import FrameBatch
from rawkit.engine.native import check, ffi, lib
from rawkit.engine.rewrite import LINKS


class Sums(NamedTuple):
    """What can be said about frames in the order they came.

    `octets` are those there are, `wire_octets` those there were; `cut` frames have fewer than there were, and
    `backwards` ones a time before that of the one before. Times are nanoseconds since 1970, 0 without frames,
    and lengths octets.
    """

    packets: int = 0
    octets: int = 0
    wire_octets: int = 0
    cut: int = 0
    backwards: int = 0
    first_ns: int = 0
    last_ns: int = 0
    earliest_ns: int = 0
    latest_ns: int = 0
    shortest: int = 0
    longest: int = 0


class Tally:
    """Sums over all frames, and over those of each interface."""

    def __init__(self) -> None:
        self._rows = ffi.new("struct rk_tally[]", 1)

    def add(self, batch: FrameBatch, interfaces: int = 0) -> None:
        """Add the frames of a batch, whose interfaces are numbered 1 to `interfaces`."""
        if interfaces >= len(self._rows):
            more = ffi.new("struct rk_tally[]", 2 * interfaces + 1)
            ffi.memmove(more, self._rows, ffi.sizeof(self._rows))
            self._rows = more
        lib.rk_batch_tally(batch.handle, self._rows, len(self._rows))

    @property
    def all(self) -> Sums:
        """Of all frames."""
        return self.of(0)

    def of(self, interface: int) -> Sums:
        """Of the frames of one interface."""
        if interface >= len(self._rows):
            return Sums()
        row = self._rows[interface]
        return Sums(*(getattr(row, name) for name in Sums._fields))


class Rates:
    """Packets and octets on the wire in each interval of time, the first one beginning at `start_ns`.

    Frames before the start, or more than `most` intervals behind it, are in none (`left_out`).
    """

    def __init__(self, start_ns: int, interval_ns: int, most: int = 1_000_000) -> None:
        if interval_ns < 1:
            raise ValueError(f"an interval of {interval_ns} ns")
        self.start_ns = start_ns
        self.interval_ns = interval_ns
        self.left_out = 0
        self._most = most
        self._rows = ffi.new("struct rk_interval[]", 1024)

    def add(self, batch: FrameBatch) -> None:
        """Add the frames of a batch."""
        first = 0
        while True:
            first = lib.rk_batch_rates(
                batch.handle, first, self.start_ns, self.interval_ns, self._rows, len(self._rows)
            )
            if first == len(batch):
                return
            interval = (batch.handle.frames[first].time_ns - self.start_ns) // self.interval_ns
            if not 0 <= interval < self._most:
                self.left_out += 1
                first += 1
                continue
            more = ffi.new("struct rk_interval[]", max(2 * len(self._rows), interval + 1))
            ffi.memmove(more, self._rows, ffi.sizeof(self._rows))
            self._rows = more

    def rows(self) -> list[tuple[int, int]]:
        """Packets and octets of each interval, up to the last that has any."""
        rows = [(row.packets, row.octets) for row in self._rows]
        while rows and not rows[-1][0]:
            rows.pop()
        return rows


class Flow(NamedTuple):
    """Packets between two ends, `a` having sent the first of them.

    Addresses are octets as they stand in packets; a port is 0 where a protocol has none, and in fragments
    behind the first. Octets are those on the wire.
    """

    a: bytes
    b: bytes
    a_port: int
    b_port: int
    protocol: int
    packets_from_a: int
    packets_from_b: int
    octets_from_a: int
    octets_from_b: int
    first_ns: int
    last_ns: int


class FlowTable:
    """The flows of all frames that were added, and which frame is of which.

    Keeps some 110 octets for each flow, and no more than `most` flows: packets of others are counted
    (`left_out`). Addresses, protocol and ports tell flows apart, in both directions.
    """

    def __init__(self, most: int = 500_000) -> None:
        out = ffi.new("struct rk_flows **")
        check(lib.rk_flows_open(out, most), "keep flows")
        self._handle = ffi.gc(out[0], lib.rk_flows_close)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, batch: FrameBatch, numbers: array[int] | None = None) -> None:
        """Add the frames of a batch; numbers[i] becomes 1 + the row of frame i's flow, 0 where it has none.

        Frames of link types that the engine does not understand have none.
        """
        if batch.linktype not in LINKS:
            if numbers is not None:
                numbers[: len(batch)] = array("I", bytes(4 * len(batch)))
            return
        out: Any = ffi.NULL
        if numbers is not None:
            if len(numbers) < len(batch):
                raise ValueError(f"room for the numbers of {len(numbers)} of {len(batch)} frames")
            out = ffi.from_buffer("uint32_t[]", numbers)
        self._n = check(
            lib.rk_flows_add(self._handle, LINKS[batch.linktype], batch.handle, out), "keep flows"
        )

    @property
    def left_out(self) -> int:
        """Packets for whose flow there was no room."""
        n: int = lib.rk_flows_left_out(self._handle)
        return n

    def __getitem__(self, i: int) -> Flow:
        if not 0 <= i < self._n:
            raise IndexError(f"flow {i} of {self._n}")
        row = lib.rk_flows_rows(self._handle)[i]
        return Flow(
            bytes(ffi.buffer(row.a, row.addr_len)),
            bytes(ffi.buffer(row.b, row.addr_len)),
            row.a_port,
            row.b_port,
            row.protocol,
            row.packets[0],
            row.packets[1],
            row.octets[0],
            row.octets[1],
            row.first_ns,
            row.last_ns,
        )

    def __iter__(self) -> Iterator[Flow]:
        return (self[i] for i in range(self._n))

    def largest(self, n: int) -> list[Flow]:
        """The n flows with the most octets, largest first."""
        import heapq

        rows = lib.rk_flows_rows(self._handle)
        chosen = heapq.nlargest(n, range(self._n), key=lambda i: rows[i].octets[0] + rows[i].octets[1])
        return [self[i] for i in chosen]
