"""Trace without a network: probes of a flow, which probe an answer is about, limits, sizes, the schedule."""

from __future__ import annotations

import errno
import statistics
from collections.abc import Callable
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rawkit.tools.tracer as tracer_module
from rawkit.errors import EngineError
from rawkit.tools.roundtrip import Moment, Spread
from rawkit.tools.traceprobes import MARKS_N, METHODS, TraceProbes
from rawkit.tools.tracer import Tracer
from rawkit.tools.traceresult import TraceAnswer, TraceConfig, TraceError, TraceSent, TraceTimeout
from rawkit.wire import (
    ICMP,
    TCP,
    ICMPEcho,
    ICMPTimeExceeded,
    ICMPUnreachable,
    ICMPv6,
    ICMPv6Echo,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    ICMPv6Unreachable,
    IPv4,
    IPv6,
    Packet,
)
from rawkit.wire.icmpext import LabelEntry, MPLSStack, extended

MS = 1_000_000
S = 1_000_000_000
EPOCH = 1_700_000_000 * S
US = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}
THEM = {4: ip_address("198.51.100.9"), 6: ip_address("2001:db8:9::9")}
ROUTER = {4: "203.0.113.%d", 6: "2001:db8:1::%d"}
KEY = b"k" * 16
BOTH = pytest.mark.parametrize("version", [4, 6])
ALL = pytest.mark.parametrize("method", list(METHODS))


def probes_of(method: str, version: int, flows: int = 2) -> TraceProbes:
    cls = METHODS[method]
    return cls(US[version], THEM[version], range(40000, 40000 + flows), cls.default_port, KEY)


def parse(octets: bytes) -> Packet:
    return Packet.parse(octets, IPv4 if octets[0] >> 4 == 4 else IPv6, strict=True)


# ---- probes ----------------------------------------------------------------------------------------


@BOTH
@ALL
def test_probes_of_a_flow_look_alike_to_routers(method: str, version: int) -> None:
    probes = probes_of(method, version)
    at = 20 if version == 4 else 40
    alike = [
        {probes.octets(flow, mark, mark % 30 + 1, 0)[at : at + 4] for mark in range(1, 200)}
        for flow in (0, 1)
    ]
    assert [len(group) for group in alike] == [1, 1]
    assert alike[0] != alike[1]
    if version == 6:
        labels = [
            {parse(probes.octets(flow, mark, 1, 0))[IPv6].flow_label for mark in (1, 2)} for flow in (0, 1)
        ]
        assert [len(group) for group in labels] == [1, 1]
        assert labels[0] != labels[1]


@BOTH
@ALL
@given(mark=st.integers(1, MARKS_N), flow=st.integers(0, 1), size=st.integers(0, 200))
def test_probes_are_right_and_know_themselves(
    method: str, version: int, mark: int, flow: int, size: int
) -> None:
    probes = probes_of(method, version)
    octets = probes.octets(flow, mark, 7, size)
    packet = parse(octets)
    assert [verdict.state for verdict in packet.checksums()] == ["good"] * (2 if version == 4 else 1)
    ip = packet.layers[0]
    assert isinstance(ip, (IPv4, IPv6))
    assert (ip.src, ip.dst) == (US[version], THEM[version])
    if probes.sized:
        assert len(octets) == max(size, probes.size_min(version))
    upper = octets[20 if version == 4 else 40 :]
    whole = probes.quoted(mark if version == 4 else 0, upper)
    assert whole is not None
    assert (whole[0], whole[2]) == (flow, probes.token(mark))
    short = probes.quoted(mark if version == 4 else 0, upper[:8])
    assert short is not None
    assert mark in short[1] or short[2] == probes.token(mark) or (method, version) == ("sctp", 6)


# ---- a path to play with ---------------------------------------------------------------------------


class World:
    """A tracer, and a path of routers that answers its probes; time is in the test's hand."""

    def __init__(self, version: int = 4, method: str = "udp", length: int = 5, **config: Any) -> None:
        config = {"method": method, "count": 1, "timeout_ns": 100 * MS, "rate": 1e6} | config
        self.config = TraceConfig(**config)
        self.version = version
        self.length = length
        self.probes = probes_of(method, version, self.config.flows)
        self.tracer = Tracer(THEM[version], self.probes, self.config)
        self.now_ns = 5 * S
        self.sent: list[tuple[TraceSent, bytes]] = []
        self.events: list[object] = []

    def now(self) -> Moment:
        return Moment(EPOCH + self.now_ns, self.now_ns)

    def send(self) -> list[tuple[TraceSent, bytes]]:
        """All that may go without waiting longer than the rate asks for."""
        fresh: list[tuple[TraceSent, bytes]] = []
        while numbers := self.tracer.next(self.now_ns, 1000):
            for number in numbers:
                octets = self.tracer.octets(number)
                fresh.append((self.tracer.sent(number, self.now()), octets))
            if self.config.rate == 1e6:
                self.now_ns += 2000
        self.sent += fresh
        return fresh

    def error(self, octets: bytes, hop: int, error: Any = None, quote: int = 4096) -> bytes:
        """What a router says of a probe."""
        if self.version == 4:
            header = IPv4(src=ROUTER[4] % hop, dst=US[4], ttl=64 - hop)
            return bytes(header / (error or ICMPTimeExceeded()) / octets[: 20 + quote])
        header6 = IPv6(src=ROUTER[6] % hop, dst=US[6].packed, hop_limit=64 - hop)
        return bytes(header6 / (error or ICMPv6TimeExceeded()) / octets[: 40 + quote])

    def arrival(self, octets: bytes) -> bytes:
        """What the target says of a probe."""
        request = parse(octets)
        if self.version == 4:
            ip: Any = IPv4(src=THEM[4], dst=US[4], ttl=50)
            unreachable: Any = ICMPUnreachable(code=3)
        else:
            ip = IPv6(src=THEM[6].packed, dst=US[6].packed, hop_limit=50)
            unreachable = ICMPv6Unreachable(code=4)
        if self.config.method == "tcp":
            asked = request[TCP]
            answer = TCP(sport=asked.dport, dport=asked.sport, flags="SA", ack=asked.seq + 1 & 0xFFFFFFFF)
            return bytes(ip / answer)
        if self.config.method == "icmp":
            echo = request[ICMPEcho] if self.version == 4 else request[ICMPv6Echo]
            return bytes(ip / echo.replace(type=0 if self.version == 4 else 129) / request.payload)
        return bytes(ip / unreachable / octets)

    def hear(self, octets: bytes) -> TraceAnswer | None:
        answer = self.tracer.received(octets, 101, self.now(), EPOCH + self.now_ns)
        if answer is not None:
            self.events.append(answer)
        return answer

    def answer(self, sent: TraceSent, octets: bytes) -> TraceAnswer | None:
        return self.hear(self.error(octets, sent.hop) if sent.hop < self.length else self.arrival(octets))

    def expire(self) -> list[TraceTimeout]:
        timeouts = list(self.tracer.expired(self.now()))
        self.events += timeouts
        return timeouts

    def play(self, speaks: Callable[[TraceSent], bool] = lambda sent: True) -> None:
        """Until it is over; answers take 10 ms, and come where `speaks` says so."""
        while (due_ns := self.tracer.due_ns()) is not None:
            fresh = self.send()
            if not fresh:
                self.now_ns = max(self.now_ns + MS, due_ns)
            else:
                self.now_ns += 10 * MS
            for sent, octets in fresh:
                if speaks(sent):
                    self.answer(sent, octets)
            self.expire()


@BOTH
@ALL
def test_the_path(method: str, version: int) -> None:
    world = World(version, method, flows=2)
    world.play()
    expected = (*(ROUTER[version] % hop for hop in range(1, 5)), str(THEM[version]))
    assert [path.addresses for path in world.tracer.paths()] == [expected, expected]
    assert all(path.reached for path in world.tracer.paths())
    assert [(hop.hop, hop.sent, hop.received, hop.lost) for hop in world.tracer.hops()] == [
        (hop, 2, 2, 0) for hop in range(1, 6)
    ]
    assert all(10 * MS <= node.avg_ns < 11 * MS for hop in world.tracer.hops() for node in hop.nodes)
    assert world.tracer.hop(3).nodes[0].ttl == 61


# ---- which probe ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "version"), [(m, 4) for m in METHODS] + [("udp", 6), ("icmp", 6), ("tcp", 6)]
)
def test_eight_octets_of_a_probe_are_enough(method: str, version: int) -> None:
    """RFC 792 asks for no more."""
    world = World(version, method)
    for sent, octets in reversed(world.send()):
        answer = world.hear(world.error(octets, sent.hop, quote=8))
        assert answer is not None
        assert answer.hop == sent.hop


def test_a_translator_on_the_way_changes_what_is_quoted() -> None:
    """The checksum is another where addresses were, and IPv4's identification tells which probe it is."""
    world = World()
    sent, octets = world.send()[2]
    changed = bytearray(octets)
    changed[26:28] = b"\xab\xcd"
    answer = world.hear(world.error(bytes(changed), 3, quote=8))
    assert answer is not None
    assert answer.hop == sent.hop == 3


@BOTH
@ALL
def test_forgeries_are_not_credited(method: str, version: int) -> None:
    world = World(version, method)
    probes = METHODS[method](
        US[version], THEM[version], [40000], METHODS[method].default_port, b"other key......!"
    )
    world.send()
    for mark in range(1, 9):
        forged = probes.octets(0, mark, 1, 0)
        assert world.hear(world.error(forged, 1)) is None
        if method != "udp":
            assert world.hear(world.arrival(forged)) is None
    _, octets = world.sent[0]
    elsewhere = bytearray(octets)
    elsewhere[19 if version == 4 else 39] ^= 1  # the quoted destination
    assert world.hear(world.error(bytes(elsewhere), 1)) is None
    assert world.hear(world.error(octets[:4], 1)) is None
    assert world.hear(b"") is None
    assert world.hear(b"\x45") is None


def test_an_error_that_quotes_too_little_is_counted() -> None:
    world = World(6, "sctp")
    _, octets = world.send()[0]
    assert world.hear(world.error(octets, 1, quote=12)) is None
    assert world.tracer.unmatched == 1


@BOTH
def test_what_quotes_too_little_is_asked_again_alone(version: int) -> None:
    """As without privilege: no identification, no checksum and no payload."""
    world = World(version, count=2, length=6)
    hops = []
    while (due_ns := world.tracer.due_ns()) is not None:
        fresh = world.send()
        world.now_ns = world.now_ns + 10 * MS if fresh else max(world.now_ns + MS, due_ns)
        hops += [sent.hop for sent, _ in fresh if sent.attempt > 1]
        for sent, octets in fresh:
            if sent.hop in (2, 4):
                at = 20 if version == 4 else 40
                bare = bytearray(octets[: at + 8])
                bare[at + 6 : at + 8] = bytes(2)
                if version == 4:
                    bare[4:6] = bytes(2)
                world.hear(world.error(bytes(bare), sent.hop))
            elif sent.hop != 3:
                world.answer(sent, octets)
        world.expire()
    (path,) = world.tracer.paths()
    assert path.addresses == (
        *(None if hop == 3 else ROUTER[version] % hop for hop in range(1, 6)),
        str(THEM[version]),
    )
    assert set(hops) == {2, 3, 4}
    assert world.tracer.unmatched


@given(octets=st.binary(max_size=200), head=st.sampled_from([b"", b"\x45", b"\x60"]))
def test_no_octets_are_too_strange(octets: bytes, head: bytes) -> None:
    world = World()
    world.send()
    assert world.hear(head + octets) is None


def test_second_and_late_answers_are_told_apart() -> None:
    world = World(retries=0)
    sent, octets = world.send()[0]
    world.now_ns += 200 * MS
    assert world.expire()[0].hop == 1
    late = world.answer(sent, octets)
    again = world.answer(sent, octets)
    assert late is not None
    assert again is not None
    assert (late.late, late.duplicate, again.duplicate) == (True, False, True)
    assert (world.tracer.hop(1).received, world.tracer.hop(1).lost) == (1, 0)


def test_marks_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracer_module, "MARKS_N", 50)
    world = World(count=None, interval_ns=MS, max_hops=1, length=9)
    while len(world.sent) < 120:
        world.send()
        world.now_ns += MS
    for at, known in ((-1, True), (-50, True), (-51, False)):
        sent, octets = world.sent[at]
        answer = world.answer(sent, octets)
        assert answer is not None
        assert (answer.round == sent.round) == known


def test_labels_reach_the_result() -> None:
    world = World()
    _, octets = world.send()[1]
    labels = MPLSStack(labels=[LabelEntry(label_value=77, bottom=1, ttl=9)])
    error = IPv4(src=ROUTER[4] % 2, dst=US[4]) / extended(ICMPTimeExceeded(), octets, [labels])
    answer = world.hear(bytes(error))
    assert answer is not None
    assert [(label.label, label.bottom, label.ttl) for label in answer.mpls] == [(77, True, 9)]
    assert world.tracer.hop(2).nodes[0].mpls == answer.mpls


# ---- the schedule --------------------------------------------------------------------------------------


def test_hops_ahead_of_what_is_known() -> None:
    world = World(ahead=3, length=20)
    fresh = world.send()
    assert [sent.hop for sent, _ in fresh] == [1, 2, 3]
    assert world.send() == []
    world.answer(*fresh[1])
    assert [sent.hop for sent, _ in world.send()] == [4, 5]


def test_nothing_is_sent_beyond_the_target() -> None:
    world = World(ahead=8, length=3, count=3)
    world.play()
    assert [sent.hop for sent, _ in world.sent if sent.round > 1] == [1, 2, 3] * 2
    assert world.now_ns - 5 * S < 100 * MS  # nobody has waited for what was sent beyond
    assert [hop.hop for hop in world.tracer.hops()] == [1, 2, 3]


def test_the_rate_is_kept() -> None:
    world = World(rate=1000.0, ahead=30, length=40)
    assert len(world.send()) == 1
    due_ns = world.tracer.due_ns()
    assert due_ns is not None
    assert MS - 1 <= due_ns - world.now_ns <= MS + 1
    world.now_ns += 10 * MS
    assert len(world.send()) == 10


def test_rounds_are_an_interval_apart() -> None:
    world = World(count=3, interval_ns=500 * MS, length=2)
    world.play()
    starts = [sent.time_ns for sent, _ in world.sent if sent.hop == 1]
    assert [b - a for a, b in pairwise(starts)] == [500 * MS] * 2


def test_a_silent_hop_is_not_asked_again_but_a_limited_one_is() -> None:
    world = World(retries=2, flows=4)
    world.play(lambda sent: sent.hop != 2 and (sent.hop != 3 or sent.flow == 1 or sent.attempt == 3))
    attempts = {hop: max(sent.attempt for sent, _ in world.sent if sent.hop == hop) for hop in range(1, 6)}
    assert attempts == {1: 1, 2: 1, 3: 3, 4: 1, 5: 1}
    assert (world.tracer.hop(3).received, world.tracer.hop(3).lost) == (4, 6)
    assert world.tracer.hop(2).lost == 4
    again = [event for event in world.events if isinstance(event, TraceTimeout) and event.again]
    assert {event.hop for event in again} == {3}


def test_a_hop_that_others_got_past_is_not_waited_for_as_long() -> None:
    """Ten of the slowest round trips, here 40 ms at most; but where silence may be a limit, all the time."""
    world = World(timeout_ns=2 * S)
    world.play(lambda sent: sent.hop != 2)
    (lost,) = (event for event in world.events if isinstance(event, TraceTimeout))
    assert (lost.hop, lost.again) == (2, False)
    assert 300 * MS <= lost.timeout_ns <= 400 * MS
    assert world.now_ns < 6 * S
    world = World(timeout_ns=2 * S, flows=2, retries=1)
    world.play(lambda sent: sent.hop != 3 or sent.flow == 1 or sent.attempt == 2)
    assert [event.timeout_ns for event in world.events if isinstance(event, TraceTimeout)] == [2 * S]
    world = World(timeout_ns=2 * S, max_hops=6)
    world.play(lambda sent: sent.hop < 4)
    assert {event.timeout_ns for event in world.events if isinstance(event, TraceTimeout)} == {2 * S}


def test_silence_right_before_the_target_may_be_the_targets() -> None:
    """It says so little that it seemed further away than it is."""
    world = World(retries=2, length=3)
    world.play(lambda sent: sent.hop != 3 or sent.attempt == 2)
    (path,) = world.tracer.paths()
    assert len(path.addresses) == 3


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.EPERM])
def test_what_cannot_be_sent(error: int) -> None:
    world = World(max_hops=1)
    (number,) = world.tracer.next(world.now_ns, 10)
    refusal = EngineError(error, "send")
    if error == errno.ENOBUFS:
        assert list(world.tracer.refused([number], refusal, world.now_ns)) == []
        assert world.tracer.next(world.now_ns, 10) == []
        world.now_ns += 2 * MS
        (number,) = world.tracer.next(world.now_ns, 10)
        world.now_ns += 200 * MS
        (told,) = world.tracer.refused([number], refusal, world.now_ns)
    else:
        told = world.tracer.failed(number, refusal, world.now_ns)
    assert isinstance(told, TraceError)
    assert told.hop == 1
    assert world.tracer.due_ns() is None


# ---- sizes -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("says", [1400, 0])
def test_probes_shrink_as_routers_ask(version: int, says: int) -> None:
    world = World(version, "icmp", length=4, mtu=True)
    fits = 1400 if says else 1492  # the next plateau of RFC 1191 where the router does not say
    while world.tracer.due_ns() is not None:
        for sent, octets in world.send():
            if sent.hop > 2 and len(octets) > fits:
                if version == 4:
                    error: ICMP | ICMPv6 = ICMPUnreachable(code=4, mtu=says)
                else:
                    error = ICMPv6PacketTooBig(mtu=says)
                answer = world.hear(world.error(octets, 2, error))
                assert answer is not None
                assert (answer.kind, answer.mtu) == ("too big", says)
            else:
                world.answer(sent, octets)
        world.now_ns += MS
    assert [node.mtu for hop in world.tracer.hops() for node in hop.nodes] == [1500, 1500, fits, fits]
    assert [hop.sent for hop in world.tracer.hops()] == [1] * 4
    assert [path.mtu for path in world.tracer.paths()] == [fits]


def test_a_target_that_keeps_silent_is_tried_in_all_sizes() -> None:
    world = World(length=9, mtu=True, max_hops=3)
    world.play(lambda sent: sent.hop == 1)
    assert [sent.size for sent, _ in world.sent if sent.hop == 3] == [1500, 1492, 1280, 1006, 508, 296, 68]
    assert [sent.size for sent, _ in world.sent if sent.hop == 1] == [1500]


def test_a_router_that_asks_for_nonsense_ends_the_path() -> None:
    world = World(length=9, mtu=True, max_hops=9)
    sizes = []
    while world.tracer.due_ns() is not None:
        for sent, octets in world.send():
            if sent.hop == 2:
                sizes.append(len(octets))
            if sent.hop >= 2:
                world.hear(world.error(octets, 2, ICMPUnreachable(code=4, mtu=65535)))
            else:
                world.answer(sent, octets)
        world.now_ns += MS
        world.expire()
    assert sizes == [1500, 1492, 1280, 1006, 508, 296, 68]
    (path,) = world.tracer.paths()
    assert (path.reached, len(path.addresses)) == (False, 2)


# ---- figures ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_spread_is_what_statistics_says(values: list[int]) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    assert (spread.n, spread.last, spread.min, spread.max) == (
        len(values),
        values[-1],
        min(values),
        max(values),
    )
    assert spread.mean == pytest.approx(statistics.fmean(values), abs=1)
    assert spread.deviation == pytest.approx(statistics.pstdev(values), rel=1e-6, abs=2)
    steps = [abs(b - a) for a, b in pairwise(values)]
    assert spread.jitter == pytest.approx(statistics.fmean(steps) if steps else 0, abs=1)
