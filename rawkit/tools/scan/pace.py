"""How many probes may go now, and how long to wait for answers. No clock in here: the time is handed in."""

from __future__ import annotations

from typing import Protocol

_CATCH_UP_NS = 50_000_000
_ROUND_NS = 10_000_000
_WINDOW_MIN = 32

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

    def sent(self, n: int, now_ns: int) -> None: ...

    def answered(self, n: int) -> None: ...

    def slow_down(self) -> None:
        """Answers were lost for lack of buffer space."""
        ...

    def repeat(self) -> None:
        """What comes now are probes that went without answer before."""
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

    def sent(self, n: int, now_ns: int) -> None:
        self._next_ns += n * self._interval_ns

    def answered(self, n: int) -> None:
        pass

    def slow_down(self) -> None:
        self._interval_ns *= 2

    def repeat(self) -> None:
        pass


class AnswerPace:
    """As fast as answers come back, with at most `window` probes in the air, so that no more answers arrive
    at once than the receive buffer holds.

    Where nothing answers, a probe counts as in the air for 10 ms only; each time answers were lost or probes
    are repeated, for twice as long.
    """

    def __init__(self, window: int) -> None:
        self._window = max(window, _WINDOW_MIN)
        self._in_air = 0
        self._round_ns = _ROUND_NS
        self._last_ns = 0

    def allowed(self, now_ns: int) -> int:
        if now_ns - self._last_ns >= self._round_ns:
            self._in_air = 0
        return self._window - self._in_air

    def due_ns(self) -> int:
        return self._last_ns + self._round_ns

    def sent(self, n: int, now_ns: int) -> None:
        self._in_air += n
        self._last_ns = now_ns

    def answered(self, n: int) -> None:
        self._in_air = max(0, self._in_air - n)

    def slow_down(self) -> None:
        self._window = max(self._window // 2, _WINDOW_MIN)
        self._round_ns *= 2

    def repeat(self) -> None:
        self._in_air = 0
        self._round_ns *= 2


class Patience:
    """How long after the last probe an answer may still come.

    The whole timeout at first; once 8 answers have been timed, four times the slowest of them, but never
    less than 200 ms.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._samples = 0
        self._slowest_ns = 0

    def seen(self, rtt_ns: int, n: int = 1) -> None:
        """n more answers were timed, the slowest of them took so long."""
        self._samples += n
        self._slowest_ns = max(self._slowest_ns, rtt_ns)

    @property
    def wait_ns(self) -> int:
        if self._samples < _SAMPLES_MIN:
            return self._timeout_ns
        return min(self._timeout_ns, max(4 * self._slowest_ns, _WAIT_MIN_NS))
