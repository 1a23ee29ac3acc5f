"""Slow start that ends when the network begins to queue, before the queue overflows.

`HyStart` is RFC 9406's HyStart++. `HybridStart` is what it was made of, and what Linux does: Ha and Rhee,
Taming the elephants: new TCP slow start, Computer Networks 55 (9), 2011.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from rawkit.transport.congestion import AckSample

MS = 10**6
LEAST_NS, MOST_NS, DIVISOR = 4 * MS, 16 * MS, 8  # RFC 9406 section 4.3: growth of the RTT that counts
SAMPLES = 8  # in a round, before it says anything
SLOWER, ROUNDS = 4, 5  # conservative slow start: a quarter of the growth, for so many rounds
BURST = 8  # segments that one acknowledgement may add, without pacing (L)
TRAIN_NS = 2 * MS  # acknowledgements that are no further apart are a train
LOW = 16  # segments: below, hybrid slow start looks at nothing


def longer(rtt_ns: int, than_ns: int) -> bool:
    """Whether a round trip has grown by more than what varies anyway."""
    return rtt_ns >= than_ns + max(LEAST_NS, min(than_ns // DIVISOR, MOST_NS))


class SlowStart(ABC):
    """One slow start, in rounds of what was under way when the round began.

    Give it everything that is sent, and every acknowledgement.
    """

    def __init__(self, mss: int) -> None:
        self.over = False
        self._mss = mss
        self._sent = self._acked = self._round_end = 0  # octets
        self._samples = 0
        self._least_ns = 0  # of this round's RTTs; 0 before the first

    def on_send(self, octets: int) -> None:
        """Octets went out."""
        self._sent += octets

    def on_ack(self, ack: AckSample, cwnd: int) -> int:
        """Octets by which the window grows, if it was used."""
        if self._acked >= self._round_end:
            self._begin_round(ack.now_ns)
            self._round_end, self._samples, self._least_ns = self._sent, 0, 0
        self._acked += ack.acked
        if ack.latest_rtt_ns:
            self._least_ns = min(self._least_ns or ack.latest_rtt_ns, ack.latest_rtt_ns)
            self._samples += 1
        return self._grow(ack, cwnd)

    @abstractmethod
    def _begin_round(self, now_ns: int) -> None: ...

    @abstractmethod
    def _grow(self, ack: AckSample, cwnd: int) -> int: ...


class HyStart(SlowStart):
    """HyStart++: when a round's least RTT is longer than that of the one before, slow start goes on
    conservatively for five rounds, or becomes as it was when the RTT falls again (RFC 9406 section 4.2).
    """

    def __init__(self, mss: int) -> None:
        super().__init__(mss)
        self._rounds = 0
        self._last_ns = 0  # the least RTT of the round before
        self._baseline_ns = 0  # with which conservative slow start began; 0 outside

    def _begin_round(self, now_ns: int) -> None:
        self._last_ns = self._least_ns
        if self._baseline_ns:
            self._rounds += 1  # the first, which was cut short, counts
            self.over = self._rounds >= ROUNDS

    def _grow(self, ack: AckSample, cwnd: int) -> int:
        growth = min(ack.acked, BURST * self._mss)
        if self._baseline_ns:
            growth //= SLOWER
        if self._samples < SAMPLES:
            return growth
        if self._baseline_ns:
            if self._least_ns < self._baseline_ns:
                self._baseline_ns = 0
        elif self._last_ns and longer(self._least_ns, self._last_ns):
            self._baseline_ns, self._rounds = self._least_ns, 0
        return growth


class HybridStart(SlowStart):
    """Hybrid slow start: over when a round's acknowledgements come in a train for half the least RTT, because
    then as much is under way as the network holds, or when its least RTT is longer than the least of all.

    How far apart they are is taken as a mean: a process that had to wait gets them late, and together.
    """

    def __init__(self, mss: int) -> None:
        super().__init__(mss)
        self._best_ns = 0  # the least RTT of all
        self._began_ns = self._train = 0  # when this round began; its acknowledgements since

    def _begin_round(self, now_ns: int) -> None:
        self._began_ns, self._train = now_ns, 0

    def _grow(self, ack: AckSample, cwnd: int) -> int:
        if ack.latest_rtt_ns:
            self._best_ns = min(self._best_ns or ack.latest_rtt_ns, ack.latest_rtt_ns)
        self._train += 1
        if cwnd >= LOW * self._mss and self._best_ns:
            lasted_ns = ack.now_ns - self._began_ns
            self.over = (2 * lasted_ns > self._best_ns and lasted_ns <= TRAIN_NS * (self._train - 1)) or (
                self._samples > SAMPLES and longer(self._least_ns, self._best_ns)
            )
        return min(ack.acked, self._mss)
