"""Scans that know whom they asked: rounds of requests, silence told apart from errors that are scarce.

What a request is and what answers it a `Carrier` knows: UDP sockets (`udp`), or packets of a probe's own
(`crafted`). A port that does not answer a request may be silent by itself, or for want of an ICMP error: most
hosts limit those, Linux to one a second towards each other host. A host that sent some errors and then fewer
than it was asked for is taken to be such a one. The time between its errors is measured, and from then on its
ports are asked one after the other, when the next error is due: what is silent then is silent by itself.

Answers that anybody could make up, or that come for another reason, are not taken at their word: the port is
asked once more, and its result says how many answers there were.
"""

from __future__ import annotations

import errno
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

from rawkit.addr import IPAddress, TargetSet, span_of
from rawkit.clock import Clock
from rawkit.engine import realtime_ns
from rawkit.errors import EngineError
from rawkit.tools.scan.config import FILTERED, NO_ANSWER, NO_ROUTE, OPEN, PortResult, ScanConfig
from rawkit.tools.scan.pace import EPOCHS, AutoPace, Pace, Patience, RatePace
from rawkit.tools.scan.tally import Tally
from rawkit.tools.scan.waiting import Wait

_PORTS_MAX = 1 << 16  # that are kept track of at once
_WINDOW_MAX = 1024
# Probes per second, unless a rate is given, where silence may be for want of errors: Linux sends as many to
# all together.
_RATE = 1000.0
_FLOOD_NS = 50_000_000  # between probes while the limit is being measured
_FLOOD_MIN_NS = 2_000_000
_QUIET_NS = 2_500_000_000  # without any error, however often it was asked: no limit is as low
_GAPS_N = 3  # that the time between errors is measured from
_ASKED_MIN = 3  # probes, in one of them
_EARLY, _LATE = 0.97, 1.05  # of that time: from then on errors are asked for, and missed
_WAIT_MIN_NS = 20_000_000


class Heard(NamedTuple):
    """An answer: what it makes of a port, and why; `is_error` for an ICMP error. `time_ns` is since 1970."""

    address: IPAddress
    port: int
    state: str
    reason: str
    reporter: IPAddress
    hop_limit: int
    time_ns: int
    is_error: bool


class Carrier(Protocol):
    """What sends the requests of a scan over one IP version, and hears their answers.

    `protocol` is what results call it, `silent` the state of a port without an answer. With `exact`, only who
    has seen a request can answer it.
    """

    protocol: str
    silent: str
    exact: bool

    def fileno(self) -> int: ...

    def ask(self, address: IPAddress, port: int, attempt: int) -> None:
        """Send request number `attempt` (from 0). Raises EngineError: EAGAIN the send buffer is full."""
        ...

    def arrivals(self) -> Iterable[Heard]:
        """What has come; does not wait."""
        ...


@dataclass(slots=True)
class _Port:
    """A port that has not answered."""

    number: int
    probes: int = 0
    sent_ns: int = 0
    epoch: int = 0
    silences: int = 0  # when an error could have been sent
    awaited: bool = False  # of the present round
    first: PortResult | None = None  # what its first answer made of it, to be confirmed
    error: PortResult | None = None  # what says no more of it than silence


@dataclass(slots=True)
class _Host:
    address: IPAddress
    ports: dict[int, _Port]  # without an answer
    answered: dict[int, _Port] = field(default_factory=dict)  # and asked again, to be sure
    errors: int = 0
    limited: bool = False  # it seems to send fewer errors than it is asked for
    limit: _Limit | None = None


@dataclass(slots=True)
class _Limit:
    """How a host that limits its errors is asked. `gap_ns` is the time between those, 0 while not known."""

    turns: deque[_Port]
    began_ns: int
    due_ns: int
    gap_ns: int = 0
    last_ns: int = 0  # when the last error came
    asked_n: int = 0  # since then
    gaps_ns: list[int] = field(default_factory=list)
    asked: _Port | None = None  # the one whose answer is awaited
    asked_ns: int = 0
    told: bool = False

    def error(self, now_ns: int) -> None:
        # Where most probes have an error, the host has some left over, or there is no limit.
        if self.last_ns and self.asked_n >= _ASKED_MIN:
            self.gaps_ns.append(now_ns - self.last_ns)
        if not self.gap_ns and len(self.gaps_ns) >= _GAPS_N:
            self.gap_ns = max(self.gaps_ns)  # others may be shorter by what was left over
        self.last_ns, self.asked_n, self.asked = now_ns, 0, None
        if self.gap_ns:
            self.due_ns = now_ns + int(_EARLY * self.gap_ns)


class Asking:
    """A scan of all ports of all targets, asked through a carrier for each IP version.

    `notify` is told of hosts whose limit of errors takes long.
    """

    def __init__(
        self,
        config: ScanConfig,
        tally: Tally,
        clock: Clock,
        notify: Callable[[str], object],
        carriers: Mapping[int, Carrier],
    ) -> None:
        self._config, self._tally, self._clock, self._notify = config, tally, clock, notify
        self._carriers = carriers
        self._pace = self._make_pace(config.targets)
        self._epoch = 0  # of the pace
        # To the probes of the latest epochs, the newest first.
        self._answers: deque[int] = deque(maxlen=EPOCHS)
        self._timed = self._rtt_sum_ns = 0
        self._patience = Patience(config.timeout_ns)
        self._hosts: dict[IPAddress, _Host] = {}
        self._awaited_n = 0
        self._random = random.Random(config.seed)

    def _make_pace(self, targets: TargetSet) -> Pace:
        config = self._config
        limit = config.limit(targets)
        if config.rate is None and all(carrier.exact for carrier in self._carriers.values()):
            return AutoPace(_WINDOW_MAX, limit)
        return RatePace(limit if config.rate is not None and limit else min(limit or _RATE, _RATE))

    def results(self) -> Generator[PortResult | Wait]:
        """Results in the order in which they become known."""
        targets: Iterator[IPAddress] = iter(self._config.targets)
        ports = self._config.ports
        while part := list(islice(targets, max(_PORTS_MAX // len(ports), 1))):
            self._hosts = {a: _Host(a, {port: _Port(port) for port in ports}) for a in part}
            self._pace = self._make_pace(TargetSet(map(span_of, part)))
            yield from self._part()

    def _part(self) -> Generator[PortResult | Wait]:
        rounds = self._config.retries + 1
        for _ in range(rounds):
            asked = [host for host in self._hosts.values() if not host.limited]
            before = {host.address: host.errors for host in asked}
            todo = [(host, port) for host in asked for port in host.ports.values()]
            self._random.shuffle(todo)
            yield from self._round(todo)
            for host in asked:
                # Silent for want of errors, if it sent some, but to fewer than it did not answer.
                scarce = 0 < host.errors - before[host.address] < len(host.ports)
                host.limited = scarce and self._carriers[host.address.version].silent != FILTERED
        limited = [host for host in self._hosts.values() if host.ports and host.limited]
        yield from self._ask_slowly(limited)
        yield from self._confirm()
        for host in self._hosts.values():
            for port in host.ports.values():
                if port.error is not None:
                    yield port.error._replace(probes=port.probes)
                else:
                    silent = self._carriers[host.address.version].silent
                    yield self._unanswered(host, port, silent, NO_ANSWER)

    def _unanswered(self, host: _Host, port: _Port, state: str, reason: str) -> PortResult:
        protocol = self._carriers[host.address.version].protocol
        return PortResult(host.address, port.number, state, reason, probes=port.probes, protocol=protocol)

    def _round(self, todo: list[tuple[_Host, _Port]]) -> Generator[PortResult | Wait]:
        """Ask all once, and wait for answers."""
        self._pace.restart()
        self._answers.clear()
        self._timed = self._rtt_sum_ns = 0
        last_ns = self._clock.now_ns()
        at = 0
        self._awaited_n = 0
        while at < len(todo) or self._awaited_n:
            now_ns = self._clock.now_ns()
            if at < len(todo):
                for host, port in todo[at : at + self._pace.allowed(now_ns)]:
                    at += 1
                    if port.number in host.ports:
                        if self._pace.begin():
                            self._epoch += 1
                            self._answers.appendleft(0)
                        port.epoch, port.awaited = self._epoch, True
                        self._awaited_n += 1
                        yield from self._ask(host, port)
                        self._pace.sent(1, now_ns)
                        last_ns = now_ns
                until_ns = self._pace.due_ns()
            else:
                until_ns = last_ns + self._patience.wait_ns
                if now_ns >= until_ns:
                    break
            yield from self._hear(until_ns)
            self._pace.heard(self._answers, self._timed, self._rtt_sum_ns, self._clock.now_ns())

    def _ask(self, host: _Host, port: _Port) -> Generator[PortResult | Wait]:
        sent_ns = realtime_ns()
        # What was answered is said again.
        attempt = port.probes if port.first is None else port.first.probes - 1
        try:
            self._carriers[host.address.version].ask(host.address, port.number, attempt)
        except EngineError as error:
            if error.errno == errno.EAGAIN:
                return
            self._tally.refused += 1
            self._arrived(port)
            if port.first is not None:
                yield self._settle(host, port)
            else:
                del host.ports[port.number]
                reason = NO_ROUTE if error.errno == errno.ENETUNREACH else "not sendable"
                yield self._unanswered(host, port, FILTERED, reason)
            return
        port.probes += 1
        port.sent_ns = sent_ns
        self._tally.probes += 1

    def _hear(self, until_ns: int) -> Generator[PortResult | Wait]:
        """What comes up to a moment, or at once when that has passed."""
        descriptors = tuple(carrier.fileno() for carrier in self._carriers.values())
        yield Wait(descriptors, max(0, until_ns - self._clock.now_ns()) / 1e9)
        for carrier in self._carriers.values():
            for heard in carrier.arrivals():
                yield from self._judge(heard, carrier)

    def _judge(self, heard: Heard, carrier: Carrier) -> Generator[PortResult | Wait]:
        host = self._hosts.get(heard.address)
        if host is None:
            return
        port = host.ports.get(heard.port)
        if port is None:
            if again := host.answered.get(heard.port):
                yield self._settle(host, again, heard)
            else:
                self._tally.duplicates += 1
            return
        self._arrived(port)
        if heard.is_error:
            host.errors += 1
            if host.limit:
                host.limit.error(self._clock.now_ns())
        elif host.limit and host.limit.asked is port:
            host.limit.asked = None
        # Karn's algorithm (RFC 6298 section 3): after a repetition nobody knows which probe was answered.
        rtt_ns: int | None = heard.time_ns - port.sent_ns
        if port.probes != 1 or rtt_ns is None or rtt_ns < 0:
            rtt_ns = None
        else:
            self._patience.seen(rtt_ns)
            self._timed += 1
            self._rtt_sum_ns += rtt_ns
        result = PortResult(
            heard.address,
            heard.port,
            heard.state,
            heard.reason,
            heard.hop_limit,
            heard.reporter,
            rtt_ns,
            port.probes,
            carrier.protocol,
            1,
        )
        if heard.is_error and heard.state == carrier.silent:
            # As good as no answer, and no sign that answers keep up: a host without room may say so.
            port.error = result
            return
        if (age := self._epoch - port.epoch) < len(self._answers):
            self._answers[age] += 1
        del host.ports[heard.port]
        if heard.state == OPEN and not carrier.exact:
            port.first = result
            host.answered[heard.port] = port
            yield from self._ask(host, port)
        else:
            yield result

    def _settle(self, host: _Host, port: _Port, heard: Heard | None = None) -> PortResult:
        """The result of an open port that was asked again, `heard` if it answered again."""
        assert port.first is not None
        del host.answered[port.number]
        answers = 1 + (heard is not None and heard.state == OPEN)
        return port.first._replace(probes=port.probes, answers=answers)

    def _confirm(self) -> Generator[PortResult | Wait]:
        """Wait for the second answers of open ports, and ask for them again."""
        for left in range(self._config.retries, -1, -1):
            until_ns = self._clock.now_ns() + self._patience.wait_ns
            while self._answered() and self._clock.now_ns() < until_ns:
                yield from self._hear(until_ns)
            for host, port in self._answered():
                if left:
                    yield from self._ask(host, port)
                else:
                    yield self._settle(host, port)

    def _arrived(self, port: _Port) -> None:
        """Nothing more is awaited of a port in this round."""
        self._awaited_n -= port.awaited
        port.awaited = False

    def _answered(self) -> list[tuple[_Host, _Port]]:
        return [(host, port) for host in self._hosts.values() for port in host.answered.values()]

    def _ask_slowly(self, hosts: list[_Host]) -> Generator[PortResult | Wait]:
        """Settle the ports of hosts that limit their errors, all hosts at the same time."""
        now_ns = self._clock.now_ns()
        for host in hosts:
            host.limit = _Limit(deque(host.ports.values()), now_ns, now_ns)
        while hosts:
            now_ns = self._clock.now_ns()
            due_ns = now_ns + self._config.timeout_ns
            for host in list(hosts):
                assert host.limit is not None
                if now_ns >= host.limit.due_ns:
                    yield from self._turn(host, host.limit, now_ns)
                if not host.limit.turns:
                    hosts.remove(host)
                due_ns = min(due_ns, host.limit.due_ns)
            yield from self._hear(due_ns)

    def _turn(self, host: _Host, limit: _Limit, now_ns: int) -> Generator[PortResult | Wait]:
        """Ask the next of a host's ports."""
        enough = self._config.retries + 1
        if limit.asked is not None and limit.asked_ns - limit.last_ns > _LATE * limit.gap_ns:
            limit.asked.silences += 1
            limit.turns.rotate(-1)
        while limit.turns and (limit.turns[0].number not in host.ports or limit.turns[0].silences >= enough):
            limit.turns.popleft()
        if not limit.turns:
            return
        quiet = not limit.gap_ns and now_ns - max(limit.last_ns, limit.began_ns) > _QUIET_NS
        if quiet and all(port.probes >= enough for port in limit.turns):
            limit.turns.clear()  # there are no more errors to come
            return
        port = limit.turns[0]
        yield from self._ask(host, port)
        limit.asked_n += 1
        if limit.gap_ns:
            limit.asked, limit.asked_ns = port, now_ns
            limit.due_ns = now_ns + max(2 * self._patience.slowest_ns, _WAIT_MIN_NS)
            if not limit.told:
                limit.told = True
                n = len(host.ports)
                seconds = limit.gap_ns / 1e9
                self._notify(
                    f"{host.address} sends an ICMP error every {seconds:.2g} s: its other {n} ports take "
                    f"up to {n * seconds:.0f} s"
                )
        else:
            limit.turns.rotate(-1)
            limit.due_ns = now_ns + min(max(10**9 // len(limit.turns), _FLOOD_MIN_NS), _FLOOD_NS)
