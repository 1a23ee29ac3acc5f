"""Pacing: never early, rarely late, and honest about what was refused."""

from __future__ import annotations

import errno
import signal
import statistics
import time
from typing import TYPE_CHECKING

import pytest

from rawkit.engine import FrameBatch, PacedSender, PacketSocket, monotonic_ns, realtime_ns, wait_until
from rawkit.errors import EngineError

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
    assert statistics.median(late) < 5 * MS


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
    assert ran[0] - began < 150 * MS


@pytest.mark.net
def test_frames_leave_when_they_are_due(veth: VethPair) -> None:
    n = 50
    batch = FrameBatch(n)
    batch.extend([veth.header(LOCAL) + i.to_bytes(2, "big") + bytes(44) for i in range(n)])
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
    ):
        start = monotonic_ns() + 5 * MS
        due = [start + i * 2 * MS for i in range(n)]
        offset = realtime_ns() - monotonic_ns()
        sent = PacedSender(near).send(batch, due)
        arrived = [frame.time_ns - offset for frame in far.frames(timeout=0.1)]
    assert len(sent) == len(arrived) == n
    assert all(moment >= d for moment, d in zip(sent, due))
    assert statistics.median(moment - d for moment, d in zip(sent, due)) < 2 * MS
    # The kernel's stamp on the other side follows the moment reported; the two clocks may drift a little.
    assert all(there - here > -MS for there, here in zip(arrived, sent))
    assert statistics.median(there - here for there, here in zip(arrived, sent)) < 2 * MS


@pytest.mark.net
def test_overdue_frames_go_at_once_and_refused_ones_are_named(veth: VethPair) -> None:
    batch = FrameBatch(200, 1 << 20)
    good, long = veth.header(LOCAL) + bytes(46), veth.header(LOCAL) + bytes(2000)
    batch.extend([long if i in (3, 150) else good for i in range(200)])
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, buffer_len=1 << 20, namespace=veth.namespace) as far,
    ):
        sent = PacedSender(near).send(batch, [0] * 200)
        assert len(list(far.frames(timeout=0.1))) == 198
    assert [i for i, moment in enumerate(sent) if moment == -errno.EMSGSIZE] == [3, 150]
    assert min(moment for moment in sent if moment > 0) > 0
    moments = [moment for moment in sent if moment > 0]
    assert moments == sorted(moments)


@pytest.mark.net
def test_a_timeout_gives_back_what_was_done_so_that_it_can_go_on(veth: VethPair) -> None:
    batch = FrameBatch(6)
    batch.extend([veth.header(LOCAL) + bytes(46)] * 6)
    with PacketSocket(veth.near, protocol=0) as near:
        sender = PacedSender(near)
        now = monotonic_ns()
        due = [now, now, now + 50 * MS, now + 300 * MS, now + 300 * MS, now + 300 * MS]
        first = sender.send(batch, due, timeout=0.15)
        assert len(first) == 3
        assert monotonic_ns() - now < 290 * MS
        assert sender.send(batch, due, first=3, timeout=0) == []
        rest = sender.send(batch, due, first=3, n=2)
        assert len(rest) == 2
        assert min(rest) >= now + 300 * MS
        for bad in ((6, 1), (-1, 2), (0, 7)):
            with pytest.raises(ValueError, match="batch of 6"):
                sender.send(batch, due, *bad)


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
