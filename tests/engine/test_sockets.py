"""Packet and raw IP sockets against the kernel: loopback and veth pairs in a private namespace."""

from __future__ import annotations

import errno
import gc
import os
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

from rawkit.engine import FrameBatch, PacketSocket, RawIPSocket, compile_filter, realtime_ns
from rawkit.engine.batch import KERNEL_TIME, OUTGOING, REBUILT_IP, VLAN
from rawkit.engine.checksum import checksum
from rawkit.errors import EngineError, FilterError, PermissionDenied, RawkitError, UnknownInterface
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net

BIG = 1 << 22


def collect(sock: PacketSocket | RawIPSocket, n: int, timeout: float = 2.0) -> list[Frame]:
    """The next n frames, or fewer when they do not come in time."""
    frames: list[Frame] = []
    for frame in sock.frames(timeout):
        frames.append(frame)
        if len(frames) == n:
            break
    return frames


def echo_request(identifier: int, seq: int, data: bytes = b"", kind: int = 8) -> bytes:
    message = struct.pack(">BBHHH", kind, 0, 0, identifier, seq) + data
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def ipv4(
    protocol: int, payload: bytes, dst: str, src: str = "0.0.0.0", ttl: int = 64, tos: int = 0, id: int = 0
) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, tos, 20 + len(payload), id, 0, ttl, protocol, 0)
    return head + socket.inet_aton(src) + socket.inet_aton(dst) + payload


def ipv6(
    protocol: int, payload: bytes, dst: str, src: str = "::", hop_limit: int = 64, tclass: int = 0
) -> bytes:
    head = struct.pack(">IHBB", 6 << 28 | tclass << 20, len(payload), protocol, hop_limit)
    return head + socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + payload


@contextmanager
def alarm(seconds: float, handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- packet sockets: what a frame carries ---------------------------------------------------------


def test_frames_cross_a_veth_pair_unchanged_and_stamped_by_the_kernel(veth: VethPair) -> None:
    sent = [veth.header(LOCAL) + bytes([i]) * (46 + i * 13) for i in range(64)]
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
    ):
        batch = FrameBatch(64)
        batch.extend(sent)
        before = realtime_ns()
        assert near.send_batch(batch) == 64
        received = FrameBatch(256)
        got: list[bytes] = []
        while len(got) < 64 and far.receive(received, 1.0):
            got += list(received)
            for record in received.records():
                assert before <= record.time_ns <= realtime_ns()
                assert record.flags & KERNEL_TIME
                assert not record.flags & OUTGOING
                assert (record.ifindex, record.protocol) == (veth.far_index, LOCAL)
                assert record.wire_len == record.cap_len
        assert got == sent
        assert far.counters() == (64, 0)
        assert near.counters() == (0, 0)
        assert far.linktype == 1


def test_a_datagram_of_the_kernel_is_seen_with_its_direction(veth: VethPair) -> None:
    with (
        PacketSocket(veth.near, filter="udp port 9") as near,
        PacketSocket(veth.far, filter="udp port 9", namespace=veth.namespace) as far,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"payload", (veth.far_ipv4, 9))
        (left,) = collect(near, 1)
        (arrived,) = collect(far, 1)
    assert (left.direction, arrived.direction) == ("out", "in")
    assert (left.interface, arrived.interface) == (veth.near, veth.far)
    assert left.data == arrived.data
    assert arrived.data.endswith(b"payload")
    assert arrived.data[:14] == veth.header(0x0800)
    # veth has no hardware: the checksum that the kernel left to it is never computed.
    assert (left.checksum, arrived.checksum) == ("not ready", "not ready")


def test_checksum_not_ready_is_true(veth: VethPair) -> None:
    """Frames flagged so really hold a wrong checksum; those of a socket with SO_NO_CHECK have no flag."""
    with (
        PacketSocket(veth.far, filter="udp port 9", namespace=veth.namespace) as far,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"payload", (veth.far_ipv4, 9))
        sock.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
        sock.sendto(b"payload", (veth.far_ipv4, 9))
        frames = collect(far, 2)
    assert [frame.checksum == "not ready" for frame in frames] == [True, False]
    flagged, plain = (frame.data[14:] for frame in frames)
    pseudo = flagged[12:20] + struct.pack(">HH", 17, len(flagged) - 20)
    assert checksum(pseudo + flagged[20:]) != 0
    assert plain[26:28] == b"\0\0"


def test_merged_segments_say_how_long_each_one_is(veth: VethPair) -> None:
    with (
        PacketSocket(veth.far, filter="udp port 9", namespace=veth.namespace) as far,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.setsockopt(17, 103, 500)  # SOL_UDP, UDP_SEGMENT
        sock.sendto(bytes(5100), (veth.far_ipv4, 9))
        sock.sendto(bytes(100), (veth.far_ipv4, 9))
        merged, single = collect(far, 2)
    assert (merged.gso_len, len(merged.data), merged.wire_len) == (500, 5142, 5142)
    assert (single.gso_len, len(single.data)) == (0, 142)


def test_tcp_in_bulk_arrives_in_frames_longer_than_the_mtu_and_whole(veth: VethPair) -> None:
    data = os.urandom(400_000)
    with veth.namespace.enter():
        server = socket.create_server(("10.77.0.2", 5001))
    with (
        server,
        PacketSocket(veth.far, filter="tcp dst port 5001", buffer_len=BIG, namespace=veth.namespace) as far,
        socket.create_connection(("10.77.0.2", 5001)) as client,
        server.accept()[0] as conn,
    ):
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(1)))
        sender.start()
        while conn.recv(1 << 16):
            pass
        sender.join()
        frames = list(far.frames(timeout=0.1))
        dropped = far.counters().dropped
    assert dropped == 0
    assert max(len(frame.data) for frame in frames) > 3000
    assert all(len(frame.data) == frame.wire_len for frame in frames)
    assert all(0 < frame.gso_len < 1500 for frame in frames if frame.wire_len > 1514)
    assert tcp_payload(frames, len(data)) == data


@pytest.mark.parametrize("tags", TAG_STACKS.values(), ids=TAG_STACKS)
def test_vlan_tags_come_back_where_they_were(veth: VethPair, tags: list[tuple[int, int]]) -> None:
    octets = tagged_frame(veth, tags)
    with PacketSocket(veth.near) as near, PacketSocket(veth.far, namespace=veth.namespace) as far:
        near.send(octets)
        batch = FrameBatch()
        while far.receive(batch, 1.0):
            tagged = [(o, r) for o, r in zip(batch, batch.records()) if r.flags & VLAN]
            if tagged:
                break
        ((seen, record),) = tagged
    assert seen == octets
    assert (record.vlan_tpid, record.vlan_tci) == tags[0]
    assert record.cap_len == record.wire_len == len(octets)


def test_loopback_shows_each_frame_twice_unless_outgoing_ones_are_ignored() -> None:
    with (
        PacketSocket("lo", filter="udp port 9") as both,
        PacketSocket("lo", filter="udp port 9", ignore_outgoing=True) as once,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"x", ("127.0.0.1", 9))
        assert [frame.direction for frame in both.frames(timeout=0.2)] == ["out", "in"]
        assert [frame.direction for frame in once.frames(timeout=0.2)] == ["in"]


def test_a_socket_does_not_hear_itself(veth: VethPair) -> None:
    with PacketSocket(veth.near, protocol=3) as near:
        near.send(veth.header(LOCAL) + bytes(46))
        assert not [f for f in near.frames(timeout=0.1) if f.data[12:14] == LOCAL.to_bytes(2, "big")]


def test_all_interfaces_are_told_apart_and_sent_to_by_number(veth: VethPair) -> None:
    with (
        PacketSocket(None, filter="udp port 9") as sock,
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.sendto(b"x", ("127.0.0.1", 9))
        udp.sendto(b"x", (veth.far_ipv4, 9))
        assert [frame.interface for frame in collect(sock, 3)] == ["lo", "lo", veth.near]
        with pytest.raises(EngineError, match="needs ifindex") as caught:
            sock.send(veth.header(LOCAL) + bytes(46))
        assert caught.value.errno == errno.EDESTADDRREQ
        sock.send(veth.header(LOCAL) + bytes(46), ifindex=veth.near_index)
        assert len(collect(far, 1)) == 1
        with pytest.raises(ValueError, match="one interface"):
            PacketSocket(None, promiscuous=True)


def test_promiscuity_lasts_as_long_as_the_socket(veth: VethPair) -> None:
    from pyroute2 import IPRoute

    def promiscuity() -> int:
        with IPRoute() as route:
            return int(route.get_links(veth.near_index)[0].get_attr("IFLA_PROMISCUITY"))

    with PacketSocket(veth.near, promiscuous=True):
        assert promiscuity() == 1
    assert promiscuity() == 0


# ---- cooked ----------------------------------------------------------------------------------------


def test_cooked_sockets_move_packets_over_loopback() -> None:
    with (
        PacketSocket("lo", cooked=True, filter="udp port 7777") as sock,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as kernel,
    ):
        kernel.bind(("::1", 7777))
        kernel.settimeout(2)
        datagram = struct.pack(">HHHH", 9, 7777, 8 + 5, 0) + b"hello"
        packet = ipv6(17, datagram, "::1", "::1")
        correct = checksum(packet[8:40] + struct.pack(">IHH", len(datagram), 0, 17) + datagram)
        packet = packet[:46] + correct.to_bytes(2, "big") + packet[48:]
        sock.send(packet)
        assert kernel.recvfrom(100)[:1] == (b"hello",)
        (frame,) = collect(sock, 1)
        assert (frame.data, frame.linktype, frame.direction) == (packet, 101, "in")


def test_cooked_sockets_send_to_everyone_on_ethernet(veth: VethPair) -> None:
    packet = ipv6(59, b"", veth.far_ipv6, veth.near_ipv6)
    with (
        PacketSocket(veth.near, cooked=True, protocol=0) as near,
        PacketSocket(veth.far, filter="ip6 proto 59", namespace=veth.namespace) as far,
    ):
        near.send(packet)
        (frame,) = collect(far, 1)
    assert frame.data == b"\xff" * 6 + veth.near_mac + b"\x86\xdd" + packet


def test_bare_sockets_tell_octets_and_when_they_came() -> None:
    with (
        PacketSocket(None, cooked=True, bare=True, protocol=0x0800, filter="udp port 7778") as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        before_ns = time.time_ns()
        udp.sendto(b"hello", ("127.0.0.1", 7778))
        after_ns = time.time_ns()
        (frame,) = collect(sock, 1)
    assert (frame.data[-5:], frame.wire_len, frame.linktype) == (b"hello", 33, 101)
    assert (frame.interface, frame.direction) == ("", "")
    assert before_ns <= frame.time_ns <= after_ns
    for options in ({}, {"cooked": True, "sll2": True}):
        with pytest.raises(ValueError, match="bare"):
            PacketSocket(None, bare=True, **options)


def test_sll2_reads_like_a_capture_of_tcpdump(veth: VethPair, tmp_path: Path) -> None:
    with (
        PacketSocket(None, sll2=True, filter="udp port 9") as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.sendto(b"x", ("127.0.0.1", 9))
        udp.sendto(b"x", (veth.far_ipv4, 9))
        frames = collect(sock, 3)
    assert {frame.linktype for frame in frames} == {276}
    records = b"".join(struct.pack("<IIII", 1, 0, len(f.data), f.wire_len) + f.data for f in frames)
    path = tmp_path / "any.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 276) + records)
    command = [*tcpdump(), "-ntr", str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["lo", "Out", "IP"],
        ["lo", "In", "IP"],
        ["v0", "Out", "IP"],
    ]
    assert all(line.endswith(".9: UDP, length 1") for line in lines)
    hardware, kind, halen = struct.unpack(">HBB", frames[2].data[8:12])
    assert (hardware, kind, halen, frames[2].data[12:18]) == (1, 4, 6, veth.near_mac)


def test_interfaces_without_link_header_start_at_layer_3() -> None:
    import fcntl

    try:
        tun = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no tun device: {error}")
    try:
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001))  # TUNSETIFF: IFF_TUN, IFF_NO_PI
        set_link("tun7", state="up")
        packet = ipv4(17, struct.pack(">HHHH", 9, 9, 8, 0), "192.0.2.1", "192.0.2.2")
        with PacketSocket("tun7", filter="udp port 9") as sock:
            assert sock.linktype == 101
            sock.send(packet)
            while (seen := os.read(tun, 2000))[0] >> 4 == 6:  # the kernel's own router solicitation
                pass
            assert seen == packet
            os.write(tun, packet)
            (frame,) = collect(sock, 1)
            assert (frame.data, frame.linktype) == (packet, 101)
    finally:
        os.close(tun)


# ---- filters live ----------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", VARIED_FILTERS)
def test_a_filter_gives_the_same_live_as_offline(veth: VethPair, expression: str) -> None:
    marks = varied(veth)
    compiled = compile_filter(expression)
    with (
        PacketSocket(veth.near) as near,
        PacketSocket(veth.far, filter=compiled, namespace=veth.namespace) as far,
        PacketSocket(veth.far, namespace=veth.namespace) as unfiltered,
    ):
        for octets in marks:
            near.send(octets)
        everything = [frame.data for frame in unfiltered.frames(timeout=0.1)]
        passed = [frame.data for frame in far.frames(timeout=0.1)]
        assert [octets for octets in everything if octets in marks] == marks
        assert [octets for octets in passed if octets in marks] == list(filter(compiled.matches, marks))


def test_frames_rejected_after_their_tag_was_put_back_do_not_count(veth: VethPair) -> None:
    macs = veth.header(0)[:12]
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, filter="vlan 7", namespace=veth.namespace) as far,
    ):
        for vlan in (8, 7, 8, 7, 7, 8):
            near.send(macs + struct.pack(">HHH", 0x8100, vlan, LOCAL) + bytes(46))
        assert len(collect(far, 3)) == 3
        assert far.receive(FrameBatch(), 0) == 0
        assert far.counters() == (3, 0)


def test_nothing_unfiltered_is_heard_while_opening(veth: VethPair) -> None:
    unwanted = FrameBatch(64)
    unwanted.extend([veth.header(LOCAL) + bytes(46)] * 64)
    stop = threading.Event()

    def flood() -> None:
        with PacketSocket(veth.near, protocol=0) as near:
            while not stop.is_set():
                near.send_batch(unwanted)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        batch = FrameBatch()
        for _ in range(100):
            with PacketSocket(veth.far, filter="ether proto 0x88b6", namespace=veth.namespace) as far:
                assert far.receive(batch, 0) == 0
                assert far.counters() == (0, 0)
    finally:
        stop.set()
        thread.join()


def test_a_filter_that_does_not_fit_the_link_layer_opens_nothing(veth: VethPair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FilterError, match="syntax"):
        PacketSocket(veth.near, filter="no such thing (")
    with pytest.raises(FilterError, match=r"(?i)vlan"):
        PacketSocket("lo", cooked=True, filter="vlan")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_filter_may_cut_frames_and_the_record_tells(veth: VethPair) -> None:
    cut = compile_filter("ether proto 0x88b5", snaplen=60)
    with (
        PacketSocket(veth.near) as near,
        PacketSocket(veth.far, filter=cut, namespace=veth.namespace) as far,
    ):
        octets = veth.header(LOCAL) + bytes(range(200))
        near.send(octets)
        (frame,) = collect(far, 1)
    assert (frame.data, frame.wire_len) == (octets[:60], 214)


# ---- room, counters, loss --------------------------------------------------------------------------


def test_a_small_arena_delays_frames_and_loses_none(veth: VethPair) -> None:
    sent = [veth.header(LOCAL) + bytes([i]) * 1000 for i in range(50)]
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, buffer_len=BIG, namespace=veth.namespace) as far,
    ):
        for octets in sent:
            near.send(octets)
        batch = FrameBatch(64, 3000)
        got: list[bytes] = []
        while far.receive(batch, 0.1):
            assert len(batch) <= 2
            got += list(batch)
    assert got == sent


def test_a_frame_longer_than_the_arena_is_cut(veth: VethPair) -> None:
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
    ):
        octets = veth.header(LOCAL) + bytes(range(200))
        tagged = octets[:12] + b"\x81\x00\x00\x05" + octets[12:]
        near.send(octets)
        batch = FrameBatch(4, 100)
        assert far.receive(batch, 1.0) == 1
        (record,) = batch.records()
        assert (batch[0], record.wire_len) == (octets[:100], 214)
        with PacketSocket(veth.far, filter="vlan", namespace=veth.namespace) as far_tagged:
            near.send(tagged)
            tiny = FrameBatch(4, 13)
            assert far_tagged.receive(tiny, 0) == 0  # too little is left of it to tell
            near.send(tagged)
            assert far_tagged.receive(batch, 1.0) == 1
            assert (batch[0], batch.records()[0].wire_len) == (tagged[:100], 218)


def test_counters_add_up_when_frames_are_lost(veth: VethPair) -> None:
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, buffer_len=8192, namespace=veth.namespace) as far,
    ):
        batch = FrameBatch(500)
        batch.extend([veth.header(LOCAL) + bytes(100)] * 500)
        assert near.send_batch(batch) == 500
        while far.counters().received < 500:
            time.sleep(0.01)
        counted = far.counters()
        delivered = len(list(far.frames(timeout=0.1)))
        assert 0 < delivered < 500
        assert counted == (500, 500 - delivered)
        assert near.send_batch(batch, 0, 3) == 3
        assert len(collect(far, 3)) == 3
        assert far.counters() == (503, 500 - delivered)  # running totals, though the kernel starts again


def test_a_raw_socket_counts_what_it_lost() -> None:
    with RawIPSocket(4, 253) as sender, RawIPSocket(4, 253, buffer_len=8192) as receiver:
        batch = FrameBatch(300)
        batch.extend([ipv4(253, bytes(100), "127.0.0.1")] * 300)
        assert sender.send_batch(batch) == 300
        delivered = len(list(receiver.frames(timeout=0.1)))
        assert 0 < delivered < 300
        assert receiver.counters() == (300, 300 - delivered)


# ---- refusals --------------------------------------------------------------------------------------


def test_a_frame_over_the_mtu_is_refused_with_both_sizes(veth: VethPair) -> None:
    with PacketSocket(veth.near) as near:
        with pytest.raises(EngineError, match=r"send on v0: .*1515 octets.*MTU of 1500") as caught:
            near.send(veth.header(LOCAL) + bytes(1501))
        assert caught.value.errno == errno.EMSGSIZE
        near.send(veth.header(LOCAL) + bytes(1500))
        near.send(veth.header(0x8100) + bytes([0, 5, 0x88, 0xB5]) + bytes(1500))  # a tag comes on top
        with pytest.raises(EngineError, match="13 octets") as caught:
            near.send(bytes(13))
        assert caught.value.errno == errno.EINVAL


def test_a_refused_frame_holds_back_only_those_after_it(veth: VethPair) -> None:
    good, long = veth.header(LOCAL) + bytes(46), veth.header(LOCAL) + bytes(2000)
    batch = FrameBatch(16, 1 << 16)
    batch.extend([good, good, long, good])
    with (
        PacketSocket(veth.near) as near,
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
    ):
        assert near.send_batch(batch) == 2
        with pytest.raises(EngineError, match="2014 octets"):
            near.send_batch(batch, 2)
        assert near.send_batch(batch, 3) == 1
        assert len(list(far.frames(timeout=0.1))) == 3
        for first, n in ((0, 5), (5, 0), (-1, 1), (0, -1)):
            with pytest.raises(ValueError, match="batch that holds 4"):
                near.send_batch(batch, first, n)
        assert near.send_batch(batch, 4) == 0


def test_a_full_queue_is_waited_for_up_to_the_timeout(veth: VethPair) -> None:
    tc = oracle("tc")
    rate = ["tbf", "rate", "80kbit", "burst", "1600", "limit", "3000"]
    done = subprocess.run(
        [tc, "qdisc", "replace", "dev", veth.near, "root", *rate], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no token bucket filter in this kernel: {done.stderr.strip()}")
    batch = FrameBatch(20)
    batch.extend([veth.header(LOCAL) + bytes(1000)] * 20)
    with (
        PacketSocket(veth.near, protocol=0) as near,
        PacketSocket(veth.far, protocol=LOCAL, namespace=veth.namespace) as far,
    ):
        began = time.monotonic()
        accepted = near.send_batch(batch, timeout=0)
        assert 0 < accepted < 20
        with pytest.raises(EngineError) as caught:
            near.send_batch(batch, accepted, timeout=0)
        assert caught.value.errno == errno.ENOBUFS
        assert near.send_batch(batch, accepted, 2, timeout=10) == 2  # 10 frames a second get through
        assert time.monotonic() - began > 0.02
        assert len(collect(far, accepted + 2)) == accepted + 2


def test_an_interface_that_goes_down_is_reported_once_and_comes_back(veth: VethPair) -> None:
    batch = FrameBatch()
    with PacketSocket(veth.near, protocol=LOCAL) as near:
        set_link(veth.near, state="down")
        with pytest.raises(EngineError, match="receive on v0") as caught:
            near.receive(batch, 1.0)
        assert caught.value.errno == errno.ENETDOWN
        assert near.receive(batch, 0.15) == 0
        with pytest.raises(EngineError) as caught:
            near.send(veth.header(LOCAL) + bytes(46))
        assert caught.value.errno == errno.ENETDOWN
        assert near.receive(batch, 0.15) == 0
        set_link(veth.near, state="up")
        with PacketSocket(veth.far, protocol=0, namespace=veth.namespace) as far:
            far.send(veth.near_mac + veth.far_mac + LOCAL.to_bytes(2, "big") + bytes(46))
        assert near.receive(batch, 1.0) == 1
        near.send(veth.header(LOCAL) + bytes(46))


def test_sending_does_not_swallow_that_the_interface_was_down(veth: VethPair) -> None:
    batch = FrameBatch()
    with PacketSocket(veth.near, protocol=LOCAL) as near:
        set_link(veth.near, state="down")
        set_link(veth.near, state="up")
        near.send(veth.header(LOCAL) + bytes(46))
        with pytest.raises(EngineError) as caught:
            near.receive(batch, 1.0)
        assert caught.value.errno == errno.ENETDOWN
        assert near.receive(batch, 0) == 0


def test_an_interface_that_is_removed_is_reported_while_the_timeout_runs(veth: VethPair) -> None:
    batch = FrameBatch()
    with PacketSocket(veth.near) as near:
        delete_link(veth.near)
        reported = []
        began = time.monotonic()
        while errno.ENXIO not in reported and time.monotonic() - began < 10:
            try:
                near.receive(batch, 60.0)
            except EngineError as error:
                reported.append(error.errno or 0)
        assert reported == [errno.ENETDOWN, errno.ENXIO]
        with pytest.raises(EngineError) as caught:
            near.send(bytes(60))
        assert caught.value.errno == errno.ENXIO
        assert near.counters().dropped == 0


@pytest.mark.parametrize(
    "interface", ["nope0", 4711, -1, "", "name-of-more-than-fifteen-letters", "a\0b", 2**40]
)
def test_a_missing_interface_is_named(interface: str | int) -> None:
    with pytest.raises(UnknownInterface, match="no interface"):
        PacketSocket(interface)
    with pytest.raises(UnknownInterface):
        RawIPSocket(4, 1, interface=interface)


def test_nonsense_is_refused_before_anything_is_opened() -> None:
    for arguments in ((5, 1), (4, 256), (4, -1)):
        with pytest.raises(ValueError, match="neither|within"):
            RawIPSocket(*arguments)
    with pytest.raises(ValueError, match="protocol 1, not 58"):
        RawIPSocket(4, 58, icmp_datagram=True)
    with pytest.raises(ValueError, match="EtherType"):
        PacketSocket("lo", protocol=65536)
    with PacketSocket("lo") as sock, pytest.raises(ValueError, match="timeout"):
        sock.receive(FrameBatch(), -1)


# ---- raw IP ----------------------------------------------------------------------------------------


def test_an_ipv4_header_goes_out_as_given_and_a_reply_comes_whole(veth: VethPair) -> None:
    with (
        RawIPSocket(4, 1, filter="icmp[icmptype] = icmp-echoreply") as sock,
        PacketSocket(veth.far, filter="icmp[icmptype] = icmp-echo", namespace=veth.namespace) as wire,
    ):
        given = ipv4(1, echo_request(77, 1, b"data"), veth.far_ipv4, ttl=9, tos=0x28, id=4711)
        sock.send(given)
        (seen,) = collect(wire, 1)
        (reply,) = collect(sock, 1)
    sent = seen.data[14:]
    # The kernel fills in source and header checksum, nothing else.
    assert sent[:10] + sent[16:] == given[:10] + given[16:]
    assert sent[12:16] == socket.inet_aton(veth.near_ipv4)
    assert checksum(sent[:20]) == 0
    assert reply.data[12:20] == socket.inet_aton(veth.far_ipv4) + socket.inet_aton(veth.near_ipv4)
    assert reply.data[20:] == echo_request(77, 1, b"data", kind=0)
    assert (reply.linktype, reply.interface) == (101, veth.near)


def test_without_its_own_header_the_facts_of_it_still_go_along(veth: VethPair) -> None:
    with (
        RawIPSocket(4, 1, header_included=False) as sock,
        PacketSocket(veth.far, filter="icmp[icmptype] = icmp-echo", namespace=veth.namespace) as wire,
    ):
        request = echo_request(78, 1, b"data")
        sock.send(ipv4(1, request, veth.far_ipv4, ttl=9, tos=0x28))
        sock.send(ipv4(1, request, veth.far_ipv4, veth.near_ipv4))
        first, second = (frame.data[14:] for frame in collect(wire, 2))
        assert (first[1], first[8], first[20:]) == (0x28, 9, request)
        assert (second[1], second[8], second[12:16]) == (0, 64, socket.inet_aton(veth.near_ipv4))
        for bad in (
            ipv4(17, request, veth.far_ipv4),  # another protocol
            b"\x46" + ipv4(1, request, veth.far_ipv4)[1:],  # options
            ipv4(1, request, veth.far_ipv4)[:19],
            ipv6(1, request, veth.far_ipv6),
        ):
            with pytest.raises(EngineError) as caught:
                sock.send(bad)
            assert caught.value.errno == errno.EINVAL


def test_rebuilt_ipv6_packets_equal_those_on_the_wire(veth: VethPair) -> None:
    with (
        RawIPSocket(6, 58, filter="icmp6[icmp6type] = icmp6-echoreply") as sock,
        PacketSocket(veth.near, filter="icmp6 and ip6[40] = 129") as wire,
        PacketSocket(veth.far, filter="icmp6 and ip6[40] = 128", namespace=veth.namespace) as far,
    ):
        for seq, (hop_limit, tclass) in enumerate([(64, 0), (7, 0xB8)]):
            # Its checksum is the kernel's business on an ICMPv6 socket.
            message = struct.pack(">BBHHH", 128, 0, 0, 79, seq) + bytes(range(50))
            sock.send(ipv6(58, message, veth.far_ipv6, hop_limit=hop_limit, tclass=tclass))
            (sent,) = collect(far, 1)
            assert sent.data[21] == hop_limit
            assert int.from_bytes(sent.data[14:16], "big") >> 4 & 0xFF == tclass
            batch = FrameBatch()
            assert sock.receive(batch, 2.0) == 1
            (record,) = batch.records()
            assert record.flags & REBUILT_IP
            assert record.ifindex == veth.near_index
            (on_wire,) = collect(wire, 1)
            assert batch[0] == on_wire.data[14:]


def test_protocol_255_sends_ipv6_packets_with_everything_they_have(veth: VethPair) -> None:
    options = bytes([17, 0, 1, 4, 0, 0, 0, 0])  # destination options: padding
    datagram = struct.pack(">HHHH", 9, 9, 8, 0x1234)
    packet = ipv6(60, options + datagram, veth.far_ipv6, "2001:db8::5", hop_limit=3, tclass=1)
    packet = packet[:1] + b"\x12\x34\x56" + packet[4:]  # a flow label
    with (
        RawIPSocket(6, 255) as sock,
        PacketSocket(veth.far, filter="ip6 proto 60", namespace=veth.namespace) as far,
    ):
        sock.send(packet)
        (frame,) = collect(far, 1)
    assert frame.data[14:] == packet


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("header_included", [True, False])
def test_echo_over_loopback(family: int, header_included: bool) -> None:
    protocol, reply_type = (1, 0) if family == 4 else (58, 129)
    with RawIPSocket(family, protocol, header_included=header_included) as sock:
        if family == 4:
            sock.send(ipv4(1, echo_request(5, 6, b"abc"), "127.0.0.1"))
        else:
            sock.send(ipv6(58, struct.pack(">BBHHH", 128, 0, 0, 5, 6) + b"abc", "::1"))
        start = 20 if family == 4 else 40
        replies = [f.data[start:] for f in sock.frames(timeout=0.2) if f.data[start] == reply_type]
    assert [reply[4:] for reply in replies] == [struct.pack(">HH", 5, 6) + b"abc"]


def allow_ping(veth: VethPair) -> None:
    """Open ICMP datagram sockets to everybody in the far namespace; it goes away with it."""
    with veth.namespace.enter():
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")


def test_icmp_datagrams_get_an_identifier_and_a_rebuilt_header(veth: VethPair) -> None:
    allow_ping(veth)
    with (
        RawIPSocket(
            4, 1, icmp_datagram=True, filter="icmp[icmptype] = icmp-echoreply", namespace=veth.namespace
        ) as sock,
        PacketSocket(veth.far, filter="icmp", namespace=veth.namespace) as wire,
    ):
        sock.send(ipv4(1, echo_request(1, 2, b"abc"), veth.near_ipv4, ttl=33, tos=0x10))
        request, answer = (frame.data[14:] for frame in collect(wire, 2))
        assert int.from_bytes(request[24:26], "big") == sock.icmp_id != 1
        assert (request[8], request[1]) == (33, 0x10)
        batch = FrameBatch()
        assert sock.receive(batch, 2.0) == 1
        packet = batch[0]
        assert batch.records()[0].flags & REBUILT_IP
        assert checksum(packet[:20]) == 0
        # Identification and flags are not told, so the checksum differs too; the rest is as it came.
        assert packet[:4] + packet[8:10] + packet[12:] == answer[:4] + answer[8:10] + answer[12:]


def test_icmpv6_datagrams(veth: VethPair) -> None:
    allow_ping(veth)
    with (
        RawIPSocket(6, 58, icmp_datagram=True, namespace=veth.namespace) as sock,
        PacketSocket(veth.far, filter="icmp6 and ip6[40] = 129", namespace=veth.namespace) as wire,
    ):
        message = struct.pack(">BBHHH", 128, 0, 0, 0, 9) + b"abc"
        sock.send(ipv6(58, message, veth.near_ipv6, hop_limit=12))
        (reply,) = collect(sock, 1)
        (on_wire,) = collect(wire, 1)
        assert int.from_bytes(reply.data[44:46], "big") == sock.icmp_id
    assert reply.data == on_wire.data[14:]


@pytest.mark.parametrize("family", [4, 6])
def test_icmp_datagrams_hear_the_errors_about_their_requests(veth: VethPair, family: int) -> None:
    """As they were on the wire, but for what the error queue does not tell of the quoted IP header."""
    allow_ping(veth)
    prefix, address = ("198.51.100.", veth.near_ipv4) if family == 4 else ("2001:db8::", veth.near_ipv6)
    forbidden, far_away = prefix + "1", prefix + "2"
    hop = veth.far_ipv4 if family == 4 else veth.far_ipv6
    kind, unreachable, exceeded = (8, (3, 13), (11, 0)) if family == 4 else (128, (1, 1), (3, 0))
    head, wanted = (20, "icmp") if family == 4 else (40, "icmp6")
    body = struct.pack(">BBHHH", kind, 0, 0, 0, 9) + b"abcd" * 14

    def request(target: str, hop_limit: int) -> bytes:
        return (
            ipv4(1, body, target, ttl=hop_limit)
            if family == 4
            else ipv6(58, body, target, hop_limit=hop_limit)
        )

    with (
        router(veth, address, forbidden, far_away, hop),
        RawIPSocket(family, 1 if family == 4 else 58, icmp_datagram=True, namespace=veth.namespace) as sock,
        PacketSocket(veth.far, filter=f"{wanted} and src host {address}", namespace=veth.namespace) as wire,
    ):
        for target, said in ((forbidden, unreachable), (far_away, exceeded), (forbidden, unreachable)):
            for _ in range(5):  # nobody promises an error for each request
                sock.send(request(target, 9 if target == forbidden else 1))
                if errors := collect(sock, 1):
                    break
            packet = errors[0].data
            assert (packet[head], packet[head + 1]) == said
            seen = next(f.data[14:] for f in wire.frames(timeout=5) if f.data[14 + head] == said[0])
            quoted = head + 8
            if family == 4:
                assert packet[12:20] == seen[12:20]
                assert (packet[8], packet[1]) == (seen[8], seen[1])
                assert checksum(packet[:20]) == checksum(packet[20:]) == 0
                assert packet[quoted + 12 : quoted + 20] == seen[quoted + 12 : quoted + 20]
            else:
                assert packet[:40] == seen[:40]
                upper = packet[8:40] + struct.pack(">IHH", len(packet) - 40, 0, 58) + packet[40:]
                assert checksum(upper) == 0
                assert packet[quoted + 8 : quoted + 40] == seen[quoted + 8 : quoted + 40]
            assert packet[head : head + 2] + packet[head + 4 : head + 8] == (
                seen[head : head + 2] + seen[head + 4 : head + 8]
            )
            assert packet[quoted + head :] == seen[quoted + head :]
        # Nothing is left of it for what follows, neither for sending nor for receiving.
        sock.send(request(forbidden, 9))
        next(f for f in wire.frames(timeout=5) if f.data[14 + head] == unreachable[0])
        sock.send(request(address, 9))
        assert [frame.data[head] for frame in collect(sock, 2)] == [unreachable[0], 0 if family == 4 else 129]


@contextmanager
def router(veth: VethPair, address: str, forbidden: str, far_away: str, hop: str) -> Iterator[None]:
    """Let the near host be a router on the way from the far one to two addresses, one of them prohibited."""
    from pyroute2 import IPRoute

    settings = {
        "ipv4/ip_forward": "1",
        "ipv6/conf/all/forwarding": "1",
        "ipv4/icmp_ratelimit": "0",
        "ipv6/icmp/ratelimit": "0",
    }
    paths = {Path("/proc/sys/net", name): value for name, value in settings.items()}
    before = {path: path.read_text() for path in paths}
    with IPRoute() as route:
        try:
            for path, value in paths.items():
                path.write_text(value)
            route.route("replace", dst=forbidden, type="prohibit")
            route.route("add", dst=far_away, gateway=hop)
            with veth.namespace.enter(), IPRoute() as far:
                for target in (forbidden, far_away):
                    far.route("add", dst=target, gateway=address)
            yield
        finally:  # this namespace is that of the tests to come
            route.route("del", dst=forbidden, type="prohibit")
            for path, value in before.items():
                path.write_text(value)


def test_a_forbidden_icmp_datagram_socket_names_the_setting() -> None:
    value = " ".join(Path("/proc/sys/net/ipv4/ping_group_range").read_text().split())
    with pytest.raises(PermissionDenied, match=f'ping_group_range, which is "{value}"') as caught:
        RawIPSocket(4, 1, icmp_datagram=True)
    assert caught.value.errno == errno.EACCES


def test_refusals_of_the_network_are_told_from_missing_permission(veth: VethPair) -> None:
    with RawIPSocket(4, 253) as sock:
        for destination, reason in (("192.0.2.1", errno.ENETUNREACH), ("10.77.0.255", errno.EACCES)):
            with pytest.raises(EngineError) as caught:
                sock.send(ipv4(253, b"", destination))
            assert caught.value.errno == reason
            assert not isinstance(caught.value, PermissionDenied)
        with pytest.raises(EngineError) as caught:
            sock.send(ipv4(253, bytes(3000), veth.far_ipv4))
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(EngineError, match="read ICMP identifier"):
            _ = sock.icmp_id


def test_a_link_local_destination_needs_its_interface(veth: VethPair) -> None:
    link_local = bytearray(
        bytes.fromhex("fe80000000000000") + veth.far_mac[:3] + b"\xff\xfe" + veth.far_mac[3:]
    )
    link_local[8] ^= 2
    target = socket.inet_ntop(socket.AF_INET6, bytes(link_local))
    message = struct.pack(">BBHHH", 128, 0, 0, 0, 9)
    with RawIPSocket(6, 58, filter="icmp6[icmp6type] = icmp6-echoreply") as sock:
        sock.send(ipv6(58, message, target), ifindex=veth.near_index)
        (reply,) = collect(sock, 1)
        assert reply.data[8:24] == bytes(link_local)
    with RawIPSocket(6, 58, interface=veth.near, filter="icmp6[icmp6type] = icmp6-echoreply") as bound:
        bound.send(ipv6(58, message, target))
        assert len(collect(bound, 1)) == 1


def test_a_raw_socket_hears_nothing_from_before_it_was_there(veth: VethPair) -> None:
    stop = threading.Event()

    def flood() -> None:
        with RawIPSocket(4, 253) as sender:
            while not stop.is_set():
                sender.send(ipv4(253, bytes(8), "127.0.0.1"))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        batch = FrameBatch()
        for _ in range(100):
            with RawIPSocket(4, 253, interface=veth.near) as elsewhere:
                assert elsewhere.receive(batch, 0) == 0
            with RawIPSocket(4, 253, filter="src host 192.0.2.9") as choosy:
                assert choosy.receive(batch, 0) == 0
    finally:
        stop.set()
        thread.join()


# ---- waiting, signals, threads, lifetime -----------------------------------------------------------


def test_timeouts_are_kept() -> None:
    batch = FrameBatch()
    with PacketSocket("lo", protocol=LOCAL) as sock:
        for timeout in (0, 0.02, 0.15):
            took = []
            for _ in range(3):
                began = time.monotonic()
                assert sock.receive(batch, timeout) == 0
                took.append(time.monotonic() - began)
            assert timeout <= min(took) < timeout + 0.2  # the best of three, on a machine that may be busy


def test_signal_handlers_run_while_receiving_and_it_goes_on() -> None:
    ran: list[float] = []
    with PacketSocket("lo", protocol=LOCAL) as sock, alarm(0.05, lambda *_: ran.append(time.monotonic())):
        began = time.monotonic()
        assert sock.receive(FrameBatch(), 0.4) == 0
        ended = time.monotonic()
    assert len(ran) == 1
    assert ran[0] - began < 0.4
    assert ended - began >= 0.4


def test_a_signal_handler_that_raises_ends_the_call() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        PacketSocket("lo", protocol=LOCAL) as sock,
        alarm(0.05, interrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        sock.receive(FrameBatch(), None)


def test_one_thread_sends_while_another_receives(veth: VethPair) -> None:
    batch = FrameBatch()
    with (
        PacketSocket(veth.near, protocol=LOCAL) as sock,
        PacketSocket(veth.far, protocol=0, namespace=veth.namespace) as far,
    ):
        waiting = threading.Thread(target=sock.receive, args=(batch, 60))
        waiting.start()
        time.sleep(0.02)
        for _ in range(20):
            sock.send(veth.header(LOCAL) + bytes(46))
        assert waiting.is_alive()
        far.send(veth.header(LOCAL) + bytes(46))
        waiting.join(10)
        assert len(batch) == 1


def test_closing_wakes_a_thread_that_waits() -> None:
    sock = PacketSocket("lo", protocol=LOCAL)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            sock.receive(FrameBatch(), None)
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    sock.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "closed" in str(caught[0])


def test_a_closed_socket_says_so_and_closing_twice_is_harmless() -> None:
    for sock in (PacketSocket("lo"), RawIPSocket(4, 1)):
        sock.close()
        sock.close()
        assert sock.closed
        for call in (sock.fileno, sock.counters, lambda sock=sock: sock.send(b"x" * 60)):
            with pytest.raises(ValueError, match="closed"):
                call()


def test_a_forgotten_socket_warns_and_is_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.warns(ResourceWarning, match="PacketSocket on lo"):  # noqa: PT031
        PacketSocket("lo")
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


WITHOUT_PRIVILEGE = """
import sys
from rawkit.engine import PacketSocket, RawIPSocket
from rawkit.errors import PermissionDenied
for open_socket in (lambda: PacketSocket("lo"), lambda: RawIPSocket(4, 1)):
    try:
        open_socket()
    except PermissionDenied as error:
        assert isinstance(error, PermissionError)
        print(error)
"""


def test_without_privilege_the_capability_and_the_remedy_are_named() -> None:
    import rawkit

    # Root without capabilities: the same inside a user namespace, where there is no other user to become.
    command = [
        oracle("setpriv"),
        "--bounding-set=-all",
        "--inh-caps=-all",
        sys.executable,
        "-c",
        WITHOUT_PRIVILEGE,
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(rawkit.__file__).parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("open packet socket on lo: Operation not permitted; needs CAP_NET_RAW")
    assert lines[1].startswith("open raw IP socket on IPv4 protocol 1")
    assert all("run as root" in line and "`rawkit lab run`" in line for line in lines)


def test_importing_the_engine_is_cheap() -> None:
    code = "import rawkit.engine.sockets, sys; print(*(m for m in sys.modules if m.split('.')[0] in BAD))"
    bad = "BAD = {'cffi', 'pycparser', 'scapy', 'dpkt', 'pyroute2', 'libpcap', 'rich', 'numpy', 'asyncio'}; "
    done = subprocess.run([sys.executable, "-c", bad + code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_unknown_link_layers_have_to_be_cooked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rawkit.engine.interface._LINKTYPES", {})
    with pytest.raises(RawkitError, match="open it cooked"):
        PacketSocket("lo")
    with PacketSocket("lo", cooked=True) as sock:
        assert sock.linktype == 101
