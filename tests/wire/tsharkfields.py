"""How tshark shows our fields that it shows otherwise than as they stand, and where the two disagree."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from wire.stacks import nested

from rawkit.wire import ICMPv6, IPv4, Packet, UDPLite, sctp
from rawkit.wire.icmp import ICMPSourceQuench
from rawkit.wire.icmpext import ICMPExtension, InterfaceInformation, extension_of
from rawkit.wire.icmpinfo import ICMPSecurityFailure
from rawkit.wire.igmp import long_time
from rawkit.wire.ipv4 import SourceRoute, UnknownIPv4Option
from rawkit.wire.layout import Layout
from rawkit.wire.ndoption import RedirectedHeader

Way = tuple[str, Callable[[Any], Any]]


def parts(packet: Packet) -> Iterator[Layout]:
    """All headers, options and records of a packet, extensions of ICMP errors among them."""
    for header in packet.layers:
        yield from nested(header)
    if packet.get(ICMPExtension) is None and (extension := extension_of(packet)) is not None:
        yield from nested(extension)


def kind(option: Any) -> int:
    return int(option._kind_and_body()[0])


def octets_n(option: Any) -> int:
    return len(bytes(option))


def kinds(header: Any) -> list[int]:
    """Of options in a header that is filled up with zeros: of IPv4 tshark reads the first, of TCP all."""
    found = [kind(option) for option in header.options if not isinstance(option, UnknownIPv4Option)]
    is_ip = isinstance(header, IPv4)
    room = (header.ihl if is_ip else header.data_offset) * 4 - 20 - sum(map(octets_n, header.options))
    return found + [0] * (min(room, 1) if is_ip else room)


def when(says: Callable[[Any], bool], name: str) -> Callable[[Any], Any]:
    return lambda item: getattr(item, name) if says(item) else None


def left_over(header: Any) -> list[bytes]:
    """The second word of an ICMP error, without a length and an MTU (RFC 4884 section 4)."""
    word = bytes(header)[4:8]
    if not header.length:
        return [word[:2] if says_mtu(header) else word]
    return [word[:1]] if says_mtu(header) else [word[:1], word[2:]]


def says_mtu(header: Any) -> bool:
    return bool((header.type, header.code) == (3, 4))


def route_parts(header: Any) -> list[bytes]:
    """The addresses of an RPL routing header without what is compressed."""
    *others, last = (address.packed for address in header.addresses(IPv6Address(0)))
    return [*(octets[header.compressed :] for octets in others), last[header.compressed_last :]]


def long_delay(code: int) -> int:
    """Milliseconds that a Maximum Response Code stands for (RFC 3810 section 5.1.3)."""
    return code if code < 32768 else (code & 0xFFF | 0x1000) << ((code >> 12 & 7) + 3)


def before(option: Any) -> list[Any]:
    """The addresses of a route that the pointer has passed."""
    return [address for i, address in enumerate(option.route) if 4 * i + 4 < option.pointer]


def onwards(option: Any) -> list[Any]:
    return [address for i, address in enumerate(option.route) if 4 * i + 4 >= option.pointer]


def route_end(header: Any) -> Any:
    """Where a source route leads that is not yet at its end."""
    ends = (
        onwards(option)[-1]
        for option in header.options
        if isinstance(option, SourceRoute) and onwards(option)
    )
    return next(ends, None)


def bit(name: str, number: int) -> Callable[[Any], int]:
    return lambda item: int(getattr(item, name)) >> number & 1


def firsts(name: str) -> Callable[[Any], list[int]]:
    return lambda item: [pair[0] for pair in getattr(item, name)]


def seconds(name: str) -> Callable[[Any], list[int]]:
    return lambda item: [pair[1] for pair in getattr(item, name)]


def stamps(option: Any) -> list[int]:
    """The times of a timestamp option; those with addresses have every second word (RFC 791 section 3.1)."""
    return list(option.words[1::2] if option.flag in (1, 3) else option.words)


def text(octets: bytes) -> str:
    return octets.split(b"\0")[0].decode("ascii", "replace")


EIGRP_METRIC: dict[str, tuple[Way, ...]] = {
    "flags": tuple(
        (f"eigrp.metric.flags.{name}", bit("flags", number))
        for number, name in enumerate(("srcwd", "cd", "active", "repl"))
    ),
}
EIGRP_EXTERNAL = {
    **EIGRP_METRIC,
    "external_flags": (
        ("eigrp.opaque.flag.ext", bit("external_flags", 0)),
        ("eigrp.opaque.flag.cd", bit("external_flags", 1)),
    ),
}  # fmt: skip
DESTINATIONS4: dict[str, tuple[Way, ...]] = {
    "destinations": (
        ("eigrp.ipv4.prefixlen", lambda o: [network.prefixlen for network in o.destinations]),
        ("eigrp.ipv4.destination", lambda o: [network.network_address for network in o.destinations]),
    )
}
DESTINATIONS6: dict[str, tuple[Way, ...]] = {
    "destinations": (
        ("eigrp.ipv6.prefixlen", lambda o: [network.prefixlen for network in o.destinations]),
        ("eigrp.ipv6.destination", lambda o: [network.network_address for network in o.destinations]),
    )
}

SENDER: dict[str, tuple[Way, ...]] = {
    "address": (
        ("sll.src.eth", lambda h: h.address[:6] if h.address_len == 6 else None),
        ("sll.src.ipv4", lambda h: h.address[:4] if h.address_len == 4 else None),
        ("sll.src.other", lambda h: h.address[: h.address_len] if h.address_len not in (4, 6) else None),
        ("sll.unused", lambda h: h.address[h.address_len :]),
    )
}

COUNTED: dict[str, dict[str, tuple[Way, ...]]] = {
    "Ether": {
        "ethertype": (
            ("eth.type", when(lambda h: h.ethertype >= 1536, "ethertype")),
            ("eth.len", when(lambda h: h.ethertype < 1536, "ethertype")),
        )
    },
    "LLCNumbered": {
        "control": (("llc.control", lambda h: h.control | h.control2 << 8),),
        "control2": (),
    },
    "SNAP": {"protocol": (("llc.type", when(lambda h: h.oui in (0, 0xF8), "protocol")),)},
    "IPv4": {
        "ihl": (("ip.hdr_len", lambda h: h.ihl * 4),),
        "fragment_offset": (("ip.frag_offset", lambda h: h.fragment_offset),),
        "dst": (
            ("ip.dst", lambda h: h.dst if route_end(h) is None else route_end(h)),
            ("ip.cur_rt", lambda h: None if route_end(h) is None else h.dst),
        ),
        "options": (("ip.opt.type", kinds),),
    },
    "IPv6": {"version": (("ipv6.version", lambda h: h.version), ("ip.version", lambda h: h.version))},
    "RPLRouting": {"vector": (("ipv6.routing.rpl.address", route_parts),)},
    "IPv6Option": {"": (("ipv6.opt.type", kind),)},
    "UnknownIPv6Option": {"type": (), "data": (("ipv6.opt.experimental", lambda o: o.data),)},
    "LinuxCooked": SENDER,
    "LinuxCooked2": SENDER,
    "NullLoopback": {
        "family": (("null.family", lambda h: int.from_bytes(h.family.to_bytes(4, "big"), sys.byteorder)),)
    },
    "VXLAN": {
        "flags": (("vxlan.flags", lambda h: h.flags << 8 | h.reserved >> 16),),
        "reserved": (("vxlan.gbp", lambda h: h.reserved & 0xFFFF),),
    },
    "NeighbourAdvertisement": {"flags": (("icmpv6.nd.na.flag", lambda h: h.flags << 29 | h.reserved),)},
    "RouterAddress": {
        "preference": (("icmp.pref_level", lambda r: r.preference - (r.preference >> 31 << 32)),)
    },
    "InternetTimestamp": {
        "words": (
            ("ip.opt.time_stamp", stamps),
            (
                "ip.opt.time_stamp_addr",
                lambda o: [*o.words[: len(o.words) & ~1 : 2]] if o.flag in (1, 3) else [],
            ),
        )
    },
    "InterfaceIdentification": {
        "name": (("icmp.int_ident.name", lambda o: text(o.name) or None if o.ctype == 1 else None),),
        "address": (
            ("icmp.int_ident.ipv4", lambda o: o.address if (o.afi, o.address_len) == (1, 4) else None),
            ("icmp.int_ident.ipv6", lambda o: o.address if (o.afi, o.address_len) == (2, 16) else None),
        ),
    },
    "AccurateECN0": {
        "counters": (
            ("tcp.options.acc_ecn.ee0b", lambda o: o.counters[:1]),
            ("tcp.options.acc_ecn.eceb", lambda o: o.counters[1:2]),
            ("tcp.options.acc_ecn.ee1b", lambda o: o.counters[2:3]),
        )
    },
    "AccurateECN1": {
        "counters": (
            ("tcp.options.acc_ecn.ee1b", lambda o: o.counters[:1]),
            ("tcp.options.acc_ecn.eceb", lambda o: o.counters[1:2]),
            ("tcp.options.acc_ecn.ee0b", lambda o: o.counters[2:3]),
        )
    },
    "SCTPSelectiveAck": {
        "gaps": (("sctp.sack_gap_block_start", firsts("gaps")), ("sctp.sack_gap_block_end", seconds("gaps")))
    },
    "SCTPNonRenegableAck": {
        "gaps": (
            ("sctp.nr_sack_gap_block_start", firsts("gaps")),
            ("sctp.nr_sack_gap_block_end", seconds("gaps")),
        ),
        "kept": (
            ("sctp.nr_sack_nr_gap_block_start", firsts("kept")),
            ("sctp.nr_sack_nr_gap_block_end", seconds("kept")),
        ),
    },
    "SCTPForwardTSN": {
        "streams": (("sctp.forward_tsn_sid", firsts("streams")), ("sctp.forward_tsn_ssn", seconds("streams")))
    },
    "SCTPInterleavedForwardTSN": {
        "streams": (
            ("sctp.i_forward_tsn_sid", firsts("streams")),
            ("sctp.forward_tsn_mid", lambda c: [row[-1] for row in c.streams]),
        )
    },
    "HostName": {"name": (("sctp.parameter_hostname", lambda o: text(o.name) or None),)},
    "ReconfigurationResponse": {
        "next_tsns": (
            ("sctp.parameter_senders_next_tsn", lambda o: o.next_tsns[:1]),
            ("sctp.parameter_receivers_next_tsn", lambda o: o.next_tsns[1:2]),
        )
    },
    "DCCPReset": {
        "data": (
            ("dccp.data1", lambda h: h.data >> 16),
            ("dccp.data2", lambda h: h.data >> 8 & 0xFF),
            ("dccp.data3", lambda h: h.data & 0xFF),
        )
    },
    "OSPF": {
        "authentication": (
            ("ospf.auth.none", lambda h: h.authentication if h.authentication_type == 0 else None),
            ("ospf.auth.unknown", lambda h: h.authentication if h.authentication_type > 2 else None),
        )
    },
    "EIGRPVersion": {
        "major": (("eigrp.release_version", lambda o: o.major << 8 | o.minor),),
        "minor": (),
        "eigrp_major": (("eigrp.tlv_version", lambda o: o.eigrp_major << 8 | o.eigrp_minor),),
        "eigrp_minor": (),
    },
    "EIGRPInternal": {**EIGRP_METRIC, **DESTINATIONS4},
    "EIGRPInternal6": {**EIGRP_METRIC, **DESTINATIONS6},
    "EIGRPExternal": {**EIGRP_EXTERNAL, **DESTINATIONS4},
    "EIGRPExternal6": {**EIGRP_EXTERNAL, **DESTINATIONS6},
    "PeerAddress": {
        "address": (
            ("eigrp.seq.ipv4addr", lambda r: r.address if r.length == 4 else None),
            ("eigrp.seq.ipv6addr", lambda r: r.address if r.length == 16 else None),
        )
    },
    "UnknownIPv4Option": {"type": ()},
    "RecordRoute": {"route": (("ip.rec_rt", before), ("ip.empty_rt", onwards))},
    "SourceRoute": {"route": (("ip.rec_rt", before), ("ip.src_rt", lambda o: onwards(o)[:-1]))},
    "ICMPUnreachable": {
        "unused": (("icmp.unused", left_over),),
        "length": (("icmp.length", lambda h: h.length or None),),
        "mtu": (("icmp.mtu", when(says_mtu, "mtu")),),
    },
    "ICMPTimeExceeded": {
        "unused": (("icmp.unused", left_over),),
        "length": (("icmp.length", lambda h: h.length or None),),
        "unused2": (),
    },
    "ICMPParameterProblem": {
        "length": (("icmp.length", lambda h: h.length or None),),
        "unused": (("icmp.unused", lambda h: bytes(h)[6 if h.length else 5 : 8]),),
    },
    "ICMPv6Unreachable": {
        "length": (("icmpv6.length", lambda h: h.length or None),),
        "unused": (("icmpv6.reserved", lambda h: bytes(h)[5 if h.length else 4 : 8]),),
        "unused2": (),
    },
    "ICMPv6TimeExceeded": {
        "length": (("icmpv6.length", lambda h: h.length or None),),
        "unused": (("icmpv6.reserved", lambda h: bytes(h)[5 if h.length else 4 : 8]),),
        "unused2": (),
    },
    "GRE": {
        "key": (
            ("gre.key", when(lambda h: h.version == 0, "key")),
            ("gre.key.payload_length", lambda h: None if h.version == 0 or h.key is None else h.key >> 16),
            ("gre.key.call_id", lambda h: None if h.version == 0 or h.key is None else h.key & 0xFFFF),
        )
    },
    "IGMPReport": {
        "code": (
            ("igmp.max_resp", when(lambda h: h.type != 0x12, "code")),
            ("igmp.reserved", when(lambda h: h.type == 0x12, "code")),
        )
    },
    "IGMPLeave": {"code": (("igmp.max_resp", lambda h: h.code),)},
    "IGMPv3Report": {
        "code": (("igmp.reserved", lambda h: bytes([h.code])),),
        "reserved": (("igmp.reserved", lambda h: h.reserved.to_bytes(2, "big")),),
    },
    "IGMPQuery": {  # without a time it is of version 1
        "code": (
            ("igmp.max_resp", lambda h: h.code or None),
            ("igmp.reserved", when(lambda h: not h.code, "code")),
        )
    },
    "IGMPv3Query": {"code": (("igmp.max_resp", lambda h: long_time(h.code)),)},
    "UnknownObject": {"ctype": (("icmp.ext.ctype", lambda o: [o.ctype] * (1 + (o.class_num == 0))),)},
    "InterfaceInformation": {
        "name": (("icmp.int_info.name", lambda o: None if o.name is None else text(o.name)),),
        "role": (("icmp.int_info.role", lambda o: o.role), ("icmp.ext.ctype", lambda o: bytes(o)[3])),
    },
    "NDOption": {"": (("icmpv6.opt.type", kind), ("icmpv6.opt.length", lambda o: octets_n(o) // 8))},
    "UnknownNDOption": {"number": ()},
    "RouteInformation": {
        "prefix": (("icmpv6.opt.prefix", lambda o: o.prefix and o.prefix.ljust(16, b"\0")),)
    },
    "MLDv2Query": {
        "max_response": (("icmpv6.mld.maximum_response_code", lambda h: long_delay(h.max_response)),),
        "interval_code": (("icmpv6.mld.qqi", lambda h: long_time(h.interval_code)),),
    },
    "TCP": {
        "data_offset": (("tcp.hdr_len", lambda h: h.data_offset * 4),),
        "flags": (("tcp.flags", lambda h: h.reserved << 9 | h.flags),),
        "reserved": (),
        "options": (("tcp.option_kind", kinds),),
    },
    "UnknownTCPOption": {"number": ()},
    "MPJoin": {"reserved": (("tcp.options.mptcp.flags", lambda o: bytes(o)[2]),)},
    "MPJoinSYNACK": {"reserved": (("tcp.options.mptcp.flags", lambda o: bytes(o)[2]),)},
    "DSSAck": {
        "reserved": (("tcp.options.mptcp.flags", lambda o: bytes(o)[3]),),
        "dsn_form": (),
        "ack_form": (),
    },
    "MPPriority": {"reserved": (("tcp.options.mptcp.flags", lambda o: bytes(o)[2]),)},
    "MPReset": {"flags": (("tcp.options.mptcp.flags", lambda o: bytes(o)[2]),)},
    "MPRemoveAddress": {"address_ids": (("tcp.options.mptcp.addrid", lambda o: [*o.address_ids]),)},
    "SACK": {
        "blocks": (
            ("tcp.options.sack_le", lambda o: [first for first, _ in o.blocks]),
            ("tcp.options.sack_re", lambda o: [end for _, end in o.blocks]),
        )
    },
    "ExternalMetric": {
        "tos": (
            ("ospf.lsa.tos", lambda m: m.tos & 0x7F),
            ("ospf.lsa.asext.type", lambda m: m.tos >> 7),
        )
    },
    "LSAHeader": {
        "age": (
            ("ospf.lsa.age", lambda lsa: lsa.age & 0x7FFF),
            ("ospf.lsa.donotage", lambda lsa: lsa.age >> 15),
        ),
        "id": (("ospf.lsa.id", when(lambda lsa: lsa.type not in (9, 10, 11), "id")),),
    },
    "SCTPChunk": {"": (("sctp.chunk_type", kind), ("sctp.chunk_length", octets_n))},
    "UnknownSCTPChunk": {"number": ()},
    "SCTPInterleavedData": {  # the fragment's number, but in the first one (RFC 8260 section 2.1)
        "protocol": (
            ("sctp.data_payload_proto_id", when(lambda c: c.flags & 2, "protocol")),
            ("sctp.data_fsn", when(lambda c: not c.flags & 2, "protocol")),
        )
    },
    "ZeroChecksum": {"method": (("sctp.parameter_value", lambda o: o.method.to_bytes(4, "big")),)},
    "SCTPParameter": {"": (("sctp.parameter_type", kind), ("sctp.parameter_length", octets_n))},
    "UnknownSCTPParameter": {"number": ()},
    "SCTPCause": {"": (("sctp.cause_code", kind), ("sctp.cause_length", octets_n))},
    "UnknownSCTPCause": {"number": ()},
    "DCCPOption": {"": (("dccp.option_type", kind),)},
    "UnknownDCCPOption": {"type": ()},
    "EIGRPTLV": {"": (("eigrp.tlv_type", kind), ("eigrp.tlv.len", octets_n))},
    "UnknownEIGRPTLV": {"number": ()},
    "EIGRPAuthentication": {
        "digest": (("eigrp.auth.digest", when(lambda o: (o.type, len(o.digest)) == (2, 16), "digest")),)
    },
}
"""Class and field to tshark's fields and their values; "" for the whole, (): said by another."""

NOT_SHOWN = {
    "ICMPSecurityFailure": "reserved pointer",
    "ICMPDomainName": "id seq ttl names",
    "ICMPTraceroute": "id unused outbound_hops return_hops speed mtu",
    "ICMPRouterSolicitation": "reserved",
    "ICMPSourceQuench": "unused",
    "LinuxCooked2": "reserved",
    "GRE": "ack_present flags",  # with a mask of both
    "IGMP": "code",
    "IGMPv3Query": "reserved",
    "Security": "authorities",  # only the first octet, as bits
    "UnknownIPv4Option": "data",
    "PrefixInformation": "reserved",
    "LinkMTU": "reserved",
    "RedirectedHeader": "reserved data",  # read as a packet
    "RouteInformation": "reserved reserved2",
    "RecursiveDNS": "reserved",
    "DNSSearchList": "reserved",
    "SegmentPadN": "data",
    "SegmentHMAC": "flags key_id hmac",
    "UnknownSegmentTLV": "type data",
    "QuickStart": "reserved nonce reserved2",
    "UnknownMPTCP": "bits data",
    "MPAddAddress": "reserved",
    "MPAddAddressPort": "reserved",
    "MPAddAddress6": "reserved",
    "MPAddAddress6Port": "reserved",
    "MPRemoveAddress": "reserved",
    "DSSChecksum": "checksum",
    "ChangeL": "values",
    "ConfirmL": "values",
    "ChangeR": "values",
    "ConfirmR": "values",
    "UnknownEIGRPTLV": "data",
    "SCTPData": "data",
    "SCTPInterleavedData": "data",
    "LSA": "body",
    "RouterLSA": "reserved",
    "TOSMetric": "tos reserved",
    "InterfaceInformation": "reserved2 rest",
    **dict.fromkeys(
        ("UnresolvableAddress", "UnrecognizedChunk", "UnrecognizedParameter"), "address chunk parameter"
    ),
}
"""Class and fields that tshark has no field for, or not one with the whole value."""

WITHOUT_PACKETS = (
    "AnyIP", "UnparsedOptions", "ExtensionObject", "SourceRoute",
    "DCCP", "IGMP", "OSPF", "OSPFv3",
)  # fmt: skip
"""Classes that others extend, and messages of a type without a meaning."""


@dataclass(frozen=True)
class Difference:
    names: tuple[str, ...]
    """How the names of the fields start that are read otherwise; "" for all of the packet."""
    applies: Callable[[str, Packet], bool]
    why: str


def ends_with_a_name(part: Any) -> bool:
    return (
        isinstance(part, InterfaceInformation)
        and part.name is not None
        and part.mtu is None
        and not part.rest
    )


QUOTING = (sctp.UnresolvableAddress, sctp.UnrecognizedChunk, sctp.UnrecognizedParameter)

DIFFERENCES = [
    Difference(
        ("udp.length",),
        lambda protocol, packet: UDPLite in packet,
        'tshark works one out; "the Length field of the UDP header" is now a coverage (RFC 3828 section 3.1)',
    ),
    Difference(
        ("icmp.ext.", "icmp.mpls.", "icmp.int_"),
        lambda protocol, packet: (
            protocol == "icmp" and any(getattr(h, "length", 0) > 32 for h in packet.layers)
        ),
        'tshark looks for the extension behind 128 octets; it starts behind as many as the length says, "the '
        "length of the padded 'original datagram' field\" (RFC 4884 section 4)",
    ),
    Difference(
        ("icmpv6.data",),
        lambda protocol, packet: protocol == "icmpv6" and type(packet.layers[-1]) is ICMPv6,
        "tshark's name for the payload of an unknown message too",
    ),
    Difference(
        ("udp.",),
        lambda protocol, packet: ICMPSourceQuench in packet and bytes(packet[ICMPSourceQuench])[5] != 0,
        "tshark ends the quoted packet by a length that only other messages have (RFC 4884 section 4)",
    ),
    Difference(
        ("icmp.int_info.name",),
        lambda protocol, packet: any(map(ends_with_a_name, parts(packet))),
        "tshark 4.0 shows no name at the end of an object, where no MTU follows (RFC 5837 section 4.1)",
    ),
    Difference(
        ("ip.", "ipv6."),
        lambda protocol, packet: any(isinstance(part, RedirectedHeader) for part in parts(packet)),
        "tshark reads the packet that is quoted in the option (RFC 4861 section 4.6.3), to us octets",
    ),
    Difference(
        ("tcp.options.mptcp.echo",),
        lambda protocol, packet: any(
            getattr(part, "echo", None) is not None and bytes(part)[2] & 15 in (4, 6)
            for part in parts(packet)
        ),
        "tshark reads the IP version of RFC 6824 section 3.4.1 there, where RFC 8684 section 3.4.1 has none",
    ),
    Difference(
        tuple(name for name, _ in (*DESTINATIONS4["destinations"], *DESTINATIONS6["destinations"])),
        lambda protocol, packet: any(len(getattr(part, "destinations", ())) > 1 for part in parts(packet)),
        "tshark 4.0 counts a destination's length twice and loses those behind it (RFC 7868 section 6.6.4)",
    ),
    Difference(
        ("",),
        lambda protocol, packet: any(isinstance(part, QUOTING) for part in parts(packet)),
        'tshark reads what stands in them as parts of this packet, though it is "the unrecognized chunk from '
        'the SCTP packet" of the peer (RFC 9260 section 3.3.10.6)',
    ),
    Difference(
        ("",),
        lambda protocol, packet: ICMPSecurityFailure in packet,
        "tshark does not read the packet that is quoted (RFC 2521 section 3)",
    ),
]
