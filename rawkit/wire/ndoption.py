"""Neighbour discovery options of rarer kinds (RFC 4861, RFC 3971, RFC 4191, RFC 8106)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from rawkit.errors import FieldError
from rawkit.wire.field import Variable, field, octets, u2, u3, u8, u16, u32, u48
from rawkit.wire.icmpv6 import NDOption
from rawkit.wire.ipv6ext import ip6s


class DomainNames(Variable):
    """Domain names as in DNS, uncompressed, filled up with zeros (RFC 8106 section 5.2).

    Names are read as text; octets other than printable ASCII are read as `\\DDD` (RFC 1035 section 5.1).
    """

    def decode(self, octets: bytes) -> tuple[str, ...]:
        names: list[str] = []
        labels: list[str] = []
        at = 0
        while at < len(octets):
            size = octets[at]
            if at + 1 + size > len(octets) or size > 63:
                break  # cut off, or no label: kept, and not shown
            if size:
                labels.append("".join(map(_character, octets[at + 1 : at + 1 + size])))
            elif labels:
                names.append(".".join(labels))
                labels = []
            at += 1 + size
        return tuple(names)

    def encode(self, value: Any, name: str) -> bytes:
        data = b"".join(map(_encoded, value))
        return data + b"\0" * (-len(data) % 8)


def _character(octet: int) -> str:
    plain = 33 <= octet < 127 and octet not in b".\\"
    return chr(octet) if plain else f"\\{octet:03}"


def _encoded(text: Any) -> bytes:
    try:
        labels = [_label(label) for label in text.rstrip(".").split(".")]
    except (AttributeError, UnicodeEncodeError, ValueError):
        labels = []
    if not labels or not all(0 < len(label) < 64 for label in labels) or sum(map(len, labels)) > 250:
        raise FieldError(f"need a domain name of labels of 1 to 63 octets, got {text!r}")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _label(text: str) -> bytes:
    first, *escaped = text.split("\\")
    parts = [first.encode("ascii")]
    parts += [bytes([int(part[:3])]) + part[3:].encode("ascii") for part in escaped]
    return b"".join(parts)


class RedirectedHeader(NDOption, kind=4):
    """The beginning of the packet that was redirected, in multiples of 8 octets (RFC 4861 section 4.6.3)."""

    reserved: u48 = 0
    data: octets = b""


class Nonce(NDOption, kind=14):
    """A random number that ties an advertisement to its solicitation (RFC 3971 section 5.3.2)."""

    nonce: octets = bytes(6)


class RouteInformation(NDOption, kind=24):
    """A route by this router (RFC 4191 section 2.3): `preference` is 0 medium, 1 high, 3 low; lifetime in s.

    `prefix` has 0, 8 or 16 octets, as many as `prefix_len` bits need.
    """

    prefix_len: u8 = 0
    reserved: u3 = 0
    preference: u2 = field(0, names={0: "medium", 1: "high", 3: "low"})
    reserved2: u3 = 0
    lifetime: u32 = 0
    prefix: octets = b""


class RecursiveDNS(NDOption, kind=25):
    """DNS servers (RDNSS, RFC 8106 section 5.1); lifetime in s."""

    reserved: u16 = 0
    lifetime: u32 = 0
    servers: ip6s = ()


class DNSSearchList(NDOption, kind=31):
    """Domain names to complete host names with (DNSSL, RFC 8106 section 5.2); lifetime in s."""

    reserved: u16 = 0
    lifetime: u32 = 0
    domains: Annotated[Sequence[str], DomainNames()] = ()
