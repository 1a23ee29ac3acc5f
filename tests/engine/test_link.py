"""The link relay: what goes in comes out later or is counted; the same seed loses the same frames."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from rawkit.engine.link import LinkCounters, LinkDirection, LinkRelay
from rawkit.engine.namespace import Namespace
from rawkit.errors import EngineError, UnknownInterface

pytestmark = pytest.mark.net

HEADER = bytes.fromhex("00005e005302 00005e005301 88b5")
PLAIN = LinkDirection()


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """The indexes of ra and rb, of the veth pairs a-ra and rb-b in a silent namespace that the test is in."""
    from pyroute2 import IPRoute

    with Namespace.create() as namespace, namespace.enter():
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        with IPRoute() as route:
            for outer, inner in (("a", "ra"), ("b", "rb")):
                route.link("add", kind="veth", ifname=outer, peer={"ifname": inner})
                for name in (outer, inner):
                    route.link("set", ifname=name, state="up")
            # Until the kernel has noticed a carrier, it drops what is sent.
            while any(link.get_attr("IFLA_OPERSTATE") != "UP" for link in route.get_links(kind="veth")):
                time.sleep(0.001)
        yield socket.if_nametoindex("ra"), socket.if_nametoindex("rb")


def outer_end(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
    sock.bind((name, 0x88B5))
    sock.settimeout(2)
    return sock


def pass_frames(relay: LinkRelay, count: int, start: str = "a", end: str = "b") -> list[int]:
    """Send numbered frames; the numbers of those that arrive."""
    direction = 0 if start == "a" else 1
    before = relay.counters()[direction]

    def settled(count: int) -> bool:
        now = relay.counters()[direction]
        done = now.sent + now.lost + now.queue_full + now.refused
        # What the relay has sent may still be on its way to the receiver's socket.
        return now.received == done == before.received + count and len(arrived) == now.sent - before.sent

    def settle(count: int) -> None:
        deadline = time.monotonic() + 10
        while not settled(count):
            assert time.monotonic() < deadline, (relay.counters(), len(arrived))
            time.sleep(0.001)
            drain()

    arrived: list[int] = []
    with outer_end(start) as near, outer_end(end) as far:
        far.setblocking(False)

        def drain() -> None:
            with suppress(OSError):
                while True:
                    frame = far.recv(2048)
                    assert frame[:14] == HEADER
                    arrived.append(int.from_bytes(frame[14:18], "big"))

        for number in range(count):
            near.send(HEADER + number.to_bytes(4, "big") + bytes(46))
            if number % 50 == 49:  # neither end's buffer holds many hundreds
                settle(number + 1)
        settle(count)
    return arrived


def test_without_faults_everything_passes_in_order_both_ways(ends: tuple[int, int]) -> None:
    with LinkRelay(*ends, PLAIN, PLAIN) as relay:
        assert pass_frames(relay, 500) == list(range(500))
        assert pass_frames(relay, 300, "b", "a") == list(range(300))
        there, back = relay.counters()
    assert there == LinkCounters(500, 500, lost=0, queue_full=0, refused=0, overflow=0)
    assert back == LinkCounters(300, 300, lost=0, queue_full=0, refused=0, overflow=0)


def test_loss_is_as_asked_and_counted(ends: tuple[int, int]) -> None:
    lossy = LinkDirection(loss=0.1, seed=1)
    with LinkRelay(*ends, lossy, PLAIN) as relay:
        arrived = pass_frames(relay, 3000)
        counters = relay.counters()[0]
    assert counters.received == 3000
    assert counters.sent == len(arrived) == 3000 - counters.lost
    assert abs(counters.lost - 300) < 5 * (3000 * 0.1 * 0.9) ** 0.5
    assert arrived == sorted(arrived)


def test_the_same_seed_loses_the_same_frames(ends: tuple[int, int]) -> None:
    lossy = LinkDirection(loss=0.3, seed=-5)  # any integer is a seed

    def fate(there: LinkDirection, back: LinkDirection) -> list[int]:
        with LinkRelay(*ends, there, back) as relay:
            pass_frames(relay, 20, "b", "a")
            return pass_frames(relay, 200)

    first = fate(lossy, PLAIN)
    assert fate(lossy, PLAIN) == first
    assert fate(lossy, LinkDirection(loss=0.5, seed=9)) == first, "the other direction must not matter"
    assert fate(replace(lossy, seed=6), PLAIN) != first


def test_delay_holds_each_frame(ends: tuple[int, int]) -> None:
    delay_ns = 15_000_000
    with (
        LinkRelay(*ends, LinkDirection(delay_ns=delay_ns), PLAIN),
        outer_end("a") as near,
        outer_end("b") as far,
    ):
        took = []
        for _ in range(10):
            start = time.monotonic_ns()
            near.send(HEADER + bytes(50))
            far.recv(2048)
            took.append(time.monotonic_ns() - start)
    assert min(took) >= delay_ns
    assert min(took) < delay_ns + 5_000_000  # the best of ten, on a machine that may be busy


def test_full_queue_drops_and_counts(ends: tuple[int, int]) -> None:
    with LinkRelay(*ends, LinkDirection(delay_ns=200_000_000, queue_n=5), PLAIN) as relay:
        assert pass_frames(relay, 12) == [0, 1, 2, 3, 4]
        counters = relay.counters()[0]
    assert (counters.received, counters.sent, counters.queue_full) == (12, 5, 7)


def test_a_bottleneck_lets_frames_pass_one_at_a_time(ends: tuple[int, int]) -> None:
    interval_ns = 2_000_000
    with LinkRelay(*ends, LinkDirection(interval_ns=interval_ns, queue_n=40), PLAIN) as relay:
        start = time.monotonic_ns()
        assert pass_frames(relay, 45) == list(range(len(range(45)) - relay.counters()[0].queue_full))
        took_ns = time.monotonic_ns() - start
        counters = relay.counters()[0]
    assert took_ns >= counters.sent * interval_ns
    assert counters.sent + counters.queue_full == 45
    assert counters.sent >= 40


def test_frames_for_an_interface_that_is_down_are_refused(ends: tuple[int, int]) -> None:
    from pyroute2 import IPRoute

    with LinkRelay(*ends, PLAIN, PLAIN) as relay:
        with IPRoute() as route:
            route.link("set", ifname="rb", state="down")
        assert pass_frames(relay, 3) == []
        assert relay.counters()[0].refused == 3
        with IPRoute() as route:
            route.link("set", ifname="rb", state="up")
            while any(link.get_attr("IFLA_OPERSTATE") != "UP" for link in route.get_links(kind="veth")):
                time.sleep(0.001)
        assert pass_frames(relay, 3) == [0, 1, 2]


@pytest.mark.parametrize("down_first", [False, True])
def test_an_interface_that_goes_away_ends_the_relay_and_close_says_so(
    ends: tuple[int, int], down_first: bool
) -> None:
    from pyroute2 import IPRoute

    relay = LinkRelay(*ends, PLAIN, PLAIN)
    with IPRoute() as route:
        if down_first:
            route.link("set", ifname="ra", state="down")
            time.sleep(0.1)  # the relay hears of it; of what follows nothing tells it
        route.link("del", ifname="ra")
    deadline = time.monotonic() + 10
    while relay._thread.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(UnknownInterface, match=f"interfaces {ends[0]} and {ends[1]}"):
        relay.close()
    relay.close()


@pytest.mark.parametrize(
    "bad",
    [
        LinkDirection(delay_ns=-1),
        LinkDirection(loss=1.5),
        LinkDirection(loss=float("nan")),
        LinkDirection(queue_n=0),
        LinkDirection(interval_ns=-1),
    ],
)
def test_directions_out_of_range(ends: tuple[int, int], bad: LinkDirection) -> None:
    with pytest.raises(EngineError, match="open link relay"):
        LinkRelay(*ends, PLAIN, bad)


def test_missing_interface(ends: tuple[int, int]) -> None:
    with pytest.raises(UnknownInterface):
        LinkRelay(ends[0], 99, PLAIN, PLAIN)


def test_forgotten(ends: tuple[int, int]) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def forget() -> None:
        LinkRelay(*ends, PLAIN, PLAIN)
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed link relay"):
        forget()
    assert len(os.listdir("/proc/self/fd")) == before


def test_closed_relay_has_no_counters(ends: tuple[int, int]) -> None:
    relay = LinkRelay(*ends, PLAIN, PLAIN)
    relay.close()
    with pytest.raises(ValueError, match="closed"):
        relay.counters()
