"""Generated headers and packets: hypothesis strategies made from the field tables themselves."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from rawkit.errors import FieldError, HeaderError
from rawkit.wire import (
    ARP,
    AUTO,
    ICMP,
    TCP,
    UDP,
    Dot1AD,
    Dot1Q,
    Ether,
    Header,
    ICMPv6,
    IPv4,
    IPv6,
    IPv6Fragment,
    Packet,
)
from rawkit.wire.cooked import LinuxCooked, LinuxCooked2, NullLoopback
from rawkit.wire.field import Address, Octets, Pairs, UInt
from rawkit.wire.gre import GRE
from rawkit.wire.icmp import ICMPError
from rawkit.wire.icmpinfo import ICMPQuery
from rawkit.wire.icmpv6 import ICMPv6Error, NDOption
from rawkit.wire.igmp import IGMP
from rawkit.wire.ipsec import AH
from rawkit.wire.ipv4 import IPv4Option, SourceRoute, UnknownIPv4Option
from rawkit.wire.ipv6 import AnyIP
from rawkit.wire.ipv6ext import (
    HopByHop,
    IPv6Option,
    IPv6Routing,
    RPLRouting,
    SegmentTLV,
    UnknownIPv6Option,
    UnknownRouting,
    UnknownSegmentTLV,
)
from rawkit.wire.layout import FieldInfo, Layout
from rawkit.wire.llc import LLC
from rawkit.wire.mld import MLDMessage
from rawkit.wire.mpls import MPLS
from rawkit.wire.ndoption import DomainNames, Nonce, RedirectedHeader, RouteInformation
from rawkit.wire.option import Option, OptionList, UnparsedOptions
from rawkit.wire.record import Addresses, Numbers, Records
from rawkit.wire.registry import load_all
from rawkit.wire.tcp import TCPOption, UnknownTCPOption
from rawkit.wire.vxlan import VXLAN

load_all()

FIRST_HEADERS: list[type[Header] | None] = [
    Ether,
    Dot1Q,
    ARP,
    IPv4,
    IPv6,
    IPv6Fragment,
    ICMP,
    ICMPv6,
    TCP,
    UDP,
    LLC,
    MPLS,
    LinuxCooked,
    LinuxCooked2,
    NullLoopback,
    HopByHop,
    IPv6Routing,
    AH,
    IGMP,
    GRE,
    VXLAN,
    AnyIP,
    None,
]

payloads = st.binary(max_size=40)


def subclasses(cls: type[Any]) -> list[type[Any]]:
    """All that descend from a class."""
    found = []
    for sub in cls.__subclasses__():
        found += [sub, *subclasses(sub)]
    return found


ABSTRACT = (ICMPError, ICMPv6Error, ICMPQuery, MLDMessage, IPv6Routing, AnyIP)
"""What others extend, and what only stands for others."""

TRANSPORTS = {
    f"rawkit.wire.{name}" for name in ("dccp", "eigrp", "mptcp", "ospf", "sctp", "tcpoption", "udplite")
}
"""Modules whose packets `wire.transports` generates."""


def is_ours(cls: type[Any]) -> bool:
    return cls.__module__.startswith("rawkit.") and cls.__module__ not in TRANSPORTS


HEADERS = [cls for cls in subclasses(Header) if is_ours(cls) and cls not in ABSTRACT]
"""Every header class of rawkit that stands for something on the wire."""

FAMILIES = (TCPOption, IPv4Option, NDOption, IPv6Option, SegmentTLV, SourceRoute, UnparsedOptions)

OPTIONS = [cls for cls in subclasses(Option) if is_ours(cls) and cls not in FAMILIES]


def values(row: FieldInfo) -> st.SearchStrategy[Any]:
    """Everything that a field can hold, AUTO aside."""
    kind = row.kind
    if row.spec.when is not None:
        free = values(replace(row, spec=replace(row.spec, when=None)))
        return st.none() | free
    if row.spec.size is not None:
        by = row.spec.size
        sizes = st.integers(max(by.bias, 0), 3).map(lambda n: n * by.unit)
        return sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size))
    if isinstance(kind, UInt):
        return st.integers(0, (1 << kind.width) - 1)
    if isinstance(kind, Address):
        return st.binary(min_size=kind.size, max_size=kind.size)
    if isinstance(kind, Octets):
        size = kind.width // 8
        return st.binary(min_size=size, max_size=size or 12)
    if isinstance(kind, Pairs):
        return st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=3).map(
            tuple
        )
    if isinstance(kind, Addresses):
        size = kind.kind.size
        return st.lists(st.binary(min_size=size, max_size=size), max_size=3).map(tuple)
    if isinstance(kind, Numbers):
        letters = kind.row.format.strip("><=!@")
        numbers = [st.integers(0, 256 ** struct.calcsize(">" + letter) - 1) for letter in letters]
        return st.lists(numbers[0] if kind.single else st.tuples(*numbers), max_size=3).map(tuple)
    if isinstance(kind, Records):
        return st.lists(record(kind), max_size=2).map(tuple)
    if isinstance(kind, DomainNames):
        return st.lists(st.sampled_from(["example.com", "lab.example.net", "a"]), max_size=3).map(tuple)
    assert isinstance(kind, OptionList)
    return option_lists(kind.family)


@st.composite
def record(draw: st.DrawFn, kind: Records) -> Any:
    """A record of any class that a list can hold, with the number that announces it."""
    number, cls = draw(st.sampled_from([(None, kind.cls), *kind.variants.items()]))
    says = next((row for row in cls.fields if row.offset == kind.variant_at * 8), None)
    given: dict[str, Any] = {}
    if number is not None and says is not None:
        given[says.name] = st.just(number)
    elif kind.variants and says is not None:
        given[says.name] = st.integers(0, 255).filter(lambda value: value not in kind.variants)
    return draw(any_layout(cls, **given))


def option_lists(family: type[Option]) -> st.SearchStrategy[tuple[Option, ...]]:
    """Options that a header has room for (40 octets) and that stay what they are when parsed."""
    members = [cls for cls in OPTIONS if issubclass(cls, family)]
    lists = st.lists(st.sampled_from(members).flatmap(option), max_size=4)
    return lists.filter(lambda items: sum(len(bytes(item)) for item in items) <= 40).map(tuple)


def option(cls: type[Option]) -> st.SearchStrategy[Option]:
    if cls is UnknownTCPOption:  # 252: reserved
        return st.builds(cls, number=st.just(252), data=st.binary(max_size=6))
    if cls is UnknownIPv4Option:  # 0x9E: experiment, copied
        return st.builds(cls, type=st.just(0x9E), data=st.binary(max_size=6))
    if cls.__name__ == "UnknownNDOption":  # 253: RFC 4727 experiment
        return st.builds(cls, number=st.just(253), data=st.sampled_from([bytes(6), b"\1" * 14]))
    if cls is UnknownIPv6Option:  # 0x1E: RFC 4727 experiment
        return st.builds(cls, type=st.just(0x1E), data=st.binary(max_size=6))
    if cls is UnknownSegmentTLV:  # 252: RFC 8754 experiment
        return st.builds(cls, type=st.just(252), data=st.binary(max_size=6))
    # Neighbour discovery options end at multiples of 8 octets.
    if cls is RouteInformation:
        return any_layout(cls, prefix=st.sampled_from([b"", bytes(8), b"\x20" * 16]))  # type: ignore[return-value]
    return any_layout(cls)  # type: ignore[return-value]


def any_layout(cls: type[Layout], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Layout]:
    """Headers of a class with any value in each field; computed fields are left at AUTO."""
    free = {
        row.name: values(row) for row in cls.fields if row.spec.default is not AUTO or row.spec.rule is None
    }
    if issubclass(cls, Header) and cls.discriminator:
        free[cls.discriminator] = _discriminating(cls)
    if cls in WHOLE:
        name, first, step = WHOLE[cls]
        free[name] = st.integers(0, 2).flatmap(
            lambda n: st.binary(min_size=first + n * step, max_size=first + n * step)
        )
    built = st.builds(cls, **{**free, **given})
    return built.map(_settled).filter(bool) if any(row.spec.moves for row in cls.fields) else built


WHOLE: dict[type[Layout], tuple[str, int, int]] = {
    AH: ("icv", 0, 4),
    UnknownRouting: ("data", 4, 8),
    RPLRouting: ("vector", 0, 8),
    Nonce: ("nonce", 6, 8),
    RedirectedHeader: ("data", 0, 8),
}
"""Fields of octets that fill a header up to a multiple of some number: the fewest, and the step."""


def _settled(header: Layout) -> Layout | None:
    """The header with the fields that its own flags and counts let it have, None when they contradict it."""
    try:
        octets = bytes(header)  # type: ignore[call-overload]
        found, end, _ = header._parse(octets, 0, len(octets))
    except (HeaderError, FieldError):
        return None
    if end != len(octets) or type(found) is not type(header) or bytes(found) != octets:  # type: ignore[call-overload]
        return None
    asked = {row.name: AUTO for row in found.fields if getattr(header, row.slot) is AUTO}
    return found.replace(**asked)


def _discriminating(cls: type[Header]) -> st.SearchStrategy[int]:
    """Values of the discriminating field with which octets are parsed as this class again."""
    base = next(base for base in cls.__mro__ if vars(base).get("discriminator"))
    variants = base.variants  # type: ignore[attr-defined]
    # A longer form stands under the number of the class that it extends.
    chosen = cls if cls is base or cls in variants.values() else cls.__bases__[0]
    own = [value for value, variant in variants.items() if variant is chosen]
    if own:
        return st.sampled_from(own)
    return st.integers(0, 255).filter(lambda value: value not in cls.variants)


def ipv4(**given: Any) -> st.SearchStrategy[Any]:
    """Headers of whole datagrams (not fragments), as tools agree to read them."""
    fixed: dict[str, Any] = {
        "version": st.just(4),
        "flags": st.sampled_from([0, IPv4.DF]),
        "fragment_offset": st.just(0),
    }
    return any_layout(IPv4, **{**fixed, **given})


def ipv6(**given: Any) -> st.SearchStrategy[Any]:
    return any_layout(IPv6, **{"version": st.just(6), **given})


@st.composite
def links(draw: st.DrawFn) -> list[Header]:
    """Ethernet with up to two VLAN tags, or nothing."""
    shape = draw(
        st.sampled_from([(), (Ether,), (Ether, Dot1Q), (Ether, Dot1Q, Dot1Q), (Ether, Dot1AD, Dot1Q)])
    )
    return [draw(any_layout(cls)) for cls in shape]  # type: ignore[misc]


@st.composite
def packets(draw: st.DrawFn, whole: bool = True) -> Packet:
    """Packets over all protocols, lengths and checksums left to be computed; `whole` leaves out fragments."""
    layers = draw(links())
    kind = draw(st.sampled_from(["arp", "ipv4", "ipv6"]))
    if kind == "arp":
        places = {"hardware": 1, "protocol": 0x0800, "hardware_len": 6, "protocol_len": 4}
        given = {name: st.just(number) for name, number in places.items()} | {"op": st.integers(1, 4)}
        return Packet([*layers, draw(any_layout(ARP, **given))])  # type: ignore[list-item]
    payload = draw(payloads)
    if kind == "ipv4":
        layers.append(
            draw(ipv4() if whole else ipv4(flags=st.integers(0, 7), fragment_offset=st.integers(0, 3)))
        )
        families = [TCP, UDP, ICMP, *subclasses(ICMP), *subclasses(IGMP)]
    else:
        layers.append(draw(ipv6()))
        if draw(st.booleans()):
            places = {name: st.just(0) for name in ("more", "fragment_offset")} if whole else {}
            layers.append(draw(any_layout(IPv6Fragment, **places)))  # type: ignore[arg-type]
        families = [TCP, UDP, ICMPv6, *subclasses(ICMPv6)]
    cls = draw(st.sampled_from([c for c in families if c not in ABSTRACT]))
    layers.append(draw(any_layout(cls)))
    if cls in (ICMP, ICMPv6):
        payload = draw(st.binary(min_size=4, max_size=20))  # no message has fewer than 8 octets
    if cls.quotes:
        quoted = ipv4() if kind == "ipv4" else ipv6()
        layers += [draw(quoted), draw(any_layout(UDP))]  # type: ignore[list-item]
    elif (
        issubclass(cls, (IGMP, MLDMessage))
        or cls.followed_by is not None
        or (cls.fields[-1].width == 0 and issubclass(cls, (ICMP, ICMPv6)))
    ):
        payload = b""  # the last field fills the message, or its length tells its version
    return Packet(layers, payload)
