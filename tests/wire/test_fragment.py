"""Fragments of both families: cut, put together, hostile; scapy, tshark and the kernel as oracles."""

from __future__ import annotations

import random
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import oracle
from wire.packets import links

from rawkit.errors import SplitError
from rawkit.wire import (
    TCP,
    UDP,
    Dot1Q,
    Ether,
    Frame,
    Header,
    ICMPEcho,
    IPv4,
    IPv6,
    IPv6Fragment,
    Packet,
)
from rawkit.wire.fragment import Reassembler, fragment
from rawkit.wire.ipv4 import RecordRoute, RouterAlert

SECOND = 1_000_000_000
A4, B4 = "192.0.2.1", "192.0.2.2"
A6, B6 = "2001:db8::1", "2001:db8::2"


def v4(payload: bytes, id: int = 7, **fields: Any) -> Packet:
    return IPv4(src=A4, dst=B4, id=id, **fields) / UDP(sport=1, dport=2) / payload


def v6(payload: bytes) -> Packet:
    return IPv6(src=A6, dst=B6) / UDP(sport=1, dport=2) / payload


def piece4(start: int, data: bytes, more: bool = True, **fields: Any) -> Packet:
    fields = {"src": A4, "dst": B4, "id": 7, "protocol": 17, **fields}
    return Packet([IPv4(flags=IPv4.MF if more else 0, fragment_offset=start // 8, **fields)], data)


def piece6(start: int, data: bytes, more: bool = True, protocol: int = 17, id: int = 7) -> Packet:
    return Packet(
        [
            IPv6(src=A6, dst=B6),
            IPv6Fragment(protocol=protocol, fragment_offset=start // 8, more=more, id=id),
        ],
        data,
    )


def feed_all(reassembler: Reassembler, packets: list[Packet]) -> list[Packet]:
    return [whole for packet in packets if (whole := reassembler.feed(packet, 0)) is not None]


def counted(reassembler: Reassembler) -> dict[str, int]:
    """The counters that are not 0, without the total of fragments."""
    names = type(reassembler.counters).__dataclass_fields__
    return {n: v for n in names if (v := getattr(reassembler.counters, n)) and n != "fragments"}


@st.composite
def datagrams(draw: st.DrawFn) -> Packet:
    """Packets of both families with link headers, options and extension headers, up to a few kilobytes."""
    layers: list[Header] = list(draw(links()))
    payload = draw(st.integers(0, 3000).map(lambda n: random.Random(n).randbytes(n)))
    upper = draw(st.sampled_from([UDP(sport=5, dport=6), TCP(dport=80), None]))
    if draw(st.booleans()):
        options = draw(st.lists(st.sampled_from([RouterAlert(), RecordRoute(route=bytes(4))]), max_size=3))
        id, dscp = draw(st.integers(0, 65535)), draw(st.integers(0, 63))
        layers.append(IPv4(src=A4, dst=B4, id=id, dscp=dscp, options=options, ttl=draw(st.integers(0, 255))))
        if upper is None:
            upper = ICMPEcho(id=1, seq=2)
    else:
        layers.append(IPv6(src=A6, dst=B6, traffic_class=draw(st.sampled_from([0, 0x88])), flow_label=5))
        if upper is None:
            upper = UDP(sport=7, dport=8)
    return Packet([*layers, upper], payload)


@settings(max_examples=50, deadline=None)
@given(packet=datagrams(), mtu=st.integers(140, 1500), random=st.randoms(use_true_random=False))
def test_fragments_in_any_order_give_the_packet_back(packet: Packet, mtu: int, random: random.Random) -> None:
    pieces = fragment(packet, mtu)
    link_len = sum(len(h) for h in map(bytes, _links(packet)))
    assert all(len(piece) - link_len <= mtu for piece in pieces)
    assert len(pieces) == 1 or len(bytes(packet)) - link_len > mtu
    first = type(packet.layers[0])
    fed = [Packet.parse(bytes(piece), first=first) for piece in pieces]
    if len(pieces) > 1:
        # One is kept for the end: after it the datagram is whole, and a repeated fragment opens a new one.
        last = fed.pop(random.randrange(len(fed)))
        fed += random.choices(fed, k=random.randrange(5))
        random.shuffle(fed)
        fed.append(last)
    reassembler = Reassembler()
    [whole] = feed_all(reassembler, fed)
    assert bytes(whole) == bytes(packet)
    assert (reassembler.pending, reassembler.held_bytes) == (0, 0)
    assert whole.error is None


def _links(packet: Packet) -> list[Header]:
    layers = packet.layers
    return list(layers[: next(i for i, header in enumerate(layers) if header.is_network)])


@settings(max_examples=30, deadline=None)
@given(packet=datagrams(), mtus=st.lists(st.integers(140, 1500), min_size=2, max_size=3))
def test_fragments_can_be_cut_further(packet: Packet, mtus: list[int]) -> None:
    pieces = [packet]
    for mtu in sorted(mtus, reverse=True):
        pieces = [smaller for piece in pieces for smaller in fragment(piece, mtu)]
    [whole] = feed_all(Reassembler(), pieces[::-1])
    assert bytes(whole) == bytes(packet)


def test_ipv4_fields_of_fragments() -> None:
    """RFC 791 section 3.2: offsets in units of 8 octets, MF on all but the last, same identification."""
    pieces = fragment(v4(bytes(range(100)), id=0x1234, ttl=9), 68)
    fields = [(p[IPv4].fragment_offset, p[IPv4].flags, p[IPv4].total_length) for p in pieces]
    assert fields == [(0, IPv4.MF, 68), (6, IPv4.MF, 68), (12, 0, 32)]
    assert {(p[IPv4].id, p[IPv4].ttl, p[IPv4].protocol) for p in pieces} == {(0x1234, 9, 17)}
    assert [UDP in p for p in pieces] == [True, False, False]
    assert all(p.checksums()[0].state == "good" for p in pieces)


def test_ipv4_options_go_where_their_copied_bit_says() -> None:
    """RFC 791 section 3.1: router alert (148) is copied, record route (7) is not."""
    options = [RecordRoute(route=bytes(4)), RouterAlert()]
    first, *later = fragment(v4(bytes(200), options=options), 100)
    assert [type(o) for o in first[IPv4].options] == [RecordRoute, RouterAlert]
    assert all(p[IPv4].options == (RouterAlert(),) and p[IPv4].ihl == 6 for p in later)


def test_df_forbids_fragments() -> None:
    packet = v4(bytes(100), flags=IPv4.DF)
    with pytest.raises(SplitError, match="128 octets, MTU 127, and DF is set"):
        fragment(packet, 127)
    assert fragment(packet, 128) == [packet]


def test_ipv6_fragment_header_follows_the_per_fragment_headers() -> None:
    """RFC 8200 section 4.5: after hop-by-hop options and routing header, before destination options."""
    hop_by_hop = bytes([60, 0, 1, 4, 0, 0, 0, 0])
    destination = bytes([43, 0, 1, 4, 0, 0, 0, 0])
    routing = bytes([60, 0, 253, 0, 0, 0, 0, 0])
    last_destination = bytes([17, 0, 1, 4, 0, 0, 0, 0])
    rest = last_destination + bytes(UDP(sport=1, dport=2, length=1008, checksum=1)) + bytes(1000)
    packet = Packet([IPv6(src=A6, dst=B6, next_header=0)], hop_by_hop + destination + routing + rest)
    pieces = fragment(packet, 600, id=5)
    for piece in pieces:
        octets = bytes(piece)
        assert octets[40:64] == hop_by_hop + destination + bytes([44]) + routing[1:]
        assert octets[64] == 60
        assert octets[68:72] == bytes([0, 0, 0, 5])
    assert b"".join(bytes(piece)[72:] for piece in pieces) == rest
    [whole] = feed_all(Reassembler(), pieces)
    assert bytes(whole) == bytes(packet)


def test_ipv6_packets_get_different_numbers() -> None:
    ids = {fragment(v6(bytes([n]) * 2000), 1280)[0][IPv6Fragment].id for n in range(20)}
    assert len(ids) == 20
    assert fragment(v6(bytes(2000)), 1280, id=77)[1][IPv6Fragment].id == 77


@pytest.mark.parametrize(
    ("packet", "mtu", "reason"),
    [
        (Packet([Ether()], bytes(200)), 100, "has no IP header"),
        (v4(bytes(100)), 27, "no room for 8 octets after headers of 20"),
        (v6(bytes(100)), 55, "no room for 8 octets after headers of 48"),
        (IPv4(dst=B4) / UDP() / bytes(100), 60, "set the source address first"),
        (piece4(0, bytes(9), total_length=500), 28, "20 octets of 500, but there are 29"),
        (Packet([IPv6(src=A6, dst=B6, payload_length=9)], bytes(99)), 60, "9 octets follow, but 99 do"),
        (piece4(65000, bytes(600)), 200, "would be 65620 octets long"),
    ],
)  # fmt: skip
def test_packets_that_cannot_be_cut_say_why(packet: Packet, mtu: int, reason: str) -> None:
    with pytest.raises(SplitError, match=reason):
        fragment(packet, mtu)


def test_an_identification_that_does_not_fit() -> None:
    with pytest.raises(SplitError, match="id 65536 does not fit"):
        fragment(v4(bytes(100)), 60, id=65536)


def test_what_is_no_fragment_passes_through() -> None:
    reassembler = Reassembler()
    for packet in (v4(b"x"), v6(b"x"), Packet([Ether()], b"x"), Packet([], b"")):
        assert reassembler.feed(packet, 0) is packet
    assert reassembler.counters.fragments == 0


def test_datagrams_are_told_apart() -> None:
    """RFC 791 section 3.2: source, destination, protocol and identification; VLANs besides."""
    data = bytes(8), bytes([1]) * 8
    for change in ({"src": "192.0.2.9"}, {"dst": "192.0.2.9"}, {"id": 8}, {"protocol": 6}):
        reassembler = Reassembler()
        assert feed_all(reassembler, [piece4(0, data[0]), piece4(8, data[1], more=False, **change)]) == []
        assert reassembler.pending == 2
    tagged = [
        Ether() / Dot1Q(vid=n) / p for n, p in enumerate((piece4(0, data[0]), piece4(8, data[1], False)))
    ]
    assert feed_all(Reassembler(), tagged) == []
    # RFC 8200 section 4.5: the next header value of the first fragment counts, those of others may differ.
    [whole] = feed_all(Reassembler(), [piece6(8, data[1], False, protocol=99), piece6(0, data[0])])
    assert whole[IPv6].next_header == 17


@pytest.mark.parametrize("make", [piece4, piece6])
def test_contradicting_overlap_drops_the_datagram_and_what_still_comes(make: Any) -> None:
    """RFC 5722 section 4, and the same for IPv4."""
    reassembler = Reassembler()
    fed = [make(0, bytes(16)), make(8, b"EVIL" * 4), make(16, bytes(8), more=False), make(0, bytes(16))]
    assert feed_all(reassembler, fed) == []
    assert counted(reassembler) == {"overlap": 1, "late": 2}
    assert reassembler.feed(make(16, bytes(8), more=False), 61 * SECOND) is None
    assert counted(reassembler) == {"overlap": 1, "late": 2}


def test_agreeing_overlap_is_dropped_in_ipv6_and_harmless_in_ipv4() -> None:
    data = bytes(range(32))
    for make, whole in ((piece4, 1), (piece6, 0)):
        reassembler = Reassembler()
        fed = [make(0, data[:16]), make(24, data[24:], False), make(8, data[8:32], False)]
        assert len(feed_all(reassembler, fed)) == whole
        assert counted(reassembler) == ({"complete": 1} if whole else {"overlap": 1})


@pytest.mark.parametrize("make", [piece4, piece6])
def test_duplicates_are_passed_over(make: Any) -> None:
    reassembler = Reassembler()
    fed = [make(0, bytes(16))] * 3 + [make(16, bytes(5), more=False)]
    assert len(feed_all(reassembler, fed)) == 1
    assert counted(reassembler) == {"duplicate": 2, "complete": 1}


def test_an_end_that_comes_as_a_duplicate_completes() -> None:
    assert (
        len(feed_all(Reassembler(), [piece4(0, bytes(8)), piece4(8, bytes(8)), piece4(8, bytes(8), False)]))
        == 1
    )


@pytest.mark.parametrize("make", [piece4, piece6])
@pytest.mark.parametrize(
    "fed",
    [
        [(16, 8, False), (24, 8, False)],
        [(16, 8, False), (24, 8, True)],
        [(16, 8, False), (16, 8, True)],
        [(16, 8, True), (8, 8, False)],
    ],
)
def test_two_ends_drop_the_datagram(make: Any, fed: list[tuple[int, int, bool]]) -> None:
    reassembler = Reassembler()
    assert feed_all(reassembler, [make(start, bytes(n), more) for start, n, more in fed]) == []
    assert counted(reassembler) == {"conflict": 1}
    assert reassembler.held_bytes == 200


def test_atomic_fragments_stand_alone() -> None:
    """RFC 6946 section 4."""
    reassembler = Reassembler()
    assert reassembler.feed(piece6(0, bytes(16)), 0) is None
    whole = reassembler.feed(piece6(0, b"alone...", more=False), 0)
    assert whole is not None
    assert bytes(whole) == bytes(Packet([IPv6(src=A6, dst=B6, next_header=17)], b"alone..."))
    assert reassembler.feed(piece6(16, bytes(8), more=False), 0) is not None
    assert counted(reassembler) == {"atomic": 1, "complete": 2}


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (piece4(8, bytes(12)), "misaligned"),
        (piece6(8, bytes(12)), "misaligned"),
        (piece4(8, b""), "empty"),
        (piece6(8, b"", more=False), "empty"),
        (piece4(65528, bytes(8), more=False), "too_long"),
        (piece6(65528, bytes(9), more=False), "too_long"),
        (piece4(0, bytes(8), protocol=6), "tiny"),
        (piece6(0, bytes(16), protocol=6), "tiny"),
        (piece4(8, bytes(8), total_length=100), "cut"),
        (piece6(8, bytes(8)).replace(IPv6, payload_length=99), "cut"),
    ],
)  # fmt: skip
def test_bad_fragments_are_counted(packet: Packet, reason: str) -> None:
    reassembler = Reassembler()
    assert reassembler.feed(packet, 0) is None
    assert counted(reassembler) == {reason: 1}
    assert reassembler.pending == 0


def test_total_length_with_the_first_header_is_checked() -> None:
    """Options that only the first fragment has may bring the datagram over the limit."""
    reassembler = Reassembler()
    data = bytes(65512)
    fed = [
        piece4(0, data[:8], options=bytes(4)),
        piece4(8, data[8:65512]),
        piece4(65512, bytes(3), more=False),
    ]
    assert feed_all(reassembler, fed) == []
    assert counted(reassembler) == {"too_long": 1}


@pytest.mark.parametrize(
    ("marks", "result"), [((2, 3), 3), ((1, 3), 3), ((0, 3), None), ((2, 1), 2), ((0, 0), 0)]
)
def test_congestion_marks(marks: tuple[int, int], result: int | None) -> None:
    """RFC 3168 section 5.3: a mark on any fragment marks the packet; it is dropped where that cannot be."""
    reassembler = Reassembler()
    for make in (piece4, piece6):
        fed = [make(0, bytes(8)), make(8, bytes(8), more=False)]
        for packet, mark in zip(fed, marks):
            if make is piece4:
                packet[IPv4].ecn = mark
            else:
                packet[IPv6].traffic_class = mark
        whole = feed_all(reassembler, fed)
        found = [p[IPv4].ecn if make is piece4 else p[IPv6].traffic_class for p in whole]
        assert found == ([] if result is None else [result])


@pytest.mark.parametrize(("make", "seconds"), [(piece4, 30), (piece6, 60)])
def test_timeout_counts_from_the_first_fragment(make: Any, seconds: int) -> None:
    """RFC 8200 section 4.5: 60 seconds of the reception of the first-arriving fragment."""
    for late, counters in ((-1, {"complete": 1}), (0, {"timeout": 1})):
        reassembler = Reassembler()
        reassembler.feed(make(8, bytes(8)), 5)
        reassembler.feed(make(0, bytes(8)), 20 * SECOND)
        whole = reassembler.feed(make(16, bytes(8), more=False), 5 + seconds * SECOND + late)
        assert (whole is not None) == ("complete" in counters)
        assert counted(reassembler) == counters


def test_memory_and_datagrams_are_bounded() -> None:
    """The oldest make room, of whichever family."""
    reassembler = Reassembler(max_bytes=20_000, max_datagrams=10)
    for n in range(1000):
        make = piece4 if n % 3 else piece6
        reassembler.feed(make(8 * (n % 7), bytes(n % 100 * 8 + 8), id=n), n)
        assert reassembler.held_bytes <= 20_000
        assert reassembler.pending <= 10
    assert reassembler.counters.evicted == 1000 - reassembler.pending
    assert reassembler.feed(piece4(8, bytes(8), id=2000), 1000) is None
    for n in range(100):  # a single datagram cannot hold more either
        reassembler.feed(piece4(8 + n * 1000, bytes(1000), id=2000) if n < 60 else piece4(0, b"", id=1), 1000)
        assert reassembler.held_bytes <= 20_000


def test_a_datagram_of_the_smallest_fragments_takes_linear_time() -> None:
    """8,188 fragments of 8 octets, last first: a second on a slow machine, not minutes."""
    reassembler = Reassembler()
    data = random.Random(1).randbytes(65504)
    fed = [piece4(at, data[at : at + 8], more=at < 65496) for at in range(65496, -8, -8)]
    [whole] = feed_all(reassembler, fed)
    assert bytes(whole)[20:] == data


@settings(max_examples=40, deadline=None)
@given(
    packet=datagrams(),
    changes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 100), st.integers(0, 255)), max_size=20),
)
def test_damaged_fragments_never_raise_nor_leak(packet: Packet, changes: list[tuple[int, int, int]]) -> None:
    first = type(packet.layers[0])
    fed = [bytearray(bytes(piece)) for piece in fragment(packet, 140)] * 2
    for n, at, value in changes:
        octets = fed[n % len(fed)]
        octets[at % len(octets)] = value
    reassembler = Reassembler(max_bytes=5000)
    for octets in fed:
        whole = reassembler.feed(Packet.parse(bytes(octets), first=first), 0)
        assert whole is None or len(bytes(whole)) <= 65535 + 80
        assert reassembler.held_bytes <= 5000
    reassembler.expire(61 * SECOND)
    assert (reassembler.pending, reassembler.held_bytes) == (0, 0)


# ---- oracles --------------------------------------------------------------------------------------


def test_scapy_puts_our_fragments_together_and_we_scapys() -> None:
    pytest.importorskip("scapy")
    from scapy.layers.inet import IP, defragment
    from scapy.layers.inet6 import IPv6 as ScapyIPv6
    from scapy.layers.inet6 import IPv6ExtHdrFragment, defragment6, fragment6

    payload = random.Random(3).randbytes(4000)
    packet = v4(payload, options=[RouterAlert()])
    [whole] = defragment([IP(bytes(piece)) for piece in fragment(packet, 576)])
    assert bytes(whole) == bytes(packet)
    theirs = [Packet.parse(bytes(p), first=IPv4) for p in IP(bytes(v4(payload))).fragment(520)]
    assert len(theirs) == 8
    [back] = feed_all(Reassembler(), theirs)
    assert bytes(back) == bytes(v4(payload))

    packet = v6(payload)
    assert bytes(defragment6([ScapyIPv6(bytes(piece)) for piece in fragment(packet, 1280)])) == bytes(packet)
    with_header = ScapyIPv6(src=A6, dst=B6) / IPv6ExtHdrFragment() / ScapyIPv6(bytes(packet)).payload
    theirs = [Packet.parse(bytes(p), first=IPv6) for p in fragment6(with_header, 1280)]
    [back] = feed_all(Reassembler(), theirs)
    assert bytes(back) == bytes(packet)


def bind(sock: socket.socket, address: str, port: int) -> None:
    """Bind to an address that the kernel may be about to bring up."""
    end = time.monotonic() + 5
    while True:
        try:
            sock.bind((address, port))
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


@pytest.mark.net
@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_puts_our_fragments_together(veth: Any, family: int) -> None:
    from rawkit.engine import PacketSocket

    payload = random.Random(5).randbytes(5000)
    link = Ether(dst=veth.far_mac, src=veth.near_mac)
    with veth.namespace.enter():
        listener = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    with listener, PacketSocket("v0", protocol=0) as sender:
        bind(listener, veth.far_ipv4 if family == 4 else veth.far_ipv6, 9000)
        ip: Header = (
            IPv4(src=veth.near_ipv4, dst=veth.far_ipv4, id=99, options=[RouterAlert()])
            if family == 4
            else IPv6(src=veth.near_ipv6, dst=veth.far_ipv6)
        )
        pieces = fragment(Packet([link, ip, UDP(sport=9001, dport=9000)], payload), 1280)
        random.Random(6).shuffle(pieces)
        assert len(pieces) == 5 if family == 6 else len(pieces) >= 4
        # A fresh interface drops what comes before its routes are in place.
        whole = bytes(Packet([link, ip, UDP(sport=9001, dport=9000)], b"ready?"))
        for _ in range(100):
            sender.send(whole)
            if select.select([listener], [], [], 0.05)[0]:
                break
        for piece in pieces:
            sender.send(bytes(piece))
        listener.settimeout(5)
        received, peer = b"ready?", None
        while received == b"ready?":
            received, peer = listener.recvfrom(65535)
    assert received == payload
    assert peer[1] == 9001


@pytest.mark.net
@pytest.mark.parametrize("family", [4, 6])
def test_we_put_the_kernels_fragments_together(veth: Any, family: int) -> None:
    from rawkit.engine import PacketSocket

    payload = random.Random(7).randbytes(4000)
    target = veth.far_ipv4 if family == 4 else veth.far_ipv6
    reassembler = Reassembler()
    whole: list[Packet] = []
    with (
        PacketSocket("v1", filter="ip or ip6", namespace=veth.namespace) as receiver,
        socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sender,
    ):
        bind(sender, veth.near_ipv4 if family == 4 else veth.near_ipv6, 9001)
        sender.settimeout(5)
        sender.sendto(payload, (target, 9000))
        for frame in receiver.frames(timeout=5):
            packet = reassembler.feed(frame.packet(), frame.time_ns)
            if packet is not None and UDP in packet:
                whole.append(packet)
                break
    assert reassembler.counters.fragments == 3
    assert whole[0].payload == payload
    assert whole[0][UDP].sport == 9001
    assert {v.state for v in whole[0].checksums()} == {"good"}


def test_tshark_puts_our_fragments_together(tmp_path: Path) -> None:
    from rawkit.pcap import create_pcap

    tshark = oracle("tshark")
    payload = random.Random(8).randbytes(3000)
    path = tmp_path / "fragments.pcap"
    with create_pcap(path) as writer:
        for packet in (v4(payload), v6(payload)):
            pieces = fragment(Ether(dst="00:00:5e:00:53:01", src="00:00:5e:00:53:02") / packet, 1280)
            for n, piece in enumerate(reversed(pieces)):
                writer.write(Frame(bytes(piece), n + 1))
    command = [tshark, "-r", str(path), "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    command += ["-T", "fields", "-e", "udp.payload", "-e", "udp.checksum.status", "-Y", "udp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows == [[payload.hex(), "1"]] * 2
