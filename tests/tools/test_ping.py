"""Ping: which packets count as answers (without a network), and sessions with a real kernel."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import statistics
import subprocess
import time
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import oracle
from pyroute2 import IPRoute

import rawkit.tools.pinger as pinger_module
import rawkit.tools.pingresult as pingresult_module
from rawkit.clock import FakeClock
from rawkit.engine import FrameBatch, RawIPSocket
from rawkit.errors import PermissionDenied, TargetError, UnknownInterface
from rawkit.lab import Lab
from rawkit.lab.setup import set_sysctls
from rawkit.tools.ping import (
    MAX_SIZE,
    MAX_TARGETS,
    Ping,
    PingConfig,
    Pinger,
    PingError,
    PingReply,
    PingTarget,
    PingTimeout,
    Probe,
    ping,
    resolve_targets,
)
from rawkit.tools.pinger import REMEMBERED_NS, percentile
from rawkit.tools.roundtrip import Moment, RoundTrip, round_trip
from rawkit.wire import (
    AUTO,
    ICMP,
    Header,
    ICMPEcho,
    ICMPTimeExceeded,
    ICMPUnreachable,
    ICMPv6Echo,
    ICMPv6Unreachable,
    IPv4,
    IPv6,
    Packet,
)

if TYPE_CHECKING:
    from conftest import VethPair

MS = 1_000_000
S = 1_000_000_000
ID = 0x7777
COOKIE = bytes.fromhex("5eed5eed5eed5eed")
HERE = {4: "192.0.2.7", 6: "2001:db8::7"}


class World:
    """A pinger with time in the test's hand; the real time runs with it, from a given start."""

    def __init__(self, *addresses: str, realtime_ns: int = 1_700_000_000 * S, **config: int | None) -> None:
        self.clock = FakeClock(5 * S)
        self.realtime_ns = realtime_ns - self.clock.now_ns()
        targets = [PingTarget(address, ip_address(address)) for address in addresses]
        self.pinger = Pinger(
            targets,
            PingConfig(**config),  # type: ignore[arg-type]
            {4: ID, 6: ID},
            COOKIE,
        )

    def now(self) -> Moment:
        return Moment(self.realtime_ns + self.clock.now_ns(), self.clock.now_ns())

    def send(self) -> Probe:
        probe = self.pinger.next_probe(self.clock.now_ns())
        assert probe is not None
        self.pinger.sent(probe, self.now())
        return probe

    def hear(self, packet: Packet | bytes, kernel: bool = True) -> PingReply | PingError | None:
        now = self.now()
        return self.pinger.received(bytes(packet), now, now.realtime_ns if kernel else None)


def answer(
    probe: Probe,
    *,
    src: str | None = None,
    id: int = ID,
    seq: int | None = None,
    payload: bytes | None = None,
    checksum: int | None = None,
) -> Packet:
    """The echo reply to a probe, or one with something wrong about it."""
    request = Packet.parse(probe.octets, IPv4 if probe.octets[0] >> 4 == 4 else IPv6)
    echo: ICMPEcho | ICMPv6Echo
    if IPv4 in request:
        asked = request[ICMPEcho]
        ip: Header = IPv4(src=src or request[IPv4].dst, dst=HERE[4], ttl=61)
        echo = ICMPEcho(type=0, id=id, seq=asked.seq if seq is None else seq)
    else:
        asked6 = request[ICMPv6Echo]
        ip = IPv6(src=src or request[IPv6].dst, dst=HERE[6], hop_limit=61)
        echo = ICMPv6Echo(type=129, id=id, seq=asked6.seq if seq is None else seq)
    if checksum is not None:
        echo.checksum = checksum
    return ip / echo / (request.payload if payload is None else payload)


BOTH = pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])


# ---- which packets are answers -----------------------------------------------------------------


@BOTH
def test_reply_is_credited(address: str) -> None:
    world = World(address)
    probe = world.send()
    world.clock.advance(3 * MS)
    reply = world.hear(answer(probe))
    assert isinstance(reply, PingReply)
    assert (reply.address, reply.seq, reply.rtt_ns, reply.ttl, reply.size) == (address, 1, 3 * MS, 61, 64)
    assert (reply.rx_stamp, reply.tx_stamp) == ("kernel", "user")
    assert reply.time_ns == world.now().realtime_ns
    assert (reply.duplicate, reply.late, reply.corrupted) == (False, False, False)


@BOTH
def test_request_is_what_the_config_says(address: str) -> None:
    world = World(address, size=20, ttl=9)
    packet = Packet.parse(world.send().octets, IPv4 if "." in address else IPv6, strict=True)
    ip, echo = packet.layers
    assert str(ip.dst) == address  # type: ignore[attr-defined]
    assert (ip.ttl if isinstance(ip, IPv4) else ip.hop_limit) == 9  # type: ignore[attr-defined]
    assert isinstance(echo, (ICMPEcho, ICMPv6Echo))
    assert (echo.type, echo.id, echo.seq) == (8 if "." in address else 128, ID, 1)
    assert packet.payload == COOKIE + b"\0\0\0\1" + bytes(range(12, 20))


@BOTH
@pytest.mark.parametrize(
    "forgery",
    [
        {"id": ID + 1},
        {"seq": 2},
        {"payload": bytes(8) + b"\0\0\0\1" + bytes(range(12, 56))},
        {"payload": b""},
        {"payload": COOKIE[:7]},
        {"seq": 2, "payload": COOKIE + b"\0\0\0\2" + bytes(range(12, 56))},
        {"src": "other"},
    ],
    ids=lambda forgery: next(iter(forgery)) + str(len(forgery.get("payload", b""))),
)
def test_forged_reply_is_not_credited(address: str, forgery: dict[str, object]) -> None:
    world = World(address)
    probe = world.send()
    if "src" in forgery:
        forgery = {"src": "192.0.2.66" if "." in address else "2001:db8::66"}
    assert world.hear(answer(probe, **forgery)) is None  # type: ignore[arg-type]
    assert world.pinger.summaries()[0].received == 0
    assert isinstance(world.hear(answer(probe)), PingReply)


def test_requests_and_other_messages_are_passed_over() -> None:
    world = World("192.0.2.1")
    probe = world.send()
    assert world.hear(probe.octets) is None  # our own request, as a raw socket hears it on the loopback
    assert world.hear(IPv4(src="192.0.2.1", dst=HERE[4]) / ICMP(type=13)) is None
    assert world.hear(IPv4(src="192.0.2.1", dst=HERE[4], protocol=17) / b"12345678") is None


def test_duplicates_are_told_and_counted_once() -> None:
    world = World("192.0.2.1")
    probe = world.send()
    first, second = world.hear(answer(probe)), world.hear(answer(probe))
    assert isinstance(first, PingReply)
    assert isinstance(second, PingReply)
    assert (first.duplicate, second.duplicate) == (False, True)
    summary = world.pinger.summaries()[0]
    assert (summary.received, summary.duplicates, summary.loss) == (1, 1, 0)


def test_late_reply_is_told_and_not_lost() -> None:
    world = World("192.0.2.1", count=1, timeout_ns=100 * MS)
    probe = world.send()
    world.clock.advance(99 * MS)
    assert world.pinger.expired(world.now()) == []
    world.clock.advance(MS)
    (timeout,) = world.pinger.expired(world.now())
    assert (timeout.seq, timeout.timeout_ns) == (1, 100 * MS)
    assert world.pinger.expired(world.now()) == []
    assert world.pinger.summaries()[0].loss == 1
    world.clock.advance(400 * MS)
    reply = world.hear(answer(probe))
    assert isinstance(reply, PingReply)
    assert (reply.late, reply.duplicate, reply.rtt_ns) == (True, False, 500 * MS)
    summary = world.pinger.summaries()[0]
    assert (summary.received, summary.late, summary.loss, summary.sent) == (1, 1, 0, 1)
    assert world.pinger.expired(world.now()) == []


def test_damaged_payload_is_told() -> None:
    world = World("192.0.2.1")
    probe = world.send()
    damaged = bytearray(world.pinger.payload(1))
    damaged[40] ^= 1
    reply = world.hear(answer(probe, payload=bytes(damaged)))
    assert isinstance(reply, PingReply)
    assert reply.corrupted
    assert world.pinger.summaries()[0].corrupted == 1


def test_wrong_checksum_and_short_payload_are_damage() -> None:
    for change in ({"checksum": 0x1234}, {"payload": COOKIE + b"\0\0\0\1"}):
        world = World("192.0.2.1")
        reply = world.hear(answer(world.send(), **change))  # type: ignore[arg-type]
        assert isinstance(reply, PingReply), change
        assert reply.corrupted, change


def test_sequence_numbers_go_on_past_sixteen_bits() -> None:
    world = World("192.0.2.1", interval_ns=1)
    probe = world.send()
    for _ in range(65536):
        world.clock.advance(1)
        probe = world.send()
    assert probe.seq == 65537
    assert Packet.parse(probe.octets, IPv4)[ICMPEcho].seq == 1
    reply = world.hear(answer(probe))
    assert isinstance(reply, PingReply)
    assert reply.seq == 65537


def test_without_room_for_a_number_the_latest_request_is_meant() -> None:
    world = World("192.0.2.1", interval_ns=1, size=0)
    for _ in range(65537):
        world.clock.advance(1)
        probe = world.send()
    reply = world.hear(answer(probe))
    assert isinstance(reply, PingReply)
    assert (reply.seq, reply.corrupted) == (65537, False)


def test_old_requests_are_forgotten() -> None:
    world = World("192.0.2.1", interval_ns=S)
    old = world.send()
    world.clock.advance(S)
    world.pinger.expired(world.now())
    world.clock.advance(REMEMBERED_NS + S)
    world.send()
    assert world.hear(answer(old)) is None


def quote(probe: Probe, error: Header, reporter: str, length: int = 28) -> Packet:
    """An ICMP error that quotes the beginning of a probe."""
    if probe.octets[0] >> 4 == 4:
        return IPv4(src=reporter, dst=HERE[4]) / error / probe.octets[:length]
    return IPv6(src=reporter, dst=HERE[6], next_header=58) / error / probe.octets


@pytest.mark.parametrize("length", [28, 40, 84])
def test_icmp_error_says_who_and_why(length: int) -> None:
    world = World("192.0.2.1")
    probe = world.send()
    error = world.hear(quote(probe, ICMPTimeExceeded(), "198.51.100.1", length))
    assert isinstance(error, PingError)
    assert (error.seq, error.address, error.reporter) == (1, "192.0.2.1", "198.51.100.1")
    assert (error.icmp_type, error.icmp_code) == (11, 0)
    assert "time" in error.text
    summary = world.pinger.summaries()[0]
    assert (summary.errors, summary.received, summary.loss) == (1, 0, 1)
    # It was answered for: no timeout follows, and the same error is not told twice.
    world.clock.advance(10 * S)
    assert world.pinger.expired(world.now()) == []
    assert world.hear(quote(probe, ICMPTimeExceeded(), "198.51.100.1", length)) is None


def test_icmpv6_error() -> None:
    world = World("2001:db8::1")
    error = world.hear(quote(world.send(), ICMPv6Unreachable(code=3), "2001:db8:1::1"))
    assert isinstance(error, PingError)
    assert (error.icmp_type, error.icmp_code, error.text) == (1, 3, "address unreachable")


def test_error_for_another_packet_is_not_ours() -> None:
    world = World("192.0.2.1")
    probe = world.send()
    error = ICMPUnreachable(code=1)
    octets = bytearray(probe.octets)
    for place in (19, 20, 24, 25, 28):  # destination, type, identifier, identifier, cookie
        changed = bytearray(octets)
        changed[place] ^= 1
        packet = IPv4(src="198.51.100.1", dst=HERE[4]) / error / bytes(changed)
        assert world.hear(packet) is None, place
    assert isinstance(world.hear(quote(probe, error, "198.51.100.1")), PingError)


@given(st.binary(max_size=120))
def test_any_octets_are_survived(octets: bytes) -> None:
    world = World("192.0.2.1", "2001:db8::1")
    world.send()
    assert world.hear(octets) is None


@given(st.data())
def test_cut_and_changed_answers_are_survived(data: st.DataObject) -> None:
    world = World(data.draw(st.sampled_from(["192.0.2.1", "2001:db8::1"])))
    octets = bytearray(bytes(answer(world.send())))
    for _ in range(data.draw(st.integers(0, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    world.hear(bytes(octets[: data.draw(st.integers(0, len(octets)))]))
    assert world.pinger.summaries()[0].received <= 1


# ---- when to send ---------------------------------------------------------------------------------


def schedule(world: World, until_ns: int) -> list[tuple[int, int, int]]:
    """(time, target, seq) of all requests before `until_ns`, in a world that calls back when asked to."""
    start = world.clock.now_ns()
    sent = []
    while (due := world.pinger.due_ns()) is not None and due < start + until_ns:
        world.clock.sleep_until(due)
        if (probe := world.pinger.next_probe(world.clock.now_ns())) is not None:
            world.pinger.sent(probe, world.now())
            sent.append((world.clock.now_ns() - start, probe.index, probe.seq))
        world.pinger.expired(world.now())
    return sent


def test_one_request_each_interval_and_then_the_last_timeout() -> None:
    world = World("192.0.2.1", count=3, interval_ns=200 * MS, timeout_ns=S)
    start = world.clock.now_ns()
    assert schedule(world, 100 * S) == [(0, 0, 1), (200 * MS, 0, 2), (400 * MS, 0, 3)]
    assert world.clock.now_ns() - start == 400 * MS + S
    assert world.pinger.due_ns() is None


def test_targets_take_turns_with_a_gap() -> None:
    world = World("192.0.2.1", "192.0.2.2", count=2, interval_ns=10 * MS)
    assert schedule(world, 100 * S) == [(0, 0, 1), (MS, 1, 1), (10 * MS, 0, 2), (11 * MS, 1, 2)]


def test_many_targets_stretch_the_interval() -> None:
    world = World(*[f"192.0.2.{i}" for i in range(1, 101)], count=2, interval_ns=10 * MS)
    sent = schedule(world, 100 * S)
    assert [time for time, _, _ in sent] == [i * MS for i in range(200)]


def test_a_pause_is_not_caught_up_with() -> None:
    world = World("192.0.2.1", interval_ns=100 * MS)
    schedule(world, 250 * MS)  # three are sent
    world.clock.advance(10 * S)
    assert len(schedule(world, 250 * MS)) == 3


def test_small_delays_do_not_add_up() -> None:
    world = World("192.0.2.1", interval_ns=100 * MS)
    start = world.clock.now_ns()
    world.send()
    for i in range(1, 10):
        world.clock.sleep_until(start + i * 100 * MS + 20 * MS)  # always a little late
        world.send()
    assert world.pinger.next_probe(start + 1000 * MS) is not None


# ---- totals -------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_statistics(rtts: list[int]) -> None:
    world = World("192.0.2.1", interval_ns=1, timeout_ns=10 * S)
    for rtt_ns in rtts:
        world.clock.advance(1)
        probe = world.send()
        world.clock.advance(rtt_ns)
        world.hear(answer(probe), kernel=False)
    summary = world.pinger.summaries()[0]
    assert (summary.sent, summary.received) == (len(rtts), len(rtts))
    assert (summary.min_ns, summary.max_ns) == (min(rtts), max(rtts))
    assert summary.avg_ns == pytest.approx(statistics.fmean(rtts), abs=1)
    assert summary.median_ns == pytest.approx(statistics.median(rtts), abs=1)
    assert summary.mdev_ns == pytest.approx(statistics.pstdev(rtts), rel=1e-6, abs=1)
    steps = [abs(b - a) for a, b in pairwise(rtts)]
    assert summary.jitter_ns == pytest.approx(statistics.fmean(steps) if steps else 0, abs=1)
    if len(rtts) > 1:
        tenths = statistics.quantiles(rtts, n=10, method="inclusive")
        assert summary.p90_ns == pytest.approx(tenths[8], abs=1)


def test_percentile_of_few() -> None:
    assert [percentile([10, 20], percent) for percent in (0, 50, 90, 100)] == [10, 15, 19, 20]
    assert percentile([7], 99) == 7


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pingresult_module, "SAMPLES_N", 50)
    monkeypatch.setattr(pinger_module, "REMEMBERED_N", 60)
    world = World("192.0.2.1", interval_ns=1)
    for i in range(200):
        world.clock.advance(1)
        probe = world.send()
        world.clock.advance(i)
        world.hear(answer(probe))
        world.pinger.expired(world.now())
    pinger = world.pinger
    assert (len(pinger._tallies[0].samples), len(pinger._sent), len(pinger._waiting)) == (50, 60, 0)
    summary = pinger.summaries()[0]
    assert (summary.received, summary.min_ns, summary.max_ns) == (200, 0, 199)
    assert summary.median_ns == pytest.approx(175, abs=1)  # of the last fifty


def test_summary_before_anything_happened() -> None:
    summary = World("192.0.2.1").pinger.summaries()[0]
    assert (summary.sent, summary.loss, summary.duration_ns, summary.min_ns) == (0, 0.0, 0, None)


# ---- round trips over two clocks ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "seen", "kernel_ns", "expected"),
    [
        (Moment(1000 * S, S), Moment(1000 * S + 900, S + 900), 1000 * S + 500, (500, "kernel")),
        (Moment(1000 * S, S), Moment(1000 * S + 900, S + 900), None, (900, "user")),
        # The wall clock was set back, or forward, between the two.
        (Moment(1000 * S, S), Moment(900 * S, S + 900), 900 * S, (900, "user")),
        (Moment(1000 * S, S), Moment(1100 * S, S + 900), 1100 * S - 400, (900, "user")),
        # Set back by 50 ms of the 100 ms that passed: the stamp alone would look right.
        (
            Moment(1000 * S, S),
            Moment(1000 * S + 50 * MS, S + 100 * MS),
            1000 * S + 40 * MS,
            (100 * MS, "user"),
        ),
        # Set back after the kernel stamped: the stamp alone does not fit.
        (Moment(1000 * S, S), Moment(1000 * S + 900, S + 900), 1001 * S, (900, "user")),
        (Moment(1000 * S, S), Moment(1000 * S + 900, S + 900), 1000 * S - 1, (900, "user")),
    ],
)
def test_round_trip(sent: Moment, seen: Moment, kernel_ns: int | None, expected: tuple[int, str]) -> None:
    assert round_trip(sent, seen, kernel_ns) == RoundTrip(*expected)


def test_an_earlier_moment_is_earlier_on_both_clocks() -> None:
    seen = Moment(1000 * S, 5 * S)
    assert seen.at(1000 * S - 3 * MS) == Moment(1000 * S - 3 * MS, 5 * S - 3 * MS)
    assert seen.at(1001 * S).monotonic_ns == 5 * S  # the real time was set back


@given(st.integers(-(10**18), 10**18), st.integers(0, 10**12), st.integers(-(10**18), 10**18))
def test_round_trip_is_never_negative(step_ns: int, passed_ns: int, kernel_ns: int) -> None:
    sent = Moment(10**18, 10**12)
    trip = round_trip(sent, Moment(10**18 + step_ns, 10**12 + passed_ns), kernel_ns)
    assert 0 <= trip.rtt_ns <= passed_ns + MS


def test_wall_clock_set_back_between_request_and_reply() -> None:
    world = World("192.0.2.1")
    probe = world.send()
    world.clock.advance(3 * MS)
    world.realtime_ns -= 3600 * S
    reply = world.hear(answer(probe))
    assert isinstance(reply, PingReply)
    assert (reply.rtt_ns, reply.rx_stamp) == (3 * MS, "user")


# ---- configuration and targets --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 0),
        ("interval_ns", 0),
        ("timeout_ns", 0),
        ("size", -1),
        ("size", 65528),
        ("ttl", 0),
        ("ttl", 256),
        ("family", 5),
        ("gap_ns", -1),
    ],
)
def test_config_is_checked(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field.removesuffix("_ns")):
        replace(PingConfig(), **{field: value})


def targets(texts: str | Iterable[str], **config: int) -> list[tuple[str, str]]:
    def resolver(name: str) -> list[str]:
        return ["192.0.2.80", "2001:db8::80"]

    found = resolve_targets(texts, PingConfig(**config), resolver)  # type: ignore[arg-type]
    return [(target.name, str(target.address)) for target in found]


def test_targets() -> None:
    assert targets("192.0.2.1") == [("192.0.2.1", "192.0.2.1")]
    assert targets(["www.example", "192.0.2.0/31"]) == [
        ("www.example", "192.0.2.80"),
        ("192.0.2.0", "192.0.2.0"),
        ("192.0.2.1", "192.0.2.1"),
    ]
    assert targets("www.example", family=6) == [("www.example", "2001:db8::80")]
    assert targets(["www.example", "192.0.2.80", "www.example"]) == [("www.example", "192.0.2.80")]


@pytest.mark.parametrize(
    ("texts", "config", "reason"),
    [
        ([], {}, "no targets"),
        ("224.0.0.1", {}, "many hosts"),
        ("ff02::1", {}, "many hosts"),
        ("255.255.255.255", {}, "many hosts"),
        ("0.0.0.0", {}, "no host's address"),
        ("::", {}, "no host's address"),
        ("192.0.2.1", {"family": 6}, "IPv6 is wanted"),
        ("192.0.2.1", {"size": MAX_SIZE[4] + 1}, "do not fit IPv4"),
        ("10.0.0.0/8", {}, f"the limit is {MAX_TARGETS}"),
    ],
)
def test_bad_targets(texts: str | list[str], config: dict[str, int], reason: str) -> None:
    with pytest.raises(TargetError, match=re.escape(reason)):
        targets(texts, **config)


# ---- with a real kernel ---------------------------------------------------------------------------


@pytest.mark.net
@pytest.mark.parametrize("size", [0, 3, 56, 1400, 60000])
def test_loopback_in_both_families_at_once(size: int) -> None:
    session = ping(["127.0.0.1", "::1"], count=2, interval=0.01, size=size)
    replies = [event for event in session if isinstance(event, PingReply)]
    assert sorted((reply.address, reply.seq) for reply in replies) == [
        ("127.0.0.1", 1),
        ("127.0.0.1", 2),
        ("::1", 1),
        ("::1", 2),
    ]
    assert session.socket_kinds == {4: "raw", 6: "raw"}
    for reply in replies:
        assert (reply.size, reply.ttl, reply.rx_stamp) == (size + 8, 64, "kernel")
        assert 0 < reply.rtt_ns < S
        assert (reply.duplicate, reply.late, reply.corrupted) == (False, False, False)
    assert [summary.received for summary in session.summaries] == [2, 2]


@pytest.mark.net
def test_hosts_alive_dead_and_without_a_route(veth: VethPair) -> None:
    session = ping(
        [veth.far_ipv4, veth.far_ipv6, "10.77.0.99", "198.51.100.1"], count=2, interval=0.02, timeout=0.2
    )
    events = list(session)
    by_target = {summary.target: summary for summary in session.summaries}
    assert by_target[veth.far_ipv4].received == by_target[veth.far_ipv6].received == 2
    dead, unreachable = by_target["10.77.0.99"], by_target["198.51.100.1"]
    assert (dead.sent, dead.received, dead.loss) == (2, 0, 1)
    assert [e.seq for e in events if isinstance(e, PingTimeout) and e.address == "10.77.0.99"] == [1, 2]
    errors = [e for e in events if isinstance(e, PingError) and e.address == "198.51.100.1"]
    assert [(e.seq, e.reporter, e.icmp_type) for e in errors] == [(1, "", None), (2, "", None)]
    assert "unreachable" in errors[0].text
    assert unreachable.errors == 2


@pytest.mark.net
def test_dead_neighbour_is_reported_by_this_host(veth: VethPair) -> None:
    # The kernel gives up asking for the link address after three seconds.
    (error,) = ping("10.77.0.99", count=1, timeout=5)
    assert isinstance(error, PingError)
    assert (error.reporter, error.icmp_type, error.icmp_code) == (veth.near_ipv4, 3, 1)


@pytest.mark.net
def test_link_local_target_needs_and_takes_its_link(veth: VethPair) -> None:
    eui = veth.far_mac
    suffix = bytes([eui[0] ^ 2, *eui[1:3], 0xFF, 0xFE, *eui[3:]])
    address = str(ip_address(b"\xfe\x80" + bytes(6) + suffix))
    (reply,) = ping(f"{address}%{veth.near}", count=1, timeout=3)
    assert isinstance(reply, PingReply), reply
    with pytest.raises(UnknownInterface, match="nope"):
        ping("fe80::1%nope")


@pytest.mark.net
def test_interface_that_is_not_there() -> None:
    with pytest.raises(UnknownInterface):
        ping("127.0.0.1", interface="nope")


@pytest.mark.net
def test_sessions_side_by_side_do_not_hear_each_other() -> None:
    with (
        Ping("127.0.0.1", PingConfig(count=3, interval_ns=MS)) as one,
        Ping("127.0.0.1", PingConfig(count=3, interval_ns=MS)) as other,
    ):
        assert [type(event) for event in one] == [PingReply] * 3
        assert [type(event) for event in other] == [PingReply] * 3
    assert [s.duplicates for s in (*one.summaries, *other.summaries)] == [0, 0]


@pytest.mark.net
def test_iteration_may_be_broken_off() -> None:
    session = ping("127.0.0.1", interval=0.001)
    for event in session:
        assert isinstance(event, PingReply)
        if event.seq == 3:
            break
    session.close()
    assert session.summaries[0].received == 3
    assert list(session) == []


@pytest.mark.net
def test_times_are_those_of_the_systems_ping() -> None:
    command = [oracle("ping"), "-c", "20", "-i", "0.01", "127.0.0.1"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    theirs = statistics.median(float(time) * MS for time in re.findall(r"time=([\d.]+) ms", text))
    session = ping("127.0.0.1", count=20, interval=0.01)
    assert len(list(session)) == 20
    median_ns = session.summaries[0].median_ns
    assert median_ns is not None
    # The same path through the same kernel: another order of magnitude would be a mistake of ours.
    assert theirs / 10 < median_ns < theirs * 10 + MS


ORDINARY = """
import sys
from rawkit.tools.ping import ping
try:
    session = ping(sys.argv[1:], count=2, interval=0.01)
except Exception as error:
    print(type(error).__name__, error)
else:
    events = list(session)
    print(session.socket_kinds, *events)
"""


@pytest.mark.net
def test_without_privileges_datagram_sockets_are_used(ordinary: list[str]) -> None:
    with Lab() as lab, lab.a:  # which opens them to every group
        argv = [*ordinary, "-c", ORDINARY, str(lab.b.ipv4), str(lab.b.ipv6)]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout
    assert said.startswith("{4: 'datagram', 6: 'datagram'}")
    assert said.count("PingReply") == 4


@pytest.mark.net
def test_without_privileges_icmp_errors_are_told_too(ordinary: list[str]) -> None:
    with Lab() as lab:
        for host in (lab.a, lab.b):  # b forwards, and has no route to go on with
            with host, IPRoute() as route:
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
                Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
                if host is lab.a:
                    route.route("add", dst="198.51.100.0/24", gateway=str(lab.b.ipv4))
                    route.route("add", dst="2001:db8::/32", gateway=str(lab.b.ipv6))
        with lab.a:
            argv = [*ordinary, "-c", ORDINARY, "198.51.100.1", "2001:db8::1"]
            said = subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout
    assert said.count("PingError") == 4, said
    assert said.count(f"reporter='{lab.b.ipv4}', icmp_type=3, icmp_code=0") == 2
    assert said.count(f"reporter='{lab.b.ipv6}', icmp_type=1, icmp_code=0") == 2


@pytest.mark.net
def test_without_any_permission_both_ways_are_explained(ordinary: list[str]) -> None:
    # A new network namespace, as the tests' is, opens ICMP datagram sockets to no group (icmp(7)).
    argv = [*ordinary, "-c", ORDINARY, "127.0.0.1"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout
    assert said.startswith(PermissionDenied.__name__)
    assert "CAP_NET_RAW" in said
    assert "ping_group_range" in said


def test_auto_source_is_left_to_the_kernel() -> None:
    assert Packet.parse(World("192.0.2.1").send().octets, IPv4)[IPv4].src == ip_address("0.0.0.0")
    assert IPv4().src is AUTO


@pytest.mark.net
def test_lab_with_delay() -> None:
    with Lab(delay="20ms") as lab:
        with lab.a:
            session = ping([str(lab.b.ipv4), str(lab.b.ipv6)], count=3, interval=0.02, timeout=2)
        replies = list(session)
    assert [type(reply) for reply in replies] == [PingReply] * 6
    for summary in session.summaries:
        assert summary.min_ns is not None
        assert 40 * MS <= summary.min_ns < 140 * MS


@pytest.mark.net
def test_what_came_while_its_user_was_busy_came_in_time() -> None:
    with Lab(delay="20ms") as lab:
        with lab.a:
            session = ping([str(lab.b.ipv4), "127.0.0.1"], count=1, timeout=0.2)
        events = []
        for event in session:
            time.sleep(0.5)
            events.append(event)
    assert [(type(event), event.address) for event in events] == [
        (PingReply, "127.0.0.1"),
        (PingReply, "10.77.0.2"),
    ]
    assert session.summaries[0].late == 0


@pytest.mark.net
def test_the_kernel_stamps_both_ends_of_a_raw_socket() -> None:
    with Lab() as lab, lab.a:
        session = ping([str(lab.b.ipv4), str(lab.b.ipv6)], count=3, interval=0.01)
        assert set(session.socket_kinds.values()) == {"raw"}
        replies = list(session)
    assert [(reply.rx_stamp, reply.tx_stamp) for reply in replies if isinstance(reply, PingReply)] == [
        ("kernel", "kernel")
    ] * 6


@pytest.mark.net
def test_in_a_loop_it_is_the_same_and_leaves_nothing_open() -> None:
    async def main(targets: list[str]) -> list[tuple[str, int]]:
        before = sorted(os.listdir("/proc/self/fd"))
        session = ping(targets, count=3, interval=0.02)
        replies = [(event.address, event.seq) async for event in session]
        with ping(targets, interval=0.01) as endless:
            task = asyncio.ensure_future(listen(endless))
            while not any(summary.received for summary in endless.summaries):
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert sorted(os.listdir("/proc/self/fd")) == before
        return replies

    async def listen(session: Ping) -> None:
        async for _ in session:
            pass

    with Lab() as lab, lab.a:
        replies = asyncio.run(main([str(lab.b.ipv4), str(lab.b.ipv6)]))
    assert sorted(replies) == [(str(a), seq) for a in (lab.b.ipv4, lab.b.ipv6) for seq in (1, 2, 3)]


@pytest.mark.net
def test_lab_slower_than_the_timeout() -> None:
    with Lab(delay="60ms") as lab:
        with lab.a:
            session = ping(str(lab.b.ipv4), count=10, interval=0.05, timeout=0.1)
        events = list(session)
    timeouts = [event.seq for event in events if isinstance(event, PingTimeout)]
    late = [event for event in events if isinstance(event, PingReply)]
    assert timeouts == list(range(1, 11))
    assert len(late) >= 5
    for reply in late:
        assert reply.late
        assert reply.rtt_ns >= 120 * MS
    summary = session.summaries[0]
    assert (summary.received, summary.late) == (len(late), len(late))
    assert summary.loss == pytest.approx(1 - len(late) / 10)


@pytest.mark.net
def test_lossy_lab_counts_every_request_once() -> None:
    with Lab(loss=0.3, seed=5) as lab:
        with lab.a:
            session = ping(str(lab.b.ipv4), count=50, interval=0.003, timeout=0.3)
        events = list(session)
    assert sorted(event.seq for event in events) == list(range(1, 51))
    summary = session.summaries[0]
    assert summary.received == sum(isinstance(event, PingReply) for event in events)
    assert 5 <= summary.received < 50


@pytest.mark.net
def test_a_target_that_stands_for_many() -> None:
    """Every host answers once; of one that answers twice the second is a duplicate."""
    with Lab() as lab:
        with lab.b:
            set_sysctls({"net/ipv4/icmp_echo_ignore_broadcasts": "0"})
        with lab.a:
            session = ping("ff02::1%veth0", count=1, timeout=0.5, broadcast=True)
            replies = [event for event in session if isinstance(event, PingReply)]
            assert {reply.address.partition("::")[2] for reply in replies} == {
                "200:5eff:fe00:5301",
                "200:5eff:fe00:5302",
            }
            assert not any(reply.duplicate for reply in replies)
            (summary,) = session.summaries
            assert (summary.sent, summary.received, summary.duplicates, summary.loss) == (1, 1, 1, 0)
            session = ping("10.77.0.255", count=1, timeout=0.5, broadcast=True)
            assert [event.address for event in session if isinstance(event, PingReply)] == [str(lab.b.ipv4)]
            with pytest.raises(TargetError, match="one at a time"):
                ping(["ff02::1%veth0", "ff02::2%veth0"], broadcast=True)
            with pytest.raises(ValueError, match="at least 1 s"):
                ping("ff02::1%veth0", broadcast=True, interval=0.5)


@pytest.mark.net
def test_adaptive_and_deadline() -> None:
    with Lab() as lab, lab.a:
        start = time.monotonic()
        session = ping(lab.b.ipv4, count=200, interval=3600, adaptive=True)
        assert sum(isinstance(event, PingReply) for event in session) == 200
        session = ping("10.77.0.99", timeout=3600, interval=3600, deadline=0.05)
        assert list(session) == []
        assert session.summaries[0].sent == 1
        assert time.monotonic() - start < 3600


@pytest.mark.net
def test_fields_of_requests() -> None:
    with Lab() as lab:
        config = PingConfig(count=1, tos=0xB9, pattern=b"\xab\xcd", ttl=7, fragment="do")
        with lab.b, RawIPSocket(4, 1) as far, RawIPSocket(6, 58) as far6:
            with lab.a:
                assert len(list(Ping([str(lab.b.ipv4), str(lab.b.ipv6)], config))) == 2
            batch = FrameBatch()
            far.receive(batch, 1)
            packet = Packet.parse(batch[0], IPv4)
            assert (packet[IPv4].dscp, packet[IPv4].ecn, packet[IPv4].ttl) == (0xB9 >> 2, 1, 7)
            assert packet[IPv4].flags == IPv4.DF
            assert batch[0].endswith(b"\xab\xcd" * 20)
            far6.receive(batch, 1)
            echoes = [Packet.parse(octets, IPv6) for octets in batch]
            (echo,) = (packet for packet in echoes if packet.get(ICMPv6Echo) and packet[IPv6].hop_limit == 7)
            assert echo[IPv6].traffic_class == 0xB9


def test_rows_of_loss_and_reordering() -> None:
    world = World("192.0.2.1", count=6, interval_ns=10 * MS, timeout_ns=1000 * MS)
    probes = []
    for _ in range(6):
        probes.append(world.send())
        world.clock.advance(10 * MS)
    replies = [world.hear(answer(probes[number])) for number in (0, 2, 1)]
    assert [isinstance(reply, PingReply) and reply.reordered for reply in replies] == [False, False, True]
    world.clock.advance(5 * S)
    assert len(world.pinger.expired(world.now())) == 3
    (summary,) = world.pinger.summaries()
    assert (summary.reordered, summary.loss_run, summary.received) == (1, 3, 3)


@pytest.mark.net
def test_what_this_host_dropped_is_no_loss() -> None:
    """A buffer for a few packets, and somebody else's answers that fill it while nobody reads."""
    with Lab() as lab, lab.a, Ping(str(lab.b.ipv4), PingConfig(count=1, timeout_ns=200_000_000)) as session:
        (own,) = (sock for sock, _ in session._sockets.values())
        with socket.socket(fileno=os.dup(own.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        with Ping(str(lab.b.ipv4), PingConfig(count=300, adaptive=True)) as other:
            assert sum(isinstance(event, PingReply) for event in other) == 300
        session._count_drops()
        assert session._pinger.dropped > 0

    world = World("192.0.2.1", count=2, interval_ns=10 * MS, timeout_ns=100 * MS)
    world.send()
    world.pinger.dropped = 5
    world.clock.advance(10 * MS)
    world.send()
    world.clock.advance(1 * S)
    assert [timeout.uncertain for timeout in world.pinger.expired(world.now())] == [True, False]
    (summary,) = world.pinger.summaries()
    assert (summary.uncertain, summary.loss, summary.loss_run) == (1, 1.0, 1)
