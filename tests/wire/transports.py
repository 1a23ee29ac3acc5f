"""Generated packets of the transport and routing protocols that few packets hold, and their options."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from hypothesis import strategies as st
from wire.packets import TRANSPORTS, ipv4, ipv6, payloads, subclasses, values

from rawkit.wire import AUTO, Header, IPv4, IPv6, Packet, dccp, eigrp, mptcp, ospf, sctp, tcpoption, udplite
from rawkit.wire.field import ChecksumRule
from rawkit.wire.layout import FieldInfo, Layout
from rawkit.wire.option import Option, OptionList
from rawkit.wire.record import Addresses, Numbers, Record, Records, Triples

MODULES: tuple[ModuleType, ...] = (dccp, eigrp, mptcp, ospf, sctp, tcpoption, udplite)
assert {module.__name__ for module in MODULES} == TRANSPORTS

ABSTRACT = {
    dccp.DCCPOption, eigrp.EIGRPTLV, mptcp.MPTCP, sctp.SCTPParameter, sctp.SCTPCause, sctp.SCTPChunk,
    sctp.AddressRequest,
}  # fmt: skip
UNKNOWN_NUMBERS: dict[type[Option], int] = {
    dccp.UnknownDCCPOption: 127, eigrp.UnknownEIGRPTLV: 0x7FFF,
    sctp.UnknownSCTPParameter: 0x7FFF, sctp.UnknownSCTPCause: 0x7FFF, sctp.UnknownSCTPChunk: 0x7F,
}  # fmt: skip


def declared(base: type[Any]) -> list[type[Any]]:
    found = [cls for cls in subclasses(base) if cls.__module__ in TRANSPORTS and cls not in ABSTRACT]
    return list(dict.fromkeys(found))


HEADERS: list[type[Header]] = declared(Header)
OPTIONS: list[type[Option]] = declared(Option)
RECORDS: list[type[Record]] = declared(Record)
NAMES = {cls.__name__: cls for cls in (*HEADERS, *OPTIONS, *RECORDS)}

FAMILIES: list[type[Header]] = [
    sctp.SCTP, udplite.UDPLite, dccp.DCCP, ospf.OSPF, ospf.OSPFv3, eigrp.EIGRP,
]  # fmt: skip


def content(row: FieldInfo, depth: int) -> st.SearchStrategy[Any]:
    """Everything that a field can hold, lists inside lists cut short."""
    kind = row.kind
    if isinstance(kind, OptionList):
        members = [cls for cls in OPTIONS if issubclass(cls, kind.family)]
        return st.lists(
            st.sampled_from(members).flatmap(lambda cls: layouts(cls, depth + 1)), max_size=3 - depth
        )
    if isinstance(kind, Records):
        classes = [kind.cls, *dict.fromkeys(kind.variants.values())]
        return st.lists(
            st.sampled_from(classes).flatmap(lambda cls: layouts(cls, depth + 1)), max_size=3 - depth
        )
    if isinstance(kind, Numbers):
        sizes = {"H": 16, "I": 32}
        rows = [st.integers(0, 2 ** sizes[letter] - 1) for letter in kind.row.format[1:]]
        return st.lists(rows[0] if kind.single else st.tuples(*rows), max_size=3)
    if isinstance(kind, Triples):
        return st.lists(st.integers(0, 2**24 - 1), max_size=3)
    if isinstance(kind, Addresses):
        return st.lists(st.binary(min_size=kind.kind.size, max_size=kind.kind.size), max_size=3)
    if isinstance(kind, eigrp.Prefixes):
        return st.lists(prefixes(kind), max_size=3)
    return values(row)


@st.composite
def prefixes(draw: st.DrawFn, kind: eigrp.Prefixes) -> Any:
    bits = draw(st.integers(0, kind.size * 8))
    return kind.make((draw(st.binary(min_size=kind.size, max_size=kind.size)), bits), strict=False)


@st.composite
def layouts(draw: st.DrawFn, cls: type[Layout], depth: int = 0, **given: Any) -> Any:
    """A header, option or record with anything in its fields; computed fields are left at AUTO."""
    chosen: dict[str, Any] = {}
    for row in cls.fields:
        if row.name in given:
            value = given[row.name]
        elif row.spec.default is AUTO and row.spec.rule is not None:
            continue
        elif cls in UNKNOWN_NUMBERS and row.offset == 0:
            value = UNKNOWN_NUMBERS[cls]  # type: ignore[index]
        elif row.spec.when:
            name, wanted = row.spec.when
            says = chosen[name]
            if not (says if wanted is None else says == wanted):
                continue
            value = draw(values(row))
        elif (restricted := limits(cls, row)) is not None:
            value = draw(restricted)
        else:
            value = draw(content(row, depth))
        chosen[row.name] = value
    return cls(**chosen)


def limits(cls: type[Layout], row: FieldInfo) -> st.SearchStrategy[Any] | None:
    """Values with which octets are parsed as this class again, where these are not all."""
    if issubclass(cls, Header) and row.name == cls.discriminator:
        base = next(base for base in cls.__mro__ if vars(base).get("discriminator"))
        own = [value for value, variant in base.variants.items() if variant is cls]  # type: ignore[attr-defined]
        others = st.integers(0, 2**row.width - 1).filter(lambda value: value not in cls.variants)
        return st.sampled_from(own) if own else others
    if issubclass(cls, mptcp.MPTCP) and row.name == "subtype":
        return st.integers(9, 15) if cls is mptcp.UnknownMPTCP else st.just(row.spec.default)
    if issubclass(cls, mptcp.DSSAck) and row.name == "dsn_form":
        return st.sampled_from([1, 3] if issubclass(cls, mptcp.DSS) else [0, 2])
    if cls is mptcp.MPRemoveAddress and row.name == "address_ids":
        return st.binary(min_size=1, max_size=8)
    if cls is sctp.HostName:
        return st.sampled_from([b"", b"host.example", b"a.example\0"])
    if cls is dccp.NonDataCount:
        return st.binary(min_size=1, max_size=6)  # RFC 4340 section 7.7
    if (
        cls in (dccp.ElapsedTime, dccp.TimestampEcho) and row.name == "elapsed"
    ):  # RFC 4340 sections 13.2, 13.3
        return st.sampled_from([2, 4]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
    if cls is ospf.LSAHeader and row.name == "length":
        return st.integers(20, 0xFFFF)  # with the header (RFC 2328 section A.4.1)
    if issubclass(cls, ospf.LSAHeader) and row.name == "type":
        known = ospf.LSAS.variants
        own = [value for value, variant in known.items() if variant is cls]
        return st.sampled_from(own) if own else st.sampled_from([0, 6, 9, 10, 11, 255])
    return None


@st.composite
def packets(draw: st.DrawFn, *families: type[Header], **given: Any) -> Packet:
    """Packets over IPv4 or IPv6; checksum coverage stays inside the packet."""
    family = draw(st.sampled_from(families or FAMILIES))
    return draw(packet_of(layouts(draw(st.sampled_from([family, *subclasses(family)])), **given)))


@st.composite
def packet_of(
    draw: st.DrawFn, uppers: st.SearchStrategy[Any], **ipv4_fields: st.SearchStrategy[Any]
) -> Packet:
    """As `packets`, with a header drawn from `uppers`; `ipv4_fields` as for `ipv4`."""
    upper = draw(uppers)
    cls = type(upper)
    versions = [lower for lower in (IPv4, IPv6) if any(base in lower.numbers for base in cls.__mro__)]
    below = draw(ipv4(**ipv4_fields) if draw(st.sampled_from(versions)) is IPv4 else ipv6())
    payload = draw(payloads)
    if cls.fields[-1].width == 0 and not issubclass(cls, dccp.DCCP):
        payload = b""  # the last field fills the packet
    rule = next(row.spec.rule for row in cls.fields if row.name == "checksum")
    if isinstance(rule, ChecksumRule) and rule.coverage:
        most = len(bytes(upper)) + len(payload)
        least = len(bytes(upper))
        place = rule.coverage
        top = (len(payload) // place.unit + 1) if place.payload else most
        number = draw(st.integers(0, min(top, 15 if place.payload else most)))
        upper = upper.replace(**{place.field: number if place.payload or number >= least else 0})
    return Packet([below, upper], payload)
