"""Transmit backends over a veth pair: what they accept, choose, prove and report."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import oracles
import pytest

from rawkit.engine import FrameBatch, PacketSocket, Transmitter, open_transmitter
from rawkit.engine.transmit import FRAME_LEN
from rawkit.errors import EngineError, PermissionDenied, UnknownInterface
from rawkit.wire import UDP, IPv4, IPv6

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net

LOCAL = 0x88B5  # EtherType for local experiments


def live_or_skip(veth: VethPair) -> Transmitter:
    """An XDP transmitter on the near end, its far end ready to receive."""
    veth.receive_live_frames()
    try:
        return open_transmitter(veth.near, "xdp")
    except PermissionDenied as error:  # root of a user namespace is not enough
        pytest.skip(str(error))


def make_batch(veth: VethPair, lengths: list[int]) -> FrameBatch:
    batch = FrameBatch(len(lengths), sum(lengths))
    header = veth.header(LOCAL)
    for n, length in enumerate(lengths):
        batch.append((header + n.to_bytes(4, "big")).ljust(length, b"x")[:length])
    return batch


def listen(veth: VethPair) -> PacketSocket:
    return PacketSocket(veth.far, protocol=LOCAL, buffer_len=1 << 24, namespace=veth.namespace)


def received(sock: PacketSocket, n: int) -> list[bytes]:
    frames = []
    for frame in sock.frames(2.0):
        frames.append(frame.data)
        if len(frames) == n:
            break
    return frames


@pytest.mark.parametrize("backend", ["packet", "af-xdp", "xdp", "auto"])
def test_every_frame_arrives_whole_and_is_counted(veth: VethPair, backend: str) -> None:
    with live_or_skip(veth):
        pass
    batch = make_batch(veth, [60 + n * 37 % 1455 for n in range(1000)])
    with listen(veth) as sock, open_transmitter(veth.near, backend) as transmitter:
        assert transmitter.send_batch(batch, 0, 600, timeout=5) == 600
        assert transmitter.send_batch(batch, 600, timeout=5) == 400
        assert received(sock, 1000) == list(batch)
        report = transmitter.report()
    assert report.accepted == 1000
    assert report.failed == {}
    assert report.before is not None
    assert report.after is not None
    assert report.after.tx_packets - report.before.tx_packets >= 1000
    assert report.after.tx_bytes - report.before.tx_bytes >= sum(map(len, batch))
    assert report.backend == ("xdp" if backend == "auto" else backend)
    if backend == "auto":
        assert "the driver took the first" in report.reason
    else:
        assert report.reason == "asked for"


def test_auto_falls_back_when_the_driver_takes_none(veth: VethPair) -> None:
    """The peer takes no redirected frames: the same frames go by the AF_XDP socket, each once."""
    with live_or_skip(veth):
        pass
    veth.receive_live_frames(on=False)
    batch = make_batch(veth, [60] * 40)
    with listen(veth) as sock, open_transmitter(veth.near) as transmitter:
        assert transmitter.backend == "xdp"
        assert transmitter.send_batch(batch, timeout=5) == 40
        assert transmitter.backend == "af-xdp"
        assert "took none of the first live frames" in transmitter.reason
        assert received(sock, 40) == list(batch)
        assert transmitter.report().accepted == 40


def test_asked_for_xdp_does_not_fall_back(veth: VethPair) -> None:
    with live_or_skip(veth) as transmitter:
        veth.receive_live_frames(on=False)
        with pytest.raises(EngineError, match="GRO") as caught:
            transmitter.send_batch(make_batch(veth, [60] * 16), timeout=1)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert transmitter.report().failed == {errno.EOPNOTSUPP: 1}
        assert transmitter.report().accepted == 0


@pytest.mark.parametrize("backend", ["af-xdp", "auto"])
def test_a_frame_too_long_for_a_backend_goes_by_the_packet_socket(veth: VethPair, backend: str) -> None:
    from pyroute2 import IPRoute

    with live_or_skip(veth):
        pass
    with veth.namespace.enter(), IPRoute() as route:
        route.link("set", index=veth.far_index, mtu=4000)
    with IPRoute() as route:
        route.link("set", index=veth.near_index, mtu=4000)
    batch = make_batch(veth, [60] * 20 + [FRAME_LEN + 1, 60, FRAME_LEN] * 20)
    with listen(veth) as sock, open_transmitter(veth.near, backend) as transmitter:
        assert transmitter.send_batch(batch, timeout=5) == 80
        assert transmitter.backend == "af-xdp"
        assert backend != "auto" or str(FRAME_LEN) in transmitter.reason
        assert received(sock, 80) == list(batch)


@pytest.mark.parametrize("backend", ["packet", "af-xdp", "xdp"])
def test_refusals_say_why_and_are_counted(veth: VethPair, backend: str) -> None:
    from pyroute2 import IPRoute

    with live_or_skip(veth):
        pass
    with open_transmitter(veth.near, backend) as transmitter:
        batch = make_batch(veth, [60] * 20 + [1600] * 20 + [13] * 20)
        assert transmitter.send_batch(batch, timeout=1) == 20
        with pytest.raises(EngineError, match="1600 octets") as caught:
            transmitter.send_batch(batch, 20, timeout=1)
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(EngineError, match="13 octets") as caught:
            transmitter.send_batch(batch, 40, timeout=1)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(ValueError, match="a batch that holds 60"):
            transmitter.send_batch(batch, 40, 21)
        with IPRoute() as route:
            route.link("set", index=veth.near_index, state="down")
        with pytest.raises(EngineError) as caught:
            transmitter.send_batch(batch, 0, 20, timeout=1)
        assert caught.value.errno == errno.ENETDOWN
        with IPRoute() as route:
            route.link("del", index=veth.near_index)
        with pytest.raises(EngineError) as caught:
            transmitter.send_batch(batch, 0, 20, timeout=1)
        assert caught.value.errno == errno.ENXIO
        report = transmitter.report()
    assert report.failed == dict.fromkeys([errno.EMSGSIZE, errno.EINVAL, errno.ENETDOWN, errno.ENXIO], 1)
    assert report.accepted == 20
    assert report.after is None
    with pytest.raises(ValueError, match="closed"):
        transmitter.report()


@contextmanager
def repeating(send: Callable[[], object]) -> Iterator[None]:
    """Somebody else who sends all the time, once before it begins."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(0.0001):  # a full ring would be no proof either
            send()

    send()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("other", ["packet", "xdp"])
def test_frames_of_others_prove_nothing(veth: VethPair, other: str) -> None:
    """The driver throws ours away, while somebody else sends there, or live frames the other way."""
    with live_or_skip(veth):
        pass
    veth.receive_live_frames(on=False)
    veth.receive_live_frames(near=True)
    batch, others = make_batch(veth, [60] * 10), FrameBatch(4, 4 * 60)
    others.extend([veth.header(LOCAL + 1).ljust(60, b"o")] * 4)
    name, where = (veth.near, None) if other == "packet" else (veth.far, veth.namespace)
    with (
        open_transmitter(name, other, namespace=where) as noisy,
        repeating(lambda: noisy.send_batch(others, timeout=1)),
        listen(veth) as sock,
    ):
        for i in range(10):
            with open_transmitter(veth.near) as transmitter:
                assert transmitter.send_batch(batch, i, 1, timeout=5) == 1
                assert transmitter.backend != "xdp"
        assert received(sock, 10) == list(batch)


@pytest.mark.parametrize("other", ["packet", "xdp"])
def test_frames_of_others_disturb_no_proof(veth: VethPair, other: str) -> None:
    with live_or_skip(veth):
        pass
    batch, others = make_batch(veth, [60] * 10), FrameBatch(4, 4 * 60)
    others.extend([veth.header(LOCAL + 1).ljust(60, b"o")] * 4)
    with open_transmitter(veth.near, other) as noisy, repeating(lambda: noisy.send_batch(others, timeout=1)):
        for i in range(10):
            with open_transmitter(veth.near) as transmitter:
                assert transmitter.send_batch(batch, i, 1, timeout=5) == 1
                assert transmitter.backend == "xdp"


def test_live_frames_have_to_be_taken_until_enough_were(veth: VethPair) -> None:
    """One frame at a time, and then the peer takes no more: a few that were taken prove nothing yet."""
    with live_or_skip(veth):
        pass
    batch = make_batch(veth, [60] * 30)
    with listen(veth) as sock, open_transmitter(veth.near) as transmitter:
        for i in range(5):
            assert transmitter.send_batch(batch, i, 1, timeout=5) == 1
        veth.receive_live_frames(on=False)
        assert transmitter.send_batch(batch, 5, timeout=5) == 25
        assert transmitter.backend == "af-xdp"
        assert received(sock, 30) == list(batch)


def test_ip_packets_of_both_families_find_their_way(veth: VethPair) -> None:
    near4, far4, near6, far6 = veth.near_ipv4, veth.far_ipv4, veth.near_ipv6, veth.far_ipv6
    packets = [
        bytes(
            (IPv6(src=near6, dst=far6) if n % 3 else IPv4(src=near4, dst=far4, id=n + 1))
            / UDP(sport=9, dport=9)
            / bytes([n])
        )
        for n in range(40)
    ]
    batch = FrameBatch(40)
    batch.extend(packets)
    with (
        PacketSocket(veth.far, filter="udp dst port 9", namespace=veth.namespace) as sock,
        open_transmitter(veth.near, "ip") as transmitter,
    ):
        assert (transmitter.backend, transmitter.linktype) == ("ip", 101)
        assert transmitter.send_batch(batch, timeout=5) == 40
        # Each family waits for the first answer of its own neighbour discovery.
        assert sorted(frame[14:] for frame in received(sock, 40)) == sorted(packets)
        report = transmitter.report()
    assert report.accepted == 40
    assert report.before is not None
    assert report.after is not None
    assert report.after.tx_packets - report.before.tx_packets >= 40


def test_refusals_of_ip_packets(veth: VethPair) -> None:
    header = IPv4(src=veth.near_ipv4, dst=veth.far_ipv4)
    batch = FrameBatch(4, 1 << 16)
    batch.extend([bytes(header / bytes(3000)), b"", b"nothing of IP", bytes(header.replace(dst="192.0.2.9"))])
    with open_transmitter(None, "ip") as transmitter:
        for i, number in enumerate((errno.EMSGSIZE, errno.EINVAL, errno.EINVAL, errno.ENETUNREACH)):
            with pytest.raises(EngineError) as caught:
                transmitter.send_batch(batch, i, timeout=1)
            assert caught.value.errno == number
        report = transmitter.report()
    assert report.failed == {errno.EMSGSIZE: 1, errno.EINVAL: 2, errno.ENETUNREACH: 1}
    assert (report.accepted, report.before, report.after) == (0, None, None)


@contextmanager
def firewall() -> Iterator[None]:
    """A firewall that lets no packet out of this namespace, which the tests after this one need again."""
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.nftables.main import NFTables

    try:
        with NFTables(nfgen_family=2) as tables:
            tables.table("add", name="rawkit")
            tables.chain("add", table="rawkit", name="out", hook="output", type="filter", policy=0)
    except NetlinkError as error:
        pytest.skip(f"no nftables here: {error}")
    try:
        yield
    finally:
        with NFTables(nfgen_family=2) as tables:
            tables.table("del", name="rawkit")


def test_a_firewall_is_told_from_missing_permission(veth: VethPair) -> None:
    packet = bytes(IPv4(src=veth.near_ipv4, dst=veth.far_ipv4) / UDP(sport=9, dport=9))
    batch = FrameBatch(2)
    batch.extend([packet, veth.header(0x0800) + packet])
    with (
        firewall(),
        PacketSocket(veth.far, filter="udp dst port 9", namespace=veth.namespace) as sock,
        open_transmitter(veth.near, "ip") as by_ip,
        open_transmitter(veth.near, "packet") as by_packet,
    ):
        with pytest.raises(EngineError, match="firewall") as caught:
            by_ip.send_batch(batch, 0, 1, timeout=1)
        assert not isinstance(caught.value, PermissionDenied)
        assert by_ip.report().failed == {errno.EPERM: 1}
        assert by_packet.send_batch(batch, 1, timeout=1) == 1  # the output chain does not see packet sockets
        assert len(received(sock, 1)) == 1


def slow_down(veth: VethPair) -> None:
    """Let the near end send some 20 frames of 500 octets a second, and keep 6 waiting."""
    tbf = "qdisc replace dev v0 root tbf rate 80kbit burst 1600 limit 3000"
    done = subprocess.run([oracles.oracle("tc"), *tbf.split()], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no token bucket filter in this kernel: {done.stderr.strip()}")


def test_a_full_queue_is_waited_for_and_counted_apart(veth: VethPair) -> None:
    slow_down(veth)
    batch = make_batch(veth, [500] * 20)
    with listen(veth) as sock, open_transmitter(veth.near, "packet") as transmitter:
        accepted = transmitter.send_batch(batch, timeout=0)
        assert 0 < accepted < 20
        with pytest.raises(EngineError) as caught:
            transmitter.send_batch(batch, accepted, timeout=0)
        assert caught.value.errno == errno.ENOBUFS
        before = transmitter.report()
        assert before.failed == {errno.ENOBUFS: 1}
        assert transmitter.send_batch(batch, accepted, 3, timeout=20) == 3
        after = transmitter.report()
        assert received(sock, accepted + 3) == list(batch)[: accepted + 3]
    assert after.accepted == accepted + 3
    assert after.failed == before.failed
    assert after.queue_full > before.queue_full > 0


def test_signals_do_not_end_sending(veth: VethPair) -> None:
    """EINTR while a full queue is waited for: the handler runs, and sending goes on."""
    slow_down(veth)
    batch = make_batch(veth, [500] * 12)
    rings: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rings.append(1))
    try:
        with listen(veth) as sock, open_transmitter(veth.near, "packet") as transmitter:
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            assert transmitter.send_batch(batch, timeout=60) == 12
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert received(sock, 12) == list(batch)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rings


def test_signals_do_not_end_live_frames(veth: VethPair) -> None:
    """The kernel leaves off in the middle of its loop; not one frame is lost or sent twice.

    All of them pass the receiver's filter, more than its buffer holds.
    """
    rings: list[int] = []
    batch = make_batch(veth, [60] * 20000)
    with listen(veth) as sock, live_or_skip(veth) as transmitter:
        before = signal.signal(signal.SIGALRM, lambda *_: rings.append(1))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            assert transmitter.send_batch(batch, timeout=60) == 20000
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert sock.counters().received == 20000
        some = received(sock, 1000)
    assert some == list(batch)[:1000]
    assert rings


@pytest.mark.parametrize("backend", ["packet", "af-xdp", "xdp"])
def test_closing_ends_another_threads_sending(veth: VethPair, backend: str) -> None:
    with live_or_skip(veth):
        pass
    transmitter = open_transmitter(veth.near, backend)
    batch = make_batch(veth, [60] * 1000)
    ended: list[str] = []

    def send() -> None:
        try:
            while True:
                transmitter.send_batch(batch, timeout=60)
        except ValueError as error:
            ended.append(str(error))

    thread = threading.Thread(target=send)
    thread.start()
    while transmitter.report().accepted == 0:
        time.sleep(0.001)
    transmitter.close()
    thread.join(30)
    assert len(ended) == 1
    assert "closed" in ended[0]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="no backend 'dpdk'"):
        open_transmitter("lo", "dpdk")
    with pytest.raises(ValueError, match="needs an interface"):
        open_transmitter(None)
    with pytest.raises(UnknownInterface, match="nowhere0"):
        open_transmitter("nowhere0")


def test_without_privilege_the_capabilities_are_named() -> None:
    if not oracles.has_other_users():
        pytest.skip("no other user here")
    script = (
        "from rawkit.engine import open_transmitter\n"
        "from rawkit.errors import PermissionDenied\n"
        "try:\n    open_transmitter('lo', 'xdp')\n"
        "except PermissionDenied as error:\n    print(error)"
    )
    done = subprocess.run(
        [*oracles.without_privilege(), sys.executable, "-c", script], capture_output=True, text=True
    )
    assert "CAP_SYS_ADMIN and CAP_NET_ADMIN" in done.stdout, done.stderr
