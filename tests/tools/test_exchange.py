"""Sending one packet, and recognising its answer: against the kernel, on loopback and on a wire."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from rawkit.engine.batch import FrameBatch
from rawkit.engine.sockets import PacketSocket
from rawkit.errors import EngineError, FieldError, NoRoute, TargetError, UnknownInterface
from rawkit.tools.departure import prepare, send
from rawkit.tools.exchange import (
    Answer,
    Exchange,
    ExchangeConfig,
    Outcome,
    Sent,
    aexchange,
    exchange,
)
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


def test_what_came_before_is_not_taken_for_an_answer() -> None:
    """A session that is used again forgets what came meanwhile."""
    packet = IPv4(dst="127.0.0.1") / ICMPEcho(id=1)
    with Exchange([packet]) as session:
        for event in session:
            if isinstance(event, Sent):
                break  # its answer is waiting now, or about to come
        time.sleep(0.02)
        sent_ns = time.time_ns()
        answers = [event for event in session if isinstance(event, Answer)]
        assert len(answers) == 1
        assert answers[0].time_ns >= sent_ns


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


# ---- many at once ----------------------------------------------------------------------------------


def test_thousands_of_requests_each_get_their_own_answer(veth: VethPair) -> None:
    n = 3000
    packets = [
        IPv4(dst=veth.far_ipv4) / ICMPEcho(id=i >> 10, seq=i & 1023) / i.to_bytes(4, "big") for i in range(n)
    ]
    with Exchange(packets, ExchangeConfig(timeout_ns=5_000_000_000)) as session:
        events = list(session)
        assert session.dropped == 0
        outcomes = session.outcomes
    assert [type(event) for event in events].count(Sent) == n
    assert len(events) == 2 * n
    for i, outcome in enumerate(outcomes):
        assert len(outcome.answers) == 1
        answer = outcome.answers[0]
        assert answer.payload == i.to_bytes(4, "big")
        assert (answer.number, answer.attempt, answer.duplicate, answer.late) == (i, 1, False, False)
        assert (answer.stamp, answer.tx_stamp) == ("kernel", "kernel")
        assert answer.time_ns - answer.rtt_ns == outcome.sent_ns[0]
        assert 0 < answer.rtt_ns < 1_000_000_000


def test_packets_of_all_kinds_at_once(veth: VethPair) -> None:
    ether = Ether(src=veth.near_mac, dst=veth.far_mac)
    arp = Ether(src=veth.near_mac) / ARP(
        sender_mac=veth.near_mac, sender_ip=veth.near_ipv4, target_ip=veth.far_ipv4
    )
    outcomes = exchange(
        [
            IPv6(dst=veth.far_ipv6) / ICMPv6Echo(id=1),
            arp,
            IPv4(dst=veth.far_ipv4) / UDP(sport=1000, dport=9),
            ether / IPv4(dst=veth.far_ipv4) / TCP(sport=1000, dport=9, seq=5),
            ether / IPv6(dst=veth.far_ipv6) / ICMPv6Echo(id=2),
            IPv4(dst=veth.far_ipv4) / ICMPEcho(type=0),
            IPv4(dst=veth.far_ipv4) / UDP() / bytes(2000),
        ],
        interface=veth.near,
        timeout=2,
        linger=0.05,
    )
    kinds = (ICMPv6Echo, ARP, ICMPUnreachable, TCP, ICMPv6Echo)
    for outcome, kind in zip(outcomes, kinds):
        assert outcome.answer is not None, outcome
        assert kind in outcome.answer
        assert (outcome.answer.stamp, outcome.answer.tx_stamp) == ("kernel", "kernel")
    assert (outcomes[5].answer, outcomes[5].error) == (None, None)
    assert outcomes[6].error is not None
    assert outcomes[6].error.errno == errno.EMSGSIZE
    assert outcomes[6].sent_ns == []


def test_nothing_to_send() -> None:
    assert exchange([]) == []


@contextmanager
def server(veth: VethPair, replies: Callable[[int], list[float]]) -> Iterator[int]:
    """A UDP server on the far host; `replies` says after which pauses it answers the n-th datagram."""
    with veth.namespace.enter():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((veth.far_ipv4, 0))
    sock.settimeout(10)

    def serve() -> None:
        for n in itertools.count(1):
            octets, address = sock.recvfrom(100)
            if octets == b"stop":
                return
            for pause in replies(n):
                time.sleep(pause)
                sock.sendto(octets, address)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"stop", (veth.far_ipv4, sock.getsockname()[1]))
        thread.join()
        sock.close()


def test_an_answer_to_the_second_attempt_says_so(veth: VethPair) -> None:
    with server(veth, lambda n: [] if n == 1 else [0]) as port:
        request = IPv4(dst=veth.far_ipv4) / UDP(sport=7, dport=port) / b"?"
        (outcome,) = exchange([request], timeout=0.2, retries=3)
    assert outcome.answer is not None
    assert (outcome.answer.attempt, len(outcome.sent_ns)) == (2, 2)
    assert outcome.sent_ns[1] - outcome.sent_ns[0] >= 200_000_000
    assert outcome.answer.rtt_ns < 200_000_000
    assert outcome.answer.time_ns - outcome.answer.rtt_ns == outcome.sent_ns[1]


def test_duplicates_and_late_answers_are_told(veth: VethPair) -> None:
    with server(veth, lambda n: [0.3, 0]) as port:
        request = IPv4(dst=veth.far_ipv4) / UDP(sport=7, dport=port) / b"?"
        (outcome,) = exchange([request], timeout=0.1, linger=3)
    assert [(a.late, a.duplicate, a.attempt) for a in outcome.answers] == [(True, False, 1), (False, True, 1)]


def test_a_busy_host_does_not_drown_the_answers(veth: VethPair) -> None:
    """Other traffic of the same two hosts does not pass the filter, and so does not fill the buffer."""
    requests = [IPv4(dst=veth.far_ipv4) / ICMPEcho(id=9, seq=i) for i in range(50)]
    batch = FrameBatch(500)
    noise = IPv4(src=veth.far_ipv4, dst=veth.near_ipv4) / UDP(sport=5, dport=6) / bytes(1000)
    batch.extend([bytes(Ether(src=veth.far_mac, dst=veth.near_mac) / noise)] * 500)
    with (
        PacketSocket(veth.far, protocol=0, namespace=veth.namespace) as sender,
        PacketSocket(veth.near, protocol=0x0800, filter="udp port 6", ignore_outgoing=True) as witness,
        Exchange(requests, ExchangeConfig(timeout_ns=3_000_000_000, rate=2000.0)) as session,
    ):
        heard = session._lanes[next(iter(session._lanes))].receiver
        for event in session:
            if isinstance(event, Sent):
                sender.send_batch(batch)
        assert all(outcome.answer for outcome in session.outcomes)
        assert session.dropped == 0
        assert heard.counters().received == 50
        assert witness.counters().received == 50 * 500


# ---- asyncio -----------------------------------------------------------------------------------------


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_in_a_loop_the_answers_are_the_same(veth: VethPair) -> None:
    packets = [IPv4(dst=veth.far_ipv4) / ICMPEcho(id=2, seq=i) for i in range(500)]

    async def main() -> tuple[list[Outcome], Answer | None]:
        before = open_descriptors()
        many, one = await asyncio.gather(
            aexchange(packets, timeout=5), aexchange(IPv6(dst=veth.far_ipv6) / ICMPv6Echo(id=3), timeout=5)
        )
        assert open_descriptors() == before
        return many, one

    many, one = asyncio.run(main())
    assert [outcome.answer and outcome.answer[ICMPEcho].seq for outcome in many] == list(range(500))
    assert one is not None
    assert (one.stamp, one.tx_stamp) == ("kernel", "kernel")


def test_cancelling_leaves_nothing_open(veth: VethPair) -> None:
    silent = IPv4(dst=veth.far_ipv4) / ICMPEcho(type=0)

    async def main() -> None:
        before = open_descriptors()
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(aexchange(silent, timeout=60), 0.02)
            assert open_descriptors() == before
        with Exchange([silent]) as session:
            async for _ in session:
                break
        assert open_descriptors() == before

    asyncio.run(main())


def test_closing_ends_an_iteration_in_another_task(veth: VethPair) -> None:
    async def main() -> list[object]:
        with Exchange(
            [IPv4(dst=veth.far_ipv4) / ICMPEcho(type=0)], ExchangeConfig(60_000_000_000)
        ) as session:

            async def listen() -> list[object]:
                return [event async for event in session]

            task = asyncio.create_task(listen())
            while not session.outcomes[0].sent_ns:
                await asyncio.sleep(0.001)
        return await asyncio.wait_for(task, 5)

    assert [type(event) for event in asyncio.run(main())] == [Sent]


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
    assert rawkit.aexchange is aexchange
