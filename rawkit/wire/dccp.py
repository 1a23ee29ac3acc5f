"""Datagram Congestion Control Protocol (RFC 4340)."""

from __future__ import annotations

from rawkit.wire.field import (
    Coverage,
    Options,
    auto,
    field,
    header_words,
    inet_checksum,
    octets,
    u1,
    u3,
    u4,
    u8,
    u16,
    u24,
    u32,
    u48,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.option import Option

TYPES = {
    0: "Request", 1: "Response", 2: "Data", 3: "Ack", 4: "DataAck", 5: "CloseReq", 6: "Close", 7: "Reset",
    8: "Sync", 9: "SyncAck",
}  # fmt: skip

RESET_CODES = {
    0: "unspecified", 1: "closed", 2: "aborted", 3: "no connection", 4: "packet error", 5: "option error",
    6: "mandatory error", 7: "connection refused", 8: "bad service code", 9: "too busy",
    10: "bad init cookie", 11: "aggression penalty",
}  # fmt: skip


class DCCPOption(Option, family=True):
    """An option (section 5.8): types below 32 stand alone, the others have length and data."""

    singles = frozenset(range(32))
    pad_to = 4


class DCCPPadding(DCCPOption, kind=0):
    """Fills up; it may also stand between options (section 5.8.1)."""


class Mandatory(DCCPOption, kind=1):
    """The option after it must be understood (section 5.8.2)."""


class SlowReceiver(DCCPOption, kind=2):
    """The receiver cannot keep up (section 11.6)."""


class ChangeL(DCCPOption, kind=32):
    """Asks for a value of a feature that is located at the sender (section 6.1)."""

    feature: u8
    values: octets = b""


class ConfirmL(DCCPOption, kind=33):
    """Answers Change R (section 6.2)."""

    feature: u8
    values: octets = b""


class ChangeR(DCCPOption, kind=34):
    """Asks for a value of a feature that is located at the receiver (section 6.1)."""

    feature: u8
    values: octets = b""


class ConfirmR(DCCPOption, kind=35):
    """Answers Change L (section 6.2)."""

    feature: u8
    values: octets = b""


class InitCookie(DCCPOption, kind=36):
    """What the server wants back from the client (section 8.1.4)."""

    cookie: octets = b""


class NonDataCount(DCCPOption, kind=37):
    """How many packets without data went before this one, in 1 to 6 octets (section 7.7)."""

    count: octets = b"\0"


class AckVector0(DCCPOption, kind=38):
    """Run lengths of received packets, from the acknowledged one back; ECN nonce 0 (section 11.4)."""

    vector: octets = b""


class AckVector1(DCCPOption, kind=39):
    """As `AckVector0`, with ECN nonce 1."""

    vector: octets = b""


class DataDropped(DCCPOption, kind=40):
    """Which packets' data did not reach the application (section 11.7)."""

    blocks: octets = b""


class DCCPTimestamp(DCCPOption, kind=41):
    """The sender's time in units of 10 microseconds (section 13.1)."""

    value: u32


class TimestampEcho(DCCPOption, kind=42):
    """Brings a timestamp back; `elapsed` holds nothing, or 2 or 4 octets of time since (section 13.3)."""

    value: u32
    elapsed: octets = b""


class ElapsedTime(DCCPOption, kind=43):
    """Time since the acknowledged packet came, in units of 10 microseconds, 2 or 4 octets (section 13.2)."""

    elapsed: octets = b"\0\0"


class DataChecksum(DCCPOption, kind=44):
    """CRC32c of the application data (section 9.3)."""

    crc: u32


class UnknownDCCPOption(DCCPOption):
    """An option without a class of its own."""

    type: u8
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.type, self.data


DCCPOption.unknown = UnknownDCCPOption


class DCCP(Header, over={IPv4: 33, IPv6: 33}):
    """What all packets start with (section 5.1), and all that is read of the reserved types.

    `data_offset` counts words from the header's start to the data. `cscov` says what the checksum covers: 0
    for all, n for the header and n - 1 words of the data (section 9.2).
    """

    discriminator = "type"
    selected_by = ()

    sport: u16 = 0
    dport: u16 = 0
    data_offset: u8 = 3
    ccval: u4 = 0
    cscov: u4 = 0
    checksum: u16 = auto(inet_checksum, pseudo_header=True, coverage=Coverage("cscov", 4, payload=True))
    reserved: u3 = 0
    type: u4 = field(10, names=TYPES)
    x: u1 = 1

    def answers(self, request: Header) -> bool:
        if not isinstance(request, DCCP) or (self.sport, self.dport) != (request.dport, request.sport):
            return False
        if not isinstance(request, DCCPRequest):
            return True
        return isinstance(self, (DCCPResponse, DCCPReset)) and self.ack == request.seq

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, DCCP) and (self.sport, self.dport) == (original.sport, original.dport)

    def summary(self) -> str:
        words = [f"DCCP {TYPES.get(self.type, f'type {self.type}')}"]
        for name in ("seq", "short_seq", "ack", "short_ack", "service"):
            number = getattr(self, name, None)
            if number is not None:
                words.append(f"{name.removeprefix('short_')} {number}")
        if isinstance(self, DCCPReset):
            words.append(f"code {self.code} ({RESET_CODES.get(self.code, 'unknown')})")
        return ", ".join(words)


class DCCPRequest(DCCP, variant=0):
    """Opens a connection to a service (section 5.1)."""

    data_offset: u8 = auto(header_words)
    type: u4 = field(0, names=TYPES)
    reserved2: u8 = 0
    seq: u48 = 0
    service: u32 = 0
    options: Options[DCCPOption] = ()


class DCCPResponse(DCCP, variant=1):
    """Answers a request (section 5.2)."""

    data_offset: u8 = auto(header_words)
    type: u4 = field(1, names=TYPES)
    reserved2: u8 = 0
    seq: u48 = 0
    reserved3: u16 = 0
    ack: u48 = 0
    service: u32 = 0
    options: Options[DCCPOption] = ()


class DCCPData(DCCP, variant=2):
    """Application data; with `x` 0 the sequence number has 24 bits, in `short_seq` (section 5.1)."""

    data_offset: u8 = auto(header_words)
    type: u4 = field(2, names=TYPES)
    short_seq: u24 | None = field(when=("x", 0))
    reserved2: u8 | None = field(when="x")
    seq: u48 | None = field(when="x")
    options: Options[DCCPOption] = ()


class DCCPAck(DCCP, variant=(3, 4)):
    """Ack, or with type 4 DataAck (section 5.3); `x` as in `DCCPData`, for both numbers."""

    data_offset: u8 = auto(header_words)
    type: u4 = field(3, names=TYPES)
    short_seq: u24 | None = field(when=("x", 0))
    reserved2: u8 | None = field(when="x")
    seq: u48 | None = field(when="x")
    short_reserved: u8 | None = field(when=("x", 0))
    short_ack: u24 | None = field(when=("x", 0))
    reserved3: u16 | None = field(when="x")
    ack: u48 | None = field(when="x")
    options: Options[DCCPOption] = ()


class DCCPClose(DCCP, variant=(5, 6)):
    """Close, or with type 5 CloseReq, the server's wish that the client close (section 5.5)."""

    data_offset: u8 = auto(header_words)
    type: u4 = field(6, names=TYPES)
    reserved2: u8 = 0
    seq: u48 = 0
    reserved3: u16 = 0
    ack: u48 = 0
    options: Options[DCCPOption] = ()


class DCCPReset(DCCP, variant=7):
    """Ends a connection; `data` says more about some of the codes (section 5.6)."""

    data_offset: u8 = auto(header_words)
    type: u4 = field(7, names=TYPES)
    reserved2: u8 = 0
    seq: u48 = 0
    reserved3: u16 = 0
    ack: u48 = 0
    code: u8 = field(0, names=RESET_CODES)
    data: u24 = 0
    options: Options[DCCPOption] = ()


class DCCPSync(DCCP, variant=(8, 9)):
    """Sync, or with type 9 SyncAck: brings sequence numbers together again (section 5.7)."""

    data_offset: u8 = auto(header_words)
    type: u4 = field(8, names=TYPES)
    reserved2: u8 = 0
    seq: u48 = 0
    reserved3: u16 = 0
    ack: u48 = 0
    options: Options[DCCPOption] = ()
