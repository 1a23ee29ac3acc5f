"""Sending one packet, and recognising its answer: against the kernel, on loopback and on a wire."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from rawkit.engine.batch import FrameBatch
from rawkit.engine.sockets import PacketSocket
from rawkit.errors import EngineError, FieldError, NoRoute, TargetError, UnknownInterface
from rawkit.tools.exchange import Answer, Exchange, exchange, prepare, send
from rawkit.wire import (
    ARP,
    AUTO,
    MSS,
    TCP,
    UDP,
    Ether,
    Header,
    ICMPEcho,
    ICMPUnreachable,
    ICMPv6Echo,
    ICMPv6Unreachable,
    IPv4,
    IPv6,
    Packet,
)

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net

LOOPBACK = pytest.mark.parametrize(("header", "address"), [(IPv4, "127.0.0.1"), (IPv6, "::1")])


@contextmanager
def listener(address: str) -> Iterator[int]:
    """A TCP socket that listens; its port."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.bind((address, 0))
        sock.listen()
        yield sock.getsockname()[1]


@contextmanager
def closed_port(address: str, kind: int = socket.SOCK_STREAM) -> Iterator[int]:
    """A port that nobody listens on: taken by a socket that does not."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as sock:
        sock.bind((address, 0))
        port = sock.getsockname()[1]
        if kind == socket.SOCK_DGRAM:
            sock.close()  # a bound UDP socket would take the datagram
        yield port


# ---- loopback -----------------------------------------------------------------------------------


@LOOPBACK
def test_echo(header: type[Header], address: str) -> None:
    echo = ICMPEcho(id=7, seq=9) if header is IPv4 else ICMPv6Echo(id=7, seq=9)
    before = time.time_ns()
    answer = exchange(header(dst=address) / echo / b"payload")
    assert isinstance(answer, Answer)
    assert answer.payload == b"payload"
    assert answer[type(echo)].type == (0 if header is IPv4 else 129)  # type: ignore[attr-defined]
    assert answer.stamp == "kernel"
    assert 0 < answer.rtt_ns < 1_000_000_000
    assert before <= answer.time_ns <= time.time_ns()
    assert answer.request.layers[0].src == ip_address(address)  # type: ignore[attr-defined]


@LOOPBACK
def test_syn_to_a_listener_and_to_a_closed_port(header: type[Header], address: str) -> None:
    with listener(address) as port:
        answer = exchange(header(dst=address) / TCP(sport=40001, dport=port, seq=77, options=[MSS(1460)]))
    assert answer is not None
    assert (answer[TCP].flags, answer[TCP].ack) == (TCP.SYN | TCP.ACK, 78)
    with closed_port(address) as port:
        answer = exchange(header(dst=address) / TCP(sport=40001, dport=port, seq=77))
    assert answer is not None
    assert (answer[TCP].flags, answer[TCP].ack) == (TCP.RST | TCP.ACK, 78)


@LOOPBACK
def test_closed_udp_port_is_answered_by_an_icmp_error(header: type[Header], address: str) -> None:
    with closed_port(address, socket.SOCK_DGRAM) as port:
        answer = exchange(header(dst=address) / UDP(sport=40002, dport=port) / b"anybody?")
    assert answer is not None
    if header is IPv4:
        assert (answer[ICMPUnreachable].type, answer[ICMPUnreachable].code) == (3, 3)
    else:
        assert (answer[ICMPv6Unreachable].type, answer[ICMPv6Unreachable].code) == (1, 4)
    quoted = answer.get(UDP)
    assert quoted is not None
    assert (quoted.sport, quoted.dport) == (40002, port)


@LOOPBACK
def test_own_packet_between_equal_ports_is_no_answer(header: type[Header], address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as silent:
        silent.bind((address, 0))
        port = silent.getsockname()[1]
        assert exchange(header(dst=address) / UDP(sport=port, dport=port) / b"x", timeout=0.1) is None
        assert silent.recv(10) == b"x"


def test_silence_takes_the_timeout() -> None:
    start = time.monotonic()
    assert exchange(IPv4(dst="127.0.0.1") / ICMPEcho(type=0), timeout=0.15) is None
    assert 0.15 <= time.monotonic() - start < 5


def test_checksums_are_right_with_the_source_filled_in() -> None:
    """A listener's kernel drops what is wrong: the datagram arrives although its source was AUTO."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(2)
        packet = IPv4(dst="127.0.0.1") / UDP(sport=5, dport=sock.getsockname()[1]) / b"hello"
        sent = send(packet)
        assert sock.recvfrom(100) == (b"hello", ("127.0.0.1", 5))
    assert sent[IPv4].src == ip_address("127.0.0.1")
    assert packet[IPv4].src is AUTO  # the caller's packet is as it was


def test_late_answers_are_not_taken_for_the_next_ones() -> None:
    packet = IPv4(dst="127.0.0.1") / ICMPEcho(id=1)
    with Exchange(prepare(packet)) as session:
        session.send()
        time.sleep(0.02)  # its answer is waiting now
        sent = session.send()
        answer = session.answer(1.0)
        assert answer is not None
        assert answer.time_ns >= sent.realtime_ns
        assert session.answer(0.05) is None


# ---- on a wire ----------------------------------------------------------------------------------


def test_source_is_the_routes(veth: VethPair) -> None:
    for packet, near in (
        (IPv4(dst=veth.far_ipv4) / ICMPEcho(id=1), veth.near_ipv4),
        (IPv6(dst=veth.far_ipv6) / ICMPv6Echo(id=1), veth.near_ipv6),
    ):
        answer = exchange(packet, timeout=3)
        assert answer is not None
        assert answer.layers[0].dst == ip_address(near)  # type: ignore[attr-defined]
        assert [v.state for v in answer.checksums() if v.state not in ("good", "not filled in")] == []


def test_named_interface(veth: VethPair) -> None:
    packet = IPv4(dst=veth.far_ipv4) / ICMPEcho(id=1)
    assert exchange(packet, interface=veth.near, timeout=3) is not None


def test_arp_over_the_link(veth: VethPair) -> None:
    request = Ether(src=veth.near_mac) / ARP(
        sender_mac=veth.near_mac, sender_ip=veth.near_ipv4, target_ip=veth.far_ipv4
    )
    answer = exchange(request, interface=veth.near, timeout=3)
    assert answer is not None
    assert (answer[ARP].op, bytes(answer[ARP].sender_mac)) == (2, veth.far_mac)
    assert bytes(answer[Ether].src) == veth.far_mac


def test_frame_leaves_by_the_route_of_its_ip_header(veth: VethPair) -> None:
    frame = Ether(src=veth.near_mac, dst=veth.far_mac) / IPv4(dst=veth.far_ipv4) / ICMPEcho(id=3)
    answer = exchange(frame, timeout=3)
    assert answer is not None
    assert Ether in answer
    assert answer[ICMPEcho].id == 3
    departure = prepare(frame)
    assert (departure.interface, departure.packet[IPv4].src) == (veth.near, ip_address(veth.near_ipv4))


def test_frame_goes_out_octet_for_octet(veth: VethPair) -> None:
    """What a raw IP socket would put right goes wrong here, as it is told to."""
    lie = Ether(src=veth.near_mac, dst=veth.far_mac, ethertype=0x88B5) / IPv4(
        src="192.0.2.1", dst="192.0.2.2", checksum=0x1234, total_length=9
    )
    with PacketSocket(veth.far, protocol=0x88B5, namespace=veth.namespace) as ear:
        send(lie, interface=veth.near)
        batch = FrameBatch(4)
        assert ear.receive(batch, 2) == 1
        assert batch[0] == bytes(lie)


def test_host_that_is_not_there_is_reported_by_our_own_kernel(veth: VethPair) -> None:
    answer = exchange(IPv4(dst="10.77.0.99") / ICMPEcho(id=1), timeout=5)
    assert answer is not None
    assert (answer[ICMPUnreachable].code, answer[IPv4].src) == (1, ip_address(veth.near_ipv4))


def test_answers_of_others_are_not_taken(veth: VethPair) -> None:
    """While somebody else's answers come in all the time, ours is the one that is returned."""
    stop = threading.Event()

    def noise() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not stop.is_set():
                sock.sendto(b"noise", (veth.far_ipv4, 9))  # answered by "port unreachable"
                time.sleep(0.0005)

    thread = threading.Thread(target=noise)
    thread.start()
    try:
        for seq in range(20):
            answer = exchange(IPv4(dst=veth.far_ipv4) / ICMPEcho(id=4, seq=seq), timeout=3)
            assert answer is not None
            assert (answer[ICMPEcho].id, answer[ICMPEcho].seq) == (4, seq)
    finally:
        stop.set()
        thread.join()


# ---- what cannot be sent ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "interface", "error", "reason"),
    [
        (Packet([TCP()]), None, TargetError, "starts with TCP"),
        (Packet([], b"x"), None, TargetError, "starts with its payload"),
        (Ether() / ARP(), None, TargetError, "on which interface"),
        (Ether() / ARP(), "nope", UnknownInterface, "nope"),
        (IPv4(dst="127.0.0.1") / UDP(), "nope", UnknownInterface, "nope"),
        (IPv4(dst="192.0.2.1") / UDP(), None, NoRoute, "192.0.2.1"),
        (IPv6(dst="2001:db8::1") / UDP(), None, NoRoute, "2001:db8::1"),
        (IPv4(dst="127.0.0.1") / UDP() / bytes(70000), None, FieldError, "does not fit"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_cannot_be_sent(packet: Packet, interface: str | None, error: type[Exception], reason: str) -> None:
    for function in (send, exchange):
        with pytest.raises(error, match=reason):
            function(packet, interface=interface)


def test_too_long_for_the_link(veth: VethPair) -> None:
    with pytest.raises(EngineError, match="too long"):
        send(IPv4(dst=veth.far_ipv4) / UDP() / bytes(2000))


def test_public_names() -> None:
    import rawkit

    assert rawkit.send is send
    assert rawkit.exchange is exchange
