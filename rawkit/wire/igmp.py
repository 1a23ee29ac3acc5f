"""Internet Group Management Protocol, versions 1 to 3 (RFC 1112, RFC 2236, RFC 3376)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Annotated, Any

from rawkit.wire.field import (
    AUTO,
    Size,
    auto,
    field,
    inet_checksum,
    ip4,
    octets,
    size_of,
    u1,
    u3,
    u4,
    u8,
    u16,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4, RouterAlert
from rawkit.wire.packet import Packet
from rawkit.wire.record import Record, Records, count, ip4s

TYPES = {0x11: "query", 0x12: "v1 report", 0x16: "v2 report", 0x17: "v2 leave", 0x22: "v3 report"}

RECORD_TYPES = {
    1: "is in", 2: "is out", 3: "to in", 4: "to out", 5: "allow", 6: "block",
}  # fmt: skip
"""The filter modes and changes of group records (RFC 3376 section 4.2.12), as tcpdump calls them."""


class IGMP(Header, over={IPv4: 2}):
    """The part common to all IGMP messages; types with a class of their own are parsed as that class."""

    discriminator = "type"

    type: u8 = field(0x11, names=TYPES)
    code: u8 = 0
    checksum: u16 = auto(inet_checksum)

    def target(self) -> IPv4Address:
        """Where such a message goes: all hosts, all routers, or the group it is about."""
        return IPv4Address("224.0.0.1")

    def addressed(self, src: Any = AUTO) -> Packet:
        """The message in the IP header that senders must give it: TTL 1, router alert, control precedence.

        RFC 2236 section 2, RFC 3376 section 4.
        """
        return IPv4(src=src, dst=self.target(), ttl=1, dscp=48, options=[RouterAlert()]) / self

    def summary(self) -> str:
        return f"igmp {TYPES.get(self.type, f'type {self.type:#04x}')}"


class IGMPQuery(IGMP, variant=0x11):
    """Asks who listens to `group`, 0.0.0.0 for any (RFC 2236 section 2); version 1 has 0 for `code`.

    `code` is the longest time until the answer, in 0.1 s.
    """

    group: ip4 = field("0.0.0.0")

    def target(self) -> IPv4Address:
        return self.group if int(self.group) else IPv4Address("224.0.0.1")

    def summary(self) -> str:
        return f"igmp query {self.group}" if int(self.group) else "igmp query"


class IGMPv3Query(IGMPQuery, at_least=12):
    """Query of version 3 (RFC 3376 section 4.1), recognised by its length; it may name sources.

    `code` and `interval_code` are times in 0.1 s and in s; from 128 on they are floating point (`long_time`).
    """

    reserved: u4 = 0
    suppress: u1 = 0
    robustness: u3 = 2
    interval_code: u8 = 125
    sources_n: u16 = auto(size_of("sources", 4))
    sources: ip4s = field((), size=Size("sources_n", 4))


class IGMPReport(IGMP, variant=(0x12, 0x16)):
    """Membership report of version 1 (type 0x12) or 2 (RFC 2236 section 2)."""

    type: u8 = field(0x16, names=TYPES)
    group: ip4 = field("0.0.0.0")

    def target(self) -> IPv4Address:
        return self.group

    def answers(self, request: Header) -> bool:
        return isinstance(request, IGMPQuery) and (not int(request.group) or request.group == self.group)

    def summary(self) -> str:
        return f"igmp {TYPES.get(self.type, self.type)} {self.group}"


class IGMPLeave(IGMP, variant=0x17):
    """Tells routers that nobody here may listen any longer (RFC 2236 section 2)."""

    type: u8 = field(0x17, names=TYPES)
    group: ip4 = field("0.0.0.0")

    def target(self) -> IPv4Address:
        return IPv4Address("224.0.0.2")

    def summary(self) -> str:
        return f"igmp leave {self.group}"


class GroupRecord(Record):
    """What a host wants of one group: sources to include or to leave out (RFC 3376 section 4.2.4)."""

    type: u8 = field(4, names=RECORD_TYPES)
    aux_len: u8 = auto(size_of("aux", 4))
    sources_n: u16 = auto(size_of("sources", 4))
    group: ip4 = field("0.0.0.0")
    sources: ip4s = field((), size=Size("sources_n", 4))
    aux: octets = field(b"", size=Size("aux_len", 4))


class IGMPv3Report(IGMP, variant=0x22):
    """Membership report of version 3 (RFC 3376 section 4.2): one record per group."""

    type: u8 = field(0x22, names=TYPES)
    reserved: u16 = 0
    records_n: u16 = auto(count("records"))
    records: Annotated[Sequence[GroupRecord], Records(GroupRecord)] = ()

    def target(self) -> IPv4Address:
        return IPv4Address("224.0.0.22")

    def answers(self, request: Header) -> bool:
        if not isinstance(request, IGMPQuery):
            return False
        groups = [row.group for row in self.records if isinstance(row, GroupRecord)]
        return not int(request.group) or request.group in groups

    def summary(self) -> str:
        shown = [
            f"gaddr {row.group} {RECORD_TYPES.get(row.type, row.type)} {{{' '.join(map(str, row.sources))}}}"
            for row in self.records
            if isinstance(row, GroupRecord)
        ]
        return f"igmp v3 report, {len(shown)} group record(s)" + "".join(f" [{text}]" for text in shown)


def long_time(code: int) -> int:
    """The number that a code of version 3 stands for (RFC 3376 sections 4.1.1, 4.1.7)."""
    return code if code < 128 else (code & 15 | 16) << (code >> 4 & 7) + 3
