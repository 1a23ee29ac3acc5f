"""When the next segment may go: a token bucket, exact in integers."""

from __future__ import annotations

_UNIT = 8 * 10**9  # credit per octet: bits per second times nanoseconds


class Pacer:
    """Lets `rate_bps` bits per second through, and up to `burst` octets at once after a pause.

    A segment longer than `burst` waits for a full bucket and leaves a debt, so the rate holds for it too.

    Raises:
        ValueError: a rate or burst below 1.
    """

    __slots__ = ("_burst", "_credit", "_now_ns", "rate_bps")

    def __init__(self, rate_bps: int, burst: int, now_ns: int = 0) -> None:
        if rate_bps < 1 or burst < 1:
            raise ValueError(f"rate ({rate_bps} bit/s) and burst ({burst} octets) must be at least 1")
        self.rate_bps = rate_bps
        self._burst = burst * _UNIT
        self._credit = self._burst
        self._now_ns = now_ns

    def ready_ns(self, now_ns: int, octets: int) -> int:
        """The earliest time, `now_ns` or later, at which `octets` may go."""
        self._refill(now_ns)
        missing = min(octets * _UNIT, self._burst) - self._credit
        return self._now_ns + max(-(-missing // self.rate_bps), 0)

    def on_sent(self, now_ns: int, octets: int) -> None:
        """Count `octets` that went. Earlier than `ready_ns` said, the debt delays what follows."""
        self._refill(now_ns)
        self._credit -= octets * _UNIT

    def set_rate(self, now_ns: int, rate_bps: int) -> None:
        """Change the rate from now on.

        Raises:
            ValueError: a rate below 1.
        """
        if rate_bps < 1:
            raise ValueError(f"the rate must be at least 1 bit/s, got {rate_bps}")
        self._refill(now_ns)
        self.rate_bps = rate_bps

    def _refill(self, now_ns: int) -> None:
        if now_ns > self._now_ns:  # a clock that goes back gives nothing
            self._credit = min(self._credit + (now_ns - self._now_ns) * self.rate_bps, self._burst)
            self._now_ns = now_ns
