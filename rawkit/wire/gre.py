"""Generic Routing Encapsulation (RFC 2784, RFC 2890) and its version for PPTP (RFC 2637)."""

from __future__ import annotations

from rawkit.wire.ethernet import ETHERTYPES, Ether
from rawkit.wire.field import auto, field, inet_checksum, present, u1, u3, u4, u16, u32, upper_number
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6


class GRE(Header, over={IPv4: 47, IPv6: 47}, shares=Ether):
    """GRE header. A checksum is sent when it is given, or asked for with `checksum=AUTO`; so are key and seq.

    In version 1 (PPTP) `key` holds the payload's length and the call, and `ack` may follow.
    """

    opaque_when = "routing_present"  # RFC 1701's list of routes, which RFC 2784 section 2.3 did away with
    no_upper = 0x88B5

    checksum_present: u1 = auto(present("checksum", "offset"))
    routing_present: u1 = 0
    key_present: u1 = auto(present("key"))
    seq_present: u1 = auto(present("seq"))
    strict_route: u1 = 0
    recursion: u3 = 0
    ack_present: u1 = auto(present("ack"))
    flags: u4 = 0
    version: u3 = 0
    protocol: u16 = auto(upper_number, names=ETHERTYPES)
    checksum: u16 | None = auto(inet_checksum, when="checksum_present", default=None)
    offset: u16 | None = field(when="checksum_present")
    key: u32 | None = field(when="key_present")
    seq: u32 | None = field(when="seq_present")
    ack: u32 | None = field(when="ack_present")

    def answers(self, request: Header) -> bool:
        return isinstance(request, GRE) and (self.key, self.protocol) == (request.key, request.protocol)

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, GRE) and self.key == original.key

    def summary(self) -> str:
        shown = [f"GREv{self.version}"]
        shown += [f"{name} {value:#x}" for name, value in (("key", self.key),) if value is not None]
        shown += [
            f"{name} {value}" for name, value in (("seq", self.seq), ("ack", self.ack)) if value is not None
        ]
        return ", ".join(shown)
