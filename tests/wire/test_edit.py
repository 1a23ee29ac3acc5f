"""Packets changed by path, layers put in and taken out, differences, damaged variants."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import packets

from rawkit.errors import FieldError
from rawkit.wire import (
    AUTO,
    MSS,
    TCP,
    UDP,
    Dot1Q,
    Ether,
    Header,
    ICMPTimeExceeded,
    IPv4,
    IPv6,
    NoOperation,
    Packet,
)
from rawkit.wire.edit import FieldDifference, diff, diff_text, mutate
from rawkit.wire.expression import header_classes
from rawkit.wire.field import UInt
from rawkit.wire.registry import load_all
from rawkit.wire.show import spans


def syn() -> Packet:
    """As it would arrive: lengths and checksums are values."""
    built = (
        Ether()
        / IPv4(src="192.0.2.1", dst="192.0.2.2")
        / TCP(sport=1024, dport=80, options=[MSS(1460)])
        / b"x"
    )
    return Packet.parse(bytes(built))


# ---- paths


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tcp.dport", 80),
        ("TCP.dport", 80),
        ("tcp.dstport", 80),
        ("ip.ttl", 64),
        ("ipv4.ttl", 64),
        ("ip[0].ttl", 64),
        ("eth.type", 0x0800),
        ("ip.dsfield.dscp", 0),
        ("payload", b"x"),
        ("frame.len", 59),
        ("tcp.options", (MSS(1460),)),
    ],
)
def test_a_field_by_path(path: str, value: object) -> None:
    assert syn()[path] == value


def test_a_header_by_name() -> None:
    packet = syn()
    assert packet["ip"] is packet[IPv4]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("udp.dport", "no udp in this packet \\(Ether/IPv4/TCP\\)"),
        ("ip[1].ttl", "no ip\\[1\\] in this packet"),
        ("tcp.dprot", "TCP has no field 'dprot'; did you mean 'dport'"),
        ("tcp dport", "is no path"),
        ("", "is no path"),
    ],
)
def test_what_is_not_there(path: str, reason: str) -> None:
    with pytest.raises(KeyError, match=reason):
        syn()[path]
    with pytest.raises(KeyError, match=reason):
        syn().set({path: 1})


def test_the_inner_of_two_headers() -> None:
    error = IPv4(src="192.0.2.9") / ICMPTimeExceeded() / IPv4(src="192.0.2.1", ttl=1) / UDP()
    assert error["ip[1].ttl"] == 1
    assert error.set({"ip[1].ttl": 2, "ip.ttl": 9})["ip.ttl"] == 9
    assert error["ip[1].ttl"] == 1


def test_set_changes_what_is_named_and_nothing_else() -> None:
    packet = syn()
    other = packet.set({"tcp.dport": 81, "tcp.flags": "SA", "ip.dst": "192.0.2.3", "payload": b"yz"})
    assert (other[TCP].dport, other[TCP].flags, str(other[IPv4].dst)) == (81, 18, "192.0.2.3")
    assert other.payload == b"yz"
    assert other[TCP].checksum == packet[TCP].checksum
    assert packet == syn()
    fresh = other.set({"tcp.checksum": AUTO, "ip.checksum": AUTO, "ip.len": AUTO})
    assert [v.state for v in Packet.parse(bytes(fresh)).checksums()] == ["good", "good"]


def test_set_refuses_what_does_not_fit() -> None:
    with pytest.raises(FieldError, match="TCP.dport: 65536 does not fit 16 bits"):
        syn().set({"tcp.dport": 65536})
    with pytest.raises(KeyError, match="names a header"):
        syn().set({"tcp": 1})


# ---- layers


def test_a_tag_is_put_in_and_taken_out() -> None:
    packet = syn()
    tagged = packet.insert(Ether, Dot1Q(vid=7))
    parsed = Packet.parse(bytes(tagged), strict=True)
    assert [type(h) for h in parsed.layers] == [Ether, Dot1Q, IPv4, TCP]
    assert (parsed[Ether].ethertype, parsed[Dot1Q].ethertype) == (0x8100, 0x0800)
    assert bytes(tagged.remove("vlan")) == bytes(packet)


def test_lengths_and_checksums_follow_and_lies_stay() -> None:
    packet = syn().set({"ip.checksum": 0x1234})
    tunnelled = packet.insert(Ether, IPv6(src="2001:db8::1", dst="2001:db8::2"))
    parsed = Packet.parse(bytes(tunnelled))
    assert (parsed["ipv6.next_header"], parsed["ipv6.payload_length"]) == (4, 45)
    assert [(v.layer, v.state) for v in parsed.checksums()] == [(IPv4, "bad"), (TCP, "good")]
    assert parsed["ip.checksum"] == 0x1234


def test_in_front_of_all() -> None:
    packet = syn().remove(Ether).insert(None, Ether(src="00:00:5e:00:53:01"))
    assert Packet.parse(bytes(packet))["eth.src"] == packet[Ether].src
    with pytest.raises(KeyError, match="no UDP in this packet"):
        packet.insert(UDP, Dot1Q())
    with pytest.raises(KeyError, match="no UDP in this packet"):
        packet.remove(UDP)
    with pytest.raises(KeyError, match="names a field"):
        packet.remove("tcp.dport")


# ---- differences


def test_no_difference() -> None:
    built = Ether() / IPv4(src="192.0.2.1") / UDP(dport=53) / b"q"
    assert diff(built, Packet.parse(bytes(built))) == []
    assert diff_text(built, built) == "no difference"


def test_fields_that_differ() -> None:
    left = syn()
    right = left.set({"ip.ttl": 63, "tcp.flags": "SA", "tcp.options": [MSS(1400)], "payload": b"y"})
    assert diff(left, right) == [
        FieldDifference("IPv4", "ttl", 64, 63, 22),
        FieldDifference("TCP", "flags", 2, 18, 46),
        FieldDifference("TCP", "options", (MSS(1460),), (MSS(1400),), 54),
        FieldDifference("payload", "", b"x", b"y", 58),
    ]
    assert diff_text(left, right).splitlines() == [
        "IPv4.ttl at offset 22: 64 -> 63",
        "TCP.flags at offset 46: SYN (0x2) -> SYN|ACK (0x12)",
        "TCP.options at offset 54: (MSS(1460),) -> (MSS(1400),)",
        "payload at offset 58: 78 -> 79",
    ]
    assert all(right[found.path] == found.right for found in diff(left, right))


def test_layers_that_differ() -> None:
    left = syn()
    found = diff(left, left.insert(Ether, Dot1Q(vid=7, ethertype=0x0800)))
    assert [(d.path, d.offset) for d in found] == [("Ether.ethertype", 12), ("Dot1Q", 14)]
    assert found[1].left is None
    assert str(found[1]).endswith("nothing -> Dot1Q(vid=7, ethertype=2048)")
    assert [d.right for d in diff(left, left.remove(TCP)) if d.layer == "TCP"] == [None]


def test_options_that_differ_in_padding_alone() -> None:
    left = IPv4() / TCP(options=[NoOperation(), NoOperation()])
    right = left.set({"tcp.options": b"\x01\x01\x00\x07"})
    assert [(d.path, d.left, d.right) for d in diff(left, right) if "checksum" not in d.path] == [
        ("TCP.options", b"\x01\x01\x00\x00", b"\x01\x01\x00\x07")
    ]


@given(packets(), packets())
@settings(max_examples=30, deadline=None)
def test_two_packets_differ_when_their_octets_do(left: Packet, right: Packet) -> None:
    for one, other in ((left, right), (left, left)):
        assert (diff(one, other) == []) == (bytes(one) == bytes(other))
        diff_text(one, other)


# ---- variants


@given(packets(whole=False), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_every_variant_parses_to_itself(packet: Packet, seed: int) -> None:
    seen = {bytes(packet)}
    for octets, reason in mutate(packet, seed):
        assert octets not in seen, reason
        seen.add(octets)
        parsed = Packet.parse(octets, first=type(packet.layers[0]))
        assert bytes(parsed) == octets, reason
        parsed.summary()
        parsed.checksums()


def test_variants_depend_on_the_seed_alone() -> None:
    once, again, other = (list(mutate(syn(), seed)) for seed in (1, 1, 2))
    assert once == again
    assert once != other
    assert set(once) & set(other)


def test_each_kind_of_damage_is_there() -> None:
    found = {reason: octets for octets, reason in mutate(syn())}
    assert len(found) > 300
    for start in (
        "IPv4.ihl (length) 0x5 -> 0x0 (zero)",
        "IPv4.ihl (length) 0x5 -> 0xf (the maximum)",
        "IPv4.total_length (length) 0x2d -> 0x2e (one more), the rest made to fit",
        "TCP.checksum (checksum)",
        "TCP.options: option 2 says length 0 instead of 4",
        "cut to 34 octets, before TCP",
        "without IPv4",
        "TCP twice",
        "Ether forty times",
        "random: bits",
    ):
        assert any(reason.startswith(start) for reason in found), start
    fitted = found["IPv4.ttl 0x40 -> 0x0 (zero), the rest made to fit"]
    assert [v.state for v in Packet.parse(fitted).checksums()] == ["good", "good"]
    alone = found["IPv4.ttl 0x40 -> 0x0 (zero)"]
    assert [v.state for v in Packet.parse(alone).checksums()] == ["bad", "good"]


def test_nothing_to_vary() -> None:
    assert [reason for _, reason in mutate(Packet())] == ["18 octets of zero after the end"]


def every_protocol() -> list[type[Header]]:
    load_all()
    classes = [cls for cls in header_classes().values() if cls.__module__.startswith("rawkit.wire.")]
    return sorted(classes, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", every_protocol(), ids=lambda cls: cls.__name__)
def test_whatever_is_done_to_a_protocol_is_read_shown_and_built_again(cls: type[Header]) -> None:
    given = {
        row.name: 1 if isinstance(row.kind, UInt) else b"" for row in cls.fields if row.spec.default is ...
    }
    packet = Packet([cls(**given)], bytes(range(40)))
    for i, (octets, reason) in enumerate(mutate(packet, seed=1)):
        if i % 5:
            continue
        parsed = Packet.parse(octets, first=cls)
        assert bytes(parsed) == octets, reason
        assert bytes(Packet.from_dict(parsed.to_dict())) == octets, reason
        assert sum(span.end - span.start for span in spans(parsed)) == len(octets), reason
        assert parsed.summary()
        parsed.show()
        parsed.checksums()
