"""Octets that arrive in any order, read in order (RFC 9293 section 3.10.7.4; RFC 2018 for the reports)."""

from __future__ import annotations

from typing import Literal

from rawkit.transport.ranges import RangeSet

_RECENT = 16  # more than the 4 blocks for which TCP's options have room


class Reassembly:
    """A receive buffer of `capacity` octets, in which segments lie until what comes before them has arrived.

    Offsets are integers that do not wrap (`SeqSpace.unwrap`). `overlap` says which octets stay if a segment
    repeats octets that are stored and unread: the "first" or the "last" to arrive; with "reject" a segment
    that contradicts what is stored is dropped whole. Memory is bounded whatever
    a peer sends: `capacity` octets, and `max_ranges` islands beyond the octets in order. A segment that would
    make one island more is dropped, as if lost; the next octets in order always find room.

    Raises:
        ValueError: a capacity or a number of islands below 1, or an unknown policy.
    """

    __slots__ = (
        "_buffer",
        "_held",
        "_last_wins",
        "_max_ranges",
        "_recent",
        "_rejects",
        "capacity",
        "duplicate",
        "next",
        "read_offset",
        "rejected",
    )

    def __init__(
        self,
        capacity: int,
        *,
        start: int = 0,
        overlap: Literal["first", "last", "reject"] = "first",
        max_ranges: int = 1024,
    ) -> None:
        if capacity < 1 or max_ranges < 1:
            raise ValueError(f"capacity ({capacity}) and max_ranges ({max_ranges}) must be at least 1")
        if overlap not in ("first", "last", "reject"):
            raise ValueError(f"overlap must be 'first', 'last' or 'reject', got {overlap!r}")
        self.capacity = capacity
        # A ring: offset o lies at o % capacity. Made when something has to lie in it, which is never so
        # where all comes in order, nor for an exchange that comes to nothing.
        self._buffer = bytearray()
        self._held = RangeSet()  # stored and unread
        self._recent: list[int] = []  # an offset of each segment out of order, the latest first
        self._last_wins, self._rejects = overlap == "last", overlap == "reject"
        self.duplicate: tuple[int, int] | None = None
        """The first range of the latest segment that had arrived before, which a DSACK reports (RFC 2883)."""
        self.rejected = 0
        """Segments that contradicted what was stored."""
        self._max_ranges = max_ranges
        self.read_offset = start
        """The offset of the next octet that `read` gives."""
        self.next = start
        """The next offset expected, which is what an acknowledgement names."""

    @property
    def window(self) -> int:
        """Octets for which there is room from `next` on."""
        return self.read_offset + self.capacity - self.next

    def insert(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Store a segment; return how many octets are new. What lies outside the window is cut off."""
        start = max(offset, self.read_offset)
        end = min(offset + len(data), self.read_offset + self.capacity)
        self.duplicate = self._arrived_before(offset, offset + len(data))
        if start >= end:
            return 0
        if self._rejects and self.duplicate is not None and not self._agrees(offset, data, start, end):
            self.rejected += 1
            return 0
        islands = len(self._held) - (self.next > self.read_offset)
        if start > self.next and islands >= self._max_ranges and not self._held.touches(start, end):
            return 0
        pieces = [(start, end)] if self._last_wins else list(self._held.gaps(start, end))
        for first, last in pieces:
            self._store(first, memoryview(data)[first - offset : last - offset])
        new = self._held.add(start, end)
        first_range = self._held.range_at(self.next)
        if first_range is not None:
            self.next = first_range[1]
        if end > self.next:
            self._recent = [start, *(at for at in self._recent if at != start)][:_RECENT]
        return new

    def read(self, most: int | None = None) -> bytes:
        """Up to `most` octets (all, when None) in order, whose room is free then; b"" when there are none."""
        ready = self.next - self.read_offset
        count = ready if most is None else max(min(most, ready), 0)
        at = self.read_offset % self.capacity
        data = bytes(self._buffer[at : at + count])
        data += bytes(self._buffer[: count - len(data)])
        self._held.remove(self.read_offset, self.read_offset + count)
        self.read_offset += count
        return data

    def take(self, offset: int, data: bytes) -> list[bytes]:
        """Store a segment and read what is in order then; quick for one that is just next, with nothing
        waiting.
        """
        if offset == self.next == self.read_offset and not self._held and 0 < len(data) <= self.capacity:
            self.next = self.read_offset = offset + len(data)
            self.duplicate = None
            return [data]
        self.insert(offset, data)
        octets = self.read()
        return [octets] if octets else []

    def sack_blocks(self, most: int = 4) -> list[tuple[int, int]]:
        """Up to `most` islands beyond `next`, as (start, end).

        The first holds the segment that came last, then follow those reported before (RFC 2018 section 4).
        """
        blocks: list[tuple[int, int]] = []
        for at in self._recent:
            block = self._held.range_at(at) if at >= self.next else None
            if block is not None and block not in blocks:
                blocks.append(block)
        return blocks[:most]

    def _arrived_before(self, start: int, end: int) -> tuple[int, int] | None:
        if start < self.next:
            return (start, min(end, self.next)) if start < end else None
        return self._held.overlap(start, end)

    def _agrees(self, offset: int, data: bytes | bytearray | memoryview, start: int, end: int) -> bool:
        """Whether a segment repeats what is stored as it is stored."""
        for low, high in self._held:
            for at in range(max(low, start), min(high, end)):
                if self._buffer[at % self.capacity] != data[at - offset]:
                    return False
        return True

    def _store(self, offset: int, data: memoryview) -> None:
        if not self._buffer:
            self._buffer = bytearray(self.capacity)
        at = offset % self.capacity
        until_edge = min(len(data), self.capacity - at)
        self._buffer[at : at + until_edge] = data[:until_edge]
        self._buffer[: len(data) - until_edge] = data[until_edge:]
