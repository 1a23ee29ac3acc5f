"""The rarer options of TCP; those of nearly every connection are in `rawkit.wire.tcp`."""

from __future__ import annotations

from typing import Annotated

from rawkit.wire.field import Octets, UInt, field, octets, u1, u2, u4, u8, u16, u32
from rawkit.wire.record import u24s
from rawkit.wire.tcp import TCPOption

u15 = Annotated[int, UInt(15)]
u30 = Annotated[int, UInt(30)]

EXPERIMENTS = {
    0x0E0E: "HOST_ID", 0xACCE: "AccECN", 0xE2D4: "SMC-R", 0xF989: "Fast Open", 0x454E: "ENO",
}  # fmt: skip


class Echo(TCPOption, kind=6):
    """Asks for an echo; obsoleted by `Timestamps` (RFC 1072 section 4)."""

    value: u32


class EchoReply(TCPOption, kind=7):
    """Answers `Echo` (RFC 1072 section 4)."""

    value: u32


class MD5Signature(TCPOption, kind=19):
    """A digest of segment and key (RFC 2385 section 2.0)."""

    digest: Annotated[bytes, Octets(16)]

    def summary(self) -> str:
        return "md5"


class QuickStart(TCPOption, kind=27):
    """Answers a Quick-Start request (RFC 4782 section 3.2): a rate, the difference of TTLs, a nonce."""

    reserved: u4 = 0
    rate: u4 = 0
    ttl_difference: u8 = 0
    nonce: u30 = 0
    reserved2: u2 = 0


class UserTimeout(TCPOption, kind=28):
    """How long data may stay unacknowledged, in seconds or, with `minutes`, in minutes (RFC 5482)."""

    minutes: u1
    timeout: u15

    def summary(self) -> str:
        return f"uto {self.timeout}{'min' if self.minutes else 's'}"


class AuthenticationOption(TCPOption, kind=29):
    """TCP-AO: the numbers of this key and of the next one wanted, and the code (RFC 5925 section 2.2)."""

    key_id: u8
    next_key_id: u8
    code: octets = b""

    def summary(self) -> str:
        return f"tcp-ao keyid {self.key_id} rnextkeyid {self.next_key_id}"


class FastOpen(TCPOption, kind=34):
    """A cookie of 4 to 16 octets; none asks for one (RFC 7413 section 4.1.1)."""

    cookie: octets = b""

    def summary(self) -> str:
        return f"tfo cookie {self.cookie.hex()}" if self.cookie else "tfo cookiereq"


class EncryptionNegotiation(TCPOption, kind=69):
    """Suboptions of tcpcrypt's negotiation (RFC 8547 section 4.1)."""

    suboptions: octets = b""


class AccurateECN0(TCPOption, kind=172):
    """Counters of octets received with ECT(0), with CE and with ECT(1), none to three (RFC 9768)."""

    counters: u24s = ()


class AccurateECN1(TCPOption, kind=174):
    """As `AccurateECN0`, in the order ECT(1), CE, ECT(0)."""

    counters: u24s = ()


class Experiment(TCPOption, kind=253):
    """An experiment, told from others by its ExID; `data` starts with the rest of a longer one (RFC 6994)."""

    exid: u16 = field(names=EXPERIMENTS)
    data: octets = b""

    def summary(self) -> str:
        return f"exp {self.exid:#06x}"


class Experiment2(Experiment, kind=254):
    """As `Experiment`, under the second of the numbers for experiments."""
