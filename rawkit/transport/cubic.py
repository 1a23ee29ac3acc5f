"""CUBIC congestion control (RFC 9438)."""

from __future__ import annotations

from typing import Literal

from rawkit.transport.congestion import AckSample, CongestionControl
from rawkit.transport.hystart import HybridStart, HyStart, SlowStart

C = 0.4  # segments per cubic second, section 5
BETA = 0.7  # section 4.6
ALPHA = 3 * (1 - BETA) / (1 + BETA)  # section 4.3


def cubic_k(w_max: float, cwnd_epoch: float) -> float:
    """Seconds until the window is back at `w_max` (section 4.2, figure 2). Windows in segments."""
    return ((w_max - cwnd_epoch) / C) ** (1 / 3) if w_max > cwnd_epoch else 0.0


def cubic_window(t: float, k: float, w_max: float) -> float:
    """W_cubic(t) in segments, t seconds after the epoch began (section 4.2, figure 1)."""
    return C * (t - k) ** 3 + w_max


class Cubic(CongestionControl):
    """A window that is a cubic function of the time since the last loss event, and never slower than Reno's.

    `fast_convergence` (section 4.7) gives way to newcomers; theory about one flow assumes it off.
    `slow_start` says how the first slow start ends (section 4.10): when the network begins to queue, by
    "hystart++" (RFC 9406) or "hybrid", its predecessor, which Linux has; or at a loss ("standard").

    Raises:
        ValueError: there is no such slow start.
    """

    def __init__(
        self,
        mss: int,
        cwnd: int | None = None,
        *,
        fast_convergence: bool = True,
        slow_start: Literal["hystart++", "hybrid", "standard"] = "hystart++",
    ) -> None:
        super().__init__(mss, cwnd)
        self._fast_convergence = fast_convergence
        kinds: dict[str, type[SlowStart] | None] = {
            "hystart++": HyStart,
            "hybrid": HybridStart,
            "standard": None,
        }
        if slow_start not in kinds:
            raise ValueError(f"no slow start is called {slow_start!r}; there are {', '.join(kinds)}")
        kind = kinds[slow_start]
        self._start = kind(mss) if kind else None  # until slow start has ended for the first time
        self._segments = self.cwnd / mss  # the window; `cwnd` is this in whole octets
        self._w_max = 0.0
        self._prior = 0.0  # the window before the last reduction
        self._k = 0.0
        self._w_est = 0.0  # what Reno would have
        self._epoch_ns: int | None = None

    def on_ack(self, ack: AckSample) -> None:
        """Grows the window: slow start, then the cubic function or Reno's, whichever is more (section 4)."""
        growth = self._start.on_ack(ack, self.cwnd) if self._start else min(ack.acked, self.mss)
        if not ack.cwnd_limited:
            return
        if self.in_slow_start:
            self.cwnd += growth
            self._segments = self.cwnd / self.mss
            if self._start and self._start.over:
                self.ssthresh, self._start = self.cwnd, None
            return
        if self._epoch_ns is None:
            self._begin_epoch(ack.now_ns)
        assert self._epoch_ns is not None
        t = (ack.now_ns - self._epoch_ns) / 1e9
        acked = ack.acked / self.mss
        # Section 4.3: as fast as Reno (alpha 1) once the window before the reduction is reached again.
        self._w_est += (ALPHA if self._w_est < self._prior else 1.0) * acked / self._segments
        if cubic_window(t, self._k, self._w_max) < self._w_est:
            self._segments = max(self._segments, self._w_est)
        else:
            target = cubic_window(t + ack.rtt_ns / 1e9, self._k, self._w_max)
            target = min(max(target, self._segments), 1.5 * self._segments)  # section 4.2
            self._segments += (target - self._segments) / self._segments * acked
        self.cwnd = int(self._segments * self.mss)

    def on_send(self, now_ns: int, octets: int, in_flight: int) -> None:
        """Counts rounds of slow start."""
        if self._start:
            self._start.on_send(octets)

    def on_loss(self, now_ns: int, in_flight: int) -> None:
        """Falls to 0.7 of what is in flight, at least two segments (section 4.6)."""
        self._reduce(in_flight)
        assert self.ssthresh is not None
        self.cwnd = self.ssthresh
        self._segments = self.cwnd / self.mss

    def on_rto(self, now_ns: int, in_flight: int, *, repeated: bool = False) -> None:
        """Falls to one segment; the cubic function starts anew after slow start (section 4.8)."""
        if not repeated:
            self._reduce(in_flight)
        self.cwnd = self.mss
        self._segments = 1.0
        # "sets K to 0 and W_max to the congestion window size at the beginning of the current stage"
        self._w_max = 0.0
        self._epoch_ns = None

    def on_idle(self, now_ns: int, idle_ns: int) -> None:
        """Starts again from the initial window; the epoch does not count the pause (section 4.2)."""
        super().on_idle(now_ns, idle_ns)
        self._segments = self.cwnd / self.mss
        if self._epoch_ns is not None:
            self._epoch_ns += idle_ns

    def _reduce(self, in_flight: int) -> None:
        self._prior = self._segments
        if self._fast_convergence and self._segments < self._w_max:
            self._w_max = self._segments * (1 + BETA) / 2
        else:
            self._w_max = self._segments
        self.ssthresh = max(int(in_flight * BETA), 2 * self.mss)
        self._epoch_ns = self._start = None

    def _begin_epoch(self, now_ns: int) -> None:
        self._epoch_ns = now_ns
        self._w_est = self._segments
        self._w_max = max(self._w_max, self._segments)
        self._k = cubic_k(self._w_max, self._segments)
