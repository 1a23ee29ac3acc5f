"""Round-trip time and retransmission time-out (RFC 6298). Times are integer nanoseconds."""

from __future__ import annotations

SECOND = 10**9
_FRACTION_BITS = 16  # of a nanosecond, kept so that rounding does not add up over many samples


class RttEstimator:
    """Smoothed round-trip time and its variation (RFC 6298 sections 2.2 and 2.3), and the least one seen."""

    __slots__ = ("_rttvar", "_srtt", "latest_ns", "min_ns", "srtt_ns")

    def __init__(self) -> None:
        self._srtt = self._rttvar = 0  # in units of 2**-16 ns
        self.srtt_ns = 0
        """SRTT, rounded down; 0 before the first sample."""
        self.latest_ns: int | None = None
        """The last sample; None before the first."""
        self.min_ns: int | None = None
        """The least sample; None before the first."""

    @property
    def rttvar_ns(self) -> int:
        """RTTVAR, rounded down; 0 before the first sample."""
        return self._rttvar >> _FRACTION_BITS

    def add(self, rtt_ns: int) -> None:
        """Take a sample in.

        Raises:
            ValueError: it is negative.
        """
        if rtt_ns < 0:
            raise ValueError(f"a round-trip time cannot be negative, got {rtt_ns} ns")
        sample = rtt_ns << _FRACTION_BITS
        if self.latest_ns is None:  # section 2.2
            self._srtt, self._rttvar = sample, sample >> 1
        else:  # section 2.3, in this order: RTTVAR is computed with the old SRTT
            self._rttvar = (3 * self._rttvar + abs(self._srtt - sample)) >> 2
            self._srtt = (7 * self._srtt + sample) >> 3
        self.srtt_ns = self._srtt >> _FRACTION_BITS
        self.latest_ns = rtt_ns
        if self.min_ns is None or rtt_ns < self.min_ns:
            self.min_ns = rtt_ns

    def timeout_ns(self, granularity_ns: int) -> int:
        """SRTT + max(G, 4 * RTTVAR), rounded up, without floor or ceiling."""
        granularity, variation = granularity_ns << _FRACTION_BITS, 4 * self._rttvar
        total = self._srtt + (variation if variation > granularity else granularity)
        return -(-total >> _FRACTION_BITS)


class Rto:
    """The retransmission time-out `ns` (RFC 6298), kept within `min_ns` .. `max_ns`.

    `granularity_ns` is that of the sender's clock (G in the RFC).

    Raises:
        ValueError: bounds that contradict each other, or a negative granularity.
    """

    __slots__ = ("_max_ns", "_min_ns", "granularity_ns", "ns", "rtt")

    def __init__(
        self,
        *,
        initial_ns: int = SECOND,  # section 2.1
        min_ns: int = SECOND,  # section 2.4
        max_ns: int = 60 * SECOND,  # section 2.5: at least 60 s
        granularity_ns: int = 1,
    ) -> None:
        if not 0 < min_ns <= max_ns or not 0 < initial_ns <= max_ns or granularity_ns < 0:
            raise ValueError(
                f"bad RTO bounds: initial {initial_ns}, least {min_ns}, most {max_ns}, "
                f"granularity {granularity_ns} ns"
            )
        self._min_ns, self._max_ns, self.granularity_ns = min_ns, max_ns, granularity_ns
        self.rtt = RttEstimator()
        self.ns = initial_ns

    def on_sample(self, rtt_ns: int, retransmitted: bool = False) -> None:
        """Take a sample in, which also ends the back-off.

        Nothing happens when the segment was `retransmitted`: nobody knows which copy was acknowledged
        (Karn's algorithm, section 3). Do not set it when a timestamp told them apart.
        """
        if retransmitted:
            return
        rtt = self.rtt
        rtt.add(rtt_ns)
        ns = rtt.timeout_ns(self.granularity_ns)
        # Quicker than min and max, for what happens at each acknowledgement.
        self.ns = self._min_ns if ns < self._min_ns else self._max_ns if ns > self._max_ns else ns

    def on_timeout(self) -> None:
        """Back off: "The host MUST set RTO <- RTO * 2" (section 5.5), up to the ceiling."""
        self.ns = min(2 * self.ns, self._max_ns)

    def on_established_after_lost_syn(self) -> None:
        """Start data transfer after the timer had expired for the SYN: RTO is 3 s (section 5.7), whatever
        was backed off meanwhile."""
        self.ns = min(3 * SECOND, self._max_ns)
