"""Which probes are still without an answer: the only thing a SYN scan remembers about what it sent."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator

UNANSWERED = 0

RUN_MAX = 64
"""How many probes leave together: what one system call takes."""

_RUN = re.compile(rb"\x00{1,%d}" % RUN_MAX)


class Board:
    """`n` probes, each unanswered at first; 9 octets for each.

    Probes go out in rounds: a round passes over all that are unanswered, in the order of their indexes.
    """

    __slots__ = ("_cursor", "_sent_ns", "_states", "left", "round")

    def __init__(self, n: int) -> None:
        self._states = bytearray(n)
        self._sent_ns = array("q", bytes(8 * n))
        self._cursor = 0
        self.left = n
        """How many are unanswered."""
        self.round = 0
        """The number of this round, from 0."""

    def next_run(self, limit: int) -> tuple[int, int]:
        """(first, how many) of the next probes to send that lie side by side, at most RUN_MAX of them.

        None are left in this round when it is 0.
        """
        run = _RUN.search(self._states, self._cursor)
        if run is None:
            self._cursor = len(self._states)
            return self._cursor, 0
        return run.start(), min(run.end() - run.start(), limit)

    def sent(self, first: int, n: int, now_ns: int) -> None:
        """Probes [first, first + n) went out."""
        self._sent_ns[first : first + n] = array("q", [now_ns]) * n
        self._cursor = first + n

    def sent_ns(self, index: int) -> int:
        """When a probe last went out."""
        return self._sent_ns[index]

    def probes(self, index: int) -> int:
        """How many times a probe, unanswered or just answered, went out."""
        return self.round + (index < self._cursor)

    def answered(self, index: int) -> bool:
        """Note the answer to a probe. False when there was one before."""
        if self._states[index] != UNANSWERED:
            return False
        self._states[index] = 1
        self.left -= 1
        return True

    @property
    def round_over(self) -> bool:
        """Every unanswered probe went out in this round."""
        return self.left == 0 or self._cursor >= len(self._states)

    def next_round(self) -> None:
        self.round += 1
        self._cursor = 0

    def unanswered(self) -> Iterator[int]:
        """The indexes of the probes without an answer."""
        for run in _RUN.finditer(bytes(self._states)):
            yield from range(*run.span())
