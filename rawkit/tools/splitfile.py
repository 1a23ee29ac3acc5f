"""Splitting a capture file into several: by number of packets, by size, by time, by flow."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address

from rawkit.engine.batch import FrameBatch
from rawkit.engine.capfile import MAX_PACKET_LEN, RecordCopier
from rawkit.engine.native import check
from rawkit.engine.tally import Flow, FlowTable
from rawkit.pcap import blocks as b
from rawkit.pcap.copy import RecordSink, without_length
from rawkit.pcap.pack import pack_of_name, split_ending
from rawkit.pcap.reader import Reader
from rawkit.pcap.replace import replacing
from rawkit.pcap.sink import create_file

_PENDING_LEN = 32 << 20  # octets of all flows that wait to be written
_FLOW_LEN = 256 << 10  # of one flow
_ROOM_LEN = 4 << 20  # of the packets of a batch, whose window has 1 MiB
_ROOM_MAX = b.MAX_BLOCK_LEN + MAX_PACKET_LEN
_RECORD_EXTRA = 64  # octets beside a packet in its record, but for comments
_TIME_MIN = -(2**63)

PROTOCOLS = {1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre", 50:
"esp",
             51: "ah", 58: "icmpv6", 88: "eigrp", 89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp",
             136: "udplite"}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A file that was written, how many packets it has, and whose they are ("" for any)."""

    path: str
    packets: int
    flow: str = ""


def part_name(path: str, number: int | str) -> str:
    """ "out.pcapng.zst" becomes "out-00001.pcapng.zst"."""
    whole, packed = split_ending(path)
    stem, ending = os.path.splitext(whole)
    text = f"{number:05d}" if isinstance(number, int) else number
    return f"{stem}-{text}{ending}{packed}"


def flow_text(flow: Flow) -> str:
    """ "tcp 192.0.2.1:50000 192.0.2.2:80", who sent the first packet first."""
    ends = []
    for address, port in ((flow.a, flow.a_port), (flow.b, flow.b_port)):
        text = str(ip_address(address))
        if flow.a_port or flow.b_port:
            text = f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
        ends.append(text)
    return " ".join([PROTOCOLS.get(flow.protocol, f"protocol-{flow.protocol}"), *ends])


def split_pcap(
    reader: Reader,
    path: str,
    *,
    count: int | None = None,
    size: int | None = None,
    interval_ns: int | None = None,
) -> Iterator[Part]:
    """Write what is still to be read of a capture file to several, and give each when it is complete.

    A file ends before the packet that would be more than `count`, or make it longer than `size` octets, or
    `interval_ns` and its multiples after the first packet's time, whichever is first; it has one packet at
    least. The files are called as `path`, with -00001 and so on before the ending. Packets are copied as they
    stand; each file begins with the descriptions of all interfaces, and names and secrets, told before it.

    Raises `CaptureFileError` when the file is damaged (what came before is written), `EngineError` or OSError
    when a file cannot be written, ValueError for a limit below 1 or none.
    """
    limits = (count, size, interval_ns)
    if not any(limits) or any(limit is not None and limit < 1 for limit in limits):
        raise ValueError(f"limits of {limits}; at least one is needed, and the least is 1")
    preamble = _Preamble(reader)
    number, final = 0, ""
    until_ns: int | None = None
    sink: RecordSink | None = None
    with ExitStack() as stack:
        for part in reader.parts():
            if isinstance(part, b.Block):
                preamble.add(part)
                if sink is not None:
                    sink.block(part, without_length(part.octets) if part.kind == b.SHB else None)
                continue
            first, at = 0, reader.batch_start
            if interval_ns and until_ns is None:
                until_ns = part.handle.frames[0].time_ns + interval_ns
            while first < len(part):
                time_ns = part.handle.frames[first].time_ns
                late = until_ns is not None and time_ns >= until_ns
                if sink is not None and (late or not _fitting(part, first, sink, count, size)):
                    done = Part(final, sink.packets)
                    stack.close()
                    sink = None
                    yield done
                if late and interval_ns and until_ns is not None:
                    until_ns += ((time_ns - until_ns) // interval_ns + 1) * interval_ns
                if sink is None:
                    number += 1
                    final = part_name(path, number)
                    beside = stack.enter_context(replacing(final))
                    sink = stack.enter_context(RecordSink(beside, reader))
                    preamble.write(sink)
                n = max(_fitting(part, first, sink, count, size), 1)
                if until_ns is not None:
                    n = _before(part, first, n, until_ns)
                sink.records(part, first=first, n=n, at=at)
                at = sink.at
                first += n
        if sink is not None:
            done = Part(final, sink.packets)
            stack.close()
            yield done


def _fitting(batch: FrameBatch, first: int, sink: RecordSink, count: int | None, size: int | None) -> int:
    """How many frames fit the limits of a file, by no more than what its records have beside packets."""
    n = len(batch) - first
    if count is not None:
        n = min(n, count - sink.packets)
    if size is None:
        return n
    left = size - sink.octets - _RECORD_EXTRA
    frames = batch.handle.frames
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        last = frames[first + middle - 1]
        if last.offset + last.cap_len - frames[first].offset <= left:
            low = middle
        else:
            high = middle - 1
    return low


def _before(batch: FrameBatch, first: int, n: int, until_ns: int) -> int:
    """How many of n frames come before the first whose time is over; at least one."""
    flags = bytearray(b"\1") * len(batch)
    batch.within(_TIME_MIN, until_ns, flags)
    late = flags.find(0, first, first + n)
    return n if late < 0 else max(late - first, 1)


class _Preamble:
    """What a file begins with: its section and the blocks that hold for all packets."""

    def __init__(self, reader: Reader) -> None:
        self.blocks: list[b.Block] = []
        self.header = reader.header
        self.sections = 0

    def add(self, block: b.Block) -> None:
        if block.kind == b.SHB:
            self.blocks = [b.Block(block.kind, without_length(block.octets), block.order)]
            self.sections += 1
        elif block.kind in (b.IDB, b.NRB, b.DSB):
            self.blocks.append(block)

    def write(self, sink: RecordSink) -> None:
        for block in self.blocks:
            sink.block(block)


@dataclass
class _FlowFile:
    """What waits to be written for one flow."""

    path: str
    pending: bytearray
    packets: int = 0
    section: int = -1
    blocks: int = 0
    begun: bool = False


def split_flows(reader: Reader, path: str, most: int = 10_000) -> list[Part]:
    """Write a file for each flow of a capture file: packets between two addresses and ports, both directions.

    They are called as `path`, with -00001 and so on before the ending, in the order in which flows begin;
    what has no flow (no IP), and those beyond `most` flows, goes to one with -other. Statistics, which are
    those of the whole capture, are left out. Files that are there already are written over.

    Raises `CaptureFileError` when the file is damaged (what came before is written), `EngineError` or OSError
    when a file cannot be written.
    """
    table = FlowTable(most)
    files: dict[int, _FlowFile] = {}
    preamble = _Preamble(reader)
    numbers = array("I")
    room = bytearray(_ROOM_LEN)
    copier = _copier(reader)
    waiting = 0
    try:
        for part in reader.parts():
            if isinstance(part, b.Block):
                preamble.add(part)
                if part.kind == b.SHB:
                    copier = _copier(reader)
                continue
            n = len(part)
            if len(numbers) < n:
                numbers = array("I", bytes(4 * n))
            table.add(part, numbers)
            starts = [start for start, _ in reader.spans(part)]
            rows: dict[int, list[int]] = {}
            for i, number in enumerate(numbers[:n]):
                rows.setdefault(number, []).append(i)
            for number, places in rows.items():
                file = files.get(number)
                if file is None:
                    name = part_name(path, number or "other")
                    file = files[number] = _FlowFile(name, bytearray())
                before = len(file.pending)
                _append(file, preamble)
                for first, last in _runs(places):
                    copier.at = starts[first]
                    while first < last:
                        done, used = copier.put(part, first, last - first, room, 0)
                        if done < 0 and len(room) < _ROOM_MAX:  # a block of many comments
                            room = bytearray(_ROOM_MAX)
                            continue
                        first += check(done, "copy packets", file.path)
                        file.pending += memoryview(room)[:used]
                file.packets += len(places)
                waiting += len(file.pending) - before
                if len(file.pending) >= _FLOW_LEN:
                    waiting -= len(file.pending)
                    _write(file)
            if waiting >= _PENDING_LEN:
                for file in files.values():
                    _write(file)
                waiting = 0
    finally:
        for file in files.values():
            _write(file)
    named = {number: flow_text(table[number - 1]) if number else "other" for number in files}
    return [Part(file.path, file.packets, named[number]) for number, file in sorted(files.items())]


def _runs(places: list[int]) -> Iterator[tuple[int, int]]:
    """Numbers in rising order as ranges."""
    first = last = places[0]
    for place in places[1:]:
        if place != last + 1:
            yield first, last + 1
            first = place
        last = place
    yield first, last + 1


def _copier(reader: Reader) -> RecordCopier:
    record_len = b.PCAP_VARIANTS[reader.header[:4]][2] if reader.kind == "pcap" else 0
    return RecordCopier(big_endian=reader.byte_order == ">", record_len=record_len)


def _append(file: _FlowFile, preamble: _Preamble) -> None:
    """Put into a file what holds for its packets and is not in it yet."""
    if file.section != preamble.sections:
        if file.section < 0:
            file.pending += preamble.header
        file.section, file.blocks = preamble.sections, 0
    for block in preamble.blocks[file.blocks :]:
        file.pending += block.octets
    file.blocks = len(preamble.blocks)


def _write(file: _FlowFile) -> None:
    """Write what waits; thousands of files are not kept open."""
    if not file.pending:
        return
    pack = pack_of_name(file.path)
    octets = pack(bytes(file.pending)) if pack else file.pending
    with open(file.path, "ab", buffering=0) if file.begun else create_file(file.path) as out:
        view = memoryview(octets)
        while view:
            view = view[out.write(view) :]
    file.begun = True
    file.pending = bytearray()
