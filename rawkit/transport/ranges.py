"""Sets of integers as ranges: what was acknowledged, what is missing (RFC 2018, RFC 9000 section 19.3)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """Integers kept as disjoint half-open ranges in rising order; ranges that touch become one.

    A call costs O(log n) to find its place among n ranges, and a move of two lists to change them.
    """

    __slots__ = ("_ends", "_starts", "count")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.count = 0
        """How many integers are in the set."""

    def add(self, start: int, end: int) -> int:
        """Put start .. end - 1 in; return how many of them are new. An empty range adds nothing."""
        if start >= end:
            return 0
        low = bisect_left(self._ends, start)  # the first range that touches or comes later
        high = bisect_right(self._starts, end)  # behind the last that touches
        before = sum(self._ends[i] - self._starts[i] for i in range(low, high))
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]
        new = end - start - before
        self.count += new
        return new

    def remove(self, start: int, end: int) -> int:
        """Take start .. end - 1 out; return how many of them were there."""
        if start >= end:
            return 0
        low = bisect_right(self._ends, start)
        high = bisect_left(self._starts, end)
        if low >= high:
            return 0
        before = sum(self._ends[i] - self._starts[i] for i in range(low, high))
        left, right = (self._starts[low], start), (end, self._ends[high - 1])
        kept = [(a, b) for a, b in (left, right) if a < b]
        self._starts[low:high] = [a for a, _ in kept]
        self._ends[low:high] = [b for _, b in kept]
        gone = before - sum(b - a for a, b in kept)
        self.count -= gone
        return gone

    def touches(self, start: int, end: int) -> bool:
        """Whether start .. end - 1 overlaps a range, or lies directly beside one."""
        return bisect_left(self._ends, start) < bisect_right(self._starts, end)

    def overlap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first part of start .. end - 1 that is in the set; None when nothing is."""
        i = bisect_right(self._ends, start)
        if start >= end or i == len(self._starts) or self._starts[i] >= end:
            return None
        return max(self._starts[i], start), min(self._ends[i], end)

    def range_at(self, number: int) -> tuple[int, int] | None:
        """The range (start, end) that holds `number`; None when it is not in the set."""
        i = bisect_right(self._starts, number) - 1
        return (self._starts[i], self._ends[i]) if i >= 0 and number < self._ends[i] else None

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of start .. end - 1 that are not in the set, rising."""
        for i in range(bisect_right(self._ends, start), len(self._starts)):
            if self._starts[i] >= end:
                break
            if start < self._starts[i]:
                yield start, self._starts[i]
            start = self._ends[i]
        if start < end:
            yield start, end

    def __contains__(self, number: int) -> bool:
        return self.range_at(number) is not None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        """How many ranges there are (how many integers: `count`)."""
        return len(self._starts)

    def __repr__(self) -> str:
        return f"RangeSet({', '.join(f'{a}..{b - 1}' for a, b in self)})"
