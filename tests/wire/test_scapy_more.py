"""scapy reads the rarer protocols as rawkit does, in packets of each class (`wire.stacks`); see `test_scapy`.

It has no DCCP and no UDP-Lite, and in EIGRP one number of 32 bits for router and system, which RFC 7868
section 6.5 tells apart.
"""

from __future__ import annotations

import importlib
from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from wire.stacks import PROTOCOLS, generated
from wire.tsharkfields import parts

from rawkit.wire import ESP, GRE, Packet

# Our class: scapy's module and class, and our fields: scapy's.
CLASSES = {
    "LLC": "layers.l2.LLC dsap=dsap ssap=ssap control=ctrl",
    "SNAP": "layers.l2.SNAP oui=OUI protocol=code",
    "MPLS": "contrib.mpls.MPLS label_value=label traffic_class=cos bottom=s ttl=ttl",
    "LinuxCooked": "layers.l2.CookedLinux packet_type=pkttype hardware=lladdrtype address_len=lladdrlen "
    "protocol=proto",
    "LinuxCooked2": "layers.l2.CookedLinuxV2 packet_type=pkttype hardware=lladdrtype address_len=lladdrlen "
    "protocol=proto ifindex=ifindex",
    "ARP": "layers.l2.ARP hardware=hwtype protocol=ptype hardware_len=hwlen protocol_len=plen op=op",
    "GRE": "layers.l2.GRE checksum_present=chksum_present routing_present=routing_present "
    "key_present=key_present seq_present=seqnum_present strict_route=strict_route_source "
    "recursion=recursion_control version=version protocol=proto checksum=chksum offset=offset key=key "
    "seq=sequence_number",
    "VXLAN": "layers.vxlan.VXLAN vni=vni",
    "AH": "layers.ipsec.AH next_header=nh length=payloadlen reserved=reserved spi=spi seq=seq icv=icv",
    "ESP": "layers.ipsec.ESP spi=spi seq=seq",
    "HopByHop": "layers.inet6.IPv6ExtHdrHopByHop next_header=nh length=len",
    "DestinationOptions": "layers.inet6.IPv6ExtHdrDestOpt next_header=nh length=len",
    "IPv6Fragment": "layers.inet6.IPv6ExtHdrFragment protocol=nh fragment_offset=offset more=m id=id",
    "SourceRouting": "layers.inet6.IPv6ExtHdrRouting next_header=nh length=len type=type "
    "segments_left=segleft reserved=reserved addresses=addresses",
    "SegmentRouting": "layers.inet6.IPv6ExtHdrSegmentRouting next_header=nh length=len type=type "
    "segments_left=segleft last_entry=lastentry tag=tag segments=addresses",
    "IGMPReport": "contrib.igmp.IGMP type=type code=mrcode checksum=chksum group=gaddr",
    "IGMPLeave": "contrib.igmp.IGMP type=type code=mrcode checksum=chksum group=gaddr",
    "SCTP": "layers.sctp.SCTP sport=sport dport=dport tag=tag checksum=chksum",
    "SCTPData": "layers.sctp.SCTPChunkData tsn=tsn stream=stream_id seq=stream_seq protocol=proto_id",
    "SCTPInit": "layers.sctp.SCTPChunkInit flags=flags tag=init_tag window=a_rwnd outgoing=n_out_streams "
    "incoming=n_in_streams tsn=init_tsn",
    "SCTPInitAck": "layers.sctp.SCTPChunkInitAck flags=flags tag=init_tag window=a_rwnd "
    "outgoing=n_out_streams incoming=n_in_streams tsn=init_tsn",
    "SCTPSelectiveAck": "layers.sctp.SCTPChunkSACK flags=flags cumulative_tsn=cumul_tsn_ack window=a_rwnd "
    "gaps_n=n_gap_ack duplicates_n=n_dup_tsn duplicates=dup_tsn_list",
    "SCTPShutdown": "layers.sctp.SCTPChunkShutdown flags=flags cumulative_tsn=cumul_tsn_ack",
    "SCTPCookieEcho": "layers.sctp.SCTPChunkCookieEcho flags=flags cookie=cookie",
    "SCTPAuth": "layers.sctp.SCTPChunkAuthentication flags=flags key_id=shared_key_id hmac_id=HMAC_function",
    "SCTPAddressConfiguration": "layers.sctp.SCTPChunkAddressConf flags=flags seq=seq",
    "SCTPAddressConfigurationAck": "layers.sctp.SCTPChunkAddressConfAck flags=flags seq=seq",
    "OSPFHello": "contrib.ospf.OSPF_Hello mask=mask interval=hellointerval priority=prio "
    "dead_interval=deadinterval designated=router backup=backup neighbours=neighbors",
    "OSPFDescription": "contrib.ospf.OSPF_DBDesc mtu=mtu seq=ddseq",
    "EIGRP": "contrib.eigrp.EIGRP version=ver opcode=opcode checksum=chksum flags=flags seq=seq ack=ack",
}

FIRST = {
    1: "layers.l2.Ether", 113: "layers.l2.CookedLinux", 276: "layers.l2.CookedLinuxV2", 228: "layers.inet.IP",
    229: "layers.inet6.IPv6",
}  # fmt: skip


def scapys(name: str) -> Any:
    module, _, cls = name.rpartition(".")
    return getattr(importlib.import_module(f"scapy.{module}"), cls)


def plain(value: Any) -> Any:
    """Numbers, and addresses as text; octets stay."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (IPv4Address, IPv6Address)):
        return str(value)
    if value is None or isinstance(value, bytes):
        return value or b""
    return int(value) if hasattr(value, "__int__") else str(value)


def is_otherwise(part: Any) -> bool:
    """PPTP's GRE is a class of its own to scapy. An SPI of 0, reserved by RFC 4303 section 2.1, says to it
    that this is no ESP, as it does in UDP (RFC 3948 section 2.2).
    """
    return (isinstance(part, GRE) and part.version == 1) or (isinstance(part, ESP) and part.spi == 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scapy_reads_the_same_values(protocol: str) -> None:
    case = PROTOCOLS[protocol]
    names = {name: text.split() for name, text in CLASSES.items()}
    for words in names.values():
        scapys(words[0])  # what is imported binds itself to what is below
    for packet in generated(case, 4 * len(case.members)):
        octets = bytes(packet)
        first = FIRST.get(case.linktype) or FIRST[229 if octets[:1] >= b"\x60" else 228]
        theirs = scapys(first)(octets)
        # Building IGMP, scapy adds the router alert to the header below and changes its TTL, parsed or not.
        assert bytes(theirs) == octets or protocol == "igmp"
        seen: Counter[str] = Counter()
        for part in parts(Packet.parse(octets, first=case.first)):
            words = names.get(type(part).__name__, [])
            if not words or is_otherwise(part):
                continue
            seen[words[0]] += 1
            layer = theirs.getlayer(scapys(words[0]), seen[words[0]])
            assert layer is not None, packet
            for ours, _, field in (pair.partition("=") for pair in words[1:]):
                found = plain(layer.getfieldval(field))
                assert found == plain(getattr(part, ours)), (type(part).__name__, ours, packet)


def test_every_class_is_met() -> None:
    met = {
        type(part).__name__
        for case in PROTOCOLS.values()
        for packet in generated(case, len(case.members))
        for part in parts(Packet.parse(bytes(packet), first=case.first))
    }
    assert met >= CLASSES.keys()
