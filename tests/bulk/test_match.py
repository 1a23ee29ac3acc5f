"""The index of requests finds what asking `Packet.answers` about every one of them finds."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawkit.bulk.answerfilter import answer_filter
from rawkit.bulk.match import Matcher
from rawkit.wire import (
    ARP,
    AUTO,
    SCTP,
    TCP,
    UDP,
    Ether,
    Header,
    ICMPEcho,
    ICMPTimeExceeded,
    ICMPUnreachable,
    ICMPv6Echo,
    ICMPv6Unreachable,
    IPv4,
    IPv6,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Packet,
)
from rawkit.wire.dccp import DCCPRequest, DCCPReset
from rawkit.wire.eigrp import EIGRP
from rawkit.wire.field import u16
from rawkit.wire.icmpext import ICMPExtendedEcho, ICMPExtendedEchoReply
from rawkit.wire.ipv4 import RouterAlert
from rawkit.wire.ipv6ext import HopByHop


class Courier(Header, over={IPv4: 203, IPv6: 203}):
    """A protocol that the index knows nothing of: replies count down from the request's number."""

    number: u16

    def answers(self, request: Header) -> bool:
        return isinstance(request, Courier) and self.number == request.number - 1


class Tunnelled(UDP, over={IPv4: 204}):
    """One that is judged in another way than its base: from any port."""

    def answers(self, request: Header) -> bool:
        return isinstance(request, UDP) and self.dport == request.sport


HOSTS4 = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
HOSTS6 = ["2001:db8::1", "2001:db8::2"]
small = st.integers(1, 3)


@st.composite
def uppers(draw: st.DrawFn, version: int) -> list[Header]:
    a, b = draw(small), draw(small)
    choices: list[list[Header]] = [
        [],
        [UDP(sport=a, dport=b)],
        [
            TCP(
                sport=a,
                dport=b,
                flags=draw(st.sampled_from(["S", "SA", "R", "A"])),
                seq=draw(small),
                ack=b + 1,
            )
        ],
        [SCTP(sport=a, dport=b)],
        [DCCPRequest(sport=a, dport=b, seq=1)],
        [DCCPReset(sport=a, dport=b, seq=1, ack=1)],
        [EIGRP(opcode=1, seq=a, ack=b)],
        [Courier(number=a)],
        [Tunnelled(sport=a, dport=b)],
    ]
    if version == 4:
        choices += [
            [ICMPEcho(type=draw(st.sampled_from([0, 8])), id=a, seq=b)],
            [ICMPExtendedEcho(id=a, seq=b)],
            [ICMPExtendedEchoReply(id=a, seq=b)],
        ]
    else:
        target = draw(st.sampled_from(HOSTS6))
        choices += [
            [ICMPv6Echo(type=draw(st.sampled_from([128, 129])), id=a, seq=b)],
            [NeighbourSolicitation(target=target)],
            [NeighbourAdvertisement(target=target)],
            [HopByHop(), UDP(sport=a, dport=b)],
        ]
    return draw(st.sampled_from(choices))


@st.composite
def packets(draw: st.DrawFn, auto: bool = False) -> Packet:
    kind = draw(st.sampled_from([4, 4, 6, 6, 0]))
    link: list[Header] = draw(st.sampled_from([[], [Ether()]]))
    if kind == 0:
        ends = {name: draw(st.sampled_from(HOSTS4)) for name in ("sender_ip", "target_ip")}
        return Packet([Ether(), ARP(op=draw(st.sampled_from([1, 2])), **ends)])
    hosts = HOSTS4 if kind == 4 else HOSTS6
    many = ["224.0.0.1", "255.255.255.255"] if kind == 4 else ["ff02::1"]
    source: Any = draw(st.sampled_from([*hosts, AUTO] if auto else hosts))
    cls = IPv4 if kind == 4 else IPv6
    network = cls(src=source, dst=draw(st.sampled_from(hosts + many)))  # type: ignore[arg-type]
    return Packet([*link, network, *draw(uppers(kind))], draw(st.sampled_from([b"", b"data"])))


@st.composite
def replies(draw: st.DrawFn) -> Packet:
    """Packets as they come: plain ones, and ICMP errors that quote as much as they like."""
    packet = draw(packets())
    first = type(packet.layers[0])
    octets = bytes(packet)
    network = next((header for header in packet.layers if isinstance(header, (IPv4, IPv6))), None)
    if network is not None and draw(st.booleans()):
        start = 14 if first is Ether else 0
        quote = octets[start : start + draw(st.sampled_from([20, 24, 28, 32, 40, 44, 48, 200]))]
        first = type(network)
        if isinstance(network, IPv4):
            error = draw(st.sampled_from([ICMPUnreachable(code=1), ICMPTimeExceeded()]))
            octets = bytes(IPv4(src="192.0.2.9", dst=network.src) / error / quote)
        else:
            octets = bytes(IPv6(src="2001:db8::9", dst=network.src) / ICMPv6Unreachable() / quote)
    return Packet.parse(octets, first)


@settings(max_examples=50)
@given(st.lists(packets(auto=True), max_size=12), st.lists(replies(), min_size=1, max_size=6), st.data())
def test_the_index_agrees_with_asking_about_each(
    requests: list[Packet], arrived: list[Packet], data: st.DataObject
) -> None:
    # Replies that fit are rare among those drawn at random: turn some of the requests round as well.
    arrived = [*arrived, *(turned(request) for request in requests)]
    matcher = Matcher(requests)
    closed = data.draw(st.sets(st.integers(0, 11)))
    for number in closed & set(range(len(requests))):
        matcher.close(number)
    for packet in arrived:
        fitting = {i for i, request in enumerate(requests) if packet.answers(request)}
        found = matcher.find(packet)
        if found is None:
            assert not fitting, packet
        else:
            assert found in fitting
            assert (found in closed) == (not fitting - closed)


def turned(request: Packet) -> Packet:
    """Something that may well answer a request."""
    layers = []
    for header in request.layers:
        changes: dict[str, Any] = {}
        for one, other in (("src", "dst"), ("sport", "dport"), ("sender_ip", "target_ip")):
            if hasattr(header, one) and getattr(header, one) is not AUTO and not isinstance(header, Ether):
                changes |= {one: getattr(header, other), other: getattr(header, one)}
        kind = type(header)
        if isinstance(header, (ICMPEcho, ICMPv6Echo)):
            changes["type"] = kind.REPLY  # type: ignore[attr-defined]
        elif isinstance(header, ARP):
            changes["op"] = 2
        elif isinstance(header, TCP):
            changes |= {"flags": "SA", "ack": header.seq + 1}
        elif isinstance(header, Courier):
            changes["number"] = header.number - 1
        elif isinstance(header, NeighbourSolicitation):
            layers.append(NeighbourAdvertisement(target=header.target))
            continue
        layers.append(header.replace(**changes))
    return Packet(layers, request.payload)


def test_many_requests_are_told_apart_without_asking_about_all(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 5000
    requests = [IPv4(src=HOSTS4[0], dst=HOSTS4[1]) / UDP(sport=i, dport=53) for i in range(1, n + 1)]
    matcher = Matcher(requests)
    asked = 0
    answers = Packet.answers

    def count(self: Packet, request: Packet) -> bool:
        nonlocal asked
        asked += 1
        return answers(self, request)

    monkeypatch.setattr(Packet, "answers", count)
    for i in range(n, 0, -1):
        reply = IPv4(src=HOSTS4[1], dst=HOSTS4[0]) / UDP(sport=53, dport=i)
        error = IPv4(src=HOSTS4[2], dst=HOSTS4[0]) / ICMPUnreachable() / bytes(requests[i - 1])[:28]
        assert matcher.find(reply) == i - 1
        assert matcher.find(Packet.parse(bytes(error), IPv4)) == i - 1
        matcher.close(i - 1)
    assert asked == 2 * n


def test_requests_that_are_alike_are_answered_in_turn() -> None:
    request = IPv4(src=HOSTS4[0], dst=HOSTS4[1]) / ICMPEcho(id=1, seq=1)
    matcher = Matcher([request] * 3)
    reply = IPv4(src=HOSTS4[1], dst=HOSTS4[0]) / ICMPEcho(type=0, id=1, seq=1)
    found = []
    for _ in range(4):
        number = matcher.find(reply)
        assert number is not None
        matcher.close(number)
        found.append(number)
    assert found == [0, 1, 2, 0]
    assert len(matcher) == 3


def test_requests_like_a_packet() -> None:
    requests = [IPv4(src=HOSTS4[0], dst=HOSTS4[1]) / UDP(sport=i, dport=9) for i in range(3)]
    matcher = Matcher([*requests, Packet([], b"x")])
    assert list(matcher.alike(requests[1])) == [1]
    assert list(matcher.alike(IPv4(src=HOSTS4[0], dst=HOSTS4[1]) / UDP(sport=9, dport=9))) == []
    assert list(matcher.alike(Packet([], b"x"))) == []
    assert matcher.find(Packet([], b"x")) is None


# ---- the filter in the kernel


def of_version(packets: list[Packet], version: int) -> list[Packet]:
    kind = IPv4 if version == 4 else IPv6
    return [packet for packet in packets if type(packet.layers[0]) is kind]


@settings(max_examples=50)
@given(st.lists(packets(), max_size=12), st.lists(replies(), max_size=6), st.sampled_from([4, 6]))
def test_the_filter_lets_every_answer_through(
    requests: list[Packet], arrived: list[Packet], version: int
) -> None:
    requests = of_version(requests, version)
    arrived = of_version([*arrived, *map(turned, requests)], version)
    sent = [bytes(request) for request in requests]
    plain, framed = answer_filter(sent, version), answer_filter(sent, version, link_len=14)
    for packet in arrived:
        octets = bytes(packet)
        passes = plain.matches(octets)
        assert framed.matches(bytes(14) + octets) == passes
        if any(packet.answers(request) for request in requests):
            assert passes, packet


@pytest.mark.parametrize("version", [4, 6])
def test_the_filter_keeps_other_traffic_out(version: int) -> None:
    ours, theirs, other = HOSTS4 if version == 4 else [*HOSTS6, "2001:db8::3"]
    ip, echo = (IPv4, ICMPEcho) if version == 4 else (IPv6, ICMPv6Echo)

    def packet(src: str, dst: str, upper: Header, payload: bytes = b"") -> bytes:
        return bytes(ip(src=src, dst=dst) / upper / payload)  # type: ignore[arg-type]

    requests = [packet(ours, theirs, UDP(sport=40000 + i, dport=53)) for i in range(0, 900, 9)]
    filter = answer_filter([*requests, packet(ours, theirs, echo(id=7, seq=1))], version)
    assert filter.matches(packet(theirs, ours, UDP(sport=53, dport=40009)))
    assert filter.matches(packet(theirs, ours, echo(type=echo.REPLY, id=7)))
    for octets in (
        packet(theirs, ours, UDP(sport=53, dport=39999)),
        packet(theirs, ours, UDP(sport=53, dport=41000)),
        packet(theirs, ours, UDP(sport=54, dport=40009)),
        packet(other, ours, UDP(sport=53, dport=40009)),
        packet(theirs, other, UDP(sport=53, dport=40009)),
        packet(theirs, ours, TCP(sport=53, dport=40009)),
        packet(theirs, ours, echo(type=echo.REPLY, id=8)),
        packet(theirs, ours, echo(id=7)),
        packet(other, ours, echo(type=echo.REPLY, id=7)),
    ):
        assert not filter.matches(octets), octets.hex()
    error = ICMPUnreachable() if version == 4 else ICMPv6Unreachable()
    assert filter.matches(packet(other, ours, error, requests[0]))
    assert not filter.matches(packet(other, ours, error, packet(ours, other, UDP(sport=40009, dport=53))))


def test_options_and_fragments_do_not_move_the_ports() -> None:
    request = bytes(IPv4(src=HOSTS4[0], dst=HOSTS4[1]) / UDP(sport=1000, dport=53))
    filter = answer_filter([request], 4)
    ends = {"src": HOSTS4[1], "dst": HOSTS4[0]}
    reply = UDP(sport=53, dport=1000)
    assert filter.matches(bytes(IPv4(**ends, options=[RouterAlert()]) / reply))
    assert filter.matches(bytes(IPv4(**ends, flags=IPv4.MF) / reply))
    assert not filter.matches(bytes(IPv4(**ends, fragment_offset=1, protocol=17) / bytes(reply)))


def test_thousands_of_hosts_and_ports_fit_into_one_program() -> None:
    random = Random(1)
    requests = [
        bytes(
            IPv6(src=HOSTS6[0], dst=random.randbytes(16).replace(b"\xff", b"\x20"))
            / kind(sport=random.randrange(65536), dport=random.randrange(65536))
        )
        for kind in (UDP, TCP, SCTP)
        for _ in range(3000)
    ]
    filter = answer_filter(requests, 6)
    assert len(filter.instructions) < 4096
    parsed = [Packet.parse(octets, IPv6) for octets in requests[::100]]
    assert all(filter.matches(bytes(turned(packet))) for packet in parsed)
