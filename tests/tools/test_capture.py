"""Live captures: everything that passes the filter, in order, with the kernel's times; how they end."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from live import set_link
from pyroute2 import IPRoute

from rawkit.clock import FakeClock
from rawkit.engine import PacketSocket, compile_filter
from rawkit.errors import EngineError, FilterError, UnknownInterface
from rawkit.tools.capture import Capture, capture, default_interface, explain
from rawkit.wire import UDP
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net

WANTED = "udp dst port 9999"


@contextmanager
def far_udp(veth: VethPair) -> Iterator[socket.socket]:
    """A UDP socket of the far host's kernel, connected to port 9999 of the near one."""
    with veth.namespace.enter():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.connect((veth.near_ipv4, 9999))
        yield sock


@contextmanager
def capture_far(veth: VethPair, filter: str) -> Iterator[Capture]:
    with veth.namespace.enter():
        live = Capture(veth.far, filter)
    with live:
        yield live


@pytest.fixture
def sink(veth: VethPair) -> Iterator[socket.socket]:
    """Somebody on the near host who takes datagrams to port 9999; the neighbours know each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((veth.near_ipv4, 9999))
        sock.settimeout(5)
        burst(veth, 1)
        sock.recv(16)
        yield sock


def burst(veth: VethPair, n: int, first: int = 0) -> None:
    """n numbered datagrams from far to near, as the kernel sends them."""
    with far_udp(veth) as sock:
        for i in range(first, first + n):
            sock.send(b"%06d" % i)


def numbers(frames: list[Frame]) -> list[int]:
    return [int(frame.packet().payload) for frame in frames]


def wait_for_carrier(veth: VethPair) -> None:
    def ready(name: str) -> bool:
        with IPRoute() as route:
            return bool(
                route.get_links(route.link_lookup(ifname=name)[0])[0].get_attr("IFLA_OPERSTATE") == "UP"
            )

    end = time.monotonic() + 5
    while True:
        near = ready(veth.near)
        with veth.namespace.enter():
            far = ready(veth.far)
        if near and far:
            return
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_burst_comes_whole_in_order_and_with_the_kernels_times(veth: VethPair, sink: socket.socket) -> None:
    with Capture(veth.near, WANTED) as live:
        before_ns = time.time_ns()
        burst(veth, 3000)
        after_ns = time.time_ns()
        time.sleep(0.1)  # times taken on reading would be later than after_ns
        live.stop()
        frames = list(live)
        assert numbers(frames) == list(range(3000))
        times = [frame.time_ns for frame in frames]
        assert before_ns <= times[0]
        assert times[-1] <= after_ns
        assert times == sorted(times)
        assert {(f.interface, f.direction, f.linktype, f.wire_len) for f in frames} == {
            (veth.near, "in", 1, len(frames[0].data))
        }
        assert frames[0].packet()[UDP].dport == 9999
        assert live.counters() == (3000, 0)
        assert live.captured == 3000


def test_the_filter_lets_nothing_else_pass(veth: VethPair, sink: socket.socket) -> None:
    with Capture(veth.near, "udp port 9998") as live, far_udp(veth) as sock:
        burst(veth, 10)
        sock.connect((veth.near_ipv4, 9998))
        sock.send(b"1")
        live.stop()
        assert numbers(list(live)) == [1]
        assert live.counters() == (1, 0)


def test_count_ends_it_with_exactly_so_many(veth: VethPair, sink: socket.socket) -> None:
    with capture(veth.near, WANTED, count=7) as live:
        burst(veth, 20)
        assert numbers(list(live)) == list(range(7))
        assert live.captured == 7


def test_count_over_several_batches(veth: VethPair, sink: socket.socket) -> None:
    with capture(veth.near, WANTED, count=1300) as live:
        burst(veth, 1400)
        assert sum(len(frames) for frames in live.batches()) == 1300


def test_duration_ends_it(veth: VethPair, sink: socket.socket) -> None:
    start = time.monotonic()
    with capture(veth.near, WANTED, duration=0.3) as live:
        burst(veth, 5)
        assert numbers(list(live)) == list(range(5))
    assert 0.3 <= time.monotonic() - start < 10


def test_a_duration_that_passed_meanwhile_still_gives_what_is_queued(
    veth: VethPair, sink: socket.socket
) -> None:
    clock = FakeClock()
    with Capture(veth.near, WANTED, duration_ns=10**9, clock=clock) as live:
        burst(veth, 5)
        clock.advance(10**9)
        assert numbers(list(live)) == list(range(5))


def test_stop_from_another_thread(veth: VethPair, sink: socket.socket) -> None:
    with Capture(veth.near, WANTED) as live:
        frames: list[Frame] = []
        reader = threading.Thread(target=lambda: frames.extend(live))
        reader.start()
        burst(veth, 100)
        live.stop()
        reader.join(timeout=20)
        assert not reader.is_alive()
        assert numbers(frames) == list(range(100))


def test_stopping_on_a_busy_link_comes_to_an_end(veth: VethPair, sink: socket.socket) -> None:
    with Capture(veth.near, WANTED) as live:
        busy = threading.Event()

        def chatter() -> None:
            with far_udp(veth) as sock:
                while not busy.is_set():
                    sock.send(b"0")

        sender = threading.Thread(target=chatter)
        sender.start()
        try:
            start = time.monotonic()
            for frame in live:
                last = frame
                if time.monotonic() - start > 0.2:
                    live.stop()
                    stopped_ns = time.time_ns()
            # The kernel may still have been carrying some of the frames sent before.
            assert last.time_ns <= stopped_ns + 10**9
            counters = live.counters()
            assert counters.received == live.captured + counters.dropped
            assert time.monotonic() - start < 20
        finally:
            busy.set()
            sender.join()


def test_while_nothing_comes_there_are_empty_batches(veth: VethPair) -> None:
    with Capture(veth.near, WANTED) as live:
        start = time.monotonic()
        batches = live.batches()
        assert [len(next(batches)), len(next(batches))] == [0, 0]
        assert time.monotonic() - start < 10


def test_a_full_buffer_drops_and_counts(veth: VethPair, sink: socket.socket) -> None:
    with Capture(veth.near, WANTED, buffer_len=4096) as live:
        burst(veth, 2000)
        live.stop()
        frames = list(live)
        counters = live.counters()
    assert counters.received == 2000
    assert counters.dropped > 0
    assert counters.received == live.captured + counters.dropped == len(frames) + counters.dropped
    assert numbers(frames) == list(range(len(frames)))  # the oldest were kept


def test_what_lies_in_an_open_block_is_delivered_on_stopping(veth: VethPair, sink: socket.socket) -> None:
    """The kernel hands a block over when its time is up, here long after `stop`."""
    with Capture(veth.near, WANTED, latency=0.5) as live:
        burst(veth, 60)
        live.stop()
        assert numbers(list(live)) == list(range(60))
        assert live.counters() == (60, 0)


def test_what_user_space_rejects_does_not_count(veth: VethPair) -> None:
    macs = veth.header(0)[:12]
    with (
        PacketSocket(veth.near, protocol=0) as near,
        capture_far(veth, "vlan 7") as live,
    ):
        for vlan in (8, 7, 8, 7, 7, 8):
            near.send(macs + struct.pack(">HHH", 0x8100, vlan, 0x88B5) + bytes(46))
        live.stop()
        assert len(list(live)) == 3
        assert (live.captured, live.counters()) == (3, (3, 0))


def test_frames_are_cut_to_the_snaplen(veth: VethPair, sink: socket.socket) -> None:
    with capture(veth.near, WANTED, snaplen=40, duration=0.2) as live:
        burst(veth, 3)
        assert {(len(frame.data), frame.wire_len) for frame in live} == {(40, 48)}


def test_in_a_loop_it_is_the_same(veth: VethPair, sink: socket.socket) -> None:
    async def read() -> list[Frame]:
        with capture(veth.near, WANTED, count=700) as live:
            asyncio.get_running_loop().call_later(0.15, burst, veth, 800)
            frames = [frame async for frame in live]
        with capture(veth.near, WANTED, duration=0.2) as live:
            assert [frame async for frame in live] == []
        return frames

    assert numbers(asyncio.run(read())) == list(range(700))


def test_explain_says_what_runs_where(veth: VethPair) -> None:
    assert explain(veth.near, "vlan 7") == compile_filter("vlan 7").explain()
    with pytest.raises(FilterError, match="syntax"):
        explain(veth.near, "no such thing (")
    with pytest.raises(UnknownInterface):
        explain("nope0")


def test_counters_stay_readable_after_closing(veth: VethPair, sink: socket.socket) -> None:
    with Capture(veth.near, WANTED) as live:
        burst(veth, 3)
    assert live.counters() == (3, 0)


def test_loopback_shows_each_frame_once() -> None:
    with Capture("lo", WANTED) as live, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for i in range(50):
            sock.sendto(b"%d" % i, ("127.0.0.1", 9999))
        live.stop()
        frames = list(live)
    assert numbers(frames) == list(range(50))
    assert {frame.direction for frame in frames} == {"in"}


def test_what_this_host_sends_is_there_with_its_direction(veth: VethPair, sink: socket.socket) -> None:
    with (
        Capture(veth.near, "udp port 9999") as live,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"7", (veth.far_ipv4, 9999))
        live.stop()
        seen = [(f.direction, int(f.packet().payload)) for f in live if UDP in f.packet()]
        assert ("out", 7) in seen


def test_an_interface_that_was_down_is_waited_for(veth: VethPair, sink: socket.socket) -> None:
    with Capture(veth.near, WANTED) as live:
        frames: list[Frame] = []
        reader = threading.Thread(target=lambda: frames.extend(live))
        reader.start()
        burst(veth, 3)
        set_link(veth.near, state="down")
        time.sleep(0.3)
        set_link(veth.near, state="up")
        wait_for_carrier(veth)
        burst(veth, 3, first=3)
        live.stop()
        reader.join(timeout=20)
        assert not reader.is_alive()
        assert numbers(frames) == list(range(6))
        assert live.interruptions == 1


def test_it_may_be_opened_while_the_interface_is_down(veth: VethPair, sink: socket.socket) -> None:
    set_link(veth.near, state="down")
    with Capture(veth.near, WANTED) as live:
        set_link(veth.near, state="up")
        wait_for_carrier(veth)
        burst(veth, 3)
        live.stop()
        assert numbers(list(live)) == list(range(3))


def test_stopping_after_it_went_down_still_gives_what_is_queued(veth: VethPair, sink: socket.socket) -> None:
    with Capture(veth.near, WANTED) as live:
        burst(veth, 50)
        set_link(veth.near, state="down")
        live.stop()
        assert numbers(list(live)) == list(range(50))


@pytest.mark.parametrize("down_first", [False, True])
def test_an_interface_that_disappears_is_an_error_after_what_is_queued(
    veth: VethPair, sink: socket.socket, down_first: bool
) -> None:
    with Capture(veth.near, WANTED) as live:
        burst(veth, 50)
        if down_first:
            set_link(veth.near, state="down")
        frames: list[Frame] = []
        failures: list[tuple[EngineError, float]] = []

        def read() -> None:
            try:
                frames.extend(live)
            except EngineError as error:
                failures.append((error, time.monotonic()))

        # `extend` of an iterator that raises keeps what came before.
        reader = threading.Thread(target=read)
        if down_first:
            reader.start()
            time.sleep(0.2)
        with IPRoute() as route:
            route.link("del", index=veth.near_index)
        gone = time.monotonic()
        if not down_first:
            reader.start()
        reader.join(timeout=20)
        live.stop()
        reader.join(timeout=20)
        assert numbers(frames) == list(range(50))
        ((error, noticed),) = failures
        assert noticed - gone < 5
        assert error.errno == errno.ENODEV
        assert "the interface disappeared" in str(error)
        assert veth.near in str(error)
        assert live.counters() == (50, 0)


def test_it_may_be_read_from_another_namespace(veth: VethPair, sink: socket.socket) -> None:
    """An interface is looked for where the capture was opened, whoever reads it."""
    with veth.namespace.enter():
        live = Capture(veth.far, WANTED)
    with live, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"1", (veth.far_ipv4, 9999))
        while live.counters().received == 0:
            time.sleep(0.001)
        with veth.namespace.enter():
            set_link(veth.far, state="down")
        live.stop()
        assert numbers(list(live)) == [1]
        assert live.interruptions == 1


def test_promiscuous_sees_frames_for_other_hosts(veth: VethPair) -> None:
    # veth delivers every frame to the packet socket whoever it is for; what differs is the membership.
    def membership() -> int:
        with IPRoute() as route:
            return int(route.get_links(veth.near_index)[0].get_attr("IFLA_PROMISCUITY"))

    assert membership() == 0
    with Capture(veth.near, "ether proto 0x88b5", promiscuous=True, count=1) as live:
        assert membership() == 1
        with PacketSocket(veth.far, protocol=0, namespace=veth.namespace) as sender:
            sender.send(bytes.fromhex("00005e0053ee 00005e0053ff 88b5") + b"for somebody else")
        (frame,) = live
        assert frame.data.endswith(b"for somebody else")
    assert membership() == 0


def test_what_cannot_be_opened(veth: VethPair) -> None:
    with pytest.raises(UnknownInterface, match="nope0"):
        Capture("nope0")
    with pytest.raises(FilterError):
        Capture(veth.near, "port eighty eight")


def test_the_default_is_an_interface_that_is_up_and_leaves_the_host(veth: VethPair) -> None:
    assert default_interface().name == veth.near
    set_link(veth.near, state="down")
    assert default_interface().name == "lo"
