"""Losses found by time (RACK) and tails probed for (TLP), after RFC 8985."""

from __future__ import annotations

from collections.abc import Iterable

from rawkit.transport.scoreboard import Scoreboard, Segment


class Rack:
    """RACK (RFC 8985 section 6): what was sent sufficiently earlier than something that arrived is lost.

    Give it what each acknowledgement is news of, then ask for losses.
    """

    def __init__(self) -> None:
        self.rtt_ns = 0
        """Round-trip time of the segment that was sent last of those that arrived."""
        self.reordering_seen = False
        self._sent = (0, 0)  # RACK.xmit_ts and its place among those of that time
        self._min_rtt_ns: int | None = None
        self._fack = 0  # the highest number that arrived
        self._multiplier = 1  # of the reordering window, section 6.2 step 4
        self._persist = 16
        self._round_end = 0

    def update(self, news: Iterable[Segment], now_ns: int, min_rtt_ns: int | None) -> None:
        """Steps 1 to 3: take in the segments that an acknowledgement is news of."""
        self._min_rtt_ns = min_rtt_ns
        for segment in news:
            if segment.end > self._fack:
                self._fack = segment.end
            elif segment.transmissions == 1:
                self.reordering_seen = True  # it was overtaken, and it was never sent again
            rtt = now_ns - segment.sent_ns
            if segment.transmissions > 1 and min_rtt_ns is not None and rtt < min_rtt_ns:
                continue  # too soon for the last transmission: the first one arrived after all
            if (segment.sent_ns, segment.serial) > self._sent:
                self._sent = segment.sent_ns, segment.serial
                self.rtt_ns = rtt

    def on_duplicate(self, una: int, next_number: int) -> None:
        """A DSACK came: something was sent again for nothing, so wait longer (at most once per round
        trip).
        """
        if una >= self._round_end:
            self._round_end = next_number
            self._multiplier += 1
            self._persist = 16

    def on_recovery_end(self) -> None:
        """A loss was repaired: after 16 of them the reordering window is as it was."""
        self._persist -= 1
        if self._persist <= 0:
            self._multiplier, self._persist = 1, 16

    def reordering_window_ns(self, srtt_ns: int, *, impatient: bool) -> int:
        """How late a segment may be (step 4). `impatient`: in recovery, or three segments were overtaken."""
        if not self.reordering_seen and impatient:
            return 0
        return min(self._multiplier * (self._min_rtt_ns or 0) // 4, srtt_ns)

    def detect(self, board: Scoreboard, now_ns: int, window_ns: int) -> tuple[list[Segment], int | None]:
        """Step 5: the segments that are lost now, which the board knows then, and when to look again."""
        found: list[Segment] = []
        while True:
            segment = board.oldest_sent()
            if segment is None or (segment.sent_ns, segment.serial) >= self._sent:
                return found, None
            due = segment.sent_ns + self.rtt_ns + window_ns
            if due > now_ns:
                return found, due
            board.lose(segment)
            found.append(segment)


class TailLossProbe:
    """TLP (RFC 8985 section 7): when acknowledgements stop, one more segment makes the receiver speak."""

    def __init__(self, worst_ack_delay_ns: int = 0) -> None:
        self.worst_ack_delay_ns = worst_ack_delay_ns
        self._end: int | None = None  # TLP.end_seq of a probe that is not answered
        self._repeats = False

    @property
    def waiting(self) -> bool:
        """Whether a probe is not answered: only one at a time."""
        return self._end is not None

    def timeout_ns(self, srtt_ns: int, segments: int, rto_ns: int) -> int:
        """PTO (section 7.2): two round trips, plus the delay of an acknowledgement that has to wait for
        another segment; never later than the retransmission time-out."""
        if not srtt_ns:
            return min(10**9, rto_ns)
        pto = 2 * srtt_ns + (self.worst_ack_delay_ns if segments == 1 else 0)
        return min(pto, rto_ns)

    def on_probe(self, end: int, *, repeats: bool) -> None:
        """A probe went out; `end` is the next number to send, `repeats` whether it repeated old data."""
        self._end, self._repeats = end, repeats

    def on_ack(self, ack: int, *, duplicate: bool = False) -> bool:
        """An acknowledgement came; whether the probe repaired a loss that congestion control must hear of.

        `duplicate` says that it reported the probe as a duplicate (DSACK): then nothing was lost.
        """
        if self._end is None or (ack < self._end and not (duplicate and self._repeats)):
            return False
        repaired = self._repeats and not duplicate
        self._end = None
        return repaired

    def reset(self) -> None:
        """Recovery began, or the time-out expired: no probe is waited for."""
        self._end = None
