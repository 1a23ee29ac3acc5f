"""How fast do the packets of a file get other addresses, ports and a TTL, beside tcprewrite?

From file to file: TCP segments of 454 octets, checksums and all; rawkit reads, rewrites and writes batches.
Both results have to be the same octets. Medians of 5 repeats, taking turns, the peer's start included;
packets per second, more is better. "a frame" is the rewriting alone, from batch to batch. Prints one JSON
object per line.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from rawkit.engine import FrameBatch
from rawkit.pcap import create_pcap, open_pcap
from rawkit.tools.rewrite import Rewrite, parse_port_map, parse_prefix_map
from rawkit.wire import TCP, Ether, IPv4

PACKETS = 500_000
BATCH = 500
REPEATS = 5
ROUNDS = 200
WANTED = Rewrite(
    prefixes=(parse_prefix_map("10.0.0.0/8=192.168.0.0/16"),), ports=parse_port_map("80=8080"), ttl=33
)
PEER = ["tcprewrite", "--pnat=10.0.0.0/8:192.168.0.0/16", "--portmap=80:8080", "--ttl=33"]


def batch_of(length: int) -> FrameBatch:
    link = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
    header = link / IPv4(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=80, dport=5000, flags=TCP.ACK)
    batch = FrameBatch(BATCH, BATCH * length)
    batch.extend([bytes(header / bytes(length - 54))] * BATCH, time_ns=1_700_000_000 * 10**9)
    return batch


def rawkit(source: Path, target: Path) -> None:
    rewriter = WANTED.rewriter()
    out = FrameBatch(8192, 8 << 20)
    with open_pcap(source) as reader, create_pcap(target, linktype=1) as writer:
        for batch in reader.batches():
            done = 0
            while done < len(batch):
                out.clear()
                done += rewriter.append(batch, out, done)
                writer.write_batch(out)


def tcprewrite(source: Path, target: Path) -> None:
    subprocess.run([*PEER, f"--infile={source}", f"--outfile={target}"], check=True)


def octets(path: Path) -> set[bytes]:
    with open_pcap(path) as reader:
        return {frame.data for frame in reader}


def from_file_to_file(folder: Path) -> None:
    source = folder / "source.pcap"
    with create_pcap(source, linktype=1) as writer:
        batch = batch_of(454)
        for _ in range(PACKETS // BATCH):
            writer.write_batch(batch)
    sides = {"rawkit": rawkit, "tcprewrite": tcprewrite}
    if not shutil.which("tcprewrite"):
        del sides["tcprewrite"]
        print(json.dumps({"bench": "rewrite", "peer_name": "tcprewrite", "missing": "not installed"}))
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, run in sides.items():
            start = time.perf_counter()
            run(source, folder / name)
            rates[name].append(PACKETS / (time.perf_counter() - start))
    mine = statistics.median(rates["rawkit"])
    line: dict[str, object] = {"bench": "rewrite", "case": "from file to file", "rawkit": round(mine)}
    if "tcprewrite" in sides:
        if octets(folder / "rawkit") != octets(folder / "tcprewrite"):
            raise SystemExit("rawkit and tcprewrite made different packets")
        theirs = statistics.median(rates["tcprewrite"])
        line |= {"peer": round(theirs), "peer_name": "tcprewrite", "ratio": round(mine / theirs, 2)}
    print(json.dumps(line | {"unit": "packets/s"}), flush=True)


def from_batch_to_batch() -> None:
    for length in (60, 576, 1514):
        batch, out, rewriter = batch_of(length), FrameBatch(BATCH, BATCH * (length + 4)), WANTED.rewriter()
        took = []
        for _ in range(REPEATS):
            start = time.process_time()
            for _ in range(ROUNDS):
                out.clear()
                rewriter.append(batch, out)
            took.append((time.process_time() - start) / (ROUNDS * BATCH) * 1e9)
        line = {"bench": "rewrite", "case": f"a frame of {length} octets", "unit": "ns"}
        print(json.dumps(line | {"rawkit": round(statistics.median(took))}), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        from_file_to_file(Path(folder))
    from_batch_to_batch()


if __name__ == "__main__":
    main()
