"""How many probes may go now, and how long to wait for answers. No clock in here: the time is handed in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol

_CATCH_UP_NS = 50_000_000
EPOCHS = 4
"""How many of the latest epochs `Pace.heard` is told of."""

_ROUND_NS = 10_000_000
_LAG_NS = 2_000_000  # made up for, where probes are spread
_QUEUE_NS = 5_000_000  # of waiting somewhere on the way, besides a quarter of a round trip
_WINDOW_MIN = 10
_WINDOW_SILENT = 100

_SAMPLES_MIN = 8
_WAIT_MIN_NS = 200_000_000


class Pace(Protocol):
    """When probes may be sent."""

    def allowed(self, now_ns: int) -> int:
        """How many may go now."""
        ...

    def due_ns(self) -> int:
        """When to ask again, if none may go now."""
        ...

    def begin(self) -> bool:
        """Some are about to go: whether they are the first of an epoch."""
        ...

    def sent(self, n: int, now_ns: int) -> None:
        """They went."""
        ...

    def heard(self, answers: Sequence[int], rtt_n: int, rtt_sum_ns: int, now_ns: int) -> None:
        """How many of the latest epochs' probes were answered, the newest epoch first; and of how many
        answers the round-trip time is known, and the sum of those: all since the last `restart`.
        """
        ...

    def slow_down(self) -> None:
        """Answers were lost for lack of buffer space."""
        ...

    def restart(self) -> None:
        """What comes now are other probes, such as those that went without answer before."""
        ...


class RatePace:
    """So many per second. After a pause it catches up on 50 ms at most."""

    def __init__(self, rate: float) -> None:
        self._interval_ns = 1e9 / rate
        self._next_ns = 0.0  # when the next probe is due

    def allowed(self, now_ns: int) -> int:
        self._next_ns = max(self._next_ns, now_ns - _CATCH_UP_NS) if self._next_ns else float(now_ns)
        return max(0, int((now_ns - self._next_ns) / self._interval_ns) + 1) if now_ns >= self._next_ns else 0

    def due_ns(self) -> int:
        return int(self._next_ns) + 1

    def begin(self) -> bool:
        return False

    def sent(self, n: int, now_ns: int) -> None:
        self._next_ns += n * self._interval_ns

    def heard(self, answers: Sequence[int], rtt_n: int, rtt_sum_ns: int, now_ns: int) -> None:
        pass

    def slow_down(self) -> None:
        self._interval_ns *= 2

    def restart(self) -> None:
        pass


class _Epoch:
    """Probes that were sent together, as many as the window had room for."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent = self.last_ns = 0
        self.judged = False


class AutoPace:
    """As fast as answers keep up: congestion control for probes, most of which may have no answer at all.

    Probes are sent in epochs of a window each, spread over a round trip (but 10 ms at least: the first
    window, 10 probes, makes 1000 a second). An epoch is judged when all of it is answered, or when its
    answers are overdue. As large a share answered as usual lets the window grow by up to four probes for each
    answer, until it is twice as large; a clearly smaller share, or round trips that grow because a queue
    does, make it smaller. A link that loses the same share at any rate does not slow the scan down. Silence
    says nothing: without answers the window grows slowly, and ends at 100 probes.

    `rate_max` is in probes per second.
    """

    def __init__(self, window_max: int, rate_max: float | None = None) -> None:
        self.window = float(_WINDOW_MIN)
        self._window_max = max(window_max, _WINDOW_MIN)
        self._interval_min_ns = 1e9 / rate_max if rate_max else 0.0
        self._epochs: deque[_Epoch] = deque(maxlen=EPOCHS)  # the newest first
        self._doubling = True  # until the first congestion
        self._share = 0.0  # of probes that are answered as things are
        self._rtt_ns = self._rtt_min_ns = 0.0
        self._timed = (0, 0)
        self._next_ns = 0.0  # when the next probe is due

    def allowed(self, now_ns: int) -> int:
        epoch = self._epochs[0] if self._epochs else None
        room = int(self.window) if epoch is None or epoch.sent >= epoch.room else epoch.room - epoch.sent
        if epoch is not None and epoch.sent >= epoch.room and not self._may_begin():
            return 0
        interval_ns = self._interval_ns
        if not interval_ns:
            return room
        self._next_ns = max(self._next_ns, now_ns - _LAG_NS)
        if now_ns < self._next_ns:
            return 0
        return min(room, int((now_ns - self._next_ns) / interval_ns) + 1)

    @property
    def _interval_ns(self) -> float:
        """Between probes: nothing, where answers come so soon that a window may leave at once."""
        spread_ns = self._rtt_ns / self.window if self._rtt_ns > _ROUND_NS else 0.0
        return max(spread_ns, self._interval_min_ns)

    def _may_begin(self) -> bool:
        """Whether a new epoch may begin: one may be under way while the last one's answers are."""
        waiting = sum(not epoch.judged for epoch in self._epochs)
        return waiting == 0 or (waiting == 1 and self._rtt_ns > _ROUND_NS)

    @property
    def _wait_ns(self) -> int:
        """For the answers of an epoch."""
        return max(_ROUND_NS, int(1.5 * self._rtt_ns))

    def due_ns(self) -> int:
        if self._epochs and self._epochs[0].sent >= self._epochs[0].room and not self._may_begin():
            return min(epoch.last_ns for epoch in self._epochs if not epoch.judged) + self._wait_ns
        return int(self._next_ns) + 1

    def begin(self) -> bool:
        begins = not self._epochs or self._epochs[0].sent >= self._epochs[0].room
        if begins:
            self._epochs.appendleft(_Epoch(int(self.window)))
        return begins

    def sent(self, n: int, now_ns: int) -> None:
        epoch = self._epochs[0]
        epoch.sent += n
        epoch.last_ns = now_ns
        self._next_ns += n * self._interval_ns

    def heard(self, answers: Sequence[int], rtt_n: int, rtt_sum_ns: int, now_ns: int) -> None:
        for epoch, answered in zip(self._epochs, answers):
            if epoch.judged or epoch.sent < epoch.room:
                continue
            if answered >= epoch.sent or now_ns - epoch.last_ns >= self._wait_ns:
                epoch.judged = True
                self._judge(epoch.sent, answered, rtt_n, rtt_sum_ns)

    def _judge(self, sent: int, answered: int, rtt_n: int, rtt_sum_ns: int) -> None:
        timed, took_ns = rtt_n - self._timed[0], rtt_sum_ns - self._timed[1]
        if timed:
            self._timed = rtt_n, rtt_sum_ns
            self._rtt_ns = took_ns / timed
            self._rtt_min_ns = min(self._rtt_min_ns or self._rtt_ns, self._rtt_ns)
        share, usual = answered / sent, self._share
        chance = 2 * math.sqrt(usual * (1 - usual) / sent) + 0.02
        if share < 0.85 * usual - chance:
            self._doubling = False
            self.window *= max(0.5, share / usual)
            self._share *= 0.98  # or else it is the targets that are others now
        else:
            self._share += (share - usual) / (2 if share > usual else 16)
            if timed and self._rtt_ns > 1.25 * self._rtt_min_ns + _QUEUE_NS:
                self._doubling = False
                self.window *= 0.9
            elif answered:
                self.window += min(self.window, 4 * answered) if self._doubling else 1 + self.window / 16
            else:
                self.window = max(self.window, min(1.25 * self.window, _WINDOW_SILENT))
        self.window = min(max(self.window, _WINDOW_MIN), self._window_max)

    def slow_down(self) -> None:
        self._doubling = False
        self._window_max = max(self._window_max // 2, _WINDOW_MIN)
        self.window = min(self.window, self._window_max)

    def restart(self) -> None:
        self._epochs.clear()
        self._share = 0.0
        self._timed = 0, 0


class Patience:
    """How long after the last probe an answer may still come.

    The whole timeout at first; once 8 answers have been timed, four times the slowest of them, but never
    less than 200 ms.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._samples = 0
        self.slowest_ns = 0

    def seen(self, rtt_ns: int, n: int = 1) -> None:
        """n more answers were timed, the slowest of them took so long."""
        self._samples += n
        self.slowest_ns = max(self.slowest_ns, rtt_ns)

    @property
    def wait_ns(self) -> int:
        if self._samples < _SAMPLES_MIN:
            return self._timeout_ns
        return min(self._timeout_ns, max(4 * self.slowest_ns, _WAIT_MIN_NS))
