"""Capture files: read and write pcap and pcapng as streams of `Frame`, times in integer nanoseconds."""

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
