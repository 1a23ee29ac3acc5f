"""What a capture file holds: its kind, interfaces, sums, times and losses, without looking into packets."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rawkit.engine.batch import FrameBatch
from rawkit.engine.tally import Sums, Tally
from rawkit.errors import CaptureFileError
from rawkit.pcap import blocks as b
from rawkit.pcap.reader import Reader, open_pcap

LINKTYPE_NAMES = {
    0: "NULL", 1: "ETHERNET", 6: "IEEE802_5", 7: "ARCNET_BSD", 8: "SLIP", 9: "PPP", 10: "FDDI",
    50: "PPP_HDLC", 51: "PPP_ETHER", 101: "RAW", 104: "C_HDLC", 105: "IEEE802_11", 107: "FRELAY", 108: "LOOP",
    113: "LINUX_SLL", 127: "IEEE802_11_RADIOTAP", 147: "USER0", 187: "BLUETOOTH_HCI_H4", 189: "USB_LINUX",
    192: "PPI", 195: "IEEE802_15_4_WITHFCS", 220: "USB_LINUX_MMAPPED", 227: "CAN_SOCKETCAN", 228: "IPV4",
    229: "IPV6", 230: "IEEE802_15_4_NOFCS", 240: "NETANALYZER", 249: "USBPCAP", 251: "BLUETOOTH_LE_LL",
    252: "WIRESHARK_UPPER_PDU", 253: "NETLINK", 276: "LINUX_SLL2",
}  # fmt: skip
"""LINKTYPE_ names of the link types that are seen (https://www.tcpdump.org/linktypes.html)."""


@dataclass(frozen=True)
class InterfaceInfo:
    """An interface of a file, the sums of its packets, and the counters that the capture left."""

    interface: b.Interface
    sums: Sums
    statistics: b.Statistics | None = None

    @property
    def resolution(self) -> str:
        """The unit of its times: "10^-6 s" or "2^-10 s"."""
        tsresol = self.interface.tsresol
        return f"2^-{tsresol & 0x7F} s" if tsresol & 0x80 else f"10^-{tsresol} s"


@dataclass(frozen=True)
class FileInfo:
    """What a file holds. `size` is that of the file as it is stored; `packed` what it is packed with.

    `dropped` is what its statistics say was lost, None when they do not. `blocks` counts
    those blocks that hold neither packets nor interfaces, and options that are damaged. `damage` says why
    there was nothing more to be read ("": the file is whole).
    """

    path: str
    size: int | None
    kind: str
    byte_order: str
    packed: str
    sections: tuple[b.Section, ...]
    interfaces: tuple[InterfaceInfo, ...]
    sums: Sums
    dropped: int | None = None
    blocks: dict[str, int] = field(default_factory=dict)
    damage: str = ""
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def duration_ns(self) -> int:
        """From the earliest packet to the latest."""
        return self.sums.latest_ns - self.sums.earliest_ns

    @property
    def in_order(self) -> bool:
        """Whether no packet has a time before that of the one before."""
        return not self.sums.backwards


def pcap_info(path: str | os.PathLike[str], hashes: tuple[str, ...] = ()) -> FileInfo:
    """Read a capture file ("-": standard input) through and say what it holds.

    `hashes` are names of hashlib's, such as "sha256": of the file as it is stored.

    Raises `CaptureFileError` when it is no capture file, OSError when it cannot be read, ValueError for a
    hash that is none.
    """
    name = os.fspath(path)
    sums = dict.fromkeys(hashes, "") if name == "-" else _hashed(name, hashes)
    with open_pcap(path) as reader:
        return _info(reader, None if name == "-" else os.stat(name).st_size, sums)


def _info(reader: Reader, size: int | None, hashes: dict[str, str]) -> FileInfo:
    tally = Tally()
    sections: list[b.Section] = []
    damage = ""
    order = reader.byte_order
    try:
        for part in reader.parts():
            if isinstance(part, FrameBatch):
                tally.add(part, len(reader.interfaces))
            elif part.kind == b.SHB:
                sections.append(reader.section)
    except CaptureFileError as error:
        damage = str(error)
    interfaces = tuple(
        InterfaceInfo(interface, tally.of(number), reader.statistics_of(number))
        for number, interface in enumerate(reader.interfaces, 1)
    )
    losses = [lost for found in reader.statistics for lost in (found.dropped, found.os_dropped)]
    known = [lost for lost in losses if lost is not None]
    return FileInfo(
        path=reader.path,
        size=size,
        kind=reader.kind,
        byte_order="little" if order == "<" else "big",
        packed=reader.packed,
        sections=tuple(sections),
        interfaces=interfaces,
        sums=tally.all,
        dropped=sum(known) if known else None,
        blocks=dict(reader.skipped),
        damage=damage,
        hashes=hashes,
    )


def _hashed(path: str, names: tuple[str, ...]) -> dict[str, str]:
    if not names:
        return {}
    import hashlib

    makers = {name: hashlib.new(name) for name in names}
    with open(path, "rb", buffering=0) as file:
        while octets := file.read(1 << 20):
            for maker in makers.values():
                maker.update(octets)
    return {name: maker.hexdigest() for name, maker in makers.items()}
