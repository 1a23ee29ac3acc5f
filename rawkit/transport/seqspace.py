"""Sequence numbers that wrap: serial number arithmetic (RFC 1982; RFC 9293 section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SeqSpace:
    """The numbers 0 .. 2**bits - 1, after the last of which comes 0 again.

    Raises:
        ValueError: fewer than 2 bits, with which nothing can be compared (RFC 1982 section 3).
    """

    bits: int

    def __post_init__(self) -> None:
        if self.bits < 2:
            raise ValueError(f"a sequence space needs at least 2 bits, got {self.bits}")

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return 1 << self.bits

    def add(self, number: int, count: int) -> int:
        """The number `count` places on (back, when negative). Any count: RFC 1982 allows half the space."""
        return (number + count) % self.size

    def distance(self, first: int, second: int) -> int:
        """How far it is from `first` to `second` the short way, in -size/2 .. size/2 - 1."""
        half = self.size >> 1
        return (second - first + half) % self.size - half

    def less(self, first: int, second: int) -> bool:
        """Whether `first` is before `second` (RFC 1982 section 3.2).

        Neither is before the other when they are half the space apart: RFC 1982 leaves that undefined.
        """
        return 0 < (second - first) % self.size < self.size >> 1

    def within(self, number: int, first: int, count: int) -> bool:
        """Whether `number` is one of the `count` numbers from `first` on (RFC 9293 section 3.4, a window)."""
        return (number - first) % self.size < count

    def unwrap(self, number: int, near: int) -> int:
        """The integer nearest to `near` that wraps to `number`; `near` never wraps. When tied, the lower."""
        return near + self.distance(near % self.size, number)
