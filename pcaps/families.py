"""Make the fixture captures of well-made packets, one per protocol family.

    python pcaps/families.py [DIRECTORY]

The packets and their times are fixed: each run writes the same octets. Beside NAME.pcapng it writes NAME.txt,
what `rawkit read -t relative` prints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from rawkit.cli.main import main
from rawkit.pcap import create_pcap
from rawkit.wire import (  # fmt: skip
    dccp,
    eigrp,
    icmpext,
    icmpinfo,
    igmp,
    ipv4,
    ipv6ext,
    mld,
    mptcp,
    ndoption,
    ospf,
    sctp,
    tcp,
    tcpoption,
)
from rawkit.wire.arp import ARP
from rawkit.wire.ethernet import Dot1AD, Dot1Q, Ether
from rawkit.wire.field import AUTO
from rawkit.wire.frame import Frame
from rawkit.wire.gre import GRE
from rawkit.wire.header import Header
from rawkit.wire.icmp import ICMPEcho, ICMPRedirect, ICMPTimeExceeded, ICMPUnreachable
from rawkit.wire.icmpv6 import (
    ICMPv6Echo,
    ICMPv6PacketTooBig,
    LinkMTU,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    PrefixInformation,
    Redirect,
    RouterAdvertisement,
    RouterSolicitation,
    SourceLinkAddress,
    TargetLinkAddress,
)
from rawkit.wire.ipsec import AH, ESP
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6, IPv6Fragment
from rawkit.wire.llc import LLC, SNAP
from rawkit.wire.mpls import MPLS
from rawkit.wire.packet import Packet
from rawkit.wire.tcp import TCP
from rawkit.wire.udp import UDP
from rawkit.wire.udplite import UDPLite
from rawkit.wire.vxlan import VXLAN

START_NS = 1_700_000_000 * 10**9
INTERVAL_NS = 10**6

ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
IP = IPv4(src="192.0.2.1", dst="192.0.2.2", id=1)
IP6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
LINK6 = IPv6(src="fe80::1", dst="fe80::2", hop_limit=255)
DATAGRAM = UDP(sport=50000, dport=50001) / b"rawkit"
"""The experiments' ports, so that nobody reads more into the payload."""

Packets = list[Packet | Header]


def link() -> Packets:
    arp = ARP(op=1, sender_mac=ETHER.src, sender_ip="192.0.2.1", target_ip="192.0.2.2")
    return [
        ETHER / arp,
        ETHER / Dot1Q(vid=10, pcp=3) / IP / DATAGRAM,
        ETHER / Dot1AD(vid=20) / Dot1Q(vid=10) / IP6 / DATAGRAM,
        ETHER / MPLS(label_value=16) / MPLS(label_value=17, traffic_class=5) / IP / DATAGRAM,
        ETHER / LLC() / SNAP() / IP / DATAGRAM,
    ]


def ipv4_options() -> Packets:
    lists: list[list[ipv4.IPv4Option]] = [
        [ipv4.RouterAlert()],
        [ipv4.RecordRoute(pointer=8, route=["192.0.2.9", "0.0.0.0"])],
        [ipv4.InternetTimestamp(pointer=13, flag=1, words=[0xC0000209, 1000, 0, 0])],
        [ipv4.LooseSourceRoute(pointer=8, route=["192.0.2.9"])],
        [ipv4.IPNoOperation(), ipv4.StreamID(value=7)],
        [ipv4.Security(authorities=b"\x80")],
    ]
    return [ETHER / IP.replace(options=options) / DATAGRAM for options in lists]


def ipv6_extensions() -> Packets:
    return [
        ETHER / IP6 / ipv6ext.HopByHop(options=[ipv6ext.IPv6RouterAlert(1)]) / DATAGRAM,
        ETHER / IP6 / ipv6ext.DestinationOptions(options=[ipv6ext.TunnelLimit(limit=3)]) / DATAGRAM,
        ETHER / IP6 / ipv6ext.HomeAddressRouting(segments_left=1, addresses=["2001:db8::9"]) / DATAGRAM,
        ETHER / IP6 / ipv6ext.SegmentRouting(segments=["2001:db8::2", "2001:db8::9"]) / DATAGRAM,
        ETHER / IP6 / IPv6Fragment(id=7) / DATAGRAM,
    ]


def icmp() -> Packets:
    quoted = IP / DATAGRAM
    labels = icmpext.MPLSStack(labels=[icmpext.LabelEntry(16, 0, 1, 1)])
    return [
        ETHER / IP / ICMPEcho(id=1, seq=1) / b"rawkit",
        ETHER / IP / ICMPEcho(type=0, id=1, seq=1) / b"rawkit",
        ETHER / IP / ICMPUnreachable(code=4, mtu=1400) / quoted,
        ETHER / IP / ICMPRedirect(code=1, gateway="192.0.2.254") / quoted,
        ETHER / IP / icmpext.extended(ICMPTimeExceeded(), quoted, [labels]),
        ETHER / IP / icmpinfo.ICMPTimestamp(id=1, seq=2, originate=1000),
        ETHER / IP / icmpinfo.ICMPAddressMask(type=18, id=1, seq=3, mask="255.255.255.0"),
        ETHER / IP / icmpinfo.ICMPRouterAdvertisement(addresses=[icmpinfo.RouterAddress("192.0.2.254", 1)]),
    ]


def icmpv6_nd() -> Packets:
    source, target = SourceLinkAddress(address=ETHER.src), TargetLinkAddress(address=ETHER.dst)
    prefix = PrefixInformation(prefix="2001:db8::", valid_lifetime=7200, preferred_lifetime=3600)
    servers = ndoption.RecursiveDNS(lifetime=600, servers=["2001:db8::53"])
    domains = ndoption.DNSSearchList(lifetime=600, domains=["example.com"])
    return [
        ETHER / LINK6 / RouterSolicitation(options=[source]),
        ETHER / LINK6 / RouterAdvertisement(lifetime=1800, options=[source, LinkMTU(mtu=1400), prefix]),
        ETHER / LINK6 / RouterAdvertisement(lifetime=1800, options=[servers, domains]),
        ETHER / LINK6 / NeighbourSolicitation(target="fe80::2", options=[source]),
        ETHER / LINK6 / NeighbourAdvertisement(flags=6, target="fe80::2", options=[target]),
        ETHER / LINK6 / Redirect(target="fe80::3", destination="2001:db8::9", options=[target]),
        ETHER / IP6 / ICMPv6Echo(id=1, seq=1) / b"rawkit",
        ETHER / IP6 / ICMPv6PacketTooBig(mtu=1280) / IP6 / DATAGRAM,
    ]


def igmp_mld() -> Packets:
    row = igmp.GroupRecord(3, group="233.252.0.1", sources=["192.0.2.1", "192.0.2.2"])
    row6 = mld.ListenerRecord(4, group="ff0e::1")
    packets = [
        igmp.IGMPQuery(code=100).addressed("192.0.2.1"),
        igmp.IGMPv3Query(code=100, group="233.252.0.1", sources=["192.0.2.1"]).addressed("192.0.2.1"),
        igmp.IGMPReport(group="233.252.0.1").addressed("192.0.2.2"),
        igmp.IGMPLeave(group="233.252.0.1").addressed("192.0.2.2"),
        igmp.IGMPv3Report(records=[row]).addressed("192.0.2.2"),
        mld.MLDQuery().addressed("fe80::1"),
        mld.MLDReport(group="ff0e::1").addressed("fe80::2"),
        mld.MLDv2Report(records=[row6]).addressed("fe80::2"),
    ]
    return [ETHER / packet for packet in packets]


def tcp_options() -> Packets:
    usual = [tcp.MSS(1460), tcp.SACKPermitted(), tcp.Timestamps(1, 0), tcp.NoOperation(), tcp.WindowScale(7)]
    lists: list[tuple[str, list[tcp.TCPOption]]] = [
        ("S", usual),
        ("S", [tcp.MSS(1460), tcpoption.FastOpen(cookie=bytes(range(8)))]),
        ("S", [tcpoption.UserTimeout(0, 30), tcpoption.MD5Signature(bytes(16))]),
        ("SA", [mptcp.MPCapableSYNACK(sender_key=1)]),
        (".", [tcp.SACK([(1000, 2000), (3000, 4000)])]),
    ]
    return [
        ETHER / IP / TCP(sport=50000 + i, dport=50001, seq=1, flags=flags, options=options)
        for i, (flags, options) in enumerate(lists)
    ]


def udp_udplite() -> Packets:
    lite = UDPLite(sport=50000, dport=50001)
    return [
        ETHER / IP / DATAGRAM,
        ETHER / IP6 / DATAGRAM,
        ETHER / IP / lite / b"rawkit",
        ETHER / IP / lite.replace(coverage=8) / b"rawkit",
    ]


def sctp_chunks() -> Packets:
    lists: list[list[sctp.SCTPChunk]] = [
        [sctp.SCTPInit(tag=7, tsn=1)],
        [sctp.SCTPInitAck(tag=8, tsn=1, parameters=[sctp.StateCookie(cookie=b"cookie!!")])],
        [sctp.SCTPCookieEcho(cookie=b"cookie!!")],
        [sctp.SCTPCookieAck()],
        [sctp.SCTPData(tsn=1, data=b"rawkit")],
        [sctp.SCTPSelectiveAck(cumulative_tsn=1)],
        [sctp.SCTPShutdown(cumulative_tsn=1)],
    ]
    return [
        ETHER / IP / sctp.SCTP(sport=50000, dport=50001, tag=i and 7, chunks=chunks)
        for i, chunks in enumerate(lists)
    ]


def dccp_packets() -> Packets:
    sport, dport = 50000, 50001
    return [
        ETHER / IP / dccp.DCCPRequest(sport=sport, dport=dport, seq=1, service=42),
        ETHER / IP / dccp.DCCPResponse(sport=sport, dport=dport, seq=1, ack=1, service=42),
        ETHER / IP / dccp.DCCPData(sport=sport, dport=dport, seq=2) / b"rawkit",
    ]


def ospf_eigrp() -> Packets:
    router = ospf.RouterLSA(id="192.0.2.1", router="192.0.2.1", links=[ospf.RouterLink("192.0.2.0")])
    route = eigrp.EIGRPInternal(delay=1, bandwidth=1, destinations=["198.51.100.0/24"])
    return [
        ETHER / IP / ospf.OSPFHello(router="192.0.2.1", neighbours=["192.0.2.2"]),
        ETHER / IP / ospf.OSPFDescription(router="192.0.2.1", flags="I", seq=1),
        ETHER / IP / ospf.OSPFUpdate(router="192.0.2.1", lsas=[router]),
        ETHER / IP6 / ospf.OSPFv3Hello(router="192.0.2.1"),
        ETHER / IP / eigrp.EIGRP(tlvs=[eigrp.EIGRPParameters()]),
        ETHER / IP / eigrp.EIGRP(opcode=1, seq=1, tlvs=[route]),
    ]


def tunnels() -> Packets:
    inner = IPv4(src="198.51.100.1", dst="198.51.100.2") / DATAGRAM
    return [
        ETHER / IP / inner,
        ETHER / IP / IP6 / DATAGRAM,
        ETHER / IP / GRE(checksum=AUTO, offset=0, key=7, seq=1) / inner,
        ETHER / IP / UDP(sport=50000, dport=4789) / VXLAN(vni=100) / ETHER / inner,
        ETHER / IP / AH(spi=256, seq=1) / DATAGRAM,
        ETHER / IP / ESP(spi=256, seq=1) / b"encrypted octets",
    ]


FAMILIES: dict[str, Callable[[], Packets]] = {
    "link": link, "ipv4-options": ipv4_options, "ipv6-extensions": ipv6_extensions, "icmp": icmp,
    "icmpv6-nd": icmpv6_nd, "igmp-mld": igmp_mld, "tcp-options": tcp_options, "udp-udplite": udp_udplite,
    "sctp": sctp_chunks, "dccp": dccp_packets, "ospf-eigrp": ospf_eigrp, "tunnels": tunnels,
}  # fmt: skip


def make(name: str, directory: Path) -> None:
    """Write a family's capture and its text into a directory."""
    path = directory / f"{name}.pcapng"
    with create_pcap(path) as writer:
        for i, packet in enumerate(FAMILIES[name]()):
            writer.write(Frame(bytes(packet), START_NS + i * INTERVAL_NS))
    text = StringIO()
    with redirect_stdout(text):
        main(["read", "-t", "relative", str(path)], standalone_mode=False)
    path.with_suffix(".txt").write_text(text.getvalue())


if __name__ == "__main__":
    for family in FAMILIES:
        make(family, Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent)
