"""Numbered messages that arrive in any order, read in order: what `Reassembly` is for octets."""

from __future__ import annotations

from rawkit.transport.ranges import RangeSet

_RECENT = 16


class MessageBox:
    """A receive window of `capacity` messages; offsets are message numbers, which do not wrap."""

    __slots__ = ("_held", "_ready", "_recent", "_stored", "capacity", "next")

    def __init__(self, capacity: int, *, start: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.next = start
        """The next number expected."""
        self._stored: dict[int, bytes] = {}
        self._held = RangeSet()
        self._recent: list[int] = []
        self._ready: list[bytes] = []

    @property
    def window(self) -> int:
        """Messages for which there is room from `next` on."""
        return self.capacity - len(self._ready)

    def insert(self, number: int, message: bytes) -> int:
        """Store a message; 1 if it is new and inside the window, else 0."""
        if not self.next <= number < self.next + self.window or number in self._stored:
            return 0
        self._stored[number] = message
        if number > self.next:
            self._held.add(number, number + 1)
            self._recent = [number, *self._recent][:_RECENT]
            return 1
        first = self.next
        while self.next in self._stored:
            self._ready.append(self._stored.pop(self.next))
            self.next += 1
        self._held.remove(first, self.next)
        return 1

    def read(self) -> list[bytes]:
        """All messages that are in order, whose room is free then."""
        ready, self._ready = self._ready, []
        return ready

    def take(self, number: int, message: bytes) -> list[bytes]:
        """Store a message, and read what is in order then."""
        self.insert(number, message)
        return self.read()

    def sack_blocks(self, most: int = 4) -> list[tuple[int, int]]:
        """Up to `most` ranges beyond `next`, as (start, end), the one with the latest message first."""
        blocks: list[tuple[int, int]] = []
        for number in self._recent:
            block = self._held.range_at(number) if number >= self.next else None
            if block is not None and block not in blocks:
                blocks.append(block)
        return blocks[:most]
