"""How fast data arrive, measured from acknowledgements (draft-cheng-iccrg-delivery-rate-estimation)."""

from __future__ import annotations

from typing import NamedTuple


class RateSample(NamedTuple):
    """A measurement of the rate at which data arrive."""

    bps: int
    """Bits per second."""
    app_limited: bool
    """Whether the sender had too little to send, so that the path may well be faster."""


class DeliveryRate:
    """Marks each transmission with what had been delivered by then, and measures when it is acknowledged."""

    __slots__ = ("_app_limited_until", "_delivered_ns", "_first_sent_ns", "delivered")

    def __init__(self) -> None:
        self.delivered = 0
        """Octets acknowledged so far."""
        self._delivered_ns = 0
        self._first_sent_ns = 0
        self._app_limited_until = 0  # in octets delivered; 0 when not limited

    def on_send(self, now_ns: int, in_flight: int) -> tuple[int, int, int, bool, int]:
        """The mark for a segment that goes out now, with `in_flight` octets before it."""
        if not in_flight:
            self._first_sent_ns = self._delivered_ns = now_ns
        limited = self._app_limited_until > 0
        return self.delivered, self._delivered_ns, self._first_sent_ns, limited, now_ns

    def on_app_limited(self, in_flight: int) -> None:
        """There is nothing to send although there is room: what follows measures the application."""
        self._app_limited_until = max(self.delivered + in_flight, 1)

    def on_ack(
        self, now_ns: int, octets: int, mark: tuple[int, int, int, bool, int], min_rtt_ns: int = 0
    ) -> RateSample | None:
        """`octets` were acknowledged, the newest of them with this mark; None when no rate can be told.

        The slower of sending and acknowledging counts, so that acknowledgements that come in a bunch do not
        make it look faster (section 3.1.3 of the draft).
        """
        self.delivered += octets
        self._delivered_ns = now_ns
        if self._app_limited_until and self.delivered > self._app_limited_until:
            self._app_limited_until = 0
        before, before_ns, first_ns, limited, sent_ns = mark
        self._first_sent_ns = sent_ns
        interval = max(sent_ns - first_ns, now_ns - before_ns)
        if interval <= 0 or interval < min_rtt_ns:
            return None
        return RateSample((self.delivered - before) * 8 * 10**9 // interval, limited)
