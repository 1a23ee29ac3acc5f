"""A run as a capture file, and back: what each host sent and received, and what the links killed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import IO

from rawkit.errors import HeaderError
from rawkit.pcap import PcapngWriter, open_pcap
from rawkit.sim.network import PROTOCOL
from rawkit.transport.trace import Trace, TraceEvent
from rawkit.wire.frame import Frame
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import first_header
from rawkit.wire.udp import UDP

RAW_IP = 101  # LINKTYPE_RAW
NETWORK_TALK = (0, 1, 2, 58)  # ICMP, IGMP, and what begins with hop-by-hop options, as MLD does


def write_pcapng(
    trace: Iterable[TraceEvent],
    path_or_stream: str | os.PathLike[str] | IO[bytes],
    *,
    protocol: int = PROTOCOL,
) -> int:
    """Write the packets of a trace to a pcapng file, times in ns from the start of the run; returns how many.

    There is an interface for each host, on which its packets appear as "out" and "in", and one for each
    direction of a link, "a>b:dropped", for what it lost, with the reason as a comment. The IP headers are
    made from what the simulation knows; `protocol` is the number in them.
    """
    written = 0
    with PcapngWriter(path_or_stream, application="rawkit simulation") as file:
        for event in trace:
            if event.kind in ("send", "arrive", "drop"):
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


def read_trace(path: str | os.PathLike[str]) -> tuple[Trace, int]:
    """The packets of a capture as a trace, and the number that IP calls their protocol by.

    The capture is one that `write_pcapng` wrote, or of a real interface: then the host is the one that sent
    the first packet, and the trace has what it sent and received. All IP packets of the capture are taken but
    ICMP's and IGMP's, so there should be none of other protocols. Times count from the first packet. A packet
    keeps its number from sending to arrival where both were captured.
    """
    trace = Trace()
    numbers: dict[tuple[str, str, bytes], deque[int]] = {}
    count, start_ns, host, protocol = 0, -1, "", PROTOCOL
    with open_pcap(path) as file:
        for frame in file:
            carried = _carried(frame)
            if carried is None:
                continue
            network, octets, protocol = carried
            src, dst = str(network.src), str(network.dst)
            start_ns = frame.time_ns if start_ns < 0 else start_ns
            host = host or src
            name, dropped, _ = (frame.interface or "").partition(":dropped")
            named = bool(frame.direction or dropped)
            sends = frame.direction == "out" if named else src == host
            kind = "drop" if dropped else "send" if sends else "arrive"
            under_way = numbers.setdefault((src, dst, octets), deque())
            if kind == "send" or not under_way:
                number, count = count, count + 1
                if kind == "send":
                    under_way.append(number)
            else:
                number = under_way.popleft()
            ecn = network.ecn if isinstance(network, IPv4) else network.traffic_class & 3
            detail = frame.comments[0].rpartition("dropped: ")[2] if dropped and frame.comments else ""
            where = name if named else host
            trace.add(frame.time_ns - start_ns, kind, where, number, src, dst, octets, ecn, detail)
    return trace, protocol


def _carried(frame: Frame) -> tuple[IPv4 | IPv6, bytes, int] | None:
    """The IP header of a frame, the octets of the protocol above it or UDP, and IP's number for them."""
    data, at, end = frame.data, 0, len(frame.data)
    kind: type[Header] | None = first_header(frame.linktype, data)
    network: IPv4 | IPv6 | None = None
    try:
        while kind is not None and (network is None or kind is UDP):
            header, at, end = kind._parse(data, at, end)
            network = header if isinstance(header, (IPv4, IPv6)) else network
            kind = header.upper_class()
    except HeaderError:
        return None
    if network is None or network.is_fragment:
        return None
    number = network.protocol if isinstance(network, IPv4) else network.next_header
    if number in NETWORK_TALK:
        return None
    return network, data[at:end], number
