"""How many requests of a sweep may leave now. No clock in here: the time is handed in."""

from __future__ import annotations

_ROUND_NS = 10_000_000
_ROUND_MAX_NS = 200_000_000
_WINDOW_MIN = 32


class AnswerPace:
    """As fast as answers come back, with at most `window` requests in the air, so that no more answers arrive
    at once than the receive buffer holds.

    Where nothing answers, a request counts as in the air for two of the round trips seen, 10 ms at least and
    200 ms at most; each time answers were lost or requests are repeated, for twice as long. Requests of a
    sweep, unlike the probes of a scan, are mostly answered, and one that is not is asked again or told: so
    there is no estimate of what the path can bear.
    """

    def __init__(self, window: int) -> None:
        self._window = max(window, _WINDOW_MIN)
        self._in_air = 0
        self._round_ns = _ROUND_NS
        self._longer = 1
        self._last_ns = 0

    def allowed(self, now_ns: int) -> int:
        """How many may go now."""
        if now_ns >= self.due_ns():
            self._in_air = 0
        return self._window - self._in_air

    def due_ns(self) -> int:
        """When to ask again, if none may go now."""
        return self._last_ns + self._round_ns * self._longer

    def sent(self, n: int, now_ns: int) -> None:
        """They went."""
        self._in_air += n
        self._last_ns = now_ns

    def answered(self, n: int, rtt_ns: float) -> None:
        """So many have ended and left the air; `rtt_ns` is the mean round trip, 0 where that is unknown."""
        self._in_air = max(0, self._in_air - n)
        self._round_ns = min(max(int(2 * rtt_ns), _ROUND_NS), _ROUND_MAX_NS)

    def slow_down(self) -> None:
        """Answers were lost for lack of buffer space."""
        self._window = max(self._window // 2, _WINDOW_MIN)
        self._longer *= 2

    def restart(self) -> None:
        """What comes now are requests that went without answer before."""
        self._in_air = 0
        self._longer *= 2
