"""Answers beside those of a capture: streams however they are cut, and what is told of others."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rawkit.tools.answers import Answer, Comparison, Flow, Verdict
from rawkit.wire import TCP, UDP, Ether, IPv4, Packet
from rawkit.wire.tcp import Timestamps

ISN = 2**32 - 5
OTHER = 1234


def segment(seq: int, octets: bytes = b"", flags: int = TCP.ACK, **changes: object) -> Packet:
    ip = IPv4(**({"src": "192.0.2.2", "dst": "192.0.2.1"} | changes))  # type: ignore[arg-type]
    packet = Ether() / ip / TCP(sport=80, dport=5000, seq=seq % 2**32, ack=9, flags=flags) / octets
    return Packet.parse(bytes(packet))


def expecting(*packets: Packet, ignore: tuple[str, ...] = ()) -> Flow:
    flow = Flow(Comparison(ignore))
    for number, packet in enumerate(packets, 1):
        flow.expect(Answer(number, packet, 0))
    return flow


def told(*groups: object) -> list[tuple[int, str, list[str]]]:
    verdicts: list[Verdict] = [verdict for group in groups for verdict in group]  # type: ignore[attr-defined]
    return [(v.answer.number if v.answer else 0, v.kind, v.differences) for v in verdicts]


def good(n: int) -> list[tuple[int, str, list[str]]]:
    return [(number, "as expected", []) for number in range(1, n + 1)]


@given(st.binary(min_size=1, max_size=60), st.booleans(), st.randoms(use_true_random=False))
def test_a_stream_however_it_is_cut(octets: bytes, late: bool, chance: random.Random) -> None:
    """In any order, with repeats, known before or after the file's packets, and FIN with octets or alone."""

    def cut(isn: int, most: int) -> list[Packet]:
        ends = sorted({*chance.sample(range(1, len(octets) + 1), min(most, len(octets))), len(octets)})
        packets = []
        for start, end in zip([0, *ends], ends):
            fin = TCP.FIN if end == len(octets) and chance.random() < 0.5 else 0
            packets.append(
                segment(isn + 1 + start, octets[start:end], TCP.ACK | TCP.PSH * chance.randrange(2) | fin)
            )
        if not fin:
            packets.append(segment(isn + 1 + len(octets), flags=TCP.ACK | TCP.FIN))
        return packets

    file, now = cut(ISN, 5), cut(OTHER, 9)
    now += chance.sample(now, len(now) // 2)
    chance.shuffle(now)
    flow = expecting(segment(ISN, flags=TCP.SYN | TCP.ACK))
    flow.arrive(segment(OTHER, flags=TCP.SYN | TCP.ACK))
    verdicts = told(flow.judge())
    answers = [Answer(number, packet, 0) for number, packet in enumerate(file, 2)]
    for answer in () if late else answers:
        flow.expect(answer)
    for packet in now:
        flow.arrive(packet)
        verdicts += told(flow.judge())
    for answer in answers if late else ():
        flow.expect(answer)
    verdicts += told(flow.judge())
    assert flow.lacking == 0
    assert sorted(verdicts) == good(len(file) + 1)
    assert told(flow.give_up(), flow.surplus()) == []


def test_a_changed_octet_is_one_packets() -> None:
    flow = expecting(segment(ISN, b"abc"), segment(ISN + 3, b"def"), segment(ISN + 6, b"ghi"))
    flow.arrive(segment(OTHER, b"abcdXfghi"))
    assert told(flow.judge()) == [
        (1, "as expected", []),
        (2, "differs", ["payload at offset 55: 64 65 66 -> 64 58 66"]),
        (3, "as expected", []),
    ]


def test_headers_of_a_stream_count_as_well() -> None:
    wanted = segment(ISN, b"abc", ttl=64)
    for ignore in ((), ("IPv4.ttl",)):
        flow = expecting(wanted, ignore=ignore)
        flow.arrive(segment(OTHER, b"abc", TCP.ACK | TCP.URG | TCP.PSH, ttl=63))
        ((_, _, differences),) = told(flow.judge())
        assert differences == [
            *(["IPv4.ttl at offset 22: 64 -> 63"] if not ignore else []),
            "TCP.flags: 0x10 -> 0x30, besides FIN and PSH",
        ]
    damaged = bytearray(bytes(wanted))
    damaged[50] ^= 1  # the checksum's
    flow = expecting(wanted)
    flow.arrive(Packet.parse(bytes(damaged)))
    assert told(flow.judge()) == [(1, "differs", ["TCP: its checksum is bad"])]
    flow = expecting(Packet.parse(bytes(damaged)))
    flow.arrive(Packet.parse(bytes(damaged)))
    assert told(flow.judge()) == good(1)


def test_a_stream_that_is_too_short_or_too_long() -> None:
    fin = TCP.ACK | TCP.FIN
    file = segment(ISN, b"abc"), segment(ISN + 3, b"def"), segment(ISN + 6, flags=fin)
    flow = expecting(*file)
    flow.arrive(segment(OTHER, b"abcde"))
    assert (flow.lacking, told(flow.judge())) == (3, good(1))
    assert flow.lacking == 2
    assert told(flow.give_up(), flow.surplus()) == [
        (2, "differs", ["2 octets of 3 came"]),
        (3, "missing", []),
    ]
    flow = expecting(*file)
    flow.arrive(segment(OTHER, b"abcd", fin))
    assert told(flow.give_up()) == [
        *good(1),
        (2, "differs", ["the stream ends 2 octets before it"]),
        (3, "missing", []),
    ]
    flow = expecting(*file)
    flow.arrive(segment(OTHER, b"abcdefgh", fin))
    assert told(flow.give_up(), flow.surplus()) == [
        *good(2),
        (3, "differs", ["the stream ends 2 octets later"]),
        (0, "unexpected", ["2 octets more than in the file"]),
    ]


def test_a_reset_ends_the_waiting() -> None:
    flow = expecting(segment(ISN, b"abc"))
    assert flow.lacking == 1
    flow.arrive(segment(OTHER, flags=TCP.RST | TCP.ACK))
    assert flow.lacking == 0
    assert told(flow.give_up(), flow.surplus()) == [(1, "missing", []), (0, "unexpected", [])]


def test_other_packets_are_put_side_by_side_when_waiting_ends() -> None:
    def datagram(octets: bytes) -> Packet:
        ip = IPv4(src="192.0.2.2", dst="192.0.2.1")
        return Packet.parse(bytes(Ether() / ip / UDP(sport=7, dport=5000) / octets))

    flow = expecting(datagram(b"a"), datagram(b"b"), datagram(b"c"))
    flow.arrive(datagram(b"c"))
    flow.arrive(datagram(b"x"))
    assert told(flow.judge()) == [(3, "as expected", [])]
    assert flow.lacking == 1
    assert told(flow.give_up(), flow.surplus()) == [
        (1, "differs", ["payload at offset 42: 61 -> 78"]),
        (2, "missing", []),
    ]
    flow.arrive(datagram(b"y"))
    flow.expect(Answer(4, datagram(b"y"), 0))  # early, and found afterwards
    flow.arrive(datagram(b"z"))
    assert told(flow.judge(), flow.surplus()) == [(4, "as expected", []), (0, "unexpected", [])]


def test_a_clients_segment_follows_the_server() -> None:
    def stamped(seq: int, flags: int, value: int, echo: int, octets: bytes = b"", **more: int) -> Packet:
        header = TCP(sport=80, dport=5000, seq=seq, flags=flags, options=[Timestamps(value, echo)], **more)
        return Packet.parse(bytes(Ether() / IPv4(src="192.0.2.2", dst="192.0.2.1") / header / octets))

    flow = expecting(stamped(100, TCP.SYN | TCP.ACK, 5000, 1))
    client = stamped(1, TCP.ACK, 2, 5000, b"hello", ack=101)
    assert flow.adjusted(client) is client  # nothing is known yet
    flow.arrive(stamped(900, TCP.SYN | TCP.ACK, 77, 1))
    assert told(flow.judge()) == good(1)
    flow.arrive(stamped(900, TCP.SYN | TCP.ACK, 77, 1))  # again
    adjusted = flow.adjusted(client)
    assert (adjusted[TCP].ack, adjusted[TCP].options[0]) == (901, Timestamps(2, 77))
    assert all(verdict.state == "good" for verdict in adjusted.checksums())
    bad = client.replace(TCP, checksum=1)
    assert flow.adjusted(Packet.parse(bytes(bad)))[TCP].checksum == 1
    assert told(flow.give_up(), flow.surplus()) == []
