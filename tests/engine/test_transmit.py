"""Transmit backends over a veth pair: what they accept, choose, prove and report."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING

import oracles
import pytest

from rawkit.engine import FrameBatch, PacketSocket, Transmitter, open_transmitter
from rawkit.engine.transmit import FRAME_LEN
from rawkit.errors import EngineError, PermissionDenied, UnknownInterface

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net

LOCAL = 0x88B5  # EtherType for local experiments


def receive_live_frames(veth: VethPair, on: bool = True) -> None:
    """Switch GRO of the far end, without which a veth interface throws redirected frames away."""
    import fcntl
    import socket
    import struct

    from rawkit.engine.native import ffi  # an address that the kernel can follow

    value = ffi.new("uint32_t[2]", [0x2C, on])  # ETHTOOL_SGRO
    request = struct.pack("=16sQ16x", veth.far.encode(), int(ffi.cast("uintptr_t", value)))
    with veth.namespace.enter(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8946, request)  # SIOCETHTOOL


def live_or_skip(veth: VethPair) -> Transmitter:
    """An XDP transmitter on the near end, its far end ready to receive."""
    receive_live_frames(veth)
    try:
        return open_transmitter(veth.near, "xdp")
    except PermissionDenied as error:  # root of a user namespace is not enough
        pytest.skip(str(error))


def make_batch(veth: VethPair, lengths: list[int]) -> FrameBatch:
    batch = FrameBatch(len(lengths), sum(lengths))
    header = veth.header(LOCAL)
    batch.extend([(header + n.to_bytes(4, "big")).ljust(length, b"x") for n, length in enumerate(lengths)])
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


@pytest.mark.parametrize("backend", ["packet", "xdp", "auto"])
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
    assert report.after is not None
    assert report.after.tx_packets - report.before.tx_packets >= 1000
    assert report.after.tx_bytes - report.before.tx_bytes >= sum(map(len, batch))
    assert report.backend == ("packet" if backend == "packet" else "xdp")
    if backend == "auto":
        assert "the interface counted" in report.reason
    else:
        assert report.reason == "asked for"


def test_auto_falls_back_when_the_counters_stand_still(veth: VethPair) -> None:
    """The peer takes no redirected frames: the same frames go by the packet socket, each once."""
    with live_or_skip(veth):
        pass
    receive_live_frames(veth, on=False)
    batch = make_batch(veth, [60] * 40)
    with listen(veth) as sock, open_transmitter(veth.near) as transmitter:
        assert transmitter.backend == "xdp"
        assert transmitter.send_batch(batch, timeout=5) == 40
        assert transmitter.backend == "packet"
        assert "of the first 16 live frames" in transmitter.reason
        assert received(sock, 40) == list(batch)
        assert transmitter.report().accepted == 40


def test_asked_for_xdp_does_not_fall_back(veth: VethPair) -> None:
    with live_or_skip(veth) as transmitter:
        receive_live_frames(veth, on=False)
        with pytest.raises(EngineError, match="GRO") as caught:
            transmitter.send_batch(make_batch(veth, [60] * 16), timeout=1)
        assert caught.value.errno == errno.EOPNOTSUPP
        assert transmitter.report().failed == {errno.EOPNOTSUPP: 1}
        assert transmitter.report().accepted == 0


def test_a_frame_too_long_for_live_frames_goes_by_the_packet_socket(veth: VethPair) -> None:
    from pyroute2 import IPRoute

    with live_or_skip(veth):
        pass
    with veth.namespace.enter(), IPRoute() as route:
        route.link("set", index=veth.far_index, mtu=4000)
    with IPRoute() as route:
        route.link("set", index=veth.near_index, mtu=4000)
    batch = make_batch(veth, [60] * 20 + [FRAME_LEN + 1, 60])
    with listen(veth) as sock, open_transmitter(veth.near) as transmitter:
        assert transmitter.send_batch(batch, timeout=5) == 22
        assert transmitter.backend == "packet"
        assert str(FRAME_LEN) in transmitter.reason
        assert received(sock, 22) == list(batch)


@pytest.mark.parametrize("backend", ["packet", "xdp"])
def test_refusals_say_why_and_are_counted(veth: VethPair, backend: str) -> None:
    from pyroute2 import IPRoute

    with live_or_skip(veth):
        pass
    with open_transmitter(veth.near, backend) as transmitter:
        batch = make_batch(veth, [60, 1600])
        assert transmitter.send_batch(batch, timeout=1) == 1
        with pytest.raises(EngineError, match="1600 octets") as caught:
            transmitter.send_batch(batch, 1, timeout=1)
        assert caught.value.errno == errno.EMSGSIZE
        with pytest.raises(ValueError, match="a batch that holds 2"):
            transmitter.send_batch(batch, 1, 2)
        with IPRoute() as route:
            route.link("set", index=veth.near_index, state="down")
        with pytest.raises(EngineError) as caught:
            transmitter.send_batch(batch, 0, 1, timeout=1)
        assert caught.value.errno == errno.ENETDOWN
        with IPRoute() as route:
            route.link("del", index=veth.near_index)
        with pytest.raises((EngineError, UnknownInterface)):
            transmitter.send_batch(batch, 0, 1, timeout=1)
        report = transmitter.report()
    assert report.failed[errno.EMSGSIZE] >= 1
    assert report.failed[errno.ENETDOWN] == 1
    assert report.accepted == 1
    assert report.after is None
    with pytest.raises(ValueError, match="closed"):
        transmitter.report()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="no backend 'dpdk'"):
        open_transmitter("lo", "dpdk")
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
