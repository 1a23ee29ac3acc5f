"""What a sweep is asked to do, and what it finds: frozen values, and the running totals behind them."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from math import sqrt
from operator import mul

from rawkit.addr import TargetSet
from rawkit.tools.pingresult import MAX_SIZE, percentile

COOKIE_LEN = 8
"""Octets of payload that every request has at least."""
ALIVE, UNREACHABLE = "alive", "unreachable"


@dataclass(frozen=True)
class SweepConfig:
    """What to send, and how long to wait.

    Every target gets `count` requests, one each round; rounds begin `interval_ns` apart, or later where the
    one before is not over. In each, whoever has not answered within `timeout_ns` is asked again, `retries`
    times. `size` is the payload in octets, `ttl` the time to live or hop limit. `rate` is requests per
    second; None sends as fast as answers keep up (`pace.AutoPace`), towards public addresses 1000 a second.
    `interface` names the interface to send by, "" leaves it to the routing table. `report` says which results
    are wanted: those of ALIVE hosts, of UNREACHABLE ones; what is not wanted is counted only, which is
    faster.

    Raises: ValueError, naming the field.
    """

    targets: TargetSet
    count: int = 1
    interval_ns: int = 1_000_000_000
    timeout_ns: int = 1_000_000_000
    retries: int = 1
    size: int = 56
    ttl: int = 64
    rate: float | None = None
    interface: str = ""
    report: frozenset[str] = frozenset({ALIVE, UNREACHABLE})

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 65535:
            raise ValueError(f"count {self.count}: must be 1..65535")
        if self.interval_ns < 0:
            raise ValueError(f"interval of {self.interval_ns} ns: must not be negative")
        if not 0 < self.timeout_ns <= 3600 * 10**9:
            raise ValueError(f"timeout of {self.timeout_ns / 1e9:g} s: more than 0, an hour at most")
        if not 0 <= self.retries <= 100:
            raise ValueError(f"retries {self.retries}: must be 0..100")
        if not COOKIE_LEN <= self.size <= MAX_SIZE[4]:
            raise ValueError(
                f"size {self.size}: must be {COOKIE_LEN}..{MAX_SIZE[4]} octets, a cookie is part of them"
            )
        if not 1 <= self.ttl <= 255:
            raise ValueError(f"ttl {self.ttl}: must be 1..255")
        if self.rate is not None and not 0 < self.rate < 1e9:
            raise ValueError(f"rate {self.rate}: requests per second are more than 0 and less than 10**9")
        if unknown := self.report - {ALIVE, UNREACHABLE}:
            raise ValueError(f"report {sorted(unknown)}: must be of {ALIVE!r}, {UNREACHABLE!r}")


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What became of the requests of one round to one target, all of which had the sequence number `seq`.

    `alive`: an echo reply came, `corrupted` if its data were not those that were sent. Otherwise `reason`
    says why not: "no answer", "no neighbour", an ICMP error in words, from `reporter`, or that this host
    dropped answers, so that nobody knows. `rtt_ns` is from handing the request to the kernel, in a
    batch of up to 64 that counts from its first, to the kernel's stamp on the answer; None where several
    requests could have caused it. `probes` is how many requests were sent, `time_ns` when the answer came, or
    was given up (since 1970).
    """

    target: str
    address: str
    seq: int
    alive: bool
    reason: str
    rtt_ns: int | None
    ttl: int | None
    reporter: str
    probes: int
    corrupted: bool
    time_ns: int


@dataclass(frozen=True, slots=True)
class SweepSummary:
    """Totals, over all rounds so far that are over.

    `alive` hosts answered at least once. `sent` counts requests, `asked` one for each target and round,
    `unsent` those of them that never left, for lack of a route or a neighbour or because this host refused
    them, `received` those that were answered, `late` answers to what had been given up, `errors` ICMP
    errors and refusals of this host. `dropped` answers were lost by this host for lack of buffer space;
    `uncertain` are the unanswered that they may have been from. `loss` (0..1) is of those asked that are
    neither `unsent` nor `uncertain`.
    Round-trip times are nanoseconds, None when there are none; `duration_ns` is from the first request until
    the last answer or time-out.
    """

    targets: int
    rounds: int
    alive: int
    sent: int
    asked: int
    unsent: int
    received: int
    duplicates: int
    corrupted: int
    late: int
    errors: int
    dropped: int
    uncertain: int
    loss: float
    duration_ns: int
    min_ns: int | None = None
    avg_ns: int | None = None
    median_ns: int | None = None
    p90_ns: int | None = None
    p99_ns: int | None = None
    max_ns: int | None = None
    mdev_ns: int | None = None


@dataclass(slots=True)
class Tally:
    """Running totals."""

    sent: int = 0
    asked: int = 0
    unsent: int = 0
    received: int = 0
    duplicates: int = 0
    corrupted: int = 0
    late: int = 0
    errors: int = 0
    dropped: int = 0
    uncertain: int = 0
    rounds: int = 0
    samples: array[int] = field(default_factory=lambda: array("q"))

    def summary(self, targets: int, alive: int, duration_ns: int) -> SweepSummary:
        """These totals of so many targets."""
        known = self.asked - self.unsent - self.uncertain
        summary = SweepSummary(
            targets=targets,
            rounds=self.rounds,
            alive=alive,
            sent=self.sent,
            asked=self.asked,
            unsent=self.unsent,
            received=self.received,
            duplicates=self.duplicates,
            corrupted=self.corrupted,
            late=self.late,
            errors=self.errors,
            dropped=self.dropped,
            uncertain=self.uncertain,
            loss=1 - self.received / known if known else 0.0,
            duration_ns=duration_ns,
        )
        if not self.samples:
            return summary
        samples = sorted(self.samples)
        n, sum_ns = len(samples), sum(samples)
        squares = sum(map(mul, samples, samples))
        return replace(
            summary,
            min_ns=samples[0],
            avg_ns=round(sum_ns / n),
            median_ns=percentile(samples, 50),
            p90_ns=percentile(samples, 90),
            p99_ns=percentile(samples, 99),
            max_ns=samples[-1],
            mdev_ns=round(sqrt(n * squares - sum_ns**2) / n),
        )
