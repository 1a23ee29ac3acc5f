"""Logical link control (IEEE 802.2) and the Subnetwork Access Protocol (IEEE 802 clause 9.5) behind it."""

from __future__ import annotations

from rawkit.wire.ethernet import ETHERTYPES, Ether
from rawkit.wire.field import LENGTH, auto, field, u8, u16, u24, upper_number
from rawkit.wire.header import Header

SAPS = {
    0x00: "null",
    0x06: "IP",
    0x42: "spanning tree",
    0xAA: "SNAP",
    0xE0: "IPX",
    0xF0: "NetBIOS",
    0xFE: "OSI",
}


class LLC(Header, over={Ether: LENGTH}):
    """LLC header with a control field of one octet, as unnumbered frames have it (IEEE 802.2 clause 3.2)."""

    discriminator = "control"
    selected_by = ("dsap",)
    no_upper = 0x42

    dsap: u8 = auto(upper_number, names=SAPS)
    ssap: u8 = auto(upper_number, names=SAPS)
    control: u8 = field(3, names={0x03: "UI", 0xAF: "XID", 0xE3: "TEST"})

    def summary(self) -> str:
        return f"LLC dsap {self.dsap:#04x} ssap {self.ssap:#04x} control {self.control:#04x}"


class LLCNumbered(LLC, variant=tuple(octet for octet in range(256) if octet & 3 != 3)):
    """LLC header of an information or supervisory frame: a control field of two octets (clause 5.3)."""

    control: u8 = 0
    control2: u8 = 0


class SNAP(Header, over={LLC: 0xAA}, shares=Ether):
    """SNAP header: with the organization 0, `protocol` is an EtherType (RFC 1042)."""

    opaque_when = "oui"
    no_upper = 0x88B5

    oui: u24 = 0
    protocol: u16 = auto(upper_number, names=ETHERTYPES)

    def summary(self) -> str:
        return f"SNAP oui {self.oui:#08x}" if self.oui else ""
