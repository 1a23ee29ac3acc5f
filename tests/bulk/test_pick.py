"""`Picker` gives what the headers of a parsed packet have."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import packets

from rawkit import FieldError, Picker
from rawkit.wire import ARP, ICMP, TCP, UDP, Dot1Q, Ether, Header, IPv4, IPv6, Packet
from rawkit.wire.field import u16, u32
from rawkit.wire.vxlan import VXLAN

FIELDS: dict[str, tuple[type[Header], str]] = {
    "eth.src": (Ether, "src"),
    "vlan.vid": (Dot1Q, "vid"),
    "arp.sender_mac": (ARP, "sender_mac"),
    "ip.src": (IPv4, "src"),
    "ip.flags": (IPv4, "flags"),
    "ip6.dst": (IPv6, "dst"),
    "icmp.type": (ICMP, "type"),
    "tcp.dport": (TCP, "dport"),
    "tcp.flags": (TCP, "flags"),
    "tcp.seq": (TCP, "seq"),
    "udp.length": (UDP, "length"),
}
PICK = Picker(list(FIELDS))


def expected(packet: Packet) -> list[Any]:
    found = []
    for kind, field in FIELDS.values():
        header = packet.get(kind)
        found.append(None if header is None else getattr(header, field))
    return found


@settings(max_examples=40, deadline=None)
@given(packet=packets(whole=False), cut=st.integers(0, 90), junk=st.binary(max_size=90))
def test_as_headers_have_it(packet: Packet, cut: int, junk: bytes) -> None:
    octets = bytes(Ether() / packet)
    for frame in (octets, octets[:cut], junk):
        assert PICK(frame) == expected(Packet.parse(frame))


def test_any_buffer_and_any_link_type() -> None:
    octets = bytes(IPv6(src="2001:db8::1") / UDP(dport=53))
    pick = Picker(["udp.dport", "ip6.src", "ip.src"], linktype=101)
    assert pick.names == ("udp.dport", "ip6.src", "ip.src")
    for buffer in (octets, bytearray(octets), memoryview(b"xx" + octets)[2:]):
        assert pick(buffer) == [53, IPv6.parse(octets).src, None]


def test_the_outermost_counts() -> None:
    inner = Ether() / IPv4(ttl=2) / UDP(dport=1)
    octets = bytes(Ether() / IPv4(ttl=9) / UDP(dport=4789) / VXLAN(vni=5) / inner)
    assert Picker(["ip.ttl", "udp.dport", "vxlan.vni"])(octets) == [9, 4789, 5]


def test_a_header_of_one_s_own() -> None:
    class Pickable(Header, over={IPv4: 201}):
        kind: u16 = 0
        number: u32 = 0

    try:
        assert Picker(["pickable.number"])(bytes(Ether() / IPv4() / Pickable(number=7))) == [7]
    finally:
        del IPv4.uppers[201]


def test_it_needs_nothing_but_itself() -> None:
    picks = [Picker(["ip.src", "tcp.dport"]) for _ in range(20)]
    gc.collect()
    octets = bytes(Ether() / IPv4(src="192.0.2.1") / TCP(dport=80))
    assert all([str(value) for value in pick(octets)] == ["192.0.2.1", "80"] for pick in picks)


@pytest.mark.parametrize(
    ("names", "linktype", "message"),
    [
        (["tcp.port"], 1, "TCP has no field 'port'"),
        (["tpc.dport"], 1, "no header 'tpc'"),
        (["tcp.options"], 1, "its length differs"),
        (["tcp.dport"], 147, "no header is known for link type 147"),
    ],
)
def test_what_cannot_be_picked(names: list[str], linktype: int, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        Picker(names, linktype)


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="need a list"):
        Picker("tcp.dport")
    with pytest.raises(TypeError):
        PICK("text")  # type: ignore[arg-type]
