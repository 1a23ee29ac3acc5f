"""Packets between rawkit, scapy and dpkt: the octets stay the same, whatever they are."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import HEADERS, any_layout, packets

from rawkit.interop import to_octets, to_packet
from rawkit.interop.dpkt import from_dpkt, to_dpkt
from rawkit.interop.scapy import from_scapy, to_scapy
from rawkit.wire import ARP, TCP, UDP, Dot1Q, Ether, Frame, Header, ICMPEcho, IPv4, IPv6, Packet

LINK = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
EXAMPLES = [
    LINK / IPv4(src="192.0.2.1", dst="192.0.2.2") / TCP(dport=80, flags="S"),
    LINK / Dot1Q(vid=5) / IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2) / b"data",
    LINK / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2) / b"data",
    LINK / ARP(sender_ip="192.0.2.1", target_ip="192.0.2.2"),
    IPv4(src="192.0.2.1", dst="192.0.2.2") / ICMPEcho(id=1, seq=2) / b"ping",
]


def damaged(packet: Packet, changes: list[tuple[int, int]], cut: int) -> Packet:
    octets = bytearray(bytes(packet))
    for at, value in changes:
        octets[at % len(octets)] = value
    first = type(packet.layers[0])
    return Packet.parse(bytes(octets[: len(octets) - cut]), first=first)


damages = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), max_size=4), st.integers(0, 30)


@settings(max_examples=40, deadline=None)
@given(packet=packets(whole=False), changes=damages[0], cut=st.just(0) | damages[1])
def test_octets_are_the_same_in_scapy_and_back(
    packet: Packet, changes: list[tuple[int, int]], cut: int
) -> None:
    packet = damaged(packet, changes, cut)
    theirs = packet.to_scapy()
    assert bytes(theirs) == bytes(packet)
    assert bytes(from_scapy(theirs)) == bytes(packet)
    assert to_octets(theirs) == bytes(packet)


@settings(max_examples=40, deadline=None)
@given(packet=packets(whole=False), changes=damages[0], cut=st.just(0) | damages[1])
def test_octets_are_the_same_in_dpkt_and_back(
    packet: Packet, changes: list[tuple[int, int]], cut: int
) -> None:
    packet = damaged(packet, changes, cut)
    theirs = to_dpkt(packet)
    assert bytes(theirs) == bytes(packet)
    assert bytes(from_dpkt(theirs)) == bytes(packet)
    assert to_octets(theirs) == bytes(packet)


@pytest.mark.parametrize("cls", HEADERS, ids=lambda cls: cls.__name__)
def test_single_headers(cls: type[Header]) -> None:
    @settings(max_examples=15, deadline=None)
    @given(header=any_layout(cls))
    def check(header: Any) -> None:
        assert bytes(to_scapy(header)) == bytes(header) == bytes(to_dpkt(header))
        assert bytes(from_scapy(to_scapy(header))) == bytes(header) == bytes(from_dpkt(to_dpkt(header)))

    check()


@pytest.mark.parametrize("packet", EXAMPLES, ids=lambda packet: packet.layers[-1].label)
def test_layers_are_those_libraries_own_and_come_back(packet: Packet) -> None:
    parsed = Packet.parse(bytes(packet), first=type(packet.layers[0]))
    theirs = to_scapy(packet)
    names = {Ether: "Ether", Dot1Q: "Dot1Q", ARP: "ARP", IPv4: "IP", IPv6: "IPv6", TCP: "TCP", UDP: "UDP"}
    found = [layer.__name__ for layer in theirs.layers() if layer.__name__ not in ("Raw", "Padding")]
    assert found == [names.get(type(layer), "ICMP") for layer in packet.layers]
    assert from_scapy(theirs) == parsed
    dpkt_names = {Ether: "Ethernet", ARP: "ARP", IPv4: "IP", IPv6: "IP6"}
    theirs = to_dpkt(packet)
    assert type(theirs).__name__ == dpkt_names[type(packet.layers[0])]
    assert from_dpkt(theirs) == parsed


def test_fields_read_the_same() -> None:
    packet = EXAMPLES[0]
    theirs = to_scapy(packet)
    assert (theirs["IP"].src, theirs["TCP"].dport, str(theirs["TCP"].flags)) == ("192.0.2.1", 80, "S")
    assert to_dpkt(packet).data.data.dport == 80


def test_what_scapy_builds_is_computed() -> None:
    from scapy.layers.inet import IP
    from scapy.layers.inet import TCP as ScapyTCP

    packet = from_scapy(IP(src="192.0.2.1", dst="192.0.2.2") / ScapyTCP(dport=443, flags="SA") / b"x")
    assert packet[IPv4].total_length == 41
    assert {verdict.state for verdict in packet.checksums()} == {"good"}
    assert packet[TCP].flag_letters() == "S."


def test_what_dpkt_builds_is_computed() -> None:
    import dpkt

    udp = dpkt.udp.UDP(sport=1, dport=2, data=b"x")
    udp.ulen = len(udp)
    packet = from_dpkt(dpkt.ip.IP(src=bytes(4), dst=bytes(4), p=17, data=udp))
    assert packet[UDP].length == 9
    assert packet[IPv4].checksum != 0


def test_dpkt_would_fill_in_a_checksum_of_zero() -> None:
    """The layer that dpkt would change is left as octets."""
    packet = Packet.parse(bytes(LINK / IPv4(src="192.0.2.1", dst="192.0.2.2", checksum=0) / UDP() / b"x"))
    theirs = to_dpkt(packet)
    assert type(theirs).__name__ == "Ethernet"
    assert isinstance(theirs.data, bytes)
    assert bytes(theirs) == bytes(packet)


def test_frames_keep_their_time() -> None:
    octets = bytes(EXAMPLES[0])
    theirs = to_scapy(Frame(octets, time_ns=1_700_000_000_123_456_789, wire_len=2000, interface="veth0"))
    assert int(theirs.time * 10**9) == 1_700_000_000_123_456_789
    assert (theirs.wirelen, theirs.sniffed_on, bytes(theirs)) == (2000, "veth0", octets)
    raw_ip = to_scapy(Frame(bytes(EXAMPLES[4]), linktype=101))
    assert type(raw_ip).__name__ == "IP"
    assert type(to_scapy(Frame(b"\0" * 30, linktype=113))).__name__ == "CookedLinux"
    assert type(to_scapy(Frame(b"\0" * 30, linktype=147))).__name__ == "Raw"


def test_anything_that_is_a_packet() -> None:
    packet = EXAMPLES[1]
    octets = bytes(packet)
    plain = (octets, bytearray(octets), memoryview(octets))
    for form in (packet, to_scapy(packet), to_dpkt(packet), Frame(octets), *plain):
        assert to_octets(form) == octets
        assert bytes(to_packet(form)) == octets
        assert UDP in to_packet(form)
    assert to_packet(packet) is packet
    assert to_packet(IPv4(dst="192.0.2.1")) == Packet([IPv4(dst="192.0.2.1")])
    assert IPv4 in to_packet(octets[18:], first=IPv4)
    assert to_packet(Frame(octets[18:], linktype=101))[UDP].dport == 2


@pytest.mark.parametrize("thing", ["text", None, 5, object(), ["x"], int])
def test_what_is_no_packet_says_so(thing: object) -> None:
    with pytest.raises(TypeError, match=f"need a packet .* not {type(thing).__name__}"):
        to_octets(thing)
    with pytest.raises(TypeError, match="need a packet"):
        to_packet(thing)


def test_nothing_is_imported_for_octets() -> None:
    code = (
        "import sys; from rawkit.interop import to_octets; import rawkit.interop.scapy, rawkit.interop.dpkt\n"
        "to_octets(b'x'); print([m for m in ('scapy', 'dpkt') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
