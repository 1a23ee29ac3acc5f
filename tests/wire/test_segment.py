"""Segmentation by us and by the kernel, which cuts the very same large packets when it forwards them."""

from __future__ import annotations

import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import oracle
from wire.packets import any_layout, ipv4, ipv6, links

from rawkit.errors import SplitError
from rawkit.wire import (
    AUTO,
    MSS,
    TCP,
    UDP,
    Ether,
    Frame,
    ICMPEcho,
    IPv4,
    IPv6,
    IPv6Fragment,
    Packet,
    Timestamps,
)
from rawkit.wire.segment import segment, segment_udp

SEGMENT_FLAGS = TCP.ACK | TCP.PSH | TCP.FIN | TCP.CWR | TCP.ECE | TCP.AE
A4, B4 = "192.0.2.1", "192.0.2.2"


@st.composite
def large(draw: st.DrawFn, kind: type[TCP] | type[UDP]) -> Packet:
    upper: Any
    if kind is TCP:
        flags = st.integers(0, 511).map(lambda bits: bits & SEGMENT_FLAGS)
        upper = draw(any_layout(TCP, flags=flags, data_offset=st.just(AUTO)))
    else:
        upper = draw(any_layout(UDP))
    ip: Any = draw(st.one_of(ipv4(), ipv6()))
    payload = random.Random(draw(st.integers())).randbytes(draw(st.integers(0, 3000)))
    return Packet([*draw(links()), ip, upper], payload)


@settings(max_examples=20, deadline=None)
@given(packet=large(TCP), mss=st.integers(1, 1500).map(lambda n: max(n, 20)), parsed=st.booleans())
def test_tcp_segments(packet: Packet, mss: int, parsed: bool) -> None:
    if parsed:
        packet = Packet.parse(bytes(packet), first=type(packet.layers[0]))
    tcp, whole = packet[TCP], packet.payload
    pieces = [Packet.parse(bytes(p), first=type(packet.layers[0])) for p in segment(packet, mss)]
    assert b"".join(p.payload for p in pieces) == whole
    assert len(pieces) == max(1, -(-len(whole) // mss))
    for i, piece in enumerate(pieces):
        header = piece[TCP]
        assert len(piece.payload) <= mss
        assert header.seq == (tcp.seq + i * mss) % 2**32
        assert (header.options, header.ack, header.window) == (tcp.options, tcp.ack, tcp.window)
        last, first = i == len(pieces) - 1, i == 0
        assert header.flags & (TCP.FIN | TCP.PSH) == (tcp.flags & (TCP.FIN | TCP.PSH) if last else 0)
        assert header.flags & TCP.CWR == (tcp.flags & TCP.CWR if first else 0)
        others = ~(TCP.FIN | TCP.PSH | TCP.CWR)
        assert header.flags & others == tcp.flags & others
    check_below(packet, pieces)


@settings(max_examples=20, deadline=None)
@given(packet=large(UDP), size=st.integers(20, 1500))
def test_udp_segments(packet: Packet, size: int) -> None:
    pieces = [Packet.parse(bytes(p), first=type(packet.layers[0])) for p in segment_udp(packet, size)]
    assert b"".join(p.payload for p in pieces) == packet.payload
    assert all(len(p.payload) == size for p in pieces[:-1])
    assert len(pieces) == max(1, -(-len(packet.payload) // size))
    for piece in pieces:
        assert (piece[UDP].sport, piece[UDP].length) == (packet[UDP].sport, 8 + len(piece.payload))
    check_below(packet, pieces)


def check_below(packet: Packet, pieces: list[Packet]) -> None:
    """Headers below are the same but for length, checksum and identification; nothing is wrong anywhere."""
    places = [i for i, header in enumerate(packet.layers) if isinstance(header, (TCP, UDP))]
    for i, piece in enumerate(pieces):
        assert piece.error is None
        assert {verdict.state for verdict in piece.checksums()} == {"good"}
        for before, after in zip(packet.layers[: places[0]], piece.layers):
            if isinstance(before, IPv4) and isinstance(after, IPv4):
                assert after.id == (before.id + i) % 65536
                upper_len = sum(map(len, map(bytes, piece.layers[places[0] :]))) + len(piece.payload)
                assert after.total_length == after.ihl * 4 + upper_len
            for row in before.fields:
                value = getattr(before, row.name)
                if value is not AUTO and row.name not in ("id", "total_length", "payload_length", "checksum"):
                    assert getattr(after, row.name) == value, row.name


def test_what_fits_stays_as_it_is() -> None:
    packet = IPv4(src=A4, dst=B4) / TCP(flags="PA", checksum=1) / bytes(100)
    assert segment(packet, 100) == [packet]
    packet = IPv4(src=A4, dst=B4) / UDP(checksum=1) / bytes(100)
    assert segment_udp(packet, 100) == [packet]


def test_lengths_that_the_kernel_left_at_zero_are_filled_in() -> None:
    octets = bytes(IPv4(src=A4, dst=B4, total_length=0) / TCP(flags="A", checksum=0x1234) / bytes(200))
    pieces = segment(Packet.parse(octets, first=IPv4), 150)
    assert [Packet.parse(bytes(p), first=IPv4)[IPv4].total_length for p in pieces] == [190, 90]


def test_tunnels_are_cut_inside() -> None:
    inner = IPv4(src="198.51.100.1", dst="198.51.100.2", id=65535) / TCP(flags="PA") / bytes(150)
    pieces = [Packet.parse(bytes(p), first=IPv4) for p in segment(IPv4(src=A4, dst=B4, id=5) / inner, 100)]
    ids = [[header.id for header in p.layers if isinstance(header, IPv4)] for p in pieces]
    assert ids == [[5, 65535], [6, 0]]
    assert {v.state for p in pieces for v in p.checksums()} == {"good"}


def test_no_checksum_stays_none_over_ipv4_alone() -> None:
    """RFC 768: 0 means that there is none; RFC 8200 section 8.1: IPv6 has no such thing."""
    for ip, states in ((IPv4(src=A4, dst=B4), {0}), (IPv6(dst="2001:db8::2"), None)):
        found = {p[UDP].checksum for p in segment_udp(ip / UDP(checksum=0) / bytes(200), 100)}
        assert found == (states or {AUTO})


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (IPv4() / UDP() / bytes(200), "no TCP header"),
        (IPv4() / ICMPEcho() / bytes(200), "no TCP header"),
        (Ether() / TCP(flags="A") / bytes(200), "no IP header below TCP"),
        (IPv4(flags="MF") / TCP(flags="A") / bytes(200), "is a fragment"),
        (IPv6() / IPv6Fragment(more=1) / TCP(flags="A") / bytes(200), "is a fragment"),
        (IPv4() / TCP(flags="S", options=[MSS(1460)]) / bytes(200), r"flags S cannot be cut"),
        (IPv4() / TCP(flags="RA") / bytes(200), r"flags R\. cannot be cut"),
        (IPv4() / TCP(flags="UA") / bytes(200), r"flags U\. cannot be cut"),
        (IPv4(total_length=500) / TCP(flags="A") / bytes(200), "length says 500 octets, but there are 240"),
        (IPv6(payload_length=50) / TCP(flags="A") / bytes(200), "IPv6.payload_length says 50"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_says_why(packet: Packet, reason: str) -> None:
    with pytest.raises(SplitError, match=reason):
        segment(packet, 100)


def test_sizes_are_positive() -> None:
    for cut in (segment, segment_udp):
        with pytest.raises(ValueError, match="0 octets of payload"):
            cut(IPv4() / TCP() / bytes(10), 0)


def test_tshark_finds_nothing_wrong(tmp_path: Path) -> None:
    """No bad checksum, nothing retransmitted, lost or out of order, and the stream is the payload."""
    from rawkit.pcap import create_pcap

    tshark = oracle("tshark")
    payload = random.Random(1).randbytes(40_000)
    link = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
    path = tmp_path / "segments.pcap"
    for ip in (IPv4(src=A4, dst=B4, id=65530), IPv6(src="2001:db8::1", dst="2001:db8::2")):
        tcp = TCP(sport=40000, dport=80, seq=2**32 - 1000, ack=1, flags="PAF", options=[Timestamps(1, 2)])
        syn = tcp.replace(seq=tcp.seq - 1, ack=0, flags="S")
        with create_pcap(path) as writer:
            packets = [link / ip / syn, *segment(link / ip / tcp / payload, 1400)]
            for n, packet in enumerate(packets):
                writer.write(Frame(bytes(packet), n * 1000))
        command = [tshark, "-r", str(path), "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
        for field in ("tcp.payload", "tcp.checksum.status", "tcp.analysis.flags", "_ws.expert.message"):
            command += ["-e", field]
        command += ["-e", "tcp.flags.fin", "-T", "fields", "-Y", "tcp.len > 0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        assert b"".join(bytes.fromhex(row[0]) for row in rows) == payload
        assert {(row[1], row[2]) for row in rows} == {("1", "")}
        assert not any(word in row[3] for row in rows for word in ("retransmission", "out-of-order", "bad"))
        fins = [row[4] in ("1", "True") for row in rows]  # versions of tshark differ
        assert fins == [False] * 28 + [True]


# ---- the kernel as oracle -------------------------------------------------------------------------


@pytest.fixture
def behind_router(veth: Any) -> Iterator[tuple[Any, Any]]:
    """(veth, server): behind the far end of veth a router, and behind it a server's namespace.

    The router takes large segments in whole at v1 and has to cut them for its other interface, w0, which can
    do nothing itself; they come out at w1 in the server's namespace.
    """
    from pyroute2 import IPRoute

    from rawkit.engine.namespace import Namespace

    ethtool = oracle("ethtool")

    def up(name: str, mine: str, gateway: str | None = None) -> None:
        with IPRoute() as route:
            index = route.link_lookup(ifname=name)[0]
            Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
            route.addr("add", index=index, address=f"10.78.0.{mine}", prefixlen=24)
            route.addr("add", index=index, address=f"fd78::{mine}", prefixlen=64)
            route.link("set", index=index, state="up")
            if gateway:
                route.route("add", dst="10.77.0.0/24", gateway=f"10.78.0.{gateway}")
                route.route("add", dst="fd77::/64", gateway=f"fd78::{gateway}")

    with Namespace.create() as server:
        with veth.namespace.enter():
            with IPRoute() as route:
                route.link(
                    "add", ifname="w0", kind="veth", peer={"ifname": "w1", "net_ns_fd": server.fileno()}
                )
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
            features = ["tso", "off", "gso", "off", "tx", "off", "sg", "off", "tx-udp-segmentation", "off"]
            subprocess.run([ethtool, "-K", "w0", *features], check=True, capture_output=True, timeout=20)
            up("w0", "1")
        with server.enter():
            up("w1", "2", gateway="1")
        with IPRoute() as route:
            route.route("add", dst="10.78.0.0/24", gateway=veth.far_ipv4)
            route.route("add", dst="fd78::/64", gateway=veth.far_ipv6)
        yield veth, server


def wait_for_route(server: Any, family: int) -> None:
    """Until the server's namespace can be reached: fresh interfaces drop the first packets."""
    kind, target = (socket.AF_INET, "10.78.0.2") if family == 4 else (socket.AF_INET6, "fd78::2")
    end = time.monotonic() + 10
    while True:
        with socket.socket(kind) as probe:
            probe.settimeout(0.2)
            try:
                probe.connect((target, 1))
            except ConnectionRefusedError:
                return
            except OSError:
                assert time.monotonic() < end, "the server's namespace cannot be reached"
                time.sleep(0.02)


def seen_by(sock: Any, kind: type[TCP] | type[UDP], want: int) -> list[Frame]:
    """The frames with data to port 9000, until there are `want` octets of it."""
    frames: list[Frame] = []
    have = 0
    for frame in sock.frames(timeout=5):
        packet = frame.packet()
        if kind in packet and packet[kind].dport == 9000 and packet.payload:
            frames.append(frame)
            have += len(packet.payload)
            if have >= want:
                break
    return frames


def compared(packet: Packet) -> bytes:
    """The octets from IP on without what a router changes: TTL and header checksum."""
    layers = list(packet.layers)
    for i, header in enumerate(layers):
        if isinstance(header, IPv4):
            layers[i] = header.replace(ttl=0, checksum=0)
        elif isinstance(header, IPv6):
            layers[i] = header.replace(hop_limit=0)
    return bytes(Packet(layers[1:], packet.payload))


@pytest.mark.net
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", [TCP, UDP])
def test_we_cut_as_the_kernel_does(behind_router: Any, kind: type[TCP] | type[UDP], family: int) -> None:
    from rawkit.engine import PacketSocket

    veth, server = behind_router
    wait_for_route(server, family)
    payload = random.Random(family).randbytes(60_000 if kind is TCP else 20_000)
    domain, target = (socket.AF_INET, "10.78.0.2") if family == 4 else (socket.AF_INET6, "fd78::2")
    transport = socket.SOCK_STREAM if kind is TCP else socket.SOCK_DGRAM
    received = bytearray()

    def drain() -> None:
        connection = listener
        if kind is TCP:
            connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            while len(received) < len(payload):
                received.extend(connection.recv(65536))

    options: dict[str, Any] = {"ignore_outgoing": True, "buffer_len": 8 << 20}
    with server.enter():
        listener = socket.socket(domain, transport)
    with (
        listener,
        PacketSocket("v1", namespace=veth.namespace, **options) as whole_side,
        PacketSocket("w1", namespace=server, **options) as cut_side,
        socket.socket(domain, transport) as sender,
    ):
        listener.settimeout(5)
        listener.bind((target, 9000))
        if kind is TCP:
            listener.listen()
        drainer = threading.Thread(target=drain)
        drainer.start()
        sender.settimeout(5)
        sender.connect((target, 9000))
        if kind is TCP:
            sender.sendall(payload)
        else:
            udp_segment = 103
            sender.setsockopt(socket.IPPROTO_UDP, udp_segment, 1111)
            sender.send(payload)
        drainer.join(timeout=10)
        large = seen_by(whole_side, kind, len(payload))
        small = seen_by(cut_side, kind, len(payload))
    assert bytes(received) == payload
    assert max(frame.gso_len for frame in large) > 1000
    assert len(large) < len(small)
    cut = segment if kind is TCP else segment_udp
    ours = [
        piece
        for frame in large
        for piece in (cut(frame.packet(), frame.gso_len) if frame.gso_len else [frame.packet()])
    ]
    repaired = [p.replace(kind, checksum=AUTO) for p in ours]  # what was not cut has none yet
    # In order of their octets: a router on two processors may let one frame overtake another.
    assert sorted(compared(p).hex() for p in repaired) == sorted(compared(f.packet()).hex() for f in small)
