"""Capture files: read and write pcap and pcapng as streams of `Frame`, times in integer nanoseconds.

Names are imported when they are first used: whoever reads a file pays for nothing that merges or repairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.late import from_homes

if TYPE_CHECKING:
    from rawkit.pcap.aio import AsyncReader, aopen_pcap
    from rawkit.pcap.blocks import Block, Interface, Section, Statistics
    from rawkit.pcap.copy import copy_pcap
    from rawkit.pcap.info import FileInfo, pcap_info
    from rawkit.pcap.merge import merge_pcaps
    from rawkit.pcap.reader import Reader, open_pcap
    from rawkit.pcap.repair import repair_pcap
    from rawkit.pcap.rotate import RotatingWriter
    from rawkit.pcap.writer import PcapngWriter, PcapWriter, create_pcap

__all__ = [
    "AsyncReader",
    "Block",
    "FileInfo",
    "Interface",
    "PcapWriter",
    "PcapngWriter",
    "Reader",
    "RotatingWriter",
    "Section",
    "Statistics",
    "aopen_pcap",
    "copy_pcap",
    "create_pcap",
    "merge_pcaps",
    "open_pcap",
    "pcap_info",
    "repair_pcap",
]

_HOMES = {
    "aio": ("AsyncReader", "aopen_pcap"),
    "blocks": ("Block", "Interface", "Section", "Statistics"),
    "copy": ("copy_pcap",),
    "info": ("FileInfo", "pcap_info"),
    "merge": ("merge_pcaps",),
    "reader": ("Reader", "open_pcap"),
    "repair": ("repair_pcap",),
    "rotate": ("RotatingWriter",),
    "writer": ("PcapWriter", "PcapngWriter", "create_pcap"),
}
_HOME_OF = {name: f"rawkit.pcap.{module}" for module, names in _HOMES.items() for name in names}


__getattr__ = from_homes(globals(), _HOME_OF)
