"""scapy's functions over rawkit's sockets: the same script gives the same answers either way."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rawkit.engine import FrameBatch, PacketSocket
from rawkit.interop.scapy import sockets, to_scapy, use_rawkit
from rawkit.lab import Lab
from rawkit.wire import UDP, Ether, IPv4, Packet

SCRIPT = Path(__file__).parent / "scapy_script.py"


@pytest.mark.net
@pytest.mark.slow
def test_a_script_gives_the_same_answers_unchanged() -> None:
    outputs = []
    with Lab() as lab:
        lab.b.serve("echo")
        for arguments in ([], ["rawkit"]):
            command = [sys.executable, str(SCRIPT), *arguments]
            done = lab.a.run(command, capture_output=True, text=True, timeout=90)
            assert done.returncode == 0, done.stderr
            outputs.append(json.loads(done.stdout))
    theirs, ours = outputs
    assert theirs.pop("sockets") == ["L2Socket", "L2ListenSocket", "L3PacketSocket"]
    assert ours.pop("sockets") == ["RawkitL2Socket", "RawkitL2ListenSocket", "RawkitL3Socket"]
    assert ours == theirs
    # And they are the right ones.
    assert ours["echo"] == [["IP", "ICMP", "Raw"], ["10.77.0.2", "10.77.0.1"], "", 7, b"payload".hex()]
    assert [(port, reply[2]) for port, reply in ours["syn"]] == [(7, "SA"), (9, "RA")]
    assert ours["nobody"] is None
    assert len(ours["sniff"]) == 6
    assert len(ours["async"]) == 4
    assert ours["vlan"] == [["Ether", "Dot1Q", "IP", "UDP", "Raw"]]
    assert ours["loopback"][1] == ["127.0.0.1", "127.0.0.1"]
    assert ours["filter"] == "Scapy_Exception"


def test_scapy_gets_its_own_sockets_back() -> None:
    from scapy.config import conf
    from scapy.interfaces import InterfaceProvider

    def state() -> list[Any]:
        names = ("L2socket", "L2listen", "L3socket", "L3socket6")
        return [*(getattr(conf, name) for name in names), InterfaceProvider._l3socket]

    sockets()  # imports what sets conf
    before = state()
    with use_rawkit():
        inside = state()
        assert conf.L2socket is sockets().L2socket
        with use_rawkit():
            assert conf.L3socket is sockets().L3socket
        assert state() == inside
    assert state() == before
    restore = use_rawkit()
    assert state() != before
    restore()
    restore()
    assert state() == before


def datagrams(veth: Any, n: int) -> list[bytes]:
    ip = Ether(src=veth.near_mac, dst=veth.far_mac) / IPv4(src=veth.near_ipv4, dst=veth.far_ipv4)
    return [bytes(ip / UDP(sport=9, dport=9) / i.to_bytes(4, "big")) for i in range(n)]


@pytest.mark.net
def test_times_are_the_kernels_to_the_nanosecond(veth: Any) -> None:
    mine = "udp port 9"
    with veth.namespace.enter():
        sniffer, beside = sockets().L2listen(iface="v1", filter=mine), PacketSocket("v1", filter=mine)
    with sniffer, beside, PacketSocket("v0", protocol=0) as sender:
        sender.send(datagrams(veth, 1)[0])
        packet = sniffer.recv()
        batch = FrameBatch()
        assert beside.receive(batch, 5) == 1
    # Each socket's copy of the frame has the same stamp of the kernel.
    assert int(packet.time * 10**9) == batch.records()[0].time_ns
    assert abs(time.time() - float(packet.time)) < 5


@pytest.mark.net
def test_a_burst_is_received_whole_and_in_order(veth: Any) -> None:
    """scapy's own sockets keep what fits into conf.bufsize (64 KiB) while a packet is dissected."""
    import scapy.layers.inet  # noqa: F401  # scapy dissects by the layers that were imported

    count, ours, mine = 2000, sockets(), "udp port 9"
    with PacketSocket("v0", protocol=0) as sender, ours.L2socket(iface="v0", filter=mine) as idle:
        with veth.namespace.enter():
            sniffer = ours.L2listen(iface="v1", filter=mine)
        with sniffer:
            batch = FrameBatch(count)
            batch.extend(datagrams(veth, count))
            assert sender.send_batch(batch, timeout=5) == count
            found = sniffer.sniff(count=count, timeout=30)
        assert [int.from_bytes(packet.load[:4], "big") for packet in found] == list(range(count))
        assert idle.select([idle], 0) == []


@pytest.mark.net
def test_sockets_tell_what_scapys_do(veth: Any) -> None:
    from scapy.error import Scapy_Exception

    ours = sockets()
    with ours.L2socket(iface="v0", filter="udp port 9") as sock:
        octets = datagrams(veth, 1)[0]
        packet = to_scapy(Packet.parse(octets))
        assert sock.send(packet) == len(octets)
        assert abs(time.time() - packet.sent_time) < 5
        assert sock.select([sock], 0) == []  # outgoing frames are for listening sockets alone
        assert sock.fileno() >= 0
    assert sock.closed
    assert sock.fileno() == -1
    sock.close()
    with ours.L2listen(iface="v0") as sock, pytest.raises(Scapy_Exception, match="Can't send"):
        sock.send(b"x" * 60)
    with pytest.raises(Scapy_Exception, match="monitor mode"):
        ours.L2socket(iface="v0", monitor=True)
    with pytest.raises(Scapy_Exception, match="Cannot set filter"):
        ours.L2socket(iface="v0", filter="udp prot 9")


@pytest.mark.net
def test_a_frame_that_is_filtered_out_later_does_not_block(veth: Any) -> None:
    """VLAN filters run after the tag is put back: the descriptor may be ready for nothing."""
    with veth.namespace.enter():
        sniffer = sockets().L2listen(iface="v1", filter="vlan 5")
    with sniffer, PacketSocket("v0", protocol=0) as sender:
        sender.send(datagrams(veth, 1)[0])
        start = time.monotonic()
        for ready in iter(lambda: sniffer.select([sniffer], 0.5), []):
            assert ready == [sniffer]
            assert sniffer.recv() is None
        assert time.monotonic() - start < 5


@pytest.mark.net
def test_interfaces_without_link_header() -> None:
    import fcntl
    import os
    import struct

    from pyroute2 import IPRoute

    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not there or not for this user")
    tun = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001))  # TUNSETIFF: TUN | NO_PI
        with IPRoute() as route:
            index = route.link_lookup(ifname="tun7")[0]
            route.link("set", index=index, state="up")
        octets = bytes(IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=9, dport=9) / b"x")
        with sockets().L2listen(iface="tun7", filter="udp port 9", promisc=False) as sniffer:
            os.write(tun, octets)
            packet = sniffer.recv()
        assert type(packet).__name__ == "IP"
        assert bytes(packet) == octets
        with sockets().L3socket(iface="tun7", promisc=False) as sender:
            assert sender.ins.linktype == 101
            assert sender._send_packet(packet) == len(octets)
            while (found := os.read(tun, 2000)) != octets:  # the kernel's own IPv6 packets come as well
                assert found[0] >> 4 == 6
    finally:
        os.close(tun)


def test_socket_module_is_what_scapy_selects_on() -> None:
    """Foreign sockets (scapy's control pipes) are waited for with ours."""
    left, right = socket.socketpair()
    with left, right:
        assert sockets().L2socket.select([left], 0) == []
        right.send(b"x")
        assert sockets().L2socket.select([left], 0) == [left]
