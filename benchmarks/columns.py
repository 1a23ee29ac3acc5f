"""How long do five fields of a million packets take, as arrays: addresses, ports and flags of TCP segments?

rawkit's columns beside a loop over dpkt, `tshark -T fields` (its start included), and NumPy slices at fixed
offsets, which know beforehand where every field is: an upper bound rather than a peer. Million packets a
second, more is better. The slower ones get fewer packets. "C" is the engine's call alone, arrays and batch
being there already.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rawkit.bulk import columns
from rawkit.bulk.table import HeaderTable
from rawkit.engine.batch import FrameBatch
from rawkit.engine.dissect import ColumnTarget
from rawkit.pcap import create_pcap
from rawkit.wire import TCP, Ether, Frame, Header, IPv4
from rawkit.wire.packet import Packet
from rawkit.wire.tcp import NoOperation

FRAMES_N = 1_000_000
LOOP_N = 50_000
REPEATS = 5
ETHER = Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")
NAMES = ["ip.src", "ip.dst", "tcp.sport", "tcp.dport", "tcp.flags"]


def segments(n: int, options: int = 0) -> list[bytes]:
    """TCP segments that differ in ports and source; every third with so many words of TCP options."""
    octets = []
    for words in (0, options):
        tcp = TCP(sport=40000, dport=80, flags="PA", options=[NoOperation()] * (4 * words))
        octets.append(bytes(ETHER / IPv4(src="10.77.0.1", dst="10.77.0.2") / tcp / bytes(16)))
    rows = []
    for i in range(n):
        frame = octets[i % 3 == 2]
        rows.append(
            frame[:26] + i.to_bytes(4, "big") + frame[30:34] + (i & 0xFFFF).to_bytes(2, "big") + frame[36:]
        )
    return rows


def with_dpkt(frames: list[bytes]) -> list[tuple[bytes, bytes, int, int, int]]:
    import dpkt

    rows = []
    for frame in frames:
        ip = dpkt.ethernet.Ethernet(frame).data
        tcp = ip.data
        rows.append((ip.src, ip.dst, tcp.sport, tcp.dport, tcp.flags))
    return rows


def with_parse(frames: list[bytes]) -> list[tuple[int, int, int, int, int]]:
    rows = []
    for frame in frames:
        packet = Packet.parse(frame)
        ip, tcp = packet[IPv4], packet[TCP]
        rows.append((int(ip.src), int(ip.dst), tcp.sport, tcp.dport, tcp.flags))
    return rows


def with_tshark(path: Path) -> bytes:
    fields = ["ip.src", "ip.dst", "tcp.srcport", "tcp.dstport", "tcp.flags"]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields"]
    return subprocess.run(
        [*command, *[word for field in fields for word in ("-e", field)]], check=True, capture_output=True
    ).stdout


def slices(frames: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> list[np.ndarray[tuple[int], np.dtype]]:
    """The five fields of frames that are all alike, one row of octets each."""

    def column(at: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.uint]]:
        octets = np.ascontiguousarray(frames[:, at : at + size])
        return octets.view(f">u{size}").ravel().astype(f"=u{size}")

    return [column(26, 4), column(30, 4), column(34, 2), column(36, 2), column(46, 2) & 0x1FF]


def rate(run: Callable[[], object], n: int, repeats: int = REPEATS) -> float:
    """Million packets a second, median."""
    run()  # imports and warms up
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return n / statistics.median(took) / 1e6


def report(case: str, mine: float, theirs: float, name: str) -> None:
    line = {"bench": "columns", "case": case, "rawkit": round(mine, 3), "peer": round(theirs, 3)}
    line |= {"peer_name": name, "unit": "M packets/s", "ratio": round(mine / theirs, 2)}
    print(json.dumps(line), flush=True)


def batch_of(frames: list[bytes]) -> FrameBatch:
    batch = FrameBatch(len(frames), sum(map(len, frames)))
    batch.extend(frames)
    return batch


def c_alone(batch: FrameBatch) -> Callable[[], None]:
    """The engine's call, over arrays that were touched before."""
    names: list[tuple[type[Header], str, int]] = [
        (IPv4, "src", 4),
        (IPv4, "dst", 4),
        (TCP, "sport", 2),
        (TCP, "dport", 2),
        (TCP, "flags", 2),
    ]
    rows = [(cls, next(row for row in cls.fields if row.name == name), size) for cls, name, size in names]
    table = HeaderTable([(cls, row) for cls, row, _ in rows])
    targets = [
        ColumnTarget(
            np.ones(len(batch), f"u{size}"), np.zeros(len(batch), np.bool_), row.offset, row.width, size
        )
        for _, row, size in rows
    ]

    def run() -> None:
        for target in targets:
            target.present[:] = False  # type: ignore[index]
        table.dissector.extract(batch, table.row(Ether), targets)

    return run


def main() -> None:
    alike, mixed = segments(FRAMES_N), segments(FRAMES_N, options=3)
    batch, mixed_batch = batch_of(alike), batch_of(mixed)
    found = columns(mixed_batch, NAMES)
    few = zip(*(found.arrays[name][:999].tolist() for name in NAMES))
    if list(few) != [(*map(int.from_bytes, row[:2]), *row[2:]) for row in with_dpkt(mixed[:999])]:
        raise SystemExit("rawkit's columns and dpkt's fields differ")
    array = np.frombuffer(b"".join(alike), np.uint8).reshape(FRAMES_N, -1)
    for name, column in zip(NAMES, slices(array)):
        if not np.array_equal(columns(batch, [name]).arrays[name], column):
            raise SystemExit(f"rawkit's {name} and NumPy's differ")

    bound = rate(lambda: slices(array), FRAMES_N)
    mine = rate(lambda: columns(batch, NAMES), FRAMES_N)
    report("1M equal segments, five fields", mine, bound, "numpy fixed offsets")
    report("1M equal segments, five fields, C", rate(c_alone(batch), FRAMES_N), bound, "numpy fixed offsets")
    mine = rate(lambda: columns(mixed_batch, NAMES), FRAMES_N)
    case = "1M segments, a third with options"
    report(case, mine, rate(lambda: with_dpkt(mixed[:LOOP_N]), LOOP_N, 3), "dpkt")
    report(case, mine, rate(lambda: with_parse(mixed[:LOOP_N]), LOOP_N, 3), "Packet.parse in a loop")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segments.pcap"
        with create_pcap(path) as writer:
            for octets in mixed[:LOOP_N]:
                writer.write(Frame(octets))
        mine = rate(lambda: columns(path, NAMES), LOOP_N, 3)
        if shutil.which("tshark"):
            report(
                "a capture file's segments",
                mine,
                rate(lambda: with_tshark(path), LOOP_N, 3),
                "tshark -T fields",
            )
        else:
            print("tshark is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()
