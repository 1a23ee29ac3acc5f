"""Generated packets of every protocol, each class of it in its turn: what is compared with other readers.

`PROTOCOLS` has an entry per capture file: the LINKTYPE_ number of its frames, and strategies of which each
gives packets with one header, option or record class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from wire import transports
from wire.packets import ABSTRACT, OPTIONS, any_layout, ipv4, ipv6, option, subclasses
from wire.transports import layouts, packet_of

from rawkit.wire import (
    AH,
    ARP,
    ESP,
    GRE,
    ICMP,
    IGMP,
    LLC,
    MPLS,
    SACK,
    SNAP,
    TCP,
    UDP,
    VXLAN,
    DestinationOptions,
    Dot1AD,
    Dot1Q,
    Ether,
    Header,
    HopByHop,
    ICMPv6,
    IPv4,
    IPv6,
    IPv6Fragment,
    LinuxCooked,
    LinuxCooked2,
    MPCapable,
    Packet,
    SegmentRouting,
    dccp,
    eigrp,
    ospf,
    sctp,
    udplite,
)
from rawkit.wire.cooked import Loopback, NullLoopback
from rawkit.wire.icmp import ICMPParameterProblem, ICMPRedirect, ICMPTimeExceeded, ICMPUnreachable
from rawkit.wire.icmpext import (
    OBJECTS,
    ExtensionObject,
    ICMPExtendedEcho,
    ICMPExtension,
    ICMPv6ExtendedEcho,
    InterfaceIdentification,
    InterfaceInformation,
    MPLSStack,
    extended,
)
from rawkit.wire.icmpv6 import (
    ICMPv6ParameterProblem,
    ICMPv6TimeExceeded,
    ICMPv6Unreachable,
    NDOption,
    RouterSolicitation,
)
from rawkit.wire.ipv4 import IPv4Option, RecordRoute, SourceRoute
from rawkit.wire.ipv6 import AnyIP
from rawkit.wire.ipv6ext import (
    HomeAddress,
    HomeAddressRouting,
    IPv6Option,
    RPLRouting,
    SegmentTLV,
    SourceRouting,
    UnknownRouting,
)
from rawkit.wire.layout import Layout
from rawkit.wire.llc import LLCNumbered
from rawkit.wire.mld import MLDMessage
from rawkit.wire.option import Option
from rawkit.wire.tcp import TCPOption

Drawn = st.SearchStrategy[Any]


def nested(value: Any) -> Iterator[Layout]:
    """A header, and the options and records in it, in wire order."""
    if isinstance(value, tuple):
        for item in value:
            yield from nested(item)
    elif isinstance(value, Layout):
        yield value
        for row in value.fields:
            yield from nested(getattr(value, row.name))


@dataclass(frozen=True)
class Protocol:
    linktype: int
    members: tuple[Drawn, ...]
    settings: tuple[str, ...] = ()
    """Preferences of tshark."""

    @property
    def first(self) -> type[Header]:
        return FIRST[self.linktype]


FIRST: dict[int, type[Header]] = {
    0: NullLoopback, 1: Ether, 101: AnyIP, 108: Loopback, 113: LinuxCooked, 228: IPv4, 229: IPv6,
    276: LinuxCooked2,
}  # fmt: skip


def stack(*parts: Drawn | Layout, payload: bytes = b"") -> Drawn:
    """Packets of these headers, one under the other."""
    drawn = [st.just(part) if isinstance(part, Layout) else part for part in parts]
    return st.tuples(*drawn).map(lambda headers: Packet([h.replace() for h in headers], payload))


def members_of(family: type[Any], known: list[type[Any]]) -> list[type[Any]]:
    return [cls for cls in known if issubclass(cls, family)]


def concrete(family: type[Header]) -> list[type[Header]]:
    return [cls for cls in [family, *subclasses(family)] if cls not in ABSTRACT]


PLAIN4, PLAIN6 = ipv4(options=st.just(())), ipv6()
DATAGRAM = any_layout(UDP, sport=st.just(9), dport=st.just(9))
"""Discard: tshark looks no further."""


# ---- link


def _llc() -> Iterator[Drawn]:
    yield stack(any_layout(Ether), any_layout(LLC), payload=b"what a SAP may carry")
    yield stack(any_layout(Ether), any_layout(LLCNumbered), payload=b"what a SAP may carry")
    yield stack(any_layout(Ether), LLC(), any_layout(SNAP, oui=st.just(0)), PLAIN4, DATAGRAM)
    yield stack(any_layout(Ether), LLC(), any_layout(SNAP), payload=b"any")


def _labels(n: int) -> list[Drawn]:
    # Labels below 16 mean something (RFC 3032 section 2.1); the stack ends with the first bottom.
    above = any_layout(MPLS, label_value=st.integers(16, 2**20 - 1), bottom=st.just(0))
    last = any_layout(MPLS, label_value=st.integers(16, 2**20 - 1), bottom=st.just(1))
    return [any_layout(Ether), *[above] * (n - 1), last, PLAIN4, DATAGRAM]


ETHERNET_ARP = {
    "hardware": st.just(1), "protocol": st.just(0x0800), "hardware_len": st.just(6),
    "protocol_len": st.just(4),
}  # fmt: skip
ETHERNET_SENDER = {"hardware": st.just(1), "address_len": st.just(6)}


# ---- network


def _ipv4() -> Iterator[Drawn]:
    yield stack(PLAIN4, DATAGRAM)
    anything = any_layout(IPv4, version=st.just(4), options=st.just(()), protocol=st.just(253))
    yield stack(anything, payload=b"part of a datagram, maybe")
    for cls in members_of(IPv4Option, OPTIONS):
        # At an address, or behind the last of three (RFC 791 section 3.1).
        fields = (
            {"pointer": st.sampled_from([4, 8, 12, 16])}
            if issubclass(cls, (RecordRoute, SourceRoute))
            else {}
        )
        items = any_layout(cls, **fields) if fields else option(cls)
        yield stack(ipv4(options=items.map(lambda item: (item,))), DATAGRAM)


@st.composite
def _compressed_route(draw: Any) -> RPLRouting:
    """Whole addresses, as many octets of each as are not compressed (RFC 6554 section 3)."""
    fields = {name: draw(st.integers(0, 15)) for name in ("compressed", "compressed_last")}
    octets_n = draw(st.integers(0, 2)) * (16 - fields["compressed"]) + 16 - fields["compressed_last"]
    pad = -octets_n % 8
    vector = draw(st.binary(min_size=octets_n, max_size=octets_n)) + bytes(pad)
    return RPLRouting(
        **fields, pad=pad, vector=vector, reserved=draw(st.integers(0, 2**20 - 1)),
        segments_left=draw(st.integers(0, 1)),
    )  # fmt: skip


def _extensions() -> Iterator[Drawn]:
    yield stack(PLAIN6, DATAGRAM)
    for cls in members_of(IPv6Option, OPTIONS):
        options = option(cls).map(lambda item: (item,))
        if (
            cls is not HomeAddress
        ):  # "carried by the Destination Option extension header" (RFC 6275 section 6.3)
            yield stack(PLAIN6, any_layout(HopByHop, options=options), DATAGRAM)
        yield stack(PLAIN6, any_layout(DestinationOptions, options=options), DATAGRAM)
    address = st.binary(min_size=16, max_size=16)
    for cls, most in ((SourceRouting, 3), (HomeAddressRouting, 1)):  # type 2 without its address: no type 2
        addresses = st.lists(address, min_size=1, max_size=most)
        left = st.integers(0, 1)
        yield stack(PLAIN6, any_layout(cls, segments_left=left, addresses=addresses), DATAGRAM)
    # Types 5 and 6 are tshark's compact routing headers, a draft (CRH) as yet.
    any_type = st.integers(7, 252)
    yield stack(PLAIN6, any_layout(UnknownRouting, segments_left=st.just(0), type=any_type), DATAGRAM)
    yield stack(PLAIN6, _compressed_route(), DATAGRAM)
    segments = st.lists(address, min_size=1, max_size=3)
    for cls in members_of(SegmentTLV, OPTIONS):
        tlvs = option(cls).map(lambda item: (item,))
        header = any_layout(
            SegmentRouting, segments=segments, segments_left=st.integers(0, 1), tlvs=st.just(()) | tlvs
        )
        yield stack(PLAIN6, header, DATAGRAM)
    whole = {"more": st.just(0), "fragment_offset": st.just(0)}
    yield stack(PLAIN6, any_layout(IPv6Fragment, **whole), DATAGRAM)
    yield stack(PLAIN6, any_layout(IPv6Fragment, protocol=st.just(253)), payload=b"part of a datagram")


def _errors(cls: type[Header], **fields: Drawn) -> Drawn:
    return any_layout(cls, code=st.integers(0, CODES.get(cls, 255)), **fields)


def _quoting(error: Drawn, below: Drawn, quoted: Drawn) -> Drawn:
    # With a length tshark ends the quoted packet there, of whatever type and code the error is.
    return stack(below, error, quoted, DATAGRAM)


CODES = {
    ICMPUnreachable: 15, ICMPTimeExceeded: 1, ICMPRedirect: 3, ICMPParameterProblem: 2,
    ICMPv6Unreachable: 7, ICMPv6TimeExceeded: 1, ICMPv6ParameterProblem: 2,
}  # fmt: skip
"""The highest code that is assigned: what an error holds depends on it."""
NO_EXTENSION = {"length": st.just(0)}


def _has(cls: type[Header], name: str) -> bool:
    return any(row.name == name for row in cls.fields)


NAMES = (b"", b"eth0", b"wlan0\0\0\0", b"lo\0", b"eth0\0\0\0")
"""Of interfaces, three for whole words and two that follow an octet."""


def _object(cls: type[ExtensionObject]) -> Drawn:
    numbers = [number for number, known in OBJECTS.variants.items() if known is cls] or [*range(6, 256)]
    ctypes = {MPLSStack: [1], InterfaceIdentification: [1, 2, 3]}.get(cls)
    fields = {"ctype": st.sampled_from(ctypes)} if ctypes else {}
    if cls is InterfaceIdentification:  # names are text
        fields["name"] = st.sampled_from(NAMES[:3])
    if cls is InterfaceInformation:
        fields["name"] = st.sampled_from([None, *NAMES[3:]])
    drawn = any_layout(cls, class_num=st.sampled_from(numbers), **fields)
    known = (None, *NAMES[3:]) if cls is InterfaceInformation else (None, *NAMES[:3])
    return drawn.filter(lambda item: getattr(item, "name", None) in known)


@st.composite
def _extended(draw: Any, error: type[Header], objects: type[ExtensionObject]) -> Packet:
    below, inner = (PLAIN4, PLAIN4) if issubclass(error, ICMP) else (PLAIN6, PLAIN6)
    quoted = Packet([draw(inner), draw(DATAGRAM)], bytes(draw(st.sampled_from([100, 100, 120]))))
    return Packet([draw(below)]) / extended(draw(_errors(error)), quoted, [draw(_object(objects))])


def _icmp() -> Iterator[Drawn]:
    for cls in concrete(ICMP):
        if cls is ICMP:
            numbers = [*range(20, 30), *range(44, 253)]  # that no message has
            yield stack(PLAIN4, any_layout(ICMP, type=st.sampled_from(numbers)), payload=bytes(4))
        elif issubclass(cls, ICMPExtendedEcho):
            for objects in subclasses(ExtensionObject):
                extension = any_layout(
                    ICMPExtension, version=st.just(2), objects=_object(objects).map(lambda item: (item,))
                )
                yield stack(PLAIN4, any_layout(cls), extension)
        elif cls.quotes:
            fixed = NO_EXTENSION if _has(cls, "length") else {}
            yield _quoting(_errors(cls, **fixed), PLAIN4, PLAIN4)
            if fixed:
                yield from (_extended(cls, objects) for objects in subclasses(ExtensionObject))
        elif cls is not ICMPExtension:  # entries of two words (RFC 1256 section 3)
            yield stack(
                PLAIN4, any_layout(cls, **({"entry_len": st.just(2)} if _has(cls, "entry_len") else {}))
            )


def _icmpv6() -> Iterator[Drawn]:
    for cls in concrete(ICMPv6):
        if issubclass(cls, MLDMessage):
            continue
        if cls is ICMPv6:
            yield stack(PLAIN6, any_layout(ICMPv6, type=st.integers(203, 254)), payload=bytes(4))
        elif issubclass(cls, ICMPv6ExtendedEcho):
            for objects in subclasses(ExtensionObject):
                extension = any_layout(
                    ICMPExtension, version=st.just(2), objects=_object(objects).map(lambda item: (item,))
                )
                yield stack(PLAIN6, any_layout(cls), extension)
        elif cls.quotes:
            fixed = NO_EXTENSION if _has(cls, "length") else {}
            yield _quoting(_errors(cls, **fixed), PLAIN6, PLAIN6)
            if fixed:
                yield from (_extended(cls, objects) for objects in subclasses(ExtensionObject))
        else:
            yield stack(PLAIN6, any_layout(cls))
    for cls in members_of(NDOption, OPTIONS):
        yield stack(PLAIN6, any_layout(RouterSolicitation, options=option(cls).map(lambda item: (item,))))


def _mld() -> Iterator[Drawn]:
    for cls in concrete(MLDMessage):
        yield stack(PLAIN6, any_layout(cls))


def _igmp() -> Iterator[Drawn]:
    for cls in concrete(IGMP):
        if cls is not IGMP:
            yield stack(PLAIN4, any_layout(cls))


# ---- transport and routing


def _tcp() -> Iterator[Drawn]:
    yield stack(PLAIN4, any_layout(TCP, options=st.just(())), payload=b"data")
    yield stack(PLAIN6, any_layout(TCP, options=st.just(())), payload=b"data")
    for cls in members_of(TCPOption, [*OPTIONS, *transports.OPTIONS]):
        if issubclass(cls, MPCapable):
            items = layouts(cls, version=1)  # version 0 was laid out otherwise (RFC 6824)
        elif cls in transports.OPTIONS:
            items = layouts(cls)
        else:
            items = option(cls)
        if cls is SACK:  # at least one block (RFC 2018 section 3); without one tshark reads no further
            items = items.filter(lambda item: item.blocks)
        # Zeros would be one more option.
        words = items.map(lambda item: bytes(item) + b"\1" * (-len(bytes(item)) % 4))
        yield stack(PLAIN4, st.builds(TCP, options=words))


def _sctp() -> Iterator[Drawn]:
    holders: tuple[tuple[type[Option], type[Option], str], ...] = (
        (sctp.AddressRequest, sctp.SCTPAddressConfiguration, "parameters"),
        (sctp.SCTPParameter, sctp.SCTPInit, "parameters"),
        (sctp.SCTPCause, sctp.SCTPError, "causes"),
    )

    def single(header: Any) -> bool:
        """Requests have an address (RFC 5061 section 4.2), heartbeats one parameter (RFC 9260 3.3.5)."""
        lone = (sctp.AddressRequest, sctp.SCTPHeartbeat)
        return all(len(part.parameters) == 1 for part in nested(header) if isinstance(part, lone))

    for cls in members_of(Option, transports.OPTIONS):
        if issubclass(cls, sctp.SCTPChunk):
            chunks = layouts(cls)
        elif found := next((holder for holder in holders if issubclass(cls, holder[0])), None):
            chunks = _with(found[1], found[2], layouts(cls))
        else:
            continue
        yield packet_of(_with(sctp.SCTP, "chunks", chunks).filter(single), options=st.just(()))


def _with(cls: type[Any], name: str, items: Drawn, **fields: Any) -> Drawn:
    """A header or option with a list of one of these in it."""
    return st.builds(lambda holder, item: holder.replace(**{name: (item,)}), layouts(cls, **fields), items)


def _dccp() -> Iterator[Drawn]:
    for cls in subclasses(dccp.DCCP):
        # Only these have a short form (RFC 4340 section 5.1).
        header = layouts(cls) if cls in (dccp.DCCPData, dccp.DCCPAck) else layouts(cls, x=1)
        yield packet_of(header, options=st.just(()))
    for cls in members_of(dccp.DCCPOption, transports.OPTIONS):
        yield packet_of(_with(dccp.DCCPRequest, "options", layouts(cls), x=1), options=st.just(()))


def _ospf() -> Iterator[Drawn]:
    def complete(lsa: Any) -> bool:
        """Whether it has what its type has at least (RFC 2328 section A.4); without it tshark stops."""
        return bool(getattr(lsa, "metrics", True) and getattr(lsa, "routers", True))

    for cls in subclasses(ospf.OSPF):
        header = layouts(cls, version=2).filter(
            lambda header: all(map(complete, getattr(header, "lsas", ())))
        )
        yield packet_of(header, options=st.just(()))
    for cls in subclasses(ospf.LSAHeader):
        update = _with(ospf.OSPFUpdate, "lsas", layouts(cls).filter(complete))
        yield packet_of(update.map(lambda header: header.replace(version=2)), options=st.just(()))


def _eigrp() -> Iterator[Drawn]:
    for cls in members_of(eigrp.EIGRPTLV, transports.OPTIONS):
        message = _with(eigrp.EIGRP, "tlvs", layouts(cls)).filter(
            lambda header: header.opcode != 6
        )  # IPX SAP
        yield packet_of(message.map(lambda header: header.replace(version=2)), options=st.just(()))


# ---- tunnels


def _gre() -> Iterator[Drawn]:
    version0 = {"version": st.just(0), "routing_present": st.just(0)}
    no_ack = {"ack_present": st.just(0), "ack": st.none()}
    yield stack(PLAIN4, any_layout(GRE, **version0, **no_ack), PLAIN4, DATAGRAM)
    # PPTP: a key that is a length and a call, and no checksum (RFC 2637 section 4.1).
    pptp = {"version": st.just(1), "protocol": st.just(0x880B), "routing_present": st.just(0)}
    no_sum = {"checksum_present": st.just(0), "checksum": st.none(), "offset": st.none()}
    call = {"key_present": st.just(1), "key": st.integers(0, 2**32 - 1)}
    yield stack(PLAIN4, any_layout(GRE, **pptp, **no_sum, **call), payload=b"\xff\x03\xc0\x21\1\1\0\4")


PROTOCOLS: dict[str, Protocol] = {
    "ethernet": Protocol(1, (
        stack(any_layout(Ether), PLAIN4, DATAGRAM),
        stack(any_layout(Ether), any_layout(Dot1Q), PLAIN4, DATAGRAM),
        stack(any_layout(Ether), any_layout(Dot1AD), any_layout(Dot1Q), PLAIN6, DATAGRAM),
    )),
    "llc": Protocol(1, tuple(_llc())),
    "mpls": Protocol(1, tuple(stack(*_labels(n)) for n in (1, 2, 4))),
    "cooked": Protocol(113, (
        stack(any_layout(LinuxCooked, **ETHERNET_SENDER), PLAIN4, DATAGRAM),
        stack(any_layout(LinuxCooked, hardware=st.just(1)), PLAIN6, DATAGRAM),
    )),
    "cooked2": Protocol(276, (stack(any_layout(LinuxCooked2, **ETHERNET_SENDER), PLAIN4, DATAGRAM),)),
    "null": Protocol(0, (
        stack(any_layout(NullLoopback), PLAIN4, DATAGRAM), stack(any_layout(NullLoopback), PLAIN6, DATAGRAM),
    )),
    "loop": Protocol(108, (
        stack(any_layout(Loopback), PLAIN4, DATAGRAM), stack(any_layout(Loopback), PLAIN6, DATAGRAM),
    )),
    "raw": Protocol(101, (stack(PLAIN4, DATAGRAM), stack(PLAIN6, DATAGRAM))),
    "arp": Protocol(1, (stack(any_layout(Ether), any_layout(ARP, **ETHERNET_ARP)),)),
    "ipv4": Protocol(228, tuple(_ipv4()), ("ip.defragment:FALSE",)),
    "ipv6": Protocol(229, tuple(_extensions()), ("ipv6.defragment:FALSE",)),
    "icmp": Protocol(228, tuple(_icmp()), ("ip.defragment:FALSE",)),
    "icmpv6": Protocol(229, tuple(_icmpv6()), ("ipv6.defragment:FALSE",)),
    "mld": Protocol(229, tuple(_mld())),
    "igmp": Protocol(228, tuple(_igmp())),
    "tcp": Protocol(101, tuple(_tcp()), ("tcp.check_checksum:TRUE", "tcp.relative_sequence_numbers:FALSE")),
    "udp": Protocol(101, (stack(PLAIN4, any_layout(UDP)), stack(PLAIN6, any_layout(UDP)))),
    "udplite": Protocol(
        101,
        (packet_of(layouts(udplite.UDPLite), options=st.just(())),),
        ("udplite.check_checksum:TRUE", "udplite.ignore_checksum_coverage:FALSE"),
    ),
    "sctp": Protocol(
        101,
        tuple(_sctp()),
        ("sctp.checksum:CRC 32c", "sctp.reassembly:FALSE", "sctp.ulp_dissection:FALSE"),
    ),
    "dccp": Protocol(
        101, tuple(_dccp()), ("dccp.relative_sequence_numbers:FALSE", "dccp.check_checksum:TRUE")
    ),
    "ospf": Protocol(101, tuple(_ospf())),
    "ospfv3": Protocol(101, (packet_of(layouts(ospf.OSPFv3Hello, version=3)),)),
    "eigrp": Protocol(101, tuple(_eigrp())),
    "gre": Protocol(228, tuple(_gre())),
    "vxlan": Protocol(228, (
        stack(
            PLAIN4, UDP(sport=50000, dport=4789), any_layout(VXLAN, flags=st.just(8)), any_layout(Ether),
            PLAIN4, DATAGRAM,
        ),
    )),
    "ipsec": Protocol(228, (
        stack(PLAIN4, any_layout(AH), DATAGRAM),
        stack(PLAIN4, any_layout(ESP), payload=b"encrypted octets"),
    )),
    "tunnels": Protocol(228, (
        stack(PLAIN4, PLAIN4, DATAGRAM), stack(PLAIN4, PLAIN6, DATAGRAM),
        stack(PLAIN4, PLAIN6, PLAIN4, DATAGRAM),
    )),
}  # fmt: skip


def generated(protocol: Protocol, packets_n: int) -> list[Packet]:
    """At least so many packets, of each member the same number and the same ones in every run."""
    found: list[Packet] = []
    for member in protocol.members:

        @settings(
            max_examples=-(-packets_n // len(protocol.members)), deadline=None, derandomize=True,
            database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(packet=member)
        def collect(packet: Packet) -> None:
            found.append(packet)

        collect()
    for number, packet in enumerate(found):  # tshark reads options by what it saw of the connection before
        if isinstance(packet.layers[-1], TCP):
            packet.layers[-1].sport = 1024 + number
    return found
