"""tshark reads the link, network and control protocols as rawkit does: a capture file per family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oracles import oracle
from wire.packets import any_layout, ipv4, ipv6
from wire.test_tshark import dissected, normal

from rawkit.wire import (
    AH,
    ESP,
    GRE,
    LLC,
    MPLS,
    SNAP,
    UDP,
    VXLAN,
    DestinationOptions,
    Ether,
    GroupRecord,
    Header,
    HopByHop,
    ICMPAddressMask,
    ICMPTimestamp,
    IGMPLeave,
    IGMPQuery,
    IGMPReport,
    IGMPv3Query,
    IGMPv3Report,
    IPv4,
    IPv6,
    IPv6Routing,
    LinuxCooked,
    LinuxCooked2,
    MLDDone,
    MLDQuery,
    MLDReport,
    MLDv2Query,
    MLDv2Report,
    Packet,
    SegmentRouting,
    SourceRouting,
)
from rawkit.wire.ipv6ext import HomeAddressRouting, UnknownRouting

PACKETS_N, MANY = 300, 1800
Stack = Callable[[Callable[[Any], Any]], Packet]
Fields = dict[str, tuple[type[Header], str]]


def udp() -> Any:
    return any_layout(UDP, sport=st.just(9), dport=st.just(9))


def link(draw: Any) -> Packet:
    behind = [draw(ipv4()), draw(udp())]
    if draw(st.booleans()):
        labels = draw(
            st.lists(any_layout(MPLS, label_value=st.integers(16, 2**20 - 1)), min_size=1, max_size=4)
        )
        return Packet([draw(any_layout(Ether)), *labels, *behind])
    return Packet([draw(any_layout(Ether)), LLC(), SNAP(), *behind])


def cooked(draw: Any) -> Packet:
    head = any_layout(LinuxCooked, hardware=st.just(1), address_len=st.just(6))
    return Packet([draw(head), draw(ipv4()), draw(udp())])


def cooked2(draw: Any) -> Packet:
    head = any_layout(LinuxCooked2, hardware=st.just(1), address_len=st.just(6))
    return Packet([draw(head), draw(ipv6()), draw(udp())])


def extensions(draw: Any) -> Packet:
    kinds = [HopByHop, DestinationOptions, SourceRouting, HomeAddressRouting, SegmentRouting, UnknownRouting]
    kind = draw(st.sampled_from(kinds))
    given_fields: dict[str, Any] = {"segments_left": st.integers(0, 1)}
    if issubclass(kind, SourceRouting):  # of a type 2 header without its address tshark reads no further
        addresses_n = 1 if kind is HomeAddressRouting else 3
        address = st.binary(min_size=16, max_size=16)
        given_fields["addresses"] = st.lists(address, min_size=1, max_size=addresses_n)
    elif kind is UnknownRouting:  # types 5 and 6 are tshark's compact routing headers, a draft (CRH) as yet
        given_fields["type"] = st.integers(7, 252)
    elif not issubclass(kind, IPv6Routing):
        given_fields = {}
    return Packet([draw(ipv6()), draw(any_layout(kind, **given_fields)), draw(udp())])


def tunnels(draw: Any) -> Packet:
    inner = [draw(ipv4()), draw(udp())]
    outer = draw(ipv4())
    kind = draw(st.sampled_from([GRE, AH, ESP, VXLAN, IPv4, IPv6]))
    if kind is GRE:
        head = any_layout(
            GRE, version=st.just(0), ack_present=st.just(0), ack=st.none(), routing_present=st.just(0)
        )
        return Packet([outer, draw(head), *inner])
    if kind is VXLAN:
        head = any_layout(VXLAN, flags=st.just(8))
        return Packet([outer, UDP(sport=50000, dport=4789), draw(head), draw(any_layout(Ether)), *inner])
    if kind is ESP:
        return Packet([outer, draw(any_layout(ESP))], b"encrypted octets")
    if kind is AH:
        return Packet([outer, draw(any_layout(AH)), draw(udp())])
    return Packet([outer, *(inner if kind is IPv4 else [draw(ipv6()), draw(udp())])])


def control(draw: Any) -> Packet:
    kinds = [
        ICMPTimestamp, ICMPAddressMask, IGMPQuery, IGMPv3Query, IGMPReport, IGMPLeave, IGMPv3Report,
        MLDQuery, MLDv2Query, MLDReport, MLDDone, MLDv2Report,
    ]  # fmt: skip
    kind = draw(st.sampled_from(kinds))
    given_fields = {"code": st.just(100)} if kind in (IGMPQuery, IGMPv3Query) else {"code": st.just(0)}
    return Packet(
        [draw(ipv6() if kind.__name__.startswith("MLD") else ipv4()), draw(any_layout(kind, **given_fields))]
    )


BARE_HEXADECIMAL = {"ipv6.routing.srh.tag"}
"""Fields that tshark prints in hexadecimal without saying so."""

IP_FIELDS: Fields = {
    "ip.ttl": (IPv4, "ttl"),
    "ipv6.hlim": (IPv6, "hop_limit"),
    "udp.checksum": (UDP, "checksum"),
}

FAMILIES: dict[str, tuple[int, Stack, Fields]] = {
    "link": (
        1,
        link,
        {
            "eth.src": (Ether, "src"),
            "llc.dsap": (LLC, "dsap"),
            "llc.ssap": (LLC, "ssap"),
            "llc.oui": (SNAP, "oui"),
            "llc.type": (SNAP, "protocol"),
            "mpls.label": (MPLS, "label_value"),
            "mpls.exp": (MPLS, "traffic_class"),
            "mpls.bottom": (MPLS, "bottom"),
            "mpls.ttl": (MPLS, "ttl"),
        },
    ),
    "cooked": (
        113,
        cooked,
        {
            "sll.pkttype": (LinuxCooked, "packet_type"),
            "sll.hatype": (LinuxCooked, "hardware"),
            "sll.halen": (LinuxCooked, "address_len"),
            "sll.etype": (LinuxCooked, "protocol"),
        },
    ),
    "cooked2": (
        276,
        cooked2,
        {
            "sll.pkttype": (LinuxCooked2, "packet_type"),
            "sll.hatype": (LinuxCooked2, "hardware"),
            "sll.halen": (LinuxCooked2, "address_len"),
            "sll.etype": (LinuxCooked2, "protocol"),
            "sll.ifindex": (LinuxCooked2, "ifindex"),
        },
    ),
    "extensions": (
        229,
        extensions,
        {
            "ipv6.hopopts.nxt": (HopByHop, "next_header"),
            "ipv6.hopopts.len": (HopByHop, "length"),
            "ipv6.dstopts.nxt": (DestinationOptions, "next_header"),
            "ipv6.dstopts.len": (DestinationOptions, "length"),
            "ipv6.routing.nxt": (IPv6Routing, "next_header"),
            "ipv6.routing.len": (IPv6Routing, "length"),
            "ipv6.routing.type": (IPv6Routing, "type"),
            "ipv6.routing.segleft": (IPv6Routing, "segments_left"),
            "ipv6.routing.srh.last_entry": (SegmentRouting, "last_entry"),
            "ipv6.routing.srh.flags": (SegmentRouting, "flags"),
            "ipv6.routing.srh.tag": (SegmentRouting, "tag"),
            "ipv6.routing.srh.addr": (SegmentRouting, "segments"),
        },
    ),
    "tunnels": (
        228,
        tunnels,
        {
            "gre.proto": (GRE, "protocol"),
            "gre.key": (GRE, "key"),
            "gre.sequence_number": (GRE, "seq"),
            "gre.checksum": (GRE, "checksum"),
            "gre.offset": (GRE, "offset"),
            "ah.spi": (AH, "spi"),
            "ah.sequence": (AH, "seq"),
            "ah.length": (AH, "length"),
            "esp.spi": (ESP, "spi"),
            "esp.sequence": (ESP, "seq"),
            "vxlan.vni": (VXLAN, "vni"),
        },
    ),
    "igmp and icmp": (
        228,
        control,
        {
            "icmp.originate_timestamp": (ICMPTimestamp, "originate"),
            "icmp.receive_timestamp": (ICMPTimestamp, "receive"),
            "icmp.transmit_timestamp": (ICMPTimestamp, "transmit"),
            "icmp.address_mask": (ICMPAddressMask, "mask"),
            "igmp.num_grp_recs": (IGMPv3Report, "records_n"),
            "igmp.qrv": (IGMPv3Query, "robustness"),
            "igmp.s": (IGMPv3Query, "suppress"),
        },
    ),
    "mld": (
        229,
        control,
        {
            "icmpv6.mld.maximum_response_delay": (MLDReport, "max_response"),
            "icmpv6.mld.flag.qrv": (MLDv2Query, "robustness"),
            "icmpv6.mld.flag.s": (MLDv2Query, "suppress"),
            "icmpv6.mldr.nb_mcast_records": (MLDv2Report, "records_n"),
        },
    ),
}


def generated(linktype: int, stack: Stack, packets_n: int) -> list[Packet]:
    """Packets of one family that start with the header of the link type, as parsed again."""
    found: list[Packet] = []

    @settings(
        max_examples=packets_n, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=st.data())
    def collect(data: Any) -> None:
        packet = stack(data.draw)
        first = type(packet.layers[0])
        if {228: IPv4, 229: IPv6}.get(linktype, first) is first:
            found.append(Packet.parse(bytes(packet), first=first, strict=True))
            assert [type(layer) for layer in found[-1].layers] == [type(layer) for layer in packet.layers]

    collect()
    return found


def said(packet: Packet, layer: type[Header], field: str) -> list[object]:
    """The values of a field in all layers that have it, lists taken apart."""
    values: list[object] = []
    for header in packet.layers:
        value = getattr(header, field) if isinstance(header, layer) else None
        values += value if isinstance(value, tuple) else [] if value is None else [value]
    return [normal(str(value)) for value in values]


@pytest.mark.parametrize("packets_n", [PACKETS_N, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
def test_tshark_agrees(family: str, packets_n: int, tmp_path: Path) -> None:
    tshark = oracle("tshark")
    import dpkt

    linktype, stack, own = FAMILIES[family]
    sent = generated(linktype, stack, packets_n)
    assert len(sent) > packets_n // 5
    path = tmp_path / "generated.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=linktype)
        for i, packet in enumerate(sent):
            writer.writepkt(bytes(packet), ts=i)
    fields = {**IP_FIELDS, **own}
    rows = list(dissected(tshark, path, list(fields)))
    assert len(rows) == len(sent)
    seen = set()
    for number, (packet, row) in enumerate(zip(sent, rows), 1):
        for name, (layer, field) in fields.items():
            ours = said(packet, layer, field)
            prefix = "0x" if name in BARE_HEXADECIMAL else ""
            assert [normal(prefix + text) for text in row[name]][: len(ours)] == ours, (number, name, packet)
            seen.update([name] if ours else [])
    assert seen >= set(own)


def test_records_as_tshark_lists_them(tmp_path: Path) -> None:
    tshark = oracle("tshark")
    import dpkt

    records = [
        GroupRecord(3, group="233.252.0.1", sources=["192.0.2.1", "192.0.2.2"]),
        GroupRecord(group="233.252.0.2"),
    ]
    path = tmp_path / "records.pcap"
    with path.open("wb") as file:
        dpkt.pcap.Writer(file, linktype=228).writepkt(
            bytes(IGMPv3Report(records=records).addressed("192.0.2.9"))
        )
    names = ["igmp.record_type", "igmp.num_src", "igmp.maddr", "igmp.saddr", "igmp.checksum.status", "ip.dst"]
    (row,) = dissected(tshark, path, names)
    assert [row[name] for name in names] == [
        ["3", "4"], ["2", "0"], ["233.252.0.1", "233.252.0.2"], ["192.0.2.1", "192.0.2.2"], ["1"],
        ["224.0.0.22"],
    ]  # fmt: skip
