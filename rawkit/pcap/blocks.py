"""What pcap and pcapng files are made of: magic numbers, block and option codes, values read from them.

pcap is draft-ietf-opsawg-pcap, pcapng draft-ietf-opsawg-pcapng. Nothing here reads or writes a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PACKET_LEN = 262_144  # octets of one packet; libpcap's and Wireshark's limit as well
MAX_BLOCK_LEN = 16 << 20  # octets of one pcapng block; libpcap's limit
MAX_TIME_NS = 2**63 - 1  # the engine keeps times in signed 64 bits, which reach the year 2262
MAX_OPTION_LEN = 0xFFFF

# pcap: the first four octets give the byte order, the resolution in ns and the length of a record header.
PCAP_USEC = 0xA1B2C3D4
PCAP_NSEC = 0xA1B23C4D
PCAP_KUZNETZOV = 0xA1B2CD34  # "modified" libpcap of 2000: each record header has eight octets more
PCAP_VARIANTS: dict[bytes, tuple[str, int, int]] = {
    struct.pack(order + "I", magic): (order, resolution_ns, record_len)
    for magic, resolution_ns, record_len in (
        (PCAP_USEC, 1000, 16),
        (PCAP_NSEC, 1, 16),
        (PCAP_KUZNETZOV, 1000, 24),
    )
    for order in ("<", ">")
}
PCAP_HEADER_LEN = 24
PCAP_VERSION = (2, 4)

# Link type word of a pcap header: bit 26 says that the top four bits are the length of the frame check
# sequence in 16-bit words.
LINKTYPE_FCS_PRESENT = 0x04000000
LINKTYPE_FCS_SHIFT = 28

# pcapng block types
SHB = 0x0A0D0D0A  # section header; reads the same in both byte orders
IDB = 1  # interface description
PB = 2  # packet, obsolete
SPB = 3  # simple packet
NRB = 4  # name resolution
ISB = 5  # interface statistics
EPB = 6  # enhanced packet
DSB = 0x0A  # decryption secrets
SHB_MAGIC = SHB.to_bytes(4, "big")
BYTE_ORDER_MAGIC = 0x1A2B3C4D

# Least total length of each block, its 12 octets of type and two lengths included.
MIN_BLOCK_LEN = {SHB: 28, IDB: 20, PB: 32, SPB: 16, ISB: 24, EPB: 32}
BLOCK_NAMES = {
    SHB: "section header block",
    IDB: "interface description block",
    PB: "packet block",
    SPB: "simple packet block",
    ISB: "interface statistics block",
    EPB: "enhanced packet block",
}
# Blocks that are passed over, as `Reader.skipped` calls them; all other types are "unknown".
SKIPPED_NAMES = {
    NRB: "name resolution",
    9: "systemd journal export",
    DSB: "decryption secrets",
    0x00000BAD: "custom",
    0x40000BAD: "custom",
}

# Options
OPT_END = 0
OPT_COMMENT = 1
SHB_HARDWARE = 2
SHB_OS = 3
SHB_USERAPPL = 4
IF_NAME = 2
IF_DESCRIPTION = 3
IF_MACADDR = 6
IF_TSRESOL = 9
IF_FILTER = 11
IF_OS = 12
IF_FCSLEN = 13
IF_TSOFFSET = 14
IF_HARDWARE = 15
EPB_FLAGS = 2
EPB_DROPCOUNT = 4
ISB_STARTTIME = 2
ISB_ENDTIME = 3
ISB_IFRECV = 4
ISB_IFDROP = 5
ISB_FILTERACCEPT = 6
ISB_OSDROP = 7
ISB_USRDELIV = 8

# The flags word of a packet block (section 4.3.1 of the draft). Bits 9 to 11 came late; older readers ignore
# them.
FLAG_IN = 1
FLAG_OUT = 2
FLAGS_DIRECTION = 3
FLAG_CHECKSUM_NOT_READY = 1 << 9
FLAG_CHECKSUM_VALID = 1 << 10
FLAG_SEGMENTATION_OFFLOADED = 1 << 11


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of a capture file.

    `name` is as the file gives it; a pcapng interface without one is called "interface N", N counting the
    file's interfaces from 0, so that frames of several stay apart. A pcap file has one interface, "".
    `tsresol` is the file's unit of time as pcapng's octet has it: 6 for 10^-6 s, 0x80 | 10 for 2^-10 s.
    `tsoffset` is in seconds. `fcs_len` octets at the end of each frame are its check sequence (0: none or not
    known).
    """

    name: str = ""
    linktype: int = 1
    snaplen: int = 0
    tsresol: int = 6
    tsoffset: int = 0
    filter: str = ""
    os: str = ""
    description: str = ""
    fcs_len: int = 0
    comments: tuple[str, ...] = ()

    def time_ns(self, ticks: int) -> int:
        """`ticks` of this clock as nanoseconds since 1970, rounded down and held within 64 signed bits."""
        if self.tsresol & 0x80:
            time_ns = ticks * 1_000_000_000 >> (self.tsresol & 0x7F)
        else:
            time_ns = ticks * 1_000_000_000 // 10**self.tsresol
        return max(-MAX_TIME_NS - 1, min(MAX_TIME_NS, time_ns + self.tsoffset * 1_000_000_000))


@dataclass(frozen=True, slots=True)
class Statistics:
    """What an interface statistics block says; None is "not said", which is not 0.

    `received` and `dropped` are the interface's own counters, `accepted` passed the filter, `os_dropped` of
    those found no room, `delivered` reached the capturing program.
    """

    interface: str
    time_ns: int
    start_ns: int | None = None
    end_ns: int | None = None
    received: int | None = None
    dropped: int | None = None
    accepted: int | None = None
    os_dropped: int | None = None
    delivered: int | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """Who wrote a pcapng section: the options of its header."""

    hardware: str = ""
    os: str = ""
    application: str = ""
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a pcapng file as it stands there.

    `octets` are all of them, type and lengths included; `order` is the byte order of its section, "<" or ">".
    """

    kind: int
    octets: bytes
    order: str

    @property
    def name(self) -> str:
        """What the draft calls it."""
        if self.kind in BLOCK_NAMES:
            return BLOCK_NAMES[self.kind]
        return f"{SKIPPED_NAMES.get(self.kind, 'unknown')} block"

    @property
    def options(self) -> list[tuple[int, bytes]]:
        """(code, value) of each option, in the file's order; none for blocks whose layout is not known.

        Raises `DamagedOptions` where one reaches past the end of the block.
        """
        start = self.options_start()
        return [] if start is None else list(options(self.octets, start, len(self.octets) - 4, self.order))

    def options_start(self) -> int | None:
        """Where in the octets options begin; None for blocks whose layout is not known."""
        if self.kind in (EPB, PB):
            (cap_len,) = struct.unpack_from(self.order + "I", self.octets, 20)
            return 28 + int(cap_len + 3 & ~3)
        if self.kind == DSB:
            (secrets_len,) = struct.unpack_from(self.order + "I", self.octets, 12)
            return 16 + int(secrets_len + 3 & ~3)
        if self.kind == NRB:
            at = 8
            while at + 4 < len(self.octets):
                kind, length = struct.unpack_from(self.order + "HH", self.octets, at)
                at += 4 + int(length + 3 & ~3)
                if kind == 0:  # end of names
                    return at
            return None
        return {SHB: 24, IDB: 16, ISB: 20}.get(self.kind)


class DamagedOptions(Exception):
    """An option reaches past the end of its block; `.args[0]` says which."""


def options(buf: bytes, start: int, end: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield (code, value) of the options in buf[start:end]; a missing end-of-options is fine.

    Raises `DamagedOptions`, after the options before it, where one reaches past `end`.
    """
    header = struct.Struct(order + "HH")
    while start + 4 <= end:
        code, length = header.unpack_from(buf, start)
        if code == OPT_END:
            return
        start += 4
        if start + length > end:
            raise DamagedOptions(f"option {code} claims {length} octets, {end - start} are left")
        yield code, buf[start : start + length]
        start += length + (-length % 4)
    if start < end:
        raise DamagedOptions(f"{end - start} octets after the last option")


def text(value: bytes) -> str:
    """A text option as str; octets that are not UTF-8 become \\xNN, so that it can always be printed."""
    return value.decode("utf-8", "backslashreplace")
