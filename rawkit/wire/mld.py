"""Multicast listener discovery, versions 1 and 2 (RFC 2710, RFC 3810): messages of ICMPv6."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Annotated, Any

from rawkit.wire.field import AUTO, Size, auto, field, ip6, octets, size_of, u1, u3, u4, u8, u16
from rawkit.wire.header import Header
from rawkit.wire.icmpv6 import TYPES, ICMPv6
from rawkit.wire.igmp import RECORD_TYPES
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.ipv6ext import HopByHop, IPv6RouterAlert, ip6s
from rawkit.wire.packet import Packet
from rawkit.wire.record import Record, Records, count

NO_GROUP = IPv6Address("::")


class MLDMessage(ICMPv6):
    """What the messages of both versions share."""

    def target(self) -> IPv6Address:
        """Where such a message goes: all nodes, all routers, or the group it is about."""
        return IPv6Address("ff02::1")

    def addressed(self, src: Any = AUTO) -> Packet:
        """The message in the headers that it must have: hop limit 1, router alert (RFC 3810 section 5)."""
        alert = HopByHop(options=[IPv6RouterAlert(0)])
        return IPv6(src=src, dst=self.target(), hop_limit=1) / alert / self


class MLDQuery(MLDMessage, variant=130):
    """Asks who listens to `group`, :: for any (RFC 2710 section 3); `max_response` in ms."""

    type: u8 = field(130, names=TYPES)
    max_response: u16 = 10000
    reserved: u16 = 0
    group: ip6 = field("::")

    def target(self) -> IPv6Address:
        return IPv6Address("ff02::1") if self.group == NO_GROUP else self.group

    def summary(self) -> str:
        return f"ICMP6, {self.type_text()}, max resp delay {self.max_response}, addr {self.group}"


class MLDv2Query(MLDQuery, at_least=28):
    """Query of version 2 (RFC 3810 section 5.1), recognised by its length; it may name sources.

    `max_response` in ms from 32768 on, and `interval_code` in s from 128 on, are floating point.
    """

    reserved2: u4 = 0
    suppress: u1 = 0
    robustness: u3 = 2
    interval_code: u8 = 125
    sources_n: u16 = auto(size_of("sources", 16))
    sources: ip6s = field((), size=Size("sources_n", 16))


class MLDReport(MLDMessage, variant=131):
    """Tells that somebody listens to `group` (RFC 2710 section 3)."""

    type: u8 = field(131, names=TYPES)
    max_response: u16 = 0
    reserved: u16 = 0
    group: ip6 = field("::")

    def target(self) -> IPv6Address:
        return self.group

    def answers(self, request: Header) -> bool:
        return isinstance(request, MLDQuery) and request.group in (NO_GROUP, self.group)

    def summary(self) -> str:
        return f"ICMP6, {self.type_text()}, addr {self.group}"


class MLDDone(MLDMessage, variant=132):
    """Tells routers that nobody here may listen to `group` any longer (RFC 2710 section 3)."""

    type: u8 = field(132, names=TYPES)
    max_response: u16 = 0
    reserved: u16 = 0
    group: ip6 = field("::")

    def target(self) -> IPv6Address:
        return IPv6Address("ff02::2")

    def summary(self) -> str:
        return f"ICMP6, {self.type_text()}, addr {self.group}"


class ListenerRecord(Record):
    """What a node wants of one group: sources to include or to leave out (RFC 3810 section 5.2)."""

    type: u8 = field(4, names=RECORD_TYPES)
    aux_len: u8 = auto(size_of("aux", 4))
    sources_n: u16 = auto(size_of("sources", 16))
    group: ip6 = field("::")
    sources: ip6s = field((), size=Size("sources_n", 16))
    aux: octets = field(b"", size=Size("aux_len", 4))


class MLDv2Report(MLDMessage, variant=143):
    """Report of version 2 (RFC 3810 section 5.2): one record per group."""

    type: u8 = field(143, names=TYPES)
    reserved: u16 = 0
    records_n: u16 = auto(count("records"))
    records: Annotated[Sequence[ListenerRecord], Records(ListenerRecord)] = ()

    def target(self) -> IPv6Address:
        return IPv6Address("ff02::16")

    def answers(self, request: Header) -> bool:
        if not isinstance(request, MLDQuery):
            return False
        groups = [row.group for row in self.records if isinstance(row, ListenerRecord)]
        return request.group == NO_GROUP or request.group in groups

    def summary(self) -> str:
        shown = [
            f"gaddr {row.group} {RECORD_TYPES.get(row.type, row.type)} {{{' '.join(map(str, row.sources))}}}"
            for row in self.records
            if isinstance(row, ListenerRecord)
        ]
        return f"ICMP6, {self.type_text()}, {len(shown)} group record(s)" + "".join(f" [{t}]" for t in shown)


def long_delay(code: int) -> int:
    """The time in ms that a `max_response` of version 2 stands for (RFC 3810 section 5.1.3)."""
    return code if code < 0x8000 else (code & 0xFFF | 0x1000) << (code >> 12 & 7) + 3
