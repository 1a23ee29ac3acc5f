"""How fast are packets written to a capture file: whole batches, and frame by frame?

rawkit's batches beside tcpdump copying a file (which also reads it; its start included), and its frames
beside the writers of dpkt and scapy, which are given octets as well. 60-octet packets, into the page cache.
Medians of 5 repeats, all taking turns; packets per second, more is better. Prints one JSON object per line.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rawkit.engine import FrameBatch
from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire.frame import Frame

PACKETS = 1_000_000
LOOP_PACKETS = 100_000
BATCH = 5000
REPEATS = 5
OCTETS = bytes(range(60))
TIME_NS = 1_700_000_000 * 10**9

Side = Callable[[Path], object]


def batches(path: Path) -> None:
    batch = FrameBatch(BATCH, BATCH * len(OCTETS))
    batch.extend([OCTETS] * BATCH, TIME_NS)
    with create_pcap(path) as writer:
        for _ in range(PACKETS // BATCH):
            writer.write_batch(batch)


def tcpdump(path: Path) -> None:
    source = path.with_name("source")
    if not source.exists():
        batches(source.with_suffix(".pcap"))
        source.with_suffix(".pcap").rename(source)
    subprocess.run(["tcpdump", "-r", source, "-w", path], check=True, stderr=subprocess.DEVNULL)


def frames(path: Path) -> None:
    frame = Frame(OCTETS, TIME_NS)
    with create_pcap(path) as writer:
        for _ in range(LOOP_PACKETS):
            writer.write(frame)


def dpkt(path: Path) -> None:
    library = importlib.import_module("dpkt")
    with path.open("wb") as file:
        writer = (library.pcapng if path.suffix == ".pcapng" else library.pcap).Writer(file)
        for _ in range(LOOP_PACKETS):
            writer.writepkt(OCTETS, 1_700_000_000.0)


def scapy(path: Path) -> None:
    utils = importlib.import_module("scapy.utils")
    kind = utils.RawPcapNgWriter if path.suffix == ".pcapng" else utils.RawPcapWriter
    keywords = {} if path.suffix == ".pcapng" else {"linktype": 1}
    with kind(str(path), **keywords) as writer:
        for _ in range(LOOP_PACKETS):
            writer.write(OCTETS)


def compare(case: str, path: Path, packets: int, sides: dict[str, Side]) -> None:
    """One line for each peer of the first side."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(REPEATS + 1):
        for name, write in sides.items():
            path.unlink(missing_ok=True)
            start = time.perf_counter()
            write(path)
            took = time.perf_counter() - start
            if repeat:  # the first round imports modules
                rates[name].append(packets / took)
            else:
                with open_pcap(path) as reader:
                    written = sum(map(len, reader.batches()))
                if written != packets:
                    raise SystemExit(f"{name} wrote {written} of {packets} packets")
    mine = statistics.median(rates["rawkit"])
    for name in sides:
        if name != "rawkit":
            theirs = statistics.median(rates[name])
            line = {"bench": "pcap_write", "case": case, "rawkit": round(mine), "peer": round(theirs)}
            line |= {"peer_name": name, "unit": "packets/s", "ratio": round(mine / theirs, 2)}
            print(json.dumps(line), flush=True)


def present(sides: dict[str, Side]) -> dict[str, Side]:
    """The sides that are installed; the others are named."""
    found = {}
    for name, side in sides.items():
        if shutil.which(name) if name == "tcpdump" else importlib.util.find_spec(name):
            found[name] = side
        else:
            print(
                json.dumps({"bench": "pcap_write", "peer_name": name, "missing": "not installed"}), flush=True
            )
    return found


def main() -> None:
    batch_peers = present({"tcpdump": tcpdump})  # which writes a pcap whatever the name
    loop_peers = present({"dpkt": dpkt, "scapy": scapy})
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("pcap", "pcapng"):
            path = Path(folder) / f"written.{kind}"
            compare(f"batches, {kind}", path, PACKETS, {"rawkit": batches, **batch_peers})
            compare(f"frames, {kind}", path, LOOP_PACKETS, {"rawkit": frames, **loop_peers})


if __name__ == "__main__":
    main()
