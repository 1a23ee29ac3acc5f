"""How two capture files differ: packets that only one has, and fields of those that both have."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rawkit.errors import FieldError
from rawkit.wire.edit import FieldDifference, diff
from rawkit.wire.frame import Frame

WINDOW = 200
"""How far a packet may have moved, in packets, to be found again."""


@dataclass(frozen=True)
class PacketDifference:
    """A packet of which the two files have different versions, or which only one has.

    Numbers count from 1, None where the file has no such packet. `fields` are the differences of a packet
    that both have.
    """

    left_number: int | None
    right_number: int | None
    left: Frame | None
    right: Frame | None
    fields: tuple[FieldDifference, ...] = ()


def diff_files(
    left: Iterable[Frame],
    right: Iterable[Frame],
    *,
    ignore: Iterable[str] = (),
    times: bool = False,
    within_ns: int = 0,
) -> Iterator[PacketDifference]:
    """Compare the packets of two captures, and give each difference in their order.

    Packets are the same when their octets are, whatever their times, unless `times`: then these may differ by
    `within_ns`. What is missing on one side, or was put in, is found when the next packets are the same again
    within 200 packets. `ignore` are fields that do not matter, as "IPv4.id". Memory does not grow
    with the files.

    Raises:
        FieldError: an ignored field that is not "header.field".
    """
    ignored = frozenset(_path(name) for name in ignore)
    sides = _Side(left), _Side(right)
    mine, other = sides
    while True:
        a, b = mine.peek(0), other.peek(0)
        if a is None or b is None:
            break
        found = _differences(a, b, ignored, times, within_ns)
        if not found:
            mine.pop()
            other.pop()
            continue
        skipped = _moved(mine, other)
        if skipped is None:
            yield PacketDifference(mine.number, other.number, mine.pop(), other.pop(), tuple(found))
            continue
        side, n = skipped
        for _ in range(n):
            if side is mine:
                yield PacketDifference(mine.number, None, mine.pop(), None)
            else:
                yield PacketDifference(None, other.number, None, other.pop())
    while mine.peek(0) is not None:
        yield PacketDifference(mine.number, None, mine.pop(), None)
    while other.peek(0) is not None:
        yield PacketDifference(None, other.number, None, other.pop())


class _Side:
    """The packets of a file that come next."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = iter(frames)
        self._next: deque[Frame] = deque()
        self.number = 1
        """Of the packet that comes next."""

    def peek(self, n: int) -> Frame | None:
        """The packet n behind the next one; None at the end."""
        while len(self._next) <= n:
            frame = next(self._frames, None)
            if frame is None:
                return None
            self._next.append(frame)
        return self._next[n]

    def pop(self) -> Frame:
        self.number += 1
        return self._next.popleft()


def _moved(mine: _Side, other: _Side) -> tuple[_Side, int] | None:
    """Which side has how many packets more before both go on alike; None: the two are one, changed."""
    a, b = mine.peek(0), other.peek(0)
    assert a is not None
    assert b is not None
    if a.data == b.data:
        return None  # they differ in their times
    following = mine.peek(1), other.peek(1)
    if following[0] is not None and following[1] is not None and following[0].data == following[1].data:
        return None
    for n in range(1, WINDOW):
        ahead = other.peek(n), mine.peek(n)
        if ahead[0] is not None and ahead[0].data == a.data:
            return other, n
        if ahead[1] is not None and ahead[1].data == b.data:
            return mine, n
        if ahead == (None, None):
            break
    return None


def _differences(
    a: Frame, b: Frame, ignored: frozenset[str], times: bool, within_ns: int
) -> list[FieldDifference]:
    found: list[FieldDifference] = []
    if times and abs(a.time_ns - b.time_ns) > within_ns:
        found.append(FieldDifference("frame", "time", a.time_ns, b.time_ns, 0))
    if a.wire_len != b.wire_len and "frame.len" not in ignored:
        found.append(FieldDifference("frame", "len", a.wire_len, b.wire_len, 0))
    if a.linktype != b.linktype:
        found.append(FieldDifference("frame", "linktype", a.linktype, b.linktype, 0))
    if a.data != b.data:
        fields = diff(a.packet(), b.packet())
        found += [row for row in fields if not row.field or _path(row.path) not in ignored]
    return found


def _path(name: str) -> str:
    """A field's path without the number of its header, in one spelling."""
    header, dot, field = name.strip().casefold().partition(".")
    if not dot and header not in ("payload", "trailer"):
        raise FieldError(f"field {name!r}: say header.field, as IPv4.id, or payload or trailer")
    return f"{header.partition('[')[0]}{dot}{field}"
