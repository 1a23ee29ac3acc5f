"""A TCP of one's own behind a TUN device, and the kernel's: segments as a network card would cut them."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rawkit.errors import TargetError
from rawkit.lab import Lab
from rawkit.link import Flow, Stack, Tun, run
from rawkit.transport import App, Endpoint, PeerClosed, Write
from rawkit.wire import TCP
from rawkit.wire.tcp import MSS

pytestmark = pytest.mark.net

OWN = {4: "10.77.8.1", 6: "fd77:8::1"}
OCTETS = 2_000_000


class PlainTCP(Endpoint, header=TCP):
    """As much of TCP as a transfer over a path without losses takes; octets in either direction."""

    def __init__(self) -> None:
        self.next = self.una = 1  # of what is sent
        self.expected: int | None = None
        self.window = 0
        self.waiting = bytearray()
        self.most = 0  # octets in one packet that came

    def on_open(self, cx: Any, role: str) -> None:
        if role == "client":
            self.reply(cx, "S", seq=0, options=[MSS(value=1000)])

    def reply(self, cx: Any, flags: str, payload: bytes = b"", seq: int | None = None, **more: Any) -> None:
        ports = {"sport": cx.path.local_port, "dport": cx.path.remote_port}
        header = TCP(
            **ports,
            seq=self.next if seq is None else seq,
            ack=self.expected or 0,
            flags=flags,
            window=65535,
            **more,
        )
        cx.send(header, payload)

    def on_app(self, cx: Any, operation: Any) -> None:
        self.waiting += operation.data
        self.transmit(cx)

    def transmit(self, cx: Any) -> None:
        while self.waiting and self.next - self.una + 1000 <= self.window:
            piece = bytes(self.waiting[:1000])
            del self.waiting[:1000]
            self.reply(cx, "A" if self.waiting else "PA", piece)
            self.next += len(piece)

    def on_packet(self, cx: Any, packet: Any) -> None:
        header = packet.header
        self.most = max(self.most, len(packet.payload))
        if header.flags & TCP.SYN:
            self.expected = header.seq + 1
            server = not header.flags & TCP.ACK
            self.reply(
                cx,
                "SA" if server else "A",
                seq=0 if server else None,
                **({"options": [MSS(value=1000)]} if server else {}),
            )
        elif packet.payload and header.seq == self.expected:
            self.expected += len(packet.payload)
            cx.deliver(packet.payload)
            self.reply(cx, "A")
        if header.flags & TCP.FIN:
            cx.event(PeerClosed())
        if header.flags & TCP.ACK:
            self.una, self.window = header.ack, header.window
            self.transmit(cx)


class Collected(App):
    def __init__(self) -> None:
        super().__init__()
        self.octets = bytearray()

    def on_data(self, driver: Any, data: bytes) -> None:
        self.octets += data


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not for this user")
    with Lab() as lab:
        yield lab


def packets_written(interface: str) -> int:
    """How many packets programs have given a TUN device, by the kernel's count."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == interface:
            return int(numbers.split()[1])
    raise AssertionError(f"there is no {interface}")


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_what_a_kernel_sends_comes_as_super_segments(host: Lab, version: int, offload: bool) -> None:
    data = random.Random(1).randbytes(OCTETS)
    app = Collected()
    with host.b:
        carrier = Tun(OWN[version], 6, offload=offload)
        kernel = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    endpoint = PlainTCP()
    with kernel, Stack(carrier, PlainTCP) as stack:
        stack.listen(lambda: endpoint, lambda: app, lambda driver: None, port=7000)

        def talk() -> None:
            kernel.connect((OWN[version], 7000))
            kernel.sendall(data)

        thread = threading.Thread(target=talk)
        thread.start()
        assert run([stack], lambda: len(app.octets) == OCTETS, 30)
        thread.join()
        assert app.octets == data
        assert not sum(carrier.lost.values())
    assert endpoint.most > 20_000 if offload else endpoint.most == 1000


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("version", [4, 6])
def test_segments_that_follow_each_other_leave_as_one(host: Lab, version: int, offload: bool) -> None:
    data = random.Random(2).randbytes(OCTETS + 321)
    with host.b:
        carrier = Tun(OWN[version], 6, offload=offload)
        server = socket.create_server(
            ("::" if version == 6 else "", 0), family=socket.AF_INET if version == 4 else socket.AF_INET6
        )
        got = bytearray()

        def take() -> None:
            connection, _ = server.accept()
            with connection:
                while len(got) < len(data) and (piece := connection.recv(1 << 20)):
                    got.extend(piece)

        thread = threading.Thread(target=take)
        thread.start()
        with server, Stack(carrier, PlainTCP) as stack:
            address = str(host.b.ipv4 if version == 4 else host.b.ipv6)
            driver = stack.connect(PlainTCP(), address, server.getsockname()[1])
            driver.do(Write(data))
            assert run([stack], lambda: not thread.is_alive(), 30)
            written = packets_written(carrier.interface)
            assert not sum(carrier.lost.values())
        thread.join()
    assert got == data  # so the kernel found all checksums right
    assert written < len(data) / 4000 if offload else written > len(data) / 1000


def test_what_is_no_segment_leaves_as_it_is(host: Lab) -> None:
    with host.b, Tun(OWN[4], 6, offload=True) as carrier:
        path = carrier.path(Flow("", 1, str(host.b.ipv4), 2))
        long_header, no_header = bytes(12) + b"\xf0\x10" + bytes(10), bytes(12) + b"\x00\x10" + bytes(10)
        for octets in (b"", b"x", long_header, long_header, no_header, b"x", bytes(1000)):
            carrier.send(octets, path, 0)
        carrier.flush()
        assert packets_written(carrier.interface) == 7


def test_offload_is_for_tcp_alone() -> None:
    with pytest.raises(TargetError, match="not for protocol 253"):
        Tun("10.77.8.1", offload=True)
