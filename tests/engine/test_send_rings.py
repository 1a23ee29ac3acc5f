"""Rings for sending: where they are used, and that they do what a packet socket's messages do."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import oracles
import pytest
from conftest import wait_until_up

from rawkit.engine import FrameBatch, PacketSocket, open_transmitter
from rawkit.errors import EngineError

if TYPE_CHECKING:
    from conftest import VethPair

    from rawkit.engine import Transmitter

pytestmark = pytest.mark.net

LOCAL, OTHER = 0x88B5, 0x88B6  # EtherTypes for local experiments
WAYS = pytest.mark.parametrize("way", ["messages", "ring", "af-xdp"])


@contextlib.contextmanager
def sender(interface: str, way: str) -> Iterator[Transmitter]:
    """A transmitter that sends so."""
    with open_transmitter(interface, "af-xdp" if way == "af-xdp" else "packet") as transmitter:
        if way == "ring":
            grow_ring(transmitter)
        yield transmitter


def grow_ring(transmitter: Transmitter | PacketSocket) -> None:
    """Send so much that a packet socket gets its ring."""
    batch = numbered(b"\x02" + bytes(11) + OTHER.to_bytes(2, "big"), 64)
    rings = mapped_rings()
    end = time.monotonic() + 20
    while mapped_rings() == rings and time.monotonic() < end:
        assert transmitter.send_batch(batch, timeout=5) == 64
    assert mapped_rings() == rings + 1


def mapped_rings() -> int:
    return Path("/proc/self/maps").read_text().count("socket:[")


def numbered(header: bytes, n: int, length: int = 60) -> FrameBatch:
    batch = FrameBatch(n, n * length)
    batch.extend([(header + i.to_bytes(4, "big")).ljust(length, b"x") for i in range(n)])
    return batch


def received(sock: PacketSocket, n: int) -> list[bytes]:
    """What comes in until it is n frames, or none for two seconds."""
    frames: list[bytes] = []
    batch = FrameBatch(64, 1 << 17)
    while len(frames) < n and sock.receive(batch, 2.0):
        frames += list(batch)
    return frames


@contextlib.contextmanager
def link(name: str, **options: object) -> Iterator[int]:
    """An interface, up, and its number."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        try:
            route.link("add", ifname=name, **options)
        except NetlinkError as error:
            pytest.skip(f"no such interface here: {error}")
        index = route.link_lookup(ifname=name)[0]
        try:
            route.link("set", index=index, state="up")
            yield index
        finally:
            route.link("del", index=index)


@WAYS
def test_taps_and_queueing_disciplines_see_frames_of_the_packet_socket_alone(
    veth: VethPair, way: str
) -> None:
    batch = numbered(veth.header(LOCAL), 40)
    with (
        PacketSocket(veth.near, protocol=0x0003, filter="ether proto 0x88b5") as tap,
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
        sender(veth.near, way) as transmitter,
    ):
        assert transmitter.send_batch(batch, 0, 30, timeout=5) == 30
        assert [transmitter.send_batch(batch, i, 1, timeout=5) for i in range(30, 40)] == [1] * 10
        assert received(far, 40) == list(batch)
        assert tap.counters().received == (0 if way == "af-xdp" else 40)


@WAYS
def test_loopback(way: str) -> None:
    batch = numbered(bytes(12) + LOCAL.to_bytes(2, "big"), 200)
    with (
        PacketSocket("lo", protocol=LOCAL, ignore_outgoing=True) as sock,
        sender("lo", way) as transmitter,
    ):
        assert transmitter.send_batch(batch, timeout=5) == 200
        assert received(sock, 200) == list(batch)
        assert transmitter.report().backend == ("af-xdp" if way == "af-xdp" else "packet")


def open_tap(name: bytes) -> int:
    """A tap interface, which is there as long as the descriptor."""
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", name, 0x1002))  # TUNSETIFF, IFF_TAP | IFF_NO_PI
    except OSError as error:
        pytest.skip(f"no tap interfaces here: {error}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH22x", name, 0x1))  # SIOCSIFFLAGS, IFF_UP
    return tap


def queued(tap: int) -> list[bytes]:
    """The frames of ours that wait there, taken out."""
    frames = []
    while select.select([tap], [], [], 0)[0]:
        frame = os.read(tap, 2048)
        if frame[12:14] == LOCAL.to_bytes(2, "big"):
            frames.append(frame)
    return frames


@WAYS
def test_what_a_tap_throws_away_was_accepted_and_is_counted_by_the_interface(way: str) -> None:
    """Its queue has 1000 places, and nobody reads."""
    batch = numbered(b"\x02" + bytes(11) + LOCAL.to_bytes(2, "big"), 1200)
    tap = open_tap(b"tap9")
    try:
        with sender("tap9", way) as transmitter:
            queued(tap)
            before = transmitter.report()
            assert transmitter.send_batch(batch, timeout=5) == 1200
            report = transmitter.report()
        got = queued(tap)
    finally:
        os.close(tap)
    assert got == list(batch)[: len(got)]
    assert 900 < len(got) < 1200
    assert (report.accepted - before.accepted, report.failed) == (1200, {})
    assert before.after is not None
    assert report.after is not None
    assert report.after.tx_dropped - before.after.tx_dropped >= 1200 - len(got)


@WAYS
def test_without_carrier_frames_are_accepted_and_dropped(veth: VethPair, way: str) -> None:
    """And when it is back they arrive, these and not the old ones."""
    from pyroute2 import IPRoute

    def far(state: str) -> None:
        with veth.namespace.enter(), IPRoute() as route:
            route.link("set", index=veth.far_index, state=state)

    batch = numbered(veth.header(LOCAL), 300)
    with sender(veth.near, way) as transmitter:
        before = transmitter.report()
        far("down")
        assert transmitter.send_batch(batch, 0, 150, timeout=5) == 150
        far("up")
        wait_until_up(veth.far, veth.namespace)
        wait_until_up(veth.near, namespace=None)
        with PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as sock:
            assert transmitter.send_batch(batch, 150, timeout=5) == 150
            assert received(sock, 150) == list(batch)[150:]
        report = transmitter.report()
    assert (report.accepted - before.accepted, report.failed) == (300, {})


@WAYS
def test_a_tagged_frame_may_be_longer_by_its_tag(veth: VethPair, way: str) -> None:
    tagged = veth.header(0x8100) + b"\x00\x07" + LOCAL.to_bytes(2, "big")
    batch = FrameBatch(40, 1 << 16)
    batch.extend([tagged.ljust(1518, b"x")] * 20 + [tagged.ljust(1519, b"x")] * 10)
    batch.extend([veth.header(LOCAL).ljust(1515, b"x")] * 10)
    with (
        PacketSocket(veth.far, filter="vlan 7", namespace=veth.namespace) as sock,
        sender(veth.near, way) as transmitter,
    ):
        assert transmitter.send_batch(batch, timeout=5) == 20
        for first in (20, 30):
            with pytest.raises(EngineError) as caught:
                transmitter.send_batch(batch, first, timeout=5)
            assert caught.value.errno == errno.EMSGSIZE
        assert received(sock, 20) == list(batch)[:20]


def test_a_queue_is_for_one_socket(veth: VethPair) -> None:
    """The automatic choice says why it goes without; the name raises."""
    batch = numbered(veth.header(LOCAL), 40)
    with (
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as sock,
        open_transmitter(veth.near, "af-xdp") as first,
    ):
        with PacketSocket(veth.near, protocol=0) as other:
            other.open_xsk()
            with pytest.raises(EngineError, match="all its transmit queues") as caught:
                other.start_xsk()
            assert caught.value.errno == errno.EBUSY
            assert not other.has_xsk
        with open_transmitter(veth.near, "auto") as second:
            second.send_batch(batch, 0, 20, timeout=5)
            if second.backend != "xdp":
                assert second.backend == "packet"
                assert "all its transmit queues" in second.reason
        assert first.send_batch(batch, 20, timeout=5) == 20
        assert received(sock, 40) == list(batch)
    with open_transmitter(veth.near, "af-xdp"):
        pass  # the kernel needs some time before the queue is free again


def test_another_queue_is_taken(veth: VethPair) -> None:
    queues = {"num_tx_queues": 2, "num_rx_queues": 2}
    with (
        link("w0", kind="veth", peer={"ifname": "w1", **queues}, **queues),
        open_transmitter("w0", "af-xdp") as one,
        open_transmitter("w0", "af-xdp") as two,
    ):
        assert (one.backend, two.backend) == ("af-xdp", "af-xdp")


def test_a_device_that_reads_the_protocol_is_left_to_the_packet_socket() -> None:
    """A bridge with VLANs would take a tagged frame for an untagged one, and send it to all of them."""
    with link("bridge9", kind="bridge"):
        with pytest.raises(EngineError, match="a bridge goes by") as caught:
            open_transmitter("bridge9", "af-xdp")
        assert caught.value.errno == errno.EOPNOTSUPP
        with open_transmitter("bridge9", "auto") as transmitter:
            transmitter.send_batch(numbered(b"\x02" + bytes(11) + LOCAL.to_bytes(2, "big"), 20), timeout=5)
            assert transmitter.backend in ("packet", "xdp")
            assert transmitter.backend == "xdp" or "a bridge goes by" in transmitter.reason


@pytest.mark.parametrize("way", ["ring", "af-xdp"])
def test_frames_that_a_slow_device_does_not_take_stay_the_callers(veth: VethPair, way: str) -> None:
    """A device that lets go of frames late: few are taken at a time, each once, in order, and no other."""
    batch = numbered(veth.header(LOCAL), 600, 500)
    with (
        link("slow0", kind="macvlan", link=veth.near_index, macvlan_mode="private"),
        PacketSocket(veth.far, protocol=LOCAL, buffer_len=1 << 22, namespace=veth.namespace) as sock,
        PacketSocket("slow0", protocol=0) as near,
    ):
        if way == "ring":
            grow_ring(near)
        else:
            near.open_xsk()
            near.start_xsk(10)
        tbf = f"qdisc replace dev {veth.near} root tbf rate 4mbit burst 1600 limit 1000000"
        done = subprocess.run([oracles.oracle("tc"), *tbf.split()], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no token bucket filter in this kernel: {done.stderr.strip()}")
        taken, refusal = 0, None
        while taken < 500 and refusal is None:  # one or two may have left meanwhile
            try:
                taken += near.send_batch(batch, taken, 500 - taken, timeout=0)
            except EngineError as error:
                refusal = error.errno
        assert refusal == errno.ENOBUFS
        assert taken > 60
        assert near.queue_full > 0
        # Others than those that were refused, and fewer.
        assert near.send_batch(batch, 500, 10, timeout=20) == 10
        assert near.send_batch(batch, 520, 80, timeout=20) == 80
        assert near.has_xsk == (way == "af-xdp")
        expected = [*range(taken), *range(500, 510), *range(520, 600)]
        assert received(sock, len(expected)) == [batch[i] for i in expected]


def test_only_a_sender_on_one_interface_can_have_one() -> None:
    for options in ({"interface": None}, {"interface": "lo", "cooked": True}):
        with PacketSocket(protocol=0, **options) as sock:
            with pytest.raises(EngineError) as caught:
                sock.open_xsk()
            assert caught.value.errno == errno.EINVAL
            with pytest.raises(EngineError):
                sock.start_xsk()
            assert not sock.has_xsk
    with pytest.raises(ValueError, match="closed"):
        sock.open_xsk()
