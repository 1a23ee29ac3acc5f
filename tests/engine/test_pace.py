"""Pacing: never early, rarely late, and honest about what was refused."""

from __future__ import annotations

import errno
import os
import signal
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.engine import (
    FrameBatch,
    PacedSender,
    PacketSocket,
    Rate,
    monotonic_ns,
    open_transmitter,
    realtime_ns,
    wait_until,
)
from rawkit.engine.native import ffi, lib
from rawkit.engine.pace import SLACK_NS, SPIN_NS
from rawkit.errors import EngineError, PermissionDenied
from rawkit.wire import UDP, IPv4

if TYPE_CHECKING:
    from conftest import VethPair

LOCAL = 0x88B5
MS = 1_000_000


def test_clocks_are_those_of_the_system() -> None:
    for ours, theirs in ((monotonic_ns, time.monotonic_ns), (realtime_ns, time.time_ns)):
        assert theirs() <= ours() <= theirs()


@pytest.mark.parametrize("spin_ns", [0, 200_000])
def test_waiting_ends_at_the_moment_and_not_before(spin_ns: int) -> None:
    late = []
    for _ in range(20):
        due_ns = monotonic_ns() + 2 * MS
        wait_until(due_ns, spin_ns)
        late.append(monotonic_ns() - due_ns)
    assert min(late) >= 0
    assert statistics.median(late) < 5 * MS or not oracles.calm()


def test_waiting_lets_signal_handlers_run() -> None:
    ran: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ran.append(monotonic_ns()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        began = monotonic_ns()
        wait_until(began + 250 * MS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert monotonic_ns() - began >= 250 * MS
    assert len(ran) == 1
    assert ran[0] - began < 250 * MS


@pytest.mark.net
def test_frames_leave_when_they_are_due(veth: VethPair) -> None:
    n = 50
    batch = FrameBatch(n)
    batch.extend([veth.header(LOCAL) + i.to_bytes(2, "big") + bytes(44) for i in range(n)])
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
    ):
        sender = PacedSender(near, SPIN_NS, warm=True)  # whose refused sends arrive nowhere
        start = monotonic_ns() + 5 * MS
        due = [start + i * 2 * MS for i in range(n)]
        offset = realtime_ns() - monotonic_ns()
        assert sender.send(batch, due) == n
        arrived = [frame.time_ns - offset for frame in far.frames(timeout=0.1)]
    report = sender.report()
    assert (report.sent, report.octets, report.failed) == (n, 60 * n, {})
    assert len(arrived) == n
    # By the other side's kernel none came early; the two clocks may drift a little.
    assert all(there - moment > -MS for there, moment in zip(arrived, due))
    assert due[0] <= report.first_ns < report.last_ns
    assert report.last_ns >= due[-1]
    assert sum(report.lateness.values()) == n
    assert report.timing_error is not None
    if oracles.calm():
        assert statistics.median(there - moment for there, moment in zip(arrived, due)) < 2 * MS
        assert report.timing_error.median_ns < 2 * MS
    assert report.timing_error.max_ns >= report.timing_error.p99_ns >= report.timing_error.median_ns


@pytest.mark.net
def test_transmit_stamps_agree_with_the_receiver(veth: VethPair) -> None:
    """With a sleep until each frame, so that it is late, and a refused one, which the kernel may number."""
    n = 60
    batch = FrameBatch(n, 1 << 20)
    frames = [veth.header(LOCAL) + i.to_bytes(2, "big") + bytes(44) for i in range(n)]
    frames[20] += bytes(2000)
    batch.extend(frames)
    for _ in range(5):  # a machine that is away for long has its frames sent together, without stamps
        with (
            PacketSocket(veth.near, protocol=0) as near,
            PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
        ):
            sender = PacedSender(near, spin_ns=0, stamps=True)
            start = monotonic_ns() + 5 * MS
            due = [start + i * MS for i in range(n)]
            offset = realtime_ns() - monotonic_ns()
            assert sender.send(batch, due) == n
            sender.settle(5.0)
            arrived = [frame.time_ns - offset for frame in far.frames(timeout=0.1)]
        report = sender.report()
        if report.by_stamps:
            break
    assert report.by_stamps
    assert sum(report.lateness.values()) == report.sent == n - 1
    moments = due[:20] + due[21:]
    late = statistics.median(there - moment for there, moment in zip(arrived, moments, strict=True))
    assert report.timing_error is not None
    assert abs(report.timing_error.median_ns - late) < MS / 10


@pytest.mark.net
def test_overdue_frames_go_at_once_and_refused_ones_are_counted(veth: VethPair) -> None:
    batch = FrameBatch(200, 1 << 20)
    good, long = veth.header(LOCAL) + bytes(46), veth.header(LOCAL) + bytes(2000)
    batch.extend([long if i in (3, 150) else good for i in range(200)])
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, buffer_len=1 << 20, namespace=veth.namespace) as far,
    ):
        sender = PacedSender(near)
        assert sender.send(batch, [0] * 200) == 200
        assert len(list(far.frames(timeout=0.1))) == 198
    assert (sender.sent, sender.octets) == (198, 198 * 60)
    assert sender.report().failed == {errno.EMSGSIZE: 2}


@pytest.mark.net
def test_a_timeout_gives_back_what_was_done_so_that_it_can_go_on(veth: VethPair) -> None:
    batch = FrameBatch(6)
    batch.extend([veth.header(LOCAL) + bytes(46)] * 6)
    with PacketSocket(veth.near, protocol=0) as near:
        sender = PacedSender(near)
        now = monotonic_ns()
        due = [now, now, now + 50 * MS, *[now + 1000 * MS] * 3]
        assert sender.send(batch, due, timeout=0.15) == 3
        assert sender.send(batch, due, first=3, timeout=0) == 0
        assert sender.send(batch, due, first=3, n=2) == 2
        assert sender.last_ns >= now + 1000 * MS
        for bad in ((6, 1), (-1, 2), (0, 7)):
            with pytest.raises(ValueError, match="batch of 6"):
                sender.send(batch, due, *bad)
        with pytest.raises(ValueError, match="no rate"):
            sender.send_batch(batch)


@pytest.mark.net
def test_an_interface_that_is_down_ends_it(veth: VethPair) -> None:
    from pyroute2 import IPRoute

    batch = FrameBatch(2)
    batch.extend([veth.header(LOCAL) + bytes(46)] * 2)
    with PacketSocket(veth.near, protocol=0) as near:
        with IPRoute() as route:
            route.link("set", index=veth.near_index, state="down")
        with pytest.raises(EngineError, match="send on v0") as caught:
            PacedSender(near).send(batch, [0, 0])
        assert caught.value.errno == errno.ENETDOWN
    with pytest.raises(ValueError, match="spin_ns"):
        PacedSender(near, spin_ns=-1)


# ---- at a rate -------------------------------------------------------------------------------------


@pytest.mark.net
@pytest.mark.parametrize("backend", ["packet", "af-xdp", "xdp", "ip"])
@pytest.mark.parametrize("rate", [Rate(2000), Rate(2000 * 42 * 8, bits=True), Rate(2000 * 66 * 8, True, 24)])
def test_a_rate_is_kept_by_every_backend(veth: VethPair, backend: str, rate: Rate) -> None:
    """400 frames of 42 octets at 2000 a second, in calls that end in their middle."""
    veth.receive_live_frames()
    packet = bytes(IPv4(src=veth.near_ipv4, dst=veth.far_ipv4) / UDP(sport=9, dport=9) / bytes(14))
    try:
        transmitter = open_transmitter(veth.near, backend)
    except PermissionDenied as error:
        pytest.skip(str(error))
    if transmitter.linktype == 1:
        packet = veth.header(0x0800) + packet[:28]
    batch = FrameBatch(400, 400 * 42)
    batch.extend([packet] * 400)
    with transmitter, PacketSocket(veth.far, filter="udp port 9", namespace=veth.namespace) as far:
        sender = PacedSender(transmitter, rate=rate)
        done = 0
        while done < 400:
            done += sender.send_batch(batch, done, min(33, 400 - done), timeout=0.01)
        told, report = transmitter.report(), sender.report()
        deadline = time.monotonic() + 10
        while far.counters().received < 400 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert far.counters().received == 400
    assert told.accepted == report.sent == 400
    assert report.octets == 400 * 42
    # Never faster than asked for, but for the slack that is made up for; slower only by what is told.
    took_ns = report.last_ns - report.first_ns
    assert took_ns > 399 * MS // 2 - SLACK_NS - report.max_ns
    assert report.last_ns - report.first_ns - report.paused_ns - report.max_ns < 399 * MS // 2 + SLACK_NS
    assert report.frames_per_second == pytest.approx(399e9 / took_ns)
    assert report.bits_per_second == pytest.approx(399e9 / took_ns * 336)


@pytest.mark.net
@pytest.mark.parametrize("catch_up", [None, True])
def test_after_a_pause_a_rate_goes_on_as_before_unless_it_has_to_catch_up(
    veth: VethPair, catch_up: bool | None
) -> None:
    batch = FrameBatch(100)
    batch.extend([veth.header(LOCAL) + bytes(46)] * 100)
    with PacketSocket(veth.near, protocol=0) as near:
        sender = PacedSender(near, rate=Rate(1000), catch_up=catch_up)
        assert sender.send_batch(batch, 0, 10) == 10
        time.sleep(0.2)
        paused = monotonic_ns()
        assert sender.send_batch(batch, 10) == 90
        took_ns = monotonic_ns() - paused
    report = sender.report()
    assert report.max_ns >= 190 * MS
    if catch_up:
        assert report.paused_ns == 0
        assert report.last_ns - report.first_ns >= 99 * MS  # it was all due by then
    else:
        assert report.paused_ns >= 180 * MS
        assert took_ns >= 85 * MS


@pytest.mark.net
def test_a_full_queue_delays_a_rate_and_fails_a_schedule(veth: VethPair) -> None:
    tbf = "qdisc replace dev v0 root tbf rate 400kbit burst 1600 limit 3000"
    done = subprocess.run([oracles.oracle("tc"), *tbf.split()], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no token bucket filter in this kernel: {done.stderr.strip()}")
    batch = FrameBatch(20)
    batch.extend([veth.header(LOCAL) + bytes(486)] * 20)
    with PacketSocket(veth.near, protocol=0) as near:
        steady = PacedSender(near, rate=Rate(1e6))
        assert steady.send_batch(batch, timeout=60) == 20
        assert (steady.sent, steady.report().failed) == (20, {})
        planned = PacedSender(near)
        assert planned.send(batch, [0] * 20, timeout=60) == 20
        report = planned.report()
        assert report.sent + report.failed[errno.ENOBUFS] == 20
        assert report.failed[errno.ENOBUFS] > 0


@pytest.mark.net
def test_paced_frames_that_live_frames_cannot_carry(veth: VethPair) -> None:
    from pyroute2 import IPRoute

    veth.receive_live_frames()
    with veth.namespace.enter(), IPRoute() as route:
        route.link("set", index=veth.far_index, mtu=4000)
    with IPRoute() as route:
        route.link("set", index=veth.near_index, mtu=4000)
    batch = FrameBatch(40, 1 << 17)
    batch.extend([veth.header(LOCAL) + bytes(3000 if i == 30 else 46) for i in range(40)])
    try:
        named = open_transmitter(veth.near, "xdp")
    except PermissionDenied as error:
        pytest.skip(str(error))
    with named, open_transmitter(veth.near) as auto:
        sender = PacedSender(named)
        assert sender.send(batch, [0] * 40) == 40
        assert (sender.sent, sender.report().failed) == (39, {errno.EFBIG: 1})
        assert named.report().failed == {errno.EFBIG: 1}
        sender = PacedSender(auto)
        assert sender.send(batch, [0] * 40) == 40
        assert sender.sent == 40
        assert auto.backend == "af-xdp"
        assert auto.report().accepted == 40


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=50))
def test_lateness_is_within_a_hundredth_of_the_sorted_values(values: list[int]) -> None:
    sender = PacedSender(None)  # type: ignore[arg-type]  # nothing is sent
    frame = ffi.new("struct rk_frame *")
    for value in values:
        lib.rk_pace_count(sender._state, frame, 0, value)
    error = sender.report().timing_error
    assert error is not None
    ordered = sorted(values)
    for shown, percent in ((error.median_ns, 50), (error.p99_ns, 99)):
        exact = ordered[-(-len(values) * percent // 100) - 1]
        assert 0 <= exact - shown <= exact / 128
    assert error.max_ns == ordered[-1]


def test_rates_that_make_no_sense() -> None:
    for bad in (0.0, -1.0, float("nan"), 1e16):
        with pytest.raises(ValueError, match="possible are"):
            Rate(bad)
    with pytest.raises(ValueError, match="overhead_len"):
        Rate(1, True, -1)


def test_spinning_is_for_who_may_and_is_not_nice() -> None:
    script = "from rawkit.engine.pace import default_spin_ns; print(default_spin_ns())"
    commands = {SPIN_NS: [], 0: ["nice", "-n", "39"]}
    for expected, before in commands.items():
        if os.geteuid() != 0 or os.getpriority(os.PRIO_PROCESS, 0) > 0:
            expected = 0
        done = subprocess.run([*before, sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stdout.strip() == str(expected), done.stderr
