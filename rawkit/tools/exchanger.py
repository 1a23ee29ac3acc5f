"""Exchanges without I/O: which request to send when, which of them a packet answers, and what became of each.

Requests are sent in their order, and again, up to `retries` times, when `timeout_ns` has passed without an
answer. Whatever drives this tells it what was sent and what came, and when; see `tools.exchange`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rawkit.bulk.match import Matcher
from rawkit.errors import EngineError
from rawkit.tools.departure import LINKTYPE_IPV4, Departure
from rawkit.tools.roundtrip import Moment, round_trip
from rawkit.tools.scan.pace import RatePace
from rawkit.wire.packet import Packet, first_header

HOLD_NS = 1_000_000
"""How long to wait where the kernel takes nothing."""


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """How long an answer is waited for after each attempt, and how many attempts follow the first.

    `rate` is requests per second at most (None: as fast as the kernel takes them). For `linger_ns` after the
    last request was answered or given up more is listened for: duplicates, and late answers.

    Raises: ValueError, naming the field.
    """

    timeout_ns: int = 1_000_000_000
    retries: int = 0
    rate: float | None = None
    linger_ns: int = 0

    def __post_init__(self) -> None:
        if self.timeout_ns <= 0:
            raise ValueError(f"timeout of {self.timeout_ns} ns: must be positive")
        if self.retries < 0:
            raise ValueError(f"{self.retries} retries: must not be negative")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate of {self.rate} requests per second: must be positive")
        if self.linger_ns < 0:
            raise ValueError(f"linger of {self.linger_ns} ns: must not be negative")


class Answer(Packet):
    """A packet that answers `request`, the packet as it was sent, which is number `number` of all.

    `attempt` is the last one (1 is the first) that had left when the answer arrived; with several it may
    belong to an earlier one. `rtt_ns` is the time from that attempt to the arrival, `time_ns` when it came
    (since 1970); `stamp` says who stamped the arrival and `tx_stamp` who the departure: "kernel" or "user".
    `duplicate`: there had been an answer before. `late`: the request had been given up.
    """

    __slots__ = (
        "attempt", "duplicate", "late", "number", "request", "rtt_ns", "stamp", "time_ns", "tx_stamp",
    )  # fmt: skip
    request: Packet
    number: int
    attempt: int
    rtt_ns: int
    time_ns: int
    stamp: str
    tx_stamp: str
    duplicate: bool
    late: bool


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of a request.

    `request` is the packet as it was sent, `sent_ns` when each attempt left (since 1970), `answers` all that
    came, in their order, `error` why it could not be sent.
    """

    number: int
    request: Packet
    sent_ns: list[int] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    error: EngineError | None = None

    @property
    def answer(self) -> Answer | None:
        """The first answer."""
        return self.answers[0] if self.answers else None


@dataclass(frozen=True, slots=True)
class Sent:
    """A request left for the `attempt`-th time, at `time_ns` (since 1970, taken before it was sent)."""

    outcome: Outcome
    attempt: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request was given up: no attempt was answered in time, or it could not be sent (`outcome.error`)."""

    outcome: Outcome


ExchangeEvent = Sent | Answer | Unanswered


@dataclass(slots=True)
class _State:
    """What the outcome does not tell of a request."""

    moments: list[Moment] = field(default_factory=list)
    departed_ns: dict[int, int] = field(default_factory=dict)
    decided: bool = False
    refused_ns: int = 0


class Exchanger:
    """The requests of one exchange, in the order they are sent."""

    def __init__(self, departures: Sequence[Departure], config: ExchangeConfig) -> None:
        self.departures = departures
        self.config = config
        self.outcomes = [Outcome(i, departure.packet) for i, departure in enumerate(departures)]
        self._states = [_State() for _ in departures]
        self._matcher = Matcher()
        self._numbers: list[int] = []  # of the requests that the matcher knows
        self._queue = deque(range(len(departures)))
        self._waiting: deque[tuple[int, int, int]] = deque()  # until when, request, attempt
        self._undecided = len(departures)
        self._pace = RatePace(config.rate) if config.rate is not None else None
        self._hold_ns = 0
        self._decided_ns = 0
        self._over = not departures

    # ---- sending

    def due_ns(self) -> int | None:
        """When there is something to do besides receiving (monotonic clock, 0: now); None: it is over."""
        waiting = self._waiting
        while waiting and (self._states[waiting[0][1]].decided or self._is_past(waiting[0])):
            waiting.popleft()
        if self._undecided == 0:
            return None if self._over else self._decided_ns + self.config.linger_ns
        times = [waiting[0][0]] if waiting else []
        if self._queue:
            times.append(max(self._hold_ns, self._pace.due_ns() if self._pace is not None else 0))
        return min(times)

    def _is_past(self, entry: tuple[int, int, int]) -> bool:
        return entry[2] < len(self.outcomes[entry[1]].sent_ns)

    def next(self, now_ns: int, at_most: int) -> list[int]:
        """The numbers of requests to send now. Each is to be followed by `sent`, `failed` or `refused`."""
        if now_ns < self._hold_ns:
            return []
        if self._pace is not None:
            at_most = min(at_most, self._pace.allowed(now_ns))
        numbers: list[int] = []
        while self._queue and len(numbers) < at_most:
            number = self._queue.popleft()
            if not self._states[number].decided:
                numbers.append(number)
        if self._pace is not None:
            self._pace.sent(len(numbers), now_ns)
        return numbers

    def octets(self, number: int) -> bytes:
        """What to send."""
        return self.departures[number].octets

    def sent(self, number: int, moment: Moment) -> Sent:
        """The request is on its way; `moment` was taken right before."""
        outcome, state = self.outcomes[number], self._states[number]
        if not outcome.sent_ns:
            self._matcher.add(outcome.request)
            self._numbers.append(number)
        outcome.sent_ns.append(moment.realtime_ns)
        state.moments.append(moment)
        state.refused_ns = 0
        attempt = len(outcome.sent_ns)
        self._waiting.append((moment.monotonic_ns + self.config.timeout_ns, number, attempt))
        return Sent(outcome, attempt, moment.realtime_ns)

    def departed(self, number: int, attempt: int, time_ns: int) -> None:
        """The kernel's own stamp on an attempt."""
        state = self._states[number]
        # A stamp from before it was sent is another frame's, or the clock was set.
        if time_ns >= state.moments[attempt - 1].realtime_ns:
            state.departed_ns[attempt] = time_ns
            self.outcomes[number].sent_ns[attempt - 1] = time_ns

    def refused(self, numbers: Sequence[int], error: EngineError, now_ns: int) -> Iterator[Unanswered]:
        """Queues are full: these are tried again for as long as an answer would be waited for."""
        self._hold_ns = now_ns + HOLD_NS
        again = []
        for number in numbers:
            state = self._states[number]
            state.refused_ns = state.refused_ns or now_ns
            if now_ns - state.refused_ns < self.config.timeout_ns:
                again.append(number)
            else:
                yield self.failed(number, error, now_ns)
        self._queue.extendleft(reversed(again))

    def failed(self, number: int, error: EngineError, now_ns: int) -> Unanswered:
        """The request cannot be sent."""
        self.outcomes[number].error = error
        return self._give_up(number, now_ns)

    # ---- receiving

    def received(self, octets: bytes, linktype: int, seen: Moment, stamp_ns: int | None) -> Answer | None:
        """The answer that these octets are, if they are one.

        `stamp_ns` is the kernel's stamp on its arrival, `seen` a moment after it was received.
        """
        answer = Answer.parse(octets, first_header(linktype, octets))
        assert isinstance(answer, Answer)
        found = self._matcher.find(answer)
        if found is None or self._is_copy(answer, octets):
            return None
        number = self._numbers[found]
        outcome, state = self.outcomes[number], self._states[number]
        # What left last before it came. Attempts lie far apart: a clock that was set a little does no harm.
        at_ns = seen.realtime_ns if stamp_ns is None else stamp_ns
        answer.attempt = max(1, bisect_right(outcome.sent_ns, at_ns))
        moment, departed_ns = state.moments[answer.attempt - 1], state.departed_ns.get(answer.attempt)
        answer.rtt_ns, answer.stamp, answer.tx_stamp = round_trip(moment, seen, stamp_ns, departed_ns)
        answer.time_ns, answer.number, answer.request = at_ns, number, outcome.request
        answer.duplicate = bool(outcome.answers)
        answer.late = state.decided and not outcome.answers
        outcome.answers.append(answer)
        self._matcher.close(found)
        self._decide(number, seen.monotonic_ns)
        return answer

    def _is_copy(self, answer: Answer, octets: bytes) -> bool:
        """Whether this is a request, come in over the loopback: between equal ports it seems an answer."""
        alike = (self.departures[self._numbers[found]] for found in self._matcher.alike(answer))
        return any(_is_same(departure, octets) for departure in alike)

    # ---- giving up

    def expired(self, now: Moment) -> Iterator[Unanswered]:
        """Requests whose last attempt was not answered in time; others are put in line to be sent again."""
        while self._waiting and self._waiting[0][0] <= now.monotonic_ns:
            entry = self._waiting.popleft()
            _, number, attempt = entry
            if self._states[number].decided or self._is_past(entry):
                continue
            if attempt <= self.config.retries:
                self._queue.append(number)
            else:
                yield self._give_up(number, now.monotonic_ns)
        self._over |= self._undecided == 0 and now.monotonic_ns >= self._decided_ns + self.config.linger_ns

    def _give_up(self, number: int, now_ns: int) -> Unanswered:
        self._decide(number, now_ns)
        return Unanswered(self.outcomes[number])

    def _decide(self, number: int, now_ns: int) -> None:
        if not self._states[number].decided:
            self._states[number].decided = True
            self._undecided -= 1
            self._decided_ns = now_ns


def _is_same(departure: Departure, octets: bytes) -> bool:
    sent = departure.octets
    if not departure.is_ip:
        return octets == sent
    # The kernel may have changed the IP header, but neither the addresses nor what follows.
    if departure.linktype == LINKTYPE_IPV4:
        return octets[12:20] == sent[12:20] and octets[octets[0] % 16 * 4 :] == sent[sent[0] % 16 * 4 :]
    return octets[8:] == sent[8:]
