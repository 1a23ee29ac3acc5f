"""Receive rings against the kernel and tcpdump: loopback and veth pairs in a private namespace."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from live import LOCAL, TAG_STACKS, VARIED_FILTERS, delete_link, set_link, tagged_frame, tcp_payload, varied
from oracles import oracle, tcpdump
from pyroute2 import IPRoute

from rawkit.engine import (
    FrameBatch,
    PacketRing,
    PacketSocket,
    RingCounters,
    RingSet,
    compile_filter,
    fan_out,
    ringset,
)
from rawkit.engine.batch import KERNEL_TIME, OUTGOING, VLAN
from rawkit.errors import EngineError, FilterError, UnknownInterface
from rawkit.pcap import open_pcap
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net

SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")

SMALL = 1 << 20


def far_ring(veth: VethPair, filter: str | None = "ether proto 0x88b5", **options: Any) -> PacketRing:
    options.setdefault("memory_len", SMALL)
    return PacketRing(veth.far, filter=filter, namespace=veth.namespace, **options)


def send(veth: VethPair, frames: list[bytes]) -> None:
    """Frames from near to far."""
    with PacketSocket(veth.near, protocol=0) as near:
        batch = FrameBatch(len(frames), max(1, sum(map(len, frames))))
        batch.extend(frames)
        assert near.send_batch(batch, timeout=10) == len(frames)


def numbered(veth: VethPair, n: int, first: int = 0) -> list[bytes]:
    return [veth.header(LOCAL) + i.to_bytes(4, "big") + bytes(42) for i in range(first, first + n)]


def number_of(octets: bytes) -> int:
    return int.from_bytes(octets[14:18], "big")


def take(ring: PacketRing, n: int) -> list[Frame]:
    """The next n frames; waits until they are there."""
    frames: list[Frame] = []
    while len(frames) < n:
        batch = ring.receive(5.0)
        assert len(batch), f"{len(frames)} of {n} frames came"
        frames += batch.frames(ring.linktype, {ring.ifindex: ring.name})
    assert len(frames) == n
    return frames


# ---- what a frame carries ---------------------------------------------------------------------------


def test_frames_come_unchanged_in_order_and_stamped_by_the_kernel(veth: VethPair) -> None:
    sent = [veth.header(LOCAL) + i.to_bytes(4, "big") * (12 + i % 300) for i in range(700)]
    with far_ring(veth) as ring:
        before = time.time_ns()
        send(veth, sent)
        got: list[bytes] = []
        while len(got) < len(sent):
            batch = ring.receive(5.0)
            got += list(batch)
            for record in batch.records():
                assert before <= record.time_ns <= time.time_ns()
                assert record.flags & KERNEL_TIME
                assert not record.flags & OUTGOING
                assert (record.ifindex, record.protocol) == (veth.far_index, LOCAL)
                assert record.wire_len == record.cap_len
        assert got == sent
        assert ring.counters() == (700, 0, 700, 0, 0, 0)
        assert ring.counters().waiting == 0


def test_a_loop_over_a_ring_gives_frames(veth: VethPair) -> None:
    with far_ring(veth) as ring:
        send(veth, numbered(veth, 5))
        seen = []
        for frame in ring:
            seen.append(number_of(frame.data))
            assert (frame.interface, frame.direction, frame.linktype) == (veth.far, "in", 1)
            assert frame.wire_len == len(frame.data) == 60
            if len(seen) == 5:
                break
    assert seen == [0, 1, 2, 3, 4]


def test_what_the_kernel_sends_is_seen_with_direction_and_unfinished_checksum(veth: VethPair) -> None:
    with (
        PacketRing(veth.near, filter="udp port 9", memory_len=SMALL) as near,
        far_ring(veth, "udp port 9") as far,
        PacketRing(veth.near, filter="udp port 9", memory_len=SMALL, ignore_outgoing=True) as deaf,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"payload", (veth.far_ipv4, 9))
        sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
        sock.sendto(b"payload", (veth.far_ipv4, 9))
        left, arrived = take(near, 2), take(far, 2)
        assert deaf.counters().received == 0
    assert [frame.direction for frame in left] == ["out", "out"]
    assert [frame.direction for frame in arrived] == ["in", "in"]
    assert [frame.data for frame in left] == [frame.data for frame in arrived]
    # veth has no hardware: the checksum that the kernel left to it is never computed.
    assert [frame.checksum for frame in left] == [frame.checksum for frame in arrived] == ["not ready", ""]
    verdicts = {v.layer.__name__: v.state for v in arrived[0].checksums()}
    assert verdicts["UDP"] == "not filled in"
    assert verdicts["IPv4"] == "good"


def test_merged_segments_say_how_long_each_one_is(veth: VethPair) -> None:
    with (
        far_ring(veth, "udp port 9") as ring,
        far_ring(veth, "udp port 9", segment_lengths=False) as plain,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.setsockopt(17, 103, 500)  # SOL_UDP, UDP_SEGMENT
        sock.sendto(bytes(5100), (veth.far_ipv4, 9))
        sock.sendto(bytes(100), (veth.far_ipv4, 9))
        merged, single = take(ring, 2)
        assert ring.counters().merged == 1
        assert [(f.gso_len, len(f.data)) for f in take(plain, 2)] == [(0, 5142), (0, 142)]
    assert (merged.gso_len, len(merged.data), merged.wire_len) == (500, 5142, 5142)
    assert (single.gso_len, len(single.data)) == (0, 142)


def test_tcp_in_bulk_arrives_in_frames_longer_than_the_mtu_and_whole(veth: VethPair) -> None:
    data = os.urandom(2_000_000)
    with veth.namespace.enter():
        server = socket.create_server(("10.77.0.2", 5001))
    with (
        server,
        far_ring(veth, "tcp dst port 5001", memory_len=8 << 20) as ring,
        socket.create_connection(("10.77.0.2", 5001)) as client,
        server.accept()[0] as conn,
    ):
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(1)))
        sender.start()
        while conn.recv(1 << 16):
            pass
        sender.join()
        counters = ring.counters()
        frames = take(ring, counters.received)
        assert counters.dropped == 0
    assert max(len(frame.data) for frame in frames) > 20_000
    assert all(len(frame.data) == frame.wire_len for frame in frames)
    assert all(0 < frame.gso_len < 1500 for frame in frames if frame.wire_len > 1514)
    assert tcp_payload(frames, len(data)) == data


@pytest.mark.parametrize("segment_lengths", [True, False])
@pytest.mark.parametrize("tags", TAG_STACKS.values(), ids=TAG_STACKS)
def test_vlan_tags_come_back_where_they_were(
    veth: VethPair, tags: list[tuple[int, int]], segment_lengths: bool
) -> None:
    octets = tagged_frame(veth, tags)
    with far_ring(veth, None, segment_lengths=segment_lengths) as ring:
        send(veth, [octets])
        for batch in ring.batches(5.0):
            if tagged := [(o, r) for o, r in zip(batch, batch.records()) if r.flags & VLAN]:
                break
        ((seen, record),) = tagged
    assert seen == octets
    assert (record.vlan_tpid, record.vlan_tci) == tags[0]
    assert record.cap_len == record.wire_len == len(octets)


@contextmanager
def tcpdump_capture(path: Path, interface: str, expression: str, count: int) -> Iterator[None]:
    """tcpdump writing to a file; on leaving, waits until it has seen `count` frames."""
    command = [
        *tcpdump(live=True),
        "-i",
        interface,
        "--immediate-mode",
        "-s0",
        "-c",
        str(count),
        "-w",
        "-",
        expression,
    ]
    with (
        path.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stderr is not None
            while "listening on" not in process.stderr.readline():
                assert process.poll() is None
            yield
            process.wait(20)
        finally:
            process.kill()


def test_octets_and_lengths_are_those_that_tcpdump_sees(veth: VethPair, tmp_path: Path) -> None:
    """Tags, merged segments, unfinished checksums, both directions: nothing differs."""
    expression = "udp port 9 or ether proto 0x88b5 or vlan"
    tagged = veth.far_mac + veth.near_mac + b"\x81\x00\x20\x05" + LOCAL.to_bytes(2, "big") + bytes(60)
    path = tmp_path / "theirs.pcap"
    with (
        tcpdump_capture(path, veth.near, expression, 6),
        PacketRing(veth.near, filter=expression, memory_len=SMALL) as ring,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        with PacketSocket(veth.far, protocol=0, namespace=veth.namespace) as far:
            far.send(tagged)
            far.send(tagged[:12] + b"\x88\xa8\x00\x64" + tagged[12:])
            far.send(veth.near_mac + veth.far_mac + LOCAL.to_bytes(2, "big") + bytes(1500))
        sock.sendto(b"out", (veth.far_ipv4, 9))
        sock.setsockopt(17, 103, 1000)  # SOL_UDP, UDP_SEGMENT
        sock.sendto(bytes(20_000), (veth.far_ipv4, 9))
        send(veth, [tagged])
        ours = take(ring, 6)
    with open_pcap(path) as reader:
        theirs = list(reader)
    assert [(f.data, f.wire_len) for f in ours] == [(f.data, f.wire_len) for f in theirs]


def test_all_interfaces_give_what_tcpdump_shows_of_any(veth: VethPair, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pcap"
    with (
        tcpdump_capture(path, "any", "udp port 9", 2),
        PacketRing(None, sll2=True, filter="udp port 9", memory_len=SMALL) as ring,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"there", (veth.far_ipv4, 9))
        sock.sendto(b"here", ("127.0.0.1", 9))
        frames = take(ring, 3)
    with open_pcap(path) as reader:
        theirs = list(reader)
    assert {frame.linktype for frame in theirs} == {ring.linktype} == {276}
    # tcpdump leaves out what leaves by loopback, since it arrives there at once.
    assert frames[1].direction == "out"
    assert [frame.data for frame in (frames[0], frames[2])] == [frame.data for frame in theirs]


def test_all_interfaces_name_the_one_of_each_frame(veth: VethPair) -> None:
    with (
        PacketRing(None, filter="udp port 9", ignore_outgoing=True, memory_len=SMALL) as ring,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"here", ("127.0.0.1", 9))
        (frame,) = [next(iter(ring))]
    assert (frame.interface, frame.linktype, frame.direction) == ("lo", 1, "in")


def test_cooked_rings_begin_with_the_packet(veth: VethPair) -> None:
    with (
        far_ring(veth, "udp port 9", cooked=True) as ring,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"payload", (veth.far_ipv4, 9))
        (frame,) = take(ring, 1)
    assert (frame.linktype, frame.data[0], frame.data[-7:]) == (101, 0x45, b"payload")


def test_the_cards_times_are_taken_where_it_makes_any(veth: VethPair) -> None:
    with far_ring(veth, hardware_time=True) as ring:
        before = time.time_ns()
        send(veth, numbered(veth, 1))
        batch = ring.receive(5.0)
        (record,) = batch.records()
    assert record.flags & KERNEL_TIME  # veth makes none
    assert before <= record.time_ns <= time.time_ns()


# ---- filters ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", VARIED_FILTERS)
def test_a_filter_gives_the_same_live_as_on_a_file(veth: VethPair, expression: str) -> None:
    marks = varied(veth)
    compiled = compile_filter(expression)
    with (
        PacketRing(veth.far, filter=compiled, namespace=veth.namespace, memory_len=SMALL) as ring,
        far_ring(veth, None) as unfiltered,
    ):
        send(veth, [*marks, veth.header(0x88B6) + b"last"])
        everything: list[bytes] = []
        for batch in unfiltered.batches(5.0):
            everything += list(batch)
            if any(octets.endswith(b"last") for octets in everything):
                break
        passed = [octets for batch in ring.batches(0.1) for octets in batch]
        counters = ring.counters()
    assert [octets for octets in everything if octets in marks] == marks
    assert [octets for octets in passed if octets in marks] == list(filter(compiled.matches, marks))
    assert (counters.dropped, counters.delivered) == (0, len(passed))
    if expression == "vlan 7":
        assert counters.rejected == 1  # VLAN 8; the kernel itself kept out what had no tag


def test_nothing_unfiltered_is_heard_while_opening(veth: VethPair) -> None:
    stop = threading.Event()

    def flood() -> None:
        batch = FrameBatch(64)
        batch.extend([veth.header(LOCAL) + bytes(46)] * 64)
        with PacketSocket(veth.near, protocol=0) as near:
            while not stop.is_set():
                near.send_batch(batch)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in range(20):
            with far_ring(veth, "ether proto 0x88b6") as ring:
                assert len(ring.receive(0)) == 0
                assert ring.counters() == (0, 0, 0, 0, 0, 0)
    finally:
        stop.set()
        thread.join()


def test_it_is_live_when_the_constructor_returns(veth: VethPair) -> None:
    with PacketSocket(veth.near, protocol=0) as near:
        for octets in numbered(veth, 20):
            with far_ring(veth) as ring:
                near.send(octets)
                assert [frame.data for frame in take(ring, 1)] == [octets]


def test_the_filter_cannot_be_changed_afterwards(veth: VethPair) -> None:
    with far_ring(veth) as ring, socket.socket(fileno=os.dup(ring.fileno())) as sock:
        with pytest.raises(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, 27, 0)  # SO_DETACH_FILTER
        with pytest.raises(PermissionError):
            sock.setsockopt(socket.SOL_SOCKET, 26, bytes(16))  # SO_ATTACH_FILTER


def test_a_filter_that_does_not_compile_opens_nothing(veth: VethPair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FilterError, match="syntax"):
        PacketRing(veth.near, filter="no such thing (")
    with pytest.raises(FilterError, match=r"(?i)vlan"):
        PacketRing("lo", cooked=True, filter="vlan")
    assert len(os.listdir("/proc/self/fd")) == before


def test_frames_may_be_cut_with_their_tags_and_without(veth: VethPair) -> None:
    plain = veth.header(LOCAL) + bytes(range(200))
    tagged = plain[:12] + b"\x81\x00\x00\x05" + plain[12:]
    with (
        far_ring(veth, "ether proto 0x88b5 or vlan 5", snaplen=60) as ring,
        far_ring(veth, None, snaplen=20) as short,
    ):
        send(veth, [plain, tagged])
        assert [(f.data, f.wire_len) for f in take(ring, 2)] == [(plain[:60], 214), (tagged[:60], 218)]
        assert max(len(octets) for batch in short.batches(0.1) for octets in batch) == 20


# ---- loss, counters, the batch ----------------------------------------------------------------------


def test_a_full_ring_drops_and_counts_and_goes_on_afterwards(veth: VethPair) -> None:
    with far_ring(veth, memory_len=16384, block_len=8192) as ring:
        send(veth, numbered(veth, 5000))
        counters = ring.counters()
        assert counters.received == 5000
        assert counters.dropped > 4000
        assert ring.counters() == counters  # reading does not reset
        kept = [number_of(frame.data) for frame in take(ring, counters.waiting)]
        assert kept == list(range(len(kept)))  # the oldest
        send(veth, numbered(veth, 10, 5000))
        assert [number_of(frame.data) for frame in take(ring, 10)] == list(range(5000, 5010))
        total = 5010
        assert ring.counters() == (total, counters.dropped, total - counters.dropped, 0, 0, 0)


def test_received_is_dropped_plus_delivered_whoever_is_slow(veth: VethPair) -> None:
    with far_ring(veth, memory_len=64 << 10, block_len=16 << 10) as ring:
        got = 0

        def read() -> None:
            nonlocal got
            for batch in ring.batches():
                got += len(batch)
                time.sleep(0.0005)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(20):
            send(veth, numbered(veth, 1000))
        end = time.monotonic() + 10
        while ring.counters().waiting:
            assert time.monotonic() < end
            time.sleep(0.01)
        ring.close()
        reader.join(5)
        counters = ring.counters()
    assert counters.received == 20_000
    assert counters.dropped > 0
    assert counters.delivered == got == counters.received - counters.dropped


def test_no_more_frames_than_asked_for(veth: VethPair) -> None:
    macs = veth.header(0)[:12]
    frames = [macs + struct.pack(">HHHI", 0x8100, i % 2, LOCAL, i) + bytes(42) for i in range(20)]
    with far_ring(veth, "vlan 1") as ring:
        send(veth, frames)
        assert list(ring.receive(5.0, 3)) == frames[1:2]  # of 0, 1, 2
        assert list(ring.receive(5.0, 1)) == frames[3:4]
        assert list(ring.receive(5.0, 1)) == []  # number 4 did not pass
        assert list(ring.receive(5.0)) == frames[5::2]
        assert ring.counters() == (20, 0, 10, 10, 0, 0)


def test_views_close_and_copies_stay(veth: VethPair) -> None:
    with far_ring(veth) as ring:
        sent = numbered(veth, 2)
        send(veth, sent[:1])
        batch = ring.receive(5.0)
        copy, view = batch[0], batch.view(0)
        assert view == sent[0]
        send(veth, sent[1:])
        assert ring.receive(5.0) is batch
        assert copy == sent[0]
        with pytest.raises(ValueError, match="released"):
            bytes(view)
        assert list(batch) == sent[1:]
        batch.clear()
        assert len(batch) == 0
        with pytest.raises(EngineError, match="No space left"):
            batch.append(b"octets of our own")


def test_what_looks_into_a_closed_ring_sees_its_last_octets(veth: VethPair) -> None:
    """The memory stays as long as something looks into it."""
    sent = numbered(veth, 3)
    ring = far_ring(veth)
    send(veth, sent)
    batch = ring.receive(5.0)
    octets = iter(batch)
    view = batch.view(1)
    assert next(octets) == sent[0]
    ring.close()
    del ring
    gc.collect()
    assert list(octets) == sent[1:]
    assert view == sent[1]
    assert len(batch) == 0
    with pytest.raises(IndexError):
        batch[0]


def test_polling_the_descriptor(veth: VethPair) -> None:
    with far_ring(veth) as ring:
        assert len(ring.receive(0)) == 0
        assert select.select([ring], [], [], 0)[0] == []
        send(veth, numbered(veth, 1))
        assert select.select([ring], [], [], 5.0)[0] == [ring]
        assert len(ring.receive(0)) == 1
        assert len(ring.receive(0)) == 0
        assert select.select([ring], [], [], 0)[0] == []


# ---- memberships and groups -------------------------------------------------------------------------


def test_memberships_are_undone_on_closing(veth: VethPair) -> None:
    def state() -> tuple[int, bool]:
        with IPRoute() as route:
            (link,) = route.get_links(veth.near_index)
        return link.get_attr("IFLA_PROMISCUITY"), "01:00:5e:00:53:07" in multicast()

    def multicast() -> str:
        return subprocess.run(
            [oracle("ip"), "maddr", "show", "dev", veth.near], capture_output=True, text=True, check=True
        ).stdout

    def allmulti() -> int:
        with IPRoute() as route:
            (link,) = route.get_links(veth.near_index)
        return int(link.get_attr("IFLA_ALLMULTI") or 0)

    assert (state(), allmulti()) == ((0, False), 0)
    with PacketRing(veth.near, promiscuous=True, all_multicast=True, memory_len=SMALL) as ring:
        ring.join(bytes.fromhex("01005e005307"))
        assert (state(), allmulti()) == ((1, True), 1)
        with pytest.raises(ValueError, match="6 octets"):
            ring.join(b"\x01")
    assert (state(), allmulti()) == ((0, False), 0)


@pytest.mark.parametrize("mode", ["hash", "balance", "cpu", "rollover", "random", "queue"])
def test_rings_of_a_group_share_the_frames(veth: VethPair, mode: str) -> None:
    rings = fan_out(
        3, veth.far, mode, filter="udp dst portrange 1000-1099", memory_len=SMALL, namespace=veth.namespace
    )
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for port in list(range(1000, 1100)) * 3:
                sock.sendto(b"x", (veth.far_ipv4, port))
        counts = [ring.counters().received for ring in rings]
        ports = [
            {int.from_bytes(f.data[36:38], "big") for f in take(ring, count)}
            for ring, count in zip(rings, counts)
        ]
    finally:
        for ring in rings:
            ring.close()
    assert sum(counts) == 300
    if mode in ("hash", "balance", "random"):
        assert all(counts)
    if mode == "hash":  # a flow stays with a ring
        assert sum(map(len, ports)) == 100


# ---- links that go down, and away -------------------------------------------------------------------


def test_down_is_told_once_and_frames_come_again_when_it_is_up(veth: VethPair) -> None:
    with PacketRing(veth.near, filter="ether proto 0x88b5", memory_len=SMALL) as ring:
        send(veth, numbered(veth, 3))
        assert len(take(ring, 3)) == 3
        set_link(veth.near, state="down")
        with pytest.raises(EngineError) as down:
            ring.receive(5.0)
        assert down.value.errno == errno.ENETDOWN
        assert len(ring.receive(0.2)) == 0
        set_link(veth.near, state="up")
        send(veth, numbered(veth, 3))
        assert len(take(ring, 3)) == 3


@pytest.mark.parametrize("down_first", [False, True])
def test_a_removed_interface_is_an_error_within_a_second_after_its_last_frame(
    veth: VethPair, down_first: bool
) -> None:
    # The longest block timeout: its last frames are still in an open block when the interface goes.
    with PacketRing(veth.near, filter="ether proto 0x88b5", memory_len=SMALL, block_timeout=0.5) as ring:
        if down_first:
            set_link(veth.near, state="down")
            with pytest.raises(EngineError):
                ring.receive(5.0)
            set_link(veth.near, state="up")
        send(veth, numbered(veth, 7))
        delete_link(veth.near)
        gone = time.monotonic()
        got, errors = 0, []
        while errno.ENXIO not in errors:
            try:
                got += len(ring.receive(5.0))
            except EngineError as error:
                errors.append(error.errno)
        assert time.monotonic() - gone < 2.0  # block timeout 0.5 s, and looks every 0.1 s
        assert got == 7
        assert errors in ([errno.ENETDOWN, errno.ENXIO], [errno.ENXIO])


def test_an_interface_that_is_down_may_be_opened(veth: VethPair) -> None:
    set_link(veth.near, state="down")
    with PacketRing(veth.near, filter="ether proto 0x88b5", memory_len=SMALL) as ring:
        with pytest.raises(EngineError):
            ring.receive(0)
        set_link(veth.near, state="up")
        send(veth, numbered(veth, 1))
        assert len(take(ring, 1)) == 1


# ---- threads, processes, signals --------------------------------------------------------------------


def test_closing_from_another_thread_ends_the_reader(veth: VethPair) -> None:
    with far_ring(veth) as ring:
        ended: list[float] = []
        reader = threading.Thread(target=lambda: ([*ring.batches()], ended.append(time.monotonic())))
        reader.start()
        time.sleep(0.1)
        assert ring.counters() == (0, 0, 0, 0, 0, 0)  # while it waits
        start = time.monotonic()
        ring.close()
        reader.join(5)
        assert ended
        assert ended[0] - start < 1.0  # the slice is 0.05 s
        with pytest.raises(ValueError, match="closed"):
            ring.receive(0)
        with pytest.raises(ValueError, match="closed"):
            next(ring.batches())
        ring.close()
        assert ring.counters() == (0, 0, 0, 0, 0, 0)
        assert repr(ring) == f"<PacketRing on {veth.far}, closed>"


def test_a_second_reader_is_refused(veth: VethPair) -> None:
    with far_ring(veth) as ring:
        reader = threading.Thread(target=lambda: [*ring.batches()])
        reader.start()
        try:
            end = time.monotonic() + 5

            def receive() -> None:
                while time.monotonic() < end:  # until the other thread is there
                    ring.receive(0)

            with pytest.raises(RuntimeError, match="another thread reads it"):
                receive()
        finally:
            ring.close()
            reader.join(5)


def test_a_forked_process_may_only_close_it(veth: VethPair) -> None:
    with far_ring(veth) as ring:
        send(veth, numbered(veth, 1))
        batch = ring.receive(5.0)
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                told = b""
                for call in (lambda: ring.receive(0), ring.counters, ring.fileno, lambda: next(iter(ring))):
                    try:
                        call()
                    except RuntimeError as error:
                        told += b"refused " if "forked" in str(error) else b"? "
                told += batch[0][14:18].hex().encode()
                ring.close()
                os.write(into, told)
            finally:
                os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as answers:
            assert answers.read() == b"refused " * 4 + b"00000000"
        os.waitpid(child, 0)
        send(veth, numbered(veth, 2, 1))
        assert [number_of(frame.data) for frame in take(ring, 2)] == [1, 2]


def test_signals_are_handled_while_waiting(veth: VethPair) -> None:
    class Alarm(Exception):
        pass

    def ring_the_bell(number: int, _: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring_the_bell)
    try:
        with far_ring(veth) as ring:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Alarm):
                ring.receive()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 1024


def open_and_close(veth: VethPair, times: int) -> None:
    """In 8 threads at once, since most of it is waiting for the kernel."""
    failures: list[BaseException] = []

    def work(namespace: Any) -> None:
        try:
            for _ in range(times // 8):
                with PacketRing(veth.far, namespace=namespace, memory_len=65536, block_len=16384) as ring:
                    ring.receive(0)  # the far end may have said something of its own
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(veth.namespace,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def check_leaks(veth: VethPair, times: int) -> None:
    open_and_close(veth, 80)  # what is allocated once, and threads' stacks
    gc.collect()
    descriptors, before = len(os.listdir("/proc/self/fd")), resident_kib()
    open_and_close(veth, times)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    if not SANITIZED:  # a sanitizer keeps what was freed
        assert resident_kib() - before < 1024
    assert "rk_ring" not in Path("/proc/self/maps").read_text()
    packets = Path("/proc/self/net/packet").read_text().splitlines()
    assert len(packets) == 1  # its heading


def test_many_threads_open_and_close_and_nothing_leaks(veth: VethPair) -> None:
    check_leaks(veth, 160)


@pytest.mark.slow
def test_ten_thousand_rings_leak_nothing(veth: VethPair) -> None:
    check_leaks(veth, 10_000)


def test_a_ring_that_was_never_closed_warns(veth: VethPair) -> None:
    ring = far_ring(veth)
    fd = ring.fileno()
    with pytest.warns(ResourceWarning, match=f"PacketRing on {veth.far}"):
        del ring
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


# ---- asyncio ----------------------------------------------------------------------------------------


def test_async_for_gives_frames_without_threads(veth: VethPair) -> None:
    async def read() -> list[int]:
        seen = []
        with far_ring(veth) as ring:
            asyncio.get_running_loop().call_later(0.1, send, veth, numbered(veth, 300))
            threads = threading.active_count()
            async for frame in ring:
                seen.append(number_of(frame.data))
                assert threading.active_count() == threads
                if len(seen) == 300:
                    return seen
        raise AssertionError

    assert asyncio.run(read()) == list(range(300))


def test_cancelling_leaves_nothing_open(veth: VethPair) -> None:
    async def work() -> None:
        with far_ring(veth) as ring:
            descriptors = os.listdir("/proc/self/fd")

            async def read() -> None:
                async for _ in ring:
                    raise AssertionError

            task = asyncio.create_task(read())
            await asyncio.sleep(0.12)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert os.listdir("/proc/self/fd") == descriptors
            assert len(await ring.areceive(0.05)) == 0
            send(veth, numbered(veth, 1))
            assert len(await ring.areceive(5.0)) == 1

    asyncio.run(work())


def test_closing_ends_an_async_iteration(veth: VethPair) -> None:
    async def work() -> int:
        with far_ring(veth) as ring:
            asyncio.get_running_loop().call_later(0.1, ring.close)
            return len([frame async for frame in ring])

    assert asyncio.run(work()) == 0


def test_a_removed_interface_is_an_error_in_a_loop_too(veth: VethPair) -> None:
    async def work() -> list[int | None]:
        errors = []
        with PacketRing(veth.near, filter="ether proto 0x88b5", memory_len=SMALL) as ring:
            removal = asyncio.create_task(asyncio.to_thread(delete_link, veth.near))
            while len(errors) < 2:
                try:
                    assert len(await ring.areceive(5.0))
                except EngineError as error:
                    errors.append(error.errno)
            await removal
        return errors

    assert asyncio.run(work()) == [errno.ENETDOWN, errno.ENXIO]


# ---- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": 0}, "no EtherType"),
        ({"block_timeout": 0.0001}, "0.001 to 1"),
        ({"fanout": "dice"}, "none of hash"),
        ({"interface": None, "promiscuous": True}, "needs one interface"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PacketRing(**{"interface": "lo"} | options)
    with pytest.raises(ValueError, match="0 rings"):
        fan_out(0, "lo")


def test_refusals_say_what_was_asked_for() -> None:
    with pytest.raises(UnknownInterface, match="nope0"):
        PacketRing("nope0")
    with pytest.raises(EngineError, match="256 blocks of 4097 octets") as refused:
        PacketRing("lo", block_len=4097, memory_len=4097 * 256)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.skipif(SANITIZED, reason="a sanitizer needs more address space than that itself")
def test_more_memory_than_there_is_is_an_error_that_says_how_much() -> None:
    code = """if True:
        import resource
        from rawkit.engine import PacketRing
        from rawkit.engine.namespace import become_namespace_root
        resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
        try:
            PacketRing("lo", memory_len=1 << 29)
        except OSError as error:
            print(error.errno, error)
        PacketRing("lo", memory_len=1 << 20).close()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"{errno.ENOMEM} open ring on lo: Cannot allocate memory; 2048 blocks of 262144 octets\n"
    )


def test_without_privilege_the_capability_is_named(ordinary: list[str]) -> None:
    code = "from rawkit.engine import PacketRing; PacketRing('lo')"
    done = subprocess.run([*ordinary, "-c", code], capture_output=True, text=True)
    assert "PermissionDenied: open ring on lo: Operation not permitted; needs CAP_NET_RAW" in done.stderr


def test_importing_it_is_cheap() -> None:
    code = "import rawkit.engine.ring, sys; print('asyncio' in sys.modules, 'socket' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"


def test_counters_have_names() -> None:
    assert RingCounters(10, 2, 4, 1, 1, 0).waiting == 3


def test_a_signal_handler_ends_a_wait_without_end(veth: VethPair) -> None:
    with PacketRing(veth.near, filter="udp port 1") as ring:
        before = signal.signal(signal.SIGALRM, lambda *_: ring.interrupt())
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)  # more than once: the first may come too early
        try:
            assert len(ring.receive(timeout=None)) == 0
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_waiting_for_several_rings_can_be_ended_from_another_thread(veth: VethPair) -> None:
    rings = [PacketRing(name, filter="udp port 1") for name in (veth.near, "lo")]
    both = RingSet(rings, 0.01)
    try:
        timer = threading.Timer(0.05, both.interrupt)
        timer.start()
        assert len(both.receive(timeout=None)) == 0
        timer.join()
        assert both.counters().waiting == 0
    finally:
        both.close()


def test_a_clock_that_was_set_back_does_not_hold_up_several_rings(
    veth: VethPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames' times lie an hour ahead of what the clock says now: the order is that of arrival."""
    now_ns = ringset.realtime_ns
    monkeypatch.setattr(ringset, "realtime_ns", lambda: now_ns() - 3600 * 10**9)
    rings = [PacketRing(name, filter=f"ether proto {LOCAL}") for name in (veth.near, "lo")]
    both = RingSet(rings, 0.01)
    try:
        with veth.namespace.enter(), PacketSocket(veth.far) as sender:
            for i in range(3):
                sender.send(veth.near_mac + veth.far_mac + LOCAL.to_bytes(2, "big") + bytes([i]) * 46)
        found: list[bytes] = []
        end = time.monotonic() + 10
        while len(found) < 3 and time.monotonic() < end:
            found += list(both.receive(timeout=0.1))
        assert [octets[14] for octets in found] == [0, 1, 2]
    finally:
        both.close()
