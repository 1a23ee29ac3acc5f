"""Live captures: everything that passes the filter, in order, with the kernel's times; how they end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from live import delete_link, set_link, varied
from pyroute2 import IPRoute

from rawkit.clock import FakeClock
from rawkit.engine import PacketSocket, compile_filter
from rawkit.errors import EngineError, FilterError, UnknownInterface
from rawkit.tools.capture import Capture, Direction, capture, default_interface, explain
from rawkit.wire import UDP, IPv4
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


def loopback(n: int, first: int = 0) -> None:
    """n numbered datagrams to port 9999 over loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for i in range(first, first + n):
            sock.sendto(b"%06d" % i, ("127.0.0.1", 9999))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several rings are waited for also when this machine stands still for a while."""
    monkeypatch.setattr("rawkit.engine.ringset.SLACK_NS", 200_000_000)


@pytest.mark.usefixtures("patient")
def test_frames_of_several_interfaces_come_in_the_order_of_their_times(
    veth: VethPair, sink: socket.socket
) -> None:
    """Also where the later ones fill their block first, and the earlier one waits for the end of its time."""
    with Capture(["lo", veth.near], WANTED, latency=0.05, buffer_len=4 << 20) as live:
        for i in range(5):
            loopback(1, 1000 * i)
            burst(veth, 999, 1000 * i + 1)
        live.stop()
        frames = list(live)
        assert numbers(frames) == list(range(5000))
        assert [frame.time_ns for frame in frames] == sorted(frame.time_ns for frame in frames)
        assert [frame.interface for frame in frames[999:1002]] == [veth.near, "lo", veth.near]
        assert live.name == f"lo, {veth.near}"
        assert live.counters() == (5000, 0)
        assert live.counters_by_interface() == {"lo": ((5, 0), 5), veth.near: ((4995, 0), 4995)}


@pytest.mark.usefixtures("patient")
def test_several_interfaces_in_a_loop(veth: VethPair, sink: socket.socket) -> None:
    async def main() -> list[Frame]:
        with Capture(["lo", veth.near], WANTED, count=20) as live:
            burst(veth, 10)
            loopback(20, 10)
            return [frame async for frame in live]

    assert numbers(asyncio.run(main())) == list(range(20))


def test_one_of_several_interfaces_that_disappears_does_not_end_it(
    veth: VethPair, sink: socket.socket
) -> None:
    with Capture(["lo", veth.near], WANTED, count=7) as live:
        burst(veth, 5)
        delete_link(veth.near)
        frames = []
        for batch in live.batches():
            frames += batch.frames(interface_names=live.names)
            if live.disappeared and len(frames) == 5:
                loopback(2, 5)
        assert numbers(frames) == list(range(7))
        assert (live.disappeared, live.interruptions) == ([veth.near], 0)
        assert live.counters() == (7, 0)


@contextmanager
def another(*addresses: str) -> Iterator[int]:
    """One more interface, d0, with these addresses; its number."""
    with IPRoute() as route:
        route.link("add", ifname="d0", kind="veth", peer={"ifname": "d1"})
        index: int = route.link_lookup(ifname="d0")[0]
        for address in addresses:
            route.addr("add", index=index, address=address, prefixlen=24)
        route.link("set", index=route.link_lookup(ifname="d1")[0], state="up")
    try:
        set_link("d0", state="up")
        yield index
    finally:
        with suppress(IndexError):  # a test may have taken it away
            delete_link("d0")


def test_the_last_of_several_interfaces_that_disappears_ends_it(veth: VethPair) -> None:
    with another(), Capture([veth.near, "d0"], WANTED) as live:
        delete_link(veth.near)
        delete_link("d1")
        with pytest.raises(EngineError, match="the interface disappeared"):
            list(live)


@pytest.mark.usefixtures("patient")
def test_link_types_do_not_mix_in_a_batch(veth: VethPair, sink: socket.socket) -> None:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not there or not for this user")
    tun = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"t0", 0x1001))  # TUNSETIFF: TUN | NO_PI
        with IPRoute() as route:
            route.link("set", index=route.link_lookup(ifname="t0")[0], state="up")
        with Capture(["t0", veth.near], WANTED, count=7) as live:
            assert live.linktypes == [101, 1]
            burst(veth, 2)
            for i in (2, 3, 4):
                packet = IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=9, dport=9999) / (b"%06d" % i)
                os.write(tun, bytes(packet))
            burst(veth, 2, 5)
            batches = [(batch.linktype, batch.frames()) for batch in live.batches() if len(batch)]
        assert {frame.linktype: linktype for linktype, frames in batches for frame in frames} == {
            1: 1,
            101: 101,
        }
        assert numbers([frame for _, frames in batches for frame in frames]) == list(range(7))
    finally:
        os.close(tun)


@pytest.mark.parametrize("filter", [WANTED, None])
def test_any_sees_all_interfaces_those_that_come_later_too(
    veth: VethPair, sink: socket.socket, filter: str | None
) -> None:
    with Capture("any", filter) as live:
        burst(veth, 2)
        loopback(2, 2)
        with another("10.79.0.1") as index:
            with IPRoute() as route:
                route.neigh("add", dst="10.79.0.2", lladdr="00:00:5e:00:53:02", ifindex=index)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"000004", ("10.79.0.2", 9999))
            live.stop()
            wanted = compile_filter(WANTED, 276)
            frames = [frame for frame in live if wanted.matches(frame.data)]
            assert live.names[index] == "d0"
    assert numbers(frames) == [0, 1, 2, 3, 4, 4]
    assert [(frame.interface, frame.direction) for frame in frames] == [
        (veth.near, "in"), (veth.near, "in"), ("lo", "in"), ("lo", "in"), ("d0", "out"),
        ("d1", "in"),
    ]  # fmt: skip
    assert {frame.linktype for frame in frames} == {276}


@pytest.mark.parametrize(
    ("interface", "direction", "wanted"),
    [
        ("v0", "in", [0]),
        ("v0", "out", [1]),
        ("v0", "inout", [0, 1]),
        ("lo", "in", [2]),
        ("lo", "out", [2]),
        ("any", "in", [0, 2]),
        ("any", "out", [1, 2]),
        ("any", "inout", [0, 1, 2]),
    ],
)
def test_a_direction_alone(
    veth: VethPair, sink: socket.socket, interface: str, direction: Direction, wanted: list[int]
) -> None:
    with Capture(interface, WANTED, direction=direction) as live:
        burst(veth, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"000001", (veth.far_ipv4, 9999))
        loopback(1, 2)
        live.stop()
        frames = list(live)
    assert numbers(frames) == wanted
    if direction != "inout":
        assert {frame.direction for frame in frames} == {direction}


def test_a_direction_alone_does_not_change_what_a_filter_says_of_tags(veth: VethPair) -> None:
    frames = varied(veth)
    with (
        Capture(veth.near, "vlan and not arp", direction="out") as live,
        PacketSocket(veth.near) as near,
    ):
        for octets in frames:
            near.send(octets)
        live.stop()
        assert [frame.data for frame in live] == [frames[1], frames[2], frames[3]]


def test_it_ends_with_the_first_frame_that_passes_another_filter(veth: VethPair, sink: socket.socket) -> None:
    with Capture("lo", WANTED, until="udp[8:4] = 0x30303030 and udp[12:2] = 0x3037") as live:
        loopback(20)
        assert numbers(list(live)) == list(range(8))


def test_it_ends_with_the_frame_that_reaches_so_many_octets(veth: VethPair, sink: socket.socket) -> None:
    with Capture("lo", WANTED, octets=48 * 5 + 1) as live:
        loopback(20)
        assert numbers(list(live)) == list(range(6))
        assert live.captured_octets == 48 * 6


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
