"""A template's frames are, octet for octet, the packets built from objects."""

from __future__ import annotations

import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawkit.bulk.template import (
    SLICE,
    Counter,
    Permutation,
    Random,
    Template,
    Values,
    send_template,
)
from rawkit.engine.batch import FrameBatch
from rawkit.errors import FieldError
from rawkit.wire import AUTO, TCP, UDP, Dot1Q, Ether, Header, ICMPEcho, IPv4, IPv6, Packet
from rawkit.wire.field import auto, inet_checksum, u4, u12, u16
from rawkit.wire.gre import GRE
from rawkit.wire.sctp import SCTP
from rawkit.wire.udplite import UDPLite
from rawkit.wire.vxlan import VXLAN

ETHER = Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")
V4 = IPv4(src="192.0.2.1", dst="192.0.2.2")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::2")


class Badge(Header):
    """A header that only this test has: odd bit places, its own checksum, which is sent as 0x1234 for 0."""

    kind: u4 = 1
    number: u12 = 0
    checksum: u16 = auto(inet_checksum, pseudo_header=True, zero=0x1234)


STACKS: dict[str, tuple[Packet, list[str]]] = {
    "tcp": (
        ETHER / V4 / TCP(sport=1, dport=80) / b"octet",
        [
            "eth.src",
            "ip.src",
            "ip.dst",
            "ip.id",
            "ip.ttl",
            "tcp.sport",
            "tcp.seq",
            "tcp.flags",
            "ip.fragment_offset",
        ],
    ),
    "udp over IPv6": (
        ETHER / Dot1Q(vid=1) / V6 / UDP(sport=5, dport=6) / b"odd",
        ["dot1q.vid", "ip6.src", "ip6.dst", "ip6.flow_label", "udp.sport", "udp.length", "ip6.hop_limit"],
    ),
    "sctp": (
        ETHER / V4 / SCTP(sport=5, dport=6) / b"data",
        ["ip.src", "sctp.sport", "sctp.verification_tag"],
    ),
    "gre": (
        ETHER / V4 / GRE(checksum=AUTO, key=7) / V4 / UDP(sport=5, dport=6) / b"x",
        ["ip.src", "ip[1].src", "gre.key", "udp.dport", "ip[1].id"],
    ),
    "vxlan": (
        ETHER / V6 / UDP(dport=4789) / VXLAN(vni=5) / ETHER / V4 / TCP(sport=1, dport=2) / b"x",
        ["udp.sport", "vxlan.vni", "ether[1].dst", "ip.src", "tcp.seq", "tcp.checksum", "ip6.dst"],
    ),
    "ip in ip": (V4 / V6 / SCTP(sport=1, dport=2) / b"abc", ["ip.dst", "ip6.src", "sctp.dport"]),
    "user header": (V4.replace(protocol=253) / Badge() / b"abc", ["badge.kind", "badge.number", "ip.src"]),
    "udp-lite": (V4 / UDPLite(sport=1, dport=2, coverage=8) / b"abc", ["udplite.sport", "ip.dst"]),
    "icmp": (V4 / ICMPEcho(id=1, seq=2) / b"abc", ["icmpecho.id", "icmpecho.seq", "ip.dst"]),
}


def built(template: Template, octets: bytes) -> bytes:
    """The frame as objects build it, with the varying fields' values read back from the octets."""
    whole, changes = int.from_bytes(octets, "big"), {}
    for path, _, row, at, _ in template._varying:
        number = whole >> len(octets) * 8 - at - row.width & (1 << row.width) - 1
        changes[path] = number.to_bytes(row.width // 8, "big") if row.kind.code.endswith("s") else number
    return bytes(template.packet.set(changes))


@pytest.mark.parametrize("name", STACKS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_frames_are_those_built_from_objects(name: str, data: st.DataObject) -> None:
    packet, paths = STACKS[name]
    chosen = data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=5, unique=True))
    seeds = st.integers(0, 2**64 - 1)
    # The edges, where sums come out as 0, come up too rarely by chance.
    fields: dict[str, Any] = {
        path: data.draw(
            st.one_of(st.builds(Random, seeds), st.just(Random(1, 0, 1)), st.just(Counter(0)), st.just([0]))
        )
        for path in chosen
    }
    template = Template(packet, fields)
    first = data.draw(st.integers(0, 2**40))
    frames = list(template.frames(8, first))
    assert frames == [built(template, octets) for octets in frames]
    assert template.octets(first + 5) == frames[5]


def test_every_value_of_a_word() -> None:
    """All 65536 values of a field, among them those for which the checksum comes out as 0."""
    template = Template(V4 / UDP(sport=0, dport=0), {"udp.sport": Counter()})
    frames = list(template.frames(65536))
    sums = [int.from_bytes(octets[26:28], "big") for octets in frames]
    assert 0 not in sums
    assert sums.count(0xFFFF) == 1
    at = sums.index(0xFFFF)
    for i in (0, 1, at - 1, at, at + 1, 65535):
        assert frames[i] == bytes(V4 / UDP(sport=i, dport=0))
    assert len({*sums}) == 65535  # one's complement: no word is all zero after the sum


def values(template: Template, path: str, n: int, first: int = 0) -> list[Any]:
    return [Packet.parse(octets, IPv4)[path] for octets in template.frames(n, first)]


def test_sources() -> None:
    packet = V4 / TCP(sport=1, dport=2)
    assert values(Template(packet, {"tcp.dport": Counter(65534)}), "tcp.dport", 4) == [65534, 65535, 0, 1]
    assert values(Template(packet, {"tcp.dport": Counter(9, -4, 0)}), "tcp.dport", 4, 1) == [5, 1, 9, 5]
    assert values(Template(packet, {"tcp.dport": range(3, 6)}), "tcp.dport", 4) == [3, 4, 5, 3]
    assert values(Template(packet, {"tcp.dport": array.array("H", [7, 9])}), "tcp.dport", 3) == [7, 9, 7]
    addresses = Values(["10.0.0.1", "192.0.2.9"])
    found = values(Template(packet, {"ip.src": addresses}), "ip.src", 3)
    assert [str(address) for address in found] == ["10.0.0.1", "192.0.2.9", "10.0.0.1"]
    counted = values(Template(packet, {"ip.src": Counter("192.0.2.254", stop="192.0.3.1")}), "ip.src", 4)
    assert [str(address) for address in counted] == ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.2.254"]
    shuffled = values(Template(packet, {"tcp.dport": Permutation(100, 200, seed=1)}), "tcp.dport", 200)
    assert shuffled[:100] == shuffled[100:]
    assert sorted(shuffled[:100]) == list(range(100, 200))
    other = values(Template(packet, {"tcp.dport": Permutation(100, 200, seed=2)}), "tcp.dport", 100)
    assert shuffled[:100] != list(range(100, 200))
    assert shuffled[:100] != other
    drawn = values(Template(packet, {"tcp.dport": Random(5, 10, 13)}), "tcp.dport", 400)
    assert {*drawn} == {10, 11, 12, 13}
    assert values(Template(packet, {"tcp.dport": Random(5, 10, 13)}), "tcp.dport", 9, 300) == drawn[300:309]


def test_numpy_values() -> None:
    np = pytest.importorskip("numpy", reason="NumPy is an optional dependency")
    template = Template(V4 / TCP(sport=1, dport=2), {"tcp.dport": np.array([5, 6], dtype=np.uint16)})
    assert values(template, "tcp.dport", 3) == [5, 6, 5]


def test_wide_fields() -> None:
    template = Template(V6 / UDP(), {"ip6.src": Counter("2001:db8::ffff", stop="2001:db8::1:1")})
    found = [str(Packet.parse(octets, IPv6)["ip6.src"]) for octets in template.frames(3)]
    assert found == ["2001:db8::ffff", "2001:db8::1:0", "2001:db8::ffff"]
    listed = Template(V6 / UDP(), {"ip6.dst": ["2001:db8:1::5", "fe80::1"]})
    assert [str(Packet.parse(octets, IPv6)["ip6.dst"]) for octets in listed.frames(2)] == [
        "2001:db8:1::5",
        "fe80::1",
    ]


def test_wide_random_fields_do_not_repeat_their_parts() -> None:
    for octets in Template(V6 / UDP(), {"ip6.src": Random(3)}).frames(3):
        assert octets[8:16] != octets[16:24]


def test_given_checksums_stay() -> None:
    lying = Template(V4 / UDP(sport=1, checksum=0) / b"x", {"udp.sport": Counter(7), "ip.id": Counter()})
    for i, octets in enumerate(lying.frames(3)):
        assert octets == bytes(V4.replace(id=i) / UDP(sport=7 + i, checksum=0) / b"x")
    parsed = Packet.parse(bytes(V4 / TCP(sport=1, dport=2)), IPv4)
    frame = Template(parsed, {"tcp.seq": Counter(9)}).octets(1)
    assert frame[36:38] == bytes(parsed)[36:38]
    assert frame[24:28] == bytes([0, 0, 0, 10])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tcp.nothing": Counter()}, "nothing"),
        ({"udp.dport": Counter()}, "no udp"),
        ({"tcp": Counter()}, "names a header"),
        ({"tcp.options": [b""]}, "no fixed width"),
        ({"tcp.dport": [70000]}, "70000"),
        ({"tcp.dport": [-1]}, "-1"),
        ({"tcp.dport": Counter(65535, 1, 65537)}, "65536"),
        ({"tcp.data_offset": Counter(15, 1, 17)}, "16"),
        ({"tcp.dport": Counter(5, 0, 9)}, "step of 0"),
        ({"tcp.dport": Counter(5, 1, 5)}, "no values"),
        ({"tcp.dport": Random(0, 9, 8)}, "no values"),
        ({"tcp.dport": []}, "no values"),
        ({"tcp.dport": 80}, "need a Counter"),
        ({"tcp.dport": "80"}, "need a Counter"),
        ({"ip.src": ["nowhere"]}, "nowhere"),
        ({"tcp.dport": Counter(), "TCP.dport": Counter()}, "same field"),
    ],
)
def test_bad_input(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        Template(V4 / TCP(sport=1, dport=2), fields)


def test_what_a_template_cannot_follow() -> None:
    class Computed(Header):
        """A header with a field that a function computes."""

        number: u16 = 0
        twice: u16 = auto(lambda header, payload: 2 * header.number % 65536)

    with pytest.raises(FieldError, match="twice is computed by a function"):
        Template(Computed(), {"computed.number": Counter()})
    with pytest.raises(FieldError, match="says what the checksum covers"):
        Template(V4 / UDPLite(coverage=8), {"udplite.coverage": Values([8])})
    with pytest.raises(FieldError, match="has 18446744073709551617 values"):
        Template(V6, {"ip6.src": Counter("2001:db8::", stop="2001:db8:0:1::1")})


def test_steps_across_the_lowest_64_bits_are_refused() -> None:
    with pytest.raises(FieldError, match="only the lowest 64 bits"):
        Template(V6, {"ip6.src": Counter("2001:db8::ffff:ffff:ffff:ffff", stop="2001:db8:0:1::1")})
    with pytest.raises(FieldError, match="lowest 64 bits only"):
        Template(V6, {"ip6.src": Random(1, "2001:db8::", "2001:db9::")})


class Sender:
    """Takes frames as a socket does, `at_once` at a time."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.sent: list[bytes] = []

    def send_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        frames = list(batch)[first:][: self.at_once]
        self.sent += frames
        return len(frames)


def test_send_template() -> None:
    template = Template(V4 / UDP(), {"ip.id": Counter(), "udp.sport": Random(3)})
    sender, n = Sender(700), 2 * SLICE + 5
    assert send_template(sender, template, n, first=3) == n  # type: ignore[arg-type]
    assert sender.sent == list(template.frames(n, 3))
    stuck = Sender(0)
    assert send_template(stuck, template, 5, timeout=0.0) == 0  # type: ignore[arg-type]
