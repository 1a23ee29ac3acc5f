"""The names that Wireshark has for the fields of our headers, where a field means the same there.

Left out is what tshark counts otherwise: header lengths and fragment offsets in octets, for instance.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawkit.wire.layout import Layout

FIELDS = {
    "Ether": "dst=eth.dst src=eth.src ethertype=eth.type",
    "Dot1Q": "pcp=vlan.priority dei=vlan.dei vid=vlan.id ethertype=vlan.etype",
    "Dot1AD": "pcp=ieee8021ad.priority dei=ieee8021ad.dei vid=ieee8021ad.id ethertype=ieee8021ah.etype",
    "LLC": "dsap=llc.dsap ssap=llc.ssap control=llc.control",
    "SNAP": "oui=llc.oui protocol=llc.type",
    "MPLS": "label_value=mpls.label traffic_class=mpls.exp bottom=mpls.bottom ttl=mpls.ttl",
    "LinuxCooked": "packet_type=sll.pkttype hardware=sll.hatype address_len=sll.halen protocol=sll.etype",
    "LinuxCooked2": "packet_type=sll.pkttype hardware=sll.hatype address_len=sll.halen protocol=sll.etype "
    "ifindex=sll.ifindex",
    "Loopback": "family=null.family",
    "ARP": "hardware=arp.hw.type protocol=arp.proto.type hardware_len=arp.hw.size "
    "protocol_len=arp.proto.size op=arp.opcode sender_mac=arp.src.hw_mac sender_ip=arp.src.proto_ipv4 "
    "target_mac=arp.dst.hw_mac target_ip=arp.dst.proto_ipv4",
    "IPv4": "version=ip.version dscp=ip.dsfield.dscp ecn=ip.dsfield.ecn total_length=ip.len id=ip.id "
    "flags=ip.flags ttl=ip.ttl protocol=ip.proto checksum=ip.checksum src=ip.src dst=ip.dst",
    "IPv6": "version=ipv6.version traffic_class=ipv6.tclass flow_label=ipv6.flow payload_length=ipv6.plen "
    "next_header=ipv6.nxt hop_limit=ipv6.hlim src=ipv6.src dst=ipv6.dst",
    "IPv6Fragment": "protocol=ipv6.fraghdr.nxt reserved=ipv6.fraghdr.reserved_octet "
    "fragment_offset=ipv6.fraghdr.offset more=ipv6.fraghdr.more reserved2=ipv6.fraghdr.reserved_bits "
    "id=ipv6.fraghdr.ident",
    "HopByHop": "next_header=ipv6.hopopts.nxt length=ipv6.hopopts.len",
    "DestinationOptions": "next_header=ipv6.dstopts.nxt length=ipv6.dstopts.len",
    "IPv6Routing": "next_header=ipv6.routing.nxt length=ipv6.routing.len type=ipv6.routing.type "
    "segments_left=ipv6.routing.segleft",
    "UnknownRouting": "data=ipv6.routing.unknown_data",
    "SourceRouting": "reserved=ipv6.routing.src.reserved addresses=ipv6.routing.src.addr",
    "HomeAddressRouting": "reserved=ipv6.routing.mipv6.reserved addresses=ipv6.routing.mipv6.home_address",
    "RPLRouting": "compressed=ipv6.routing.rpl.cmprI compressed_last=ipv6.routing.rpl.cmprE "
    "pad=ipv6.routing.rpl.pad reserved=ipv6.routing.rpl.reserved",
    "SegmentRouting": "last_entry=ipv6.routing.srh.last_entry flags=ipv6.routing.srh.flags "
    "tag=ipv6.routing.srh.tag segments=ipv6.routing.srh.addr",
    "AH": "next_header=ah.next_header length=ah.length reserved=ah.reserved spi=ah.spi seq=ah.sequence "
    "icv=ah.icv",
    "ESP": "spi=esp.spi seq=esp.sequence",
    "ICMP": "type=icmp.type code=icmp.code checksum=icmp.checksum",
    "ICMPEcho": "id=icmp.ident seq=icmp.seq",
    "ICMPUnreachable": "unused=icmp.unused length=icmp.length mtu=icmp.mtu",
    "ICMPTimeExceeded": "unused=icmp.unused length=icmp.length",
    "ICMPRedirect": "gateway=icmp.redir_gw",
    "ICMPParameterProblem": "pointer=icmp.pointer length=icmp.length unused=icmp.unused",
    "ICMPSourceQuench": "unused=icmp.unused",
    "ICMPSecurityFailure": "reserved=icmp.reserved pointer=icmp.pointer",
    "ICMPRouterAdvertisement": "addresses_n=icmp.num_addrs entry_len=icmp.addr_entry_size "
    "lifetime=icmp.lifetime",
    "ICMPRouterSolicitation": "reserved=icmp.reserved",
    "ICMPQuery": "id=icmp.ident seq=icmp.seq",
    "ICMPTimestamp": "originate=icmp.originate_timestamp receive=icmp.receive_timestamp "
    "transmit=icmp.transmit_timestamp",
    "ICMPAddressMask": "mask=icmp.address_mask",
    "ICMPExtendedEcho": "id=icmp.ident seq=icmp.ext.echo.seq reserved=icmp.ext.echo.req.res "
    "local=icmp.ext.echo.req.local",
    "ICMPExtendedEchoReply": "id=icmp.ident seq=icmp.ext.echo.seq state=icmp.ext.echo.rsp.state "
    "reserved=icmp.ext.echo.rsp.res active=icmp.ext.echo.rsp.active ipv4=icmp.ext.echo.rsp.ipv4 "
    "ipv6=icmp.ext.echo.rsp.ipv6",
    "ICMPExtension": "version=icmp.ext.version reserved=icmp.ext.res checksum=icmp.ext.checksum",
    "ICMPv6": "type=icmpv6.type code=icmpv6.code checksum=icmpv6.checksum",
    "ICMPv6Echo": "id=icmpv6.echo.identifier seq=icmpv6.echo.sequence_number",
    "ICMPv6Unreachable": "length=icmpv6.length",
    "ICMPv6TimeExceeded": "length=icmpv6.length",
    "ICMPv6PacketTooBig": "mtu=icmpv6.mtu",
    "ICMPv6ParameterProblem": "pointer=icmpv6.pointer",
    "ICMPv6ExtendedEcho": "id=icmpv6.echo.identifier seq=icmpv6.ext.echo.seq "
    "reserved=icmpv6.ext.echo.req.res local=icmpv6.ext.echo.req.local",
    "ICMPv6ExtendedEchoReply": "id=icmpv6.echo.identifier seq=icmpv6.ext.echo.seq "
    "state=icmpv6.ext.echo.rsp.state reserved=icmpv6.ext.echo.rsp.res active=icmpv6.ext.echo.rsp.active "
    "ipv4=icmpv6.ext.echo.rsp.ipv4 ipv6=icmpv6.ext.echo.rsp.ipv6",
    "RouterSolicitation": "reserved=icmpv6.reserved",
    "RouterAdvertisement": "hop_limit=icmpv6.nd.ra.cur_hop_limit flags=icmpv6.nd.ra.flag "
    "lifetime=icmpv6.nd.ra.router_lifetime reachable_time=icmpv6.nd.ra.reachable_time "
    "retrans_timer=icmpv6.nd.ra.retrans_timer",
    "NeighbourSolicitation": "reserved=icmpv6.reserved target=icmpv6.nd.ns.target_address",
    "NeighbourAdvertisement": "reserved=icmpv6.nd.na.flag.rsv target=icmpv6.nd.na.target_address",
    "Redirect": "reserved=icmpv6.reserved target=icmpv6.nd.rd.target_address "
    "destination=icmpv6.rd.na.destination_address",
    "MLDQuery": "max_response=icmpv6.mld.maximum_response_delay reserved=icmpv6.reserved "
    "group=icmpv6.mld.multicast_address",
    "MLDReport": "max_response=icmpv6.mld.maximum_response_delay reserved=icmpv6.reserved "
    "group=icmpv6.mld.multicast_address",
    "MLDDone": "max_response=icmpv6.mld.maximum_response_delay reserved=icmpv6.reserved "
    "group=icmpv6.mld.multicast_address",
    "MLDv2Query": "max_response=icmpv6.mld.maximum_response_code reserved2=icmpv6.mld.flag.reserved "
    "suppress=icmpv6.mld.flag.s robustness=icmpv6.mld.flag.qrv interval_code=icmpv6.mld.qqi "
    "sources_n=icmpv6.mld.nb_sources sources=icmpv6.mld.source_address",
    "MLDv2Report": "reserved=icmpv6.reserved records_n=icmpv6.mldr.nb_mcast_records",
    "IGMP": "type=igmp.type checksum=igmp.checksum",
    "IGMPReport": "group=igmp.maddr",
    "IGMPLeave": "group=igmp.maddr",
    "IGMPQuery": "code=igmp.max_resp group=igmp.maddr",
    "IGMPv3Query": "suppress=igmp.s robustness=igmp.qrv interval_code=igmp.qqic sources_n=igmp.num_src "
    "sources=igmp.saddr",
    "IGMPv3Report": "records_n=igmp.num_grp_recs",
    "TCP": "sport=tcp.srcport dport=tcp.dstport seq=tcp.seq_raw ack=tcp.ack_raw flags=tcp.flags "
    "window=tcp.window_size_value checksum=tcp.checksum urgent=tcp.urgent_pointer",
    "UDP": "sport=udp.srcport dport=udp.dstport length=udp.length checksum=udp.checksum",
    "UDPLite": "sport=udp.srcport dport=udp.dstport coverage=udp.checksum_coverage checksum=udp.checksum",
    "SCTP": "sport=sctp.srcport dport=sctp.dstport tag=sctp.verification_tag checksum=sctp.checksum",
    "DCCP": "sport=dccp.srcport dport=dccp.dstport data_offset=dccp.data_offset ccval=dccp.ccval "
    "cscov=dccp.cscov checksum=dccp.checksum reserved=dccp.res1 type=dccp.type x=dccp.x",
    "DCCPRequest": "reserved2=dccp.res2 seq=dccp.seq_raw service=dccp.service_code",
    "DCCPResponse": "reserved2=dccp.res2 seq=dccp.seq_raw reserved3=dccp.ack_res ack=dccp.ack_raw "
    "service=dccp.service_code",
    "DCCPData": "short_seq=dccp.seq reserved2=dccp.res2 seq=dccp.seq_raw",
    "DCCPAck": "short_seq=dccp.seq reserved2=dccp.res2 seq=dccp.seq_raw short_reserved=dccp.ack_res "
    "short_ack=dccp.ack_raw reserved3=dccp.ack_res ack=dccp.ack_raw",
    "DCCPClose": "reserved2=dccp.res2 seq=dccp.seq_raw reserved3=dccp.ack_res ack=dccp.ack_raw",
    "DCCPReset": "reserved2=dccp.res2 seq=dccp.seq_raw reserved3=dccp.ack_res ack=dccp.ack_raw "
    "code=dccp.reset_code",
    "DCCPSync": "reserved2=dccp.res2 seq=dccp.seq_raw reserved3=dccp.ack_res ack=dccp.ack_raw",
    "OSPF": "version=ospf.version type=ospf.msg length=ospf.packet_length router=ospf.srcrouter "
    "area=ospf.area_id checksum=ospf.checksum authentication_type=ospf.auth.type",
    "OSPFHello": "mask=ospf.hello.network_mask interval=ospf.hello.hello_interval options=ospf.v2.options "
    "priority=ospf.hello.router_priority dead_interval=ospf.hello.router_dead_interval "
    "designated=ospf.hello.designated_router backup=ospf.hello.backup_designated_router "
    "neighbours=ospf.hello.active_neighbor",
    "OSPFDescription": "mtu=ospf.db.interface_mtu options=ospf.v2.options flags=ospf.dbd "
    "seq=ospf.db.dd_sequence",
    "OSPFUpdate": "lsas_n=ospf.ls.number_of_lsas",
    "OSPFv3": "version=ospf.version type=ospf.msg length=ospf.packet_length router=ospf.srcrouter "
    "area=ospf.area_id checksum=ospf.checksum instance=ospf.instance_id reserved=ospf.reserved",
    "OSPFv3Hello": "interface=ospf.hello.interface_id priority=ospf.hello.router_priority "
    "options=ospf.v3.options interval=ospf.hello.hello_interval "
    "dead_interval=ospf.hello.router_dead_interval designated=ospf.hello.designated_router "
    "backup=ospf.hello.backup_designated_router neighbours=ospf.hello.active_neighbor",
    "EIGRP": "version=eigrp.version opcode=eigrp.opcode checksum=eigrp.checksum flags=eigrp.flags "
    "seq=eigrp.seq ack=eigrp.ack virtual_router=eigrp.vrid asn=eigrp.as",
    "GRE": "checksum_present=gre.flags.checksum routing_present=gre.flags.routing "
    "key_present=gre.flags.key seq_present=gre.flags.sequence_number "
    "strict_route=gre.flags.strict_source_route recursion=gre.flags.recursion_control "
    "version=gre.flags.version protocol=gre.proto checksum=gre.checksum offset=gre.offset key=gre.key "
    "seq=gre.sequence_number ack=gre.ack_number",
    "VXLAN": "vni=vxlan.vni reserved2=vxlan.reserved8",
}
"""Header class to its fields' names; a class that extends another has that one's names too."""

_METRIC = (
    "delay=eigrp.old_metric.delay bandwidth=eigrp.old_metric.bw mtu=eigrp.old_metric.mtu "
    "hops=eigrp.old_metric.hopcount reliability=eigrp.old_metric.rel load=eigrp.old_metric.load"
)
_EXTERNAL = (
    "router=eigrp.extdata.origrid asn=eigrp.extdata.as tag=eigrp.extdata.tag metric=eigrp.extdata.metric "
    "reserved=eigrp.extdata.reserved protocol=eigrp.extdata.proto"
)

PARTS = {
    "RouterAlert": "value=ip.opt.ra",
    "RecordRoute": "pointer=ip.opt.ptr",
    "SourceRoute": "pointer=ip.opt.ptr",
    "InternetTimestamp": "pointer=ip.opt.ptr overflow=ip.opt.overflow flag=ip.opt.flag",
    "Security": "level=ip.opt.sec_cl",
    "ExtendedSecurity": "format=ip.opt.ext_sec_add_sec_info_format_code info=ip.opt.ext_sec_add_sec_info",
    "StreamID": "value=ip.opt.sid",
    "UnknownIPv4Option": "type=ip.opt.type",
    "PadN": "data=ipv6.opt.padn",
    "IPv6RouterAlert": "value=ipv6.opt.router_alert",
    "JumboPayload": "length=ipv6.opt.jumbo",
    "TunnelLimit": "limit=ipv6.opt.tel",
    "HomeAddress": "address=ipv6.opt.mipv6.home_address",
    "UnknownIPv6Option": "type=ipv6.opt.type",
    "RouterAddress": "address=icmp.router_address",
    "UnknownObject": "length=icmp.ext.length class_num=icmp.ext.class ctype=icmp.ext.ctype "
    "data=icmp.ext.data",
    "MPLSStack": "length=icmp.ext.length class_num=icmp.ext.class ctype=icmp.ext.ctype",
    "LabelEntry": "label_value=icmp.mpls.label traffic_class=icmp.mpls.exp bottom=icmp.mpls.s "
    "ttl=icmp.mpls.ttl",
    "InterfaceInformation": "length=icmp.ext.length class_num=icmp.ext.class role=icmp.int_info.role "
    "reserved=icmp.int_info.reserved has_ifindex=icmp.int_info.ifindex has_address=icmp.int_info.ipaddr "
    "has_name=icmp.int_info.name_present has_mtu=icmp.int_info.mtu_present ifindex=icmp.int_info.index "
    "afi=icmp.int_info.afi address4=icmp.int_info.ipv4 address6=icmp.int_info.ipv6 "
    "name_len=icmp.int_info.name_length mtu=icmp.int_info.mtu",
    "InterfaceIdentification": "length=icmp.ext.length class_num=icmp.ext.class ctype=icmp.ext.ctype "
    "ifindex=icmp.int_ident.index afi=icmp.int_ident.afi address_len=icmp.int_ident.addr_length "
    "reserved=icmp.int_ident.reserved",
    "SourceLinkAddress": "address=icmpv6.opt.src_linkaddr",
    "TargetLinkAddress": "address=icmpv6.opt.target_linkaddr",
    "PrefixInformation": "prefix_len=icmpv6.opt.prefix.length flags=icmpv6.opt.prefix.flag "
    "valid_lifetime=icmpv6.opt.prefix.valid_lifetime "
    "preferred_lifetime=icmpv6.opt.prefix.preferred_lifetime prefix=icmpv6.opt.prefix",
    "LinkMTU": "mtu=icmpv6.opt.mtu",
    "UnknownNDOption": "number=icmpv6.opt.type data=icmpv6.data",
    "Nonce": "nonce=icmpv6.opt.nonce",
    "RouteInformation": "prefix_len=icmpv6.opt.prefix.length "
    "preference=icmpv6.opt.route_info.flag.route_preference lifetime=icmpv6.opt.route_lifetime",
    "RecursiveDNS": "lifetime=icmpv6.opt.rdnss.lifetime servers=icmpv6.opt.rdnss",
    "DNSSearchList": "lifetime=icmpv6.opt.dnssl.lifetime domains=icmpv6.opt.dnssl",
    "ListenerRecord": "type=icmpv6.mldr.mar.record_type aux_len=icmpv6.mldr.mar.aux_data_len "
    "sources_n=icmpv6.mldr.mar.nb_sources group=icmpv6.mldr.mar.multicast_address "
    "sources=icmpv6.mldr.mar.source_address aux=icmpv6.mldr.mar.auxiliary_data",
    "GroupRecord": "type=igmp.record_type aux_len=igmp.aux_data_len sources_n=igmp.num_src group=igmp.maddr "
    "sources=igmp.saddr aux=igmp.aux_data",
    "MSS": "value=tcp.options.mss_val",
    "WindowScale": "shift=tcp.options.wscale.shift",
    "Timestamps": "value=tcp.options.timestamp.tsval echo=tcp.options.timestamp.tsecr",
    "UnknownTCPOption": "number=tcp.option_kind data=tcp.options.unknown.payload",
    "Echo": "value=tcp.options.echo_value",
    "EchoReply": "value=tcp.options.echo_value",
    "MD5Signature": "digest=tcp.options.md5.digest",
    "QuickStart": "rate=tcp.options.qs.rate ttl_difference=tcp.options.qs.ttl_diff",
    "UserTimeout": "minutes=tcp.options.user_to_granularity timeout=tcp.options.user_to_val",
    "AuthenticationOption": "key_id=tcp.options.ao.keyid next_key_id=tcp.options.ao.rnextkeyid "
    "code=tcp.options.ao.mac",
    "FastOpen": "cookie=tcp.options.tfo.cookie",
    "EncryptionNegotiation": "suboptions=tcp.options.unknown.payload",
    "Experiment": "exid=tcp.options.experimental.exid data=tcp.options.experimental.data",
    "MPCapable": "subtype=tcp.options.mptcp.subtype version=tcp.options.mptcp.version "
    "flags=tcp.options.mptcp.flags",
    "MPCapableSYNACK": "sender_key=tcp.options.mptcp.sendkey",
    "MPCapableACK": "receiver_key=tcp.options.mptcp.recvkey",
    "MPCapableData": "data_len=tcp.options.mptcp.datalvllen",
    "MPCapableDataChecksum": "checksum=tcp.options.mptcp.checksum",
    "UnknownMPTCP": "subtype=tcp.options.mptcp.subtype",
    "MPJoin": "subtype=tcp.options.mptcp.subtype backup=tcp.options.mptcp.backup.flag "
    "address_id=tcp.options.mptcp.addrid token=tcp.options.mptcp.recvtok nonce=tcp.options.mptcp.sendrand",
    "MPJoinSYNACK": "subtype=tcp.options.mptcp.subtype backup=tcp.options.mptcp.backup.flag "
    "address_id=tcp.options.mptcp.addrid hmac=tcp.options.mptcp.sendtrunchmac "
    "nonce=tcp.options.mptcp.sendrand",
    "MPJoinACK": "subtype=tcp.options.mptcp.subtype reserved=tcp.options.mptcp.reserved "
    "hmac=tcp.options.mptcp.sendhmac",
    "DSSAck": "subtype=tcp.options.mptcp.subtype fin=tcp.options.mptcp.datafin.flag "
    "ack=tcp.options.mptcp.rawdataack ack8=tcp.options.mptcp.rawdataack",
    "DSS": "dsn=tcp.options.mptcp.rawdataseqno dsn8=tcp.options.mptcp.rawdataseqno "
    "subflow_seq=tcp.options.mptcp.subflowseqno data_len=tcp.options.mptcp.datalvllen",
    "DSSChecksum": "checksum=tcp.options.mptcp.checksum",
    "MPAddAddress": "subtype=tcp.options.mptcp.subtype echo=tcp.options.mptcp.echo "
    "address_id=tcp.options.mptcp.addrid address=tcp.options.mptcp.ipv4 "
    "hmac=tcp.options.mptcp.addaddrtrunchmac",
    "MPAddAddressPort": "subtype=tcp.options.mptcp.subtype echo=tcp.options.mptcp.echo "
    "address_id=tcp.options.mptcp.addrid address=tcp.options.mptcp.ipv4 port=tcp.options.mptcp.port "
    "hmac=tcp.options.mptcp.addaddrtrunchmac",
    "MPAddAddress6": "subtype=tcp.options.mptcp.subtype echo=tcp.options.mptcp.echo "
    "address_id=tcp.options.mptcp.addrid address=tcp.options.mptcp.ipv6 "
    "hmac=tcp.options.mptcp.addaddrtrunchmac",
    "MPAddAddress6Port": "subtype=tcp.options.mptcp.subtype echo=tcp.options.mptcp.echo "
    "address_id=tcp.options.mptcp.addrid address=tcp.options.mptcp.ipv6 port=tcp.options.mptcp.port "
    "hmac=tcp.options.mptcp.addaddrtrunchmac",
    "MPRemoveAddress": "subtype=tcp.options.mptcp.subtype",
    "MPPriority": "subtype=tcp.options.mptcp.subtype backup=tcp.options.mptcp.backup.flag",
    "MPFail": "subtype=tcp.options.mptcp.subtype reserved=tcp.options.mptcp.reserved "
    "dsn=tcp.options.mptcp.rawdataseqno",
    "MPFastClose": "subtype=tcp.options.mptcp.subtype reserved=tcp.options.mptcp.reserved "
    "receiver_key=tcp.options.mptcp.recvkey",
    "MPReset": "subtype=tcp.options.mptcp.subtype reason=tcp.options.mptcp.rst_reason",
    "SCTPData": "flags=sctp.chunk_flags tsn=sctp.data_tsn_raw stream=sctp.data_sid seq=sctp.data_ssn "
    "protocol=sctp.data_payload_proto_id",
    "SCTPInterleavedData": "flags=sctp.chunk_flags tsn=sctp.data_tsn_raw stream=sctp.data_sid "
    "reserved=sctp.data_reserved message=sctp.data_mid",
    "SCTPInit": "flags=sctp.chunk_flags tag=sctp.init_initiate_tag window=sctp.init_credit "
    "outgoing=sctp.init_nr_out_streams incoming=sctp.init_nr_in_streams tsn=sctp.init_initial_tsn",
    "SCTPInitAck": "flags=sctp.chunk_flags tag=sctp.initack_initiate_tag window=sctp.initack_credit "
    "outgoing=sctp.initack_nr_out_streams incoming=sctp.initack_nr_in_streams "
    "tsn=sctp.initack_initial_tsn",
    "SCTPSelectiveAck": "flags=sctp.chunk_flags cumulative_tsn=sctp.sack_cumulative_tsn_ack_raw "
    "window=sctp.sack_a_rwnd gaps_n=sctp.sack_number_of_gap_blocks "
    "duplicates_n=sctp.sack_number_of_duplicated_tsns duplicates=sctp.sack_duplicate_tsn",
    "SCTPNonRenegableAck": "flags=sctp.chunk_flags cumulative_tsn=sctp.nr_sack_cumulative_tsn_ack "
    "window=sctp.nr_sack_a_rwnd gaps_n=sctp.nr_sack_number_of_gap_blocks "
    "kept_n=sctp.nr_sack_number_of_nr_gap_blocks duplicates_n=sctp.nr_sack_number_of_duplicated_tsns "
    "reserved=sctp.nr_sack_reserved duplicates=sctp.nr_sack_duplicate_tsn",
    **dict.fromkeys(
        (
            "SCTPHeartbeat",
            "SCTPHeartbeatAck",
            "SCTPAbort",
            "SCTPShutdownAck",
            "SCTPError",
            "SCTPCookieAck",
            "SCTPShutdownComplete",
            "SCTPReconfiguration",
        ),
        "flags=sctp.chunk_flags",
    ),
    "SCTPShutdown": "flags=sctp.chunk_flags cumulative_tsn=sctp.shutdown_cumulative_tsn_ack",
    "SCTPCookieEcho": "flags=sctp.chunk_flags cookie=sctp.cookie",
    "SCTPECNEcho": "flags=sctp.chunk_flags tsn=sctp.ecne_lowest_tsn",
    "SCTPWindowReduced": "flags=sctp.chunk_flags tsn=sctp.cwr_lowest_tsn",
    "SCTPAuth": "flags=sctp.chunk_flags key_id=sctp.shared_key_id hmac_id=sctp.hmac_id hmac=sctp.hmac",
    "SCTPAddressConfiguration": "flags=sctp.chunk_flags seq=sctp.asconf_seq_nr_number",
    "SCTPAddressConfigurationAck": "flags=sctp.chunk_flags seq=sctp.asconf_ack_seq_nr_number",
    "SCTPPad": "flags=sctp.chunk_flags padding=sctp.padding_data",
    "SCTPForwardTSN": "flags=sctp.chunk_flags tsn=sctp.forward_tsn_tsn",
    "SCTPInterleavedForwardTSN": "flags=sctp.chunk_flags tsn=sctp.i_forward_tsn_tsn",
    "UnknownSCTPChunk": "number=sctp.chunk_type flags=sctp.chunk_flags data=sctp.chunk_value",
    "HeartbeatInfo": "info=sctp.parameter_heartbeat_information",
    "IPv4Parameter": "address=sctp.parameter_ipv4_address",
    "IPv6Parameter": "address=sctp.parameter_ipv6_address",
    "StateCookie": "cookie=sctp.parameter_state_cookie",
    "CookiePreservative": "increment=sctp.parameter_cookie_preservative_incr",
    "SupportedAddressTypes": "types=sctp.parameter_supported_address_type",
    "OutgoingResetRequest": "request_seq=sctp.parameter_reconfig_request_sequence_number "
    "response_seq=sctp.parameter_reconfig_response_sequence_number "
    "last_tsn=sctp.parameter_senders_last_assigned_tsn streams=sctp.parameter_reconfig_sid",
    "IncomingResetRequest": "request_seq=sctp.parameter_reconfig_request_sequence_number "
    "streams=sctp.parameter_reconfig_sid",
    "TSNResetRequest": "request_seq=sctp.parameter_reconfig_request_sequence_number",
    "ReconfigurationResponse": "response_seq=sctp.parameter_reconfig_response_sequence_number "
    "result=sctp.parameter_reconfig_response_result",
    "AddOutgoingStreams": "request_seq=sctp.parameter_reconfig_request_sequence_number "
    "streams_n=sctp.parameter_add_outgoing_streams_number "
    "reserved=sctp.parameter_add_outgoing_streams_reserved",
    "AddIncomingStreams": "request_seq=sctp.parameter_reconfig_request_sequence_number "
    "streams_n=sctp.parameter_add_incoming_streams_number "
    "reserved=sctp.parameter_add_incoming_streams_reserved",
    "Random": "number=sctp.random_number",
    "ChunkList": "types=sctp.chunk_type_to_auth",
    "RequestedHMAC": "ids=sctp.hmac_id",
    "Padding": "data=sctp.parameter_value",
    "SupportedExtensions": "types=sctp.supported_chunk_type",
    "UnknownSCTPParameter": "number=sctp.parameter_type data=sctp.parameter_value",
    "AddressRequest": "correlation=sctp.correlation_id",
    "SuccessIndication": "correlation=sctp.correlation_id",
    "ErrorCauseIndication": "correlation=sctp.correlation_id",
    "AdaptationLayerIndication": "code_point=sctp.adaptation_layer_indication",
    "InvalidStream": "stream=sctp.cause_stream_identifier reserved=sctp.cause_reserved",
    "MissingParameter": "types_n=sctp.cause_nr_of_missing_parameters types=sctp.cause_missing_parameter_type",
    "StaleCookie": "staleness=sctp.cause_measure_of_staleness",
    "NoUserData": "tsn=sctp.cause_tsn",
    "UserInitiatedAbort": "reason=sctp.cause_information",
    "ProtocolViolation": "information=sctp.cause_information",
    "UnknownSCTPCause": "number=sctp.cause_code data=sctp.cause_information",
    **dict.fromkeys(("ChangeL", "ConfirmL", "ChangeR", "ConfirmR"), "feature=dccp.feature_number"),
    "InitCookie": "cookie=dccp.init_cookie",
    "NonDataCount": "count=dccp.ndp_count",
    "AckVector0": "vector=dccp.ack_vector.nonce_0",
    "AckVector1": "vector=dccp.ack_vector.nonce_1",
    "DataDropped": "blocks=dccp.data_dropped",
    "DCCPTimestamp": "value=dccp.timestamp",
    "TimestampEcho": "value=dccp.timestamp_echo elapsed=dccp.elapsed_time",
    "ElapsedTime": "elapsed=dccp.elapsed_time",
    "DataChecksum": "crc=dccp.checksum_data",
    "UnknownDCCPOption": "type=dccp.option_type data=dccp.option_reserved",
    "LSAHeader": "id=ospf.lsa.id options=ospf.v2.options type=ospf.lsa router=ospf.advrouter "
    "seq=ospf.lsa.seqnum checksum=ospf.lsa.chksum length=ospf.lsa.length",
    "LSAKey": "type=ospf.lsa id=ospf.link_state_id router=ospf.advrouter",
    "RouterLSA": "flags=ospf.v2.router.lsa.flags links_n=ospf.lsa.number_of_links",
    "NetworkLSA": "mask=ospf.lsa.network.netmask routers=ospf.lsa.network.attchrtr",
    "SummaryLSA": "mask=ospf.lsa.asbr.netmask",
    "ExternalLSA": "mask=ospf.lsa.asext.netmask",
    "RouterLink": "id=ospf.lsa.router.linkid data=ospf.lsa.router.linkdata type=ospf.lsa.router.linktype "
    "metrics_n=ospf.lsa.router.nummetrics metric=ospf.lsa.router.metric0",
    "TOSMetric": "metric=ospf.ls.metric",
    "SummaryMetric": "tos=ospf.lsa.tos metric=ospf.metric",
    "ExternalMetric": "metric=ospf.metric forward=ospf.lsa.asext.fwdaddr tag=ospf.lsa.asext.extrttag",
    "EIGRPParameters": "k1=eigrp.par.k1 k2=eigrp.par.k2 k3=eigrp.par.k3 k4=eigrp.par.k4 k5=eigrp.par.k5 "
    "k6=eigrp.par.k6 hold=eigrp.par.holdtime",
    "EIGRPAuthentication": "type=eigrp.auth.type length=eigrp.auth.length key_id=eigrp.auth.keyid "
    "seq=eigrp.auth.keyseq padding=eigrp.nullpad digest=eigrp.auth.digest",
    "PeerAddress": "length=eigrp.seq.addrlen",
    "EIGRPNextMulticast": "seq=eigrp.next_mcast_seq",
    "EIGRPInternal": f"next_hop=eigrp.ipv4.nexthop {_METRIC} tag=eigrp.old_metric.intag",
    "EIGRPInternal6": f"next_hop=eigrp.ipv6.nexthop {_METRIC} tag=eigrp.old_metric.intag",
    "EIGRPExternal": f"next_hop=eigrp.ipv4.nexthop {_EXTERNAL} {_METRIC} internal_tag=eigrp.old_metric.intag",
    "EIGRPExternal6": f"next_hop=eigrp.ipv6.nexthop {_EXTERNAL} {_METRIC} "
    "internal_tag=eigrp.old_metric.intag",
    "UnknownEIGRPTLV": "number=eigrp.tlv_type",
}
"""As `FIELDS`, for options and for the records in lists."""


@cache
def names_of(cls: type[Layout]) -> dict[str, str]:
    """Our names of a class's fields to Wireshark's."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("rawkit.wire."):
            found.update(_pairs({**FIELDS, **PARTS}.get(base.__name__, "")))
    return {row.name: found[row.name] for row in cls.fields if row.name in found}


def our_field(name: str) -> list[tuple[str, str]]:
    """The header classes, and their fields, that a name of Wireshark's may stand for."""
    return _reverse().get(name, [])


@cache
def _reverse() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for cls, pairs in FIELDS.items():
        for ours, theirs in _pairs(pairs):
            found.setdefault(theirs, []).append((cls, ours))
    return found


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in text.split():
        ours, _, theirs = pair.partition("=")
        yield ours, theirs
