"""Congestion control behind one interface: facts go in, a window comes out. In octets and ns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple


class AckSample(NamedTuple):
    """What one acknowledgement said."""

    now_ns: int
    acked: int
    """Octets newly acknowledged."""
    rtt_ns: int = 0
    """Smoothed round-trip time; 0 when not known."""
    cwnd_limited: bool = True
    """Whether the window kept the sender back; one that is not used must not grow (RFC 9438 section 4.2)."""
    latest_rtt_ns: int = 0
    """The round-trip time that this acknowledgement measured; 0 for none."""
    delivery_bps: int = 0
    """The rate at which data arrive (`DeliveryRate`); 0 when not known."""


def initial_window(mss: int) -> int:
    """Octets that may be sent before the first acknowledgement (RFC 6928 section 2)."""
    return min(10 * mss, max(2 * mss, 14600))


class CongestionControl(ABC):
    """How much may be in flight. Losses are told once per loss event, not once per segment.

    Outside loss events call `on_ack` for each acknowledgement of new data; in recovery do not. Octets are
    those of the transport's payload.

    Raises:
        ValueError: a segment size or a window below 1.
    """

    uses_rate: ClassVar[bool] = False
    """Whether it looks at `AckSample.delivery_bps`, which costs to measure."""

    every_mark: ClassVar[bool] = False
    """Whether `on_ecn` is called for every acknowledgement with a mark, rather than once per window."""

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

    @property
    def pacing_bps(self) -> int | None:
        """The rate to send at, in bits per second; None when the window alone decides."""
        return None

    def on_send(self, now_ns: int, octets: int, in_flight: int) -> None:  # noqa: B027 - most do not care
        """A segment goes out, `in_flight` octets with it."""

    def on_ecn(self, now_ns: int, marked: int, in_flight: int) -> None:
        """Of what was acknowledged, `marked` octets had met congestion.

        As a loss event, for which the caller says it once per window (RFC 3168 section 6.1.2).
        """
        self.on_loss(now_ns, in_flight)

    def on_idle(self, now_ns: int, idle_ns: int) -> None:
        """Sending begins again after more than a retransmission time-out without.

        What the window was says nothing of now: it falls to the initial one (RFC 5681 section 4.1).
        """
        self.cwnd = min(self.cwnd, initial_window(self.mss))

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


class Dctcp(NewReno):
    """DCTCP (RFC 8257): the window falls by how much of it was marked, not by half for any mark."""

    every_mark = True
    GAIN = 1 / 16  # section 4.2, g

    def __init__(self, mss: int, cwnd: int | None = None) -> None:
        super().__init__(mss, cwnd)
        self.alpha = 1.0  # section 3.3, the estimate of the share that is marked
        self._acked_in_window = self._marked_in_window = 0
        self._window = self.cwnd  # octets to acknowledge until the estimate is renewed

    def on_ack(self, ack: AckSample) -> None:
        """Grows as NewReno; once per window of data the estimate is renewed."""
        super().on_ack(ack)
        self._acked_in_window += ack.acked
        if self._acked_in_window >= self._window:
            share = min(self._marked_in_window / self._acked_in_window, 1.0)
            self.alpha += self.GAIN * (share - self.alpha)
            if self._marked_in_window:
                self.ssthresh = max(int(self.cwnd * (1 - self.alpha / 2)), 2 * self.mss)
                self.cwnd = self.ssthresh
            self._acked_in_window = self._marked_in_window = 0
            self._window = self.cwnd

    def on_ecn(self, now_ns: int, marked: int, in_flight: int) -> None:
        """Counts what was marked; the window falls when it has been acknowledged once."""
        self._marked_in_window += marked
        if self.in_slow_start:  # section 3.3: leave slow start at the first mark
            self.ssthresh = self.cwnd


class Vegas(NewReno):
    """A window by delay (Brakmo, Peterson 1995): `low` to `high` segments of one's own may queue in the
    network.

    Once per round trip the window grows or falls by a segment. Losses count as for NewReno.
    """

    def __init__(self, mss: int, cwnd: int | None = None, *, low: float = 2.0, high: float = 4.0) -> None:
        super().__init__(mss, cwnd)
        if not 0 < low <= high:
            raise ValueError(f"bad Vegas parameters: low {low}, high {high}")
        self._low, self._high = low, high
        self._base_ns = self._least_ns = 0  # the least RTT ever, and of this round
        self._acked_in_round = 0

    def on_ack(self, ack: AckSample) -> None:
        """Takes the round-trip time in; at the end of a round the window moves."""
        if ack.latest_rtt_ns:
            self._base_ns = min(self._base_ns or ack.latest_rtt_ns, ack.latest_rtt_ns)
            self._least_ns = min(self._least_ns or ack.latest_rtt_ns, ack.latest_rtt_ns)
        self._acked_in_round += ack.acked
        if self._acked_in_round < self.cwnd or not self._least_ns:
            return
        self._acked_in_round = 0
        queued = self.cwnd / self.mss * (1 - self._base_ns / self._least_ns)
        self._least_ns = 0
        if self.in_slow_start:
            if queued > 1:  # the queue begins to grow
                self.ssthresh = self.cwnd
            elif ack.cwnd_limited:
                self.cwnd *= 2
        elif queued > self._high:
            self.cwnd = max(self.cwnd - self.mss, 2 * self.mss)
        elif queued < self._low and ack.cwnd_limited:
            self.cwnd += self.mss


class Wrapped(CongestionControl):
    """Another controller seen through: subclass it to log or to change what goes in or comes out."""

    def __init__(self, inner: CongestionControl) -> None:
        self.inner = inner

    @property
    def mss(self) -> int:  # type: ignore[override]
        """The inner controller's, as all that follow."""
        return self.inner.mss

    @property
    def cwnd(self) -> int:  # type: ignore[override]
        """The congestion window in octets."""
        return self.inner.cwnd

    @property
    def ssthresh(self) -> int | None:  # type: ignore[override]
        """Where slow start ends."""
        return self.inner.ssthresh

    @property
    def pacing_bps(self) -> int | None:
        """The rate to send at."""
        return self.inner.pacing_bps

    def on_ack(self, ack: AckSample) -> None:
        """Goes through."""
        self.inner.on_ack(ack)

    def on_loss(self, now_ns: int, in_flight: int) -> None:
        """Goes through."""
        self.inner.on_loss(now_ns, in_flight)

    def on_rto(self, now_ns: int, in_flight: int, *, repeated: bool = False) -> None:
        """Goes through."""
        self.inner.on_rto(now_ns, in_flight, repeated=repeated)

    def on_send(self, now_ns: int, octets: int, in_flight: int) -> None:
        """Goes through."""
        self.inner.on_send(now_ns, octets, in_flight)

    def on_ecn(self, now_ns: int, marked: int, in_flight: int) -> None:
        """Goes through."""
        self.inner.on_ecn(now_ns, marked, in_flight)

    def on_idle(self, now_ns: int, idle_ns: int) -> None:
        """Goes through."""
        self.inner.on_idle(now_ns, idle_ns)


def controller(kind: str | type[CongestionControl], mss: int, **options: Any) -> CongestionControl:
    """A controller by its name ("newreno", "cubic", ...) or class.

    Raises:
        LookupError: no controller has that name.
    """
    if not isinstance(kind, str):
        return kind(mss, **options)
    from rawkit.transport.cubic import Cubic

    known = {cls.__name__.lower(): cls for cls in (Fixed, Aimd, NewReno, Cubic, Dctcp, Vegas)}
    if kind.lower() not in known:
        raise LookupError(f"no congestion control is called {kind!r}; there are {', '.join(known)}")
    return known[kind.lower()](mss, **options)
