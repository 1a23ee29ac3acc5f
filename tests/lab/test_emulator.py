"""The emulated link does what the simulated one does: packet by packet, to the nanosecond, for any link."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.engine.link import _CAUSES, LinkDirection, emu_spec
from rawkit.engine.native import ffi, lib
from rawkit.errors import LocalProtocolError
from rawkit.lab.emulator import emulated
from rawkit.sim import (
    Bernoulli,
    Blackhole,
    Burst,
    CoDel,
    Corrupt,
    DropTail,
    Duplicate,
    EcnThreshold,
    GilbertElliott,
    Jitter,
    LinkSpec,
    Mahimahi,
    Numbers,
    Periodic,
    Red,
    Reorder,
    Schedule,
    p2p,
)
from rawkit.sim.link import Datagram
from rawkit.sim.network import Node
from rawkit.wire import ARP, UDP, Dot1Q, Ether, IPv4, IPv6, Packet
from rawkit.wire.icmpv6 import NeighbourSolicitation

MS = 10**6
BELOW = 14 + 20
Arrived = tuple[int, bytes, int]  # when, the octets above IP, ECN
Offer = tuple[int, int, int]  # when, how many octets above IP, ECN


class Sink(Node):
    """Notes what comes out of a link."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.got: list[Arrived] = []

    def receive(self, datagram: Datagram) -> None:
        self.got.append((self.network.clock.now, bytes(datagram.octets), datagram.ecn))


def content(number: int, size: int) -> bytes:
    return bytes((number * 31 + i) % 256 for i in range(size))


def simulated(
    spec: LinkSpec, seed: int, schedule: Schedule, offers: list[Offer]
) -> tuple[list[Arrived], Counter[str]]:
    network = p2p(spec, spec, seed=seed)
    a = network.nodes["a"]
    link = network.links[0]
    schedule.attach(link)
    sink = Sink(network, "sink", "")
    link.forth.target = sink
    for number, (at, size, ecn) in enumerate(offers):
        datagram = Datagram(content(number, size), size + 20, a, sink, 0, ecn, number)
        network.clock.at(at, link.forth.send, datagram)
    network.run()
    return sink.got, link.forth.counts


class Emulated:
    """The engine, by its C interface."""

    def __init__(self, direction: LinkDirection) -> None:
        out = ffi.new("struct rk_emu **")
        spec, arrays = emu_spec(direction)
        assert lib.rk_emu_open(out, ffi.new("struct rk_emu_spec *", spec)) == 0
        del arrays
        self.handle = ffi.gc(out[0], lib.rk_emu_close)

    def take(self) -> list[tuple[int, bytes]]:
        frames = ffi.new("struct rk_emu_frame[64]")
        got = []
        while n := lib.rk_emu_peek(self.handle, frames, 64):
            got += [(f.due_ns, ffi.buffer(f.octets, f.len)[:]) for f in frames[0:n]]
            lib.rk_emu_take(self.handle, n)
        return got

    def counts(self) -> Counter[str]:
        counts = ffi.new("uint64_t[]", lib.RK_EMU_CAUSES)
        lib.rk_emu_read(self.handle, counts)
        return Counter({name: n for name, n in zip(_CAUSES, counts) if n})


def emulate(direction: LinkDirection, offers: list[Offer]) -> tuple[list[Arrived], Counter[str]]:
    emu = Emulated(direction)
    frames = []
    for number, (at, size, ecn) in enumerate(offers):
        header = IPv4(src="192.0.2.1", dst="192.0.2.2", protocol=253, ecn=ecn)
        packet = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / header / content(number, size)
        octets = bytes(packet)
        assert lib.rk_emu_offer(emu.handle, at, octets, len(octets)) == 0
        frames += emu.take()
    lib.rk_emu_advance(emu.handle, 2**63 - 1)
    got = []
    for at, octets in frames + emu.take():
        ip = Packet.parse(octets)[IPv4]
        got.append((at, octets[BELOW:], ip.ecn))
        assert [v.state for v in Packet.parse(octets[:BELOW]).checksums()] == ["good"]
    return got, emu.counts()


durations = st.integers(0, 40).map(lambda ms: f"{ms}ms")
shares = st.sampled_from([0.0, 0.02, 0.2, 0.5, 1.0])
models = st.one_of(
    st.builds(Bernoulli, shares),
    st.builds(GilbertElliott, shares, shares, shares, shares),
    st.builds(Periodic, st.integers(1, 9)),
    st.builds(Burst, st.integers(5, 9), st.integers(1, 5)),
    st.builds(Numbers, st.sets(st.integers(0, 60), max_size=8)),
    st.builds(Blackhole, st.just("20ms"), st.just("60ms")),
    st.builds(Corrupt, shares, st.sampled_from([0.0, 1e-5, 1e-3, 0.1])),
    st.builds(Duplicate, shares, durations),
    st.builds(Reorder, shares, st.integers(1, 5)),
    st.builds(Reorder, shares, by_time=st.sampled_from(["1us", "3ms"])),
    st.builds(Jitter, durations),
)
limits = st.none() | st.integers(0, 20)
queues = st.one_of(
    st.builds(DropTail, limits, limits.map(lambda n: n and n * 700), st.none() | durations),
    st.builds(EcnThreshold, st.integers(0, 8), st.integers(1, 20)),
    st.builds(Red, low=st.just(1.0), high=st.just(4.0), most=shares, weight=st.sampled_from([0.05, 0.5])),
    st.builds(CoDel, st.sampled_from(["0ms", "2ms"]), st.sampled_from(["5ms", "10ms"]), st.integers(3, 60)),
)
rates = st.sampled_from(["10Mbit/s", "3Mbit/s", "1234567bit/s", "1Gbit/s", None])
changes = st.lists(
    st.tuples(durations, st.builds(dict, rate=rates) | st.builds(dict, delay=durations)), max_size=3
)
links = st.builds(
    LinkSpec,
    rates | st.builds(Mahimahi, st.just([1, 1, 4, 9])),
    durations,
    queues,
    st.lists(models, max_size=4).map(tuple),
    st.sampled_from([1500, 600]),
    st.sampled_from([0, "3ms"]),
    st.just(()) | changes.map(tuple),
    st.sampled_from([0, 38]),
)
faults = st.one_of(
    st.builds("{} {}".format, st.sampled_from(["drop", "swap", "duplicate", "drop a"]), st.integers(0, 60)),
    st.builds("swap {} by {}".format, st.integers(0, 60), st.integers(1, 5)),
    st.builds("delay {} by {}".format, st.integers(0, 60), durations),
    st.builds("corrupt {} bit {}".format, st.integers(0, 60), st.integers(0, 20_000)),
    st.just("drop a from 10ms to 20ms"),
)
schedules = st.lists(faults, max_size=6).map(lambda words: Schedule.parse(", ".join(words)))
gaps = st.sampled_from([0, 0, 1, 1000, 100_000, MS, 7 * MS])
offered = st.lists(st.tuples(gaps, st.integers(1, 1480), st.integers(0, 3)), min_size=1, max_size=80)


def in_time(rows: list[Offer]) -> list[Offer]:
    now, offers = 0, []
    for gap, size, ecn in rows:
        now += gap
        offers.append((now, size, ecn))
    return offers


def same(spec: LinkSpec, seed: int, schedule: Schedule, offers: list[Offer]) -> None:
    got, counts = simulated(spec, seed, schedule, offers)
    ours, causes = emulate(emulated(spec, "a", "b", seed, schedule), offers)
    assert ours == got
    scheduled = sum(counts.pop(str(fault), 0) for fault in schedule)
    causes.pop("suspended", None)  # which the simulator forgets
    assert causes.pop("schedule", 0) == scheduled
    assert causes == +counts


@given(links, st.integers(0, 5), schedules, offered)
def test_any_link_does_the_same_to_the_same_packets(
    spec: LinkSpec, seed: int, schedule: Schedule, rows: list[Offer]
) -> None:
    same(spec, seed, schedule, in_time(rows))


@pytest.mark.parametrize(
    "queue",
    [
        DropTail(20),
        DropTail(octets=9000),
        DropTail(time="40ms"),
        EcnThreshold(5, 30),
        Red(low=2, high=8, weight=0.02),
        CoDel("2ms", "20ms"),
    ],
    ids=lambda queue: type(queue).__name__,
)
def test_queues_under_overload_do_the_same(queue: Any) -> None:
    # Twice what the link carries, a quiet time, and again; every other packet is ECN-capable.
    spec = LinkSpec("5Mbit/s", "10ms", queue, (Bernoulli(0.01), Jitter("3ms")), jitter="1ms")
    times = [n * MS + (n >= 300) * 200 * MS for n in range(600)]
    offers = [(at, 600 + at // 1000 * 7 % 800, at // MS % 2) for at in times]
    same(spec, 3, Schedule(), offers)
    _, counts = simulated(spec, 3, Schedule(), offers)
    assert counts["queue full"] + counts["queue management"] > 20
    if not isinstance(queue, DropTail):
        assert counts["marked"] > 10


def frame(header: Any, payload: bytes = b"") -> bytes:
    return bytes(Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / header / payload)


NEIGHBOURS = [
    frame(ARP(), b""),
    frame(IPv6(src="fe80::1", dst="ff02::1:ff00:2") / NeighbourSolicitation(target="fe80::2")),
    bytes.fromhex("333300000016 020000000001 86dd 60000000 0024 00 01" + "fe80" + "0" * 26 + "01")
    + bytes.fromhex("ff02" + "0" * 26 + "16" + "3a00 0502 0000 0100 8f00 0000 0000 0001" + "04000000")
    + bytes.fromhex("ff02" + "0" * 24 + "00fb"),  # MLDv2 report behind a hop-by-hop header
    frame(IPv4(src="192.0.2.1", dst="224.0.0.22", protocol=2), bytes(8)),
]


@pytest.mark.parametrize("octets", NEIGHBOURS, ids=["ARP", "ND", "MLD", "IGMP"])
def test_what_a_link_says_for_itself_is_no_packet(octets: bytes) -> None:
    emu = Emulated(emulated(LinkSpec("1kbit/s", "5ms", models=(Numbers([0]),)), "a", "b", 0))
    packet = frame(IPv4(src="192.0.2.1", dst="192.0.2.2", protocol=253), b"x")
    for _ in range(3):
        lib.rk_emu_offer(emu.handle, MS, octets, len(octets))
    lib.rk_emu_offer(emu.handle, MS, packet, len(packet))
    lib.rk_emu_advance(emu.handle, 2**62)
    assert emu.take() == [(6 * MS, octets)] * 3
    assert emu.counts() == {"loss": 1}


def test_marks_are_right_in_both_families_and_behind_a_tag() -> None:
    spec = LinkSpec("1Mbit/s", 0, EcnThreshold(0))
    for ip in (
        IPv4(src="192.0.2.1", dst="192.0.2.2", ecn=1),
        IPv6(src="fd00::1", dst="fd00::2", traffic_class=2),
    ):
        for link in (Ether(), Ether() / Dot1Q(vid=7)):
            octets = bytes(link / ip / UDP(sport=1, dport=2) / b"data")
            emu = Emulated(emulated(spec, "a", "b", 0))
            lib.rk_emu_offer(emu.handle, 0, octets, len(octets))
            lib.rk_emu_advance(emu.handle, 2**62)
            ((_, came),) = emu.take()
            packet = Packet.parse(came)
            assert (packet[IPv4].ecn if IPv4 in packet else packet[IPv6].traffic_class) == 3
            assert {verdict.state for verdict in packet.checksums()} == {"good"}
            assert emu.counts() == {"delivered": 1, "marked": 1}


@dataclass(frozen=True)
class Mine:
    """A model of one's own."""

    def bind(self, key: int) -> Any: ...


def test_what_only_the_simulator_has_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="no model Mine"):
        emulated(LinkSpec(models=(Mine(),)), "a", "b", 0)
    with pytest.raises(LocalProtocolError, match="no queue Mine"):
        emulated(LinkSpec(queue=Mine()), "a", "b", 0)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="does not look into"):
        emulated(LinkSpec(), "a", "b", 0, Schedule.parse("drop a FIN 0"))
