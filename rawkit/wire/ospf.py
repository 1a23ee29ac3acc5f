"""Open Shortest Path First: version 2 (RFC 2328), and of version 3 the header and the hello (RFC 5340)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from rawkit.wire.field import (
    Octets,
    auto,
    field,
    flags8,
    header_length,
    inet_checksum,
    ip4,
    octets,
    total_length,
    u8,
    u16,
    u24,
    u32,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.record import Record, Records, count, ip4s

TYPES = {
    1: "hello", 2: "database description", 3: "link state request", 4: "link state update",
    5: "link state acknowledgement",
}  # fmt: skip

LSA_TYPES = {
    1: "router", 2: "network", 3: "summary (network)", 4: "summary (AS boundary router)", 5: "AS external",
    7: "NSSA", 9: "opaque (link)", 10: "opaque (area)", 11: "opaque (AS)",
}  # fmt: skip

OPTIONS = "MT E MC NP L DC O DN"

# ---- link state advertisements ---------------------------------------------------------------------


def lsa_checksum(lsa: Any, payload: bytes = b"") -> int:
    """The Fletcher checksum of an LSA, all but its age (RFC 2328 section 12.1.7, RFC 905 annex B)."""
    covered = bytes(lsa.replace(checksum=0))[2:]
    low = high = 0
    for octet in covered:
        low = (low + octet) % 255
        high = (high + low) % 255
    # The two octets, at 14 and 15, that bring both sums to 0; 0 itself would mean "no checksum".
    first = ((len(covered) - 15) * low - high) % 255 or 255
    second = (510 - low - first) % 255 or 255
    return first << 8 | second


class LSAHeader(Record):
    """The header of an LSA (section A.4.1), alone where LSAs are only named. The age is in seconds."""

    age: u16 = 0
    options: flags8 = field(0, bits=OPTIONS)
    type: u8 = field(1, names=LSA_TYPES)
    id: ip4 = field("0.0.0.0")
    router: ip4 = field("0.0.0.0")
    seq: u32 = 0x80000001
    checksum: u16 = 0
    length: u16 = 20


class TOSMetric(Record):
    """A metric for one type of service, which RFC 2328 keeps from its predecessor."""

    tos: u8 = 0
    reserved: u8 = 0
    metric: u16 = 0


class RouterLink(Record):
    """A link of a router (section A.4.2); its type says what `id` and `data` are."""

    id: ip4 = field("0.0.0.0")
    data: ip4 = field("0.0.0.0")
    type: u8 = field(3, names={1: "point to point", 2: "transit", 3: "stub", 4: "virtual"})
    metrics_n: u8 = auto(header_length(4, 3))
    metric: u16 = 1
    metrics: Annotated[Sequence[TOSMetric], Records(TOSMetric)] = ()


class SummaryMetric(Record):
    """The distance for a type of service, 0 for all (section A.4.4)."""

    tos: u8 = 0
    metric: u24 = 1


class ExternalMetric(Record):
    """A way out for a type of service (section A.4.5): E in the first octet marks metrics of type 2."""

    tos: flags8 = field(0x80, bits="T1 T2 T3 T4 T5 T6 T7 E")
    metric: u24 = 1
    forward: ip4 = field("0.0.0.0")
    tag: u32 = 0


class LSA(LSAHeader):
    """An LSA whose type has no class of its own."""

    checksum: u16 = auto(lsa_checksum)
    length: u16 = auto(header_length(1))
    body: octets = b""


class RouterLSA(LSAHeader):
    """A router's links (section A.4.2); V, E and B: end of a virtual link, AS boundary, area border."""

    type: u8 = field(1, names=LSA_TYPES)
    checksum: u16 = auto(lsa_checksum)
    length: u16 = auto(header_length(1))
    flags: flags8 = field(0, bits="B E V W NT")
    reserved: u8 = 0
    links_n: u16 = auto(count("links"))
    links: Annotated[Sequence[RouterLink], Records(RouterLink)] = ()


class NetworkLSA(LSAHeader):
    """The routers on a network (section A.4.3)."""

    type: u8 = field(2, names=LSA_TYPES)
    checksum: u16 = auto(lsa_checksum)
    length: u16 = auto(header_length(1))
    mask: ip4 = field("255.255.255.0")
    routers: ip4s = ()


class SummaryLSA(LSAHeader):
    """A destination in another area: a network, or with type 4 an AS boundary router (section A.4.4)."""

    type: u8 = field(3, names=LSA_TYPES)
    checksum: u16 = auto(lsa_checksum)
    length: u16 = auto(header_length(1))
    mask: ip4 = field("255.255.255.0")
    metrics: Annotated[Sequence[SummaryMetric], Records(SummaryMetric)] = ()


class ExternalLSA(LSAHeader):
    """A destination outside the AS (section A.4.5), or with type 7 one known to a stub area (RFC 3101)."""

    type: u8 = field(5, names=LSA_TYPES)
    checksum: u16 = auto(lsa_checksum)
    length: u16 = auto(header_length(1))
    mask: ip4 = field("255.255.255.0")
    metrics: Annotated[Sequence[ExternalMetric], Records(ExternalMetric)] = ()


class LSAKey(Record):
    """Names an LSA that is asked for (section A.3.4)."""

    type: u32 = field(1, names=LSA_TYPES)
    id: ip4 = field("0.0.0.0")
    router: ip4 = field("0.0.0.0")


LSAS = Records(
    LSA, 3, {1: RouterLSA, 2: NetworkLSA, 3: SummaryLSA, 4: SummaryLSA, 5: ExternalLSA, 7: ExternalLSA}
)

# ---- packets ---------------------------------------------------------------------------------------


class OSPF(Header, over={IPv4: 89}):
    """The header of version 2 (section A.3.1), and all that is read of unknown types.

    The checksum leaves out `authentication`. With `authentication_type` 2 there is none: a digest follows the
    octets that the length counts (section D.4), and is the packet's trailer.
    """

    discriminator = "type"

    version: u8 = 2
    type: u8 = field(0, names=TYPES)
    length: u16 = auto(total_length)
    router: ip4 = field("0.0.0.0")
    area: ip4 = field("0.0.0.0")
    checksum: u16 = auto(inet_checksum, skips=(16, 24), absent_when=("authentication_type", 2))
    authentication_type: u16 = field(0, names={0: "none", 1: "password", 2: "digest"})
    authentication: Annotated[bytes, Octets(8)] = bytes(8)

    def summary(self) -> str:
        return f"OSPFv2, {TYPES.get(self.type, f'type {self.type}')}, router {self.router}, area {self.area}"


class OSPFHello(OSPF, variant=1):
    """Finds neighbours (section A.3.2); intervals in seconds."""

    type: u8 = field(1, names=TYPES)
    mask: ip4 = field("255.255.255.0")
    interval: u16 = 10
    options: flags8 = field("E", bits=OPTIONS)
    priority: u8 = 1
    dead_interval: u32 = 40
    designated: ip4 = field("0.0.0.0")
    backup: ip4 = field("0.0.0.0")
    neighbours: ip4s = ()


class OSPFDescription(OSPF, variant=2):
    """Names the LSAs that a router has (section A.3.3)."""

    type: u8 = field(2, names=TYPES)
    mtu: u16 = 1500
    options: flags8 = field("E", bits=OPTIONS)
    flags: flags8 = field(0, bits="MS M I R")
    seq: u32 = 0
    lsas: Annotated[Sequence[LSAHeader], Records(LSAHeader)] = ()


class OSPFRequest(OSPF, variant=3):
    """Asks for LSAs (section A.3.4)."""

    type: u8 = field(3, names=TYPES)
    requests: Annotated[Sequence[LSAKey], Records(LSAKey)] = ()


class OSPFUpdate(OSPF, variant=4):
    """Brings LSAs (section A.3.5)."""

    type: u8 = field(4, names=TYPES)
    lsas_n: u32 = auto(count("lsas"))
    lsas: Annotated[Sequence[LSAHeader], LSAS] = ()

    def answers(self, request: Header) -> bool:
        if not isinstance(request, OSPFRequest):
            return False
        asked = [key for key in request.requests if isinstance(key, LSAKey)]
        brought = [lsa for lsa in self.lsas if isinstance(lsa, LSAHeader)]
        return any((k.type, k.id, k.router) == (a.type, a.id, a.router) for k in asked for a in brought)


class OSPFAcknowledgement(OSPF, variant=5):
    """Confirms LSAs (section A.3.6)."""

    type: u8 = field(5, names=TYPES)
    lsas: Annotated[Sequence[LSAHeader], Records(LSAHeader)] = ()

    def answers(self, request: Header) -> bool:
        if not isinstance(request, OSPFUpdate):
            return False
        sent = [lsa for lsa in request.lsas if isinstance(lsa, LSAHeader)]
        seen = [lsa for lsa in self.lsas if isinstance(lsa, LSAHeader)]
        return any(
            (a.type, a.id, a.router, a.seq) == (b.type, b.id, b.router, b.seq) for a in sent for b in seen
        )


class OSPFv3(Header, over={IPv6: 89}):
    """The header of version 3 (RFC 5340 section A.3.1); what follows is opaque, the hello aside."""

    discriminator = "type"

    version: u8 = 3
    type: u8 = field(0, names=TYPES)
    length: u16 = auto(total_length)
    router: ip4 = field("0.0.0.0")
    area: ip4 = field("0.0.0.0")
    checksum: u16 = auto(inet_checksum, pseudo_header=True)
    instance: u8 = 0
    reserved: u8 = 0

    def summary(self) -> str:
        return f"OSPFv3, {TYPES.get(self.type, f'type {self.type}')}, router {self.router}, area {self.area}"


class OSPFv3Hello(OSPFv3, variant=1):
    """Finds neighbours (RFC 5340 section A.3.2); intervals in seconds, routers by their numbers."""

    type: u8 = field(1, names=TYPES)
    interface: u32 = 0
    priority: u8 = 1
    options: u24 = 0x000013
    interval: u16 = 10
    dead_interval: u16 = 40
    designated: ip4 = field("0.0.0.0")
    backup: ip4 = field("0.0.0.0")
    neighbours: ip4s = ()
