"""rawkit and dpkt read each other's packets, field for field.

Where dpkt has gaps, they are named here and left to it:
  - it keeps stacked VLAN tags beside the frame, not as layers, and builds none;
  - it computes IPv4 lengths and sums, UDP sums and TCP sums, but neither the TCP offset nor the UDP length
    nor ICMPv6 sums; lengths and offset are given to it, packets with ICMPv6 are only read by it;
  - it computes no sums behind an IPv6 fragment header; behind a source route of IPv4 it takes the next
    address for the final destination (as for IPv6, RFC 8200 section 8.1: "that of the final destination");
  - it reads neither the unused words of ICMP errors nor neighbour discovery messages.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from wire.packets import packets

from rawkit.wire import ARP, ICMP, TCP, UDP, Dot1Q, Ether, ICMPEcho, ICMPv6, IPv4, IPv6, IPv6Fragment, Packet
from rawkit.wire.ipv4 import SourceRoute

dpkt = pytest.importorskip("dpkt")


def is_known_to_dpkt(packet: Packet) -> bool:
    return sum(isinstance(layer, Dot1Q) for layer in packet.layers) <= 1


def is_built_by_dpkt(packet: Packet) -> bool:
    known = all(type(layer) in (Ether, ARP, IPv4, IPv6, TCP, UDP, ICMPEcho) for layer in packet.layers)
    headers = [layer for layer in packet.layers if isinstance(layer, IPv4)]
    return known and not any(isinstance(option, SourceRoute) for ip in headers for option in ip.options)


def check_read_alike(octets: bytes, packet: Packet) -> None:
    theirs: Any = None
    for header in packet.layers:
        if header.quotes:
            break
        match header:
            case Ether():
                theirs = dpkt.ethernet.Ethernet(octets)
                assert (theirs.dst, theirs.src) == (bytes(header.dst), bytes(header.src))
                if Dot1Q not in packet:
                    assert theirs.type == header.ethertype
            case Dot1Q():
                (tag,) = theirs.vlan_tags
                assert (tag.pri, tag.cfi, tag.id) == (header.pcp, header.dei, header.vid)
                assert tag.type == header.ethertype
            case ARP():
                theirs = theirs.data if theirs is not None else dpkt.arp.ARP(octets)
                assert (theirs.hrd, theirs.pro, theirs.hln, theirs.pln, theirs.op) == (
                    header.hardware,
                    header.protocol,
                    header.hardware_len,
                    header.protocol_len,
                    header.op,
                )
                assert (theirs.sha, theirs.tha) == (bytes(header.sender_mac), bytes(header.target_mac))
                assert (theirs.spa, theirs.tpa) == (header.sender_ip.packed, header.target_ip.packed)
            case IPv4():
                theirs = theirs.data if theirs is not None else dpkt.ip.IP(octets)
                assert (theirs.v, theirs.hl, theirs.tos, theirs.len, theirs.id) == (
                    header.version,
                    header.ihl,
                    header.dscp << 2 | header.ecn,
                    header.total_length,
                    header.id,
                )
                assert (theirs.rf, theirs.df, theirs.mf) == (
                    header.flags >> 2,
                    header.flags >> 1 & 1,
                    header.flags & 1,
                )
                assert (theirs.offset, theirs.ttl, theirs.p, theirs.sum) == (
                    header.fragment_offset,
                    header.ttl,
                    header.protocol,
                    header.checksum,
                )
                assert (theirs.src, theirs.dst) == (header.src.packed, header.dst.packed)
                assert theirs.opts == header._options
            case IPv6():
                theirs = theirs.data if theirs is not None else dpkt.ip6.IP6(octets)
                assert (theirs.v, theirs.fc, theirs.flow) == (6, header.traffic_class, header.flow_label)
                assert (theirs.plen, theirs.nxt, theirs.hlim) == (
                    header.payload_length,
                    header.next_header,
                    header.hop_limit,
                )
                assert (theirs.src, theirs.dst) == (header.src.packed, header.dst.packed)
            case IPv6Fragment():
                (extension,) = theirs.all_extension_headers
                assert (extension.nxt, extension.frag_off, extension.m_flag, extension.id) == (
                    header.protocol,
                    header.fragment_offset,
                    header.more,
                    header.id,
                )
            case TCP():
                theirs = theirs.data
                assert (theirs.sport, theirs.dport, theirs.seq, theirs.ack) == (
                    header.sport,
                    header.dport,
                    header.seq,
                    header.ack,
                )
                assert (theirs.off, theirs.flags & 0xFF, theirs.win, theirs.sum, theirs.urp) == (
                    header.data_offset,
                    header.flags & 0xFF,
                    header.window,
                    header.checksum,
                    header.urgent,
                )
                assert (theirs.opts, theirs.data) == (header._options, packet.payload)
            case UDP():
                theirs = theirs.data
                assert (theirs.sport, theirs.dport, theirs.ulen, theirs.sum, theirs.data) == (
                    header.sport,
                    header.dport,
                    header.length,
                    header.checksum,
                    packet.payload,
                )
            case ICMPEcho():
                theirs = theirs.data
                assert (theirs.type, theirs.code, theirs.sum) == (header.type, header.code, header.checksum)
                echo = theirs.data
                assert (echo.id, echo.seq, echo.data) == (header.id, header.seq, packet.payload)
            case ICMP() | ICMPv6():
                theirs = theirs.data
                assert (theirs.type, theirs.code, theirs.sum) == (header.type, header.code, header.checksum)


@settings(max_examples=50, deadline=None)
@given(packet=packets().filter(is_known_to_dpkt))
def test_dpkt_reads_what_rawkit_builds(packet: Packet) -> None:
    octets = bytes(packet)
    check_read_alike(octets, Packet.parse(octets, first=type(packet.layers[0]), strict=True))


@settings(max_examples=50, deadline=None)
@given(packet=packets().filter(is_built_by_dpkt))
def test_dpkt_builds_what_rawkit_builds(packet: Packet) -> None:
    """dpkt builds from values, with sums of its own, and rawkit's octets come out."""
    parsed = Packet.parse(bytes(packet), first=type(packet.layers[0]), strict=True)
    payload: Any = parsed.payload
    for header in reversed(parsed.layers):
        match header:
            case TCP():
                payload = dpkt.tcp.TCP(
                    sport=header.sport,
                    dport=header.dport,
                    seq=header.seq,
                    ack=header.ack,
                    off=header.data_offset,
                    flags=header.flags & 0xFF,
                    win=header.window,
                    urp=header.urgent,
                    opts=header._options,
                    data=payload,
                )
                # The reserved bits and AE have no place in dpkt.
                payload._rsv, payload._off_flags = (
                    0,
                    payload._off_flags | header.reserved << 9 | header.flags & 0x100,
                )
            case UDP():
                payload = dpkt.udp.UDP(
                    sport=header.sport, dport=header.dport, ulen=header.length, data=payload
                )
            case ICMPEcho():
                echo = dpkt.icmp.ICMP.Echo(id=header.id, seq=header.seq, data=payload)
                payload = dpkt.icmp.ICMP(type=header.type, code=header.code, data=echo)
            case IPv4():
                payload = dpkt.ip.IP(
                    v=4,
                    hl=header.ihl,
                    tos=header.dscp << 2 | header.ecn,
                    id=header.id,
                    df=header.flags >> 1 & 1,
                    ttl=header.ttl,
                    p=header.protocol,
                    src=header.src.packed,
                    dst=header.dst.packed,
                    opts=header._options,
                    data=payload,
                )
            case IPv6():
                payload = dpkt.ip6.IP6(
                    fc=header.traffic_class,
                    flow=header.flow_label,
                    plen=header.payload_length,
                    nxt=header.next_header,
                    hlim=header.hop_limit,
                    src=header.src.packed,
                    dst=header.dst.packed,
                    data=payload,
                )
                payload.extension_hdrs = {}
            case ARP():
                payload = dpkt.arp.ARP(
                    hrd=header.hardware,
                    pro=header.protocol,
                    op=header.op,
                    sha=bytes(header.sender_mac),
                    spa=header.sender_ip.packed,
                    tha=bytes(header.target_mac),
                    tpa=header.target_ip.packed,
                )
            case Ether():
                payload = dpkt.ethernet.Ethernet(
                    dst=bytes(header.dst), src=bytes(header.src), type=header.ethertype, data=payload
                )
    assert bytes(payload) == bytes(packet)
