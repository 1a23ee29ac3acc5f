"""IP security: Authentication Header (RFC 4302) and Encapsulating Security Payload (RFC 4303)."""

from __future__ import annotations

from rawkit.wire.field import auto, header_length, octets, u8, u16, u32, upper_number
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import PROTOCOLS, IPv4
from rawkit.wire.ipv6 import IPv6


class AH(Header, over={IPv4: 51, IPv6: 51}, shares=IPv6):
    """Authentication Header; `length` counts 32-bit words less two, `icv` is the integrity check value.

    Over IPv6 the header must be a multiple of 8 octets long (section 2.2): `icv` is given with its padding.
    """

    no_upper = 59

    next_header: u8 = auto(upper_number, names=PROTOCOLS)
    length: u8 = auto(header_length(4, 2))
    reserved: u16 = 0
    spi: u32 = 0
    seq: u32 = 0
    icv: octets = bytes(12)

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, AH) and (self.spi, self.seq) == (original.spi, original.seq)

    def summary(self) -> str:
        return f"AH(spi={self.spi:#010x},seq={self.seq})"


class ESP(Header, over={IPv4: 50, IPv6: 50}):
    """Encapsulating Security Payload up to what is encrypted, which stays payload."""

    spi: u32 = 0
    seq: u32 = 0

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, ESP) and (self.spi, self.seq) == (original.spi, original.seq)

    def summary(self) -> str:
        return f"ESP(spi={self.spi:#010x},seq={self.seq})"
