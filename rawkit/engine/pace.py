"""Sending frames each at its own moment: by a list of moments, or at a steady rate."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from rawkit.engine.native import check, deadline, ffi, lib, monotonic_ns, slice_end
from rawkit.errors import EngineError

if TYPE_CHECKING:
    from rawkit.engine.batch import FrameBatch
    from rawkit.engine.sockets import PacketSocket, RawIPSocket
    from rawkit.engine.transmit import Transmitter

SPIN_NS = 150_000
"""The last stretch before each frame that is spent spinning instead of sleeping, in nanoseconds.

Sleeping ends 50 to 80 us late with the usual timer slack, later on a busy machine.
"""

SLACK_NS = 1_000_000
"""Lag that a rate makes up for, in nanoseconds: without any, each late awakening would lower it."""

HOLD_NS = 2_000_000
"""For how long `asend` keeps an event loop at a time: the loop's own timers wake up to a millisecond late."""

_SECOND_NS = 10**9


@dataclass(frozen=True)
class Rate:
    """A steady rate: `per_second` frames, or, with `bits`, bits of frames.

    `overhead_len` is what each frame costs besides its own octets, with `bits`: on Ethernet 24 (preamble,
    check sequence, gap between frames) make it the rate of the line.
    """

    per_second: float
    bits: bool = False
    overhead_len: int = 0

    def __post_init__(self) -> None:
        if not 1e-6 <= self.per_second <= 1e15:
            raise ValueError(f"a rate of {self.per_second} a second; possible are 1e-6..1e15")
        if self.overhead_len < 0:
            raise ValueError(f"overhead_len is {self.overhead_len}; it must be 0 or more")


class Schedule:
    """When frames are due: at the pace of their own times, `speed` times as fast, or at a rate.

    `start_ns` is when the first one is due, and may be set until others are planned.
    """

    def __init__(self, rate: Rate | None = None, speed: float = 1.0) -> None:
        self._rate = None if rate is None else _rate(rate)
        if not 1e-6 <= speed <= 1e12:
            raise ValueError(f"a speed of {speed}; possible are 1e-6..1e12")
        exact = Fraction(speed).limit_denominator(10**6)
        self._times = ffi.new("struct rk_times *", {"num": exact.denominator, "den": exact.numerator})
        self._begun = False

    def start(self, start_ns: int) -> None:
        """The first frame is due then."""
        (self._rate or self._times).start_ns = start_ns

    def shift(self, later_ns: int) -> None:
        """Frames are due as if their times were so many nanoseconds later than they say."""
        self._times.base_ns = max(-(2**63), min(self._times.base_ns - later_ns, 2**63 - 1))

    def pause(self, later_ns: int) -> None:
        """Frames planned from now on are due so many nanoseconds later than they would be."""
        (self._rate or self._times).start_ns += later_ns

    def plan(self, batch: FrameBatch, first: int, n: int, due_ns: array[int]) -> None:
        """Put into rows [first, first + n) of `due_ns` when these frames are due; in order, each once.

        It has a row of 64 bits for each frame of the batch.

        Raises:
            ValueError: it has fewer.
            EngineError: the range lies outside the batch (EINVAL).
        """
        if len(due_ns) < first + n:
            raise ValueError(f"{len(due_ns)} moments for frames [{first}, {first + n})")
        rows = ffi.from_buffer("int64_t[]", due_ns)
        if self._rate is not None:
            check(lib.rk_rate_plan(self._rate, batch.handle, first, n, rows), "plan")
            return
        if n and not self._begun:
            self._begun = True
            self._times.base_ns += batch.handle.frames[first].time_ns
        check(lib.rk_times_plan(self._times, batch.handle, first, n, rows), "plan")


@dataclass(frozen=True)
class TimingError:
    """How late frames went, in nanoseconds: when, minus planned time."""

    median_ns: int
    p99_ns: int
    max_ns: int


class PaceReport(NamedTuple):
    """What became of frames that were sent each at its moment.

    `failed` counts frames by the errno of their refusal. `first_ns` and `last_ns` are moments of the
    monotonic clock (0: none was sent), `paused_ns` is the lag that was not made up for. `lateness` is a
    histogram: how many frames went so many nanoseconds late, rounded down to 8 significant bits; `max_ns` is
    the largest, exact. When they went is said by the kernel's transmit stamps (`by_stamps`), or else is the
    time just before the system call.
    """

    sent: int
    octets: int
    failed: Mapping[int, int]
    first_ns: int
    last_ns: int
    paused_ns: int
    lateness: Mapping[int, int]
    max_ns: int
    by_stamps: bool = False

    @property
    def seconds(self) -> float:
        """From the first frame's system call to the last one's."""
        return (self.last_ns - self.first_ns) / 1e9

    @property
    def frames_per_second(self) -> float:
        """The rate achieved; 0 for fewer than two frames."""
        return (self.sent - 1) / self.seconds if self.sent > 1 and self.seconds else 0.0

    @property
    def bits_per_second(self) -> float:
        """The rate achieved, of the frames' own octets."""
        return self.frames_per_second * self.octets / self.sent * 8 if self.sent else 0.0

    @property
    def timing_error(self) -> TimingError | None:
        """Median and 99th percentile (nearest rank), and the exact maximum; None without any frame."""
        if not self.lateness:
            return None
        return TimingError(percentile(self.lateness, 50), percentile(self.lateness, 99), self.max_ns)


@dataclass
class _Plan:
    """When the rows of a batch are due (int64_t[]), and how many of those asked for were dealt with."""

    due: Any
    done: int = 0


def default_spin_ns() -> int:
    """SPIN_NS, and 0 for an ordinary user or a process that was made nice: neither should spin unasked."""
    return SPIN_NS if os.geteuid() == 0 and os.getpriority(os.PRIO_PROCESS, 0) <= 0 else 0


class PacedSender:
    """Sends rows of a batch, none before it is due, through a socket or a transmitter.

    Moments are absolute, so a late frame does not delay the ones after it; frames that are overdue go
    out at once, together. With `send` the caller says when each is due; with `send_batch` the rate does. The
    transmitter may be asked for live frames, but a call of them costs 15 us, so their moments are exact only
    below some 30,000 frames a second, and beyond that frames go in clumps.
    """

    def __init__(
        self,
        sender: PacketSocket | RawIPSocket | Transmitter,
        spin_ns: int | None = None,
        *,
        rate: Rate | None = None,
        catch_up: bool | None = None,
        stamps: bool = False,
        warm: bool = False,
    ) -> None:
        """`spin_ns` trades processor time for punctuality; 0 only sleeps, None is `default_spin_ns()`.

        `catch_up` says what happens after a pause of more than SLACK_NS. If true, everything overdue goes at
        once, and a frame that finds the device's queue full is given up (ENOBUFS). If false, what is due
        later moves by the pause, and a full queue is waited for. None: true without a rate, false with one.
        With `stamps` the kernel stamps a packet socket's frames when their interface gets them, as long as
        they do not go hundreds at a time; nobody else sends by it. With `warm` 20 us of the spinning before
        each frame are spent on sends of a packet socket on Ethernet that the kernel refuses: the next one
        finds its way in the processor's caches, and takes less long, and more evenly so.
        """
        if spin_ns is None:
            spin_ns = default_spin_ns()
        if not 0 <= spin_ns < 2**63:
            raise ValueError(f"spin_ns is {spin_ns}; it must be 0 or more")
        self.sender = sender
        self.rate = rate
        self._state = ffi.new("struct rk_pace *")
        self._state.spin_ns = spin_ns
        self._state.slack_ns = SLACK_NS
        self._state.catch_up = rate is None if catch_up is None else catch_up
        self._state.stamps = stamps
        self._state.warm = warm
        self._rate: Any = None

    def send(
        self,
        batch: FrameBatch,
        due_ns: Sequence[int],
        first: int = 0,
        n: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Send frames [first, first + n) (n None: all that follow), frame i not before `due_ns[i]`.

        `due_ns` has one row per frame of the batch, in nanoseconds of the monotonic clock; array("q") is not
        copied. Returns how many
        frames were dealt with, sent or refused: fewer than n when `timeout` (seconds) passed first; go on
        from there. `report` says what became of them.

        Raises:
            EngineError: the interface is down (ENETDOWN) or gone (ENXIO), and no frame was dealt with.
        """
        n = _frames(batch, first, n, len(due_ns))
        return self._send(batch, _moments(due_ns), first, n, deadline(timeout))

    def send_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """Send frames [first, first + n) at the rate; the first frame of all is due at once. As `send`.

        Raises:
            ValueError: there is no rate.
        """
        n = _frames(batch, first, n, len(batch))
        end_ns = deadline(timeout)
        with self._planned(batch, first, n) as plan:
            plan.done = self._send(batch, plan.due, first, n, end_ns)
        return plan.done

    async def asend(
        self,
        batch: FrameBatch,
        due_ns: Sequence[int],
        first: int = 0,
        n: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """As `send`, as punctual, while the loop's other tasks go on: it is held for HOLD_NS at a time."""
        n = _frames(batch, first, n, len(due_ns))
        return await self._asend(batch, _moments(due_ns), first, n, deadline(timeout))

    async def asend_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """As `send_batch`, while the loop's other tasks go on."""
        n = _frames(batch, first, n, len(batch))
        end_ns = deadline(timeout)
        with self._planned(batch, first, n) as plan:
            plan.done = await self._asend(batch, plan.due, first, n, end_ns)
        return plan.done

    @contextmanager
    def _planned(self, batch: FrameBatch, first: int, n: int) -> Iterator[_Plan]:
        """Moments by the rate. What is not done of them at the end has not used up its time."""
        if self.rate is None:
            raise ValueError("this sender has no rate")
        if self._rate is None:
            self._rate = _rate(self.rate)
        used = self._rate.used
        plan = _Plan(ffi.new("int64_t[]", len(batch)))
        check(lib.rk_rate_plan(self._rate, batch.handle, first, n, plan.due), "plan")
        try:
            yield plan
        finally:
            if plan.done < n:
                self._rate.used = used
                check(lib.rk_rate_plan(self._rate, batch.handle, first, plan.done, plan.due), "plan")

    async def _asend(self, batch: FrameBatch, due: Any, first: int, n: int, end_ns: int) -> int:
        import asyncio

        done = 0
        while done < n:
            now = monotonic_ns()
            early_ns = min(due[first + done] + self._state.moved_ns, end_ns) - HOLD_NS // 2 - now
            await asyncio.sleep(max(early_ns, 0) / 1e9)
            try:
                done += self._send(batch, due, first + done, n - done, min(monotonic_ns() + HOLD_NS, end_ns))
            except EngineError:
                if done == 0:
                    raise
                break  # the next call meets it again
            if end_ns <= monotonic_ns():
                break
        return done

    def _send(self, batch: FrameBatch, due: Any, first: int, n: int, end_ns: int) -> int:
        done = 0
        while done < n:
            result = self.sender.send_paced(
                self._state, batch, first + done, n - done, due, slice_end(end_ns)
            )
            if result < 0 and done > 0:
                break  # the next call meets it again
            done += check(result, "send", self.sender.name)
            if done < n and end_ns <= monotonic_ns():
                break
        return done

    @property
    def sent(self) -> int:
        """Frames sent so far; this and the next three cost less to ask than a report."""
        n: int = self._state.sent
        return n

    @property
    def octets(self) -> int:
        """Octets of these."""
        n: int = self._state.octets
        return n

    @property
    def first_ns(self) -> int:
        """Monotonic time just before the first one's system call; 0: none was sent."""
        ns: int = self._state.first_ns
        return ns

    @property
    def last_ns(self) -> int:
        """The same of the last one."""
        ns: int = self._state.last_ns
        return ns

    def settle(self, timeout: float) -> None:
        """Wait until all transmit stamps have come, `timeout` seconds at most; the sender is still open."""
        lib.rk_pace_settle(self._state, deadline(timeout))

    def report(self) -> PaceReport:
        """What became of the frames so far."""
        state = self._state
        by_stamps = state.stamps == lib.RK_PACE_STAMPED and state.stamped == state.sent
        late = ffi.unpack(state.stamp_late if by_stamps else state.late, lib.RK_PACE_BINS)
        failed = ffi.unpack(state.failed, lib.RK_PACE_ERRNOS)
        return PaceReport(
            state.sent,
            state.octets,
            {number: n for number, n in enumerate(failed) if n},
            state.first_ns,
            state.last_ns,
            state.moved_ns,
            histogram(late),
            state.stamp_latest_ns if by_stamps else state.latest_ns,
            by_stamps,
        )


def _frames(batch: FrameBatch, first: int, n: int | None, moments: int) -> int:
    """The number of frames meant by n.  Raises `ValueError` where they are not all there."""
    if n is None:
        n = len(batch) - first
    if first < 0 or n < 0 or first + n > min(len(batch), moments):
        raise ValueError(f"frames [{first}, {first + n}) of a batch of {len(batch)} with {moments} moments")
    return n


def _moments(due_ns: Sequence[int]) -> Any:
    """As C has them; of an array there is no copy."""
    if isinstance(due_ns, array) and due_ns.typecode == "q":
        return ffi.from_buffer("int64_t[]", due_ns)
    return ffi.new("int64_t[]", due_ns)


def _rate(rate: Rate) -> Any:
    exact = Fraction(rate.per_second).limit_denominator(10**6)
    return ffi.new(
        "struct rk_rate *",
        {
            "start_ns": monotonic_ns(),
            "units": exact.numerator,
            "period_ns": exact.denominator * _SECOND_NS,
            "in_bits": rate.bits,
            "overhead_len": rate.overhead_len,
        },
    )


def histogram(late: Sequence[int]) -> dict[int, int]:
    """How many were so late, by the smallest number of each of RK_PACE_BINS (rk.h)."""

    def lowest(bin: int) -> int:
        shift = max(bin // 128 - 1, 0)
        return (bin - shift * 128) << shift

    return {lowest(bin): n for bin, n in enumerate(late) if n}


def percentile(lateness: Mapping[int, int], percent: int) -> int:
    """The nearest rank of a histogram that is not empty."""
    rank = -(-sum(lateness.values()) * percent // 100)
    values = sorted(lateness)
    upto = accumulate(lateness[value] for value in values)
    return next(value for value, count in zip(values, upto) if count >= rank)


def wait_until(due_ns: int, spin_ns: int = SPIN_NS) -> None:
    """Wait until the monotonic clock shows `due_ns`, spinning for the last `spin_ns`."""
    while True:
        end_ns = slice_end(due_ns)
        lib.rk_pace_wait(end_ns, spin_ns if end_ns == due_ns else 0)
        if due_ns <= monotonic_ns():
            return
