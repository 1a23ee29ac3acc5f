"""dpkt reads the rarer headers as rawkit does, in packets of each class (`wire.stacks`); see `test_dpkt`.

Each header is given to dpkt's class by itself, with all that follows it. Where dpkt goes wrong, the field is
left out and the reason stands here:
  - GRE: its recursion control is three of the flags (RFC 1701: "bits 5-7" from the left); version 1 has the
    length and the call of PPTP as two fields without a key flag;
  - LLC: it raises where a spanning tree message is cut off;
  - ICMP: it has a class for parameter problems, which it never uses; built again, a quoted packet whose own
    checksum was 0 gets one;
  - SCTP: it skips the padding of DATA chunks only (RFC 9260 section 3.2: of all), so chunks are read one by
    one;
  - IP6: routing headers are those of type 0, whatever their type says;
  - IGMPv3, OSPFv3, MLD, neighbour discovery, and the bodies of OSPF packets it does not know.
"""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter
from typing import Any

import pytest
from wire.stacks import PROTOCOLS, generated

from rawkit.wire import GRE, LLC, SCTP, Header, Packet

dpkt = pytest.importorskip("dpkt")

# Our class: dpkt's module and class, and our fields (or slots): dpkt's.
CLASSES = {
    "LLC": "llc.LLC dsap=dsap ssap=ssap control=ctl",
    "MPLS": "ethernet.MPLSlabel label_value=val traffic_class=exp bottom=s ttl=ttl",
    "LinuxCooked": "sll.SLL packet_type=type hardware=hrd address_len=hlen address=hdr protocol=ethtype",
    "LinuxCooked2": "sll2.SLL2 protocol=ethtype reserved=mbz hardware=hrd packet_type=type "
    "address_len=hlen address=hdr",
    "GRE": "gre.GRE version=v protocol=p",
    "AH": "ah.AH next_header=nxt length=len reserved=rsvd spi=spi seq=seq icv=auth",
    "ESP": "esp.ESP spi=spi seq=seq",
    "HopByHop": "ip6.IP6HopOptsHeader next_header=nxt length=len",
    "DestinationOptions": "ip6.IP6DstOptsHeader next_header=nxt length=len",
    "SourceRouting": "ip6.IP6RoutingHeader next_header=nxt length=len type=type segments_left=segs_left",
    "IPv6Fragment": "ip6.IP6FragmentHeader protocol=nxt fragment_offset=frag_off more=m_flag id=id",
    "ICMP": "icmp.ICMP type=type code=code checksum=sum",
    "ICMPEcho": "icmp.ICMP type=type code=code checksum=sum id=data.id seq=data.seq",
    "ICMPUnreachable": "icmp.ICMP type=type code=code checksum=sum mtu=data.mtu",
    "ICMPTimeExceeded": "icmp.ICMP type=type code=code checksum=sum",
    "ICMPRedirect": "icmp.ICMP type=type code=code checksum=sum gateway=data.gw",
    "ICMPSourceQuench": "icmp.ICMP type=type code=code checksum=sum unused=data.pad",
    "ICMPParameterProblem": "icmp.ICMP type=type code=code checksum=sum",
    "ICMPv6": "icmp6.ICMP6 type=type code=code checksum=sum",
    "ICMPv6Echo": "icmp6.ICMP6 type=type code=code checksum=sum id=data.id seq=data.seq",
    "ICMPv6PacketTooBig": "icmp6.ICMP6 type=type code=code checksum=sum mtu=data.mtu",
    "ICMPv6ParameterProblem": "icmp6.ICMP6 type=type code=code checksum=sum pointer=data.ptr",
    "IGMPQuery": "igmp.IGMP type=type code=maxresp checksum=sum group=group",
    "IGMPReport": "igmp.IGMP type=type code=maxresp checksum=sum group=group",
    "IGMPLeave": "igmp.IGMP type=type code=maxresp checksum=sum group=group",
    "SCTP": "sctp.SCTP sport=sport dport=dport tag=vtag checksum=sum",
    "OSPF": "ospf.OSPF version=v type=type length=len router=router area=area checksum=sum "
    "authentication_type=atype authentication=auth",
}


KNOWN = ["llc", "mpls", "cooked", "cooked2", "ipv6", "icmp", "icmpv6", "igmp", "sctp", "ospf", "gre", "ipsec"]
SPANNING_TREE = 0x42


def dpkts(name: str) -> Any:
    module, _, cls = name.partition(".")
    __import__(f"dpkt.{module}")
    return getattr(getattr(dpkt, module), cls)


def like(ours: Any, theirs: Any) -> Any:
    """Our value as dpkt has them: addresses as octets or as a number."""
    if isinstance(ours, (IPv4Address, IPv6Address)):
        return ours.packed if isinstance(theirs, bytes) else int(ours)
    return ours


@cache
def headers_of(protocol: str) -> list[tuple[Header, bytes]]:
    """Each header that dpkt knows in some packets of a protocol, with its octets and all that follow."""
    case = PROTOCOLS[protocol]
    found = []
    for packet in generated(case, 2 * len(case.members)):
        octets = bytes(packet)
        parsed = Packet.parse(octets, first=case.first)
        for header, at in zip(parsed.layers, parsed.offsets):
            if known_as(header):
                found.append((header, octets[at : len(octets) - len(parsed.trailer)]))
    return found


def known_as(header: Header) -> str:
    """The name in CLASSES of the header's class or of the nearest that it extends, "" for none."""
    return next((cls.__name__ for cls in type(header).__mro__ if cls.__name__ in CLASSES), "")


@pytest.mark.parametrize("protocol", KNOWN)
def test_dpkt_reads_the_same_values(protocol: str) -> None:
    for header, octets in headers_of(protocol):
        name, *fields = CLASSES[known_as(header)].split()
        if isinstance(header, LLC) and header.dsap == SPANNING_TREE:
            continue
        layer = dpkts(name)(octets[:12] if isinstance(header, SCTP) else octets)
        for ours, _, field in (pair.partition("=") for pair in fields):
            theirs = attrgetter(field)(layer)
            assert theirs == like(getattr(header, ours), theirs), (header, ours)
        if isinstance(header, GRE) and header.version == 0:
            assert getattr(layer, "key", None) == header.key
            assert getattr(layer, "seq", None) == header.seq
        if isinstance(header, SCTP):
            for chunk in header.chunks:
                their_chunk = dpkt.sctp.Chunk(bytes(chunk))
                body = bytes(chunk)[4 : their_chunk.len]
                assert (their_chunk.type, their_chunk.flags, their_chunk.data) == (
                    bytes(chunk)[0],
                    bytes(chunk)[1],
                    body,
                )


@pytest.mark.parametrize("protocol", ["icmp", "igmp"])
def test_dpkt_sums_up_alike(protocol: str) -> None:
    sums = 0
    for header, octets in headers_of(protocol):
        whole = Packet.parse(octets, first=type(header))
        if whole.checksums()[0].state == "good" and not header.quotes:
            theirs = dpkts(CLASSES[known_as(header)].split()[0])(octets[:2] + b"\0\0" + octets[4:])
            assert bytes(theirs) == octets
            sums += 1
    assert sums > 5


def test_dpkt_has_the_same_crc() -> None:
    sums = 0
    for header, octets in headers_of("sctp"):
        if Packet.parse(octets, first=SCTP).checksums()[0].state == "good":
            crc = dpkt.crc32c.done(dpkt.crc32c.add(0xFFFFFFFF, octets[:8] + bytes(4) + octets[12:]))
            assert crc == header.checksum
            sums += 1
    assert sums > 5


def test_every_class_is_met() -> None:
    met = {known_as(header) for protocol in KNOWN for header, _ in headers_of(protocol)}
    assert met >= CLASSES.keys()
