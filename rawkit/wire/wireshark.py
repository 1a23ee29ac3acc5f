"""The names that Wireshark has for the fields of our headers, where a field means the same there.

Left out is what tshark counts otherwise: header lengths and fragment offsets in octets, for instance.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawkit.wire.header import Header

FIELDS = {
    "Ether": "dst=eth.dst src=eth.src ethertype=eth.type",
    "Dot1Q": "pcp=vlan.priority dei=vlan.dei vid=vlan.id ethertype=vlan.etype",
    "Dot1AD": "pcp=ieee8021ad.priority dei=ieee8021ad.dei vid=ieee8021ad.id",
    "ARP": "hardware=arp.hw.type protocol=arp.proto.type hardware_len=arp.hw.size "
    "protocol_len=arp.proto.size op=arp.opcode sender_mac=arp.src.hw_mac sender_ip=arp.src.proto_ipv4 "
    "target_mac=arp.dst.hw_mac target_ip=arp.dst.proto_ipv4",
    "IPv4": "version=ip.version dscp=ip.dsfield.dscp ecn=ip.dsfield.ecn total_length=ip.len id=ip.id "
    "flags=ip.flags ttl=ip.ttl protocol=ip.proto checksum=ip.checksum src=ip.src dst=ip.dst",
    "IPv6": "version=ipv6.version traffic_class=ipv6.tclass flow_label=ipv6.flow payload_length=ipv6.plen "
    "next_header=ipv6.nxt hop_limit=ipv6.hlim src=ipv6.src dst=ipv6.dst",
    "IPv6Fragment": "protocol=ipv6.fraghdr.nxt reserved=ipv6.fraghdr.reserved_octet more=ipv6.fraghdr.more "
    "reserved2=ipv6.fraghdr.reserved_bits id=ipv6.fraghdr.ident",
    "ICMP": "type=icmp.type code=icmp.code checksum=icmp.checksum",
    "ICMPEcho": "id=icmp.ident seq=icmp.seq",
    "ICMPUnreachable": "length=icmp.length mtu=icmp.mtu",
    "ICMPTimeExceeded": "length=icmp.length",
    "ICMPRedirect": "gateway=icmp.redir_gw",
    "ICMPParameterProblem": "pointer=icmp.pointer length=icmp.length",
    "ICMPv6": "type=icmpv6.type code=icmpv6.code checksum=icmpv6.checksum",
    "ICMPv6Echo": "id=icmpv6.echo.identifier seq=icmpv6.echo.sequence_number",
    "ICMPv6PacketTooBig": "mtu=icmpv6.mtu",
    "ICMPv6ParameterProblem": "pointer=icmpv6.pointer",
    "NeighbourSolicitation": "target=icmpv6.nd.ns.target_address",
    "NeighbourAdvertisement": "target=icmpv6.nd.na.target_address",
    "RouterAdvertisement": "hop_limit=icmpv6.nd.ra.cur_hop_limit lifetime=icmpv6.nd.ra.router_lifetime "
    "reachable_time=icmpv6.nd.ra.reachable_time retrans_timer=icmpv6.nd.ra.retrans_timer",
    "TCP": "sport=tcp.srcport dport=tcp.dstport seq=tcp.seq_raw ack=tcp.ack_raw flags=tcp.flags "
    "window=tcp.window_size_value checksum=tcp.checksum urgent=tcp.urgent_pointer",
    "UDP": "sport=udp.srcport dport=udp.dstport length=udp.length checksum=udp.checksum",
    "UDPLite": "sport=udp.srcport dport=udp.dstport checksum=udp.checksum",
    "SCTP": "sport=sctp.srcport dport=sctp.dstport tag=sctp.verification_tag checksum=sctp.checksum",
    "DCCP": "sport=dccp.srcport dport=dccp.dstport ccval=dccp.ccval cscov=dccp.cscov checksum=dccp.checksum "
    "type=dccp.type x=dccp.x",
    "AH": "next_header=ah.next_header spi=ah.spi seq=ah.sequence icv=ah.icv",
    "ESP": "spi=esp.spi seq=esp.sequence",
    "GRE": "checksum_present=gre.flags.checksum routing_present=gre.flags.routing "
    "key_present=gre.flags.key seq_present=gre.flags.sequence_number version=gre.flags.version "
    "protocol=gre.proto checksum=gre.checksum offset=gre.offset key=gre.key seq=gre.sequence_number",
    "VXLAN": "vni=vxlan.vni",
    "MPLS": "label_value=mpls.label traffic_class=mpls.exp bottom=mpls.bottom ttl=mpls.ttl",
    "IGMP": "type=igmp.type checksum=igmp.checksum",
    "IGMPReport": "group=igmp.maddr",
    "IGMPQuery": "code=igmp.max_resp group=igmp.maddr",
    "LLC": "dsap=llc.dsap ssap=llc.ssap",
}
"""Class to its fields' names; a class that extends another has that one's names too."""


@cache
def names_of(cls: type[Header]) -> dict[str, str]:
    """Our names of a class's fields to Wireshark's."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("rawkit.wire."):
            found.update(_pairs(base.__name__))
    return {row.name: found[row.name] for row in cls.fields if row.name in found}


def our_field(name: str) -> list[tuple[str, str]]:
    """The classes, and their fields, that a name of Wireshark's may stand for."""
    return _reverse().get(name, [])


@cache
def _reverse() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for cls in FIELDS:
        for ours, theirs in _pairs(cls):
            found.setdefault(theirs, []).append((cls, ours))
    return found


def _pairs(cls: str) -> Iterator[tuple[str, str]]:
    for pair in FIELDS.get(cls, "").split():
        ours, _, theirs = pair.partition("=")
        yield ours, theirs
