"""Label stacks of Multiprotocol Label Switching (RFC 3032)."""

from __future__ import annotations

from rawkit.wire.ethernet import Ether
from rawkit.wire.field import auto, field, u1, u3, u8, u20, upper_number
from rawkit.wire.header import Header
from rawkit.wire.ipv6 import AnyIP

LABELS = {
    0: "IPv4 explicit null", 1: "router alert", 2: "IPv6 explicit null", 3: "implicit null",
    7: "entropy label indicator", 13: "GAL", 14: "OAM alert", 15: "extension",
}  # fmt: skip


class MPLS(Header, over={Ether: (0x8847, 0x8848)}):
    """One entry of a label stack (RFC 3032 section 2.1).

    What follows the last entry (`bottom` 1) is not announced; an IP packet is recognised by its version, as
    routers do it (RFC 4928 section 3).
    """

    no_upper = 1

    label_value: u20 = field(0, names=LABELS)
    traffic_class: u3 = 0
    bottom: u1 = auto(upper_number)
    ttl: u8 = 64

    def summary(self) -> str:
        bottom = ", [S]" if self.bottom == 1 else ""
        return f"MPLS (label {self.label_value}, tc {self.traffic_class}{bottom}, ttl {self.ttl})"


MPLS.register(over={MPLS: 0})
AnyIP.register(over={MPLS: 1})
