"""Generated headers and packets: hypothesis strategies made from the field tables themselves."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

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
from rawkit.wire.field import Address, Octets, Pairs, UInt
from rawkit.wire.icmp import ICMPError
from rawkit.wire.icmpv6 import ICMPv6Error, NDOption
from rawkit.wire.ipv4 import IPv4Option, RecordRoute, UnknownIPv4Option
from rawkit.wire.layout import FieldInfo, Layout
from rawkit.wire.option import Option, OptionList, UnparsedOptions
from rawkit.wire.tcp import TCPOption, UnknownTCPOption

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
    None,
]

payloads = st.binary(max_size=40)


def subclasses(cls: type[Any]) -> list[type[Any]]:
    """All that descend from a class."""
    found = []
    for sub in cls.__subclasses__():
        found += [sub, *subclasses(sub)]
    return found


HEADERS = [
    cls
    for cls in subclasses(Header)
    if cls.__module__.startswith("rawkit.") and cls not in (ICMPError, ICMPv6Error)
]
"""Every header class of rawkit that stands for something on the wire."""

OPTIONS = [
    cls
    for cls in subclasses(Option)
    if cls.__module__.startswith("rawkit.") and cls not in (TCPOption, IPv4Option, NDOption, UnparsedOptions)
]


def values(row: FieldInfo) -> st.SearchStrategy[Any]:
    """Everything that a field can hold, AUTO aside."""
    kind = row.kind
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
    assert isinstance(kind, OptionList)
    return option_lists(kind.family)


def option_lists(family: type[Option]) -> st.SearchStrategy[tuple[Option, ...]]:
    """Options that a header has room for (40 octets) and that stay what they are when parsed."""
    members = [cls for cls in OPTIONS if issubclass(cls, family)]
    lists = st.lists(st.sampled_from(members).flatmap(option), max_size=4)
    return lists.filter(lambda items: sum(len(bytes(item)) for item in items) <= 40).map(tuple)


def option(cls: type[Option]) -> st.SearchStrategy[Option]:
    if cls is UnknownTCPOption:  # 254: RFC 3692 experiment
        return st.builds(cls, number=st.just(254), data=st.binary(max_size=6))
    if cls is UnknownIPv4Option:  # 0x9E: experiment, copied
        return st.builds(cls, type=st.just(0x9E), data=st.binary(max_size=6))
    if cls.__name__ == "UnknownNDOption":  # 253: RFC 4727 experiment
        return st.builds(cls, number=st.just(253), data=st.sampled_from([bytes(6), b"\1" * 14]))
    if cls is RecordRoute:
        routes = st.integers(0, 3).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
        return st.builds(cls, pointer=st.sampled_from([4, 8]), route=routes)
    return any_layout(cls)  # type: ignore[return-value]


def any_layout(cls: type[Layout], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Layout]:
    """Headers of a class with any value in each field; computed fields are left at AUTO."""
    free = {
        row.name: values(row) for row in cls.fields if row.spec.default is not AUTO or row.spec.rule is None
    }
    if issubclass(cls, Header) and cls.discriminator:
        free[cls.discriminator] = _discriminating(cls)
    return st.builds(cls, **{**free, **given})


def _discriminating(cls: type[Header]) -> st.SearchStrategy[int]:
    """Values of the discriminating field with which octets are parsed as this class again."""
    base = next(base for base in cls.__mro__ if vars(base).get("discriminator"))
    own = [value for value, variant in base.variants.items() if variant is cls]  # type: ignore[attr-defined]
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
        families = [TCP, UDP, ICMP, *subclasses(ICMP)]
    else:
        layers.append(draw(ipv6()))
        if draw(st.booleans()):
            places = {name: st.just(0) for name in ("more", "fragment_offset")} if whole else {}
            layers.append(draw(any_layout(IPv6Fragment, **places)))  # type: ignore[arg-type]
        families = [TCP, UDP, ICMPv6, *subclasses(ICMPv6)]
    cls = draw(st.sampled_from([c for c in families if c not in (ICMPError, ICMPv6Error)]))
    layers.append(draw(any_layout(cls)))
    if cls in (ICMP, ICMPv6):
        payload = draw(st.binary(min_size=4, max_size=20))  # no message has fewer than 8 octets
    if cls.quotes:
        quoted = ipv4() if kind == "ipv4" else ipv6()
        layers += [draw(quoted), draw(any_layout(UDP))]  # type: ignore[list-item]
    elif any(row.name == "options" for row in cls.fields) and issubclass(cls, ICMPv6):
        payload = b""  # the options fill the message
    return Packet(layers, payload)
