"""Octets of the link, network and control protocols, in both directions; sums and layouts by scapy 2."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from wire.vectors import check_vector

from rawkit.wire import (
    AH,
    ARP,
    AUTO,
    ESP,
    GRE,
    LLC,
    MPLS,
    SNAP,
    TCP,
    UDP,
    VXLAN,
    DestinationOptions,
    DNSSearchList,
    Dot1Q,
    Ether,
    GroupRecord,
    Header,
    HopByHop,
    ICMPAddressMask,
    ICMPEcho,
    ICMPExtendedEcho,
    ICMPExtendedEchoReply,
    ICMPExtension,
    ICMPRouterAdvertisement,
    ICMPTimeExceeded,
    ICMPTimestamp,
    ICMPUnreachable,
    ICMPv6TimeExceeded,
    IGMPLeave,
    IGMPQuery,
    IGMPReport,
    IGMPv3Query,
    IGMPv3Report,
    InterfaceIdentification,
    InterfaceInformation,
    IPv4,
    IPv6,
    IPv6RouterAlert,
    JumboPayload,
    LinuxCooked,
    LinuxCooked2,
    ListenerRecord,
    Loopback,
    MLDQuery,
    MLDReport,
    MLDv2Query,
    MLDv2Report,
    MPLSStack,
    NullLoopback,
    Packet,
    RecursiveDNS,
    RouteInformation,
    RouterAdvertisement,
    RPLRouting,
    SegmentRouting,
    SourceRouting,
    extended,
    extension_of,
)
from rawkit.wire.icmpext import LabelEntry
from rawkit.wire.icmpinfo import RouterAddress
from rawkit.wire.igmp import long_time
from rawkit.wire.ipv4 import InternetTimestamp, LooseSourceRoute, RouterAlert
from rawkit.wire.mld import long_delay

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    scapy = pytest.importorskip("scapy.all")
    import scapy.contrib.igmp  # noqa: F811
    import scapy.contrib.igmpv3
    import scapy.contrib.mpls

A, B = "192.0.2.1", "192.0.2.2"
A6, B6, C6 = "2001:db8::1", "2001:db8::2", "2001:db8::3"
S: Any = scapy.all
IP4, IP6 = S.IP(src=A, dst=B, id=0), S.IPv6(src=A6, dst=B6, hlim=64)
MINE4, MINE6 = IPv4(src=A, dst=B), IPv6(src=A6, dst=B6)
ETHER = Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")
THEIR_ETHER = S.Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")
MPLS_S: Any = scapy.contrib.mpls.MPLS

SAME: list[tuple[str, Packet, Any]] = [
    ("snap", ETHER / LLC() / SNAP() / MINE4 / UDP() / b"x",
     S.Dot3(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01") / S.LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / S.SNAP()
     / IP4 / S.UDP(sport=0, dport=0) / b"x"),
    ("mpls", ETHER / MPLS(label_value=16, traffic_class=5, ttl=9) / MPLS(label_value=17) / MINE4 / UDP(),
     THEIR_ETHER / MPLS_S(label=16, cos=5, s=0, ttl=9) / MPLS_S(label=17, s=1, ttl=64) / IP4
     / S.UDP(sport=0, dport=0)),
    ("cooked", LinuxCooked(packet_type=4, address=b"\0\0\x5e\0\x53\1\0\0") / MINE6 / UDP() / b"x",
     S.CookedLinux(pkttype=4, lladdrtype=1, lladdrlen=6, src=b"\0\0\x5e\0\x53\1", proto=0x86DD) / IP6
     / S.UDP(sport=0, dport=0) / b"x"),
    ("cooked2", LinuxCooked2(ifindex=3, address=b"\0\0\x5e\0\x53\1\0\0") / MINE4 / UDP(),
     S.CookedLinuxV2(proto=0x800, ifindex=3, lladdrtype=1, pkttype=0, lladdrlen=6, src=b"\0\0\x5e\0\x53\1")
     / IP4 / S.UDP(sport=0, dport=0)),
    ("loop", Loopback() / MINE4 / UDP(), S.LoopbackOpenBSD(type=2) / IP4 / S.UDP(sport=0, dport=0)),
    ("hbh", MINE6 / HopByHop(options=[IPv6RouterAlert(0)]) / UDP() / b"ab",
     IP6 / S.IPv6ExtHdrHopByHop(options=[S.RouterAlert(value=0), S.PadN(optdata=b"")])
     / S.UDP(sport=0, dport=0) / b"ab"),
    ("destination", MINE6 / DestinationOptions(options=[JumboPayload(70000)]) / TCP(),
     IP6 / S.IPv6ExtHdrDestOpt(options=[S.Jumbo(jumboplen=70000)])
     / S.TCP(sport=0, dport=0, flags="S", window=65535)),
    ("routing 0", MINE6 / SourceRouting(segments_left=1, addresses=[C6]) / UDP() / b"abc",
     IP6 / S.IPv6ExtHdrRouting(segleft=1, addresses=[C6]) / S.UDP(sport=0, dport=0) / b"abc"),
    ("routing 4", MINE6 / SegmentRouting(segments_left=1, segments=[C6, B6]) / UDP() / b"abc",
     IP6 / S.IPv6ExtHdrSegmentRouting(segleft=1, lastentry=1, addresses=[C6, B6]) / S.UDP(sport=0, dport=0)
     / b"abc"),
    ("ah", MINE4 / AH(spi=7, seq=9, icv=b"i" * 12) / UDP(),
     IP4 / S.AH(nh=17, payloadlen=4, spi=7, seq=9, icv=b"i" * 12)
     / S.UDP(sport=0, dport=0, chksum=0x7BDA)),
    ("esp", MINE4 / ESP(spi=7, seq=9) / b"secret", IP4 / S.ESP(spi=7, seq=9, data=b"secret")),
    ("timestamp", MINE4 / ICMPTimestamp(id=1, seq=2, originate=3, receive=4, transmit=5),
     IP4 / S.ICMP(type=13, id=1, seq=2, ts_ori=3, ts_rx=4, ts_tx=5)),
    ("mask", MINE4 / ICMPAddressMask(type=18, id=1, seq=2, mask="255.255.255.0"),
     IP4 / S.ICMP(type=18, id=1, seq=2, addr_mask="255.255.255.0")),
    ("gre", MINE4 / GRE(checksum=AUTO, offset=0, key=5, seq=6) / MINE6 / UDP() / b"x",
     IP4 / S.GRE(chksum_present=1, key_present=1, seqnum_present=1, key=5, sequence_number=6) / IP6
     / S.UDP(sport=0, dport=0) / b"x"),
    ("gre plain", MINE4 / GRE() / MINE4 / UDP(), IP4 / S.GRE() / IP4 / S.UDP(sport=0, dport=0)),
    ("ipip", MINE4 / MINE4 / UDP(), IP4 / IP4 / S.UDP(sport=0, dport=0)),
    ("6in4", MINE4 / MINE6 / UDP(), IP4 / IP6 / S.UDP(sport=0, dport=0)),
    ("vxlan", MINE4 / UDP(sport=50000, dport=4789) / VXLAN(vni=42) / ETHER / ARP(),
     IP4 / S.UDP(sport=50000, dport=4789) / S.VXLAN(flags=8, vni=42) / THEIR_ETHER
     / S.ARP(op=1, hwsrc="00:00:00:00:00:00", psrc="0.0.0.0", pdst="0.0.0.0")),
    ("igmp", MINE4.replace(ttl=1, dscp=48, options=[RouterAlert()]) / IGMPReport(group="233.252.0.1"),
     IP4 / scapy.contrib.igmp.IGMP(type=0x16, mrcode=0, gaddr="233.252.0.1")),
    ("igmp3", MINE4.replace(ttl=1, dscp=48, options=[RouterAlert()]) / IGMPv3Report(
        records=[GroupRecord(group="233.252.0.1", sources=[A, B])]),
     S.IP(src=A, dst=B, id=0, proto=2) / scapy.contrib.igmpv3.IGMPv3mr(
         records=[scapy.contrib.igmpv3.IGMPv3gr(rtype=4, maddr="233.252.0.1", srcaddrs=[A, B])])),
    ("mld", MINE6 / MLDReport(group="ff0e::1"), IP6 / S.ICMPv6MLReport(mladdr="ff0e::1")),
    ("mld2", MINE6 / MLDv2Report(records=[ListenerRecord(group="ff0e::1", sources=[A6])]),
     IP6 / S.ICMPv6MLReport2(records=[S.ICMPv6MLDMultAddrRec(rtype=4, dst="ff0e::1", sources=[A6])])),
    ("mld2 query", MINE6 / MLDv2Query(group="ff0e::1", sources=[A6]),
     IP6 / S.ICMPv6MLQuery2(mladdr="ff0e::1", QRV=2, QQIC=125, sources=[A6])),
    ("ra", MINE6 / RouterAdvertisement(options=[
        RecursiveDNS(lifetime=60, servers=[A6, B6]),
        DNSSearchList(lifetime=60, domains=["example.com", "a.net"]),
        RouteInformation(32, preference=1, lifetime=9, prefix=b"\x20\1\x0d\xb8\0\0\0\0")]),
     IP6 / S.ICMPv6ND_RA(chlim=64, routerlifetime=0, prf=0)
     / S.ICMPv6NDOptRDNSS(lifetime=60, dns=[A6, B6])
     / S.ICMPv6NDOptDNSSL(lifetime=60, searchlist=["example.com.", "a.net."])
     / S.ICMPv6NDOptRouteInfo(len=2, plen=32, prf=1, rtlifetime=9, prefix="2001:db8::")),
]  # fmt: skip


@pytest.mark.parametrize(("packet", "theirs"), [row[1:] for row in SAME], ids=[row[0] for row in SAME])
def test_scapy_builds_the_same(packet: Packet, theirs: Any) -> None:
    parsed = check_vector(bytes(theirs).hex(), packet, type(packet.layers[0]))
    assert all(verdict.state == "good" for verdict in parsed.checksums() if verdict.state != "unknown")


def test_null_loopback_in_both_byte_orders() -> None:
    for order in ("1e000000", "0000001e"):
        parsed = Packet.parse(bytes.fromhex(order) + bytes(MINE6 / UDP()), first=NullLoopback, strict=True)
        assert [type(layer) for layer in parsed.layers[1:]] == [IPv6, UDP]
    assert bytes(NullLoopback() / MINE4)[:4] in (b"\2\0\0\0", b"\0\0\0\2")


def test_spanning_tree_behind_a_tag_is_llc() -> None:
    parsed = Packet.parse(bytes(ETHER / Dot1Q() / LLC() / b"bpdu") + bytes(20), strict=True)
    assert (parsed[LLC].dsap, parsed[Dot1Q].ethertype, parsed.payload) == (0x42, 7, b"bpdu")
    assert parsed.trailer == bytes(20)


def test_labels_carry_what_is_no_ip() -> None:
    parsed = Packet.parse(bytes(ETHER / MPLS() / b"\0\0\0\1frame"), strict=True)
    assert (parsed[MPLS].bottom, parsed.payload) == (1, b"\0\0\0\1frame")


def test_checksums_take_the_final_destination() -> None:
    plain = MINE6.replace(dst=C6) / UDP(dport=9) / b"x"
    (checksum,) = [v.found for v in Packet.parse(bytes(plain), first=IPv6).checksums()]
    for routing in (
        SourceRouting(segments_left=1, addresses=[C6]),
        SegmentRouting(segments_left=1, segments=[C6, B6]),
        RPLRouting(segments_left=1, compressed=15, compressed_last=15, pad=7, vector=b"\3" + bytes(7)),
    ):
        parsed = Packet.parse(bytes(MINE6 / routing / UDP(dport=9) / b"x"), first=IPv6, strict=True)
        assert parsed[UDP].checksum == checksum, routing
        assert [verdict.state for verdict in parsed.checksums()] == ["good"]
    done = MINE6.replace(dst=C6) / SourceRouting(addresses=[B6]) / UDP(dport=9) / b"x"
    assert Packet.parse(bytes(done), first=IPv6)[UDP].checksum == checksum
    loose = MINE4.replace(options=[LooseSourceRoute(route=["192.0.2.9"])]) / UDP(dport=9)
    direct = MINE4.replace(dst="192.0.2.9") / UDP(dport=9)
    assert bytes(loose)[-2:] == bytes(direct)[-2:]


def test_timestamp_option_entries() -> None:
    option = InternetTimestamp(flag=1, words=[0xC0000201, 5])
    assert [(str(address), time) for address, time in option.entries] == [(A, 5)]
    assert InternetTimestamp(words=[7]).entries == ((None, 7),)


def test_igmp_versions_by_length_and_code() -> None:
    assert type(Packet.parse(bytes(MINE4 / IGMPQuery()), first=IPv4).layers[1]) is IGMPQuery
    query = Packet.parse(
        bytes(MINE4 / IGMPv3Query(group="233.252.0.1", sources=[A])), first=IPv4, strict=True
    )
    assert type(query.layers[1]) is IGMPv3Query
    assert [str(source) for source in query[IGMPv3Query].sources] == [A]
    assert (long_time(127), long_time(0x8F), long_time(0xFF)) == (127, 31 << 3, 31 << 10)
    sent = IGMPLeave(group="233.252.0.1").addressed(src=A)
    assert (sent[IPv4].ttl, str(sent[IPv4].dst), bytes(sent)[20:24]) == (1, "224.0.0.2", b"\x94\4\0\0")
    assert IGMPReport(group="233.252.0.1").answers(IGMPQuery())
    assert not IGMPReport(group="233.252.0.1").answers(IGMPQuery(group="233.252.0.2"))
    assert IGMPv3Report(records=[GroupRecord(group="233.252.0.1")]).answers(IGMPQuery(group="233.252.0.1"))


def test_mld_is_sent_with_router_alert() -> None:
    sent = MLDQuery(group="ff0e::1").addressed(src="fe80::1")
    assert (sent[IPv6].hop_limit, str(sent[IPv6].dst)) == (1, "ff0e::1")
    assert bytes(sent)[40:48] == bytes.fromhex("3a 00 05 02 00 00 01 00")  # RFC 2711, then PadN
    assert MLDReport(group="ff0e::1").answers(MLDQuery())
    assert str(MLDv2Report().addressed()[IPv6].dst) == "ff02::16"
    assert (long_delay(10000), long_delay(0xFFFF)) == (10000, 8387584)  # as tshark says too


def test_replies_are_recognised() -> None:
    asked = ICMPTimestamp(id=1, seq=2)
    assert ICMPTimestamp(type=14, id=1, seq=2).answers(asked)
    assert not ICMPTimestamp(type=14, id=1, seq=3).answers(asked)
    assert not ICMPAddressMask(type=18, id=1, seq=2).answers(asked)
    probe = ICMPExtendedEcho(id=5, seq=1)
    assert ICMPExtendedEchoReply(id=5, seq=1).answers(probe)
    assert not ICMPEcho(type=0, id=5, seq=1).answers(probe)


def test_router_advertisement() -> None:
    # RFC 1256 section 3: type 9, one address, entries of two words, lifetime 1800 s.
    check_vector(
        "09 00 2c ef 01 02 07 08 c0 00 02 01 00 00 00 05",
        Packet([ICMPRouterAdvertisement(addresses=[RouterAddress(A, 5)])]),
        ICMPRouterAdvertisement,
    )


def test_extensions_of_routers_that_give_no_length() -> None:
    """RFC 4884 section 5.5: behind 128 octets, if version and checksum are right."""
    sent = bytes(IPv4(src=A, dst=B) / UDP(dport=33434) / b"probe").ljust(128, b"\0")
    label = bytes.fromhex("2000 7bc1 0008 0101 12345101")
    for error, extension, seen in (
        (ICMPTimeExceeded(), label, True),
        (ICMPUnreachable(code=3), label, True),
        (ICMPTimeExceeded(), label[:-1] + b"\2", False),
        (ICMPTimeExceeded(), b"\x10" + label[1:], False),
        (ICMPTimeExceeded(), b"", False),
        (ICMPTimeExceeded(), bytes(12), False),
    ):
        packet = Packet.parse(bytes(IPv4(src=B, dst=A) / error / (sent + extension)), first=IPv4)
        found = extension_of(packet)
        assert (found is not None) == seen
    packet6 = IPv6(src=B6, dst=A6) / ICMPv6TimeExceeded() / (bytes(IPv6(src=A6, dst=B6)).ljust(128) + label)
    assert extension_of(Packet.parse(bytes(packet6), first=IPv6)) is None


def test_extensions_follow_the_quoted_packet() -> None:
    sent = IPv4(src=A, dst=B) / UDP(dport=33434) / b"probe"
    objects = [
        MPLSStack(labels=[LabelEntry(16, 0, 1, 1)]),
        InterfaceInformation(role=0, ifindex=3, address4="192.0.2.7", name=b"eth0\0\0\0", mtu=1500),
    ]
    error = IPv4(src="192.0.2.9", dst=A) / extended(ICMPTimeExceeded(), sent, objects)
    parsed = Packet.parse(bytes(error), first=IPv4, strict=True)
    assert parsed[ICMPTimeExceeded].length == 32
    assert parsed.answers(sent)
    found = extension_of(parsed)
    assert found is not None
    labels, interface = found.objects
    assert isinstance(labels, MPLSStack)
    assert isinstance(interface, InterfaceInformation)
    assert bytes(labels) == bytes.fromhex("0008 01 01 00010101")  # RFC 4950 section 4
    assert (interface.ifindex, str(interface.address4), interface.name, interface.mtu) == (
        3, "192.0.2.7", b"eth0\0\0\0", 1500,
    )  # fmt: skip
    octets = bytes(found)
    assert Packet.parse(octets, first=ICMPExtension).checksums()[0].state == "good"
    sent6 = IPv6(src=A6, dst=B6) / UDP(dport=33434)
    error6 = IPv6(src=B6, dst=A6) / extended(ICMPv6TimeExceeded(), sent6, objects[:1])
    parsed6 = Packet.parse(bytes(error6), first=IPv6, strict=True)
    assert parsed6[ICMPv6TimeExceeded].length == 16
    assert extension_of(parsed6) == ICMPExtension.parse(bytes(ICMPExtension(objects=objects[:1])))
    assert extension_of(Packet.parse(bytes(MINE4 / ICMPUnreachable() / sent), first=IPv4)) is None


def test_extended_echo_names_an_interface() -> None:
    for name in (
        InterfaceIdentification(ctype=1, name=b"eth0"),
        InterfaceIdentification(ctype=2, ifindex=3),
        InterfaceIdentification(ctype=3, afi=1, address=b"\xc0\0\2\1"),
    ):
        packet = MINE4 / ICMPExtendedEcho(id=1, seq=1) / ICMPExtension(objects=[name])
        parsed = Packet.parse(bytes(packet), first=IPv4, strict=True)
        (found,) = parsed[ICMPExtension].objects
        assert bytes(found) == bytes(name)
        assert {verdict.state for verdict in parsed.checksums()} == {"good"}


@pytest.mark.parametrize("cls", [GRE, SegmentRouting, IGMPv3Query, AH, HopByHop])
def test_lengths_that_lie(cls: type[Header]) -> None:
    for octets in (b"\xff" * 4, b"\xff" * 12, b"\x11\xff\4\xff" + b"\xff" * 40):
        packet = Packet.parse(octets, first=cls)
        assert bytes(packet) == octets
