"""Capture files: read and write pcap and pcapng as streams of `Frame`, times in integer nanoseconds."""

from rawkit.pcap.blocks import Interface, Section, Statistics
from rawkit.pcap.reader import Reader, open_pcap
from rawkit.pcap.writer import PcapngWriter, PcapWriter, create_pcap

__all__ = [
    "Interface",
    "PcapWriter",
    "PcapngWriter",
    "Reader",
    "Section",
    "Statistics",
    "create_pcap",
    "open_pcap",
]
