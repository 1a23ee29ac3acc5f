"""What pings tell: frozen events and summaries, and the running totals behind them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from rawkit.addr import IPAddress
from rawkit.tools.roundtrip import Spread

MAX_SIZE = {4: 65535 - 20 - 8, 6: 65535 - 8}
"""Payload octets of one echo request at most, by IP version."""

SAMPLES_N = 1 << 16
"""Round-trip times that percentiles are of."""


@dataclass(frozen=True, slots=True)
class PingTarget:
    """An address to ask, and what the user called it."""

    name: str
    address: IPAddress


@dataclass(frozen=True, slots=True)
class PingReply:
    """An answer. `size` counts octets of the ICMP message, `time_ns` is when it came (since 1970).

    `rx_stamp` says who stamped its arrival ("kernel" or "user"), `tx_stamp` who the request's departure.
    `duplicate`: the request had been answered before. `late`: it had been given up. `corrupted`: the payload
    is not the one that was sent, or the checksum is wrong. `reordered`: a later request was answered before.
    `detail` says what a port or a link answered ("open", a MAC address); `ttl` is 0 where there is none.
    """

    target: str
    address: str
    seq: int
    rtt_ns: int
    ttl: int
    size: int
    time_ns: int
    rx_stamp: str
    tx_stamp: str = "user"
    duplicate: bool = False
    late: bool = False
    corrupted: bool = False
    reordered: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PingTimeout:
    """No answer within `timeout_ns`; `time_ns` is when that was found (since 1970).

    `uncertain`: this host dropped packets meanwhile for lack of buffer space; the answer may be among them.
    """

    target: str
    address: str
    seq: int
    timeout_ns: int
    time_ns: int
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class PingError:
    """A request that came to nothing, and why.

    `reporter` is the address that sent the ICMP error with `icmp_type` and `icmp_code`; where this host could
    not even send, it is "" and both are None. `text` is the reason in words.
    """

    target: str
    address: str
    seq: int
    reporter: str
    icmp_type: int | None
    icmp_code: int | None
    text: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class PingSummary:
    """All that happened with one target.

    `received` counts requests that were answered, `late` those of them that had been given up before; a
    duplicate is no answer. `reordered` counts answers that came after one to a later request, `loss_run` is
    the longest row of requests without an answer in time. `loss` is the share of requests without an
    answer, 0..1, of all but the `uncertain`, whose answers this host may have dropped. Where one target
    stands for many hosts, duplicates are all answers but the first of each request. Round-trip times are
    nanoseconds, None when there are none: `mdev_ns` is their standard deviation, `jitter_ns` the mean
    difference from one to the next. Percentiles are of the last 65536 of them. `duration_ns` is from the
    first request until now.
    """

    target: str
    address: str
    sent: int
    received: int
    duplicates: int
    corrupted: int
    late: int
    errors: int
    reordered: int
    loss_run: int
    loss: float
    duration_ns: int
    uncertain: int = 0
    min_ns: int | None = None
    avg_ns: int | None = None
    median_ns: int | None = None
    p90_ns: int | None = None
    p95_ns: int | None = None
    p99_ns: int | None = None
    max_ns: int | None = None
    mdev_ns: int | None = None
    jitter_ns: int | None = None


@dataclass(slots=True)
class Tally:
    """Running totals of one target."""

    sent: int = 0
    received: int = 0
    duplicates: int = 0
    corrupted: int = 0
    late: int = 0
    errors: int = 0
    reordered: int = 0
    loss_run: int = 0
    uncertain: int = 0
    first_ns: int | None = None
    _silent: int = 0
    _last_seq: int = 0
    spread: Spread = field(default_factory=Spread)
    samples: array[int] = field(default_factory=lambda: array("q"))

    def answered(self, seq: int, late: bool) -> bool:
        """A request was answered, for the first time; whether one that was sent later had been before."""
        if not late:
            self._silent = 0
        reordered = seq < self._last_seq
        self.reordered += reordered
        self._last_seq = max(self._last_seq, seq)
        return reordered

    def silent(self, uncertain: bool = False) -> None:
        """A request got no answer in time, or an error; `uncertain`: the answer may have been lost here."""
        if uncertain:
            self.uncertain += 1
            return
        self._silent += 1
        self.loss_run = max(self.loss_run, self._silent)

    def add(self, rtt_ns: int) -> None:
        self.spread.add(rtt_ns)
        if len(self.samples) < SAMPLES_N:
            self.samples.append(rtt_ns)
        else:
            self.samples[self.received % SAMPLES_N] = rtt_ns
        self.received += 1

    def summary(self, target: PingTarget, now_ns: int) -> PingSummary:
        """The totals, of which the last one is of `now_ns` on the monotonic clock."""
        n = self.received
        summary = (
            target.name,
            str(target.address),
            self.sent,
            n,
            self.duplicates,
            self.corrupted,
            self.late,
            self.errors,
            self.reordered,
            self.loss_run,
            max(1 - n / known, 0.0) if (known := self.sent - self.uncertain) else 0.0,
            now_ns - self.first_ns if self.first_ns is not None else 0,
        )
        if n == 0:
            return PingSummary(*summary, uncertain=self.uncertain)
        samples = sorted(self.samples)
        spread = self.spread
        return PingSummary(
            *summary,
            uncertain=self.uncertain,
            min_ns=spread.min,
            avg_ns=spread.mean,
            median_ns=percentile(samples, 50),
            p90_ns=percentile(samples, 90),
            p95_ns=percentile(samples, 95),
            p99_ns=percentile(samples, 99),
            max_ns=spread.max,
            mdev_ns=spread.deviation,
            jitter_ns=spread.jitter,
        )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The value below which `percent` of the sorted values lie, between two of them by proportion."""
    whole, rest = divmod((len(ordered) - 1) * percent, 100)
    low = ordered[whole]
    return low if rest == 0 else round(low + (ordered[whole + 1] - low) * rest / 100)
