"""A simulated run as a capture file: what each host sent and received, and what the links killed."""

from __future__ import annotations

import os
from typing import IO

from rawkit.pcap import PcapngWriter
from rawkit.sim.network import PROTOCOL
from rawkit.transport.trace import Trace, TraceEvent
from rawkit.wire.frame import Frame
from rawkit.wire.ipv4 import IPv4

RAW_IP = 101  # LINKTYPE_RAW


def write_pcapng(
    trace: Trace, path_or_stream: str | os.PathLike[str] | IO[bytes], *, protocol: int = PROTOCOL
) -> int:
    """Write the packets of a trace to a pcapng file, times in ns from the start of the run; returns how many.

    There is an interface for each host, on which its packets appear as "out" and "in", and one for each
    direction of a link, "a>b:dropped", for what it lost, with the reason as a comment. The IP headers are
    made from what the simulation knows; `protocol` is the number in them.
    """
    written = 0
    with PcapngWriter(path_or_stream, application="rawkit simulation") as file:
        for event in trace.of("send", "arrive", "drop"):
            file.write(_frame(event, protocol))
            written += 1
    return written


def _frame(event: TraceEvent, protocol: int) -> Frame:
    header = IPv4(
        src=event.src,
        dst=event.dst,
        protocol=protocol,
        ecn=event.ecn,
        id=event.packet & 0xFFFF,
    )
    lost = event.kind == "drop"
    return Frame(
        bytes(header / event.octets),
        time_ns=event.time_ns,
        linktype=RAW_IP,
        interface=f"{event.where}:dropped" if lost else event.where,
        direction={"send": "out", "arrive": "in"}.get(event.kind, ""),
        comments=(f"packet {event.packet} dropped: {event.detail}",) if lost else (),
    )
