"""UDP sockets and their error queues: what they rebuild is what was on the wire."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rawkit.engine.errorqueue import Arrival, ErrorQueueSocket
from rawkit.engine.sockets import PacketSocket
from rawkit.errors import EngineError
from rawkit.lab import Lab, RoutedLab
from rawkit.wire import (
    UDP,
    ICMPTimeExceeded,
    ICMPUnreachable,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    ICMPv6Unreachable,
    IPv4,
    IPv6,
    Packet,
)

pytestmark = pytest.mark.net

BOTH = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def lab() -> Iterator[RoutedLab]:
    with Lab.chain(2, mtus={1: 1400}) as lab:
        yield lab


def open_socket(lab: RoutedLab, version: int, port: int = 33434) -> ErrorQueueSocket:
    with lab.a:
        return ErrorQueueSocket(lab.b.ipv4 if version == 4 else lab.b.ipv6, port)


def arrival(sock: ErrorQueueSocket) -> Arrival:
    assert select.select([sock], [], [], 10)[0], "nothing came"
    (found,) = sock.arrivals()
    return found


@BOTH
@pytest.mark.parametrize(
    ("hop_limit", "size", "reporter", "kinds"),
    [
        (1, 100, "r1", (ICMPTimeExceeded, ICMPv6TimeExceeded)),
        (64, 100, "b", (ICMPUnreachable, ICMPv6Unreachable)),
        (64, 1450, "r1", (ICMPUnreachable, ICMPv6PacketTooBig)),
    ],
)
def test_an_error_is_rebuilt_as_it_was(
    lab: RoutedLab, version: int, hop_limit: int, size: int, reporter: str, kinds: tuple[type, type]
) -> None:
    kind = kinds[version == 6]
    with (
        open_socket(lab, version) as sock,
        PacketSocket(
            "veth0", namespace=lab.a.namespace, ignore_outgoing=True, filter="icmp or icmp6"
        ) as wire,
    ):
        payload = bytes(i % 251 for i in range(size))
        sock.send(payload, hop_limit)
        octets, time_ns = arrival(sock)
        rebuilt = Packet.parse(octets, IPv4 if version == 4 else IPv6, strict=True)
        (real,) = (p for p in (frame.packet() for frame in wire.frames(timeout=0.3)) if kind in p)
    node = lab.nodes[reporter]
    ip = rebuilt.layers[0]
    assert isinstance(ip, (IPv4, IPv6))
    assert ip.src == (node.ipv4 if version == 4 else node.ipv6)
    error, original = rebuilt[kind], real[kind]
    for field in ("type", "code", "mtu"):
        assert getattr(error, field, None) == getattr(original, field, None)
    quoted, wanted = rebuilt[UDP], real[UDP]
    assert (quoted.sport, quoted.dport) == (wanted.sport, wanted.dport) == (sock.port, 33434)
    assert rebuilt.payload == real.payload
    assert payload.startswith(rebuilt.payload)
    assert len(rebuilt.payload) >= min(size, 500)
    real_ip = real.get(IPv4) if version == 4 else real.get(IPv6)
    assert real_ip is not None
    for field in ("ttl", "hop_limit"):
        assert getattr(ip, field, None) == getattr(real_ip, field, None)
    assert time_ns is not None
    assert abs(time.time_ns() - time_ns) < 60 * 10**9


@BOTH
def test_an_answer_is_rebuilt_too(lab: RoutedLab, version: int) -> None:
    address = lab.b.ipv4 if version == 4 else lab.b.ipv6
    with (
        lab.b,
        socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as server,
    ):
        server.bind((str(address), 4000))
        server.settimeout(10)
        with open_socket(lab, version, 4000) as sock:
            sock.send(b"ping", 64)
            octets, sender = server.recvfrom(100)
            assert (octets, sender[1]) == (b"ping", sock.port)
            server.sendto(b"pong", sender)
            octets, _ = arrival(sock)
    packet = Packet.parse(octets, IPv4 if version == 4 else IPv6)
    assert (packet[UDP].sport, packet[UDP].dport, packet.payload) == (4000, sock.port, b"pong")
    ip = packet.layers[0]
    assert isinstance(ip, (IPv4, IPv6))
    assert (ip.src, ip.dst) == (address, sock.source)
    assert (ip.ttl if isinstance(ip, IPv4) else ip.hop_limit) == 62


@BOTH
def test_an_error_of_before_does_not_stop_the_next_datagram(lab: RoutedLab, version: int) -> None:
    with open_socket(lab, version) as sock:
        for _ in range(5):
            sock.send(b"x", 64)
            assert select.select([sock], [], [], 10)[0]
        assert len(list(sock.arrivals())) == 5


@BOTH
def test_errors_that_come_between_two_attempts_do_not_stop_it_either(
    lab: RoutedLab, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel keeps one of them at a time: the second comes while the first is told."""
    with open_socket(lab, version) as sock:
        news = [errno.EHOSTUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED]

        class Told:
            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

            def sendmsg(self, *args: Any) -> int:
                if news:
                    raise OSError(news.pop(), "of an earlier datagram")
                return real.sendmsg(*args)

        real = sock._socket
        monkeypatch.setattr(sock, "_socket", Told())
        sock.send(b"x", 64)
        assert select.select([sock], [], [], 10)[0]
        assert [Packet.parse(arrival.octets, IPv4 if version == 4 else IPv6) for arrival in sock.arrivals()]


def test_too_long_for_the_interface(lab: RoutedLab) -> None:
    with open_socket(lab, 4) as sock:
        with pytest.raises(EngineError) as caught:
            sock.send(bytes(1500), 64)
        assert caught.value.errno == errno.EMSGSIZE
        assert list(sock.arrivals()) == []


def test_nowhere_to_send(lab: RoutedLab) -> None:
    from ipaddress import ip_address

    with lab.a, pytest.raises(EngineError, match=r"the way to 192\.0\.2\.1: Network is unreachable"):
        ErrorQueueSocket(ip_address("192.0.2.1"), 9)


def test_closed(lab: RoutedLab) -> None:
    sock = open_socket(lab, 4)
    sock.close()
    sock.close()
    assert sock.closed
    assert list(sock.arrivals()) == []
