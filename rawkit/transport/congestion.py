"""Congestion control behind one interface: facts go in, a window comes out. In octets and ns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AckSample:
    """What one acknowledgement said."""

    now_ns: int
    acked: int
    """Octets newly acknowledged."""
    rtt_ns: int = 0
    """Smoothed round-trip time; 0 when not known."""
    cwnd_limited: bool = True
    """Whether the window kept the sender back; one that is not used must not grow (RFC 9438 section 4.2)."""


def initial_window(mss: int) -> int:
    """Octets that may be sent before the first acknowledgement (RFC 6928 section 2)."""
    return min(10 * mss, max(2 * mss, 14600))


class CongestionControl(ABC):
    """How much may be in flight. Losses are told once per loss event, not once per segment.

    Outside loss events call `on_ack` for each acknowledgement of new data; in recovery do not.

    Raises:
        ValueError: a segment size or a window below 1.
    """

    def __init__(self, mss: int, cwnd: int | None = None) -> None:
        if mss < 1:
            raise ValueError(f"the segment size must be at least 1 octet, got {mss}")
        if cwnd is not None and cwnd < 1:
            raise ValueError(f"the congestion window must be at least 1 octet, got {cwnd}")
        self.mss = mss
        self.cwnd = initial_window(mss) if cwnd is None else cwnd
        """The congestion window in octets."""
        self.ssthresh: int | None = None
        """Where slow start ends, in octets; None before the first loss (RFC 5681: arbitrarily high)."""

    @property
    def in_slow_start(self) -> bool:
        """Whether the window is below `ssthresh`."""
        return self.ssthresh is None or self.cwnd < self.ssthresh

    @abstractmethod
    def on_ack(self, ack: AckSample) -> None:
        """New data was acknowledged."""

    @abstractmethod
    def on_loss(self, now_ns: int, in_flight: int) -> None:
        """A loss event began (duplicate acknowledgements, RACK, an ECN echo), `in_flight` octets out."""

    @abstractmethod
    def on_rto(self, now_ns: int, in_flight: int, *, repeated: bool = False) -> None:
        """The retransmission timer expired; `repeated` when it did before for the same segment."""

    def _slow_start(self, acked: int) -> None:
        self.cwnd += min(acked, self.mss)  # RFC 5681 section 3.1, equation 2


class Fixed(CongestionControl):
    """A window that never changes: go-back-N as in textbooks."""

    def on_ack(self, ack: AckSample) -> None:
        """Changes nothing."""

    def on_loss(self, now_ns: int, in_flight: int) -> None:
        """Changes nothing."""

    def on_rto(self, now_ns: int, in_flight: int, *, repeated: bool = False) -> None:
        """Changes nothing."""


class Aimd(CongestionControl):
    """Slow start; then `increase` segments more per round trip, and `decrease` of the flight after a loss.

    Raises:
        ValueError: an increase that is not positive, or a decrease outside 0 .. 1.
    """

    def __init__(
        self, mss: int, cwnd: int | None = None, *, increase: float = 1.0, decrease: float = 0.5
    ) -> None:
        super().__init__(mss, cwnd)
        if not increase > 0 or not 0 < decrease < 1:
            raise ValueError(f"bad AIMD parameters: increase {increase}, decrease {decrease}")
        self._increase = increase
        self._decrease = decrease
        self._acked = 0

    def on_ack(self, ack: AckSample) -> None:
        """Grows the window: by what was acknowledged in slow start, else once per window acknowledged."""
        if not ack.cwnd_limited:
            return
        if self.in_slow_start:
            self._slow_start(ack.acked)
            return
        # RFC 5681 section 3.1: count octets, so that delayed acknowledgements do not slow the growth.
        self._acked += ack.acked
        if self._acked >= self.cwnd:
            self._acked -= self.cwnd
            self.cwnd += max(int(self._increase * self.mss), 1)

    def on_loss(self, now_ns: int, in_flight: int) -> None:
        """Falls to `decrease` of the flight, at least two segments (RFC 5681 section 3.1, equation 4)."""
        self.cwnd = self.ssthresh = max(int(in_flight * self._decrease), 2 * self.mss)
        self._acked = 0

    def on_rto(self, now_ns: int, in_flight: int, *, repeated: bool = False) -> None:
        """Falls to one segment (RFC 5681 section 3.1); `ssthresh` stays when it is not the first time."""
        if not repeated:
            self.ssthresh = max(int(in_flight * self._decrease), 2 * self.mss)
        self.cwnd = self.mss
        self._acked = 0


class NewReno(Aimd):
    """The window of RFC 5681 and RFC 6582: one segment more per round trip, half after a loss event.

    Without the window inflation of fast recovery: a sender that counts the flight (RFC 6675) needs none.
    """

    def __init__(self, mss: int, cwnd: int | None = None) -> None:
        super().__init__(mss, cwnd)
