"""Several receive rings read as one, in the order of their frames' times."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

from rawkit.engine.aio import Waits, wait_readable
from rawkit.engine.batch import FrameBatch
from rawkit.engine.native import FOREVER_NS, check, deadline, ffi, lib, monotonic_ns, realtime_ns
from rawkit.engine.ring import PacketRing, RingCounters
from rawkit.errors import EngineError

SLACK_NS = 10_000_000
"""How late the kernel may be with a block whose time is over, in nanoseconds."""

_ARENA_LEN = 1 << 20
_CAPACITY = 8192


class _Part:
    """A ring, and where its frames stand."""

    def __init__(self, ring: PacketRing, rest: Any) -> None:
        self.ring = ring
        self.rest = rest  # struct rk_batch_rest: what was not handed out of its batch
        self.batch: FrameBatch = FrameBatch(1, 1)
        rest.batch = self.batch.handle
        self.before = 0  # frames handed out of earlier batches
        self.safe_ns = 0  # holding nothing, it will bring nothing from before that
        self.overdue_ns = 0  # when what it holds has waited long enough, whatever its times are
        self.gone = False

    @property
    def holds(self) -> bool:
        at: int = self.rest.at
        return at < len(self.batch)

    @property
    def head_ns(self) -> int:
        time_ns: int = self.batch.handle.frames[self.rest.at].time_ns
        return time_ns

    @property
    def delivered(self) -> int:
        total: int = self.before + self.rest.at
        return total

    def take(self, hold_ns: int) -> None:
        """Look for the ring's next frames. Raises what `PacketRing.receive` raises."""
        self.before += self.rest.at
        self.rest.at = 0
        wall_ns = realtime_ns()
        try:
            self.batch = self.ring.receive(0)
        except EngineError as error:
            self.gone = error.errno == errno.ENXIO
            raise
        self.rest.batch = self.batch.handle
        # In steps: each time it grows, what the others hold goes out, and should not be a few frames.
        step_ns = hold_ns // 8
        self.safe_ns = (wall_ns - hold_ns) // step_ns * step_ns
        self.overdue_ns = monotonic_ns() + 2 * hold_ns


class RingSet:
    """Rings of several interfaces read as one: the frames of all of them, copied, the earlier ones first.

    A block may come when its first frame is `block_timeout` old, so a frame waits for as long (and SLACK_NS,
    and an eighth of both) until no ring can have an earlier one. A ring keeps what it has meanwhile: it needs
    memory for that time. A clock that is set back does not make anything wait longer; then the order is that
    of arrival.

    An interface that was removed is told once (ENXIO, after its last frame); the others go on. Reading is
    for one thread. Closing closes the rings.
    """

    def __init__(self, rings: Sequence[PacketRing], block_timeout: float) -> None:
        """`block_timeout` is what the rings were opened with, in seconds."""
        self._hold_ns = round(block_timeout * 1e9) + SLACK_NS
        # A batch has one link type: rings of different ones are merged with their like.
        by_linktype: dict[int, list[PacketRing]] = {}
        for ring in rings:
            by_linktype.setdefault(ring.linktype, []).append(ring)
        self._groups: list[tuple[Any, list[_Part]]] = []
        parts: dict[int, _Part] = {}
        for members in by_linktype.values():
            rests = ffi.new("struct rk_batch_rest[]", len(members))
            group = [_Part(ring, rest) for ring, rest in zip(members, rests)]
            self._groups.append((rests, group))
            parts |= {id(part.ring): part for part in group}
        self._parts = [parts[id(ring)] for ring in rings]
        self._interrupted = False
        self._out = FrameBatch(_CAPACITY, _ARENA_LEN)

    @property
    def live(self) -> int:
        """How many of the interfaces are not gone."""
        return sum(not part.gone for part in self._parts)

    def receive(self, timeout: float | None = None, n: int | None = None) -> FrameBatch:
        """The next frames, at most `n`, all of one link type; none when none came within `timeout` seconds.

        It is always the same batch. Raises what `PacketRing.receive` raises; the error's `subject` is the
        interface, and the next call goes on.
        """
        end_ns = deadline(timeout)
        while not self._step(n) and monotonic_ns() < end_ns and not self._interrupted:
            wait_readable(self._silent(), self._look_ns(end_ns))
        self._interrupted = False
        return self._out

    def interrupt(self) -> None:
        """Let a `receive` that waits return with nothing, as `PacketRing.interrupt`."""
        self._interrupted = True

    async def areceive(self, timeout: float | None = None, n: int | None = None) -> FrameBatch:
        """As `receive`, in a running event loop."""
        end_ns = deadline(timeout)
        while not self._step(n) and monotonic_ns() < end_ns:
            # Copies, and not for long: another thread may close the rings.
            copies = [os.dup(fd) for fd in self._silent()]
            try:
                left_ns = self._look_ns(end_ns) - monotonic_ns()
                await Waits().ready(copies, min(0.05, max(left_ns, 0) / 1e9))
            finally:
                for fd in copies:
                    os.close(fd)
        return self._out

    def _step(self, n: int | None) -> int:
        """Take what has come, and merge what need not wait for more; how many frames that are."""
        self._out.clear()
        for part in self._parts:
            if not part.holds and not part.gone:
                part.take(self._hold_ns)
        held = [(min(heads), group) for group in self._groups if (heads := _heads(group))]
        if not held:
            return 0
        silent = [part.safe_ns for part in self._parts if not part.holds and not part.gone]
        until_ns = min(silent, default=FOREVER_NS)
        now_ns = monotonic_ns()
        if any(part.holds and now_ns >= part.overdue_ns for part in self._parts):
            until_ns = FOREVER_NS
        (_, (rests, members)), *others = sorted(held, key=lambda row: row[0])
        until_ns = min([until_ns, *(head_ns for head_ns, _ in others)])
        most = _CAPACITY if n is None else n
        result = lib.rk_batch_merge(self._out.handle, rests, len(members), until_ns, most)
        self._out.linktype = members[0].ring.linktype
        return check(result, "merge frames")

    def _silent(self) -> list[int]:
        """Descriptors of the rings that hold nothing."""
        return [part.ring.fileno() for part in self._parts if not part.holds and not part.gone]

    def _look_ns(self, end_ns: int) -> int:
        """When to look again though nothing came: `end_ns`, or when what is held need not wait any longer."""
        heads = [part.head_ns for part in self._parts if part.holds]
        if not heads:
            return end_ns
        safe_ns = min(part.safe_ns for part in self._parts if not part.holds and not part.gone)
        wait_ns = min(max(min(heads) - safe_ns, 1_000_000), self._hold_ns)
        return min(end_ns, monotonic_ns() + wait_ns)

    def parts(self) -> list[RingCounters]:
        """The counters of each ring; a frame that waits here for others counts as waiting."""
        return [part.ring.counters()._replace(delivered=part.delivered) for part in self._parts]

    def counters(self) -> RingCounters:
        """The sums of all rings' counters."""
        return RingCounters._make(map(sum, zip(*self.parts())))

    def close(self) -> None:
        """Close the rings; counters stay readable."""
        for part in self._parts:
            part.ring.close()


def _heads(group: tuple[Any, list[_Part]]) -> list[int]:
    return [part.head_ns for part in group[1] if part.holds]
